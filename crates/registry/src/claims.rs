//! Content that pushes which are under way count on.
//!
//! A client asks whether the registry has a blob, is told so, and refers to it some time later. In
//! between nothing refers to it, and a collection must not take it. So what a client that may push
//! was told about is claimed for a while; and what a collection is about to take is doomed first,
//! under the same lock, so that nobody is told about it any more.

use std::collections::{HashMap, HashSet};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use oci::Digest;
use tokio::sync::Notify;

/// How many claims are gone through at the next claim, to drop those that are over.
const SWEEP_EVERY: usize = 4096;

#[derive(Debug)]
pub(crate) struct Claims {
    state: Mutex<State>,
    released: Notify,
    life: Duration,
}

#[derive(Debug, Default)]
struct State {
    until: HashMap<Digest, Instant>,
    doomed: HashSet<Digest>,
    since_sweep: usize,
}

impl Claims {
    pub(crate) fn new(life: Duration) -> Self {
        Self {
            state: Mutex::default(),
            released: Notify::new(),
            life,
        }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Claims content, before it is looked for. Waits where a collection has it in hand, which is short.
    pub(crate) async fn claim(&self, digest: &Digest) {
        loop {
            let released = self.released.notified();
            tokio::pin!(released);
            // registered before the look, so that no release goes by unseen
            released.as_mut().enable();
            if self.try_claim(digest) {
                return;
            }
            released.await;
        }
    }

    fn try_claim(&self, digest: &Digest) -> bool {
        let mut state = self.lock();
        if state.doomed.contains(digest) {
            return false;
        }
        let now = Instant::now();
        state.until.insert(digest.clone(), now + self.life);
        state.since_sweep += 1;
        if state.since_sweep >= SWEEP_EVERY {
            state.since_sweep = 0;
            state.until.retain(|_, until| *until > now);
        }
        true
    }

    /// Dooms what of this nobody has claimed.
    pub(crate) fn doom(&self, digests: Vec<Digest>) -> Doomed<'_> {
        let mut state = self.lock();
        let now = Instant::now();
        let is_free = |digest: &Digest| state.until.get(digest).is_none_or(|until| *until <= now);
        let digests: Vec<Digest> = digests.into_iter().filter(is_free).collect();
        state.doomed.extend(digests.iter().cloned());
        Doomed {
            claims: self,
            digests,
        }
    }
}

/// Content that a collection has in hand; nobody can claim it as long as this lives.
#[derive(Debug)]
pub(crate) struct Doomed<'a> {
    claims: &'a Claims,
    digests: Vec<Digest>,
}

impl Doomed<'_> {
    pub(crate) fn digests(&self) -> &[Digest] {
        &self.digests
    }
}

impl Drop for Doomed<'_> {
    fn drop(&mut self) {
        let mut state = self.claims.lock();
        for digest in &self.digests {
            state.doomed.remove(digest);
        }
        drop(state);
        self.claims.released.notify_waiters();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn who_comes_first() {
        let claims = Claims::new(Duration::from_secs(60));
        let [one, other] = [1, 2].map(|byte| Digest::from_sha256(&[byte; 32]));
        claims.claim(&one).await;
        let doomed = claims.doom(vec![one.clone(), other.clone()]);
        assert_eq!(doomed.digests(), std::slice::from_ref(&other));
        assert!(!claims.try_claim(&other));
        let same = other.clone();
        let waiting = claims.claim(&same);
        tokio::pin!(waiting);
        let early = tokio::time::timeout(Duration::from_millis(20), &mut waiting).await;
        assert!(early.is_err(), "the collection has it");
        drop(doomed);
        waiting.await;
        assert!(claims.doom(vec![other]).digests().is_empty());
    }

    #[tokio::test]
    async fn claims_end() {
        let claims = Claims::new(Duration::ZERO);
        let digest = Digest::from_sha256(&[1; 32]);
        claims.claim(&digest).await;
        assert_eq!(claims.doom(vec![digest]).digests().len(), 1);
    }
}
