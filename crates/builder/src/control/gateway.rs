//! The gateway's service: what a front end may ask.

use std::pin::Pin;
use std::sync::Arc;

use bollard_buildkit_proto::moby::buildkit::v1::frontend::llb_bridge_server::LlbBridge;
use bollard_buildkit_proto::moby::buildkit::v1::frontend::{
    EvaluateRequest, EvaluateResponse, ExecMessage, InputsRequest, InputsResponse,
    NewContainerRequest, NewContainerResponse, PingRequest, PongResponse, ReadDirRequest,
    ReadDirResponse, ReadFileRequest, ReadFileResponse, ReleaseContainerRequest,
    ReleaseContainerResponse, ResolveImageConfigRequest, ResolveImageConfigResponse,
    ResolveSourceMetaRequest, ResolveSourceMetaResponse, ReturnRequest, ReturnResponse,
    SolveRequest, SolveResponse, StatFileRequest, StatFileResponse, WarnRequest, WarnResponse,
};
use futures_util::Stream;
use futures_util::future::try_join_all;
use tonic::metadata::MetadataMap;
use tonic::{Request, Response, Status, Streaming};

use super::bridge::{Bridge, Bridges, returned};
use super::status::failure;
use super::{caps, containers, files, meta, workers};
use crate::Builder;
use crate::error::{Error, Result};
use crate::front::{self, FrontendRequest};
use crate::policy::Policies;
use crate::progress::{Update, VertexWarning};

/// The header that says which build a call belongs to.
const BUILD: &str = "buildkit-controlapi-buildid";

/// The gateway's service of a build engine.
#[derive(Debug)]
pub(super) struct Gateway {
    builder: Arc<Builder>,
    whose: Whose,
}

/// Whose front end a connection is.
#[derive(Debug)]
pub(super) enum Whose {
    /// That of the build which a call names.
    Named(Arc<Bridges>),
    /// That of one build, whatever a call names.
    One(Arc<Bridge>),
}

/// An answer, or why there is none.
type Answer<T> = std::result::Result<Response<T>, Status>;

impl Gateway {
    pub(super) fn new(builder: Arc<Builder>, whose: Whose) -> Self {
        Self { builder, whose }
    }

    async fn bridge(&self, head: &MetadataMap, method: &str) -> Result<Arc<Bridge>> {
        let bridges = match &self.whose {
            Whose::Named(bridges) => bridges,
            Whose::One(bridge) => return Ok(Arc::clone(bridge)),
        };
        let id = head.get(BUILD).and_then(|id| id.to_str().ok());
        let none = || Error::invalid("no buildid found in context");
        let found = match id {
            Some(id) => bridges.get(id).await,
            None => Err(none()),
        };
        found.map_err(|error| error.context(format!("forwarding {method}")))
    }

    /// Runs a call against its build, until the build is over.
    async fn run<T, A, F>(
        &self,
        request: Request<T>,
        method: &str,
        work: impl FnOnce(Arc<Bridge>, T) -> F,
    ) -> Answer<A>
    where
        F: Future<Output = Result<A>>,
    {
        let (head, _, message) = request.into_parts();
        let bridge = self
            .bridge(&head, method)
            .await
            .map_err(|error| failure(&error))?;
        let cancel = bridge.job.cancel.clone();
        let done = cancel.run(work(bridge, message)).await;
        done.map(Response::new).map_err(|error| failure(&error))
    }
}

async fn solve(bridge: Arc<Bridge>, request: SolveRequest) -> Result<SolveResponse> {
    let policies = Policies::read(request.source_policies)?;
    if !policies.is_empty() && !request.frontend.is_empty() {
        return Err(Error::not_implemented(
            "source policies of a front end for another one are not supported",
        ));
    }
    let result = front::solve_frontend(
        &bridge.job,
        FrontendRequest {
            frontend: request.frontend,
            attrs: request.frontend_opt.into_iter().collect(),
            inputs: request.frontend_inputs.into_iter().collect(),
            definition: request.definition,
            policies,
            depth: bridge.depth.saturating_add(1),
        },
    )
    .await?;
    if request.evaluate {
        let all = result.refs.iter().filter_map(|(_, found)| found);
        try_join_all(all.map(|found| found.solve())).await?;
    }
    let result = bridge.give(&result)?;
    if request.allow_result_return {
        return Ok(SolveResponse {
            result: Some(result),
            ..SolveResponse::default()
        });
    }
    use bollard_buildkit_proto::moby::buildkit::v1::frontend::result::Result as Kind;
    match result.result {
        Some(Kind::Ref(found)) => Ok(SolveResponse {
            r#ref: found.id,
            result: None,
        }),
        _ => Err(Error::invalid("solve did not return default result")),
    }
}

async fn evaluate(bridge: Arc<Bridge>, request: EvaluateRequest) -> Result<EvaluateResponse> {
    if let Some(found) = bridge.find(&request.r#ref)? {
        found.solve().await?;
    }
    Ok(EvaluateResponse {})
}

fn warn(bridge: &Bridge, request: WarnRequest) {
    let warning = VertexWarning {
        vertex: request.digest,
        level: request.level,
        short: request.short,
        detail: request.detail,
        url: request.url,
        info: request.info,
        ranges: request.ranges,
    };
    bridge.job.progress.forward(Update {
        warnings: vec![warning],
        ..Update::default()
    });
}

