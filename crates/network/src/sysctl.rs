//! Kernel settings below `/proc/sys/net`, which belong to the calling thread's namespace.

mod inside;

use std::io;
use std::os::fd::AsFd;
use std::sync::OnceLock;

use rustix::fs::{CWD, Mode, OFlags};
use rustix::io::Errno;

pub(crate) use inside::Settings;

/// A kernel setting could not be read or written.
#[derive(Debug, thiserror::Error)]
#[error("cannot set net.{name} to {value:?}")]
pub struct SysctlError {
    name: String,
    value: String,
    #[source]
    source: io::Error,
}

/// Writes a setting unless it has the value already: a read-only `/proc/sys` is then no obstacle,
/// and a write to `ip_forward` resets other settings (Documentation/networking/ip-sysctl.rst).
pub(crate) fn ensure(name: &str, value: &str) -> Result<(), SysctlError> {
    if read(name).is_ok_and(|current| current.split_whitespace().eq(value.split_whitespace())) {
        return Ok(());
    }
    write(name, value)
}

/// Writes a setting, unless it has the value already, that this kernel or link may lack.
pub(crate) fn ensure_if_present(name: &str, value: &str) -> Result<(), SysctlError> {
    if_present(ensure(name, value))
}

/// Writes a setting that this kernel may lack.
pub(crate) fn write_if_present(name: &str, value: &str) -> Result<(), SysctlError> {
    if_present(write(name, value))
}

fn if_present(result: Result<(), SysctlError>) -> Result<(), SysctlError> {
    match result {
        Err(error) if error.source.kind() == io::ErrorKind::NotFound => Ok(()),
        other => other,
    }
}

/// Tells whether the kernel has IPv6 at all.
pub(crate) fn has_ipv6() -> bool {
    static FOUND: OnceLock<bool> = OnceLock::new();
    let look = || rustix::fs::access("/proc/sys/net/ipv6", rustix::fs::Access::EXISTS).is_ok();
    // a module that is loaded is never unloaded; before that there may be one later
    FOUND.get().copied().unwrap_or_else(|| {
        let found = look();
        found && *FOUND.get_or_init(|| true)
    })
}

/// Names the links that have IPv6 settings, `all` and `default` left out.
pub(crate) fn ipv6_links() -> io::Result<Vec<String>> {
    let mut names = Vec::new();
    for entry in std::fs::read_dir(path("ipv6/conf"))? {
        let name = entry?.file_name().to_string_lossy().into_owned();
        if name != "all" && name != "default" {
            names.push(name);
        }
    }
    Ok(names)
}

/// Reads a setting; they are all shorter than the buffer.
pub(crate) fn read(name: &str) -> io::Result<String> {
    read_at(CWD, &path(name))
}

fn read_at(base: impl AsFd, path: &str) -> io::Result<String> {
    let flags = OFlags::RDONLY | OFlags::CLOEXEC;
    let file = rustix::fs::openat(base, path, flags, Mode::empty())?;
    let mut buffer = [0; 256];
    let length = rustix::io::read(&file, &mut buffer)?;
    Ok(String::from_utf8_lossy(&buffer[..length]).into_owned())
}

/// Writes a setting.
pub(crate) fn write(name: &str, value: &str) -> Result<(), SysctlError> {
    write_at(CWD, &path(name), name, value)
}

fn write_at(base: impl AsFd, path: &str, name: &str, value: &str) -> Result<(), SysctlError> {
    let flags = OFlags::WRONLY | OFlags::CLOEXEC;
    let result = rustix::fs::openat(base, path, flags, Mode::empty()).and_then(|file| {
        match rustix::io::write(&file, value.as_bytes())? {
            length if length == value.len() => Ok(()),
            _ => Err(Errno::IO),
        }
    });
    result.map_err(|errno| SysctlError {
        name: name.to_owned(),
        value: value.to_owned(),
        source: errno.into(),
    })
}

/// Settings are named with slashes here, since a link's name may hold dots.
fn path(name: &str) -> String {
    format!("/proc/sys/net/{name}")
}
