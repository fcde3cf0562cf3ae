//! Makes layers durable behind the back of a pull.

use std::fs::File;
use std::io;
use std::os::fd::AsFd as _;
use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use oci::Digest;

use super::Shared;
use super::record::DURABLE;
use crate::erofs;
use crate::fsutil;

/// How long the thread waits, so that the layers of a pull are flushed together.
const GATHER: Duration = Duration::from_secs(2);

/// Layers that are not known to be on the disk.
#[derive(Debug, Default)]
pub(super) struct Unflushed(Mutex<Queue>);

#[derive(Debug, Default)]
struct Queue {
    chains: Vec<Digest>,
    running: bool,
}

impl Unflushed {
    /// Adds a layer; returns whether a thread must be started for it.
    fn push(&self, chain: Digest) -> bool {
        let mut queue = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        queue.chains.push(chain);
        !std::mem::replace(&mut queue.running, true)
    }

    /// Takes all layers; none ends the thread.
    fn take(&self) -> Option<Vec<Digest>> {
        let mut queue = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        queue.running = !queue.chains.is_empty();
        queue.running.then(|| std::mem::take(&mut queue.chains))
    }

    fn stop(&self) {
        self.0
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .running = false;
    }
}

/// Has a layer flushed by a thread that ends when there is nothing left to do.
pub(super) fn later(shared: &Arc<Shared>, chain: Digest) {
    if !shared.unflushed.push(chain) {
        return;
    }
    let work = Arc::clone(shared);
    let thread = std::thread::Builder::new().name("layer-flush".into());
    if let Err(error) = thread.spawn(move || run(&work)) {
        shared.unflushed.stop();
        tracing::warn!(%error, "no thread to flush layers; the next layer tries again");
    }
}

fn run(shared: &Shared) {
    loop {
        std::thread::sleep(GATHER);
        let Some(chains) = shared.unflushed.take() else {
            return;
        };
        if let Err(error) = flush(shared, &chains) {
            tracing::debug!(%error, "layers stay without the mark of durability");
        }
    }
}

/// Has the kernel guard an image against changes, where the file system can.
fn seal(image: &Path) {
    let sealed = File::open(image).and_then(|file| sys::verity::enable(file.as_fd()));
    match sealed {
        Ok(()) => tracing::debug!(image = %image.display(), "fs-verity guards a layer"),
        // a folder, or removed meanwhile
        Err(error) if fsutil::is_missing(&error) => {}
        Err(error) => tracing::debug!(image = %image.display(), %error, "no fs-verity"),
    }
}

fn flush(shared: &Shared, chains: &[Digest]) -> io::Result<()> {
    rustix::fs::syncfs(fsutil::open_dir(&shared.root)?)?;
    for chain in chains {
        seal(&shared.folder(chain).join(erofs::IMAGE));
        match File::create(shared.folder(chain).join(DURABLE)) {
            // Removed meanwhile.
            Err(error) if !fsutil::is_missing(&error) => return Err(error),
            _ => {}
        }
    }
    Ok(())
}
