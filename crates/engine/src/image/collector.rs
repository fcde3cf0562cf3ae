//! The collector that runs behind everything: it keeps the store below its cap, the file system from
//! running full, and removes what has not been used for long.
//!
//! It removes only what nobody uses: first images without any name, then those that only a digest
//! names, and, where the settings allow it, those with tags; among equals the one that was used last is
//! the last to go.

use std::sync::{Arc, Weak};
use std::time::Duration;

use jiff::{SignedDuration, Timestamp};

use super::{Image, Images};
use crate::config::StoreLimits;
use crate::engine::Engine;
use crate::error::{Result, Step, chain};

/// The store is brought below so many tenths of its cap, so that the next pull has some room.
const TENTHS: u64 = 9;

/// Why an image goes, worst names first.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Rank {
    Nameless,
    Digest,
    Tagged,
}

/// An image that may go.
#[derive(Debug)]
struct Candidate {
    rank: Rank,
    used: Timestamp,
    image: Arc<Image>,
}

impl Engine {
    /// Starts the collector; it ends with the engine.
    pub(crate) fn start_collector(self: &Arc<Self>) {
        self.store
            .content()
            .when_crowded(self.images.leases.ringer());
        let engine = Arc::downgrade(self);
        tokio::spawn(async move { run(&engine).await });
    }

    async fn tidy(self: &Arc<Self>) -> Result<()> {
        let limits = self.settings().store.clone();
        self.trim_partials().await;
        self.settle_leases().await?;
        if let Some(age) = limits.unused_for {
            self.remove_aged(age, &limits).await?;
        }
        if self.images.leases.is_dirty() {
            self.collect_and_free().await;
        }
        if limits.max_size.is_none() && limits.min_free.is_none() {
            self.store.content().set_room(None, 0);
            return Ok(());
        }
        let mut size = self.content_size().await?;
        while self.is_too_much(size + self.store.content().coming(), &limits)? {
            // what is no image yet goes first
            if !self.forget_cut_off() {
                let Some(next) = self.candidates(&limits).into_iter().next() else {
                    tracing::debug!(size, "the store is over its limits, and all of it is used");
                    break;
                };
                self.remove_unused(&next.image, "there is not enough space")
                    .await?;
            }
            self.collect_and_free().await;
            size = self.content_size().await?;
            self.store.content().set_room(limits.max_size, size);
        }
        self.store.content().set_room(limits.max_size, size);
        Ok(())
    }

    fn is_too_much(&self, size: u64, limits: &StoreLimits) -> Result<bool> {
        if limits.max_size.is_some_and(|max| size > max / 10 * TENTHS) {
            return Ok(true);
        }
        let Some(min) = limits.min_free else {
            return Ok(false);
        };
        let root = self.store.root();
        let found = rustix::fs::statvfs(root)
            .map_err(std::io::Error::from)
            .step(|| format!("measure the file system of {}", root.display()))?;
        Ok(found.f_bavail.saturating_mul(found.f_frsize) < min)
    }

    async fn remove_aged(self: &Arc<Self>, age: Duration, limits: &StoreLimits) -> Result<()> {
        let age = SignedDuration::try_from(age).unwrap_or(SignedDuration::MAX);
        let now = Timestamp::now();
        let aged = |one: &Candidate| now.duration_since(one.used) > age;
        let all = self.candidates(limits);
        let mut any = false;
        for one in all.iter().filter(|one| aged(one)) {
            any = true;
            self.remove_unused(&one.image, "it was not used for long")
                .await?;
        }
        if any {
            self.collect_and_free().await;
        }
        Ok(())
    }

    async fn remove_unused(&self, image: &Image, why: &str) -> Result<()> {
        let names = &image.record.tags;
        tracing::info!(id = %image.id, ?names, why, "removes an image that nobody uses");
        self.delete_image(image, &mut Vec::new()).await
    }

    /// The images that may go, the first to go first.
    fn candidates(&self, limits: &StoreLimits) -> Vec<Candidate> {
        let users = self.image_users();
        let mut all: Vec<Candidate> = self
            .images
            .listed()
            .into_iter()
            .filter(|image| !users.contains_key(&image.id))
            .map(|image| Candidate {
                rank: rank(&image),
                used: self.images.last_used(&image),
                image,
            })
            .filter(|one| one.rank != Rank::Tagged || limits.tagged)
            .collect();
        all.sort_by(|a, b| (a.rank, a.used, &a.image.id).cmp(&(b.rank, b.used, &b.image.id)));
        all
    }
}

impl Images {
    /// When an image was last used; one of which nothing was noted counts from when it got a name.
    fn last_used(&self, image: &Image) -> Timestamp {
        let noted = self.uses.last(&image.id);
        noted.or(image.record.tagged).unwrap_or(Timestamp::MIN)
    }
}

fn rank(image: &Image) -> Rank {
    match (
        image.record.tags.is_empty(),
        image.record.digests.is_empty(),
    ) {
        (false, _) => Rank::Tagged,
        (true, false) => Rank::Digest,
        (true, true) => Rank::Nameless,
    }
}

async fn run(engine: &Weak<Engine>) {
    loop {
        let Some(engine) = engine.upgrade() else {
            return;
        };
        if let Err(error) = engine.tidy().await {
            tracing::error!(error = chain(&error), "the store could not be tidied");
        }
        let interval = engine.settings().store.interval;
        let rung = engine.images.leases.rung();
        // it must not keep the engine while it waits
        drop(engine);
        // it may have been asked for meanwhile; then there is no wait
        drop(tokio::time::timeout(interval, rung).await);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::scene::{import, with_engine};

    const LIMIT: Duration = Duration::from_secs(60);

    fn names(engine: &Arc<Engine>) -> Vec<String> {
        let images = engine.images.all();
        let mut names: Vec<String> = images
            .iter()
            .flat_map(|image| image.record.tags.iter().map(ToString::to_string))
            .collect();
        names.sort();
        names
    }

    /// Images go that were not used for longer than the settings say: not those that were, nor those that
    /// a container has.
    #[test]
    fn images_go_for_their_age() {
        let change = |config: &mut crate::Config| {
            config.store.unused_for = Some(Duration::from_secs(3600));
            config.store.tagged = true;
            config.store.interval = Duration::from_secs(1);
        };
        with_engine(change, async |engine| {
            let hours = |hours| Timestamp::now() - SignedDuration::from_hours(hours);
            let (old, held) = (import(engine, "old").await, import(engine, "held").await);
            import(engine, "fresh").await;
            let create = serde_json::from_str(r#"{"Image": "held", "Cmd": ["/name"]}"#).unwrap();
            engine
                .container_create(Some("box"), None, create)
                .await
                .unwrap();
            for (id, used) in [(&old, hours(2)), (&held, hours(3))] {
                engine.images.uses.set(id, used);
            }
            let gone = async {
                while engine.images.by_id(&old).is_some() {
                    tokio::time::sleep(Duration::from_millis(50)).await;
                }
            };
            tokio::time::timeout(LIMIT, gone).await.unwrap();
            // its layer goes as well, and nothing of the others
            let left = async {
                while engine.store.layers().list().len() > 2 {
                    tokio::time::sleep(Duration::from_millis(50)).await;
                }
            };
            tokio::time::timeout(LIMIT, left).await.unwrap();
            let expect = [
                "docker.io/library/fresh:latest",
                "docker.io/library/held:latest",
            ];
            assert_eq!(names(engine), expect);
        });
    }
}
