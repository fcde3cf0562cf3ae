//! Named volumes: `volumes/<name>/_data`.

use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use crate::fsutil::usage::{Cancel, Usage, measure};
use crate::fsutil::{self, ensure_dir, temp::TempDir};

/// The name of the folder that containers see.
const DATA: &str = "_data";

/// A failed step on a volume.
#[derive(Debug, thiserror::Error)]
pub enum VolumeError {
    /// A name of one character.
    #[error("volume name is too short, names should be at least two alphanumeric characters")]
    NameTooShort,
    /// A name with characters that are not allowed (Docker's wording, which clients show).
    #[error(
        "{name:?} includes invalid characters for a local volume name, only \"[a-zA-Z0-9][a-zA-Z0-9_.-]\" are allowed. If you intended to pass a host directory, use absolute path"
    )]
    InvalidName {
        /// The name as given.
        name: String,
    },
    /// No volume has the name.
    #[error("get {name}: no such volume")]
    Missing {
        /// The name.
        name: String,
    },
    /// A system call failed.
    #[error("{step} volume {name:?}")]
    Io {
        /// What was done.
        step: &'static str,
        /// To which volume.
        name: String,
        /// Why it failed.
        #[source]
        source: io::Error,
    },
}

impl VolumeError {
    fn io(step: &'static str, name: &str) -> impl FnOnce(io::Error) -> Self {
        move |source| Self::Io {
            step,
            name: name.to_owned(),
            source,
        }
    }
}

/// Checks a volume's name by Docker's rule, which also makes it safe as a file name.
///
/// # Errors
///
/// The name is too short, too long for a file, or has other characters.
pub fn validate_name(name: &str) -> Result<(), VolumeError> {
    if name.len() == 1 {
        return Err(VolumeError::NameTooShort);
    }
    let first = name
        .bytes()
        .next()
        .is_some_and(|b| b.is_ascii_alphanumeric());
    let rest = |b: u8| b.is_ascii_alphanumeric() || b"_.-".contains(&b);
    if first && name.len() <= 255 && name.bytes().all(rest) {
        return Ok(());
    }
    Err(VolumeError::InvalidName {
        name: name.to_owned(),
    })
}

/// One named volume.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Volume {
    name: String,
    path: PathBuf,
}

impl Volume {
    /// The name.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.name
    }

    /// The folder that is mounted into containers (`Mountpoint`).
    #[must_use]
    pub fn data(&self) -> PathBuf {
        self.path.join(DATA)
    }

    /// The volume's own folder, around its data.
    pub(crate) fn folder(&self) -> &Path {
        &self.path
    }

    /// How much disk the volume takes.
    ///
    /// # Errors
    ///
    /// It cannot be read.
    pub fn usage(&self, cancel: &Cancel) -> Result<Usage, VolumeError> {
        let failed = || VolumeError::io("measure", &self.name);
        let data = fsutil::open_dir(&self.data()).map_err(failed())?;
        measure(data, cancel).map_err(failed())
    }
}

/// All named volumes of a store.
#[derive(Clone, Debug)]
pub struct VolumeStore {
    folders: Arc<(PathBuf, PathBuf)>,
}

impl VolumeStore {
    pub(crate) fn new(root: PathBuf, temporary: PathBuf) -> Self {
        Self {
            folders: Arc::new((root, temporary)),
        }
    }

    fn at(&self, name: &str) -> Volume {
        Volume {
            name: name.to_owned(),
            path: self.folders.0.join(name),
        }
    }

    /// Makes a volume; returns it, and whether it is new.
    ///
    /// # Errors
    ///
    /// A name that is not allowed, or a disk that fails.
    pub fn create(&self, name: &str) -> Result<(Volume, bool), VolumeError> {
        validate_name(name)?;
        let volume = self.at(name);
        if volume.data().is_dir() {
            return Ok((volume, false));
        }
        let failed = || VolumeError::io("create", name);
        let staged = TempDir::new(&self.folders.1, "volume").map_err(failed())?;
        ensure_dir(&staged.path().join(DATA), 0o755).map_err(failed())?;
        match staged.persist(&volume.path) {
            Ok(()) => {}
            // Another thread was faster.
            Err(_) if volume.data().is_dir() => return Ok((volume, false)),
            Err(error) => return Err(failed()(error)),
        }
        fsutil::sync_dir(&self.folders.0).map_err(failed())?;
        Ok((volume, true))
    }

    /// Finds a volume.
    ///
    /// # Errors
    ///
    /// [`VolumeError::Missing`] when there is none.
    pub fn get(&self, name: &str) -> Result<Volume, VolumeError> {
        let volume = self.at(name);
        if validate_name(name).is_ok() && volume.data().is_dir() {
            return Ok(volume);
        }
        Err(VolumeError::Missing {
            name: name.to_owned(),
        })
    }

    /// All volumes, by name.
    ///
    /// # Errors
    ///
    /// The folder cannot be read.
    pub fn list(&self) -> Result<Vec<Volume>, VolumeError> {
        let failed = || VolumeError::io("list", "*");
        let mut volumes = Vec::new();
        for entry in std::fs::read_dir(&self.folders.0).map_err(failed())? {
            let name = entry.map_err(failed())?.file_name();
            volumes.extend(name.to_str().and_then(|name| self.get(name).ok()));
        }
        volumes.sort_by(|a, b| a.name.cmp(&b.name));
        Ok(volumes)
    }

    /// Removes a volume with its data; returns whether it was there.
    ///
    /// # Errors
    ///
    /// Something in it cannot be removed.
    pub fn remove(&self, name: &str) -> Result<bool, VolumeError> {
        let volume = match self.get(name) {
            Err(VolumeError::Missing { .. }) => return Ok(false),
            other => other?,
        };
        crate::container::discard(&volume.path, &self.folders.1)
            .map_err(VolumeError::io("remove", name))?;
        Ok(true)
    }
}
