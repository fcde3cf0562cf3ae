//! The host's name servers, as its resolver file names them now.

use std::io;
use std::net::{IpAddr, SocketAddr, SocketAddrV6};
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};
use std::sync::{Arc, PoisonError, RwLock};
use std::time::{Duration, SystemTime};

use rustix::fs::inotify::{CreateFlags, WatchFlags, add_watch, init};
use tokio::io::unix::AsyncFd;

use super::redirect::PORT;
use super::upstream::MOST_SERVERS;
use crate::files::{name_servers, read_host_file};

/// How often the file is looked at by itself, for what inotify does not tell: links that change
/// far behind the file's name, and file systems of other machines.
const LOOK: Duration = Duration::from_secs(5);
/// A file is often written in several steps.
const SETTLE: Duration = Duration::from_millis(50);

/// Where the host's resolver file is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ResolvPaths {
    /// The file itself or a link to it.
    pub main: PathBuf,
}

impl Default for ResolvPaths {
    fn default() -> Self {
        Self {
            main: "/etc/resolv.conf".into(),
        }
    }
}

/// The name servers in the host's file.
#[derive(Debug)]
pub(super) struct HostServers {
    paths: ResolvPaths,
    current: RwLock<Arc<[SocketAddr]>>,
}

impl HostServers {
    pub(super) fn read(paths: ResolvPaths) -> Self {
        let servers = Self {
            paths,
            current: RwLock::new(Arc::from([])),
        };
        servers.refresh();
        servers
    }

    pub(super) fn current(&self) -> Arc<[SocketAddr]> {
        Arc::clone(&self.current.read().unwrap_or_else(PoisonError::into_inner))
    }

    /// Reads the file; what cannot be read leaves everything as it is.
    fn refresh(&self) {
        let text = match read_host_file(&self.paths.main) {
            Ok(text) => text.unwrap_or_default(),
            Err(error) => {
                tracing::warn!(?error, "the host's name servers stay as they were");
                return;
            }
        };
        let servers = name_servers(&text);
        let found: Vec<SocketAddr> = servers
            .iter()
            .filter_map(|server| address(server))
            .take(MOST_SERVERS)
            .collect();
        let mut current = self.current.write().unwrap_or_else(PoisonError::into_inner);
        if **current != *found {
            tracing::debug!(servers = ?found, "the host's name servers");
            *current = found.into();
        }
    }

    fn stamp(&self) -> Option<(SystemTime, u64)> {
        let metadata = std::fs::metadata(&self.paths.main).ok()?;
        Some((metadata.modified().ok()?, metadata.len()))
    }
}

/// Reads a name server, whose IPv6 address may name its link (`fe80::1%eth0`).
fn address(text: &str) -> Option<SocketAddr> {
    if let Ok(address) = text.parse::<IpAddr>() {
        return Some(SocketAddr::new(address, PORT));
    }
    let (address, zone) = text.split_once('%')?;
    let address = address.parse().ok()?;
    let index = zone.parse().ok().or_else(|| link_index(zone))?;
    Some(SocketAddrV6::new(address, PORT, 0, index).into())
}

fn link_index(name: &str) -> Option<u32> {
    let path = Path::new("/sys/class/net").join(name).join("ifindex");
    if name.contains('/') {
        return None;
    }
    read_host_file(&path).ok()??.trim().parse().ok()
}

/// Keeps the servers up to date for ever.
pub(super) async fn watch(servers: Arc<HostServers>) {
    let watch = Watch::new();
    let mut stamp = servers.stamp();
    loop {
        if let Some(watch) = &watch {
            watch.arm(&servers.paths.main);
        }
        // a change between reading and watching shows here
        let told = servers.stamp() != stamp || wait(watch.as_ref()).await;
        if told || servers.stamp() != stamp {
            tokio::time::sleep(SETTLE).await;
            stamp = servers.stamp();
            servers.refresh();
        }
    }
}

/// Waits for word of a change, or until it is time to look; tells which.
async fn wait(watch: Option<&Watch>) -> bool {
    let word = async {
        match watch {
            Some(watch) => watch.word().await,
            None => std::future::pending().await,
        }
    };
    tokio::time::timeout(LOOK, word).await.is_ok()
}

/// Word of changes from the kernel.
struct Watch(AsyncFd<OwnedFd>);

impl Watch {
    /// Opens a watch; without one the file is still looked at every few seconds.
    fn new() -> Option<Self> {
        let open = || -> io::Result<Self> {
            let fd = init(CreateFlags::CLOEXEC | CreateFlags::NONBLOCK)?;
            #[expect(
                deprecated,
                reason = "its successor is unsafe for fds of unknown owners; an OwnedFd owns itself"
            )]
            let fd = AsyncFd::new(fd)?;
            Ok(Self(fd))
        };
        open()
            .inspect_err(|error| tracing::debug!(?error, "no inotify for the resolver file"))
            .ok()
    }

    /// Watches the file, even behind a link, and its folder, where it may be replaced.
    fn arm(&self, path: &Path) {
        let of_file = WatchFlags::MODIFY
            | WatchFlags::CLOSE_WRITE
            | WatchFlags::ATTRIB
            | WatchFlags::DELETE_SELF
            | WatchFlags::MOVE_SELF;
        let of_folder = WatchFlags::CREATE | WatchFlags::MOVED_TO | WatchFlags::DELETE;
        let folder = path.parent().unwrap_or(Path::new("/"));
        for (path, flags) in [(path, of_file), (folder, of_folder)] {
            if let Err(errno) = add_watch(self.0.get_ref(), path, flags) {
                tracing::debug!(%errno, path = %path.display(), "cannot watch");
            }
        }
    }

    /// Waits for events and takes them all; what they say is of no interest.
    async fn word(&self) {
        loop {
            let Ok(mut ready) = self.0.readable().await else {
                return std::future::pending().await;
            };
            let mut room = [0; 4096];
            let read = ready.try_io(|fd| Ok(rustix::io::read(fd, &mut room)?));
            if read.is_ok() {
                return;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn servers_may_name_their_link() {
        let lo = link_index("lo").unwrap();
        let zoned = SocketAddrV6::new("fe80::1".parse().unwrap(), 53, 0, lo);
        assert_eq!(address("fe80::1%lo"), Some(zoned.into()));
        assert_eq!(
            address("127.0.0.53"),
            Some("127.0.0.53:53".parse().unwrap())
        );
        for bad in ["", "x", "fe80::1%nosuchlink0", "fe80::1%../lo", "%1"] {
            assert_eq!(address(bad), None, "{bad}");
        }
    }
}
