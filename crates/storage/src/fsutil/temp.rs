//! Private working folders and files, gone when dropped.

use std::io;
use std::path::{Path, PathBuf};

/// A fresh name that no other writer has: a prefix and 16 random digits.
pub(crate) fn unique_name(prefix: &str) -> io::Result<String> {
    let mut bytes = [0_u8; 8];
    rustix::rand::getrandom(&mut bytes[..], rustix::rand::GetRandomFlags::empty())?;
    Ok(format!("{prefix}-{}", hex::encode(bytes)))
}

/// A private directory that is removed, with what is in it, unless it was moved away.
#[derive(Debug)]
pub(crate) struct TempDir {
    path: PathBuf,
    armed: bool,
}

impl TempDir {
    /// Makes a directory of mode 0700 under `parent`.
    pub(crate) fn new(parent: &Path, prefix: &str) -> io::Result<Self> {
        let path = parent.join(unique_name(prefix)?);
        super::ensure_dir(&path, 0o700)?;
        Ok(Self { path, armed: true })
    }

    /// Where the directory is.
    pub(crate) fn path(&self) -> &Path {
        &self.path
    }

    /// Renames the directory to its final place, after which it stays.
    pub(crate) fn persist(mut self, target: &Path) -> io::Result<()> {
        std::fs::rename(&self.path, target)?;
        self.armed = false;
        Ok(())
    }
}

impl Drop for TempDir {
    fn drop(&mut self) {
        if self.armed
            && let Err(error) = super::remove::remove_path(&self.path)
        {
            tracing::warn!(path = %self.path.display(), %error, "temporary folder stays until the next start");
        }
    }
}
