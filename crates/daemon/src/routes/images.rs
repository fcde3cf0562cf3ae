//! Images.

use api::image::Progress;
use api::query::{ImageCreate, ImageList, ImageRemove};
use api::registry::{AUTH_HEADER, AuthConfig};
use axum::body::Body;
use axum::extract::{Path, Request, State};
use axum::routing::{get, post};
use axum::{Extension, Router};
use bytes::Bytes;
use engine::ImportRequest;
use futures_util::{Stream, StreamExt, stream};
use http::{HeaderMap, StatusCode};
use tokio::sync::mpsc;

use super::{Shared, to_the_end};
use crate::body::{self, BodyError, BodyReader, JSON, empty, json};
use crate::error::{ApiError, Reply};
use crate::request::Params;
use crate::version::ApiVersion;

/// Messages of a pull that may wait for a slow client.
const MESSAGES: usize = 64;

/// Image names have slashes, so what is asked of an image stands behind a wildcard.
pub(super) fn routes() -> Router<Shared> {
    Router::new()
        .route("/images/json", get(list))
        .route("/images/create", post(create))
        .route("/images/prune", post(prune))
        .route("/images/load", post(|| refuse("loading images")))
        .route("/images/get", get(|| refuse("saving images")))
        .route("/images/search", get(|| refuse("searching registries")))
        .route("/images/{*rest}", get(show).post(act).delete(remove))
}

async fn refuse(what: &'static str) -> ApiError {
    ApiError::not_implemented(what)
}

fn page_not_found() -> ApiError {
    ApiError::new(StatusCode::NOT_FOUND, "page not found")
}

async fn list(
    State(shared): State<Shared>,
    Extension(version): Extension<ApiVersion>,
    Params(query): Params,
) -> Reply {
    let mut images = shared.engine.image_list(&ImageList::from_query(&query)?)?;
    if version < ApiVersion::one(44) {
        for image in &mut images {
            image.virtual_size = image.size;
        }
    }
    Ok(json(StatusCode::OK, &images))
}

async fn show(
    State(shared): State<Shared>,
    Extension(version): Extension<ApiVersion>,
    Path(rest): Path<String>,
) -> Reply {
    let (name, what) = rest.rsplit_once('/').ok_or_else(page_not_found)?;
    match what {
        "json" => {
            let mut image = shared.engine.image_inspect(name)?;
            for_version(&mut image, version);
            Ok(json(StatusCode::OK, &image))
        }
        "history" => {
            let history = shared.engine.image_history(name)?;
            Ok(json(StatusCode::OK, &history))
        }
        "get" => Err(ApiError::not_implemented("saving images")),
        "attestations" => Err(ApiError::not_implemented("listing attestations")),
        _ => Err(page_not_found()),
    }
}

/// Adds what older clients read.
fn for_version(image: &mut api::image::Inspect, version: ApiVersion) {
    if version < ApiVersion::one(44) {
        image.virtual_size = image.size;
    }
    if version < ApiVersion::one(45) {
        image.container_config = Some(api::container::Config::default());
    }
    if version < ApiVersion::one(50)
        && let Some(config) = &mut image.config
    {
        for text in [
            &mut config.hostname,
            &mut config.domainname,
            &mut config.image,
        ] {
            text.get_or_insert_default();
        }
        for flag in [
            &mut config.attach_stdin,
            &mut config.attach_stdout,
            &mut config.attach_stderr,
            &mut config.tty,
            &mut config.open_stdin,
            &mut config.stdin_once,
        ] {
            flag.get_or_insert_default();
        }
    }
}

async fn act(
    State(shared): State<Shared>,
    Path(rest): Path<String>,
    Params(query): Params,
) -> Reply {
    let (name, verb) = rest.rsplit_once('/').ok_or_else(page_not_found)?;
    match verb {
        "tag" => {
            let name = name.to_owned();
            let (repository, tag) = (query.get("repo").to_owned(), query.get("tag").to_owned());
            let work = async move { shared.engine.image_tag(&name, &repository, &tag).await };
            to_the_end(work).await?;
            Ok(empty(StatusCode::CREATED))
        }
        "push" => Err(ApiError::not_implemented("pushing images")),
        _ => Err(page_not_found()),
    }
}

async fn remove(
    State(shared): State<Shared>,
    Path(name): Path<String>,
    Params(query): Params,
) -> Reply {
    let options = ImageRemove::from_query(&query);
    let work = async move { shared.engine.image_remove(&name, options).await };
    Ok(json(StatusCode::OK, &to_the_end(work).await?))
}

async fn prune(State(shared): State<Shared>, Params(query): Params) -> Reply {
    let filters = query.filters()?;
    let report = to_the_end(async move { shared.engine.image_prune(&filters).await }).await?;
    Ok(json(StatusCode::OK, &report))
}

async fn create(
    State(shared): State<Shared>,
    headers: HeaderMap,
    Params(query): Params,
    request: Request,
) -> Reply {
    let wanted = ImageCreate::from_query(&query);
    if wanted.from_image.is_empty() {
        return import(shared, wanted, request.into_body()).await;
    }
    pull(shared, wanted, credentials(&headers)?).await
}

