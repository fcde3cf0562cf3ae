//! rpm's own database, `Packages.db` (rpm's lib/backend/ndb/rpmpkg.c): slots that point to headers.

/// What the file, a slot and a header begin with.
const FILE: u32 = u32::from_le_bytes(*b"RpmP");
const SLOT: u32 = u32::from_le_bytes(*b"Slot");
const BLOB: u32 = u32::from_le_bytes(*b"BlbS");
/// Slots lie in pages of this; the first two places of the first page are the file's header.
const PAGE: usize = 4096;
const SLOT_SIZE: usize = 16;
const FIRST: usize = 2;
/// Blobs lie at multiples of this, and begin with a head of this.
const BLOCK: usize = 16;

/// A number of four bytes, the lowest first.
fn word(bytes: &[u8], at: usize) -> Option<u32> {
    let field: [u8; 4] = bytes.get(at..at.checked_add(4)?)?.try_into().ok()?;
    Some(u32::from_le_bytes(field))
}

fn size(number: u32) -> Option<usize> {
    usize::try_from(number).ok()
}

/// Gives the headers of all packages.
pub(super) fn blobs(bytes: &[u8], give: &mut dyn FnMut(&[u8])) {
    if word(bytes, 0) != Some(FILE) {
        return;
    }
    let Some(pages) = word(bytes, 12).and_then(size) else {
        return;
    };
    let slots = (pages.min(bytes.len() / PAGE) * PAGE) / SLOT_SIZE;
    for slot in FIRST..slots {
        if let Some(blob) = blob(bytes, slot * SLOT_SIZE) {
            give(blob);
        }
    }
}

/// The header that a slot points to: magic, number of the package, block, and how many blocks.
fn blob(bytes: &[u8], slot: usize) -> Option<&[u8]> {
    if word(bytes, slot)? != SLOT {
        return None;
    }
    let number = word(bytes, slot + 4)?;
    let start = size(word(bytes, slot + 8)?)?.checked_mul(BLOCK)?;
    if number == 0 || word(bytes, start)? != BLOB || word(bytes, start + 4)? != number {
        return None;
    }
    let length = size(word(bytes, start + 12)?)?;
    let start = start.checked_add(BLOCK)?;
    bytes.get(start..start.checked_add(length)?)
}
