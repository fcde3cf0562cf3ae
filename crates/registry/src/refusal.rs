//! What a client is told when it does not get what it wants: the specification's error codes.

use std::borrow::Cow;

use http::header::HeaderName;
use http::{HeaderValue, StatusCode};
use serde_json::{Value, json};

/// A code of the distribution specification's table of errors, and those that registries added to it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Code {
    BlobUnknown,
    BlobUploadInvalid,
    BlobUploadUnknown,
    DigestInvalid,
    ManifestBlobUnknown,
    ManifestInvalid,
    ManifestUnknown,
    NameInvalid,
    NameUnknown,
    SizeInvalid,
    TagInvalid,
    PaginationNumberInvalid,
    RangeInvalid,
    Unauthorized,
    Denied,
    Unsupported,
    TooManyRequests,
    Unknown,
}

impl Code {
    pub(crate) fn text(self) -> &'static str {
        match self {
            Self::BlobUnknown => "BLOB_UNKNOWN",
            Self::BlobUploadInvalid => "BLOB_UPLOAD_INVALID",
            Self::BlobUploadUnknown => "BLOB_UPLOAD_UNKNOWN",
            Self::DigestInvalid => "DIGEST_INVALID",
            Self::ManifestBlobUnknown => "MANIFEST_BLOB_UNKNOWN",
            Self::ManifestInvalid => "MANIFEST_INVALID",
            Self::ManifestUnknown => "MANIFEST_UNKNOWN",
            Self::NameInvalid => "NAME_INVALID",
            Self::NameUnknown => "NAME_UNKNOWN",
            Self::SizeInvalid => "SIZE_INVALID",
            Self::TagInvalid => "TAG_INVALID",
            Self::PaginationNumberInvalid => "PAGINATION_NUMBER_INVALID",
            Self::RangeInvalid => "RANGE_INVALID",
            Self::Unauthorized => "UNAUTHORIZED",
            Self::Denied => "DENIED",
            Self::Unsupported => "UNSUPPORTED",
            Self::TooManyRequests => "TOOMANYREQUESTS",
            Self::Unknown => "UNKNOWN",
        }
    }

    fn status(self) -> StatusCode {
        match self {
            Self::BlobUnknown
            | Self::BlobUploadUnknown
            | Self::ManifestUnknown
            | Self::NameUnknown => StatusCode::NOT_FOUND,
            Self::BlobUploadInvalid
            | Self::DigestInvalid
            | Self::ManifestBlobUnknown
            | Self::ManifestInvalid
            | Self::NameInvalid
            | Self::SizeInvalid
            | Self::TagInvalid
            | Self::PaginationNumberInvalid => StatusCode::BAD_REQUEST,
            Self::RangeInvalid => StatusCode::RANGE_NOT_SATISFIABLE,
            Self::Unauthorized => StatusCode::UNAUTHORIZED,
            Self::Denied => StatusCode::FORBIDDEN,
            Self::Unsupported => StatusCode::METHOD_NOT_ALLOWED,
            Self::TooManyRequests => StatusCode::TOO_MANY_REQUESTS,
            Self::Unknown => StatusCode::INTERNAL_SERVER_ERROR,
        }
    }
}

/// A request that is not met.
#[derive(Clone, Debug)]
pub(crate) struct Refusal {
    pub(crate) status: StatusCode,
    pub(crate) code: Code,
    pub(crate) message: Cow<'static, str>,
    pub(crate) detail: Option<Box<Value>>,
    pub(crate) headers: Vec<(HeaderName, HeaderValue)>,
}

impl Refusal {
    pub(crate) fn new(code: Code, message: impl Into<Cow<'static, str>>) -> Self {
        Self {
            status: code.status(),
            code,
            message: message.into(),
            detail: None,
            headers: Vec::new(),
        }
    }

    pub(crate) fn status(self, status: StatusCode) -> Self {
        Self { status, ..self }
    }

    pub(crate) fn detail(self, detail: Value) -> Self {
        Self {
            detail: Some(Box::new(detail)),
            ..self
        }
    }

    /// The same with a header; a value that no header can carry is left out.
    pub(crate) fn header(mut self, name: HeaderName, value: &str) -> Self {
        if let Ok(value) = HeaderValue::from_str(value) {
            self.headers.push((name, value));
        }
        self
    }

    /// The disk, the database or a thread failed: the client is told that, the log is told why.
    pub(crate) fn internal(error: &(dyn std::error::Error + 'static)) -> Self {
        let text = chain(error);
        tracing::error!(error = text, "a request failed");
        if is_full(error) {
            let refusal = Self::new(Code::Denied, "the registry's disk is full");
            return refusal.status(StatusCode::INSUFFICIENT_STORAGE);
        }
        Self::new(Code::Unknown, "the registry failed; its log says why")
    }

    pub(crate) fn body(&self) -> Vec<u8> {
        let mut error = json!({"code": self.code.text(), "message": self.message});
        if let Some(detail) = &self.detail {
            error["detail"] = (**detail).clone();
        }
        json!({"errors": [error]}).to_string().into_bytes()
    }
}

/// An error with its causes, for the log.
pub(crate) fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        text = format!("{text}: {error}");
        cause = error.source();
    }
    text
}

/// Whether a full disk or an exceeded quota of the file system is at the bottom of it.
pub(crate) fn is_full(error: &(dyn std::error::Error + 'static)) -> bool {
    use std::io::ErrorKind::{QuotaExceeded, StorageFull};
    let mut next = Some(error);
    while let Some(error) = next {
        let mut io = error.downcast_ref::<std::io::Error>();
        if let Some(redb::Error::Io(inner)) = error.downcast_ref::<redb::Error>() {
            io = Some(inner);
        }
        if io.is_some_and(|io| matches!(io.kind(), StorageFull | QuotaExceeded)) {
            return true;
        }
        next = error.source();
    }
    false
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bodies() {
        let refusal = Refusal::new(Code::BlobUnknown, "blob unknown to registry")
            .detail(json!({"digest": "sha256:x"}));
        assert_eq!(refusal.status, StatusCode::NOT_FOUND);
        let text = String::from_utf8(refusal.body()).unwrap();
        let expect = r#"{"errors":[{"code":"BLOB_UNKNOWN","message":"blob unknown to registry","detail":{"digest":"sha256:x"}}]}"#;
        assert_eq!(text, expect);
    }

    #[test]
    fn a_full_disk() {
        let full = std::io::Error::from(std::io::ErrorKind::StorageFull);
        let refusal = Refusal::internal(&full);
        assert_eq!(refusal.status, StatusCode::INSUFFICIENT_STORAGE);
        let other = std::io::Error::other("x");
        assert_eq!(Refusal::internal(&other).code, Code::Unknown);
    }
}
