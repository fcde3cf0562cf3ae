//! When an image was last used: what the collector goes by.

use std::collections::HashMap;
use std::sync::Mutex;

use jiff::{SignedDuration, Timestamp};
use oci::Digest;

use crate::container::lock;
use crate::db::{Db, Table};
use crate::engine::Engine;
use crate::error::Result;

/// A use is written down when the last that was is older: starts follow each other closely.
const PRECISION: SignedDuration = SignedDuration::from_secs(60);

/// The times by image.
#[derive(Debug, Default)]
pub(super) struct Uses(Mutex<HashMap<Digest, Timestamp>>);

impl Uses {
    pub(super) fn load(db: &Db) -> Result<Self> {
        let mut uses = HashMap::new();
        for (key, time) in db.load::<Timestamp>(Table::Uses)? {
            if let Ok(id) = key.parse() {
                uses.insert(id, time);
            }
        }
        Ok(Self(Mutex::new(uses)))
    }

    pub(super) fn last(&self, id: &Digest) -> Option<Timestamp> {
        lock(&self.0).get(id).copied()
    }

    pub(super) fn forget(&self, id: &Digest) {
        lock(&self.0).remove(id);
    }

    /// Notes that an image was last used at a time of a test's choice.
    #[cfg(test)]
    pub(super) fn set(&self, id: &Digest, time: Timestamp) {
        lock(&self.0).insert(id.clone(), time);
    }

    /// Notes a use; says whether it is to be written down.
    fn note(&self, id: &Digest, now: Timestamp) -> bool {
        let mut uses = lock(&self.0);
        match uses.get(id) {
            Some(last) if now.duration_since(*last) < PRECISION && now >= *last => false,
            _ => {
                uses.insert(id.clone(), now);
                true
            }
        }
    }
}

impl Engine {
    /// Notes that an image is used now.
    pub(crate) async fn image_used(&self, id: &Digest) {
        let now = Timestamp::now();
        if self.images.uses.note(id, now) {
            self.db.put_later(Table::Uses, &id.to_string(), &now).await;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_use_is_noted_once_a_minute() {
        let uses = Uses::default();
        let id = Digest::from_sha256(&[1; 32]);
        let at = |second: i64| Timestamp::from_second(1_000_000 + second).unwrap();
        assert!(uses.note(&id, at(0)));
        assert!(!uses.note(&id, at(59)));
        assert!(uses.note(&id, at(60)));
        assert_eq!(uses.last(&id), Some(at(60)));
        // a clock that was set back does not keep an image new for ever
        assert!(uses.note(&id, at(0)));
        uses.forget(&id);
        assert_eq!(uses.last(&id), None);
    }
}
