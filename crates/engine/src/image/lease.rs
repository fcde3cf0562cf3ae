//! Leases in the database: what outlives an engine that is killed.
//!
//! Work that brings much writes down what it brings, with its lease. A row that is found at the start is of
//! work that was cut off. What that has brought stays for the next try, as parts of downloads do: until
//! somebody does the same again, `store-partial-hours` are over, `image prune` wants the room, or the
//! store is over its limits.

use std::collections::{BTreeMap, HashSet};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, MutexGuard};

use api::check;
use jiff::{SignedDuration, Timestamp};
use oci::Digest;
use serde::{Deserialize, Serialize};

use super::store::{Lease, Leases};
use crate::container::lock;
use crate::db::{Change, Db, Table};
use crate::engine::Engine;
use crate::error::{Result, Step};

/// A lease as the database has it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Row {
    /// The work, for people: `pull busybox:latest`.
    what: String,
    /// When it was written last.
    noted: Timestamp,
    digests: Vec<Digest>,
}

/// The rows of the database.
#[derive(Debug, Default)]
pub(super) struct Rows {
    /// Of work that was cut off with an earlier engine, by their names.
    orphans: BTreeMap<String, Row>,
    /// Of work that has ended; they are to be removed.
    ended: Vec<String>,
}

impl Rows {
    /// What work that was cut off has brought.
    pub(super) fn kept(&self) -> impl Iterator<Item = &Digest> {
        self.orphans.values().flat_map(|row| &row.digests)
    }

    /// Ends a lease's row, and those of cut-off work that it has done again.
    pub(super) fn end(&mut self, id: &str, digests: &[Digest]) {
        self.ended.push(id.to_owned());
        if self.orphans.is_empty() {
            return;
        }
        let own: HashSet<&Digest> = digests.iter().collect();
        self.end_orphans(|row| row.digests.iter().all(|digest| own.contains(digest)));
    }

    /// Ends the rows of cut-off work that are no longer wanted; tells whether there were any.
    fn end_orphans(&mut self, unwanted: impl Fn(&Row) -> bool) -> bool {
        let before = self.ended.len();
        let Self { orphans, ended, .. } = self;
        orphans.retain(|id, row| {
            let goes = unwanted(row);
            if goes {
                ended.push(id.clone());
            }
            !goes
        });
        self.ended.len() > before
    }
}

/// A name that no row has had before.
fn fresh_id() -> String {
    static NUMBER: AtomicU64 = AtomicU64::new(0);
    let number = NUMBER.fetch_add(1, Ordering::Relaxed);
    format!("{:032x}-{number}", Timestamp::now().as_nanosecond())
}

impl Leases {
    /// Reads what work of earlier engines has left.
    pub(super) fn load(db: &Db) -> Result<Self> {
        let leases = Self::default();
        leases.rows().orphans = db.load::<Row>(Table::Leases)?.into_iter().collect();
        Ok(leases)
    }

    fn rows(&self) -> MutexGuard<'_, Rows> {
        lock(self.all_rows())
    }

    /// A lease as it is to be written.
    fn row(&self, lease: &Lease, what: &str) -> (String, Row) {
        let id = lease.row.get_or_init(fresh_id).clone();
        let row = Row {
            what: what.to_owned(),
            noted: Timestamp::now(),
            digests: lease.digests().to_vec(),
        };
        (id, row)
    }
}

impl Engine {
    /// Writes a lease down, without waiting for the disk: what it holds stays when the engine dies.
    pub(super) async fn note_lease(&self, lease: &Lease, what: &str) {
        let (id, row) = self.images.leases.row(lease, what);
        self.db.put_later(Table::Leases, &id, &row).await;
    }

    /// The same, from a thread that may block.
    pub(super) fn note_lease_blocking(&self, lease: &Lease, what: &str) {
        let (id, row) = self.images.leases.row(lease, what);
        self.db.put_later_blocking(Table::Leases, &id, &row);
    }

