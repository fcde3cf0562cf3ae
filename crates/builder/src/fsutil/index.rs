//! The list of what a folder holds.
//!
//! Kept beside a folder it saves the walk: the next transfer compares with it and touches no file that
//! has not changed. It is removed before the first change and written after the last, and it counts only within the
//! same boot, for neither it nor the files are forced to the disk.

use std::fs::File;
use std::io::{self, BufWriter, Read, Write};
use std::os::fd::BorrowedFd;
use std::path::Path;

use sha2::{Digest as _, Sha256};

use super::walk::{self, Look};
use super::{Entry, FsutilError};

const MAGIC: &[u8] = b"gorae index 1\n";
/// The largest file that is read.
const MAX_FILE: u64 = 1 << 30;

/// What a folder holds, in the order of transfers.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Index {
    /// The entries.
    pub entries: Vec<Entry>,
    /// A name for the state of the files' content, which the entries cannot tell: it changes with every
    /// change. Empty where nobody keeps count.
    pub generation: String,
    /// Whether the walk that made it came to more than one file system. It is not kept.
    pub spans_mounts: bool,
}

impl Index {
    /// Identifies what the folder holds, as far as it can be told without reading files.
    #[must_use]
    pub fn digest(&self) -> [u8; 32] {
        let mut hash = Sha256::new();
        let mut bytes = Vec::with_capacity(64 << 10);
        put(&mut bytes, self.generation.as_bytes());
        for entry in &self.entries {
            encode(entry, !entry.is_dir(), &mut bytes);
            if bytes.len() > 60 << 10 {
                hash.update(&bytes);
                bytes.clear();
            }
        }
        hash.update(&bytes);
        hash.finalize().into()
    }

    /// Sum of the files' sizes.
    #[must_use]
    pub fn size(&self) -> u64 {
        let files = self.entries.iter().filter(|entry| !entry.is_dir());
        files.fold(0, |sum, entry| sum.saturating_add(entry.size))
    }

    /// Reads what was kept beside a folder, or else walks the folder.
    pub(super) fn of(folder: BorrowedFd<'_>, path: &Path) -> Result<Self, FsutilError> {
        match Self::load(path) {
            Ok(Some(index)) => return Ok(index),
            Ok(None) => {}
            Err(error) => tracing::warn!(path = %path.display(), %error, "an index cannot be read"),
        }
        let look = Look {
            identity: false,
            links: true,
            xattrs: true,
        };
        walk::walk(folder, look, |_, _| walk::Wanted::Yes)
    }

    /// Reads what was kept; none where it is not of this boot, broken or not there.
    ///
    /// # Errors
    /// When the file cannot be read.
    pub fn load(path: &Path) -> io::Result<Option<Self>> {
        let file = match File::open(path) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            other => other?,
        };
        let mut bytes = Vec::new();
        file.take(MAX_FILE).read_to_end(&mut bytes)?;
        let boot = boot()?;
        Ok(decode_all(&bytes, &boot))
    }

    /// Keeps the list; a reader sees all of it or none.
    ///
    /// # Errors
    /// When the file cannot be written.
    pub fn save(&self, path: &Path) -> io::Result<()> {
        let new = path.with_extension("new");
        let mut file = BufWriter::with_capacity(256 << 10, File::create(&new)?);
        let mut hash = Sha256::new();
        let mut bytes = Vec::new();
        bytes.extend_from_slice(MAGIC);
        put(&mut bytes, &boot()?);
        put(&mut bytes, self.generation.as_bytes());
        bytes.extend_from_slice(&(self.entries.len() as u64).to_le_bytes());
        for entry in &self.entries {
            encode(entry, true, &mut bytes);
            hash.update(&bytes);
            file.write_all(&bytes)?;
            bytes.clear();
        }
        hash.update(&bytes);
        file.write_all(&bytes)?;
        file.write_all(&hash.finalize())?;
        file.into_inner().map_err(io::IntoInnerError::into_error)?;
        std::fs::rename(new, path)
    }

    /// Forgets what was kept, before the folder changes.
    pub(super) fn forget(path: &Path) -> Result<(), FsutilError> {
        match std::fs::remove_file(path) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => Err(FsutilError::Index {
                path: path.to_owned(),
                source: error,
            }),
            _ => Ok(()),
        }
    }
}

/// Names the time since the machine was started.
fn boot() -> io::Result<Vec<u8>> {
    let mut text = Vec::new();
    File::open("/proc/sys/kernel/random/boot_id")?
        .take(64)
        .read_to_end(&mut text)?;
    Ok(text)
}

fn put(bytes: &mut Vec<u8>, text: &[u8]) {
    bytes.extend_from_slice(&(text.len() as u64).to_le_bytes());
    bytes.extend_from_slice(text);
}

