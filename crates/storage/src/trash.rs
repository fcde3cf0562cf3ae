//! What is out of sight and is being deleted behind everybody's back.
//!
//! Whatever is removed vanishes by one rename into `tmp/`, and whoever removed it goes on. Giving its
//! space back takes a file system much longer: a few threads do that, which end when there is nothing
//! left. Who needs the space waits for them ([`Trash::wait`]). What a crash leaves there is trash again
//! when the store is opened.

use std::collections::VecDeque;
use std::error::Error;
use std::fmt::Write as _;
use std::path::PathBuf;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};

use crate::content::DetachedBlob;
use crate::fsutil;
use crate::layers::DetachedLayer;

/// Threads that delete; more of them wait for the file system's journal only.
const THREADS: usize = 2;

/// Something that is to be deleted.
#[derive(Debug)]
pub enum Waste {
    /// A layer that is in the store no more.
    Layer(DetachedLayer),
    /// A blob that is in the store no more.
    Blob(DetachedBlob),
    /// What an earlier process did not finish.
    Leftover(PathBuf),
}

impl From<DetachedLayer> for Waste {
    fn from(layer: DetachedLayer) -> Self {
        Self::Layer(layer)
    }
}

impl From<DetachedBlob> for Waste {
    fn from(blob: DetachedBlob) -> Self {
        Self::Blob(blob)
    }
}

/// The trash of a store.
#[derive(Clone, Debug, Default)]
pub struct Trash {
    shared: Arc<Shared>,
}

#[derive(Debug, Default)]
struct Shared {
    state: Mutex<State>,
    emptied: Condvar,
}

#[derive(Debug, Default)]
struct State {
    waiting: VecDeque<Waste>,
    /// Threads that run.
    threads: usize,
}

impl Trash {
    /// Takes what is to be deleted, and returns at once.
    pub fn put(&self, waste: impl IntoIterator<Item = Waste>) {
        let wanted = {
            let mut state = self.shared.lock();
            state.waiting.extend(waste);
            let wanted = THREADS.min(state.waiting.len());
            let more = wanted.saturating_sub(state.threads);
            state.threads += more;
            more
        };
        for _ in 0..wanted {
            let shared = Arc::clone(&self.shared);
            let work = move || shared.run();
            let thread = std::thread::Builder::new().name("trash".into());
            if let Err(error) = thread.spawn(work) {
                tracing::debug!(%error, "no thread to delete with");
                self.shared.run();
            }
        }
    }

    /// Whether everything is deleted.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.shared.lock().is_empty()
    }

    /// Waits until everything is deleted that was put here before, and what comes meanwhile.
    pub fn wait(&self) {
        let state = self.shared.lock();
        let left = |state: &mut State| !state.is_empty();
        let emptied = self.shared.emptied.wait_while(state, left);
        drop(emptied.unwrap_or_else(PoisonError::into_inner));
    }
}

impl State {
    fn is_empty(&self) -> bool {
        self.waiting.is_empty() && self.threads == 0
    }
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Deletes until nothing waits.
    fn run(&self) {
        loop {
            let next = {
                let mut state = self.lock();
                let next = state.waiting.pop_front();
                if next.is_none() {
                    state.threads -= 1;
                    if state.is_empty() {
                        self.emptied.notify_all();
                    }
                }
                next
            };
            let Some(waste) = next else { return };
            if let Err(error) = waste.delete() {
                let error = chain(&*error);
                tracing::error!(error, "what was removed takes space until the next start");
            }
        }
    }
}

impl Waste {
    fn delete(self) -> Result<(), Box<dyn Error>> {
        match self {
            Self::Layer(layer) => layer.delete()?,
            Self::Blob(blob) => blob.delete()?,
            Self::Leftover(path) => fsutil::remove::remove_quickly(&path)?,
        }
        Ok(())
    }
}

/// An error with its causes.
fn chain(error: &dyn Error) -> String {
    let mut text = error.to_string();
    let mut next = error.source();
    while let Some(error) = next {
        // a String takes everything
        let _never_fails = write!(text, ": {error}");
        next = error.source();
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_waits_finds_nothing_left() {
        let folder = tempfile::tempdir().unwrap();
        let trash = Trash::default();
        trash.wait();
        assert!(trash.is_empty());
        for round in 0..3 {
            let paths: Vec<PathBuf> = (0..20)
                .map(|number| folder.path().join(format!("{round}-{number}")))
                .collect();
            for path in &paths {
                std::fs::create_dir_all(path.join("a/b")).unwrap();
                std::fs::write(path.join("a/b/c"), "d").unwrap();
            }
            let missing = folder.path().join("missing");
            trash.put(paths.into_iter().chain([missing]).map(Waste::Leftover));
            trash.wait();
            assert!(trash.is_empty());
            assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 0);
        }
    }
}
