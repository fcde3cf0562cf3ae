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
use futures_util::Stream;
use tonic::{Request, Response, Status, Streaming};

use super::status::status;
use super::{session, watch, workers};
use crate::Builder;

/// How long a client may ask for what a job tells before it begins the job.
const JOB: Duration = Duration::from_secs(10);

/// The control service of a build engine.
#[derive(Debug)]
pub(super) struct Service {
    builder: Arc<Builder>,
}

impl Service {
    pub(super) fn new(builder: Arc<Builder>) -> Self {
        Self { builder }
    }
}

/// A stream of answers.
type Answers<T> = Pin<Box<dyn Stream<Item = Result<T, Status>> + Send>>;

#[tonic::async_trait]
impl Control for Service {
    async fn disk_usage(
        &self,
        _: Request<DiskUsageRequest>,
    ) -> Result<Response<DiskUsageResponse>, Status> {
        Err(Status::unimplemented("the build cache cannot be listed"))
    }

    type PruneStream = Answers<UsageRecord>;

    async fn prune(&self, _: Request<PruneRequest>) -> Result<Response<Self::PruneStream>, Status> {
        Err(Status::unimplemented("the build cache cannot be pruned"))
    }

    async fn solve(&self, _: Request<SolveRequest>) -> Result<Response<SolveResponse>, Status> {
        Err(Status::unimplemented("nothing can be built"))
    }

    type StatusStream = watch::Messages;

    async fn status(
        &self,
        request: Request<StatusRequest>,
    ) -> Result<Response<Self::StatusStream>, Status> {
        let id = &request.get_ref().r#ref;
        let job = self.builder.wait_for_job(id, JOB).await;
        let job = job.map_err(|error| status(&error))?;
        Ok(Response::new(watch::watch(job)))
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
        _: Request<BuildHistoryRequest>,
    ) -> Result<Response<Self::ListenBuildHistoryStream>, Status> {
        Err(Status::unimplemented("there is no history"))
    }

    async fn update_build_history(
        &self,
        _: Request<UpdateBuildHistoryRequest>,
    ) -> Result<Response<UpdateBuildHistoryResponse>, Status> {
        Err(Status::unimplemented("there is no history"))
    }
}
