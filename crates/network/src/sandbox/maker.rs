//! Making sandboxes for a pool.

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use rustix::io::Errno;
use sys::netns::{self, Family};

use super::{HostInterface, INSIDE_NAME, Known, Sandbox, SandboxError, inside, lock, random_name};
use crate::bounds::MINIMUM_MTU_OF_IPV6;
use crate::bridge::Bridge;
use crate::mac::MacAddress;
use crate::netlink::{Batch, NetlinkError, Socket};
use crate::route::{self, Change, Link, Veth};
use crate::sysctl;

/// A random name of 28 bits is taken this often before the kernel is not believed any more.
const NAME_ATTEMPTS: u32 = 8;

/// How often, and how far apart, it is looked whether packets pass.
const LOOKS: u32 = 100;
const BETWEEN_LOOKS: Duration = Duration::from_micros(500);

/// What sandboxes are attached to.
#[derive(Debug, Clone)]
pub(crate) struct Target {
    pub(crate) bridge: Bridge,
    /// The ports reach the host, but not each other.
    pub(crate) isolated: bool,
}

/// Makes sandboxes for one bridge.
#[derive(Debug)]
pub(crate) struct Maker {
    target: Arc<Mutex<Target>>,
    host: Arc<Mutex<Socket>>,
}

/// A link that is to be made and joined to a bridge.
#[derive(Debug)]
pub(super) struct Pair<'a> {
    pub(super) bridge: &'a Bridge,
    pub(super) isolated: bool,
    pub(super) name: &'a str,
    pub(super) mac: Option<MacAddress>,
    pub(super) mtu: u32,
}

impl Maker {
    /// Opens the maker's socket; must be called in the bridge's namespace.
    pub(crate) fn new(target: Arc<Mutex<Target>>) -> Result<Self, SandboxError> {
        let socket = Socket::open(Family::Route).map_err(SandboxError::Inside)?;
        Ok(Self {
            target,
            host: Arc::new(Mutex::new(socket)),
        })
    }

    /// Makes a sandbox that has only its loopback link.
    pub(crate) fn isolated(&self) -> Result<Sandbox, SandboxError> {
        isolated(Some(Arc::clone(&self.host)))
    }

    /// Makes a sandbox of a namespace that is new, with its loopback link only.
    pub(crate) fn isolated_in(&self, namespace: OwnedFd) -> Result<Sandbox, SandboxError> {
        let inside = netns::within(namespace.as_fd(), inside::furnish);
        Ok(Sandbox {
            inside: inside.map_err(SandboxError::Namespace)??,
            namespace,
            host: Some(Arc::clone(&self.host)),
            links: Vec::new(),
            may_have_routes: false,
        })
    }

    /// Makes a sandbox that has a link on the bridge, up but without an address.
    pub(crate) fn attached(&self) -> Result<Sandbox, SandboxError> {
        self.attach(self.isolated()?)
    }

    /// Does the same in a namespace that is new.
    pub(crate) fn attached_in(&self, namespace: OwnedFd) -> Result<Sandbox, SandboxError> {
        self.attach(self.isolated_in(namespace)?)
    }

    fn attach(&self, mut sandbox: Sandbox) -> Result<Sandbox, SandboxError> {
        let target = self
            .target
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .clone();
        let pair = Pair {
            bridge: &target.bridge,
            isolated: target.isolated,
            name: INSIDE_NAME,
            mac: None,
            mtu: target.bridge.config().mtu,
        };
        let mut link = pair.make(&self.host, &mut sandbox)?;
        if target.bridge.config().has_ipv6() {
            let settled = || inside::settle_ipv6(INSIDE_NAME, true);
            netns::within(sandbox.netns(), settled).map_err(SandboxError::Namespace)??;
            link.ipv6 = true;
        }
        let mut batch = Batch::default();
        let up = Change {
            up: true,
            ..Change::default()
        };
        route::set_link(&mut batch, link.index, INSIDE_NAME, &up);
        sandbox
            .inside
            .transact(&mut batch)
            .map_err(SandboxError::Inside)?;
        pair.join(&self.host, &link)?;
        pair.await_carrier(&self.host, &mut sandbox.inside, &link);
        sandbox.links.push(link);
        Ok(sandbox)
    }
}

/// Makes a namespace with its loopback link.
pub(super) fn isolated(host: Option<Arc<Mutex<Socket>>>) -> Result<Sandbox, SandboxError> {
    let (namespace, inside) =
        netns::create_with(inside::furnish).map_err(SandboxError::Namespace)?;
    Ok(Sandbox {
        namespace,
        inside: inside?,
        host,
        links: Vec::new(),
        may_have_routes: false,
    })
}

