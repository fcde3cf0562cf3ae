//! Whether blobs on the disk are what their names say.

use std::ffi::{OsStr, OsString};
use std::io::{self, Read as _};
use std::os::unix::fs::OpenOptionsExt as _;

use oci::Digest;
use sha2::{Digest as _, Sha256};

use super::{BlobStore, ContentError, digest_from_hex};

/// Bytes read at once.
const PIECE: usize = 1 << 20;

impl BlobStore {
    /// Reads a blob and tells whether it has another digest than its name says, or is no file.
    ///
    /// # Errors
    ///
    /// [`ContentError::Missing`], or a disk that fails.
    pub fn is_damaged(&self, digest: &Digest) -> Result<bool, ContentError> {
        let path = self.path(digest);
        // what lies there may be anything, also something that is never to be opened for long
        let found = std::fs::symlink_metadata(&path);
        let found = found.map_err(|error| super::missing(error, digest, &path))?;
        if !found.is_file() {
            return Ok(true);
        }
        let flags = rustix::fs::OFlags::NOFOLLOW | rustix::fs::OFlags::NONBLOCK;
        let file = std::fs::File::options()
            .read(true)
            .custom_flags(flags.bits().cast_signed())
            .open(&path);
        let mut file = file.map_err(|error| super::missing(error, digest, &path))?;
        let mut hash = Sha256::new();
        let mut piece = vec![0; PIECE];
        loop {
            match file.read(&mut piece) {
                Ok(0) => break,
                Ok(count) => hash.update(&piece[..count]),
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                // a sector that cannot be read is damage, too
                Err(error)
                    if error.raw_os_error() == Some(rustix::io::Errno::IO.raw_os_error()) =>
                {
                    return Ok(true);
                }
                Err(error) => return Err(ContentError::io("read blob", &path)(error)),
            }
        }
        Ok(Digest::from_sha256(&hash.finalize().into()) != *digest)
    }

    /// What lies among the blobs and has no digest's name.
    ///
    /// # Errors
    ///
    /// The folder cannot be read.
    pub fn strangers(&self) -> io::Result<Vec<OsString>> {
        let mut strangers = Vec::new();
        for entry in std::fs::read_dir(&self.folders.blobs)? {
            let name = entry?.file_name();
            if name.to_str().and_then(digest_from_hex).is_none() {
                strangers.push(name);
            }
        }
        Ok(strangers)
    }

    /// Removes something that has no digest's name.
    ///
    /// # Errors
    ///
    /// It has one, or the disk fails.
    pub fn remove_stranger(&self, name: &OsStr) -> io::Result<()> {
        if name.to_str().and_then(digest_from_hex).is_some() {
            return Err(io::ErrorKind::InvalidInput.into());
        }
        let path = self.folders.blobs.join(name);
        crate::container::discard(&path, &self.folders.temporary)
    }
}
