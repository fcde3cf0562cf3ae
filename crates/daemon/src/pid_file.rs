//! The file that holds the daemon's process id, for scripts that look for one.

use std::io;
use std::path::{Path, PathBuf};

/// A file that cannot be had.
#[derive(Debug, thiserror::Error)]
pub enum PidFileError {
    /// A process of that id runs.
    #[error(
        "process with PID {pid} is still running: {path} is its file; end it, or remove the file if it is of another program"
    )]
    Running {
        /// File.
        path: PathBuf,
        /// What it holds.
        pid: u32,
    },
    /// The file cannot be written.
    #[error("write pid file {path}")]
    Write {
        /// File.
        path: PathBuf,
        /// Cause.
        #[source]
        source: io::Error,
    },
}

/// The file; it goes with this value.
#[derive(Debug)]
pub(crate) struct PidFile(PathBuf);

impl PidFile {
    pub(crate) fn write(path: &Path) -> Result<Self, PidFileError> {
        let own = std::process::id();
        if let Some(pid) = holder(path)
            && pid != own
            && Path::new(&format!("/proc/{pid}")).exists()
        {
            return Err(PidFileError::Running {
                path: path.to_owned(),
                pid,
            });
        }
        let write = || {
            if let Some(folder) = path.parent() {
                std::fs::create_dir_all(folder)?;
            }
            // a new file in the place of an old one, so that nobody reads half of it
            let next = path.with_extension(format!("pid-{own}"));
            std::fs::write(&next, own.to_string())?;
            std::fs::rename(&next, path)
        };
        write().map_err(|source| PidFileError::Write {
            path: path.to_owned(),
            source,
        })?;
        Ok(Self(path.to_owned()))
    }
}

fn holder(path: &Path) -> Option<u32> {
    use std::io::Read as _;
    let mut text = String::new();
    let file = std::fs::File::open(path).ok()?;
    file.take(20).read_to_string(&mut text).ok()?;
    text.trim().parse().ok()
}

impl Drop for PidFile {
    fn drop(&mut self) {
        if holder(&self.0) == Some(std::process::id())
            && let Err(error) = std::fs::remove_file(&self.0)
        {
            tracing::warn!(path = %self.0.display(), %error, "the pid file stays");
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_at_a_time() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("deep/engine.pid");
        let file = PidFile::write(&path).unwrap();
        let own = std::process::id().to_string();
        assert_eq!(std::fs::read_to_string(&path).unwrap(), own);
        drop(file);
        assert!(!path.exists());
        std::fs::write(&path, "1\n").unwrap();
        let error = PidFile::write(&path).unwrap_err().to_string();
        assert!(
            error.starts_with("process with PID 1 is still running"),
            "{error}"
        );
        // above the largest number that a process can have
        std::fs::write(&path, "4194305").unwrap();
        drop(PidFile::write(&path).unwrap());
        assert!(PidFile::write(Path::new("/proc/nowhere/pid")).is_err());
    }
}