impl Pair<'_> {
    /// Makes the link, with both ends down.
    pub(super) fn make(
        &self,
        host: &Mutex<Socket>,
        sandbox: &mut Sandbox,
    ) -> Result<Known, SandboxError> {
        let name = self.create(host, sandbox.namespace.as_fd())?;
        let missing = || SandboxError::NoInterface {
            name: self.name.to_owned(),
        };
        let link = route::link_by_name(&mut sandbox.inside, self.name)
            .map_err(SandboxError::Inside)?
            .ok_or_else(missing)?;
        let index = link.peer.ok_or_else(missing)?;
        Ok(Known {
            index: link.index,
            name: link.name,
            mtu: link.mtu,
            ipv6: false,
            host: Some(HostInterface { index, name }),
        })
    }

    fn create(
        &self,
        host: &Mutex<Socket>,
        namespace: BorrowedFd<'_>,
    ) -> Result<String, SandboxError> {
        let mut attempt = 1;
        loop {
            let name = random_name();
            let mut batch = Batch::default();
            let veth = Veth {
                name: &name,
                alias: self.bridge.config().owner.as_deref(),
                mtu: self.mtu,
                peer_name: self.name,
                peer_mac: self.mac,
                peer_namespace: namespace,
            };
            route::create_veth(&mut batch, &veth);
            match lock(host).transact(&mut batch) {
                Ok(()) => return Ok(name),
                Err(error) if error.is(Errno::EXIST) && attempt < NAME_ATTEMPTS => attempt += 1,
                Err(source) => return Err(self.refused(source)),
            }
        }
    }

    /// Joins the host's end to the bridge.
    ///
    /// The inner end must be up, so that the port has a carrier when it joins: the bridge forwards
    /// at once, and the container's first ARP request is not lost to a port that is still down.
    pub(super) fn join(&self, host: &Mutex<Socket>, link: &Known) -> Result<(), SandboxError> {
        let Some(HostInterface { index, name }) = &link.host else {
            return Ok(());
        };
        let mut batch = Batch::default();
        if sysctl::has_ipv6() && self.mtu >= MINIMUM_MTU_OF_IPV6 {
            // an own message, since the kernel brings a link up before it reads this
            let quiet = Change {
                without_link_local: true,
                ..Change::default()
            };
            route::set_link(&mut batch, *index, name, &quiet);
        }
        let up = Change {
            up: true,
            ..Change::default()
        };
        route::set_link(&mut batch, *index, name, &up);
        let port = Change {
            master: Some(self.bridge.index()),
            ..Change::default()
        };
        route::set_link(&mut batch, *index, name, &port);
        route::set_port(&mut batch, *index, name, self.isolated);
        lock(host)
            .transact(&mut batch)
            .map_err(|source| self.refused(source))?;
        Ok(())
    }

    /// Waits, not for long, until packets pass, and points the bridge to the port.
    ///
    /// The kernel takes notice of a carrier on a thread of its own (linkwatch), as a rule at once;
    /// until then the first packets of a container are lost, the ARP request among them that is
    /// repeated only after a second.
    pub(super) fn await_carrier(&self, host: &Mutex<Socket>, inside: &mut Socket, link: &Known) {
        let Some(port) = &link.host else {
            return;
        };
        for _ in 0..LOOKS {
            match self.passes(host, inside, link.index, port) {
                Ok(true) => return,
                Ok(false) => std::thread::sleep(BETWEEN_LOOKS),
                // whatever it is, the container need not wait for it
                Err(error) => {
                    tracing::debug!(port = port.name, ?error, "cannot announce a container");
                    return;
                }
            }
        }
        tracing::debug!(port = port.name, "a container's link has no carrier yet");
    }

    fn passes(
        &self,
        host: &Mutex<Socket>,
        inside: &mut Socket,
        inner: u32,
        port: &HostInterface,
    ) -> Result<bool, NetlinkError> {
        let operational = |link: Option<Link>| link.is_some_and(|link| link.operational);
        if !operational(route::link_by_index(inside, inner)?) {
            return Ok(false);
        }
        let mut host = lock(host);
        // the bridge has a carrier when its first port forwards
        if !operational(route::link_by_index(&mut host, self.bridge.index())?) {
            return Ok(false);
        }
        let Some(mac) = self.mac else {
            return Ok(operational(route::link_by_index(&mut host, port.index)?));
        };
        let mut batch = Batch::default();
        route::forward_to_port(&mut batch, port.index, mac);
        match host.transact(&mut batch) {
            Ok(()) => Ok(true),
            // the port does not forward yet (fdb_add_entry)
            Err(error) if error.is(Errno::PERM) => Ok(false),
            Err(error) => Err(error),
        }
    }

    fn refused(&self, source: NetlinkError) -> SandboxError {
        // br_add_if, when find_portno finds none
        if source.is(Errno::XFULL) {
            let bridge = self.bridge.config().name.clone();
            return SandboxError::BridgeFull { bridge };
        }
        SandboxError::Attach {
            to: format!("the bridge {}", self.bridge.config().name),
            source,
        }
    }
}
