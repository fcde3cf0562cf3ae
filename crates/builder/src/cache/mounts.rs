//! Cache mounts, shown and pruned with the rest.

use super::{OtherStore, RecordKind, Usage, Uses};
use crate::error::Result;
use crate::ops::cache_mount::{CacheMountState, CacheMounts};

impl From<CacheMountState> for Usage {
    fn from(state: CacheMountState) -> Self {
        let record = state.record;
        Self {
            id: record.name,
            parents: Vec::new(),
            mutable: true,
            in_use: state.in_use,
            shared: false,
            size: state.size,
            created: record.created,
            uses: Some(Uses {
                last: record.last_used,
                count: record.uses,
            }),
            description: format!("cached mount {}", record.id),
            kind: RecordKind::CacheMount,
        }
    }
}

impl OtherStore for CacheMounts {
    fn list(&self) -> Vec<Usage> {
        Self::list(self).into_iter().map(Usage::from).collect()
    }

    fn remove(&self, id: &str) -> Result<bool> {
        Self::remove(self, id)
    }
}
