//! Images.

use api::image::{Platform as WirePlatform, Summary};
use api::query::{ImageList, ImageRemove, Query};
use api::registry::{AUTH_HEADER, AuthConfig};
use axum::extract::{Path, State};
use axum::routing::{get, post};
use axum::{Extension, Router};
use engine::{AttestationRequest, PushRequest};
use http::{HeaderMap, StatusCode};
use oci::Platform;

use super::images_transfer::{create, load, push, save, save_one};
use super::{Shared, to_the_end};
use crate::body::{empty, json};
use crate::error::{ApiError, Reply};
use crate::request::Params;
use crate::version::ApiVersion;

/// Image names have slashes, so what is asked of an image stands behind a wildcard.
pub(super) fn routes() -> Router<Shared> {
    Router::new()
        .route("/images/json", get(list))
        .route("/images/create", post(create))
        .route("/images/prune", post(prune))
        .route("/images/load", post(load))
        .route("/images/get", get(save))
        .route("/images/search", get(search))
        .route("/images/{*rest}", get(show).post(act).delete(remove))
}

fn page_not_found() -> ApiError {
    ApiError::new(StatusCode::NOT_FOUND, "page not found")
}

/// A platform that a client has sent as JSON.
fn platform_of(text: &str) -> Result<Option<Platform>, ApiError> {
    let wire = WirePlatform::from_param(text)?;
    Ok(wire.map(|wire| Platform {
        architecture: wire.architecture,
        os: wire.os,
        variant: Some(wire.variant).filter(|variant| !variant.is_empty()),
        os_version: Some(wire.os_version).filter(|version| !version.is_empty()),
    }))
}

/// The parameter `platform` of everything but pulls and imports.
pub(super) fn platform(query: &Query) -> Result<Option<Platform>, ApiError> {
    platform_of(query.get("platform"))
}

/// The credentials of a request. What cannot be read counts as none, as in dockerd: some clients
/// send anything.
pub(super) fn credentials(headers: &HeaderMap) -> Option<AuthConfig> {
    let text = headers.get(AUTH_HEADER)?.to_str().ok()?;
    match AuthConfig::from_header(text) {
        Ok(auth) => Some(auth).filter(|auth| *auth != AuthConfig::default()),
        Err(error) => {
            tracing::debug!(%error, "a client's credentials are ignored");
            None
        }
    }
}

async fn list(
    State(shared): State<Shared>,
    Extension(version): Extension<ApiVersion>,
    Params(query): Params,
) -> Reply {
    let mut images = shared.engine.image_list(&ImageList::from_query(&query)?)?;
    for image in &mut images {
        line_for_version(image, version);
    }
    Ok(json(StatusCode::OK, &images))
}

/// Takes away what older clients do not know, and adds what they read.
fn line_for_version(image: &mut Summary, version: ApiVersion) {
    if version < ApiVersion::one(51) {
        image.containers = -1;
    }
    if version < ApiVersion::one(48) {
        image.descriptor = None;
    }
    if version < ApiVersion::one(47) {
        image.manifests.clear();
    }
    if version < ApiVersion::one(44) {
        image.virtual_size = image.size;
    }
    let none = |names: &Option<Vec<String>>| names.as_ref().is_none_or(Vec::is_empty);
    if version < ApiVersion::one(43) && none(&image.repo_tags) && none(&image.repo_digests) {
        image.repo_tags = Some(vec!["<none>:<none>".to_owned()]);
        image.repo_digests = Some(vec!["<none>@<none>".to_owned()]);
    }
}

async fn search(State(shared): State<Shared>, headers: HeaderMap, Params(query): Params) -> Reply {
    let limit = query
        .int("limit")
        .map_err(|error| ApiError::invalid(format!("invalid limit specified: {}", error.0)))?;
    let filters = query.filters()?;
    let auth = credentials(&headers);
    let found = shared
        .engine
        .image_search(
            query.get("term"),
            limit.unwrap_or(0),
            &filters,
            auth.as_ref(),
        )
        .await?;
    Ok(json(StatusCode::OK, &found))
}

