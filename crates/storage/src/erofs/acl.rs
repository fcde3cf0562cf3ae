//! Access control lists as the kernel takes them (`posix_acl_from_xattr`, `posix_acl_valid`).

use rustix::io::Errno;

/// What setting a list comes to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Taken {
    /// The permission bits that say the same, in the place of a file's own.
    pub(super) mode: u32,
    /// Whether the list says more than these bits.
    pub(super) more: bool,
}

const VERSION: u32 = 2;
/// In place of an id where there is none.
const NOBODY: u32 = u32::MAX;
const OWNER: u16 = 1;
const USER: u16 = 2;
const OWNING_GROUP: u16 = 4;
const GROUP: u16 = 8;
const MASK: u16 = 16;
const OTHERS: u16 = 32;

/// Reads a list; nothing if there is none in it, or one of another version, which is left out.
pub(super) fn read(value: &[u8]) -> Result<Option<Taken>, Errno> {
    let (version, entries) = value.split_first_chunk::<4>().ok_or(Errno::INVAL)?;
    if u32::from_le_bytes(*version) != VERSION || entries.is_empty() {
        return Ok(None);
    }
    let (entries, rest) = entries.as_chunks::<8>();
    if !rest.is_empty() {
        return Err(Errno::INVAL);
    }
    let mut taken = Taken {
        mode: 0,
        more: false,
    };
    let (mut last, mut masked, mut named) = (0, false, false);
    for [t0, t1, p0, p1, id @ ..] in entries {
        let tag = u16::from_le_bytes([*t0, *t1]);
        let rights = u32::from(u16::from_le_bytes([*p0, *p1]));
        let id = u32::from_le_bytes(*id);
        let repeats = matches!(tag, USER | GROUP) && tag == last;
        if rights > 7 || (tag <= last && !repeats) || !follows(tag, last) {
            return Err(Errno::INVAL);
        }
        match tag {
            OWNER => taken.mode |= rights << 6,
            OWNING_GROUP => taken.mode |= rights << 3,
            MASK => {
                masked = true;
                taken.mode = taken.mode & !0o070 | rights << 3;
            }
            OTHERS => taken.mode |= rights,
            USER | GROUP if id != NOBODY => named = true,
            _ => return Err(Errno::INVAL),
        }
        last = tag;
    }
    taken.more = named || masked;
    if last != OTHERS || (named && !masked) {
        return Err(Errno::INVAL);
    }
    Ok(Some(taken))
}

/// Whether nothing that must be there is left out between two kinds of entries.
fn follows(tag: u16, last: u16) -> bool {
    match tag {
        OWNER => last == 0,
        USER | OWNING_GROUP => matches!(last, OWNER | USER),
        GROUP | MASK | OTHERS => last >= OWNING_GROUP,
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lists() {
        let list = |entries: &[(u16, u16, u32)]| {
            let mut value = VERSION.to_le_bytes().to_vec();
            for (tag, rights, id) in entries {
                value.extend_from_slice(&tag.to_le_bytes());
                value.extend_from_slice(&rights.to_le_bytes());
                value.extend_from_slice(&id.to_le_bytes());
            }
            value
        };
        let check = |entries: &[(u16, u16, u32)], read_as: Result<(u32, bool), Errno>| {
            let found = read(&list(entries)).map(Option::unwrap);
            let found = found.map(|taken| (taken.mode, taken.more));
            assert_eq!(found, read_as, "{entries:?}");
        };
        let (u, g, o) = (
            (OWNER, 6, NOBODY),
            (OWNING_GROUP, 4, NOBODY),
            (OTHERS, 1, NOBODY),
        );
        let m = (MASK, 5, NOBODY);
        let invalid = Err(Errno::INVAL);
        check(&[u, g, o], Ok((0o641, false)));
        check(
            &[u, (USER, 7, 5), (USER, 7, 6), g, (GROUP, 1, 9), m, o],
            Ok((0o651, true)),
        );
        check(&[u, g, m, o], Ok((0o651, true)));
        check(&[u, (USER, 7, 5), g, o], invalid);
        check(&[u, (USER, 7, NOBODY), g, m, o], invalid);
        check(&[u, g], invalid);
        check(&[g, u, o], invalid);
        check(&[u, o], invalid);
        check(&[u, u, g, o], invalid);
        check(&[(OWNER, 8, NOBODY), g, o], invalid);
        check(&[u, g, o, (64, 0, NOBODY)], invalid);
        assert_eq!(read(&list(&[])), Ok(None));
        assert_eq!(read(b"u::rwx"), Ok(None));
        assert_eq!(read(b"\x02"), Err(Errno::INVAL));
        assert_eq!(
            read(&[&list(&[u, g, o])[..], &[1]].concat()),
            Err(Errno::INVAL)
        );
    }
}
