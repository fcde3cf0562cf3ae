//! How far a log was sent on, kept beside it.

use std::fs::{File, OpenOptions};
use std::io;
use std::os::unix::fs::{FileExt, OpenOptionsExt};
use std::path::Path;

use logfile::Position;

/// The file's name in a container's folder.
const NAME: &str = "log-forwarded";
/// Its length: two numbers of 16 hexadecimal digits, a space and a line feed.
const LENGTH: usize = 34;

/// The file with the place. It is always as long, and written in one piece that no page boundary
/// cuts, so that a kill leaves the old place or the new one.
#[derive(Debug)]
pub(super) struct PlaceFile(File);

impl PlaceFile {
    /// Opens the file of a container's folder, or makes it.
    pub(super) fn open(folder: &Path) -> io::Result<Self> {
        let file = OpenOptions::new()
            .read(true)
            .write(true)
            .create(true)
            .truncate(false)
            .mode(0o600)
            .open(folder.join(NAME))?;
        Ok(Self(file))
    }

    /// The place, if there is one.
    pub(super) fn load(&self) -> Option<Position> {
        let mut bytes = [0; LENGTH];
        self.0.read_exact_at(&mut bytes, 0).ok()?;
        let text = std::str::from_utf8(&bytes).ok()?;
        let (file, offset) = text.strip_suffix('\n')?.split_once(' ')?;
        let number = |text: &str| u64::from_str_radix(text, 16).ok();
        Some(Position {
            file: number(file)?,
            offset: number(offset)?,
        })
    }

    /// Writes the place down.
    pub(super) fn save(&self, place: Position) -> io::Result<()> {
        let text = format!("{:016x} {:016x}\n", place.file, place.offset);
        self.0.write_all_at(text.as_bytes(), 0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_saved_is_loaded() {
        let folder = tempfile::tempdir().unwrap();
        let file = PlaceFile::open(folder.path()).unwrap();
        assert_eq!(file.load(), None);
        for offset in [u64::MAX, 0, 7] {
            let place = Position {
                file: 1 << 63,
                offset,
            };
            file.save(place).unwrap();
            let again = PlaceFile::open(folder.path()).unwrap();
            assert_eq!(again.load(), Some(place));
        }
    }
}
