//! Whether the services can be used: always, while they answer.

use std::collections::HashMap;
use std::pin::Pin;

use bollard_buildkit_proto::health::health_check_response::ServingStatus;
use bollard_buildkit_proto::health::{
    HealthCheckRequest, HealthCheckResponse, HealthListRequest, HealthListResponse, health_server,
};
use futures_util::{Stream, StreamExt, stream};
use tonic::{Request, Response, Status};

/// The service that says so.
#[derive(Debug)]
pub(super) struct Health;

fn serving() -> HealthCheckResponse {
    HealthCheckResponse {
        status: ServingStatus::Serving.into(),
    }
}

/// Refuses to speak for services that are not here.
fn check(service: &str) -> Result<HealthCheckResponse, Status> {
    match service {
        "" | "moby.buildkit.v1.Control" | "moby.buildkit.v1.frontend.LLBBridge" => Ok(serving()),
        _ => Err(Status::not_found("unknown service")),
    }
}

#[tonic::async_trait]
impl health_server::Health for Health {
    async fn check(
        &self,
        request: Request<HealthCheckRequest>,
    ) -> Result<Response<HealthCheckResponse>, Status> {
        check(&request.get_ref().service).map(Response::new)
    }

    async fn list(
        &self,
        _: Request<HealthListRequest>,
    ) -> Result<Response<HealthListResponse>, Status> {
        let statuses = HashMap::from([(String::new(), serving())]);
        Ok(Response::new(HealthListResponse { statuses }))
    }

    type WatchStream = Pin<Box<dyn Stream<Item = Result<HealthCheckResponse, Status>> + Send>>;

    async fn watch(
        &self,
        request: Request<HealthCheckRequest>,
    ) -> Result<Response<Self::WatchStream>, Status> {
        let now = check(&request.get_ref().service)?;
        // the state never changes, and the end of the engine ends the stream
        let states = stream::iter([Ok(now)]).chain(stream::pending());
        Ok(Response::new(Box::pin(states)))
    }
}
