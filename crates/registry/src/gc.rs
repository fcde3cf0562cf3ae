//! Collection of what nothing refers to, while pushes go on.
//!
//! Each step takes a few candidates, dooms those that no push counts on, and removes them in one
//! transaction that looks again whether nothing refers to them. A file goes when no repository has
//! its content any more; what a crash left between file and database is found at the next run.

use std::time::{Duration, SystemTime};

use oci::Digest;

use crate::clock;
use crate::db::DbError;
use crate::db::tables::digest as from_hex;
use crate::name::Name;
use crate::refusal::chain;
use crate::store::Store;

/// Candidates of one step: nobody waits for longer than that takes.
const STEP: usize = 64;
/// How many rows are read at once.
const PAGE: usize = 1000;

/// What a collection may take.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Plan {
    /// What is younger stays, whatever refers to it.
    pub(crate) grace: Duration,
    /// How old manifests without a tag may be.
    pub(crate) untagged: Option<Duration>,
    /// How long uploads may rest.
    pub(crate) uploads: Duration,
    /// How long a proxy keeps what nobody asks for.
    pub(crate) unused: Option<Duration>,
}

/// What a collection took.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct Collected {
    /// Manifests without a tag.
    pub manifests: u64,
    /// Links of repositories to blobs that no manifest there refers to.
    pub links: u64,
    /// Blobs that no repository had any more.
    pub blobs: u64,
    /// Their bytes.
    pub bytes: u64,
    /// Uploads that rested.
    pub uploads: u64,
}

