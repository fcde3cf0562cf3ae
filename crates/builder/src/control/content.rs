//! containerd's content service over the blobs of the history: by it clients read what builds told.

use std::collections::HashMap;
use std::convert::Infallible;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::UNIX_EPOCH;

use bollard_buildkit_proto::google::protobuf::Timestamp;
use bytes::Bytes;
use futures_util::{Stream, stream};
use http::{Request as HttpRequest, Response as HttpResponse};
use tonic::body::Body;
use tonic::server::{Grpc, NamedService, ServerStreamingService, UnaryService};
use tonic::{Request, Response, Status};
use tonic_prost::ProstCodec;
use tower::Service;

use super::status::status;
use crate::content_messages::{
    Info, InfoRequest, InfoResponse, ListRequest, ListResponse, PIECE, ReadRequest, ReadResponse,
};
use crate::history::{Blob, History};

fn info(blob: &Blob) -> Info {
    let since = blob.created.duration_since(UNIX_EPOCH).unwrap_or_default();
    let created = Timestamp {
        seconds: i64::try_from(since.as_secs()).unwrap_or(i64::MAX),
        nanos: i32::try_from(since.subsec_nanos()).unwrap_or(0),
    };
    Info {
        digest: blob.digest.clone(),
        size: i64::try_from(blob.size).unwrap_or(i64::MAX),
        created_at: Some(created),
        updated_at: Some(created),
        labels: HashMap::new(),
    }
}

/// The content service of a history, of which nothing can be changed.
#[derive(Debug, Clone)]
pub(super) struct Content {
    history: Arc<History>,
}

impl Content {
    pub(super) fn new(history: Arc<History>) -> Self {
        Self { history }
    }

    fn info(&self, request: &InfoRequest) -> Result<InfoResponse, Status> {
        let blob = self.history.blobs().stat(&request.digest);
        let blob = blob.map_err(|error| status(&error))?;
        Ok(InfoResponse {
            info: Some(info(&blob)),
        })
    }

    fn read(&self, request: &ReadRequest) -> Result<Pieces, Status> {
        let bytes = self.history.blobs().read(&request.digest);
        let bytes = Bytes::from(bytes.map_err(|error| status(&error))?);
        let number = |number: i64| usize::try_from(number);
        let out_of_range = |_| Status::out_of_range("invalid offset or size");
        let start = number(request.offset)
            .map_err(out_of_range)?
            .min(bytes.len());
        let rest = bytes.len() - start;
        let length = match request.size {
            0 => rest,
            size => number(size).map_err(out_of_range)?.min(rest),
        };
        let wanted = bytes.slice(start..start + length);
        let pieces: Vec<_> = wanted
            .chunks(PIECE)
            .enumerate()
            .map(|(at, piece)| {
                Ok(ReadResponse {
                    offset: i64::try_from(start + at * PIECE).unwrap_or(i64::MAX),
                    data: wanted.slice_ref(piece),
                })
            })
            .collect();
        Ok(Box::pin(stream::iter(pieces)))
    }
}

type Pieces = Pin<Box<dyn Stream<Item = Result<ReadResponse, Status>> + Send>>;
type Answer<T> = Pin<Box<dyn Future<Output = Result<Response<T>, Status>> + Send>>;

/// A method of one message each way.
macro_rules! unary {
    ($name:ident, $request:ty, $response:ty, |$content:ident, $asked:ident| $answer:expr) => {
        struct $name(Content);

        impl UnaryService<$request> for $name {
            type Response = $response;
            type Future = Answer<$response>;

            fn call(&mut self, request: Request<$request>) -> Self::Future {
                let $content = self.0.clone();
                Box::pin(async move {
                    let $asked = request.into_inner();
                    let answer: Result<$response, Status> = $answer;
                    answer.map(Response::new)
                })
            }
        }
    };
}

unary!(InfoMethod, InfoRequest, InfoResponse, |content, request| {
    content.info(&request)
});
unary!(
    ListMethod,
    ListRequest,
    ListResponse,
    |content, _request| {
        let blobs = content.history.blobs().list();
        Ok(ListResponse {
            info: blobs.iter().map(info).collect(),
        })
    }
);

struct ReadMethod(Content);

impl ServerStreamingService<ReadRequest> for ReadMethod {
    type Response = ReadResponse;
    type ResponseStream = Pieces;
    type Future = Answer<Pieces>;

    fn call(&mut self, request: Request<ReadRequest>) -> Self::Future {
        let content = self.0.clone();
        Box::pin(async move { content.read(&request.into_inner()).map(Response::new) })
    }
}

impl NamedService for Content {
    const NAME: &'static str = "containerd.services.content.v1.Content";
}

impl Service<HttpRequest<Body>> for Content {
    type Response = HttpResponse<Body>;
    type Error = Infallible;
    type Future = Pin<Box<dyn Future<Output = Result<Self::Response, Infallible>> + Send>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: HttpRequest<Body>) -> Self::Future {
        let content = self.clone();
        Box::pin(async move {
            let method = request
                .uri()
                .path()
                .rsplit('/')
                .next()
                .unwrap_or_default()
                .to_owned();
            let response = match method.as_str() {
                "Info" => {
                    Grpc::new(ProstCodec::default())
                        .unary(InfoMethod(content), request)
                        .await
                }
                "List" => {
                    // all of them fit into one message
                    let mut grpc = Grpc::new(ProstCodec::default());
                    grpc.unary(ListMethod(content), request).await
                }
                "Read" => {
                    let mut grpc = Grpc::new(ProstCodec::default());
                    grpc.server_streaming(ReadMethod(content), request).await
                }
                other => Status::unimplemented(format!(
                    "the content of builds cannot be changed: {other}"
                ))
                .into_http(),
            };
            Ok(response)
        })
    }
}
