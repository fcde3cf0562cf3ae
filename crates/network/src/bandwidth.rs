//! Limits on what a container's link carries in a second.
//!
//! What the container receives waits in a token bucket on the host's end of its veth pair. What it
//! sends arrives at that end, where nothing can wait; a filter there sends it through a link of
//! its own kind (ifb) with a bucket on it, and from there it goes on as if it had just come in.
//! Nothing is inside the container's namespace, so nothing in the container can undo it.

mod rate;
mod shape;

use std::time::Duration;

use rustix::io::Errno;
use serde::{Deserialize, Serialize};
use sys::netns::Family;

pub use rate::{ParseRateError, Rate};

use crate::bounds::has_suffix;
use crate::netlink::{Batch, NetlinkError, Socket, tolerate};
use crate::route::qdisc::{self, Root, TokenBucket};
use crate::route::{self, Change, Link, NewLink};
use crate::sandbox::{HostInterface, PORT_PREFIX};
use crate::sysctl;

/// What the name of a link begins with that a container's packets wait on; the rest is the suffix of
/// the veth pair's host end.
const WAITING_PREFIX: &str = "ifb";
/// How long a queue that is to be removed may take to empty itself.
const DRAINING: Duration = Duration::from_millis(100);
const BETWEEN_LOOKS: Duration = Duration::from_millis(2);

/// The limits of one link, from the container's point of view.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Bandwidth {
    /// What it may receive.
    pub ingress: Option<Rate>,
    /// What it may send.
    pub egress: Option<Rate>,
}

/// The step of limiting a link that failed.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum BandwidthError {
    /// The link is gone.
    #[error("cannot limit the bandwidth of {port}: the link is gone")]
    Gone {
        /// The host's end of the container's link.
        port: String,
    },
    /// The kernel lacks something.
    #[error(
        "cannot limit the bandwidth of {port}: this kernel lacks the module {module} ({option})"
    )]
    KindMissing {
        /// The host's end of the container's link.
        port: String,
        /// The module.
        module: &'static str,
        /// The kernel's build option.
        option: &'static str,
    },
    /// The kernel refused.
    #[error("cannot limit the bandwidth of {port}")]
    Kernel {
        /// The host's end of the container's link.
        port: String,
        /// What was refused.
        #[source]
        source: NetlinkError,
    },
    /// The limits could not be read.
    #[error("cannot read the bandwidth limits of {port}")]
    Read {
        /// The host's end of the container's link.
        port: String,
        /// What was refused.
        #[source]
        source: NetlinkError,
    },
    /// What earlier limits left could not be removed.
    #[error("cannot remove the bandwidth limits of links that are gone")]
    Reap(#[source] NetlinkError),
}

/// Sets, changes or removes the limits of a link; packets that wait are not lost.
///
/// Must be called in the namespace of the link's host end.
pub fn limit(host: &HostInterface, bandwidth: &Bandwidth) -> Result<(), BandwidthError> {
    let kernel = |source| kernel_error(host, source);
    let mut socket = Socket::open(Family::Route).map_err(kernel)?;
    let Some(link) = find(&mut socket, host).map_err(kernel)? else {
        return limit_gone(&mut socket, host, bandwidth);
    };
    limit_ingress(&mut socket, host, &link, bandwidth.ingress)?;
    match bandwidth.egress {
        Some(rate) => limit_egress(&mut socket, host, &link, rate),
        None => free_egress(&mut socket, host, &link),
    }
}

/// Reads the limits that a link has.
pub fn limits_of(host: &HostInterface) -> Result<Bandwidth, BandwidthError> {
    let read = |source| BandwidthError::Read {
        port: host.name.clone(),
        source,
    };
    let mut socket = Socket::open(Family::Route).map_err(read)?;
    let ingress = qdisc::root(&mut socket, host.index).map_err(read)?;
    let mut egress = None;
    if let Some(name) = waiting_name(host)
        && let Some(link) = route::link_by_name(&mut socket, &name).map_err(read)?
    {
        egress = qdisc::root(&mut socket, link.index).map_err(read)?;
    }
    let rate = |root: Option<Root>| shape::rate_of(&root.filter(|root| root.ours)?.bucket?);
    Ok(Bandwidth {
        ingress: rate(ingress),
        egress: rate(egress),
    })
}

/// Deletes what the limits of links left that are not in `alive`, or not there any more; returns the
/// names of those links.
pub fn reap(alive: &[String]) -> Result<Vec<String>, BandwidthError> {
    let mut socket = Socket::open(Family::Route).map_err(BandwidthError::Reap)?;
    let links = route::links(&mut socket).map_err(BandwidthError::Reap)?;
    let mut reaped = Vec::new();
    for link in &links {
        let Some(suffix) = link.name.strip_prefix(WAITING_PREFIX) else {
            continue;
        };
        let port = format!("{PORT_PREFIX}{suffix}");
        let used = alive.contains(&port) && links.iter().any(|other| other.name == port);
        if link.kind != "ifb" || !has_suffix(&link.name, WAITING_PREFIX) || used {
            continue;
        }
        delete(&mut socket, link).map_err(BandwidthError::Reap)?;
        reaped.push(port);
    }
    Ok(reaped)
}

