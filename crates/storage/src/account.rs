//! Where the bytes of an engine's folder are: each allocated block of it, once.

use std::ffi::CString;
use std::io;
use std::os::fd::{AsFd as _, BorrowedFd};
use std::path::{Path, PathBuf};

use rustix::fs::Mode;

use crate::fsutil::dir_stack::WALK;
use crate::fsutil::remove::list;
use crate::fsutil::usage::{Cancel, Measurer};
use crate::fsutil::{self};

/// The folder cannot be measured.
#[derive(Debug, thiserror::Error)]
#[error("measure {}", path.display())]
pub struct AccountError {
    path: PathBuf,
    #[source]
    source: io::Error,
}

/// What each part of an engine's folder takes on the disk, bytes; together they are `total`.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Account {
    /// Blobs as they were pulled.
    pub blobs: u64,
    /// Unpacked layers.
    pub snapshots: u64,
    /// What containers have written, and overlayfs' own folders for that.
    pub writable: u64,
    /// Logs of containers.
    pub logs: u64,
    /// Volumes, but for what is mounted in them.
    pub volumes: u64,
    /// What builds keep for the next.
    pub build_cache: u64,
    /// The database, and the small files that each container has beside its layer.
    pub metadata: u64,
    /// What work in progress and former versions have left.
    pub other: u64,
    /// All of it.
    pub total: u64,
    /// The containers one by one, by folder name.
    pub containers: Vec<ContainerAccount>,
}

/// What one container takes.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ContainerAccount {
    /// The name of its folder, which is its id.
    pub id: String,
    /// Its writable layer.
    pub writable: u64,
    /// Its logs.
    pub logs: u64,
    /// The small files beside.
    pub metadata: u64,
}

/// Measures the folder `root`, without following links or leaving its file system.
///
/// # Errors
/// A folder cannot be read, or the measurement was cancelled.
pub fn account(root: &Path, cancel: &Cancel) -> Result<Account, AccountError> {
    take_stock(root, cancel).map_err(|source| AccountError {
        path: root.to_owned(),
        source,
    })
}

fn take_stock(root: &Path, cancel: &Cancel) -> io::Result<Account> {
    let root = fsutil::open_dir(root)?;
    let mut measurer = Measurer::new(cancel.clone());
    let mut found = Account {
        other: measurer.alone(root.as_fd())?.allocated,
        ..Account::default()
    };
    for (name, _) in list(root.as_fd())? {
        if name.as_c_str() == c"containers" {
            containers(root.as_fd(), &mut measurer, &mut found)?;
            continue;
        }
        let bytes = measurer.entry(root.as_fd(), &name)?.allocated;
        match name.to_bytes() {
            b"content" => found.blobs += bytes,
            b"snapshots" => found.snapshots += bytes,
            b"volumes" => found.volumes += bytes,
            b"builder" => found.build_cache += bytes,
            b"gorae.db" | b"gorae.pid" => found.metadata += bytes,
            _ => found.other += bytes,
        }
    }
    found.total = found.blobs
        + found.snapshots
        + found.writable
        + found.logs
        + found.volumes
        + found.build_cache
        + found.metadata
        + found.other;
    Ok(found)
}

fn containers(
    root: BorrowedFd<'_>,
    measurer: &mut Measurer,
    found: &mut Account,
) -> io::Result<()> {
    let folder = rustix::fs::openat(root, c"containers", WALK, Mode::empty())?;
    found.metadata += measurer.alone(folder.as_fd())?.allocated;
    for (name, _) in list(folder.as_fd())? {
        let one = match rustix::fs::openat(&folder, &name, WALK, Mode::empty()) {
            Ok(fd) => container(&name, fd.as_fd(), measurer)?,
            // removed since it was listed, or no folder
            Err(_) => {
                found.other += measurer.entry(folder.as_fd(), &name)?.allocated;
                continue;
            }
        };
        found.writable += one.writable;
        found.logs += one.logs;
        found.metadata += one.metadata;
        found.containers.push(one);
    }
    found.containers.sort_by(|a, b| a.id.cmp(&b.id));
    Ok(())
}

fn container(
    id: &CString,
    folder: BorrowedFd<'_>,
    measurer: &mut Measurer,
) -> io::Result<ContainerAccount> {
    let mut found = ContainerAccount {
        id: id.to_string_lossy().into_owned(),
        metadata: measurer.alone(folder)?.allocated,
        ..ContainerAccount::default()
    };
    for (name, _) in list(folder)? {
        let bytes = measurer.entry(folder, &name)?.allocated;
        match name.to_bytes() {
            b"upper" | b"work" => found.writable += bytes,
            name if is_log(name) => found.logs += bytes,
            _ => found.metadata += bytes,
        }
    }
    Ok(found)
}

/// Whether a file or folder beside a container's layer holds its log: each driver has `log` in its
/// names, as `<id>-json.log`, `<id>-json.log.1.gz` and `local-logs` do.
fn is_log(name: &[u8]) -> bool {
    name.windows(3).any(|part| part == b"log")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_of_logs() {
        for name in ["ab12-json.log", "ab12-json.log.2.gz", "local-logs"] {
            assert!(is_log(name.as_bytes()), "{name}");
        }
        for name in ["hostname", "resolv.conf", "lo", ""] {
            assert!(!is_log(name.as_bytes()), "{name}");
        }
    }
}
