//! What builds keep.

use bollard_buildkit_proto::moby::buildkit::v1 as proto;
use jiff::Timestamp;
use proto::control_client::ControlClient;

use super::build::BuildError;
use super::link::{self, Stream};

/// A thing in the cache of builds.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct CacheRecord {
    /// Its name.
    pub id: String,
    /// What it was made from.
    pub parents: Vec<String>,
    /// Whether steps may still write to it.
    pub mutable: bool,
    /// Whether a build uses it.
    pub in_use: bool,
    /// Bytes on disk.
    pub size: i64,
    /// When it was made.
    pub created: Option<Timestamp>,
    /// When it was last used.
    pub last_used: Option<Timestamp>,
    /// How often it was used.
    pub uses: i64,
    /// What made it.
    pub description: String,
    /// What it is: `regular`, `source.local`, `exec.cachemount`...
    pub kind: String,
    /// Whether an image has it too.
    pub shared: bool,
}

impl From<proto::UsageRecord> for CacheRecord {
    fn from(wire: proto::UsageRecord) -> Self {
        let time = |wire: Option<bollard_buildkit_proto::google::protobuf::Timestamp>| {
            wire.and_then(|at| Timestamp::new(at.seconds, at.nanos).ok())
        };
        Self {
            id: wire.id,
            parents: wire.parents,
            mutable: wire.mutable,
            in_use: wire.in_use,
            size: wire.size,
            created: time(wire.created_at),
            last_used: time(wire.last_used_at),
            uses: wire.usage_count,
            description: wire.description,
            kind: wire.record_type,
            shared: wire.shared,
        }
    }
}

/// What is in the cache.
///
/// # Errors
/// When the engine cannot be spoken to or a filter is wrong.
pub async fn disk_usage(
    control: Stream,
    filters: Vec<String>,
) -> Result<Vec<CacheRecord>, BuildError> {
    let mut client = ControlClient::new(link::channel(control).await?);
    let request = proto::DiskUsageRequest {
        filter: filters,
        age_limit: 0,
    };
    let answer = client.disk_usage(request).await.map_err(refused)?;
    let records = answer.into_inner().record.into_iter();
    Ok(records.map(CacheRecord::from).collect())
}

#[expect(clippy::needless_pass_by_value, reason = "a function for map_err")]
fn refused(status: tonic::Status) -> BuildError {
    BuildError::Refused {
        message: status.message().to_owned(),
        excerpts: Vec::new(),
        vertex: None,
    }
}