/// A collection that did not come to its end.
#[derive(Debug, thiserror::Error)]
pub enum CollectError {
    /// The database failed.
    #[error("collect garbage: look into the database")]
    Db(#[source] DbError),
    /// The content store failed.
    #[error("collect garbage: look through the content store")]
    Content(#[source] storage::ContentError),
    /// The uploads' folder failed.
    #[error("collect garbage: look through the uploads")]
    Uploads(#[source] std::io::Error),
    /// A thread failed.
    #[error("collect garbage: wait for a thread")]
    Thread(#[source] tokio::task::JoinError),
}

impl Store {
    /// Takes what may be taken.
    pub(crate) async fn collect(&self, plan: Plan) -> Result<Collected, CollectError> {
        let mut taken = Collected::default();
        let uploads = std::sync::Arc::clone(&self.uploads);
        let expired = tokio::task::spawn_blocking(move || uploads.expire(plan.uploads)).await;
        let expired = expired.map_err(CollectError::Thread)?;
        taken.uploads = expired.map_err(CollectError::Uploads)? as u64;
        if let Some(age) = plan.untagged {
            taken.manifests = self.collect_manifests(age.max(plan.grace), true).await?;
        }
        if let Some(age) = plan.unused {
            taken.manifests += self.collect_manifests(age.max(plan.grace), false).await?;
        }
        taken.links = self.collect_links(plan.grace).await?;
        self.collect_content(&mut taken).await?;
        self.collect_strays(plan.grace, &mut taken).await?;
        Ok(taken)
    }

    async fn collect_manifests(&self, age: Duration, tags_keep: bool) -> Result<u64, CollectError> {
        let before = clock::now().saturating_sub(age.as_secs());
        let mut after = (String::new(), String::new());
        let mut count = 0;
        loop {
            let page = self.db.read(|reader| reader.manifests_after(&after, PAGE));
            let page = page.map_err(CollectError::Db)?;
            let Some((name, hex, _)) = page.last() else {
                return Ok(count);
            };
            after = (name.clone(), hex.clone());
            for step in page.chunks(STEP) {
                count += self
                    .take_manifests(candidates(step, before), before, tags_keep)
                    .await?;
            }
        }
    }

    async fn take_manifests(
        &self,
        candidates: Vec<(Name, Digest)>,
        before: u64,
        tags_keep: bool,
    ) -> Result<u64, CollectError> {
        let doomed = self.claims.doom(digests(&candidates));
        let candidates = keep(candidates, doomed.digests());
        if candidates.is_empty() {
            return Ok(0);
        }
        let removed = self.db.write(move |tables| {
            let mut removed = Vec::new();
            for (name, digest) in candidates {
                if tables.is_idle_manifest(&name, &digest, before, tags_keep)?
                    && tables.remove_manifest(&name, &digest)? == Ok(true)
                {
                    removed.push((name, digest));
                }
            }
            Ok(removed)
        });
        let removed = removed.await.map_err(CollectError::Db)?;
        for (name, digest) in &removed {
            self.cache.forget(name, digest);
        }
        Ok(removed.len() as u64)
    }

    async fn collect_links(&self, age: Duration) -> Result<u64, CollectError> {
        let before = clock::now().saturating_sub(age.as_secs());
        let mut after = (String::new(), String::new());
        let mut count = 0;
        loop {
            let page = self.db.read(|reader| reader.links_after(&after, PAGE));
            let page = page.map_err(CollectError::Db)?;
            let Some((name, hex, _)) = page.last() else {
                return Ok(count);
            };
            after = (name.clone(), hex.clone());
            for step in page.chunks(STEP) {
                count += self.take_links(candidates(step, before), before).await?;
            }
        }
    }

    async fn take_links(
        &self,
        candidates: Vec<(Name, Digest)>,
        before: u64,
    ) -> Result<u64, CollectError> {
        let doomed = self.claims.doom(digests(&candidates));
        let candidates = keep(candidates, doomed.digests());
        if candidates.is_empty() {
            return Ok(0);
        }
        let removed = self.db.write(move |tables| {
            let mut count = 0;
            for (name, digest) in candidates {
                let idle = tables.is_idle_link(&name, &digest, before)?;
                count += u64::from(idle && tables.unlink(&name, &digest)? == Ok(true));
            }
            Ok(count)
        });
        removed.await.map_err(CollectError::Db)
    }

    /// Removes the files of content that no repository has.
    async fn collect_content(&self, taken: &mut Collected) -> Result<(), CollectError> {
        let mut after = String::new();
        loop {
            let page = self.db.read(|reader| reader.unheld(&after, PAGE));
            let (page, next) = page.map_err(CollectError::Db)?;
            for step in page.chunks(STEP) {
                let step = step.iter().filter_map(|hex| from_hex(hex)).collect();
                self.take_content(step, taken).await?;
            }
            match next {
                Some(next) => after = next,
                None => return Ok(()),
            }
        }
    }

    async fn take_content(
        &self,
        candidates: Vec<Digest>,
        taken: &mut Collected,
    ) -> Result<(), CollectError> {
        let doomed = self.claims.doom(candidates);
        let candidates = doomed.digests().to_vec();
        let removed = self.db.write(move |tables| {
            let mut removed = Vec::new();
            for digest in candidates {
                if let Some(size) = tables.forget(&digest)? {
                    removed.push((digest, size));
                }
            }
            Ok(removed)
        });
        for (digest, size) in removed.await.map_err(CollectError::Db)? {
            // still doomed: nobody has been told about it since
            self.remove_file(&digest);
            taken.blobs += 1;
            taken.bytes += size;
        }
        Ok(())
    }

    /// Removes files that the database does not know: a crash came between the two.
    async fn collect_strays(
        &self,
        grace: Duration,
        taken: &mut Collected,
    ) -> Result<(), CollectError> {
        let blobs = self.blobs.clone();
        let listed = tokio::task::spawn_blocking(move || blobs.list()).await;
        let listed = listed.map_err(CollectError::Thread)?;
        for (digest, size) in listed.map_err(CollectError::Content)? {
            let known = self.db.read(|reader| reader.content(&digest));
            let age = std::fs::metadata(self.blobs.path(&digest))
                .and_then(|found| found.modified())
                .map_or(Duration::ZERO, |at| {
                    SystemTime::now().duration_since(at).unwrap_or_default()
                });
            if known.map_err(CollectError::Db)?.is_some() || age < grace {
                continue;
            }
            let doomed = self.claims.doom(vec![digest.clone()]);
            let known = self.db.read(|reader| reader.content(&digest));
            if doomed.digests().is_empty() || known.map_err(CollectError::Db)?.is_some() {
                continue;
            }
            self.remove_file(&digest);
            taken.blobs += 1;
            taken.bytes += size;
        }
        Ok(())
    }

    fn remove_file(&self, digest: &Digest) {
        if let Err(error) = self.blobs.remove(digest) {
            let error = chain(&error);
            tracing::warn!(%digest, error, "a blob's file stays until the next collection");
        }
    }
}

fn candidates(rows: &[(String, String, u64)], before: u64) -> Vec<(Name, Digest)> {
    let old = rows.iter().filter(|(.., at)| *at <= before);
    old.filter_map(|(name, hex, _)| Some((Name::parse(name)?, from_hex(hex)?)))
        .collect()
}

fn digests(candidates: &[(Name, Digest)]) -> Vec<Digest> {
    candidates
        .iter()
        .map(|(_, digest)| digest.clone())
        .collect()
}

fn keep(candidates: Vec<(Name, Digest)>, doomed: &[Digest]) -> Vec<(Name, Digest)> {
    let mut candidates = candidates;
    candidates.retain(|(_, digest)| doomed.contains(digest));
    candidates
}
