//! The answer to a request: its head, and its body under limits.

use std::time::{Duration, Instant};

use bytes::{Bytes, BytesMut};
use http::header::CONTENT_LENGTH;
use http::{HeaderMap, Method, StatusCode, Uri};
use http_body_util::BodyExt as _;
use hyper::body::Incoming;
use serde::Deserialize;

use crate::config::Timeouts;
use crate::error::RegistryError;
use crate::location::shown;
use crate::net::{TransportError, unwrap_transport};
use crate::retry::{allowance, retry_after};

/// Error bodies beyond this are not read.
const COMPLAINT_MAX: u64 = 64 * 1024;
const SHOWN_MAX: usize = 512;

/// An answer whose body is still to be read.
#[derive(Debug)]
pub(crate) struct Answer {
    pub(crate) status: StatusCode,
    pub(crate) headers: HeaderMap,
    /// Where the answer came from, behind all redirects.
    pub(crate) uri: Uri,
    pub(crate) method: &'static str,
    /// Whether the answer came from another origin than the one that was asked.
    pub(crate) elsewhere: bool,
    body: Incoming,
    timeouts: Timeouts,
    received: u64,
    waited: Duration,
}

/// What a registry says about a failure.
#[derive(Debug, Default)]
pub(crate) struct Complaint {
    /// The code of the distribution specification, as `MANIFEST_UNKNOWN`; empty if there is none.
    pub(crate) code: String,
    /// The code and the message as Docker shows them.
    pub(crate) text: String,
}

impl Answer {
    pub(crate) fn new(
        response: http::Response<Incoming>,
        method: &Method,
        uri: Uri,
        timeouts: Timeouts,
    ) -> Self {
        let (head, body) = response.into_parts();
        Self {
            status: head.status,
            headers: head.headers,
            uri,
            method: method_name(method),
            elsewhere: false,
            body,
            timeouts,
            received: 0,
            waited: Duration::ZERO,
        }
    }

    /// The announced length of the body.
    pub(crate) fn length(&self) -> Option<u64> {
        self.header(CONTENT_LENGTH.as_str())?.parse().ok()
    }

    /// A header's value, if it is text.
    pub(crate) fn header(&self, name: &str) -> Option<&str> {
        self.headers.get(name)?.to_str().ok()
    }

    /// The next piece of the body, `None` at its end. The body may take as long as one of
    /// `size` bytes may; only the waiting for the host counts, not what the caller does between.
    pub(crate) async fn chunk(&mut self, size: u64) -> Result<Option<Bytes>, TransportError> {
        loop {
            let started = Instant::now();
            let frame = tokio::time::timeout(self.timeouts.stall, self.body.frame()).await;
            self.waited += started.elapsed();
            let Ok(frame) = frame else {
                return Err(TransportError::Stalled {
                    host: self.host(),
                    limit: self.timeouts.stall,
                    received: self.received,
                });
            };
            let Some(frame) = frame else { return Ok(None) };
            let frame =
                frame.map_err(|e| unwrap_transport(e, "reading the answer of", &self.host()))?;
            self.check_pace(size)?;
            match frame.into_data() {
                Ok(data) if !data.is_empty() => {
                    self.received += data.len() as u64;
                    return Ok(Some(data));
                }
                // Trailers and empty pieces carry nothing that is wanted.
                _ => {}
            }
        }
    }

    fn check_pace(&self, size: u64) -> Result<(), TransportError> {
        let limit = self.timeouts.whole_body(size);
        if self.waited <= limit {
            return Ok(());
        }
        Err(TransportError::TooSlow {
            host: self.host(),
            limit,
            received: self.received,
        })
    }

    /// The whole body, if it has at most `limit` bytes.
    pub(crate) async fn bytes(
        mut self,
        what: &'static str,
        limit: u64,
    ) -> Result<Bytes, RegistryError> {
        if self.length().is_some_and(|length| length > limit) {
            return Err(self.too_large(what, limit));
        }
        let mut all = BytesMut::new();
        loop {
            match self.chunk(limit).await {
                Ok(Some(data)) if self.received <= limit => all.extend_from_slice(&data),
                Ok(Some(_)) => return Err(self.too_large(what, limit)),
                Ok(None) => return Ok(all.freeze()),
                Err(source) => return Err(self.broken(source)),
            }
        }
    }

    fn too_large(&self, what: &'static str, limit: u64) -> RegistryError {
        RegistryError::TooLarge {
            method: self.method,
            url: shown(&self.uri),
            what,
            limit,
        }
    }

    /// The error of an answer whose body broke off.
    pub(crate) fn broken(&self, source: TransportError) -> RegistryError {
        RegistryError::Exchange {
            method: self.method,
            url: shown(&self.uri),
            source: Box::new(source),
        }
    }

    /// The error of an answer that does not follow the protocol.
    pub(crate) fn misfit(&self, problem: impl Into<String>) -> RegistryError {
        RegistryError::Protocol {
            method: self.method,
            url: shown(&self.uri),
            problem: problem.into(),
        }
    }

