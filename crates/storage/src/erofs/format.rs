//! The on-disk format, as the kernel's `fs/erofs/erofs_fs.h` lays it down: plain, uncompressed.
//!
//! Blocks have 4096 bytes. An inode is named by its place: its number times 32 is its offset. It
//! has 64 bytes, then its extended attributes, then, if the file's last block is not a whole one and
//! all of it fits into one block, that last piece of the file.

/// Bytes of a block.
pub(super) const BLOCK: u64 = 4096;
/// The same, for lengths of buffers.
pub(super) const BLOCK_LEN: usize = 4096;
const BLOCK_BITS: u8 = 12;
/// Inodes begin at multiples of this.
pub(super) const SLOT: usize = 32;
/// Bytes of an inode.
pub(super) const INODE: usize = 64;
/// Where the superblock is.
const SUPER: usize = 1024;
/// Where the root's inode is: its number has 16 bits, so it must be at the front.
pub(super) const ROOT: u64 = 1152;
/// Where in an inode the number of its names is.
pub(super) const LINKS: u64 = 44;
/// A block address that says that a piece of a file is a hole.
pub(super) const HOLE: u32 = u32::MAX;
/// The largest power of two blocks in a piece of a file.
pub(super) const PIECE_BITS_MAX: u32 = 31;

const MAGIC: u32 = 0xE0F5_E1E2;
const CHECKSUM: u32 = 1;
const MODIFICATION_TIMES: u32 = 2;
const PIECES: u32 = 4;

/// How a file's bytes are found.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Layout {
    /// In blocks from an address on.
    Plain = 0,
    /// The same, but for the last piece, which follows the inode.
    Inline = 2,
    /// In pieces, whose addresses follow the inode.
    Pieces = 4,
}

/// What an inode says.
#[derive(Clone, Copy, Debug)]
pub(super) struct Inode {
    pub(super) layout: Layout,
    /// Type and permission bits.
    pub(super) mode: u32,
    pub(super) uid: u32,
    pub(super) gid: u32,
    pub(super) mtime: (i64, u32),
    pub(super) links: u32,
    pub(super) size: u64,
    /// The first block, a device's number, or the length of pieces.
    pub(super) value: u32,
}

impl Inode {
    /// The bytes in front of the extended attributes, of which there are `xattrs` bytes.
    pub(super) fn encode(&self, xattrs: usize) -> [u8; INODE] {
        let mut out = [0; INODE];
        // bit 0: of 64 bytes
        let format = 1 | (self.layout as u16) << 1;
        put(&mut out, 0, &format.to_le_bytes());
        put(&mut out, 2, &count(xattrs).to_le_bytes());
        let mode = u16::try_from(self.mode & 0xffff).unwrap_or_default();
        put(&mut out, 4, &mode.to_le_bytes());
        put(&mut out, 8, &self.size.to_le_bytes());
        put(&mut out, 16, &self.value.to_le_bytes());
        put(&mut out, 24, &self.uid.to_le_bytes());
        put(&mut out, 28, &self.gid.to_le_bytes());
        put(&mut out, 32, &self.mtime.0.to_le_bytes());
        put(&mut out, 40, &self.mtime.1.to_le_bytes());
        put(&mut out, 44, &self.links.to_le_bytes());
        out
    }
}

fn put(out: &mut [u8], at: usize, bytes: &[u8]) {
    out[at..at + bytes.len()].copy_from_slice(bytes);
}

/// What stands for the length of the attributes: 0, or how many words they have beyond their head.
fn count(xattrs: usize) -> u16 {
    match xattrs {
        0 => 0,
        length => u16::try_from((length - 12) / 4 + 1).unwrap_or(u16::MAX),
    }
}

/// Where the attributes of an inode end, and the size and place of what it holds: what is needed to
/// read a symbolic link again.
pub(super) fn decode(inode: &[u8; INODE]) -> (usize, u64, Option<u32>) {
    let word = |at: usize| u16::from_le_bytes([inode[at], inode[at + 1]]);
    let long =
        |at: usize| u32::from_le_bytes([inode[at], inode[at + 1], inode[at + 2], inode[at + 3]]);
    let xattrs = match usize::from(word(2)) {
        0 => 0,
        count => 12 + 4 * (count - 1),
    };
    let size = u64::from(long(8)) | u64::from(long(12)) << 32;
    let inline = word(0) >> 1 & 7 == Layout::Inline as u16;
    (INODE + xattrs, size, (!inline).then(|| long(16)))
}

/// A device's number as the kernel writes it down (`new_encode_dev`).
pub(super) fn device((major, minor): (u32, u32)) -> u32 {
    (minor & 0xff) | major << 8 | (minor & !0xff) << 12
}

/// What the superblock says of a whole image.
#[derive(Clone, Copy, Debug)]
pub(super) struct Super {
    pub(super) inodes: u64,
    pub(super) blocks: u32,
    /// Names the content.
    pub(super) uuid: [u8; 16],
}

/// Writes the superblock into the first block, whose other bytes must be final: it has their sum.
pub(super) fn seal(block: &mut [u8; BLOCK_LEN], said: &Super) {
    let out = &mut block[SUPER..];
    put(out, 0, &MAGIC.to_le_bytes());
    put(out, 4, &[0; 4]);
    put(out, 8, &(CHECKSUM | MODIFICATION_TIMES).to_le_bytes());
    out[12] = BLOCK_BITS;
    let root = u16::try_from(ROOT / SLOT as u64).unwrap_or_default();
    put(out, 14, &root.to_le_bytes());
    put(out, 16, &said.inodes.to_le_bytes());
    put(out, 36, &said.blocks.to_le_bytes());
    put(out, 48, &said.uuid);
    put(out, 80, &PIECES.to_le_bytes());
    let sum = crc32c(out);
    put(out, 4, &sum.to_le_bytes());
}

