//! What the cache takes, as clients see it.

use std::sync::Arc;

use bollard_buildkit_proto::google::protobuf;
use bollard_buildkit_proto::moby::buildkit::v1::UsageRecord;
use jiff::Timestamp;

use super::filter::Filter;
use super::{Cache, Known, RecordKind, Uses};
use crate::error::{Error, Result};

/// One thing that the cache has.
#[derive(Clone, Debug, Default)]
pub struct Usage {
    /// Its name.
    pub id: String,
    /// What it was made from.
    pub parents: Vec<String>,
    /// Whether its content changes.
    pub mutable: bool,
    /// Whether a build uses it now.
    pub in_use: bool,
    /// Whether an image has its content, too.
    pub shared: bool,
    /// Bytes.
    pub size: u64,
    /// When it was made.
    pub created: Timestamp,
    /// When it was last used, and how often.
    pub uses: Option<Uses>,
    /// What made it, for people.
    pub description: String,
    /// What it is.
    pub kind: RecordKind,
}

impl From<Usage> for UsageRecord {
    fn from(usage: Usage) -> Self {
        let wire = |at: Timestamp| protobuf::Timestamp {
            seconds: at.as_second(),
            nanos: at.subsec_nanosecond(),
        };
        let signed = |n: u64| i64::try_from(n).unwrap_or(i64::MAX);
        Self {
            id: usage.id,
            mutable: usage.mutable,
            in_use: usage.in_use,
            size: signed(usage.size),
            created_at: Some(wire(usage.created)),
            last_used_at: usage.uses.map(|u| wire(u.last)),
            usage_count: usage.uses.map_or(0, |u| signed(u.count)),
            description: usage.description,
            record_type: usage.kind.name().to_owned(),
            shared: usage.shared,
            parents: usage.parents,
            ..Self::default()
        }
    }
}

impl From<&Known> for Usage {
    fn from(known: &Known) -> Self {
        let record = &known.record;
        Self {
            id: record.id.clone(),
            parents: record.parents.clone(),
            mutable: false,
            in_use: known.used.strong_count() > 0,
            shared: false,
            size: record.size,
            created: record.created,
            uses: Some(known.uses),
            description: record.description.clone(),
            kind: record.kind,
        }
    }
}

impl Cache {
    /// Everything that the cache has and that the filters select, what was made first, first.
    ///
    /// # Errors
    /// When a filter is malformed.
    pub async fn disk_usage(self: &Arc<Self>, filters: &[String]) -> Result<Vec<Usage>> {
        let filter = Filter::parse(filters)?;
        let cache = Arc::clone(self);
        let list = tokio::task::spawn_blocking(move || cache.usage()).await;
        let mut list = list.map_err(|e| Error::system("measure the build cache", &e))?;
        list.retain(|usage| filter.matches(usage));
        list.sort_by(|a, b| a.created.cmp(&b.created).then_with(|| a.id.cmp(&b.id)));
        Ok(list)
    }

    /// Everything that the cache has. It blocks.
    pub(super) fn usage(&self) -> Vec<Usage> {
        let (mut list, outputs): (Vec<Usage>, Vec<_>) = {
            let state = self.state();
            let known = state.records.values();
            known
                .map(|known| (Usage::from(known), Arc::clone(&known.record)))
                .unzip()
        };
        // what has become a layer of an image is the image's, too
        for (usage, record) in list.iter_mut().zip(outputs) {
            usage.shared = record.outputs.iter().any(|ids| {
                let own = ids.last().map(std::slice::from_ref);
                let snapshot = own.and_then(|own| self.snapshots.restore(own));
                let layers = snapshot.as_ref().map_or(&[][..], |s| s.layers());
                layers.iter().any(|layer| layer.image().is_some())
            });
        }
        for other in self.others() {
            list.extend(other.list());
        }
        list
    }
}
