//! Files of containers: `archive` both ways, `export` and `changes`.

use api::archive::{Extract, PathStat, STAT_HEADER};
use axum::Router;
use axum::body::Body;
use axum::extract::{Path, Request, State};
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use http::header::CONTENT_TYPE;
use http::{HeaderName, HeaderValue, StatusCode};

use super::{Shared, to_the_end};
use crate::body::{BodyReader, empty, json};
use crate::error::{ApiError, Reply};
use crate::outgoing;
use crate::request::Params;

const TAR: HeaderValue = HeaderValue::from_static("application/x-tar");
const OCTETS: HeaderValue = HeaderValue::from_static("application/octet-stream");

pub(super) fn routes() -> Router<Shared> {
    Router::new()
        .route(
            "/containers/{id}/archive",
            get(copy_out).head(stat).put(copy_in),
        )
        .route("/containers/{id}/export", get(export))
        .route("/containers/{id}/changes", get(changes))
}

/// The header that tells of a path.
fn stat_header(stat: &PathStat) -> Result<(HeaderName, HeaderValue), ApiError> {
    let name = HeaderName::from_bytes(STAT_HEADER.as_bytes());
    let value = HeaderValue::from_str(&stat.to_header());
    match (name, value) {
        (Ok(name), Ok(value)) => Ok((name, value)),
        _ => Err(ApiError::new(
            StatusCode::INTERNAL_SERVER_ERROR,
            "the path cannot be told in a header",
        )),
    }
}

async fn stat(
    State(shared): State<Shared>,
    Path(id): Path<String>,
    Params(query): Params,
) -> Reply {
    let stat = shared.engine.container_stat(&id, query.get("path")).await?;
    Ok(([stat_header(&stat)?], ()).into_response())
}

async fn copy_out(
    State(shared): State<Shared>,
    Path(id): Path<String>,
    Params(query): Params,
) -> Reply {
    let engine = &shared.engine;
    let (stat, archive) = engine.container_archive(&id, query.get("path")).await?;
    let body = Body::from_stream(outgoing::body(archive).await);
    Ok(([stat_header(&stat)?, (CONTENT_TYPE, TAR)], body).into_response())
}

async fn copy_in(
    State(shared): State<Shared>,
    Path(id): Path<String>,
    Params(query): Params,
    request: Request,
) -> Reply {
    let wanted = Extract::from_query(&query);
    let _permit = outgoing::permit().await;
    let (reader, feed) = BodyReader::new(request.into_body());
    let work =
        to_the_end(async move { shared.engine.container_extract(&id, wanted, reader).await });
    tokio::pin!(work, feed);
    tokio::select! {
        // who is refused may not send more before it has the answer
        done = &mut work => done?,
        () = &mut feed => work.await?,
    }
    Ok(empty(StatusCode::OK))
}

async fn export(
    State(shared): State<Shared>,
    Path(id): Path<String>,
) -> Result<Response, ApiError> {
    let archive = shared.engine.container_export(&id).await?;
    let body = Body::from_stream(outgoing::body(archive).await);
    Ok(([(CONTENT_TYPE, OCTETS)], body).into_response())
}

async fn changes(State(shared): State<Shared>, Path(id): Path<String>) -> Reply {
    let changes = shared.engine.container_changes(&id).await?;
    Ok(json(StatusCode::OK, &changes))
}
