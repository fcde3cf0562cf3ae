//! The control service.

use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use bollard_buildkit_proto::moby::buildkit::v1::control_server::Control;
use bollard_buildkit_proto::moby::buildkit::v1::{
    BuildHistoryEvent, BuildHistoryRequest, BytesMessage, DiskUsageRequest, DiskUsageResponse,
    InfoRequest, InfoResponse, ListWorkersRequest, ListWorkersResponse, PruneRequest, SolveRequest,
    SolveResponse, StatusRequest, UpdateBuildHistoryRequest, UpdateBuildHistoryResponse,
    UsageRecord,
};
use futures_util::{Stream, stream};
use tonic::{Request, Response, Status, Streaming};

use super::bridge::Bridges;
use super::status::{failure, status};
use super::{history, session, solve, watch, workers};
use crate::Builder;
use crate::cache;
use crate::job::Telling;

/// How long a client may ask for what a job tells before it begins the job.
const JOB: Duration = Duration::from_secs(10);

/// The control service of a build engine.
#[derive(Debug)]
pub(super) struct Service {
    builder: Arc<Builder>,
    bridges: Arc<Bridges>,
}

impl Service {
    pub(super) fn new(builder: Arc<Builder>, bridges: Arc<Bridges>) -> Self {
        Self { builder, bridges }
    }
}

/// A stream of answers.
type Answers<T> = Pin<Box<dyn Stream<Item = Result<T, Status>> + Send>>;

/// Bytes of a limit; what is not positive is none.
fn limit(bytes: i64) -> Option<u64> {
    u64::try_from(bytes).ok().filter(|bytes| *bytes > 0)
}

/// A time that clients give in nanoseconds.
fn duration(nanoseconds: i64) -> Option<Duration> {
    limit(nanoseconds).map(Duration::from_nanos)
}

#[tonic::async_trait]
impl Control for Service {
    async fn disk_usage(
        &self,
        request: Request<DiskUsageRequest>,
    ) -> Result<Response<DiskUsageResponse>, Status> {
        let request = request.into_inner();
        let usage = self.builder.cache.disk_usage(&request.filter).await;
        let mut record: Vec<UsageRecord> = usage
            .map_err(|error| status(&error))?
            .into_iter()
            .map(UsageRecord::from)
            .collect();
        if let Some(age) = duration(request.age_limit) {
            let youngest = jiff::Timestamp::now() - age;
            record.retain(|record| {
                let last = record.last_used_at.or(record.created_at);
                last.is_some_and(|last| last.seconds <= youngest.as_second())
            });
        }
        Ok(Response::new(DiskUsageResponse { record }))
    }

    type PruneStream = Answers<UsageRecord>;

    async fn prune(
        &self,
        request: Request<PruneRequest>,
    ) -> Result<Response<Self::PruneStream>, Status> {
        let request = request.into_inner();
        let wanted = cache::PruneRequest {
            all: request.all,
            filters: request.filter,
            unused_for: duration(request.keep_duration),
            reserved_space: limit(request.reserved_space),
            max_used: limit(request.max_used_space),
            min_free: limit(request.min_free_space),
        };
        let cache = Arc::clone(&self.builder.cache);
        // to its end, although the client may leave
        let pruned = tokio::spawn(async move { cache.prune(wanted).await }).await;
        let pruned = pruned.map_err(|error| Status::internal(error.to_string()))?;
        let gone = pruned.map_err(|error| status(&error))?;
        let gone = gone.into_iter().map(|usage| Ok(UsageRecord::from(usage)));
        Ok(Response::new(Box::pin(stream::iter(gone))))
    }

    async fn solve(
        &self,
        request: Request<SolveRequest>,
    ) -> Result<Response<SolveResponse>, Status> {
        let solved = solve::solve(&self.builder, &self.bridges, request.into_inner()).await;
        solved.map(Response::new).map_err(|error| failure(&error))
    }

    type StatusStream = watch::Messages;

    async fn status(
        &self,
        request: Request<StatusRequest>,
    ) -> Result<Response<Self::StatusStream>, Status> {
        let id = &request.get_ref().r#ref;
        let telling = self.builder.wait_for_job(id, JOB).await;
        let messages = match telling.map_err(|error| status(&error))? {
            Telling::Progress(progress) => watch::watch(&progress),
            Telling::History => {
                let told = self.builder.history.told(id);
                let told = told.map_err(|error| status(&error))?;
                Box::pin(stream::iter(told.into_iter().map(Ok)))
            }
        };
        Ok(Response::new(messages))
    }

    type SessionStream = session::Messages;

    async fn session(
        &self,
        request: Request<Streaming<BytesMessage>>,
    ) -> Result<Response<Self::SessionStream>, Status> {
        let (head, _, incoming) = request.into_parts();
        let messages = session::open(&self.builder.sessions, head, incoming).await?;
        Ok(Response::new(messages))
    }

    async fn list_workers(
        &self,
        request: Request<ListWorkersRequest>,
    ) -> Result<Response<ListWorkersResponse>, Status> {
        let worker = workers::worker(&self.builder);
        let filters = &request.get_ref().filter;
        let record = workers::wanted(&worker, filters)?.then_some(worker);
        Ok(Response::new(ListWorkersResponse {
            record: record.into_iter().collect(),
        }))
    }

    async fn info(&self, _: Request<InfoRequest>) -> Result<Response<InfoResponse>, Status> {
        Ok(Response::new(InfoResponse {
            buildkit_version: Some(workers::version()),
        }))
    }

    type ListenBuildHistoryStream = Answers<BuildHistoryEvent>;

    async fn listen_build_history(
        &self,
        request: Request<BuildHistoryRequest>,
    ) -> Result<Response<Self::ListenBuildHistoryStream>, Status> {
        let events = history::listen(&self.builder.history, request.into_inner())?;
        Ok(Response::new(events))
    }

    async fn update_build_history(
        &self,
        request: Request<UpdateBuildHistoryRequest>,
    ) -> Result<Response<UpdateBuildHistoryResponse>, Status> {
        let request = request.get_ref();
        let past = &self.builder.history;
        let done = if request.delete {
            past.remove(&request.r#ref)
        } else if request.finalize {
            // what a build told is complete at its end already
            Ok(())
        } else {
            past.pin(&request.r#ref, request.pinned)
        };
        done.map_err(|error| Status::unknown(error.message()))?;
        Ok(Response::new(UpdateBuildHistoryResponse {}))
    }
}
