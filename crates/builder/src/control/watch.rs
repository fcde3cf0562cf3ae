//! What a job tells, as a stream of messages.

use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use bollard_buildkit_proto::moby::buildkit::v1::StatusResponse;
use futures_util::{Stream, stream};
use tonic::Status;

use crate::progress::{Progress, Subscription};

/// What comes within this time goes in one message, so that a client draws once for it.
const PACE: Duration = Duration::from_millis(50);

/// The messages about a job.
pub(super) type Messages = Pin<Box<dyn Stream<Item = Result<StatusResponse, Status>> + Send>>;

struct Watch {
    told: Subscription,
    first: bool,
}

/// Everything so far, then what comes, until the job has ended.
pub(super) fn watch(progress: &Arc<Progress>) -> Messages {
    let watch = Watch {
        told: progress.subscribe(),
        first: true,
    };
    Box::pin(stream::unfold(watch, |mut watch| async move {
        let update = watch.next().await?;
        Some((Ok(update), watch))
    }))
}

impl Watch {
    async fn next(&mut self) -> Option<StatusResponse> {
        if !std::mem::take(&mut self.first) {
            // the end is told at once
            drop(tokio::time::timeout(PACE, self.told.ended()).await);
        }
        self.told.next().await
    }
}