/// The statements about an image. `remote` is Gorae's own: it asks the registry.
async fn attestations(shared: Shared, name: &str, headers: &HeaderMap, query: &Query) -> Reply {
    let request = AttestationRequest {
        name: name.to_owned(),
        platform: platform(query)?,
        predicate: query.get("type").to_owned(),
        statements: query.bool("statement"),
        remote: query.bool("remote"),
    };
    let auth = credentials(headers);
    let found = shared
        .engine
        .image_attestations(&request, auth.as_ref())
        .await?;
    Ok(json(StatusCode::OK, &found))
}

async fn show(
    State(shared): State<Shared>,
    Extension(version): Extension<ApiVersion>,
    headers: HeaderMap,
    Path(rest): Path<String>,
    Params(query): Params,
) -> Reply {
    let (name, what) = rest.rsplit_once('/').ok_or_else(page_not_found)?;
    match what {
        "json" => {
            let (platform, manifests) = (platform(&query)?, query.bool("manifests"));
            let mut image = shared
                .engine
                .image_inspect(name, platform.as_ref(), manifests)?;
            for_version(&mut image, version);
            Ok(json(StatusCode::OK, &image))
        }
        "history" => {
            let platform = platform(&query)?;
            let history = shared.engine.image_history(name, platform.as_ref())?;
            Ok(json(StatusCode::OK, &history))
        }
        "get" => save_one(shared, name, platform(&query)?).await,
        "attestations" => attestations(shared, name, &headers, &query).await,
        _ => Err(page_not_found()),
    }
}

/// Adds what older clients read.
fn for_version(image: &mut api::image::Inspect, version: ApiVersion) {
    if version < ApiVersion::one(48) {
        image.descriptor = None;
        image.manifests.clear();
    }
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
    headers: HeaderMap,
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
        "push" => {
            let platform = platform(&query)?;
            let request = PushRequest::new(name, query.get("tag"), platform)?
                .with_compression(query.get("compression"))?
                .with_annotations(query.all("annotation"))?;
            push(shared, request, credentials(&headers)).await
        }
        _ => Err(page_not_found()),
    }
}

async fn remove(
    State(shared): State<Shared>,
    Path(name): Path<String>,
    Params(query): Params,
) -> Reply {
    let options = ImageRemove::from_query(&query);
    let platforms = query.all("platforms").iter();
    let platforms: Vec<Option<Platform>> = platforms
        .map(|text| platform_of(text))
        .collect::<Result<_, _>>()?;
    let platforms: Vec<Platform> = platforms.into_iter().flatten().collect();
    let work = async move { shared.engine.image_remove(&name, options, &platforms).await };
    Ok(json(StatusCode::OK, &to_the_end(work).await?))
}

async fn prune(State(shared): State<Shared>, Params(query): Params) -> Reply {
    let filters = query.filters()?;
    let report = to_the_end(async move { shared.engine.image_prune(&filters).await }).await?;
    Ok(json(StatusCode::OK, &report))
}

#[cfg(test)]
mod tests {
    use super::*;

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
    #[test]
    fn lines_for_older_clients() {
        let line = |minor| {
            let mut line = Summary {
                containers: 2,
                size: 7,
                repo_tags: Some(Vec::new()),
                repo_digests: Some(Vec::new()),
                descriptor: Some(api::image::Descriptor::default()),
                manifests: vec![serde_json::json!({})],
                ..Summary::default()
            };
            line_for_version(&mut line, ApiVersion::one(minor));
            line
        };
        assert_eq!((line(51).containers, line(50).containers), (2, -1));
        assert!(line(48).descriptor.is_some() && line(47).descriptor.is_none());
        assert_eq!((line(47).manifests.len(), line(46).manifests.len()), (1, 0));
        assert_eq!((line(44).virtual_size, line(43).virtual_size), (0, 7));
        assert_eq!(line(43).repo_tags, Some(Vec::new()));
        assert_eq!(line(42).repo_tags, Some(vec!["<none>:<none>".to_owned()]));
    }

    #[test]
    fn broken_credentials_are_none() {
        for (text, expect) in [
            ("%%", false),
            ("e30=", false),
            ("eyJ1c2VybmFtZSI6ImEifQ==", true),
        ] {
            let mut headers = HeaderMap::new();
            headers.insert(AUTH_HEADER, text.parse().unwrap());
            assert_eq!(credentials(&headers).is_some(), expect, "{text}");
        }
    }
}
