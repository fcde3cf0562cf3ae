//! Makes layers durable behind the back of a build.

use std::sync::Arc;
use std::time::Duration;

use super::record::Record;
use super::store::{Shared, guard};

/// How long the thread waits, so that the layers of a build are flushed together.
const GATHER: Duration = Duration::from_secs(5);

/// Layers that are not known to be on the disk.
#[derive(Debug, Default)]
pub(super) struct Unflushed {
    ids: Vec<String>,
    running: bool,
}

/// Has a layer flushed by a thread that ends when there is nothing left to do.
pub(super) fn later(shared: &Arc<Shared>, id: String) {
    {
        let mut queue = guard(&shared.unflushed);
        queue.ids.push(id);
        if std::mem::replace(&mut queue.running, true) {
            return;
        }
    }
    let work = Arc::downgrade(shared);
    let thread = std::thread::Builder::new().name("build-flush".into());
    let started = thread.spawn(move || {
        loop {
            std::thread::sleep(GATHER);
            // a builder that was closed needs nothing more
            let Some(shared) = work.upgrade() else { return };
            let ids = {
                let mut queue = guard(&shared.unflushed);
                queue.running = !queue.ids.is_empty();
                std::mem::take(&mut queue.ids)
            };
            if ids.is_empty() {
                return;
            }
            flush(&shared, &ids);
        }
    });
    if let Err(error) = started {
        guard(&shared.unflushed).running = false;
        tracing::warn!(%error, "no thread to flush layers of builds; the next layer tries again");
    }
}

fn flush(shared: &Shared, ids: &[String]) {
    if let Err(error) = shared.store.layers().sync() {
        tracing::debug!(%error, "layers of builds stay without the mark of durability");
        return;
    }
    for id in ids {
        // removed meanwhile, or it has become an image's
        let _turn = guard(&shared.records);
        let Ok(mut record) = Record::read(&Record::path(&shared.layers, id)) else {
            continue;
        };
        record.durable = true;
        if let Err(error) = record.write(&shared.layers) {
            tracing::debug!(id, %error, "a layer stays without the mark of durability");
        }
    }
}
