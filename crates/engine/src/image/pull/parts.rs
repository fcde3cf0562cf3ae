//! A blob over one connection, or over several where one alone is slow.
//!
//! A registry on the same machine or network fills the disk over one connection, and more would
//! only cost time. So a download begins with one, and others join it when it turns out that it
//! would take long: each takes half of the largest part that is left.

use std::collections::VecDeque;
use std::ops::Range;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use distribution::{RegistryError, Repository};
use futures_util::StreamExt as _;
use futures_util::stream::FuturesUnordered;
use oci::image::Descriptor;
use tokio::sync::mpsc;

use super::blob::{Blob, Piece};

/// How often it is looked whether another connection is worth it.
const LOOK: Duration = Duration::from_secs(1);
/// A download that ends within this time is left alone.
const PATIENCE: Duration = Duration::from_secs(3);
/// Connections for one blob at most.
const CONNECTIONS_MAX: usize = 4;
/// The least that is worth a connection of its own, bytes.
const LEAST: u64 = 4 << 20;

/// A part that is on its way.
#[derive(Debug)]
struct Part {
    next: u64,
    end: u64,
}

/// What is left of a blob.
#[derive(Debug, Default)]
struct Plan {
    waiting: VecDeque<Range<u64>>,
    running: Vec<Arc<Mutex<Part>>>,
}

impl Plan {
    /// The next part to fetch: one that nobody fetches, or half of the largest one.
    fn next(&mut self) -> Option<Arc<Mutex<Part>>> {
        let range = match self.waiting.pop_front() {
            Some(range) => range,
            None => self.split()?,
        };
        let part = Arc::new(Mutex::new(Part {
            next: range.start,
            end: range.end,
        }));
        self.running.push(Arc::clone(&part));
        Some(part)
    }

    fn split(&self) -> Option<Range<u64>> {
        let left = |part: &Arc<Mutex<Part>>| {
            let part = lock(part);
            part.end.saturating_sub(part.next)
        };
        let largest = self.running.iter().max_by_key(|part| left(part))?;
        let mut part = lock(largest);
        let rest = part.end.saturating_sub(part.next);
        if rest < 2 * LEAST {
            return None;
        }
        let (middle, end) = (part.next + rest / 2, part.end);
        part.end = middle;
        Some(middle..end)
    }

    /// Takes a part off; what is left of it waits for another connection.
    fn leave(&mut self, part: &Arc<Mutex<Part>>) {
        self.running.retain(|other| !Arc::ptr_eq(other, part));
        let part = lock(part);
        if part.next < part.end {
            self.waiting.push_front(part.next..part.end);
        }
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Why a connection ended.
enum End {
    /// Nothing was left for it.
    Done,
    /// A further one that failed: the others go on without it.
    Useless,
    Failed(RegistryError),
}

/// A download of the missing parts of a blob.
pub(super) struct Parts<'a> {
    pub(super) repository: &'a Repository,
    pub(super) blob: &'a Descriptor,
    pub(super) pieces: mpsc::Sender<Piece>,
    pub(super) state: &'a Blob,
    plan: Mutex<Plan>,
    ranges: AtomicBool,
}

impl<'a> Parts<'a> {
    pub(super) fn new(
        repository: &'a Repository,
        blob: &'a Descriptor,
        gaps: Vec<Range<u64>>,
        pieces: mpsc::Sender<Piece>,
        state: &'a Blob,
    ) -> Self {
        let plan = Plan {
            waiting: gaps.into(),
            running: Vec::new(),
        };
        Self {
            repository,
            blob,
            pieces,
            state,
            plan: Mutex::new(plan),
            ranges: AtomicBool::new(false),
        }
    }

    /// Fetches all of them, or ends when nobody takes them any more.
    pub(super) async fn fetch(self) -> Result<(), RegistryError> {
        let mut running = FuturesUnordered::new();
        running.push(self.connection(true));
        let mut looks = tokio::time::interval(LOOK);
        looks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        looks.reset();
        let mut gauge = Gauge::new(self.state.received());
        loop {
            tokio::select! {
                end = running.next() => match end {
                    Some(End::Failed(error)) => return Err(error),
                    Some(End::Useless) => gauge.enough(),
                    Some(End::Done) => {}
                    None if self.pieces.is_closed() || lock(&self.plan).waiting.is_empty() => return Ok(()),
                    // what a failed one has left
                    None => running.push(self.connection(true)),
                },
                _ = looks.tick() => {
                    let slow = gauge.look(self.state.received(), self.blob.size);
                    let more = running.len() < CONNECTIONS_MAX && self.repository.has_place();
                    if slow && more && self.ranges.load(Ordering::Relaxed) {
                        gauge.added();
                        running.push(self.connection(false));
                    }
                }
            }
        }
    }