fn encode(entry: &Entry, times: bool, bytes: &mut Vec<u8>) {
    put(bytes, entry.path.as_bytes());
    put(bytes, entry.link.as_bytes());
    let (size, modified) = if times {
        (entry.size, entry.modified)
    } else {
        (0, 0)
    };
    let (changed, inode) = if times { entry.identity } else { (0, 0) };
    for number in [
        entry.mode,
        entry.uid,
        entry.gid,
        entry.device.0,
        entry.device.1,
    ] {
        bytes.extend_from_slice(&number.to_le_bytes());
    }
    bytes.extend_from_slice(&size.to_le_bytes());
    bytes.extend_from_slice(&modified.to_le_bytes());
    bytes.extend_from_slice(&changed.to_le_bytes());
    bytes.extend_from_slice(&inode.to_le_bytes());
    bytes.extend_from_slice(&(entry.xattrs.len() as u64).to_le_bytes());
    for (name, value) in &entry.xattrs {
        put(bytes, name.as_bytes());
        put(bytes, value);
    }
}

fn decode_all(bytes: &[u8], boot: &[u8]) -> Option<Index> {
    let (bytes, digest) = bytes.split_at_checked(bytes.len().checked_sub(32)?)?;
    if digest != Sha256::digest(bytes).as_slice() {
        return None;
    }
    let mut reader = Reader(bytes.strip_prefix(MAGIC)?);
    if reader.bytes()? != boot {
        return None;
    }
    let generation = reader.text()?;
    let count = reader.number()?;
    let mut entries = Vec::new();
    for _ in 0..count {
        entries.push(reader.entry()?);
    }
    Some(Index {
        entries,
        generation,
        spans_mounts: false,
    })
}

struct Reader<'bytes>(&'bytes [u8]);

impl<'bytes> Reader<'bytes> {
    fn array<const N: usize>(&mut self) -> Option<[u8; N]> {
        let (array, rest) = self.0.split_first_chunk()?;
        self.0 = rest;
        Some(*array)
    }

    fn number(&mut self) -> Option<u64> {
        self.array().map(u64::from_le_bytes)
    }

    fn small(&mut self) -> Option<u32> {
        self.array().map(u32::from_le_bytes)
    }

    fn bytes(&mut self) -> Option<&'bytes [u8]> {
        let length = usize::try_from(self.number()?).ok()?;
        let (bytes, rest) = self.0.split_at_checked(length)?;
        self.0 = rest;
        Some(bytes)
    }

    fn text(&mut self) -> Option<String> {
        String::from_utf8(self.bytes()?.to_vec()).ok()
    }

    fn entry(&mut self) -> Option<Entry> {
        let mut entry = Entry {
            path: self.text()?,
            link: self.text()?,
            mode: self.small()?,
            uid: self.small()?,
            gid: self.small()?,
            device: (self.small()?, self.small()?),
            size: self.number()?,
            modified: self.array().map(i64::from_le_bytes)?,
            identity: (self.array().map(i64::from_le_bytes)?, self.number()?),
            ..Entry::default()
        };
        for _ in 0..self.number()? {
            entry.xattrs.insert(self.text()?, self.bytes()?.to_vec());
        }
        Some(entry)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn index() -> Index {
        let entry = |path: &str| Entry {
            path: path.to_owned(),
            mode: 0o644,
            size: 3,
            modified: -5,
            identity: (7, 8),
            device: (1, 2),
            xattrs: [("user.a".to_owned(), vec![0, 1])].into(),
            link: "x".to_owned(),
            ..Entry::default()
        };
        Index {
            entries: vec![entry("a"), entry("b")],
            generation: "1".to_owned(),
            spans_mounts: false,
        }
    }

    #[test]
    fn kept() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("index");
        assert_eq!(Index::load(&path).unwrap(), None);
        index().save(&path).unwrap();
        assert_eq!(Index::load(&path).unwrap(), Some(index()));
        let bytes = std::fs::read(&path).unwrap();
        for cut in [0, 10, 40, bytes.len() - 1] {
            std::fs::write(&path, &bytes[..cut]).unwrap();
            assert_eq!(Index::load(&path).unwrap(), None);
        }
        assert_eq!(decode_all(&bytes, b"another boot"), None);
        Index::forget(&path).unwrap();
        Index::forget(&path).unwrap();
    }

    #[test]
    fn digests() {
        let mut other = index();
        assert_eq!(other.digest(), index().digest());
        other.entries[1].modified = 6;
        assert_ne!(other.digest(), index().digest());
        let directory = |modified| Index {
            entries: vec![Entry {
                mode: 1 << 31,
                modified,
                ..Entry::default()
            }],
            generation: String::new(),
            spans_mounts: false,
        };
        assert_eq!(directory(1).digest(), directory(2).digest());
        assert_eq!(index().size(), 6);
    }
}
