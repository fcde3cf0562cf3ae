//! Kernel settings below `/proc/sys/net`, which belong to the calling thread's namespace.

use std::io;

use rustix::fs::{Mode, OFlags};
use rustix::io::Errno;

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
    rustix::fs::access("/proc/sys/net/ipv6", rustix::fs::Access::EXISTS).is_ok()
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
    let file = rustix::fs::open(path(name), OFlags::RDONLY | OFlags::CLOEXEC, Mode::empty())?;
    let mut buffer = [0; 256];
    let length = rustix::io::read(&file, &mut buffer)?;
    Ok(String::from_utf8_lossy(&buffer[..length]).into_owned())
}

/// Writes a setting.
pub(crate) fn write(name: &str, value: &str) -> Result<(), SysctlError> {
    let result = rustix::fs::open(path(name), OFlags::WRONLY | OFlags::CLOEXEC, Mode::empty())
        .and_then(|file| match rustix::io::write(&file, value.as_bytes())? {
            length if length == value.len() => Ok(()),
            _ => Err(Errno::IO),
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