    /// Fetches parts over one connection after the other until none is left.
    async fn connection(&self, first: bool) -> End {
        loop {
            let Some(part) = lock(&self.plan).next() else {
                return End::Done;
            };
            let result = self.part(&part, first).await;
            lock(&self.plan).leave(&part);
            match result {
                Ok(true) => {}
                Ok(false) => return if first { End::Done } else { End::Useless },
                Err(error) if first => return End::Failed(error),
                Err(error) => {
                    tracing::debug!(error = error.message(), "a further connection has failed");
                    return End::Useless;
                }
            }
        }
    }

    /// Fetches one part; false where the connection is of no more use.
    async fn part(&self, part: &Mutex<Part>, first: bool) -> Result<bool, RegistryError> {
        let range = {
            let part = lock(part);
            part.next..part.end
        };
        let mut stream = self.repository.fetch_blob_part(self.blob, range).await?;
        if !first && !stream.is_part() {
            // it would send again what is there
            return Ok(false);
        }
        self.ranges.store(stream.knows_ranges(), Ordering::Relaxed);
        loop {
            stream.shorten(lock(part).end);
            let at = stream.received();
            let Some(bytes) = stream.chunk().await? else {
                return Ok(true);
            };
            lock(part).next = stream.received();
            // a writer that has ended says why
            if self.pieces.send((at, bytes)).await.is_err() {
                return Ok(false);
            }
        }
    }
}

/// Watches how fast a download is.
struct Gauge {
    received: u64,
    /// Bytes of the last look, and before the last connection was added.
    rate: u64,
    before: Option<u64>,
    enough: bool,
}

impl Gauge {
    fn new(received: u64) -> Self {
        Self {
            received,
            rate: 0,
            before: None,
            enough: false,
        }
    }

    /// Whether another connection may be worth it.
    fn look(&mut self, received: u64, size: u64) -> bool {
        self.rate = received.saturating_sub(self.received);
        self.received = received;
        let rest = size.saturating_sub(received);
        // one that brought less than a tenth more was the last one
        if let Some(before) = self.before.take()
            && self.rate < before + before / 10
        {
            self.enough = true;
        }
        let soon = self.rate.saturating_mul(PATIENCE.as_secs());
        !self.enough && self.rate > 0 && rest > soon && rest >= 2 * LEAST
    }

    fn added(&mut self) {
        self.before = Some(self.rate);
    }

    fn enough(&mut self) {
        self.enough = true;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A part's bounds.
    fn bounds(part: &Mutex<Part>) -> (u64, u64) {
        let part = lock(part);
        (part.next, part.end)
    }

    #[test]
    fn the_largest_part_is_halved() {
        let mut plan = Plan {
            waiting: VecDeque::from([0..10, 100..100 + 64 * LEAST]),
            running: Vec::new(),
        };
        let small = plan.next().unwrap();
        assert_eq!(bounds(&small), (0, 10));
        let large = plan.next().unwrap();
        let half = plan.next().unwrap();
        assert_eq!(bounds(&large), (100, 100 + 32 * LEAST));
        assert_eq!(bounds(&half), (100 + 32 * LEAST, 100 + 64 * LEAST));
        // what a connection leaves is fetched by another
        lock(&half).next += 5;
        plan.leave(&half);
        let rest = plan.next().unwrap();
        assert_eq!(bounds(&rest), (105 + 32 * LEAST, 100 + 64 * LEAST));
        for part in [&small, &large, &rest] {
            let mut one = lock(part);
            one.next = one.end.saturating_sub(LEAST);
        }
        assert!(plan.next().is_none());
    }

    #[test]
    fn only_slow_downloads_get_more_connections() {
        let size = 1 << 30;
        let mut fast = Gauge::new(0);
        assert!(!fast.look(size / 2, size));
        let mut slow = Gauge::new(0);
        assert!(!slow.look(0, size));
        assert!(slow.look(1 << 20, size));
        slow.added();
        // twice as fast: one more; no faster: that was the last
        assert!(slow.look(3 << 20, size));
        slow.added();
        assert!(!slow.look(5 << 20, size));
        assert!(!slow.look(6 << 20, size));
    }
}
