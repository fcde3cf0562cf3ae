//! The resolver of a container: 127.0.0.11, as Docker's clients know it.
//!
//! One task a container answers what comes by UDP, and one takes connections. Both hold sockets
//! that were made inside the container's namespace and run outside, in the engine; so nothing of
//! the container's can end them, and an engine that comes back puts new ones in their place.
//! Nothing is kept from one answer to the next: whoever wants a cache has one upstream.

mod answer;
mod dice;
mod forward;
mod host;
mod names;
mod redirect;
mod tcp;
mod udp;
mod upstream;
mod wire;

use std::io;
use std::net::SocketAddr;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use sys::netns::NetnsError;
use tokio::runtime::Handle;
use tokio::task::AbortHandle;

use crate::netlink::NetlinkError;

use host::HostServers;
pub use host::ResolvPaths;
use names::View;
pub use names::{Entry, NetworkNames, Scope, ScopeState, Upstream};
use redirect::Spent;
use upstream::Place;

/// The step of serving names that failed.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum DnsError {
    /// The container's namespace could not be kept.
    #[error("cannot hold the network namespace of a resolver")]
    Namespace(#[source] io::Error),
    /// The container's namespace could not be entered.
    #[error("cannot enter the network namespace of a resolver")]
    Enter(#[source] NetnsError),
    /// No socket could be had inside.
    #[error("cannot listen at 127.0.0.11")]
    Listen(#[source] io::Error),
    /// The rules inside could not be changed.
    #[error("cannot lead port 53 of 127.0.0.11 to the resolver")]
    Redirect(#[source] NetlinkError),
    /// The sockets could not be given to the runtime.
    #[error("cannot watch the sockets of a resolver")]
    Watch(#[source] io::Error),
}

/// Serves names to any number of containers.
#[derive(Debug)]
pub struct DnsServer {
    handle: Handle,
    host: Arc<HostServers>,
    questions: Arc<AtomicU64>,
    watcher: AbortHandle,
}

impl DnsServer {
    /// Reads the host's resolver file and watches it from now on.
    ///
    /// The threads of the runtime must be in the host's namespace: from there the host's name
    /// servers are asked.
    pub fn start(handle: Handle, host: ResolvPaths) -> Result<Arc<Self>, DnsError> {
        let host = Arc::new(HostServers::read(host));
        let watcher = handle.spawn(host::watch(Arc::clone(&host))).abort_handle();
        Ok(Arc::new(Self {
            handle,
            host,
            questions: Arc::default(),
            watcher,
        }))
    }

    /// How many questions came so far, from all containers.
    #[must_use]
    pub fn questions(&self) -> u64 {
        self.questions.load(Ordering::Relaxed)
    }

    /// Serves one container until the guard is dropped.
    ///
    /// The namespace's loopback link must be up. What an earlier engine left inside is replaced.
    pub fn serve(
        &self,
        namespace: BorrowedFd<'_>,
        scope: Arc<Scope>,
    ) -> Result<DnsGuard, DnsError> {
        let namespace = namespace
            .try_clone_to_owned()
            .map_err(DnsError::Namespace)?;
        let sockets = redirect::open(namespace.as_fd())?;
        drop_later(&self.handle, sockets.spent);
        let _runtime = self.handle.enter();
        let udp = tokio::net::UdpSocket::from_std(sockets.udp).map_err(DnsError::Watch)?;
        let tcp = tokio::net::TcpListener::from_std(sockets.tcp).map_err(DnsError::Watch)?;
        let service = Arc::new(Service {
            namespace,
            scope,
            host: Arc::clone(&self.host),
            questions: Arc::clone(&self.questions),
        });
        let tasks = [
            self.handle.spawn(udp::serve(Arc::clone(&service), udp)),
            self.handle.spawn(tcp::serve(Arc::clone(&service), tcp)),
        ];
        Ok(DnsGuard {
            tasks: tasks.map(|task| task.abort_handle()),
            handle: self.handle.clone(),
            service,
        })
    }
}

impl Drop for DnsServer {
    fn drop(&mut self) {
        self.watcher.abort();
    }
}

/// Keeps the names of one container served.
///
/// Dropping it ends the service and takes the rules out of the container's namespace.
#[derive(Debug)]
pub struct DnsGuard {
    tasks: [AbortHandle; 2],
    handle: Handle,
    service: Arc<Service>,
}

impl Drop for DnsGuard {
    fn drop(&mut self) {
        self.tasks.iter().for_each(AbortHandle::abort);
        match redirect::close(self.service.namespace.as_fd()) {
            Ok(spent) => drop_later(&self.handle, Some(spent)),
            Err(error) => tracing::debug!(?error, "cannot take the rules of a resolver away"),
        }
    }
}

/// Closes a socket where nobody waits for it; a runtime that has ended closes it at once.
fn drop_later(handle: &Handle, spent: Option<Spent>) {
    if spent.is_some() {
        handle.spawn_blocking(move || drop(spent));
    }
}

/// What the tasks of one container share.
#[derive(Debug)]
struct Service {
    namespace: OwnedFd,
    scope: Arc<Scope>,
    host: Arc<HostServers>,
    questions: Arc<AtomicU64>,
}

/// The name servers that a container's questions go to, in the order of preference.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Servers {
    place: Place,
    list: Arc<[SocketAddr]>,
}

impl Service {
    /// Counts questions that came.
    fn asked(&self, count: usize) {
        self.questions.fetch_add(count as u64, Ordering::Relaxed);
    }

    /// Returns whom to ask for what the view does not know.
    fn servers(&self, view: &View) -> Servers {
        let (place, list) = match &view.upstream {
            Upstream::None => (Place::Host, Arc::from([])),
            Upstream::Host => (Place::Host, self.host.current()),
            Upstream::Given(addresses) => (Place::Inside, upstream::reachable(addresses)),
        };
        Servers { place, list }
    }
}