fn kernel_error(host: &HostInterface, source: NetlinkError) -> BandwidthError {
    BandwidthError::Kernel {
        port: host.name.clone(),
        source,
    }
}

/// Names what a kernel lacks that knows no such kind of link, queue, filter or action.
fn missing(
    host: &HostInterface,
    module: &'static str,
    option: &'static str,
) -> impl Fn(NetlinkError) -> BandwidthError {
    move |source| match source.errno() {
        Some(Errno::OPNOTSUPP | Errno::NOENT) => BandwidthError::KindMissing {
            port: host.name.clone(),
            module,
            option,
        },
        _ => kernel_error(host, source),
    }
}

/// Finds the link; its index may be another's by now.
fn find(socket: &mut Socket, host: &HostInterface) -> Result<Option<Link>, NetlinkError> {
    let link = route::link_by_index(socket, host.index)?;
    Ok(link.filter(|link| link.name == host.name))
}

fn waiting_name(host: &HostInterface) -> Option<String> {
    let suffix = host.name.strip_prefix(PORT_PREFIX)?;
    let name = format!("{WAITING_PREFIX}{suffix}");
    has_suffix(&name, WAITING_PREFIX).then_some(name)
}

fn limit_gone(
    socket: &mut Socket,
    host: &HostInterface,
    bandwidth: &Bandwidth,
) -> Result<(), BandwidthError> {
    if *bandwidth != Bandwidth::default() {
        let port = host.name.clone();
        return Err(BandwidthError::Gone { port });
    }
    let kernel = |source| kernel_error(host, source);
    let Some(name) = waiting_name(host) else {
        return Ok(());
    };
    match route::link_by_name(socket, &name).map_err(kernel)? {
        Some(waiting) => delete(socket, &waiting).map_err(kernel),
        None => Ok(()),
    }
}

fn limit_ingress(
    socket: &mut Socket,
    host: &HostInterface,
    link: &Link,
    rate: Option<Rate>,
) -> Result<(), BandwidthError> {
    let kernel = |source| kernel_error(host, source);
    if let Some(rate) = rate {
        return set_bucket(socket, host, link.index, &shape::bucket(rate, link.mtu));
    }
    let root = qdisc::root(socket, link.index).map_err(kernel)?;
    if !root.is_some_and(|root| root.ours) {
        return Ok(());
    }
    drain(socket, link.index).map_err(kernel)?;
    let mut batch = Batch::default();
    qdisc::remove_root(&mut batch, link.index);
    tolerate(socket.transact(&mut batch), Errno::NOENT).map_err(kernel)
}

/// Sets or changes a bucket, unless it is just so: a change would fill it.
fn set_bucket(
    socket: &mut Socket,
    host: &HostInterface,
    link: u32,
    bucket: &TokenBucket,
) -> Result<(), BandwidthError> {
    let root = qdisc::root(socket, link).map_err(|source| kernel_error(host, source))?;
    let same = |old: &TokenBucket| {
        (old.rate, old.limit, old.mtu) == (bucket.rate, bucket.limit, bucket.mtu)
    };
    let just_so = |root: Root| root.ours && root.bucket.as_ref().is_some_and(same);
    if root.is_some_and(just_so) {
        return Ok(());
    }
    let mut batch = Batch::default();
    qdisc::set_token_bucket(&mut batch, link, bucket);
    socket
        .transact(&mut batch)
        .map_err(missing(host, "sch_tbf", "CONFIG_NET_SCH_TBF"))
}

fn limit_egress(
    socket: &mut Socket,
    host: &HostInterface,
    link: &Link,
    rate: Rate,
) -> Result<(), BandwidthError> {
    let waiting = ensure_waiting(socket, host, link)?;
    set_bucket(socket, host, waiting.index, &shape::bucket(rate, link.mtu))?;
    ensure_redirect(socket, host, link, &waiting)
}

