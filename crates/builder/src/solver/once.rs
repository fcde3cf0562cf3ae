//! Work that is done once, by a task of its own, for all who ask.

use std::sync::{Mutex, PoisonError};

use futures_util::future::BoxFuture;
use tokio::sync::watch;

use crate::error::{Error, Result};

/// A result that is made when it is first asked for.
#[derive(Debug)]
pub(super) struct Once<T>(Mutex<Option<watch::Receiver<Option<Result<T>>>>>);

impl<T> Default for Once<T> {
    fn default() -> Self {
        Self(Mutex::new(None))
    }
}

impl<T: Clone + Send + Sync + 'static> Once<T> {
    /// The result; the first who asks starts the work, which goes on whoever stops waiting.
    pub(super) async fn get(
        &self,
        work: impl FnOnce() -> BoxFuture<'static, Result<T>>,
    ) -> Result<T> {
        let mut told = {
            let mut place = self.0.lock().unwrap_or_else(PoisonError::into_inner);
            match &*place {
                Some(told) => told.clone(),
                None => {
                    let (tell, told) = watch::channel(None);
                    let work = work();
                    tokio::spawn(async move { tell.send_replace(Some(work.await)) });
                    place.insert(told).clone()
                }
            }
        };
        wait(&mut told).await
    }

    /// The result, if it is there.
    pub(super) fn done(&self) -> Option<T> {
        let place = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let done = place.as_ref()?.borrow().clone()?;
        done.ok()
    }
}

/// Waits for what a task tells.
pub(super) async fn wait<T: Clone>(told: &mut watch::Receiver<Option<Result<T>>>) -> Result<T> {
    let broken = || Error::internal("a step of the build broke off");
    let done = told
        .wait_for(Option::is_some)
        .await
        .map_err(|_gone| broken())?;
    done.clone().unwrap_or_else(|| Err(broken()))
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;
    use std::sync::atomic::{AtomicUsize, Ordering};

    use super::*;

    #[tokio::test]
    async fn is_done_once() {
        let once: Once<usize> = Once::default();
        let count = Arc::new(AtomicUsize::new(0));
        let work = || {
            let count = Arc::clone(&count);
            Box::pin(async move { Ok(count.fetch_add(1, Ordering::Relaxed)) })
                as BoxFuture<'static, _>
        };
        let all = futures_util::future::join_all((0..10).map(|_| once.get(work))).await;
        assert!(all.iter().all(|r| matches!(r, Ok(0))));
        assert_eq!(once.done(), Some(0));
    }

    #[tokio::test]
    async fn one_that_stops_waiting_stops_nobody() {
        let once = Arc::new(Once::default());
        let go = Arc::new(tokio::sync::Notify::new());
        let waits = Arc::clone(&go);
        let first = once.get(move || {
            Box::pin(async move {
                waits.notified().await;
                Ok(7)
            })
        });
        {
            tokio::pin!(first);
            assert!(futures_util::poll!(&mut first).is_pending());
        }
        go.notify_one();
        assert_eq!(once.get(|| Box::pin(async { Ok(8) })).await.unwrap(), 7);
    }

    #[tokio::test]
    async fn work_that_panics_is_an_error() {
        let once: Once<u32> = Once::default();
        let failed = once
            .get(|| Box::pin(async { panic!("expected by the test") }))
            .await;
        assert!(failed.is_err());
    }
}