    /// Lets go of what cut-off work has brought; it is collected next.
    pub(super) fn forget_cut_off(&self) -> bool {
        let any = self.images.leases.rows().end_orphans(|_| true);
        if any {
            self.images.leases.mark();
        }
        any
    }

    /// Ends the leases of cut-off work that are too old or keep nothing, and removes the rows of all that
    /// have ended.
    pub(crate) async fn settle_leases(self: &Arc<Self>) -> Result<()> {
        if !self.images.leases.rows().orphans.is_empty() {
            let engine = Arc::clone(self);
            self.blocking(move || engine.end_useless()).await?;
        }
        let ended = std::mem::take(&mut self.images.leases.rows().ended);
        if ended.is_empty() {
            return Ok(());
        }
        let removals = ended.iter().map(|id| Change::remove(Table::Leases, id));
        let saved = match self.db.begin(removals.collect()).await {
            Ok(saved) => saved.wait().await,
            Err(error) => Err(error),
        };
        if saved.is_err() {
            // they are removed the next time
            self.images.leases.rows().ended.extend(ended);
        }
        saved
    }

    fn end_useless(&self) -> Result<()> {
        let blobs = self.store.content().list().step(|| "list blobs")?;
        let layers = self.store.layers().list();
        let there: HashSet<Digest> = blobs
            .into_iter()
            .map(|(digest, _)| digest)
            .chain(layers.into_iter().map(|layer| layer.chain))
            .collect();
        let needed = self.needed()?;
        let age = SignedDuration::try_from(self.settings().store.partial_for);
        let age = age.unwrap_or(SignedDuration::MAX);
        let now = Timestamp::now();
        let keeps = |digest: &Digest| {
            let has_reason = needed.chains.contains(digest) || needed.blobs.contains(digest);
            there.contains(digest) && !has_reason
        };
        let is_unwanted = |row: &Row| {
            let lain = now.duration_since(row.noted);
            lain >= age || !row.digests.iter().any(keeps)
        };
        if self.images.leases.rows().end_orphans(is_unwanted) {
            self.images.leases.mark();
        }
        Ok(())
    }

    /// What work that was cut off has left, for people.
    pub(crate) fn cut_off(&self) -> Vec<check::Lease> {
        let orphans: Vec<Row> = self
            .images
            .leases
            .rows()
            .orphans
            .values()
            .cloned()
            .collect();
        orphans.iter().map(|row| self.shown_lease(row)).collect()
    }

