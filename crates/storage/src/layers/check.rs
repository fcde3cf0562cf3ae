//! Whether layers on the disk are what the store knows of them.

use std::ffi::OsString;
use std::io;

use oci::Digest;

use super::record::Record;
use super::{FILES, LayerStore};
use crate::content::digest_from_hex;
use crate::erofs;
use crate::fsutil;
use crate::snapshotter::Format;

/// What is wrong with a layer that the store knows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Damage {
    /// Its folder is gone.
    Folder,
    /// Its files, or the image of them, are gone or cut off.
    Files,
    /// The record beside its files is gone, cannot be read, or is another layer's.
    Record,
}

impl LayerStore {
    /// Compares what the store knows of a layer with what lies on the disk; `None` is a whole layer, or
    /// one that the store does not know.
    #[must_use]
    pub fn damage(&self, chain: &Digest) -> Option<Damage> {
        let known = self.shared.read().get(chain).cloned()?;
        let folder = self.shared.folder(chain);
        if fsutil::open_dir(&folder).is_err() {
            return Some(Damage::Folder);
        }
        let is_whole = match known.format {
            Format::Folder => fsutil::open_dir(&folder.join(FILES)).is_ok(),
            Format::Erofs => erofs::is_whole(&folder.join(erofs::IMAGE)),
        };
        if !is_whole {
            return Some(Damage::Files);
        }
        match Record::read(&folder) {
            Ok(record) if record.info(chain) == known.info(chain) => None,
            _ => Some(Damage::Record),
        }
    }

    /// What lies among the layers and is none that the store knows.
    ///
    /// # Errors
    ///
    /// The folder cannot be read.
    pub fn strangers(&self) -> io::Result<Vec<OsString>> {
        let mut strangers = Vec::new();
        for entry in std::fs::read_dir(&self.shared.root)? {
            let name = entry?.file_name();
            let chain = name.to_str().and_then(digest_from_hex);
            if chain.is_none_or(|chain| !self.exists(&chain)) {
                strangers.push(name);
            }
        }
        Ok(strangers)
    }

    /// Removes what is no layer of the store.
    ///
    /// # Errors
    ///
    /// It is a layer, or the disk fails.
    pub fn remove_stranger(&self, name: &std::ffi::OsStr) -> io::Result<()> {
        // a layer that becomes visible now has the lock for that
        let known = self.shared.write();
        let chain = name.to_str().and_then(digest_from_hex);
        if chain.is_some_and(|chain| known.contains_key(&chain)) {
            return Err(io::ErrorKind::ResourceBusy.into());
        }
        let path = self.shared.root.join(name);
        crate::container::discard(&path, &self.shared.temporary)
    }
}
