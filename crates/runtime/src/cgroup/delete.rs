//! Removing a cgroup's directories.

use std::ffi::OsStr;
use std::path::{Path, PathBuf};
use std::thread::sleep;
use std::time::{Duration, Instant};

use rustix::io::Errno;

use super::Cgroup;
use super::error::CgroupError;
use super::hierarchy::Hierarchies;

/// How long dying processes may hold a cgroup: a killed process leaves it only when its memory is torn down.
/// On a busy machine that takes its time.
const PATIENCE: Duration = Duration::from_secs(5);
const FIRST_PAUSE: Duration = Duration::from_micros(500);
/// The longest pause between two attempts.
const LONGEST_PAUSE: Duration = Duration::from_millis(50);

/// Removes the directory from every hierarchy; goes on where one stays.
pub(super) fn delete(cgroup: &Cgroup) -> Result<(), CgroupError> {
    let deadline = Instant::now() + PATIENCE;
    let mut failures = Vec::new();
    for (_, dir) in cgroup.directories() {
        if let Err(source) = delete_by(dir, deadline) {
            failures.push((PathBuf::from(dir), source));
        }
    }
    if failures.is_empty() {
        return Ok(());
    }
    Err(CgroupError::Delete { failures })
}

/// Removes what stands in a parent but is not to be kept and has no process; tells what stays all the same.
pub(super) fn sweep(
    hierarchies: &Hierarchies,
    parent: &Path,
    keep: &dyn Fn(&OsStr) -> bool,
) -> Vec<PathBuf> {
    let folders = hierarchies.iter().map(|one| one.root().join(parent));
    let found = folders.flat_map(|folder| children(&folder));
    let stale = found.filter(|dir| !dir.file_name().is_some_and(keep));
    stale.filter(|dir| delete_tree(dir).is_err()).collect()
}

/// Removes what stands in a parent, bears such a name and has neither a process nor a cgroup in it.
pub(super) fn sweep_empty(
    hierarchies: &Hierarchies,
    parent: &Path,
    is_stale: &dyn Fn(&OsStr) -> bool,
) {
    let folders = hierarchies.iter().map(|one| one.root().join(parent));
    let found = folders.flat_map(|folder| children(&folder));
    for dir in found.filter(|dir| dir.file_name().is_some_and(is_stale)) {
        let _in_use = rustix::fs::rmdir(&dir);
    }
}

fn delete_by(dir: &Path, deadline: Instant) -> Result<(), Errno> {
    let mut pause = FIRST_PAUSE;
    loop {
        match delete_tree(dir) {
            Err(Errno::BUSY) if Instant::now() < deadline => {
                sleep(pause);
                pause = (pause * 2).min(LONGEST_PAUSE);
            }
            other => return other,
        }
    }
}

/// Removes a directory, and first those in it where there are any; a missing one is fine.
pub(super) fn delete_tree(dir: &Path) -> Result<(), Errno> {
    match rustix::fs::rmdir(dir) {
        Ok(()) | Err(Errno::NOENT) => return Ok(()),
        // the kernel says BUSY for children as well as for processes
        Err(Errno::BUSY | Errno::NOTEMPTY) => {}
        Err(other) => return Err(other),
    }
    for child in children(dir) {
        delete_tree(&child)?;
    }
    match rustix::fs::rmdir(dir) {
        Err(Errno::NOENT) => Ok(()),
        other => other,
    }
}

/// The cgroups in a cgroup. A directory that cannot be read has none: then it cannot be removed either.
pub(super) fn children(dir: &Path) -> Vec<PathBuf> {
    let Ok(entries) = std::fs::read_dir(dir) else {
        return Vec::new();
    };
    entries
        .filter_map(Result::ok)
        .filter(|entry| entry.file_type().is_ok_and(|kind| kind.is_dir()))
        .map(|entry| entry.path())
        .collect()
}
