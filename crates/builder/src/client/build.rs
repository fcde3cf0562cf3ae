//! One build: the request, its news, its end.

use std::collections::BTreeMap;
use std::time::Duration;

use bollard_buildkit_proto::moby::buildkit::v1 as proto;
use proto::control_client::ControlClient;
use proto::frontend as gateway;
use proto::frontend::llb_bridge_client::LlbBridgeClient;
use tokio::sync::mpsc;
use tonic::metadata::AsciiMetadataValue;
use tonic::transport::Channel;
use tonic::{Code, Request, Status};

use super::link::{self, LinkError, Stream};
use super::services::{self, Offer};
use super::source::{self, Excerpt};
use super::update::Update;

/// Names with values.
pub type Attributes = BTreeMap<String, String>;

/// How long the last news may take after the build has ended.
const LAST_NEWS: Duration = Duration::from_secs(5);
/// The header by which a request says which build it belongs to.
const BUILD_HEADER: &str = "buildkit-controlapi-buildid";

/// What becomes of a result.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Exporter {
    /// `image`, `local`, `tar`, `oci`, `docker`.
    pub kind: String,
    /// Its settings.
    pub attributes: Attributes,
}

/// A build as it is asked for.
#[derive(Clone, Debug, Default)]
pub struct Build {
    /// Its name, chosen by the client and used once.
    pub id: String,
    /// The front end, `dockerfile.v0`.
    pub frontend: String,
    /// The front end's settings.
    pub attributes: Attributes,
    /// What becomes of the result.
    pub exporters: Vec<Exporter>,
    /// Caches to read.
    pub cache_from: Vec<Exporter>,
    /// Caches to write.
    pub cache_to: Vec<Exporter>,
    /// Rights that steps may use.
    pub entitlements: Vec<String>,
}

/// How a build ended.
#[derive(Clone, Debug, Default)]
pub struct Outcome {
    /// What the exporters say: digests and names.
    pub response: Attributes,
}

/// What a front end answered instead of building.
#[derive(Clone, Debug, Default)]
pub struct Subrequest {
    /// Its documents by name, such as `result.txt`.
    pub metadata: BTreeMap<String, Vec<u8>>,
}

