//! `POST /build`, as clients without BuildKit ask for it.

use std::collections::{BTreeMap, HashMap};

use api::query::Query;
use api::registry::AuthConfig;
use axum::Router;
use axum::extract::{Request, State};
use axum::routing::post;
use base64::Engine as _;
use base64::engine::general_purpose::{STANDARD, URL_SAFE};
use builder::classic::{self, ClassicRequest};
use http::HeaderMap;

use super::Shared;
use super::images_transfer::{Before, told};
use crate::body::BodyReader;
use crate::error::{ApiError, Reply};
use crate::request::Params;

/// The header with the credentials of all registries.
const CONFIG_HEADER: &str = "x-registry-config";

pub(super) fn routes() -> Router<Shared> {
    Router::new()
        .route("/build", post(build))
        .route("/build/cancel", post(cancel))
}

async fn build(
    State(shared): State<Shared>,
    headers: HeaderMap,
    Params(query): Params,
    request: Request,
) -> Reply {
    let wanted = ClassicRequest {
        attrs: attributes(&query)?,
        tags: query.all("t").to_vec(),
        session: query.get("session").to_owned(),
        quiet: query.bool("q"),
        trace: query.get("version") == "2",
        credentials: credentials(&headers),
    };
    let remote = query.get("remote");
    let archive = (remote.is_empty() || remote == "client-session")
        .then(|| BodyReader::fed(request.into_body()));
    let archive = archive.filter(|_| remote.is_empty());
    let builder = shared.builder;
    told(shared.closing, Before::IsTold, async move |sender| {
        let archive = archive.map(|archive| Box::new(archive) as Box<dyn std::io::Read + Send>);
        match classic::build(&builder, wanted, archive, &sender).await {
            Ok(()) => {}
            // a client that has left learns of no error
            Err(error) => drop(sender.send(classic::failure(&error)).await),
        }
        Ok(())
    })
    .await
}

/// A build ends with its client's connection: there is nothing else to cancel by this.
async fn cancel(Params(query): Params) -> Reply {
    if query.get("id").is_empty() {
        return Err(ApiError::invalid("build ID not provided"));
    }
    Ok(crate::body::empty(http::StatusCode::OK))
}

/// The parameters as settings of the Dockerfile front end.
fn attributes(query: &Query) -> Result<BTreeMap<String, String>, ApiError> {
    let mut attrs = BTreeMap::new();
    let mut set = |name: &str, value: &str| {
        if !value.is_empty() {
            attrs.insert(name.to_owned(), value.to_owned());
        }
    };
    set("filename", query.get("dockerfile"));
    set("target", query.get("target"));
    set("platform", query.get("platform"));
    set("add-hosts", &hosts(query.all("extrahosts"))?);
    set("cgroup-parent", query.get("cgroupparent"));
    match query.get("networkmode") {
        "host" => set("force-network-mode", "host"),
        "none" => set("force-network-mode", "none"),
        _ => {}
    }
    let size = query
        .int("shmsize")
        .map_err(|error| ApiError::invalid(format!("invalid shmsize: {}", error.0)))?;
    if let Some(size @ 1..) = size {
        set("shm-size", &size.to_string());
    }
    set("ulimit", &ulimits(query.get("ulimits"))?);
    let remote = query.get("remote");
    if remote != "client-session" {
        set("context", remote);
    }
    if query.bool("pull") {
        set("image-resolve-mode", "pull");
    }
    if query.bool("nocache") {
        attrs.insert("no-cache".to_owned(), String::new());
    }
    for (parameter, prefix) in [("buildargs", "build-arg:"), ("labels", "label:")] {
        for (name, value) in map(parameter, query.get(parameter))? {
            attrs.insert(format!("{prefix}{name}"), value);
        }
    }
    Ok(attrs)
}

/// A parameter that is a JSON object; names without a value are left out.
fn map(name: &str, text: &str) -> Result<BTreeMap<String, String>, ApiError> {
    if text.is_empty() {
        return Ok(BTreeMap::new());
    }
    let map: BTreeMap<String, Option<String>> = serde_json::from_str(text)
        .map_err(|error| ApiError::invalid(format!("invalid {name}: {error}")))?;
    let given = map
        .into_iter()
        .filter_map(|(name, value)| Some((name, value?)));
    Ok(given.collect())
}

/// `name:address` as the front end reads it.
fn hosts<S: AsRef<str>>(all: &[S]) -> Result<String, ApiError> {
    let mut hosts = Vec::new();
    for host in all {
        let host = host.as_ref();
        let (name, address) = host
            .split_once(':')
            .ok_or_else(|| ApiError::invalid(format!("bad format for add-host: {host:?}")))?;
        hosts.push(format!("{name}={address}"));
    }
    Ok(hosts.join(","))
}

fn ulimits(text: &str) -> Result<String, ApiError> {
    #[derive(serde::Deserialize)]
    struct Limit {
        #[serde(rename = "Name")]
        name: String,
        #[serde(rename = "Soft")]
        soft: i64,
        #[serde(rename = "Hard")]
        hard: i64,
    }
    if text.is_empty() {
        return Ok(String::new());
    }
    let limits: Vec<Limit> = serde_json::from_str(text)
        .map_err(|error| ApiError::invalid(format!("error reading ulimit settings: {error}")))?;
    let limits = limits
        .iter()
        .map(|limit| format!("{}={}:{}", limit.name, limit.soft, limit.hard));
    Ok(limits.collect::<Vec<_>>().join(","))
}

/// The credentials by registry. What cannot be read counts as none, as in dockerd.
fn credentials(headers: &HeaderMap) -> HashMap<String, (String, String)> {
    let text = headers
        .get(CONFIG_HEADER)
        .and_then(|text| text.to_str().ok());
    let decode = |text: &str| {
        URL_SAFE
            .decode(text)
            .or_else(|_| STANDARD.decode(text))
            .ok()
    };
    let json = text.and_then(decode).unwrap_or_default();
    let all: HashMap<String, AuthConfig> = serde_json::from_slice(&json).unwrap_or_default();
    all.into_iter()
        .map(|(host, auth)| {
            let host = match host.as_str() {
                "https://index.docker.io/v1/" | "index.docker.io" => "docker.io".to_owned(),
                _ => host,
            };
            let pair = match auth.identity_token.as_str() {
                "" => (auth.username, auth.password),
                token => (String::new(), token.to_owned()),
            };
            (host, pair)
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parameters_become_settings() {
        let query = Query::parse(
            "dockerfile=D&buildargs=%7B%22A%22%3A%221%22%2C%22B%22%3Anull%7D&nocache=1&extrahosts=h:1.2.3.4&shmsize=67108864&labels=%7B%22l%22%3A%22m%22%7D",
        )
        .unwrap();
        let attrs = attributes(&query).unwrap();
        let shown: Vec<_> = attrs.iter().map(|(n, v)| format!("{n}={v}")).collect();
        assert_eq!(
            shown,
            [
                "add-hosts=h=1.2.3.4",
                "build-arg:A=1",
                "filename=D",
                "label:l=m",
                "no-cache=",
                "shm-size=67108864",
            ]
        );
        assert!(attributes(&Query::parse("buildargs=x").unwrap()).is_err());
        assert!(attributes(&Query::parse("extrahosts=x").unwrap()).is_err());
    }
}
