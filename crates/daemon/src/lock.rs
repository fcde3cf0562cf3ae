//! Keeping a second engine off the same folders.

use std::fs::{DirBuilder, File, OpenOptions};
use std::io::{self, Read, Seek, Write};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use rustix::fs::{FlockOperation, flock};
use rustix::process::Pid;

/// A folder that cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum LockError {
    /// The folder cannot be made.
    #[error("create folder {path}")]
    Folder {
        /// Folder.
        path: PathBuf,
        /// Cause.
        #[source]
        source: io::Error,
    },
    /// The lock file cannot be used.
    #[error("lock {path}")]
    File {
        /// Lock file.
        path: PathBuf,
        /// Cause.
        #[source]
        source: io::Error,
    },
    /// Another engine has it.
    #[error(
        "another engine (pid {pid}) uses {folder}: stop it, or give this one a folder of its own"
    )]
    Taken {
        /// Folder.
        folder: PathBuf,
        /// What the lock file says.
        pid: String,
    },
}

/// How long the lock of an engine that was killed may last: a process that it was just starting has
/// its descriptors until it runs its own program.
const LEFT_OVER: Duration = Duration::from_secs(2);
const RETRY: Duration = Duration::from_millis(5);

/// A lock on a folder; it ends with this value, and with the process however that ends.
#[derive(Debug)]
pub(crate) struct FolderLock {
    _file: File,
}

impl FolderLock {
    /// Makes the folder where it is missing, and locks it.
    pub(crate) fn take(folder: &Path) -> Result<Self, LockError> {
        DirBuilder::new()
            .recursive(true)
            .mode(0o700)
            .create(folder)
            .map_err(|source| LockError::Folder {
                path: folder.to_owned(),
                source,
            })?;
        let path = folder.join("gorae.pid");
        let failed = |source| LockError::File {
            path: path.clone(),
            source,
        };
        let mut file = OpenOptions::new()
            .read(true)
            .write(true)
            .create(true)
            .truncate(false)
            .mode(0o600)
            .open(&path)
            .map_err(failed)?;
        let begun = Instant::now();
        while let Err(errno) = flock(&file, FlockOperation::NonBlockingLockExclusive) {
            if errno != rustix::io::Errno::WOULDBLOCK {
                return Err(failed(errno.into()));
            }
            let pid = holder(&mut file);
            if begun.elapsed() > LEFT_OVER || is_alive(&pid) {
                let folder = folder.to_owned();
                return Err(LockError::Taken { folder, pid });
            }
            std::thread::sleep(RETRY);
        }
        write_pid(&mut file).map_err(failed)?;
        Ok(Self { _file: file })
    }
}

/// Whether a process of this id runs; one that was killed and that nobody has waited for does not.
fn is_alive(pid: &str) -> bool {
    let Some(pid) = pid.parse::<i32>().ok().and_then(Pid::from_raw) else {
        return true;
    };
    // proc_pid_stat(5): the state is behind the name, which may hold anything
    let stat = std::fs::read_to_string(format!("/proc/{}/stat", pid.as_raw_nonzero()));
    let state = stat.map(|text| {
        text.rsplit(") ")
            .next()
            .and_then(|rest| rest.chars().next())
    });
    state.is_ok_and(|state| !matches!(state, Some('Z' | 'X')))
}

fn write_pid(file: &mut File) -> io::Result<()> {
    file.set_len(0)?;
    file.rewind()?;
    writeln!(file, "{}", std::process::id())
}

fn holder(file: &mut File) -> String {
    let mut text = String::new();
    // a file without the number is no reason to say less
    let read = file
        .rewind()
        .and_then(|()| file.take(20).read_to_string(&mut text));
    match read {
        Ok(_) if !text.trim().is_empty() => text.trim().to_owned(),
        _ => "unknown".into(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_killed_engine_was_starting_is_waited_for() {
        let base = tempfile::tempdir().unwrap();
        let lock = FolderLock::take(base.path()).unwrap();
        // no process has this number
        std::fs::write(base.path().join("gorae.pid"), "2147483647").unwrap();
        let thread = std::thread::spawn(move || {
            std::thread::sleep(Duration::from_millis(100));
            drop(lock);
        });
        FolderLock::take(base.path()).unwrap();
        thread.join().unwrap();
    }

    #[test]
    fn one_at_a_time() {
        let base = tempfile::tempdir().unwrap();
        let folder = base.path().join("a/b");
        let lock = FolderLock::take(&folder).unwrap();
        let error = FolderLock::take(&folder).unwrap_err().to_string();
        let expect = format!("another engine (pid {}) uses ", std::process::id());
        assert!(error.starts_with(&expect), "{error}");
        drop(lock);
        drop(FolderLock::take(&folder).unwrap());
        assert!(FolderLock::take(Path::new("/proc/nowhere")).is_err());
    }
}
