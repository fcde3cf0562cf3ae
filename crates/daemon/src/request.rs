//! Reading requests: parameters and JSON bodies, bounded and with Docker's words for refusals.

use std::time::Duration;

use api::query::Query;
use axum::extract::{FromRequest, FromRequestParts, Request};
use http::header::CONTENT_TYPE;
use http::request::Parts;
use http::{HeaderMap, StatusCode};
use http_body::Body as _;
use serde::de::DeserializeOwned;

use crate::error::ApiError;

/// The longest JSON body. Bodies hold seccomp profiles and labels at most: far below this.
const MAX_JSON: usize = 8 << 20;

/// How long a client may take to send one; other bodies, as of an import, have no limit.
const BODY_LIMIT: Duration = Duration::from_secs(60);

/// What a client is told that takes longer.
const SLOW_BODY: &str = "the request's body did not come within a minute";

/// What a body without a value is told.
const NO_JSON: &str = "invalid JSON: got EOF while reading request body";

/// A request's decoded query.
#[derive(Debug)]
pub(crate) struct Params(pub(crate) Query);

impl<S: Sync> FromRequestParts<S> for Params {
    type Rejection = ApiError;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Self, ApiError> {
        Ok(Self(Query::parse(parts.uri.query().unwrap_or_default())?))
    }
}

/// Reads a boolean as Go's `strconv.ParseBool` does, for the parameters that dockerd is strict with.
pub(crate) fn bool_strictly(query: &Query, name: &str) -> Result<bool, ApiError> {
    match query.get(name) {
        "1" | "t" | "T" | "TRUE" | "true" | "True" => Ok(true),
        "" | "0" | "f" | "F" | "FALSE" | "false" | "False" => Ok(false),
        text => Err(ApiError::invalid(format!(
            "invalid value for {name}: {text}: strconv.ParseBool: parsing {text:?}: invalid syntax"
        ))),
    }
}

/// A request's JSON body; none, and `null`, is the zero value.
#[derive(Debug)]
pub(crate) struct Json<T>(pub(crate) T);

impl<S: Sync, T: DeserializeOwned + Default> FromRequest<S> for Json<T> {
    type Rejection = ApiError;

    async fn from_request(request: Request, _: &S) -> Result<Self, ApiError> {
        let (parts, body) = request.into_parts();
        let announced_empty = body.is_end_stream();
        check_content_type(&parts.headers, announced_empty)?;
        if announced_empty {
            return Ok(Self(T::default()));
        }
        let bytes = tokio::time::timeout(BODY_LIMIT, axum::body::to_bytes(body, MAX_JSON))
            .await
            .map_err(|_| ApiError::new(StatusCode::REQUEST_TIMEOUT, SLOW_BODY))?
            .map_err(|error| too_large_or_broken(&error))?;
        parse(&bytes).map(Self)
    }
}

/// A request's JSON body where there has to be one.
#[derive(Debug)]
pub(crate) struct SomeJson<T>(pub(crate) T);

impl<S: Sync, T: DeserializeOwned + Default> FromRequest<S> for SomeJson<T> {
    type Rejection = ApiError;

    async fn from_request(request: Request, state: &S) -> Result<Self, ApiError> {
        if request.body().is_end_stream() {
            check_content_type(request.headers(), true)?;
            return Err(ApiError::invalid(NO_JSON));
        }
        let Json(value) = Json::from_request(request, state).await?;
        Ok(Self(value))
    }
}

fn too_large_or_broken(error: &axum::Error) -> ApiError {
    let source = std::error::Error::source(error);
    if source.is_some_and(|cause| cause.is::<http_body_util::LengthLimitError>()) {
        let why = format!("the request's body is longer than {MAX_JSON} bytes");
        return ApiError::new(StatusCode::PAYLOAD_TOO_LARGE, why);
    }
    ApiError::invalid(format!("read the request's body: {error}"))
}

pub(crate) fn parse<T: DeserializeOwned + Default>(bytes: &[u8]) -> Result<T, ApiError> {
    if bytes.iter().all(u8::is_ascii_whitespace) {
        return Err(ApiError::invalid(NO_JSON));
    }
    serde_json::from_slice(bytes).map_err(|error| {
        let text = error.to_string();
        if error.is_eof() {
            ApiError::invalid("invalid JSON: unexpected EOF")
        } else if text.starts_with("trailing characters") {
            ApiError::invalid("unexpected content after JSON")
        } else {
            ApiError::invalid(format!("invalid JSON: {text}"))
        }
    })
}

/// Refuses bodies that do not say they are JSON. It is also what keeps web pages out: a browser
/// sends `application/json` to another origin only after asking that origin.
fn check_content_type(headers: &HeaderMap, body_is_empty: bool) -> Result<(), ApiError> {
    let text = match headers.get(CONTENT_TYPE) {
        None if body_is_empty => return Ok(()),
        None => "",
        Some(value) => value.to_str().unwrap_or_default(),
    };
    let media_type = text.split(';').next().unwrap_or_default().trim();
    if media_type.eq_ignore_ascii_case("application/json") {
        return Ok(());
    }
    Err(ApiError::invalid(if media_type.is_empty() {
        format!("malformed Content-Type header ({text}): mime: no media type")
    } else {
        format!("unsupported Content-Type header ({media_type}): must be 'application/json'")
    }))
}

#[cfg(test)]
mod tests {
    use super::*;
    use api::network::ConnectRequest;
    use axum::body::Body;

    async fn read(content_type: Option<&str>, body: &str) -> Result<ConnectRequest, String> {
        let mut request = Request::builder();
        if let Some(value) = content_type {
            request = request.header(CONTENT_TYPE, value);
        }
        let request = request.body(Body::from(body.to_owned())).unwrap();
        Json::from_request(request, &())
            .await
            .map(|Json(value)| value)
            .map_err(|error| format!("{error:?}"))
    }

    #[tokio::test]
    async fn bodies() {
        let json = Some("application/json");
        let found = read(
            Some("Application/JSON; charset=utf-8"),
            r#"{"container":"c"}"#,
        )
        .await;
        assert_eq!(found.unwrap().container, "c");
        for empty in [
            read(None, "").await,
            read(json, "").await,
            read(json, "null").await,
        ] {
            assert_eq!(empty.unwrap(), ConnectRequest::default());
        }
        let cases = [
            (json, "{", "invalid JSON: unexpected EOF"),
            (json, " \n", "got EOF while reading request body"),
            (json, "{}{}", "unexpected content after JSON"),
            (json, "[]", "invalid JSON: invalid type: sequence"),
            (
                json,
                r#"{"Container":1}"#,
                "invalid JSON: invalid type: integer",
            ),
            (
                None,
                "{}",
                "malformed Content-Type header (): mime: no media type",
            ),
            (
                Some("text/plain"),
                "{}",
                "unsupported Content-Type header (text/plain): must be 'application/json'",
            ),
        ];
        for (content_type, body, expect) in cases {
            let error = read(content_type, body).await.unwrap_err();
            assert!(error.contains(expect), "{error} is not {expect}");
        }
        let request = Request::new(Body::empty());
        let error = SomeJson::<ConnectRequest>::from_request(request, &())
            .await
            .unwrap_err();
        assert!(format!("{error:?}").contains(NO_JSON), "{error:?}");
        let long = format!("{}{{}}", " ".repeat(MAX_JSON));
        let error = read(json, &long).await.unwrap_err();
        assert!(error.contains("413"), "{error}");
    }
}
