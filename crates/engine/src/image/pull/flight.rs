//! Work that several pulls want at once, done once.
//!
//! A flight is a task that lives as long as somebody waits for it: whoever leaves, the others get
//! the result, and when the last has left the task ends.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError, Weak};

use oci::Digest;
use tokio::sync::watch;
use tokio::task::AbortHandle;

use crate::error::{Error, Result};

/// Flights by what they bring.
#[derive(Debug)]
pub(super) struct Flights<T>(Mutex<HashMap<Digest, Weak<Flight<T>>>>);

impl<T> Default for Flights<T> {
    fn default() -> Self {
        Self(Mutex::default())
    }
}

/// A running or finished task; dropped by the last who holds it, it ends.
#[derive(Debug)]
pub(super) struct Flight<T> {
    /// What the task and those who wait for it share.
    pub(super) cargo: Arc<T>,
    end: watch::Receiver<Option<Result<()>>>,
    task: AbortHandle,
}

impl<T> Drop for Flight<T> {
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl<T> Flight<T> {
    /// Waits for the end.
    pub(super) async fn landed(&self) -> Result<()> {
        let mut end = self.end.clone();
        match end.wait_for(Option::is_some).await {
            Ok(end) => end.as_ref().map_or(Ok(()), clone),
            Err(_) => Err(Error::internal(
                "a part of the pull has ended without a result",
            )),
        }
    }

    fn has_failed(&self) -> bool {
        matches!(&*self.end.borrow(), Some(Err(_)))
    }
}

impl<T> Flights<T> {
    /// Joins the flight that brings something, or begins it; tells whether it was begun.
    pub(super) fn join<F>(
        &self,
        key: &Digest,
        begin: impl FnOnce() -> (Arc<T>, F),
    ) -> (Arc<Flight<T>>, bool)
    where
        F: Future<Output = Result<()>> + Send + 'static,
    {
        let mut flights = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let running = flights.get(key).and_then(Weak::upgrade);
        if let Some(flight) = running.filter(|flight| !flight.has_failed()) {
            return (flight, false);
        }
        flights.retain(|_, flight| flight.strong_count() > 0);
        let (cargo, work) = begin();
        let (told, end) = watch::channel(None);
        let task = tokio::spawn(async move {
            told.send_replace(Some(work.await));
        });
        let flight = Arc::new(Flight {
            cargo,
            end,
            task: task.abort_handle(),
        });
        flights.insert(key.clone(), Arc::downgrade(&flight));
        (flight, true)
    }
}

fn clone(end: &Result<()>) -> Result<()> {
    match end {
        Ok(()) => Ok(()),
        Err(error) => Err(Error::new(error.kind(), error.message())),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::atomic::{AtomicUsize, Ordering};
    use std::time::Duration;

    fn key() -> Digest {
        Digest::from_sha256(&[1; 32])
    }

    /// A flight that counts its starts and waits for a permit.
    fn join(
        flights: &Flights<AtomicUsize>,
        starts: &Arc<AtomicUsize>,
        gate: &Arc<tokio::sync::Semaphore>,
    ) -> (Arc<Flight<AtomicUsize>>, bool) {
        flights.join(&key(), || {
            let (cargo, gate) = (Arc::clone(starts), Arc::clone(gate));
            cargo.fetch_add(1, Ordering::SeqCst);
            let work = async move {
                let Ok(permit) = gate.acquire_owned().await else {
                    return Err(Error::not_found("closed"));
                };
                permit.forget();
                Ok(())
            };
            (cargo, work)
        })
    }

    #[tokio::test]
    async fn many_share_one() {
        let (flights, starts) = (Flights::default(), Arc::default());
        let gate = Arc::new(tokio::sync::Semaphore::new(0));
        let (first, began) = join(&flights, &starts, &gate);
        let (second, began_too) = join(&flights, &starts, &gate);
        assert!(began && !began_too);
        drop(first);
        gate.add_permits(1);
        second.landed().await.unwrap();
        // what has landed is still there for those who come later
        let (third, began) = join(&flights, &starts, &gate);
        assert!(!began);
        third.landed().await.unwrap();
        assert_eq!(starts.load(Ordering::SeqCst), 1);
        drop((second, third));
        assert!(join(&flights, &starts, &gate).1);
    }

    #[tokio::test]
    async fn the_last_one_ends_it_and_a_failure_is_not_shared_with_later_ones() {
        let (flights, starts) = (Flights::default(), Arc::default());
        let gate = Arc::new(tokio::sync::Semaphore::new(0));
        let (only, _) = join(&flights, &starts, &gate);
        drop(only);
        let ended = async {
            while Arc::strong_count(&gate) > 1 {
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
        };
        tokio::time::timeout(Duration::from_secs(30), ended)
            .await
            .unwrap();
        let (failing, _) = join(&flights, &starts, &gate);
        gate.close();
        assert_eq!(failing.landed().await.unwrap_err().message(), "closed");
        assert!(join(&flights, &starts, &gate).1);
    }
}