/// A build that failed.
#[derive(Debug, thiserror::Error)]
pub enum BuildError {
    /// The engine cannot be spoken to.
    #[error(transparent)]
    Link(#[from] LinkError),
    /// The engine says no, or a step failed.
    #[error("{message}")]
    Refused {
        /// Why.
        message: String,
        /// Where in which file.
        excerpts: Vec<Excerpt>,
        /// The step.
        vertex: Option<String>,
    },
    /// The front end's answer has no such document.
    #[error("the front end did not answer")]
    Empty,
}

impl BuildError {
    fn of(status: &Status) -> Self {
        let details = source::details(status);
        Self::Refused {
            message: status.message().to_owned(),
            excerpts: details.excerpts,
            vertex: details.vertex,
        }
    }
}

/// Builds: news go to `news` until its receiver is dropped, what the build asks the client for comes from `offer`.
///
/// # Errors
/// When the engine cannot be spoken to or the build fails.
pub async fn run(
    control: Stream,
    session: Stream,
    build: &Build,
    offer: Offer,
    news: mpsc::Sender<Update>,
) -> Result<Outcome, BuildError> {
    let session_id = offer.session.clone();
    let serving = services::Serving::start(session, offer);
    let channel = link::channel(control).await?;
    let following = tokio::spawn(follow(channel.clone(), build.id.clone(), news));
    let mut client = ControlClient::new(channel).max_decoding_message_size(MAX_MESSAGE);
    let answer = client.solve(request(build, session_id)).await;
    let abort = following.abort_handle();
    if tokio::time::timeout(LAST_NEWS, following).await.is_err() {
        abort.abort();
    }
    serving.end().await;
    let answer = answer.map_err(|status| BuildError::of(&status))?;
    Ok(Outcome {
        response: answer.into_inner().exporter_response.into_iter().collect(),
    })
}

/// The longest message that an engine may send.
const MAX_MESSAGE: usize = 64 << 20;

fn request(build: &Build, session: String) -> proto::SolveRequest {
    let entry = |exporter: &Exporter| proto::CacheOptionsEntry {
        r#type: exporter.kind.clone(),
        attrs: exporter.attributes.clone().into_iter().collect(),
    };
    let exporters = build.exporters.iter().map(|exporter| proto::Exporter {
        r#type: exporter.kind.clone(),
        attrs: exporter.attributes.clone().into_iter().collect(),
    });
    proto::SolveRequest {
        r#ref: build.id.clone(),
        session,
        frontend: build.frontend.clone(),
        frontend_attrs: build.attributes.clone().into_iter().collect(),
        exporters: exporters.collect(),
        cache: Some(proto::CacheOptions {
            imports: build.cache_from.iter().map(entry).collect(),
            exports: build.cache_to.iter().map(entry).collect(),
            ..proto::CacheOptions::default()
        }),
        entitlements: build.entitlements.clone(),
        ..proto::SolveRequest::default()
    }
}

/// Hands the news of a build on until there are no more.
async fn follow(channel: Channel, id: String, news: mpsc::Sender<Update>) {
    let mut client = ControlClient::new(channel).max_decoding_message_size(MAX_MESSAGE);
    let Ok(answer) = client.status(proto::StatusRequest { r#ref: id }).await else {
        return;
    };
    let mut stream = answer.into_inner();
    while let Ok(Some(update)) = stream.message().await {
        if news.send(Update::from(update)).await.is_err() {
            return;
        }
    }
}

/// Asks the front end a question about the Dockerfile (`frontend.lint`, `frontend.outline`,
/// `frontend.targets`), which builds nothing.
///
/// # Errors
/// When the engine cannot be spoken to or the Dockerfile is wrong.
pub async fn subrequest(
    control: Stream,
    session: Stream,
    build: &Build,
    offer: Offer,
    news: mpsc::Sender<Update>,
) -> Result<Subrequest, BuildError> {
    let session_id = offer.session.clone();
    let serving = services::Serving::start(session, offer);
    let channel = link::channel(control).await?;
    let following = tokio::spawn(follow(channel.clone(), build.id.clone(), news));
    let mut solve = request(build, session_id);
    solve.frontend = String::new();
    solve.frontend_attrs.clear();
    solve.internal = true;
    let mut client = ControlClient::new(channel.clone());
    let outer = tokio::spawn(async move { client.solve(solve).await.map(drop) });
    let answer = ask(channel, build).await;
    let ended = outer.await;
    following.abort();
    serving.end().await;
    match answer {
        // what went wrong is told by the request that was cut off
        Err(status) => match ended {
            Ok(Err(outer)) if status.code() == Code::Cancelled => Err(BuildError::of(&outer)),
            _ => Err(BuildError::of(&status)),
        },
        Ok(metadata) => Ok(Subrequest { metadata }),
    }
}

async fn ask(channel: Channel, build: &Build) -> Result<BTreeMap<String, Vec<u8>>, Status> {
    let mut bridge = LlbBridgeClient::new(channel).max_decoding_message_size(MAX_MESSAGE);
    wait_for_bridge(&mut bridge, &build.id).await?;
    let solve = gateway::SolveRequest {
        frontend: build.frontend.clone(),
        frontend_opt: build.attributes.clone().into_iter().collect(),
        allow_result_return: true,
        allow_result_array_ref: true,
        ..gateway::SolveRequest::default()
    };
    let answer = bridge.solve(named(solve, &build.id)?).await;
    let error = answer.as_ref().err().map(bollard_status);
    let finish = gateway::ReturnRequest {
        result: error.is_none().then(gateway::Result::default),
        error,
    };
    // the build is over whether or not the engine heard that its client has no more questions
    let _heard = bridge.r#return(named(finish, &build.id)?).await;
    let result = answer?.into_inner().result.unwrap_or_default();
    Ok(result.metadata.into_iter().collect())
}

fn bollard_status(status: &Status) -> bollard_buildkit_proto::google::rpc::Status {
    bollard_buildkit_proto::google::rpc::Status {
        code: i32::from(status.code()),
        message: status.message().to_owned(),
        details: Vec::new(),
    }
}

/// The bridge belongs to a build that the engine learns of by another request on the same connection.
async fn wait_for_bridge(bridge: &mut LlbBridgeClient<Channel>, build: &str) -> Result<(), Status> {
    const TRIES: u32 = 100;
    let mut last = Status::unavailable("no build");
    for _ in 0..TRIES {
        match bridge
            .ping(named(gateway::PingRequest::default(), build)?)
            .await
        {
            Ok(_) => return Ok(()),
            Err(status) => last = status,
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    Err(last)
}

fn named<T>(message: T, build: &str) -> Result<Request<T>, Status> {
    let value = AsciiMetadataValue::try_from(build)
        .map_err(|_| Status::invalid_argument(format!("invalid build id {build:?}")))?;
    let mut request = Request::new(message);
    request.metadata_mut().insert(BUILD_HEADER, value);
    Ok(request)
}
