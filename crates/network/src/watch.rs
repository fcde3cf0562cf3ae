//! Seeing that somebody else changed what is ours.
//!
//! `nft flush ruleset`, a reload of the host's firewall or `ip link delete` are told by the kernel
//! to whoever asked for it. What this process changes itself is told as well, and left out.

use std::collections::BTreeSet;
use std::os::fd::OwnedFd;
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use rustix::event::{EventfdFlags, PollFd, PollFlags, Timespec, eventfd, poll};
use rustix::io::Errno;
use rustix::net::RecvFlags;
use rustix::net::netlink::SocketAddrNetlink;
use rustix::net::sockopt::set_socket_recv_buffer_size_force;
use sys::netns::{self, Family};

use crate::firewall::reentry_names;
use crate::netlink::{self, Message, Port, Socket, find, integer_ne, is_own, text};
use crate::route;

// linux/netfilter/nfnetlink.h, nf_tables.h, rtnetlink.h: bit N-1 of group N, and messages
const GROUP_NFTABLES: u32 = 1 << 6;
const GROUP_LINK: u32 = 1;
const GROUP_IPV4_ADDRESS: u32 = 1 << 4;
const GROUP_IPV6_ADDRESS: u32 = 1 << 8;
const SUBSYSTEM_NFTABLES: u16 = 10;
/// The name of the table in every message of nftables but those about a generation.
const TABLE: u16 = 1;
const NFT_MSG_NEWGEN: u16 = 15;
const RTM_NEWLINK: u16 = 16;
const RTM_DELLINK: u16 = 17;
const RTM_DELADDR: u16 = 21;
const IFLA_IFNAME: u16 = 3;
const IFF_UP: u64 = 1;
const AF_UNSPEC: u8 = 0;

/// One command of somebody's is many notifications, which are waited for so long.
const QUIET: Duration = Duration::from_millis(20);
/// But not longer than this.
const LONGEST: Duration = Duration::from_millis(300);
/// Room for the notifications of a flush of many elements; when it does not do, all is suspected.
const ROOM: usize = 4 << 20;

/// Something of ours that somebody else changed or deleted.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub enum Disturbance {
    /// The rules, or the links that belong to them.
    Rules,
    /// The bridge of this name, its addresses included.
    Bridge(String),
}