/// Whether a first block is one that [`seal`] made, of an image that is no longer than this.
pub(super) fn is_sealed(block: &[u8; BLOCK_LEN], length: u64) -> bool {
    let mut sealed = *block;
    let out = &mut sealed[SUPER..];
    let word = |at: usize| u32::from_le_bytes([out[at], out[at + 1], out[at + 2], out[at + 3]]);
    let (magic, sum, blocks) = (word(0), word(4), word(36));
    put(out, 4, &[0; 4]);
    magic == MAGIC && crc32c(out) == sum && u64::from(blocks) * BLOCK <= length
}

/// The sum over the superblock's block: Castagnoli's polynomial, not inverted at the end.
fn crc32c(bytes: &[u8]) -> u32 {
    const POLYNOMIAL: u32 = 0x82F6_3B78;
    bytes.iter().fold(u32::MAX, |sum, byte| {
        (0..8).fold(sum ^ u32::from(*byte), |sum, _| {
            if sum & 1 == 1 {
                sum >> 1 ^ POLYNOMIAL
            } else {
                sum >> 1
            }
        })
    })
}

/// A type of file as directories name it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Type {
    File = 1,
    Directory = 2,
    Character = 3,
    Block = 4,
    Fifo = 5,
    Link = 7,
}

impl Type {
    /// The type's bits of a mode.
    pub(super) fn bits(self) -> u32 {
        match self {
            Self::File => 0o100_000,
            Self::Directory => 0o040_000,
            Self::Character => 0o020_000,
            Self::Block => 0o060_000,
            Self::Fifo => 0o010_000,
            Self::Link => 0o120_000,
        }
    }
}

/// Bytes of a directory's entry without its name.
pub(super) const ENTRY: usize = 12;

/// Puts entries into blocks: in each the entries stand first, then their names.
///
/// `names` must be in the order of their bytes; the kernel searches by halves.
pub(super) fn directory(entries: &[(&[u8], u64, Type)]) -> Vec<u8> {
    let mut out = Vec::new();
    let mut rest = entries;
    while !rest.is_empty() {
        let fitting = fitting(rest.iter().map(|(name, ..)| name.len()));
        let (block, others) = rest.split_at(fitting);
        if !out.is_empty() {
            out.resize(out.len().next_multiple_of(BLOCK_LEN), 0);
        }
        let mut at = block.len() * ENTRY;
        for (name, inode, kind) in block {
            out.extend_from_slice(&inode.to_le_bytes());
            out.extend_from_slice(&u16::try_from(at).unwrap_or_default().to_le_bytes());
            out.extend_from_slice(&[*kind as u8, 0]);
            at += name.len();
        }
        for (name, ..) in block {
            out.extend_from_slice(name);
        }
        rest = others;
    }
    out
}

/// How many entries fit into one block.
fn fitting(lengths: impl Iterator<Item = usize>) -> usize {
    let mut used = 0;
    let fits = |length: usize| {
        used += ENTRY + length;
        used <= BLOCK_LEN
    };
    lengths.map(fits).take_while(|fits| *fits).count()
}

/// The length of what [`directory`] makes.
pub(super) fn directory_length(lengths: impl Iterator<Item = usize>) -> u64 {
    let (mut blocks, mut used) = (0_u64, 0);
    for length in lengths {
        let entry = ENTRY + length;
        if used + entry > BLOCK_LEN {
            blocks += 1;
            used = 0;
        }
        used += entry;
    }
    blocks * BLOCK + used as u64
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sum_of_the_superblock() {
        // RFC 3720, B.4: 32 zero bytes, there with the inversion at the end
        assert_eq!(crc32c(&[0; 32]), !0x8A91_36AA);
        assert_eq!(crc32c(&[0xff; 32]), !0x62A8_AB43);
    }

    #[test]
    fn numbers_of_devices() {
        assert_eq!(device((0, 0)), 0);
        assert_eq!(device((1, 3)), 0x103);
        assert_eq!(device((259, 0x1_2345)), 0x1231_0345);
    }

    #[test]
    fn lengths_of_directories_are_told_before_they_are_made() {
        for (count, length) in [
            (0_usize, 1_usize),
            (1, 1),
            (15, 255),
            (16, 255),
            (400, 255),
            (3000, 3),
        ] {
            let names: Vec<Vec<u8>> = (0..count)
                .map(|n| format!("{n:0>length$}").into_bytes())
                .collect();
            let entries: Vec<_> = names.iter().map(|n| (&n[..], 7, Type::File)).collect();
            let told = directory_length(names.iter().map(Vec::len));
            assert_eq!(
                directory(&entries).len() as u64,
                told,
                "{count} of {length}"
            );
        }
    }

    #[test]
    fn an_inode_can_be_read_again() {
        for (layout, xattrs, value) in [(Layout::Inline, 0, None), (Layout::Plain, 24, Some(9))] {
            let inode = Inode {
                layout,
                mode: 0o120_777,
                uid: 1,
                gid: 2,
                mtime: (-1, 5),
                links: 1,
                size: 0x1_0000_0005,
                value: 9,
            };
            let found = decode(&inode.encode(xattrs));
            assert_eq!(found, (INODE + xattrs, 0x1_0000_0005, value));
        }
    }
}
