//! How much a store may take: a cap that no writer passes.

use std::io;
use std::sync::OnceLock;
use std::sync::atomic::{AtomicU64, Ordering};

/// From this many tenths of the cap on, the store is crowded.
const CROWDED: u64 = 9;

/// The cap, what is taken of it, and who wants to know when little is left.
#[derive(Default)]
pub(super) struct Room {
    /// 0 is no cap.
    cap: AtomicU64,
    taken: AtomicU64,
    crowded: OnceLock<Box<dyn Fn() + Send + Sync>>,
}

impl std::fmt::Debug for Room {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let (cap, taken) = (&self.cap, &self.taken);
        f.debug_struct("Room")
            .field("cap", cap)
            .field("taken", taken)
            .finish_non_exhaustive()
    }
}

impl Room {
    pub(super) fn set(&self, cap: Option<u64>, taken: u64) {
        self.cap.store(cap.unwrap_or(0), Ordering::Relaxed);
        self.taken.store(taken, Ordering::Relaxed);
    }

    pub(super) fn tell(&self, crowded: Box<dyn Fn() + Send + Sync>) {
        // whoever comes first stays: there is one engine a store
        let _first = self.crowded.set(crowded);
    }

    /// Takes room for bytes that are to be written.
    pub(super) fn take(&self, bytes: u64) -> io::Result<()> {
        let before = self.taken.fetch_add(bytes, Ordering::Relaxed);
        let cap = self.cap.load(Ordering::Relaxed);
        if cap == 0 {
            return Ok(());
        }
        let after = before.saturating_add(bytes);
        let line = cap / 10 * CROWDED;
        if after > line
            && before <= line
            && let Some(tell) = self.crowded.get()
        {
            tell();
        }
        if after > cap {
            self.give(bytes);
            let text = format!("no space left in the store: it may take {cap} bytes");
            return Err(io::Error::new(io::ErrorKind::StorageFull, text));
        }
        Ok(())
    }

    /// Gives back what was not written, or is there no more.
    pub(super) fn give(&self, bytes: u64) {
        let less = |taken: u64| Some(taken.saturating_sub(bytes));
        let _never_refused = self
            .taken
            .fetch_update(Ordering::Relaxed, Ordering::Relaxed, less);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::Arc;
    use std::sync::atomic::AtomicU32;

    #[test]
    fn nobody_passes_the_cap() {
        let room = Room::default();
        room.take(u64::MAX / 2).unwrap();
        let told = Arc::new(AtomicU32::new(0));
        let count = Arc::clone(&told);
        room.tell(Box::new(move || {
            count.fetch_add(1, Ordering::Relaxed);
        }));
        room.set(Some(100), 50);
        room.take(40).unwrap();
        assert_eq!(told.load(Ordering::Relaxed), 0);
        room.take(10).unwrap();
        assert_eq!(told.load(Ordering::Relaxed), 1);
        let error = room.take(1).unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::StorageFull);
        room.give(20);
        room.take(20).unwrap();
        assert!(room.take(1).is_err());
        room.set(None, 100);
        room.take(1).unwrap();
    }
}