fn credentials(headers: &HeaderMap) -> Result<Option<AuthConfig>, ApiError> {
    let Some(value) = headers.get(AUTH_HEADER) else {
        return Ok(None);
    };
    let text = value
        .to_str()
        .map_err(|_| ApiError::invalid(format!("invalid {AUTH_HEADER} header: not ASCII")))?;
    let auth = AuthConfig::from_header(text)?;
    Ok(Some(auth).filter(|auth| *auth != AuthConfig::default()))
}

/// Joins a name with the tag or digest that stands beside it.
fn reference(name: &str, tag: &str) -> String {
    match tag {
        "" => name.to_owned(),
        digest if digest.contains(':') => format!("{name}@{digest}"),
        tag => format!("{name}:{tag}"),
    }
}

/// Pulls; a client that leaves cancels it.
async fn pull(shared: Shared, wanted: ImageCreate, auth: Option<AuthConfig>) -> Reply {
    let (sender, mut receiver) = mpsc::channel(MESSAGES);
    let reference = reference(&wanted.from_image, &wanted.tag);
    let task = tokio::spawn(async move {
        let platform = Some(wanted.platform.as_str()).filter(|text| !text.is_empty());
        let engine = shared.engine;
        engine
            .image_pull(&reference, platform, auth.as_ref(), &sender)
            .await
    });
    // an error before the first message has a status of its own
    let Some(first) = receiver.recv().await else {
        return match ended(task).await {
            Ok(()) => Ok(empty(StatusCode::OK)),
            Err(error) => Err(error.into()),
        };
    };
    let closing = shared.closing;
    Ok(body::stream(
        JSON,
        messages(&first, receiver, task).take_until(async move { closing.wait().await }),
    ))
}

type Task = tokio::task::JoinHandle<engine::Result<()>>;

async fn ended(task: Task) -> engine::Result<()> {
    task.await
        .unwrap_or_else(|error| Err(engine::Error::internal(format!("the pull failed: {error}"))))
}

fn messages(
    first: &Progress,
    receiver: mpsc::Receiver<Progress>,
    task: Task,
) -> impl Stream<Item = Result<Bytes, BodyError>> + use<> {
    let rest = stream::unfold(Some((receiver, task)), |state| async move {
        let (mut receiver, task) = state?;
        if let Some(message) = receiver.recv().await {
            return Some((line(&message), Some((receiver, task))));
        }
        match ended(task).await {
            Ok(()) => None,
            Err(error) => Some((line(&Progress::failed(error.message())), None)),
        }
    });
    stream::once(std::future::ready(line(first))).chain(rest)
}

/// A message as it stands in the stream; dockerd ends each with CR and LF.
fn line(message: &Progress) -> Result<Bytes, BodyError> {
    let mut text =
        serde_json::to_vec(message).map_err(|error| BodyError::new(error.to_string()))?;
    text.extend_from_slice(b"\r\n");
    Ok(text.into())
}

async fn import(shared: Shared, wanted: ImageCreate, body: Body) -> Reply {
    if wanted.from_src.is_empty() {
        return Err(ApiError::invalid("fromImage or fromSrc is required"));
    }
    if wanted.from_src != "-" {
        return Err(ApiError::not_implemented("importing from a URL"));
    }
    let request = ImportRequest {
        repository: wanted.repo,
        tag: wanted.tag,
        message: wanted.message,
        changes: wanted.changes,
        platform: wanted.platform,
    };
    let (reader, feed) = BodyReader::new(body);
    let work = to_the_end(async move { shared.engine.image_import(request, reader).await });
    let (id, ()) = tokio::join!(work, feed);
    let text = line(&Progress::status(id?.to_string()));
    Ok(body::stream(JSON, stream::once(std::future::ready(text))))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn references() {
        assert_eq!(reference("a", ""), "a");
        assert_eq!(reference("r:5000/a", "1"), "r:5000/a:1");
        assert_eq!(reference("a", "sha256:00"), "a@sha256:00");
    }

    #[test]
    fn lines() {
        let text = line(&Progress::of("abc", "Pulling fs layer")).unwrap();
        let expect = "{\"status\":\"Pulling fs layer\",\"progressDetail\":{},\"id\":\"abc\"}\r\n";
        assert_eq!(text, expect);
        let text = line(&Progress::failed("no")).unwrap();
        let expect = "{\"errorDetail\":{\"message\":\"no\"},\"error\":\"no\"}\r\n";
        assert_eq!(text, expect);
    }

    #[test]
    fn older_clients() {
        let mut image = api::image::Inspect {
            size: 5,
            config: Some(api::image::ImageConfig::default()),
            ..Default::default()
        };
        for_version(&mut image, ApiVersion::one(51));
        assert_eq!((image.virtual_size, &image.container_config), (0, &None));
        for_version(&mut image, ApiVersion::one(43));
        assert_eq!(image.virtual_size, 5);
        assert!(image.container_config.is_some());
        assert_eq!(image.config.unwrap().tty, Some(false));
    }
}
