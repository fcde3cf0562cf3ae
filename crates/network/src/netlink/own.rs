//! Which changes of the kernel's tables are our own.
//!
//! A notification names the netlink socket that asked for the change, by a number that is unique in
//! its namespace at any time.

use std::collections::{BTreeMap, VecDeque};
use std::os::fd::AsFd;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use rustix::net::netlink::SocketAddrNetlink;

/// A notification is read at most so long after its socket was closed.
const LATENCY: Duration = Duration::from_secs(10);

static OWN: Mutex<Own> = Mutex::new(Own {
    open: BTreeMap::new(),
    closed: VecDeque::new(),
});

#[derive(Debug)]
struct Own {
    /// Sockets of different namespaces may have the same number.
    open: BTreeMap<u32, u32>,
    closed: VecDeque<(Instant, u32)>,
}

/// The number of one of our sockets.
#[derive(Debug)]
pub(crate) struct Port(u32);

impl Port {
    /// Has the kernel number the socket, and subscribe it to these groups of notifications.
    pub(crate) fn bind(socket: impl AsFd, groups: u32) -> rustix::io::Result<Self> {
        rustix::net::bind(&socket, &SocketAddrNetlink::new(0, groups))?;
        let name = rustix::net::getsockname(&socket)?;
        let number = SocketAddrNetlink::try_from(name)?.pid();
        *lock().open.entry(number).or_default() += 1;
        Ok(Self(number))
    }
}

impl Drop for Port {
    fn drop(&mut self) {
        let mut own = lock();
        own.expire();
        own.closed.push_back((Instant::now(), self.0));
        if let Some(count) = own.open.get_mut(&self.0) {
            *count -= 1;
            if *count == 0 {
                own.open.remove(&self.0);
            }
        }
    }
}

impl Own {
    fn expire(&mut self) {
        while let Some((since, _)) = self.closed.front()
            && since.elapsed() > LATENCY
        {
            self.closed.pop_front();
        }
    }
}

/// Tells whether the number is, or was just now, one of ours.
pub(crate) fn is_own(number: u32) -> bool {
    let mut own = lock();
    own.expire();
    own.open.contains_key(&number) || own.closed.iter().any(|(_, closed)| *closed == number)
}

fn lock() -> MutexGuard<'static, Own> {
    OWN.lock().unwrap_or_else(PoisonError::into_inner)
}
