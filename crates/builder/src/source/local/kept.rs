//! The folders of clients that are kept between builds: shown and pruned with the rest of the cache.
//!
//! `locals/<name>/files` is what a client has sent, `locals/<name>/index` the list of it, and
//! `locals/<name>/record.json` what is known of it. A folder without a record is none.

use std::fs;
use std::io;
use std::path::Path;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use super::{Locals, Slot};
use crate::cache::{OtherStore, RecordKind, Usage, Uses};
use crate::error::{Result, Step as _};

/// The record's file, and the one that takes its place.
const RECORD: &str = "record.json";
const NEW: &str = "record.new";

/// What is known of a kept folder.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
struct Kept {
    /// The name by which the build asks for it, such as `context`.
    source: String,
    created: Timestamp,
    last_used: Timestamp,
    uses: u64,
    /// Bytes of its files.
    size: u64,
}

impl Kept {
    fn read(place: &Path) -> io::Result<Self> {
        Ok(serde_json::from_slice(&fs::read(place.join(RECORD))?)?)
    }

    fn write(&self, place: &Path) -> Result<()> {
        let step = || format!("write the record of {}", place.display());
        let text = serde_json::to_vec(self).step(step)?;
        fs::write(place.join(NEW), text).step(step)?;
        fs::rename(place.join(NEW), place.join(RECORD)).step(step)
    }
}

/// Removes folders of which nothing is known: a build of an engine that was killed has begun them.
pub(super) fn clean(folder: &Path) {
    for entry in fs::read_dir(folder).into_iter().flatten().flatten() {
        let path = entry.path();
        if Kept::read(&path).is_err()
            && let Err(error) = storage::trees::remove(&path)
        {
            let error: &dyn std::error::Error = &error;
            tracing::warn!(error, path = %path.display(), "a folder of a build stays");
        }
    }
}

impl Slot {
    /// Notes that a build uses the folder, before the client sends what has changed.
    pub(super) fn begin(&self, source: &str) -> Result<()> {
        let place = self.locals.folder.join(&self.name);
        let now = Timestamp::now();
        let known = Kept::read(&place);
        let kept = known.unwrap_or_else(|_| Kept {
            source: source.to_owned(),
            created: now,
            last_used: now,
            uses: 0,
            size: 0,
        });
        Kept {
            last_used: now,
            uses: kept.uses + 1,
            ..kept
        }
        .write(&place)
    }

    /// Notes what the folder takes since the client has sent what has changed.
    pub(super) fn note(&self, size: u64) -> Result<()> {
        let place = self.locals.folder.join(&self.name);
        let known = Kept::read(&place);
        let kept = known.step(|| format!("read the record of {}", place.display()))?;
        Kept { size, ..kept }.write(&place)
    }
}

impl OtherStore for Locals {
    fn list(&self) -> Vec<Usage> {
        let usage = |entry: fs::DirEntry| {
            let kept = Kept::read(&entry.path()).ok()?;
            let id = entry.file_name().into_string().ok()?;
            Some(Usage {
                in_use: self.used().contains(&id),
                id,
                parents: Vec::new(),
                mutable: true,
                shared: false,
                size: kept.size,
                created: kept.created,
                uses: Some(Uses {
                    last: kept.last_used,
                    count: kept.uses,
                }),
                description: format!("local source for {}", kept.source),
                kind: RecordKind::Local,
            })
        };
        let entries = fs::read_dir(&self.folder).into_iter().flatten();
        entries.flatten().filter_map(usage).collect()
    }

    fn remove(&self, id: &str) -> Result<bool> {
        let is_name = id.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-');
        let place = self.folder.join(id);
        if id.is_empty() || !is_name || Kept::read(&place).is_err() {
            return Ok(false);
        }
        let step = || format!("remove folder {}", place.display());
        // a build that wants it meanwhile gets another one
        if !self.used().insert(id.to_owned()) {
            return Ok(false);
        }
        // without its record it is no folder any more, whatever happens from here on
        let record = fs::remove_file(place.join(RECORD)).step(step);
        let removed = record.and_then(|()| storage::trees::remove(&place).step(step));
        self.used().remove(id);
        removed.map(|()| true)
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::super::take;
    use super::*;

    #[test]
    fn kept_folders_are_shown_and_removed() {
        let root = tempfile::tempdir().unwrap();
        let locals = Arc::new(Locals::open(root.path()));
        let folder = root.path().join("locals");
        let slot = take(&locals, "abc").unwrap();
        fs::create_dir_all(folder.join("abc-0/files")).unwrap();
        slot.begin("context").unwrap();
        slot.note(5000).unwrap();
        let shown = locals.list().remove(0);
        assert_eq!((shown.id.as_str(), shown.size), ("abc-0", 5000));
        assert_eq!(shown.description, "local source for context");
        assert!(shown.in_use && !locals.remove("abc-0").unwrap());
        drop(slot);
        let slot = take(&locals, "abc").unwrap();
        slot.begin("context").unwrap();
        drop(slot);
        let shown = locals.list().remove(0);
        assert_eq!((shown.size, shown.uses.unwrap().count), (5000, 2));
        for other in ["", "..", "abc-1", "../abc-0", "abc-0/files"] {
            assert!(!locals.remove(other).unwrap(), "{other}");
        }
        // what has no record is removed when the engine starts
        for left in ["half-0/files", "view-1/seen"] {
            fs::create_dir_all(folder.join(left)).unwrap();
        }
        assert_eq!(Locals::open(root.path()).list().len(), 1);
        assert_eq!(fs::read_dir(&folder).unwrap().count(), 1);
        assert!(locals.remove("abc-0").unwrap());
        assert!(locals.list().is_empty() && !folder.join("abc-0").exists());
        assert!(!locals.remove("abc-0").unwrap());
    }
}
