//! The contents of `/etc/hosts`, `/etc/hostname` and `/etc/resolv.conf` of a container.

mod hosts;
mod resolv;

pub use hosts::{HostEntry, HostsFile, hostname, hosts};
pub(crate) use resolv::name_servers;
pub use resolv::{
    EmbeddedResolvFile, HostResolver, ResolvFile, ResolvOptions, embedded_resolv_conf, resolv_conf,
};

use std::io;
use std::path::Path;

use rustix::fs::{FileType, Mode, OFlags};

/// No resolver's or hosts file of a host that works is larger.
const LARGEST_HOST_FILE: usize = 1 << 20;

/// A file of the host could not be read.
#[derive(Debug, thiserror::Error)]
#[error("cannot read the host's {path}")]
pub struct HostFileError {
    path: String,
    #[source]
    source: io::Error,
}

/// Reads a regular file of the host; `None` when it is not there.
pub fn read_host_file(path: &Path) -> Result<Option<String>, HostFileError> {
    let failed = |source| HostFileError {
        path: path.display().to_string(),
        source,
    };
    match read_bounded(path) {
        Ok(text) => Ok(Some(text)),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(failed(error)),
    }
}

fn read_bounded(path: &Path) -> io::Result<String> {
    // without NONBLOCK, opening a FIFO would wait for a writer (CVE-2024-9676 was that elsewhere)
    let flags = OFlags::RDONLY | OFlags::CLOEXEC | OFlags::NONBLOCK;
    let file = rustix::fs::open(path, flags, Mode::empty())?;
    let stat = rustix::fs::fstat(&file)?;
    if FileType::from_raw_mode(stat.st_mode) != FileType::RegularFile {
        return Err(io::Error::new(
            io::ErrorKind::InvalidInput,
            "not a regular file",
        ));
    }
    let mut bytes = Vec::new();
    let mut chunk = [0; 4096];
    loop {
        match rustix::io::read(&file, &mut chunk)? {
            0 => return Ok(String::from_utf8_lossy(&bytes).into_owned()),
            length => bytes.extend_from_slice(&chunk[..length]),
        }
        if bytes.len() > LARGEST_HOST_FILE {
            return Err(io::Error::new(
                io::ErrorKind::FileTooLarge,
                "larger than 1 MiB",
            ));
        }
    }
}
