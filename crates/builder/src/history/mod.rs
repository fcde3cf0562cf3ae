//! Builds of the past: what they were, how they ended, and what they told.
//!
//! A build's record is in the database; what it told, and the details of its error, are blobs in a
//! folder, which clients read by their digests. Both are bounded: the oldest builds that nobody pinned go.

mod blobs;
mod record;

use std::collections::{BTreeMap, HashMap};
use std::path::Path;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use bollard_buildkit_proto::google::rpc;
use bollard_buildkit_proto::moby::buildkit::v1::{
    BuildHistoryEvent, BuildHistoryEventType, BuildHistoryRecord, BuildResultInfo, Descriptor,
    Exporter, StatusResponse,
};
use jiff::{SignedDuration, Timestamp};
use prost::Message;
use tokio::sync::broadcast;

pub use blobs::{Blob, Blobs};

use crate::db::{Db, Table};
use crate::error::{Error, Result};
use crate::job::Job;
use crate::progress::{Update, now};
use record::Stored;

const RECORDS: Table = Table("history");
/// Builds that are kept.
const MAX_RECORDS: usize = 100;
/// How long builds are kept that nobody pinned.
const MAX_AGE: SignedDuration = SignedDuration::from_hours(7 * 24);
/// Bytes of what one build told.
const MAX_LOGS: usize = 8 << 20;
/// Events that a client may lag behind.
const LAG: usize = 256;
/// What a build told: messages behind their lengths.
const LOGS: &str = "application/vnd.buildkit.status.v0";
/// How a result was made.
const STATEMENT: &str = "application/vnd.in-toto+json";
/// Says what a statement states.
const PREDICATE: &str = "in-toto.io/predicate-type";
/// How a build failed (sic: the name that clients know).
const ERROR: &str = "application/vnd.googeapis.google.rpc.status+proto";

/// The builds of the past, and those that go on.
#[derive(Debug)]
pub struct History {
    db: Db,
    blobs: Blobs,
    records: Mutex<HashMap<String, BuildHistoryRecord>>,
    running: Mutex<HashMap<String, BuildHistoryRecord>>,
    /// Held from a blob's making until its record is there, so that nobody takes it for one of no build.
    writing: Mutex<()>,
    events: broadcast::Sender<BuildHistoryEvent>,
}

/// The setting in which clients tell of the caches that they have given to the build besides.
const IMPORTS: &str = "cache-imports";
/// What of a cache says which one it is; the rest is how to get there, such as tokens and keys.
const PLACE: [&str; 4] = ["ref", "scope", "src", "digest"];

/// What begins.
#[derive(Debug, Default)]
pub struct Begun {
    /// The front end.
    pub frontend: String,
    /// Its settings.
    pub attrs: BTreeMap<String, String>,
    /// What becomes of the result.
    pub exporters: Vec<Exporter>,
}

/// A build that goes on; dropped, it counts as cancelled.
#[derive(Debug)]
pub struct Entry {
    history: Arc<History>,
    job: Arc<Job>,
    ended: bool,
}

fn locked<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

fn event(kind: BuildHistoryEventType, record: &BuildHistoryRecord) -> BuildHistoryEvent {
    BuildHistoryEvent {
        r#type: kind.into(),
        record: Some(record.clone()),
    }
}

impl History {
    /// Opens the history. It blocks.
    ///
    /// # Errors
    /// When the folder or the database cannot be used.
    pub fn open(root: &Path, db: Db) -> Result<Arc<Self>> {
        let blobs = Blobs::open(&root.join("history"))?;
        let stored = db.load::<Stored>(RECORDS)?;
        let records = stored
            .into_iter()
            .filter_map(|(id, stored)| Some((id, stored.read()?)));
        let history = Self {
            db,
            blobs,
            records: Mutex::new(records.collect()),
            running: Mutex::default(),
            writing: Mutex::default(),
            events: broadcast::channel(LAG).0,
        };
        history.shrink();
        Ok(Arc::new(history))
    }

    /// The blobs of the records.
    #[must_use]
    pub fn blobs(&self) -> &Blobs {
        &self.blobs
    }