    /// The error that an unwelcome status means where no operation knows better.
    pub(crate) async fn into_error(self) -> RegistryError {
        let (method, url, status) = (self.method, shown(&self.uri), self.status);
        let headers = self.headers.clone();
        let complaint = self.complaint().await;
        match status {
            StatusCode::TOO_MANY_REQUESTS => too_many(&complaint, &headers),
            StatusCode::UNAUTHORIZED | StatusCode::FORBIDDEN => RegistryError::Unauthorized {
                method,
                url,
                detail: complaint.without_code("authentication required"),
            },
            _ => RegistryError::Status {
                method,
                url,
                status,
                detail: match complaint.text.as_str() {
                    "" => String::new(),
                    text => format!(": {text}"),
                },
            },
        }
    }

    /// What the body says about a failure. A body that cannot be read says nothing.
    pub(crate) async fn complaint(self) -> Complaint {
        match self.bytes("error message", COMPLAINT_MAX).await {
            Ok(bytes) => Complaint::parse(&bytes),
            Err(_) => Complaint::default(),
        }
    }

    fn host(&self) -> String {
        host_of(&self.uri)
    }
}

/// The error for a request that came too early or too often.
pub(crate) fn too_many(complaint: &Complaint, headers: &HeaderMap) -> RegistryError {
    let mut detail = complaint.without_code("the registry asks for fewer requests");
    if let Some(allowance) = allowance(headers) {
        detail = format!("{detail} ({allowance})");
    }
    RegistryError::TooManyRequests {
        detail,
        retry_after: retry_after(headers),
    }
}

impl Complaint {
    /// The text, or another where the registry says nothing.
    pub(crate) fn text_or(self, otherwise: &str) -> String {
        match self.text.as_str() {
            "" => otherwise.to_owned(),
            _ => self.text,
        }
    }

    /// The message without its code, where the error's own text already says it.
    pub(crate) fn without_code(&self, otherwise: &str) -> String {
        let code = code_words(&self.code);
        let known = ["toomanyrequests", "unauthorized"].contains(&code.as_str());
        let rest = self.text.strip_prefix(&format!("{code}: "));
        match rest.filter(|_| known).unwrap_or(&self.text) {
            "" => otherwise.to_owned(),
            text => text.to_owned(),
        }
    }

    fn parse(body: &[u8]) -> Self {
        #[derive(Deserialize)]
        struct Body {
            #[serde(default)]
            errors: Vec<Entry>,
            #[serde(default)]
            details: Option<String>,
            #[serde(default)]
            message: Option<String>,
        }
        #[derive(Deserialize)]
        struct Entry {
            #[serde(default)]
            code: String,
            #[serde(default)]
            message: String,
        }
        let Ok(body) = serde_json::from_slice::<Body>(body) else {
            return Self::default();
        };
        let Some(first) = body.errors.into_iter().next() else {
            // Docker Hub's token server: {"details": "incorrect username or password"}.
            let text = body.details.or(body.message).unwrap_or_default();
            return Self {
                code: String::new(),
                text: printable(&text),
            };
        };
        let words = code_words(&first.code);
        let text = match (words.as_str(), first.message.as_str()) {
            ("", message) => message.to_owned(),
            (words, "") => words.to_owned(),
            (words, message) => format!("{words}: {message}"),
        };
        Self {
            code: printable(&first.code),
            text: printable(&text),
        }
    }
}

/// Docker shows `MANIFEST_UNKNOWN` as `manifest unknown`.
fn code_words(code: &str) -> String {
    code.to_lowercase().replace('_', " ")
}

/// A registry's text for a terminal: no control characters, no endless lines.
pub(crate) fn printable(text: &str) -> String {
    let clean = |c: char| if c.is_control() { ' ' } else { c };
    text.trim().chars().take(SHOWN_MAX).map(clean).collect()
}

pub(crate) fn host_of(uri: &Uri) -> String {
    let authority = uri.authority();
    authority.map_or_else(String::new, ToString::to_string)
}

/// Go writes `Get "https://..."`, and so people search for that.
pub(crate) fn method_name(method: &Method) -> &'static str {
    match method.as_str() {
        "GET" => "Get",
        "HEAD" => "Head",
        "POST" => "Post",
        "PUT" => "Put",
        "PATCH" => "Patch",
        "DELETE" => "Delete",
        _ => "Request",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(body: &str, code: &str, text: &str) {
        let complaint = Complaint::parse(body.as_bytes());
        assert_eq!(
            (complaint.code.as_str(), complaint.text.as_str()),
            (code, text)
        );
    }

    #[test]
    fn reads_complaints() {
        check(
            r#"{"errors":[{"code":"MANIFEST_UNKNOWN","message":"manifest unknown","detail":{"Tag":"x"}}]}"#,
            "MANIFEST_UNKNOWN",
            "manifest unknown: manifest unknown",
        );
        check(
            r#"{"details":"incorrect username"}"#,
            "",
            "incorrect username",
        );
        check("<html>", "", "");
        check(r#"{"errors":[]}"#, "", "");
        check(
            r#"{"errors":[{"code":"A","message":"\u001b[2Jx"}]}"#,
            "A",
            "a:  [2Jx",
        );
    }
}