    fn shown_lease(&self, row: &Row) -> check::Lease {
        let content = self.store.content();
        let layers = self.store.layers();
        let (mut shown, mut bytes) = (check::Lease::default(), 0);
        for digest in &row.digests {
            // the lowest layer's chain id can be a blob's digest, too
            if let Ok(size) = content.size(digest) {
                shown.blobs += 1;
                bytes += size;
            }
            if let Ok(size) = layers.size(digest) {
                shown.layers += 1;
                bytes += size;
            }
        }
        let age = SignedDuration::try_from(self.settings().store.partial_for);
        let until = age.ok().and_then(|age| row.noted.checked_add(age).ok());
        let until = until.map(|until| until.to_string());
        check::Lease {
            work: row.what.clone(),
            noted: row.noted.to_string(),
            until: until.unwrap_or_default(),
            size: i64::try_from(bytes).unwrap_or(i64::MAX),
            ..shown
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::scene::{import, with_engine};

    fn digest(byte: u8) -> Digest {
        Digest::from_sha256(&[byte; 32])
    }

    fn row(what: &str, noted: Timestamp, digests: &[Digest]) -> Row {
        Row {
            what: what.to_owned(),
            noted,
            digests: digests.to_vec(),
        }
    }

    const LIMIT: Duration = Duration::from_secs(60);

    /// Waits until the database has the rows of these works alone: the collector may be at it, too.
    async fn settled(engine: &Arc<Engine>, expect: &[&str]) {
        let settle = async {
            loop {
                engine.settle_leases().await.unwrap();
                let rows = engine.db.load::<Row>(Table::Leases).unwrap();
                let works: Vec<&str> = rows.iter().map(|(_, row)| row.what.as_str()).collect();
                if works == expect {
                    return;
                }
                tokio::time::sleep(Duration::from_millis(20)).await;
            }
        };
        tokio::time::timeout(LIMIT, settle).await.unwrap();
    }

    #[test]
    fn a_row_ends_with_its_lease() {
        with_engine(
            |_| {},
            async |engine| {
                let leases = &engine.images.leases;
                let blob = storage::digest_of(b"held");
                let lease = leases.take(vec![blob.clone()]).await;
                engine.store.content().put_bytes(b"held").unwrap();
                engine.note_lease(&lease, "pull a").await;
                engine.note_lease(&lease, "pull a").await;
                engine.collect().await;
                assert!(engine.store.content().has(&blob));
                settled(engine, &["pull a"]).await;
                assert!(engine.cut_off().is_empty());
                drop(lease);
                settled(engine, &[]).await;
                engine.collect().await;
                assert!(!engine.store.content().has(&blob));
            },
        );
    }

    #[test]
    fn what_was_cut_off_stays_for_the_next_try() {
        with_engine(
            |_| {},
            async |engine| {
                let content = engine.store.content();
                let leases = &engine.images.leases;
                let known = import(engine, "known").await;
                let texts = ["old", "fresh", "wanted"].map(str::as_bytes);
                let held = leases
                    .take_there(texts.map(storage::digest_of).to_vec())
                    .await;
                let [old, fresh, wanted] = texts.map(|text| content.put_bytes(text).unwrap());
                let now = Timestamp::now();
                let rows = [
                    (
                        "1",
                        row(
                            "too old",
                            now - SignedDuration::from_hours(30),
                            std::slice::from_ref(&old),
                        ),
                    ),
                    ("2", row("of an image", now, &[known.clone(), digest(1)])),
                    ("3", row("kept", now, &[fresh.clone(), digest(2)])),
                    ("4", row("done again", now, std::slice::from_ref(&wanted))),
                ];
                for (id, row) in rows {
                    engine.db.put(Table::Leases, id, &row).await.unwrap();
                    leases.rows().orphans.insert(id.to_owned(), row);
                }
                drop(held);
                settled(engine, &["kept", "done again"]).await;
                engine.collect().await;
                assert!(!content.has(&old) && content.has(&fresh) && content.has(&wanted));
                let shown = engine.cut_off();
                let sizes: Vec<_> = shown
                    .iter()
                    .map(|one| (one.blobs, one.layers, one.size))
                    .collect();
                assert_eq!(sizes, [(1, 0, 5), (1, 0, 6)]);
                // the same work, which now comes to its end
                let lease = leases.take(vec![digest(3), wanted.clone()]).await;
                engine.note_lease(&lease, "once more").await;
                drop(lease);
                settled(engine, &["kept"]).await;
                engine.collect().await;
                assert!(content.has(&fresh) && !content.has(&wanted));
                engine.image_prune(&api::Filters::default()).await.unwrap();
                assert!(!content.has(&fresh));
                settled(engine, &[]).await;
                assert!(content.has(&known));
            },
        );
    }

    #[test]
    fn rows_are_read_at_the_start() {
        let folder = tempfile::tempdir().unwrap();
        let runtime = tokio::runtime::Runtime::new().unwrap();
        runtime.block_on(async {
            let db = Db::open(&folder.path().join("gorae.db")).unwrap();
            let kept = row("pull a", Timestamp::now(), &[digest(7)]);
            db.put(Table::Leases, "1", &kept).await.unwrap();
            let leases = Leases::load(&db).unwrap();
            assert_eq!(leases.leased(), HashSet::from([digest(7)]));
        });
    }
}