/// Makes the link that the container's packets wait on.
fn ensure_waiting(
    socket: &mut Socket,
    host: &HostInterface,
    link: &Link,
) -> Result<Link, BandwidthError> {
    let kernel = |source| kernel_error(host, source);
    let gone = || BandwidthError::Gone {
        port: host.name.clone(),
    };
    let name = waiting_name(host).ok_or_else(gone)?;
    let mut found = route::link_by_name(socket, &name).map_err(kernel)?;
    if found.is_none() {
        let mut batch = Batch::default();
        let new = NewLink {
            mtu: Some(link.mtu),
            ..NewLink::named(&name, "ifb")
        };
        route::create(&mut batch, &new, |_| ());
        tolerate(socket.transact(&mut batch), Errno::EXIST).map_err(missing(
            host,
            "ifb",
            "CONFIG_IFB",
        ))?;
        found = route::link_by_name(socket, &name).map_err(kernel)?;
    }
    let waiting = found.ok_or_else(gone)?;
    if !waiting.up {
        let mut batch = Batch::default();
        if sysctl::has_ipv6() && link.mtu >= crate::bounds::MINIMUM_MTU_OF_IPV6 {
            let quiet = Change {
                without_link_local: true,
                ..Change::default()
            };
            route::set_link(&mut batch, waiting.index, &name, &quiet);
        }
        let up = Change {
            up: true,
            ..Change::default()
        };
        route::set_link(&mut batch, waiting.index, &name, &up);
        socket.transact(&mut batch).map_err(kernel)?;
    }
    Ok(waiting)
}

/// Sends what comes in on the host's end to where it waits.
fn ensure_redirect(
    socket: &mut Socket,
    host: &HostInterface,
    link: &Link,
    waiting: &Link,
) -> Result<(), BandwidthError> {
    let kernel = |source| kernel_error(host, source);
    let mut stale = false;
    if qdisc::has_clsact(socket, link.index).map_err(kernel)? {
        let redirect = qdisc::filters(socket, link.index).map_err(kernel)?.redirect;
        if redirect == Some(waiting.index) {
            return Ok(());
        }
        stale = redirect.is_some();
    } else {
        let mut batch = Batch::default();
        qdisc::add_clsact(&mut batch, link.index);
        socket.transact(&mut batch).map_err(missing(
            host,
            "sch_ingress",
            "CONFIG_NET_SCH_INGRESS",
        ))?;
    }
    if stale {
        // its target was deleted by somebody; until now every packet was lost
        let mut batch = Batch::default();
        qdisc::remove_redirect(&mut batch, link.index);
        socket.transact(&mut batch).map_err(kernel)?;
    }
    let mut batch = Batch::default();
    qdisc::redirect_incoming(&mut batch, link.index, waiting.index);
    let option = "CONFIG_NET_CLS_U32 and CONFIG_NET_ACT_MIRRED";
    socket
        .transact(&mut batch)
        .map_err(missing(host, "cls_u32 or act_mirred", option))
}

/// Lets a container send without limit again.
fn free_egress(
    socket: &mut Socket,
    host: &HostInterface,
    link: &Link,
) -> Result<(), BandwidthError> {
    let kernel = |source| kernel_error(host, source);
    let waiting = match waiting_name(host) {
        Some(name) => route::link_by_name(socket, &name).map_err(kernel)?,
        None => None,
    };
    if let Some(waiting) = &waiting {
        // what waits goes first, so that nothing overtakes it
        drain(socket, waiting.index).map_err(kernel)?;
    }
    free_redirect(socket, link).map_err(kernel)?;
    match &waiting {
        Some(waiting) => {
            drain(socket, waiting.index).map_err(kernel)?;
            delete(socket, waiting).map_err(kernel)
        }
        None => Ok(()),
    }
}

/// Removes the filter, and its hook unless somebody else has filters there.
fn free_redirect(socket: &mut Socket, link: &Link) -> Result<(), NetlinkError> {
    if !qdisc::has_clsact(socket, link.index)? {
        return Ok(());
    }
    let filters = qdisc::filters(socket, link.index)?;
    let mut batch = Batch::default();
    match (filters.redirect, filters.others) {
        (Some(_), false) => qdisc::remove_clsact(&mut batch, link.index),
        (Some(_), true) => qdisc::remove_redirect(&mut batch, link.index),
        (None, _) => return Ok(()),
    }
    tolerate(socket.transact(&mut batch), Errno::NOENT)
}

/// Opens a bucket wide and waits, not for long, until it is empty.
fn drain(socket: &mut Socket, link: u32) -> Result<(), NetlinkError> {
    let looks = DRAINING.as_millis() / BETWEEN_LOOKS.as_millis();
    for look in 0..looks {
        let root = qdisc::root(socket, link)?.filter(|root| root.ours && root.backlog > 0);
        let Some(bucket) = root.and_then(|root| root.bucket) else {
            return Ok(());
        };
        if look == 0 {
            let mut batch = Batch::default();
            qdisc::set_token_bucket(&mut batch, link, &shape::wide_open(&bucket));
            socket.transact(&mut batch)?;
        }
        std::thread::sleep(BETWEEN_LOOKS);
    }
    Ok(())
}

fn delete(socket: &mut Socket, link: &Link) -> Result<(), NetlinkError> {
    let mut batch = Batch::default();
    route::delete(&mut batch, link.index, &link.name);
    // it may go by itself at any moment
    tolerate(socket.transact(&mut batch), Errno::NODEV)
}
