//! One JSON line a request.

use std::fs::File;
use std::io::{self, Write as _};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};

use serde::Serialize;

/// What is told of a request.
#[derive(Debug, Serialize)]
pub(crate) struct Entry<'a> {
    pub(crate) time: String,
    pub(crate) id: &'a str,
    pub(crate) client: String,
    pub(crate) user: &'a str,
    pub(crate) method: &'a str,
    pub(crate) path: &'a str,
    pub(crate) route: &'static str,
    pub(crate) protocol: &'a str,
    pub(crate) status: u16,
    pub(crate) sent: u64,
    pub(crate) milliseconds: f64,
    pub(crate) agent: &'a str,
    /// Whether the answer was sent to its end.
    pub(crate) complete: bool,
}

/// Where the lines go.
#[derive(Debug)]
pub(crate) struct AccessLog {
    path: PathBuf,
    file: Mutex<Option<File>>,
}

impl AccessLog {
    pub(crate) fn open(path: &Path) -> io::Result<Self> {
        Ok(Self {
            path: path.to_owned(),
            file: Mutex::new(open(path)?),
        })
    }

    /// Opens the file again, so that a rotated one can go.
    pub(crate) fn reopen(&self) {
        match open(&self.path) {
            Ok(file) => *self.file.lock().unwrap_or_else(PoisonError::into_inner) = file,
            Err(error) => {
                tracing::error!(path = %self.path.display(), %error, "the access log goes on as it was");
            }
        }
    }

    pub(crate) fn write(&self, entry: &Entry<'_>) {
        let Ok(mut line) = serde_json::to_vec(entry) else {
            return;
        };
        line.push(b'\n');
        let mut file = self.file.lock().unwrap_or_else(PoisonError::into_inner);
        let written = match &mut *file {
            Some(file) => file.write_all(&line),
            None => io::stdout().lock().write_all(&line),
        };
        if let Err(error) = written {
            tracing::warn!(%error, "a line of the access log is lost");
        }
    }
}

/// A file to append to, or nothing for the standard output.
fn open(path: &Path) -> io::Result<Option<File>> {
    if path == Path::new("-") {
        return Ok(None);
    }
    let file = File::options()
        .append(true)
        .create(true)
        .mode(0o640)
        .open(path)?;
    Ok(Some(file))
}
