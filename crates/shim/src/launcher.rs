//! Starts shims from a sealed copy of their program.

use std::ffi::CString;
use std::fs::File;
use std::io;
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};

use sys::memfd::{self, Purpose};
use sys::spawn::Spawned;

/// The program's name.
pub const PROGRAM: &str = "gorae-shim";

/// Why a shim could not be started.
#[derive(Debug, thiserror::Error)]
pub enum LaunchError {
    /// The program cannot be opened.
    #[error("open the shim's program {path:?}")]
    Open {
        /// Its path.
        path: PathBuf,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// The program cannot be copied to memory.
    #[error("copy the shim's program {path:?} to a sealed memory file")]
    Seal {
        /// Its path.
        path: PathBuf,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// There is no socket pair.
    #[error("make the shim's control connection")]
    Control(#[source] io::Error),
    /// The process cannot be started.
    #[error("start the shim")]
    Spawn(#[source] io::Error),
}

/// A source of shims.
///
/// All shims of one launcher share the pages of one sealed memory file (CVE-2019-5736), so an
/// engine makes one launcher and keeps it.
#[derive(Debug)]
pub struct Launcher {
    program: OwnedFd,
    path: CString,
}

/// A shim that was just started.
#[derive(Debug)]
pub struct Launched {
    /// The process; it leaves the engine's session by itself, and must be reaped by the caller.
    pub child: Spawned,
    /// The blocking control connection.
    pub control: UnixStream,
}

impl Launcher {
    /// Copies the program `gorae-shim` at `path`.
    pub fn new(path: &Path) -> Result<Self, LaunchError> {
        let mut file = File::open(path).map_err(|source| LaunchError::Open {
            path: path.into(),
            source,
        })?;
        let program = memfd::sealed(PROGRAM, Purpose::Program, &mut file).map_err(|source| {
            LaunchError::Seal {
                path: path.into(),
                source,
            }
        })?;
        let path = CString::new(format!("/proc/self/fd/{}", program.as_raw_fd()))
            .map_err(|error| LaunchError::Spawn(error.into()))?;
        Ok(Self { program, path })
    }

    /// The sealed program, for whoever has to bind or execute it elsewhere.
    #[must_use]
    pub fn program(&self) -> &OwnedFd {
        &self.program
    }

    /// Starts one shim: no environment, no fd of ours but its end of the control connection.
    pub fn spawn(&self) -> Result<Launched, LaunchError> {
        let (control, theirs) = UnixStream::pair().map_err(LaunchError::Control)?;
        let child = sys::spawn::spawn(&self.path, c"gorae-shim", theirs.as_fd())
            .map_err(LaunchError::Spawn)?;
        Ok(Launched { child, control })
    }
}
