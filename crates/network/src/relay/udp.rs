//! Datagrams: a table of who asked, each with a socket of its own towards the container, which
//! tells the container's answers apart.

use std::collections::{BTreeMap, HashMap};
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::os::fd::{BorrowedFd, OwnedFd};
use std::time::Duration;

use rustix::io::Errno;
use rustix::net::{
    AddressFamily, RecvFlags, SendFlags, SocketFlags, SocketType, ipproto, recv, socket_with,
};
use sys::datagram::Local;
use tokio::time::{Instant, sleep_until};

use super::limits::Limits;
use super::{Listener, TURN, watch};

/// The largest datagram.
const DATAGRAM: usize = 65535;
/// Sessions are numbered from here, listeners from zero.
const FIRST_SESSION: u64 = 1 << 32;

/// Who asks whom.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
struct Key {
    listener: u64,
    client: SocketAddr,
    /// The host's address that was asked, from which the answers must come.
    local: Option<IpAddr>,
}

#[derive(Debug)]
struct Session {
    key: Key,
    /// Connected to the container.
    socket: OwnedFd,
    local: Option<Local>,
    last_used: Instant,
    answered: bool,
}

/// The clients of one container.
#[derive(Debug)]
pub(super) struct Sessions {
    ids: HashMap<Key, u64>,
    sessions: HashMap<u64, Session>,
    next: u64,
    next_check: Instant,
    limits: Limits,
    /// Allocated only while there are sessions.
    buffer: Vec<u8>,
    warned: bool,
}

impl Sessions {
    pub(super) fn new(limits: &Limits) -> Self {
        Self {
            ids: HashMap::new(),
            sessions: HashMap::new(),
            next: FIRST_SESSION,
            next_check: Instant::now(),
            limits: limits.clone(),
            buffer: Vec::new(),
            warned: false,
        }
    }

    pub(super) fn is_empty(&self) -> bool {
        self.sessions.is_empty()
    }

    /// Waits until it is time to look for sessions to end.
    pub(super) async fn grow_old(&self) {
        sleep_until(self.next_check).await;
    }

    /// Ends sessions that were idle for too long.
    pub(super) fn end_idle(&mut self) {
        let now = Instant::now();
        let limits = &self.limits;
        self.sessions
            .retain(|_, session| now < session.last_used + session.patience(limits));
        let sessions = &self.sessions;
        self.ids.retain(|_, id| sessions.contains_key(id));
        if self.is_empty() {
            self.buffer = Vec::new();
            self.ids.shrink_to_fit();
            self.sessions.shrink_to_fit();
            self.warned = false;
        }
        self.next_check = now + self.interval();
    }

    /// Passes on what clients have sent.
    pub(super) fn forward(&mut self, epoll: BorrowedFd<'_>, id: u64, listener: &Listener) {
        let mut buffer = self.take_buffer();
        let now = Instant::now();
        for _ in 0..TURN {
            let Ok(got) = sys::datagram::receive(&listener.socket, &mut buffer) else {
                break;
            };
            // nobody can answer from an address of many
            let local = got.to.filter(|to| !to.address.is_multicast());
            let key = Key {
                listener: id,
                client: got.from,
                local: local.map(|local| local.address),
            };
            match self.find_or_start(epoll, key, local, listener.container, now) {
                Ok(Some(session)) => session.send(buffer.get(..got.length).unwrap_or_default()),
                Ok(None) => {}
                Err(error) => tracing::debug!(%error, client = %got.from, "lost a datagram"),
            }
        }
        self.buffer = buffer;
    }

    /// Passes on what the container has sent to one client.
    pub(super) fn answer(&mut self, id: u64, listeners: &BTreeMap<u64, Listener>) {
        let mut buffer = self.take_buffer();
        if let Some(session) = self.sessions.get_mut(&id)
            && let Some(listener) = listeners.get(&session.key.listener)
        {
            session.answer(listener, &mut buffer);
        }
        self.buffer = buffer;
    }

    fn find_or_start(
        &mut self,
        epoll: BorrowedFd<'_>,
        key: Key,
        local: Option<Local>,
        container: SocketAddr,
        now: Instant,
    ) -> io::Result<Option<&mut Session>> {
        let id = match self.ids.get(&key).copied() {
            Some(id) => id,
            None if !self.make_room() => return Ok(None),
            None => {
                if self.is_empty() {
                    self.next_check = now + self.interval();
                }
                let id = self.next;
                let socket = connect(container)?;
                watch(epoll, &socket, id)?;
                self.next += 1;
                self.ids.insert(key, id);
                let session = Session {
                    key,
                    socket,
                    local,
                    last_used: now,
                    answered: false,
                };
                self.sessions.insert(id, session);
                id
            }
        };
        let mut session = self.sessions.get_mut(&id);
        if let Some(session) = &mut session {
            session.last_used = now;
        }
        Ok(session)
    }

    /// Ends the oldest session that was never answered when there are too many: a flood of senders
    /// that do not exist cannot push out those who speak with the container.
    fn make_room(&mut self) -> bool {
        if self.sessions.len() < self.limits.sessions {
            return true;
        }
        if !self.warned {
            self.warned = true;
            let limit = self.limits.sessions;
            tracing::warn!(limit, "too many clients of relayed datagrams");
        }
        let unanswered = self.sessions.iter().filter(|(_, s)| !s.answered);
        let oldest = unanswered.min_by_key(|(_, session)| session.last_used);
        let Some(id) = oldest.map(|(id, _)| *id) else {
            return false;
        };
        if let Some(session) = self.sessions.remove(&id) {
            self.ids.remove(&session.key);
        }
        true
    }

    /// Returns how often to look for idle sessions.
    fn interval(&self) -> Duration {
        self.limits.unanswered.min(self.limits.answered) / 4
    }

    fn take_buffer(&mut self) -> Vec<u8> {
        let mut buffer = std::mem::take(&mut self.buffer);
        buffer.resize(DATAGRAM, 0);
        buffer
    }
}

impl Session {
    fn patience(&self, limits: &Limits) -> Duration {
        if self.answered {
            limits.answered
        } else {
            limits.unanswered
        }
    }

    fn send(&mut self, data: &[u8]) {
        let send = || rustix::net::send(&self.socket, data, SendFlags::NOSIGNAL);
        // the kernel reports here that the port was closed for an earlier datagram
        let sent = match send() {
            Err(Errno::CONNREFUSED) => send(),
            other => other,
        };
        if let Err(errno) = sent {
            tracing::debug!(client = %self.key.client, %errno, "lost a datagram");
        }
    }

    fn answer(&mut self, listener: &Listener, buffer: &mut [u8]) {
        for _ in 0..TURN {
            let length = match recv(&self.socket, &mut *buffer, RecvFlags::empty()) {
                Ok((length, _)) => length,
                // the container's port is closed: it may open before the client's patience ends
                Err(Errno::CONNREFUSED) => continue,
                Err(_) => break,
            };
            self.answered = true;
            self.last_used = Instant::now();
            let data = buffer.get(..length).unwrap_or_default();
            let client = self.key.client;
            if let Err(error) = sys::datagram::send(&listener.socket, data, client, self.local) {
                tracing::debug!(%client, %error, "lost a datagram");
            }
        }
    }
}

fn connect(container: SocketAddr) -> io::Result<OwnedFd> {
    let family = if container.is_ipv4() {
        AddressFamily::INET
    } else {
        AddressFamily::INET6
    };
    let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
    let socket = socket_with(family, SocketType::DGRAM, flags, Some(ipproto::UDP))?;
    rustix::net::connect(&socket, &container)?;
    Ok(socket)
}
