//! The history as a stream of events.

use std::pin::Pin;
use std::sync::Arc;

use bollard_buildkit_proto::moby::buildkit::v1::{
    BuildHistoryEvent, BuildHistoryRecord, BuildHistoryRequest,
};
use futures_util::{Stream, StreamExt, stream};
use tokio::sync::broadcast::error::RecvError;
use tonic::Status;

use super::filter::Filters;
use crate::history::History;

/// Events of the history.
pub(super) type Events = Pin<Box<dyn Stream<Item = Result<BuildHistoryEvent, Status>> + Send>>;

/// The builds that there are, and then what happens, unless the client wants no more than the first.
pub(super) fn listen(
    history: &Arc<History>,
    request: BuildHistoryRequest,
) -> Result<Events, Status> {
    let filters = Filters::parse(&request.filter);
    let filters = filters.map_err(|error| Status::invalid_argument(error.to_string()))?;
    let reference = request.r#ref;
    let wanted = move |event: &BuildHistoryEvent| {
        let Some(record) = &event.record else {
            return false;
        };
        let named = reference.is_empty() || record.r#ref == reference;
        named && filters.accept(|field| value(record, field))
    };
    let live = history.subscribe();
    let mut past = history.list(request.active_only);
    past.retain(&wanted);
    // of many the youngest
    if let Ok(limit @ 1..) = usize::try_from(request.limit) {
        past.drain(..past.len().saturating_sub(limit));
    }
    let past = stream::iter(past.into_iter().map(Ok));
    if request.early_exit {
        return Ok(Box::pin(past));
    }
    let live = stream::unfold(live, |mut live| async move {
        loop {
            match live.recv().await {
                Ok(event) => return Some((event, live)),
                Err(RecvError::Lagged(_)) => {}
                Err(RecvError::Closed) => return None,
            }
        }
    });
    let live = live
        .filter(move |event| std::future::ready(wanted(event)))
        .map(Ok);
    Ok(Box::pin(past.chain(live)))
}

/// A field of a record, as filters name it.
fn value(record: &BuildHistoryRecord, field: &str) -> Option<String> {
    match field {
        "ref" => Some(record.r#ref.clone()),
        "status" => Some(String::from(match (&record.completed_at, &record.error) {
            (None, _) => "running",
            (Some(_), None) => "completed",
            (Some(_), Some(error)) if error.code == 1 => "canceled",
            (Some(_), Some(_)) => "error",
        })),
        "repository" => {
            let attrs = &record.frontend_attrs;
            let found = attrs.get("vcs:source").or_else(|| attrs.get("context"));
            found.cloned()
        }
        _ => record
            .frontend_attrs
            .get(field.strip_prefix("frontendAttrs.")?)
            .cloned(),
    }
}
