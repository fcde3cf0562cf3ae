//! Telling the service manager how far the daemon is (sd_notify(3)).

use std::ffi::OsString;
use std::io;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::net::{SocketAddr, UnixDatagram};

/// The service manager's socket, if the daemon was started by one.
#[derive(Debug)]
pub(crate) struct Notifier(Option<OsString>);

impl Notifier {
    pub(crate) fn from_env() -> Self {
        Self(std::env::var_os("NOTIFY_SOCKET").filter(|path| !path.is_empty()))
    }

    /// The daemon serves.
    pub(crate) fn ready(&self) {
        self.tell("READY=1\nSTATUS=serving");
    }

    /// The daemon reads its configuration again; [`Self::ready`] follows.
    pub(crate) fn reloading(&self) {
        // needed by Type=notify-reload, which compares it with the time of its own signal
        let now = rustix::time::clock_gettime(rustix::time::ClockId::Monotonic);
        let microseconds = now.tv_sec * 1_000_000 + now.tv_nsec / 1000;
        self.tell(&format!("RELOADING=1\nMONOTONIC_USEC={microseconds}"));
    }

    /// The daemon ends.
    pub(crate) fn stopping(&self) {
        self.tell("STOPPING=1\nSTATUS=ending; containers run on");
    }

    fn tell(&self, text: &str) {
        if let Some(path) = &self.0
            && let Err(error) = send(path, text)
        {
            tracing::warn!(%error, "the service manager cannot be told: {text}");
        }
    }
}

fn send(path: &OsString, text: &str) -> io::Result<()> {
    use std::os::linux::net::SocketAddrExt;
    let address = match path.as_bytes() {
        [b'@', name @ ..] => SocketAddr::from_abstract_name(name)?,
        _ => SocketAddr::from_pathname(path)?,
    };
    let socket = UnixDatagram::unbound()?;
    // a manager that does not read must not stop us
    socket.set_nonblocking(true)?;
    socket.send_to_addr(text.as_bytes(), &address).map(drop)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn messages() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("notify");
        let manager = UnixDatagram::bind(&path).unwrap();
        let notifier = Notifier(Some(path.into_os_string()));
        let mut buffer = [0; 200];
        let mut next = || {
            let length = manager.recv(&mut buffer).unwrap();
            String::from_utf8_lossy(&buffer[..length]).into_owned()
        };
        notifier.ready();
        assert!(next().starts_with("READY=1\n"));
        notifier.reloading();
        assert!(next().starts_with("RELOADING=1\nMONOTONIC_USEC="));
        notifier.stopping();
        assert!(next().starts_with("STOPPING=1\n"));
        Notifier(None).ready();
    }
}
