//! Modes of files as Go has them, and as the kernel does.

use rustix::fs::FileType;

const DIRECTORY: u32 = 1 << 31;
const SYMLINK: u32 = 1 << 27;
const DEVICE: u32 = 1 << 26;
const FIFO: u32 = 1 << 25;
const SOCKET: u32 = 1 << 24;
const SETUID: u32 = 1 << 23;
const SETGID: u32 = 1 << 22;
const CHARACTER: u32 = 1 << 21;
const STICKY: u32 = 1 << 20;
const PERMISSIONS: u32 = 0o777;
/// The bits beside the permissions, in Go's order and the kernel's.
const SPECIAL: [(u32, u32); 3] = [(SETUID, 0o4000), (SETGID, 0o2000), (STICKY, 0o1000)];

/// Reads a mode of Go's `os.FileMode`: the type, and the twelve bits of chmod(2).
#[must_use]
pub fn from_go(mode: u32) -> (FileType, u32) {
    let kind = if mode & DIRECTORY != 0 {
        FileType::Directory
    } else if mode & SYMLINK != 0 {
        FileType::Symlink
    } else if mode & DEVICE != 0 && mode & CHARACTER != 0 {
        FileType::CharacterDevice
    } else if mode & DEVICE != 0 {
        FileType::BlockDevice
    } else if mode & FIFO != 0 {
        FileType::Fifo
    } else if mode & SOCKET != 0 {
        FileType::Socket
    } else {
        FileType::RegularFile
    };
    let special = SPECIAL.iter().filter(|(go, _)| mode & go != 0);
    let bits = special.fold(mode & PERMISSIONS, |bits, (_, kernel)| bits | kernel);
    (kind, bits)
}

/// Writes a mode of stat(2) as Go's `os.FileMode`.
#[must_use]
pub fn to_go(mode: u32) -> u32 {
    let kind = match FileType::from_raw_mode(mode) {
        FileType::Directory => DIRECTORY,
        FileType::Symlink => SYMLINK,
        FileType::BlockDevice => DEVICE,
        FileType::CharacterDevice => DEVICE | CHARACTER,
        FileType::Fifo => FIFO,
        FileType::Socket => SOCKET,
        FileType::RegularFile | FileType::Unknown => 0,
    };
    let special = SPECIAL.iter().filter(|(_, kernel)| mode & kernel != 0);
    special.fold(kind | mode & PERMISSIONS, |mode, (go, _)| mode | go)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn there_and_back() {
        for (kernel, go) in [
            (0o100_644, 0o644),
            (0o040_755, 0x8000_01ed),
            (0o120_777, 0x0800_01ff),
            (0o020_666, 0x0420_01b6),
            (0o060_660, 0x0400_01b0),
            (0o010_600, 0x0200_0180),
            (0o140_600, 0x0100_0180),
            (0o104_755, 0x0080_01ed),
            (0o102_755, 0x0040_01ed),
            (0o041_777, 0x8010_01ff),
        ] {
            assert_eq!(to_go(kernel), go, "{kernel:o}");
            let (kind, bits) = from_go(go);
            assert_eq!(kind, FileType::from_raw_mode(kernel), "{kernel:o}");
            assert_eq!(bits, kernel & 0o7777, "{kernel:o}");
        }
    }
}
