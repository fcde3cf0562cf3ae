//! The thread that deletes flows.
//!
//! The kernel walks its whole table to find a port's flows, which takes 10 ms and more: too long
//! to wait for in a container's start, where new flows go right already.

use std::sync::mpsc::{Receiver, Sender, channel};
use std::sync::{Mutex, PoisonError};
use std::thread::JoinHandle;

use sys::netns::Family;

use super::{Change, Reason, forget};
use crate::netlink::{NetlinkError, Socket};
use crate::ports::{PortMapping, Protocol};

/// Deletes flows in the background; the thread starts with the first UDP port.
#[derive(Debug)]
pub(crate) struct Forgetter {
    state: Mutex<State>,
}

#[derive(Debug)]
enum State {
    Idle(Socket),
    Running {
        orders: Sender<Order>,
        thread: JoinHandle<()>,
    },
    Stopped,
}

#[derive(Debug)]
enum Order {
    Forget(Vec<Change>),
    /// Answer when everything before is done.
    Report(Sender<()>),
}

impl Forgetter {
    /// Opens the socket in the calling thread's namespace.
    pub(crate) fn open() -> Result<Self, NetlinkError> {
        let socket = Socket::open(Family::Netfilter)?;
        Ok(Self {
            state: Mutex::new(State::Idle(socket)),
        })
    }

    /// Has the UDP flows deleted that these ports' change made wrong.
    pub(crate) fn forget(&self, ports: &[PortMapping], reason: Reason) {
        let udp = ports.iter().filter(|port| port.protocol == Protocol::Udp);
        let changes: Vec<_> = udp
            .map(|port| Change {
                port: port.clone(),
                reason,
            })
            .collect();
        if changes.is_empty() {
            return;
        }
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        state.start();
        state.order(Order::Forget(changes));
    }

    /// Waits until all flows are deleted that are to be.
    pub(crate) fn settle(&self) {
        let (done, wait) = channel();
        self.state
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .order(Order::Report(done));
        // an error means that there is no thread, and so nothing to wait for
        let _gone = wait.recv();
    }
}

impl State {
    fn start(&mut self) {
        match std::mem::replace(self, Self::Stopped) {
            Self::Idle(socket) => {
                let (orders, received) = channel();
                let work = move || run(socket, &received);
                match std::thread::Builder::new()
                    .name("conntrack".to_owned())
                    .spawn(work)
                {
                    Ok(thread) => *self = Self::Running { orders, thread },
                    Err(error) => tracing::warn!(%error, "no thread to end UDP flows with"),
                }
            }
            other => *self = other,
        }
    }

    fn order(&self, order: Order) {
        if let Self::Running { orders, .. } = self
            && orders.send(order).is_err()
        {
            tracing::error!("the thread that ends UDP flows had panicked");
        }
    }
}

impl Drop for Forgetter {
    fn drop(&mut self) {
        let state = self.state.get_mut().unwrap_or_else(PoisonError::into_inner);
        if let State::Running { orders, thread } = std::mem::replace(state, State::Stopped) {
            drop(orders);
            if thread.join().is_err() {
                tracing::error!("the thread that ends UDP flows had panicked");
            }
        }
    }
}

/// Carries orders out, all that have come together with one look at the kernel's table.
fn run(mut socket: Socket, orders: &Receiver<Order>) {
    while let Ok(first) = orders.recv() {
        let mut changes = Vec::new();
        let mut reports = Vec::new();
        for order in std::iter::once(first).chain(orders.try_iter()) {
            match order {
                Order::Forget(more) => changes.extend(more),
                Order::Report(done) => reports.push(done),
            }
        }
        if !changes.is_empty() {
            forget(&mut socket, &changes);
        }
        // dropping tells as well as sending, and cannot fail
        drop(reports);
    }
}