/// The files of a mount of a container.
fn mount(bridge: &Bridge, id: &str, index: i32) -> Result<files::Whose> {
    Ok(files::Whose::Container(bridge.container(id)?, index))
}

#[tonic::async_trait]
impl LlbBridge for Gateway {
    async fn resolve_image_config(
        &self,
        request: Request<ResolveImageConfigRequest>,
    ) -> Answer<ResolveImageConfigResponse> {
        self.run(request, "ResolveImageConfig", async |bridge, request| {
            meta::image_config(&bridge, request).await
        })
        .await
    }

    async fn resolve_source_meta(
        &self,
        request: Request<ResolveSourceMetaRequest>,
    ) -> Answer<ResolveSourceMetaResponse> {
        self.run(request, "ResolveSourceMeta", async |bridge, request| {
            meta::source(&bridge, request).await
        })
        .await
    }

    async fn solve(&self, request: Request<SolveRequest>) -> Answer<SolveResponse> {
        self.run(request, "Solve", solve).await
    }

    async fn read_file(&self, request: Request<ReadFileRequest>) -> Answer<ReadFileResponse> {
        self.run(request, "ReadFile", async |bridge, request| {
            let found = bridge.find(&request.r#ref)?;
            files::read(files::Whose::Result(found), request).await
        })
        .await
    }

    async fn read_dir(&self, request: Request<ReadDirRequest>) -> Answer<ReadDirResponse> {
        self.run(request, "ReadDir", async |bridge, request| {
            let found = bridge.find(&request.r#ref)?;
            files::list(files::Whose::Result(found), request).await
        })
        .await
    }

    async fn stat_file(&self, request: Request<StatFileRequest>) -> Answer<StatFileResponse> {
        self.run(request, "StatFile", async |bridge, request| {
            let found = bridge.find(&request.r#ref)?;
            files::stat(files::Whose::Result(found), request).await
        })
        .await
    }

    async fn evaluate(&self, request: Request<EvaluateRequest>) -> Answer<EvaluateResponse> {
        self.run(request, "Evaluate", evaluate).await
    }

    async fn ping(&self, request: Request<PingRequest>) -> Answer<PongResponse> {
        let worker = workers::worker(&self.builder);
        self.run(request, "Ping", async move |_, _| {
            Ok(PongResponse {
                frontend_api_caps: caps::frontend(),
                llb_caps: caps::llb(),
                workers: vec![worker],
            })
        })
        .await
    }

    async fn r#return(&self, request: Request<ReturnRequest>) -> Answer<ReturnResponse> {
        self.run(request, "Return", async |bridge, request| {
            let result = match request.error {
                Some(error) => Err(returned(&error)),
                None => bridge.take(request.result.unwrap_or_default()),
            };
            bridge.finish(result);
            Ok(ReturnResponse {})
        })
        .await
    }

    async fn inputs(&self, request: Request<InputsRequest>) -> Answer<InputsResponse> {
        self.run(request, "Inputs", async |bridge, _| {
            let definitions = bridge.inputs.clone().into_iter().collect();
            Ok(InputsResponse { definitions })
        })
        .await
    }

    async fn new_container(
        &self,
        request: Request<NewContainerRequest>,
    ) -> Answer<NewContainerResponse> {
        self.run(request, "NewContainer", async |bridge, request| {
            containers::open(&bridge, request).await?;
            Ok(NewContainerResponse {})
        })
        .await
    }

    async fn release_container(
        &self,
        request: Request<ReleaseContainerRequest>,
    ) -> Answer<ReleaseContainerResponse> {
        self.run(request, "ReleaseContainer", async |bridge, request| {
            bridge.release_container(&request.container_id)?;
            Ok(ReleaseContainerResponse {})
        })
        .await
    }

    type ExecProcessStream =
        Pin<Box<dyn Stream<Item = std::result::Result<ExecMessage, Status>> + Send>>;

    async fn exec_process(
        &self,
        request: Request<Streaming<ExecMessage>>,
    ) -> Answer<Self::ExecProcessStream> {
        let (head, _, incoming) = request.into_parts();
        let bridge = self.bridge(&head, "ExecProcess").await;
        let bridge = bridge.map_err(|error| failure(&error))?;
        Ok(Response::new(Box::pin(containers::talk(bridge, incoming))))
    }

    async fn read_file_container(
        &self,
        request: Request<ReadFileRequest>,
    ) -> Answer<ReadFileResponse> {
        self.run(request, "ReadFileContainer", async |bridge, request| {
            let found = mount(&bridge, &request.r#ref, request.mount_index)?;
            files::read(found, request).await
        })
        .await
    }

    async fn read_dir_container(
        &self,
        request: Request<ReadDirRequest>,
    ) -> Answer<ReadDirResponse> {
        self.run(request, "ReadDirContainer", async |bridge, request| {
            let found = mount(&bridge, &request.r#ref, request.mount_index)?;
            files::list(found, request).await
        })
        .await
    }

    async fn stat_file_container(
        &self,
        request: Request<StatFileRequest>,
    ) -> Answer<StatFileResponse> {
        self.run(request, "StatFileContainer", async |bridge, request| {
            let found = mount(&bridge, &request.r#ref, request.mount_index)?;
            files::stat(found, request).await
        })
        .await
    }

    async fn warn(&self, request: Request<WarnRequest>) -> Answer<WarnResponse> {
        self.run(request, "Warn", async |bridge, request| {
            warn(&bridge, request);
            Ok(WarnResponse {})
        })
        .await
    }
}
