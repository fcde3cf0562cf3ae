//! How much a store may take: a cap that no writer passes.

use std::io;
use std::sync::OnceLock;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

/// From this many tenths of the cap on, the store is crowded.
const CROWDED: u64 = 9;

/// A writer waits so long for room that can be made.
const PATIENCE: Duration = Duration::from_secs(20);
/// So long between two looks.
const PAUSE: Duration = Duration::from_millis(20);

/// The cap, what is taken of it, and who wants to know when little is left.
#[derive(Default)]
pub(super) struct Room {
    /// 0 is no cap.
    cap: AtomicU64,
    /// What whoever measures the store finds.
    taken: AtomicU64,
    /// What is being written, and would not be found.
    coming: AtomicU64,
    /// How often the store was measured.
    measured: AtomicU64,
    crowded: OnceLock<Box<dyn Fn() + Send + Sync>>,
}

impl std::fmt::Debug for Room {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Room")
            .field("cap", &self.cap)
            .field("taken", &self.taken)
            .field("coming", &self.coming)
            .finish_non_exhaustive()
    }
}

impl Room {
    pub(super) fn set(&self, cap: Option<u64>, taken: u64) {
        self.cap.store(cap.unwrap_or(0), Ordering::Relaxed);
        self.taken.store(taken, Ordering::Relaxed);
        self.measured.fetch_add(1, Ordering::Relaxed);
    }

    /// What is being written.
    pub(super) fn coming(&self) -> u64 {
        self.coming.load(Ordering::Relaxed)
    }

    /// Has room made, and waits until there is as much as is taken, or nobody can make more.
    fn wait_for(&self, cap: u64) -> bool {
        let Some(tell) = self.crowded.get() else {
            return false;
        };
        let begun = Instant::now();
        // the measurement that goes on may not have seen what is wanted
        let enough = self.measured.load(Ordering::Relaxed) + 2;
        loop {
            let all = self.taken.load(Ordering::Relaxed) + self.coming();
            if all <= cap {
                return true;
            }
            let measured = self.measured.load(Ordering::Relaxed);
            if measured >= enough || begun.elapsed() > PATIENCE {
                return false;
            }
            tell();
            std::thread::sleep(PAUSE);
        }
    }

    pub(super) fn tell(&self, crowded: Box<dyn Fn() + Send + Sync>) {
        // whoever comes first stays: there is one engine a store
        let _first = self.crowded.set(crowded);
    }

    /// Takes room for bytes that are to be written.
    pub(super) fn take(&self, bytes: u64) -> io::Result<()> {
        let coming = self.coming.fetch_add(bytes, Ordering::Relaxed);
        let cap = self.cap.load(Ordering::Relaxed);
        if cap == 0 {
            return Ok(());
        }
        let before = coming.saturating_add(self.taken.load(Ordering::Relaxed));
        let after = before.saturating_add(bytes);
        let line = cap / 10 * CROWDED;
        if after > line
            && before <= line
            && let Some(tell) = self.crowded.get()
        {
            tell();
        }
        if after > cap && !self.wait_for(cap) {
            self.give(bytes);
            let text = format!("no space left in the store: it may take {cap} bytes");
            return Err(io::Error::new(io::ErrorKind::StorageFull, text));
        }
        Ok(())
    }

    /// Gives back what was taken and is not written, or is no more.
    pub(super) fn give(&self, bytes: u64) {
        subtract(&self.coming, bytes);
    }

    /// What was taken has become a part of the store.
    pub(super) fn settle(&self, bytes: u64) {
        self.taken.fetch_add(bytes, Ordering::Relaxed);
        subtract(&self.coming, bytes);
    }

    /// A part of the store is gone.
    pub(super) fn free(&self, bytes: u64) {
        subtract(&self.taken, bytes);
    }
}

fn subtract(from: &AtomicU64, bytes: u64) {
    let less = |value: u64| Some(value.saturating_sub(bytes));
    let _never_refused = from.fetch_update(Ordering::Relaxed, Ordering::Relaxed, less);
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::Arc;
    use std::sync::atomic::AtomicU32;

    #[test]
    fn nobody_passes_the_cap() {
        let room = Arc::new(Room::default());
        room.take(1 << 40).unwrap();
        room.give(1 << 40);
        room.set(Some(100), 50);
        assert!(room.take(51).is_err());
        // whoever is told finds that nothing can be done, until there is less
        let (told, less) = (Arc::new(AtomicU32::new(0)), Arc::new(AtomicU32::new(50)));
        let (count, own, taken) = (Arc::clone(&told), Arc::downgrade(&room), Arc::clone(&less));
        room.tell(Box::new(move || {
            count.fetch_add(1, Ordering::Relaxed);
            let taken = taken.load(Ordering::Relaxed).into();
            own.upgrade().unwrap().set(Some(100), taken);
        }));
        room.take(40).unwrap();
        assert_eq!(told.load(Ordering::Relaxed), 0);
        room.take(10).unwrap();
        assert_eq!(told.load(Ordering::Relaxed), 1);
        let error = room.take(1).unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::StorageFull);
        less.store(20, Ordering::Relaxed);
        room.take(30).unwrap();
        // 20 are taken, and 80 are coming
        assert_eq!(room.coming(), 80);
        assert!(room.take(1).is_err());
        room.give(20);
        room.settle(30);
        room.free(10);
        assert_eq!(room.coming(), 30);
        room.take(30).unwrap();
        room.set(None, 100);
        room.take(1).unwrap();
    }
}