    /// Notes that a build begins.
    #[must_use]
    pub fn begin(self: &Arc<Self>, job: &Arc<Job>, begun: Begun) -> Entry {
        let attrs = begun
            .attrs
            .into_iter()
            .map(|(name, value)| match name.as_str() {
                IMPORTS => (name, places(&value)),
                _ => (name, redact(&value)),
            });
        let record = BuildHistoryRecord {
            r#ref: job.id.clone(),
            frontend: begun.frontend,
            frontend_attrs: attrs.collect(),
            exporters: begun.exporters,
            created_at: Some(now()),
            generation: 1,
            ..BuildHistoryRecord::default()
        };
        // nobody may listen
        let _heard = self
            .events
            .send(event(BuildHistoryEventType::Started, &record));
        locked(&self.running).insert(job.id.clone(), record);
        Entry {
            history: Arc::clone(self),
            job: Arc::clone(job),
            ended: false,
        }
    }

    fn add(&self, record: BuildHistoryRecord) {
        let id = record.r#ref.clone();
        self.db.put(RECORDS, &id, &Stored::of(&record));
        let _heard = self
            .events
            .send(event(BuildHistoryEventType::Complete, &record));
        locked(&self.records).insert(id, record);
        self.shrink();
    }

    /// Removes the oldest builds beyond the limits, and the blobs that no build has.
    fn shrink(&self) {
        let mut records = locked(&self.records);
        let mut all: Vec<(i64, String)> = records
            .values()
            .filter(|record| !record.pinned)
            .map(|record| (seconds(record), record.r#ref.clone()))
            .collect();
        all.sort_unstable();
        let oldest = (Timestamp::now() - MAX_AGE).as_second();
        let surplus = all.len().saturating_sub(MAX_RECORDS);
        let gone = all
            .into_iter()
            .enumerate()
            .filter(|(at, (time, _))| *at < surplus || *time < oldest);
        for (_, (_, id)) in gone {
            records.remove(&id);
            self.db.remove(RECORDS, &id);
        }
        let used = records
            .values()
            .flat_map(descriptors)
            .map(|found| found.digest.clone())
            .collect();
        self.blobs.retain(&used);
    }

    /// A build by its name.
    #[must_use]
    pub fn get(&self, id: &str) -> Option<BuildHistoryRecord> {
        locked(&self.records).get(id).cloned()
    }

    /// All builds of the past, or also those that go on, as events, the oldest first.
    #[must_use]
    pub fn list(&self, running_only: bool) -> Vec<BuildHistoryEvent> {
        let mut all = Vec::new();
        if !running_only {
            let records = locked(&self.records);
            all.extend(
                records
                    .values()
                    .map(|record| event(BuildHistoryEventType::Complete, record)),
            );
        }
        let running = locked(&self.running);
        all.extend(
            running
                .values()
                .map(|record| event(BuildHistoryEventType::Started, record)),
        );
        drop(running);
        all.sort_by_key(|event| event.record.as_ref().map(seconds));
        all
    }

    /// What happens from now on.
    #[must_use]
    pub fn subscribe(&self) -> broadcast::Receiver<BuildHistoryEvent> {
        self.events.subscribe()
    }

    /// What a build of the past told.
    ///
    /// # Errors
    /// When it is not there any more.
    pub fn told(&self, id: &str) -> Result<Vec<StatusResponse>> {
        let record = self
            .get(id)
            .ok_or_else(|| Error::not_found(format!("no such job {id}")))?;
        let Some(logs) = record.logs else {
            return Ok(Vec::new());
        };
        let bytes = self.blobs.read(&logs.digest)?;
        let mut rest = bytes.as_slice();
        let mut all = Vec::new();
        while let Some((length, behind)) = rest.split_first_chunk::<4>() {
            let length = usize::try_from(u32::from_le_bytes(*length)).unwrap_or(usize::MAX);
            let Some((message, behind)) = behind.split_at_checked(length) else {
                break;
            };
            if let Ok(message) = StatusResponse::decode(message) {
                all.push(message);
            }
            rest = behind;
        }
        Ok(all)
    }

    /// Removes a build of the past.
    ///
    /// # Errors
    /// When there is none of this name.
    pub fn remove(&self, id: &str) -> Result<()> {
        let _writing = locked(&self.writing);
        let removed = locked(&self.records).remove(id);
        let record =
            removed.ok_or_else(|| Error::not_found(format!("lease \"ref_{id}\": not found")))?;
        self.db.remove(RECORDS, id);
        let _heard = self
            .events
            .send(event(BuildHistoryEventType::Deleted, &record));
        self.shrink();
        Ok(())
    }

    /// Keeps a build of the past for ever, or no longer.
    ///
    /// # Errors
    /// When there is none of this name.
    pub fn pin(&self, id: &str, pinned: bool) -> Result<()> {
        let mut records = locked(&self.records);
        let record = records.get_mut(id).ok_or_else(|| {
            Error::not_found(format!("failed to retrieve ref {id}: file does not exist"))
        })?;
        record.pinned = pinned;
        record.generation += 1;
        self.db.put(RECORDS, id, &Stored::of(record));
        let _heard = self
            .events
            .send(event(BuildHistoryEventType::Complete, record));
        Ok(())
    }
}

fn seconds(record: &BuildHistoryRecord) -> i64 {
    record.created_at.as_ref().map_or(0, |time| time.seconds)
}

fn descriptors(record: &BuildHistoryRecord) -> impl Iterator<Item = &Descriptor> {
    let own = [&record.logs, &record.trace, &record.external_error];
    let results = record.result.iter().chain(record.results.values());
    let statements = results.flat_map(|result| &result.attestations);
    own.into_iter().flatten().chain(statements)
}

/// The caches of a build by their places.
fn places(value: &str) -> String {
    let mut caches: Vec<serde_json::Value> = serde_json::from_str(value).unwrap_or_default();
    for cache in &mut caches {
        let attrs = cache.get_mut("Attrs");
        if let Some(attrs) = attrs.and_then(serde_json::Value::as_object_mut) {
            attrs.retain(|name, _| PLACE.contains(&name.as_str()));
        }
    }
    redact(&serde_json::Value::from(caches).to_string())
}

/// A setting without what may be a password in an address (CVE of credentials in provenance:
/// GHSA-gc89-7gcr-jxqc).
fn redact(value: &str) -> String {
    let Some((scheme, rest)) = value.split_once("://") else {
        return value.to_owned();
    };
    let end = rest.find(['/', '?', '#']).unwrap_or(rest.len());
    match rest[..end].rfind('@') {
        Some(at) => format!("{scheme}://xxxxx{}", &rest[at..]),
        None => value.to_owned(),
    }
}

impl Entry {
    /// Notes how the build ended.
    pub fn end(mut self, result: std::result::Result<&BTreeMap<String, String>, &rpc::Status>) {
        self.close(result);
    }

    fn close(&mut self, result: std::result::Result<&BTreeMap<String, String>, &rpc::Status>) {
        self.ended = true;
        let Some(mut record) = locked(&self.history.running).remove(&self.job.id) else {
            return;
        };
        let _writing = locked(&self.history.writing);
        record.completed_at = Some(now());
        let counts = self.job.progress.counts();
        record.num_cached_steps = counts.cached;
        record.num_total_steps = counts.total;
        record.num_completed_steps = counts.completed;
        let (logs, warnings) = logs(&self.job);
        record.num_warnings = warnings;
        let blobs = &self.history.blobs;
        record.logs = blobs.keep(LOGS, &logs);
        match result {
            Ok(response) => {
                record.exporter_response = response.clone().into_iter().collect();
                record.result = result_of(response);
                self.add_statements(&mut record);
            }
            Err(status) => {
                record.external_error = blobs.keep(ERROR, &status.encode_to_vec());
                record.error = Some(rpc::Status {
                    details: Vec::new(),
                    ..status.clone()
                });
            }
        }
        self.history.add(record);
    }

    /// Adds how the results were made; that of a build for several platforms for each of them.
    fn add_statements(&self, record: &mut BuildHistoryRecord) {
        let all = self.job.statements();
        let is_one = all.len() == 1;
        for (platform, statement) in all {
            let Ok(bytes) = serde_json::to_vec_pretty(&statement.predicate) else {
                continue;
            };
            let Some(mut kept) = self.history.blobs.keep(STATEMENT, &bytes) else {
                continue;
            };
            let predicate = statement.predicate_type;
            kept.annotations.insert(PREDICATE.to_owned(), predicate);
            let result = match is_one {
                true => record.result.get_or_insert_default(),
                false => record.results.entry(platform).or_default(),
            };
            result.attestations.push(kept);
        }
    }
}

impl Drop for Entry {
    fn drop(&mut self) {
        if !self.ended {
            let status = rpc::Status {
                code: 1,
                message: "context canceled".to_owned(),
                details: Vec::new(),
            };
            self.close(Err(&status));
        }
    }
}

/// What an image exporter says of the image.
fn result_of(response: &BTreeMap<String, String>) -> Option<BuildResultInfo> {
    use base64::Engine as _;
    let text = response.get("containerimage.descriptor")?;
    let json = base64::engine::general_purpose::STANDARD
        .decode(text)
        .ok()?;
    let value: serde_json::Value = serde_json::from_slice(&json).ok()?;
    let text = |name: &str| value.get(name)?.as_str().map(str::to_owned);
    let descriptor = Descriptor {
        media_type: text("mediaType")?,
        digest: text("digest")?,
        size: value.get("size")?.as_i64()?,
        annotations: HashMap::new(),
    };
    Some(BuildResultInfo {
        result_deprecated: Some(descriptor.clone()),
        attestations: Vec::new(),
        results: HashMap::from([(0, descriptor)]),
    })
}

/// What a job told, as clients read it, and how many warnings there were.
fn logs(job: &Arc<Job>) -> (Vec<u8>, i32) {
    let mut told = job.progress.subscribe();
    let (mut bytes, mut warnings) = (Vec::new(), 0_usize);
    while let (Some(update), _) = told.take() {
        warnings += update.warnings.len();
        append(&mut bytes, &update);
        if bytes.len() > MAX_LOGS {
            break;
        }
    }
    (bytes, i32::try_from(warnings).unwrap_or(i32::MAX))
}

fn append(bytes: &mut Vec<u8>, update: &Update) {
    let message = update.encode_to_vec();
    if let Ok(length) = u32::try_from(message.len()) {
        bytes.extend_from_slice(&length.to_le_bytes());
        bytes.extend_from_slice(&message);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_lose_passwords() {
        for (value, expect) in [
            ("https://u:p@e.com/a@b", "https://xxxxx@e.com/a@b"),
            ("https://e.com/a@b", "https://e.com/a@b"),
            ("a@b", "a@b"),
            ("https://t@e.com", "https://xxxxx@e.com"),
        ] {
            assert_eq!(redact(value), expect);
        }
    }

    #[test]
    fn caches_lose_tokens() {
        for (value, expect) in [
            (
                r#"[{"Type":"gha","Attrs":{"scope":"a","token":"t","url":"http://u/"}}]"#,
                r#"[{"Attrs":{"scope":"a"},"Type":"gha"}]"#,
            ),
            (
                r#"[{"Type":"s3","Attrs":{"secret_access_key":"s"}}]"#,
                r#"[{"Attrs":{},"Type":"s3"}]"#,
            ),
            (r#"[1,{"Attrs":2},null]"#, r#"[1,{"Attrs":2},null]"#),
            ("token", "[]"),
        ] {
            let read = |text: &str| serde_json::from_str::<serde_json::Value>(text).unwrap();
            assert_eq!(read(&places(value)), read(expect), "{value}");
        }
    }

    #[tokio::test]
    async fn kept_and_bounded() {
        let folder = tempfile::tempdir().unwrap();
        let db = Db::open(&folder.path().join("db")).unwrap();
        let history = History::open(folder.path(), db.clone()).unwrap();
        let record = |number: usize| BuildHistoryRecord {
            r#ref: format!("r{number}"),
            created_at: Some(bollard_buildkit_proto::google::protobuf::Timestamp {
                seconds: Timestamp::now().as_second() + i64::try_from(number).unwrap(),
                nanos: 0,
            }),
            logs: history
                .blobs()
                .keep(LOGS, format!("log {number}").as_bytes()),
            ..BuildHistoryRecord::default()
        };
        history.add(record(0));
        history.pin("r0", true).unwrap();
        for number in 1..MAX_RECORDS + 3 {
            history.add(record(number));
        }
        let kept: Vec<String> = history
            .list(false)
            .into_iter()
            .map(|event| event.record.unwrap().r#ref)
            .collect();
        assert_eq!(
            (kept.len(), &*kept[0], &*kept[1]),
            (MAX_RECORDS + 1, "r0", "r3")
        );
        assert!(history.list(true).is_empty());
        let digest = |id: &str| history.get(id).unwrap().logs.unwrap().digest;
        assert_eq!(history.blobs().read(&digest("r0")).unwrap(), b"log 0");
        let last = digest("r5");
        history.remove("r5").unwrap();
        assert!(history.blobs().read(&last).is_err());
        assert!(history.remove("r5").is_err() && history.pin("r5", true).is_err());
        db.flush().await;
        let again = History::open(folder.path(), db).unwrap();
        assert_eq!(again.list(false).len(), MAX_RECORDS);
        assert!(again.get("r0").unwrap().pinned);
    }
}