/// The kernel does not tell about changes.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum WatchError {
    /// A socket was refused.
    #[error("cannot subscribe to changes of the network's rules and links")]
    Subscribe(#[source] std::io::Error),
    /// A socket to ask for names was refused.
    #[error("cannot watch the network's links")]
    Question(#[source] netlink::NetlinkError),
    /// The thread was refused.
    #[error("cannot start the thread that watches the network's rules and links")]
    Thread(#[source] std::io::Error),
}

/// A thread that watches; dropping it ends the thread.
#[derive(Debug)]
pub struct Watcher {
    stop: Arc<OwnedFd>,
    thread: Option<JoinHandle<()>>,
}

impl Watcher {
    /// Watches the tables of this name and the bridges that the set names at any time, in the
    /// calling thread's namespace. Many changes at once are told as one.
    pub fn start(
        table: &str,
        bridges: Arc<Mutex<BTreeSet<String>>>,
        on: Box<dyn Fn(Disturbance) + Send>,
    ) -> Result<Self, WatchError> {
        let failed = |errno: Errno| WatchError::Subscribe(errno.into());
        let stop = Arc::new(eventfd(0, EventfdFlags::CLOEXEC).map_err(failed)?);
        let watch = Watch {
            rules: Subscription::open(Family::Netfilter, GROUP_NFTABLES)?,
            links: Subscription::open(
                Family::Route,
                GROUP_LINK | GROUP_IPV4_ADDRESS | GROUP_IPV6_ADDRESS,
            )?,
            questions: Socket::open(Family::Route).map_err(WatchError::Question)?,
            own_links: reentry_names(table).into(),
            table: table.to_owned(),
            bridges,
            stop: Arc::clone(&stop),
        };
        let thread = std::thread::Builder::new()
            .name("watcher".to_owned())
            .spawn(move || watch.run(&on))
            .map_err(WatchError::Thread)?;
        Ok(Self {
            stop,
            thread: Some(thread),
        })
    }
}

impl Drop for Watcher {
    fn drop(&mut self) {
        // the counter cannot overflow by one, the only reason for which it refuses
        let _written = rustix::io::write(&self.stop, &1_u64.to_ne_bytes());
        if let Some(thread) = self.thread.take()
            && thread.thread().id() != std::thread::current().id()
            && thread.join().is_err()
        {
            tracing::error!("the thread that watches rules and links had panicked");
        }
    }
}

#[derive(Debug)]
struct Subscription {
    fd: OwnedFd,
    _port: Port,
}

impl Subscription {
    fn open(family: Family, groups: u32) -> Result<Self, WatchError> {
        let fd = netns::netlink_socket(family).map_err(WatchError::Subscribe)?;
        // without the privilege the buffer stays small, and more is suspected than need be
        let _enlarged = set_socket_recv_buffer_size_force(&fd, ROOM);
        let port = Port::bind(&fd, groups).map_err(|errno| WatchError::Subscribe(errno.into()))?;
        Ok(Self { fd, _port: port })
    }

    /// Shows every message that has come; tells whether some were lost.
    fn read(&self, mut visit: impl FnMut(&Message<'_>)) -> bool {
        let mut room = vec![0; 64 << 10];
        loop {
            match rustix::net::recvfrom(&self.fd, &mut *room, RecvFlags::DONTWAIT) {
                Ok((length, _, sender)) => {
                    let from_kernel = sender
                        .and_then(|address| SocketAddrNetlink::try_from(address).ok())
                        .is_some_and(|address| address.pid() == 0);
                    let mut rest = room.get(..length).unwrap_or_default();
                    while from_kernel && let Some((message, more)) = Message::split(rest) {
                        visit(&message);
                        rest = more;
                    }
                }
                Err(Errno::INTR) => {}
                Err(Errno::AGAIN) => return false,
                Err(_) => return true,
            }
        }
    }
}

struct Watch {
    rules: Subscription,
    links: Subscription,
    /// For names of links that a notification only numbers.
    questions: Socket,
    table: String,
    own_links: BTreeSet<String>,
    bridges: Arc<Mutex<BTreeSet<String>>>,
    stop: Arc<OwnedFd>,
}

/// Why the thread goes on.
enum Wake {
    Stop,
    Event,
    Quiet,
}

impl Watch {
    fn run(mut self, on: &dyn Fn(Disturbance)) {
        loop {
            if let Wake::Stop = self.wait(None) {
                return;
            }
            let mut found = BTreeSet::new();
            self.collect(&mut found);
            let begin = Instant::now();
            while !found.is_empty() && begin.elapsed() < LONGEST {
                match self.wait(Some(QUIET)) {
                    Wake::Event => self.collect(&mut found),
                    Wake::Quiet => break,
                    Wake::Stop => return,
                }
            }
            found.into_iter().for_each(on);
        }
    }

    fn wait(&self, patience: Option<Duration>) -> Wake {
        let mut waiting =
            [&*self.stop, &self.rules.fd, &self.links.fd].map(|fd| PollFd::new(fd, PollFlags::IN));
        let patience = patience.and_then(|time| Timespec::try_from(time).ok());
        match poll(&mut waiting, patience.as_ref()) {
            Ok(0) => Wake::Quiet,
            Ok(_) if !waiting[0].revents().is_empty() => Wake::Stop,
            Ok(_) | Err(Errno::INTR) => Wake::Event,
            Err(error) => {
                tracing::error!(%error, "cannot wait for changes of rules and links any more");
                Wake::Stop
            }
        }
    }

    fn collect(&mut self, found: &mut BTreeSet<Disturbance>) {
        let mut rules = false;
        let mut lost = self.rules.read(|message| {
            rules |= is_rule_of(message, &self.table);
        });
        let mut names = BTreeSet::new();
        let mut numbers = BTreeSet::new();
        lost |= self.links.read(|message| {
            names.extend(link_gone(message));
            numbers.extend(address_gone(message));
        });
        for number in numbers {
            // one that cannot be found is gone, which is told as well
            if let Ok(Some(link)) = route::link_by_index(&mut self.questions, number) {
                names.insert(link.name);
            }
        }
        if rules || lost || !names.is_disjoint(&self.own_links) {
            found.insert(Disturbance::Rules);
        }
        let bridges = self.bridges.lock().unwrap_or_else(PoisonError::into_inner);
        let disturbed = bridges.iter().filter(|name| lost || names.contains(*name));
        found.extend(disturbed.cloned().map(Disturbance::Bridge));
    }
}

/// Tells whether somebody else changed something of the tables of this name.
fn is_rule_of(message: &Message<'_>, table: &str) -> bool {
    let [subsystem, number] = [message.kind >> 8, message.kind & 0xff];
    subsystem == SUBSYSTEM_NFTABLES
        && number != NFT_MSG_NEWGEN
        && find(message.attributes(4), TABLE).is_some_and(|name| text(name) == table)
        && !is_own(message.asker)
}

/// Names a link that somebody else deleted or took down.
fn link_gone(message: &Message<'_>) -> Option<String> {
    let flags = integer_ne(message.payload.get(8..12)?)?;
    let family = *message.payload.first()?;
    let gone = match message.kind {
        RTM_DELLINK => family == AF_UNSPEC,
        RTM_NEWLINK => family == AF_UNSPEC && flags & IFF_UP == 0,
        _ => false,
    };
    if !gone || is_own(message.asker) {
        return None;
    }
    Some(text(find(message.attributes(16), IFLA_IFNAME)?))
}

/// Numbers a link that somebody else took an address from.
fn address_gone(message: &Message<'_>) -> Option<u32> {
    if message.kind != RTM_DELADDR || is_own(message.asker) {
        return None;
    }
    u32::try_from(integer_ne(message.payload.get(4..8)?)?).ok()
}
