//! Records as the database has them.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use bollard_buildkit_proto::moby::buildkit::v1::BuildHistoryRecord;
use prost::Message;
use serde::{Deserialize, Serialize};

/// A record: the protocol's own bytes, so that a newer field is not lost.
#[derive(Debug, Serialize, Deserialize)]
pub(super) struct Stored {
    message: String,
}

impl Stored {
    pub(super) fn of(record: &BuildHistoryRecord) -> Self {
        Self {
            message: STANDARD.encode(record.encode_to_vec()),
        }
    }

    pub(super) fn read(&self) -> Option<BuildHistoryRecord> {
        let bytes = STANDARD.decode(&self.message).ok()?;
        BuildHistoryRecord::decode(bytes.as_slice()).ok()
    }
}
