//! The API version in front of each path, and what each answer says of the engine.

use api::{MIN_VERSION, VERSION};
use axum::response::Response;
use http::uri::PathAndQuery;
use http::{HeaderName, HeaderValue, Uri};

use crate::error::ApiError;

/// The version that a request speaks.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct ApiVersion {
    major: u32,
    minor: u32,
}

impl ApiVersion {
    /// A version 1.x.
    pub(crate) const fn one(minor: u32) -> Self {
        Self { major: 1, minor }
    }

    fn parse(text: &str) -> Self {
        // like dockerd: numbers between dots, and what is none counts as zero
        let mut numbers = text.split('.').map(|part| part.parse().unwrap_or(0));
        Self {
            major: numbers.next().unwrap_or(0),
            minor: numbers.next().unwrap_or(0),
        }
    }

    fn checked(text: &str) -> Result<Self, ApiError> {
        let version = Self::parse(text);
        if version > Self::parse(VERSION) {
            return Err(ApiError::invalid(format!(
                "client version {text} is too new. Maximum supported API version is {VERSION}"
            )));
        }
        if version < Self::parse(MIN_VERSION) {
            return Err(ApiError::invalid(format!(
                "client version {text} is too old. Minimum supported API version is {MIN_VERSION}, \
                 please upgrade your client to a newer version"
            )));
        }
        Ok(version)
    }
}

/// Takes the version off a request target; without one the newest is meant.
pub(crate) fn split(uri: &Uri) -> Result<(ApiVersion, Option<Uri>), ApiError> {
    let newest = ApiVersion::parse(VERSION);
    let Some((text, rest)) = prefix(uri.path()) else {
        return Ok((newest, None));
    };
    let version = ApiVersion::checked(text)?;
    let target = match uri.query() {
        Some(query) => format!("{rest}?{query}"),
        None => rest.to_owned(),
    };
    let target = PathAndQuery::try_from(target)
        .map_err(|error| ApiError::invalid(format!("invalid request target: {error}")))?;
    let mut parts = uri.clone().into_parts();
    parts.path_and_query = Some(target);
    let uri = Uri::from_parts(parts)
        .map_err(|error| ApiError::invalid(format!("invalid request target: {error}")))?;
    Ok((version, Some(uri)))
}

/// Finds `/v1.51` in front of a path, and what follows it.
fn prefix(path: &str) -> Option<(&str, &str)> {
    let after = path.strip_prefix("/v")?;
    let slash = after.find('/')?;
    let (text, rest) = after.split_at(slash);
    let is_version = !text.is_empty()
        && text
            .bytes()
            .all(|byte| byte.is_ascii_digit() || byte == b'.');
    is_version.then_some((text, rest))
}

/// Says who answers, as dockerd does on every answer.
pub(crate) fn sign(response: &mut Response) {
    const PAIRS: [(&str, &str); 4] = [
        ("api-version", VERSION),
        ("docker-experimental", "false"),
        ("ostype", "linux"),
        (
            "server",
            concat!("Gorae/", env!("CARGO_PKG_VERSION"), " (linux)"),
        ),
    ];
    for (name, value) in PAIRS {
        response.headers_mut().insert(
            HeaderName::from_static(name),
            HeaderValue::from_static(value),
        );
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use axum::response::IntoResponse;

    fn check(target: &str, expect: Result<(u32, &str), &str>) {
        let uri: Uri = target.parse().unwrap();
        match (split(&uri), expect) {
            (Ok((version, rest)), Ok((minor, path))) => {
                assert_eq!(version, ApiVersion::one(minor), "{target}");
                assert_eq!(rest.unwrap_or(uri).to_string(), path, "{target}");
            }
            (Err(error), Err(text)) => {
                assert!(format!("{error:?}").contains(text), "{error:?}");
                assert_eq!(error.into_response().status(), 400);
            }
            (found, expect) => panic!("{target}: {found:?} for {expect:?}"),
        }
    }

    #[test]
    fn prefixes() {
        check("/v1.51/info", Ok((51, "/info")));
        check("/v1.24/a?b=/v1.2/", Ok((24, "/a?b=/v1.2/")));
        check("/v1.24.1/info", Ok((24, "/info")));
        check("/info", Ok((51, "/info")));
        check("/volumes/x", Ok((51, "/volumes/x")));
        check("/v1.51", Ok((51, "/v1.51")));
        check("/v1.x/info", Ok((51, "/v1.x/info")));
        check(
            "/v1.99/info",
            Err("client version 1.99 is too new. Maximum supported API version is 1.51"),
        );
        check(
            "/v9/info",
            Err("client version 9 is too new. Maximum supported API version is 1.51"),
        );
        check(
            "/v1.23/info",
            Err(
                "client version 1.23 is too old. Minimum supported API version is 1.24, \
                 please upgrade your client to a newer version",
            ),
        );
        check("/v./info", Err("client version . is too old"));
    }
}
