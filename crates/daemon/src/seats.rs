//! Places for connections: a client that is slow or idle gives way to one that asks.
//!
//! A connection without a request costs a descriptor and some memory, and whoever may connect can
//! open thousands. So those that wait for their next request are bounded in time and in number; when
//! one more comes, the one that has waited longest goes. A connection that is being answered, or
//! that became a stream, is in nobody's way and is never ended here.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use tokio::sync::Notify;

/// How many connections may wait for a request.
const WAITING: usize = 1024;
/// How long a connection may stand before its first request is read.
const FIRST: Duration = Duration::from_secs(30);
/// How long a connection is kept for the next request, as dockerd does for its heads.
const NEXT: Duration = Duration::from_secs(300);

/// Bounds of connections that wait.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Limits {
    pub(crate) waiting: usize,
    pub(crate) first: Duration,
    pub(crate) next: Duration,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            waiting: WAITING,
            first: FIRST,
            next: NEXT,
        }
    }
}

/// All places.
#[derive(Debug)]
pub(crate) struct Seats {
    limits: Limits,
    table: Mutex<Table>,
}

/// Who waits, by the ticket that each took when it began to wait: the first has waited longest.
#[derive(Debug, Default)]
struct Table {
    next: u64,
    taken: usize,
    waiting: BTreeMap<u64, Arc<Notify>>,
}

/// One connection's place.
#[derive(Debug)]
pub(crate) struct Seat {
    seats: Arc<Seats>,
    leave: Arc<Notify>,
    state: Mutex<State>,
}

#[derive(Debug)]
struct State {
    /// Requests whose answer is on its way; HTTP/2 has several.
    busy: usize,
    ticket: u64,
    since: Instant,
    limit: Duration,
}

/// A request on a connection; it ends with its answer.
#[derive(Debug)]
pub(crate) struct Busy(Arc<Seat>);

impl Seats {
    pub(crate) fn new(limits: Limits) -> Arc<Self> {
        Arc::new(Self {
            limits,
            table: Mutex::default(),
        })
    }

    fn table(&self) -> MutexGuard<'_, Table> {
        self.table.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// How many connections there are.
    pub(crate) fn taken(&self) -> usize {
        self.table().taken
    }

    /// Takes a place for a new connection.
    pub(crate) fn take(self: &Arc<Self>) -> Arc<Seat> {
        let leave = Arc::new(Notify::new());
        let ticket = self.wait(&leave);
        self.table().taken += 1;
        Arc::new(Seat {
            seats: Arc::clone(self),
            leave,
            state: Mutex::new(State {
                busy: 0,
                ticket,
                since: Instant::now(),
                limit: self.limits.first,
            }),
        })
    }

    /// Adds one that waits; the one that has waited longest leaves when they are too many.
    fn wait(&self, leave: &Arc<Notify>) -> u64 {
        let mut table = self.table();
        let ticket = table.next;
        table.next += 1;
        table.waiting.insert(ticket, Arc::clone(leave));
        if table.waiting.len() > self.limits.waiting
            && let Some((_, oldest)) = table.waiting.pop_first()
        {
            oldest.notify_one();
        }
        ticket
    }

    /// Ends those that have waited longest, as the host has no descriptors left.
    pub(crate) fn make_room(&self, count: usize) {
        let mut table = self.table();
        for _ in 0..count {
            if let Some((_, oldest)) = table.waiting.pop_first() {
                oldest.notify_one();
            }
        }
    }
}

impl Seat {
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Notes a request.
    pub(crate) fn request(self: &Arc<Self>) -> Busy {
        let mut state = self.state();
        state.busy += 1;
        if state.busy == 1 {
            self.seats.table().waiting.remove(&state.ticket);
        }
        drop(state);
        Busy(Arc::clone(self))
    }

    fn answered(&self) {
        let mut state = self.state();
        state.busy -= 1;
        if state.busy == 0 {
            state.since = Instant::now();
            state.limit = self.seats.limits.next;
            state.ticket = self.seats.wait(&self.leave);
        }
    }

    /// How long the connection may go on waiting.
    fn left(&self) -> Duration {
        let state = self.state();
        match state.busy {
            0 => state.limit.saturating_sub(state.since.elapsed()),
            _ => self.seats.limits.next,
        }
    }

    /// Returns when the connection has to end.
    pub(crate) async fn lost(&self) {
        loop {
            let left = self.left();
            if left.is_zero() {
                return;
            }
            tokio::select! {
                () = self.leave.notified() => {
                    // a request may have come in the same instant
                    if self.state().busy == 0 {
                        return;
                    }
                }
                () = tokio::time::sleep(left) => {}
            }
        }
    }
}

impl Drop for Seat {
    fn drop(&mut self) {
        let ticket = self.state().ticket;
        let mut table = self.seats.table();
        table.waiting.remove(&ticket);
        table.taken -= 1;
    }
}

impl Drop for Busy {
    fn drop(&mut self) {
        self.0.answered();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn seats(waiting: usize) -> Arc<Seats> {
        Seats::new(Limits {
            waiting,
            first: Duration::from_millis(40),
            next: Duration::from_millis(80),
        })
    }

    async fn is_lost(seat: &Seat, within: u64) -> bool {
        let within = Duration::from_millis(within);
        tokio::time::timeout(within, seat.lost()).await.is_ok()
    }

    #[tokio::test]
    async fn the_oldest_gives_way() {
        let seats = seats(2);
        let (first, second) = (seats.take(), seats.take());
        let asked = first.request();
        let third = seats.take();
        assert!(!is_lost(&first, 1).await && !is_lost(&second, 1).await);
        let fourth = seats.take();
        assert!(is_lost(&second, 10).await, "it has waited longest");
        assert!(!is_lost(&third, 1).await && !is_lost(&first, 1).await);
        drop(asked);
        assert!(is_lost(&third, 10).await && !is_lost(&first, 1).await);
        assert_eq!(seats.taken(), 4);
        drop((first, second, third, fourth));
        assert_eq!(seats.taken(), 0);
        assert!(seats.table().waiting.is_empty());
    }

    #[tokio::test]
    async fn time_is_bounded() {
        let seats = seats(9);
        let (silent, busy, idle) = (seats.take(), seats.take(), seats.take());
        let asked = busy.request();
        drop(idle.request());
        assert!(is_lost(&silent, 60).await);
        assert!(!is_lost(&idle, 10).await && is_lost(&idle, 100).await);
        assert!(!is_lost(&busy, 100).await, "it is being answered");
        drop(asked);
        seats.make_room(9);
        assert!(is_lost(&busy, 10).await);
    }
}
