//! Manifests that are asked for often, in a bounded piece of memory.

use std::collections::HashMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};

use oci::Digest;

use crate::name::Name;
use crate::store::Served;

/// What an entry takes besides its bytes, about.
const OVERHEAD: u64 = 400;

#[derive(Debug)]
pub(crate) struct Cache {
    state: Mutex<State>,
    room: u64,
    hits: AtomicU64,
    misses: AtomicU64,
}

/// Two halves: what is asked for while the younger fills moves into it; when it is full, the older goes.
#[derive(Debug, Default)]
struct State {
    young: HashMap<(Name, Digest), Served>,
    old: HashMap<(Name, Digest), Served>,
    taken: u64,
}

impl Cache {
    pub(crate) fn new(room: u64) -> Self {
        Self {
            state: Mutex::default(),
            room: room / 2,
            hits: AtomicU64::new(0),
            misses: AtomicU64::new(0),
        }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// What a repository has under a digest. Whether it still has is the business of who removes.
    pub(crate) fn get(&self, repository: &Name, digest: &Digest) -> Option<Served> {
        let key = (repository.clone(), digest.clone());
        let mut state = self.lock();
        let found = state.young.get(&key).cloned().or_else(|| {
            let old = state.old.remove(&key)?;
            self.insert(&mut state, key, old.clone());
            Some(old)
        });
        let counter = match found {
            Some(_) => &self.hits,
            None => &self.misses,
        };
        counter.fetch_add(1, Ordering::Relaxed);
        found
    }

    pub(crate) fn put(&self, repository: &Name, served: &Served) {
        let key = (repository.clone(), served.digest.clone());
        self.insert(&mut self.lock(), key, served.clone());
    }

    fn insert(&self, state: &mut State, key: (Name, Digest), served: Served) {
        let size = served.bytes.len() as u64 + OVERHEAD;
        if size > self.room {
            return;
        }
        if state.taken + size > self.room {
            state.old = std::mem::take(&mut state.young);
            state.taken = 0;
        }
        if state.young.insert(key, served).is_none() {
            state.taken += size;
        }
    }

    pub(crate) fn forget(&self, repository: &Name, digest: &Digest) {
        let key = (repository.clone(), digest.clone());
        let mut state = self.lock();
        if let Some(served) = state.young.remove(&key) {
            let size = served.bytes.len() as u64 + OVERHEAD;
            state.taken = state.taken.saturating_sub(size);
        }
        state.old.remove(&key);
    }

    /// How often something was there, and how often not.
    pub(crate) fn counts(&self) -> (u64, u64) {
        let count = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        (count(&self.hits), count(&self.misses))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bounded() {
        let cache = Cache::new(4000);
        let name = Name::parse("a").unwrap();
        let served = |byte: u8| Served {
            digest: Digest::from_sha256(&[byte; 32]),
            media_type: "x/y".into(),
            bytes: vec![byte; 400].into(),
        };
        for byte in 0..10 {
            cache.put(&name, &served(byte));
            assert!(
                cache.get(&name, &served(0).digest).is_some(),
                "asked for each time"
            );
        }
        assert!(cache.get(&name, &served(2).digest).is_none());
        let state = cache.lock();
        assert!(state.young.len() + state.old.len() <= 5);
        drop(state);
        cache.forget(&name, &served(0).digest);
        assert!(cache.get(&name, &served(0).digest).is_none());
        let huge = Served {
            bytes: vec![0; 4000].into(),
            ..served(1)
        };
        cache.put(&name, &huge);
        assert!(cache.get(&name, &huge.digest).is_none());
    }
}
