//! Errors as HTTP answers: the only place that knows status codes of error kinds.

use api::ErrorResponse;
use api::error::InvalidParameter;
use axum::response::{IntoResponse, Response};
use engine::Kind;
use http::StatusCode;

use crate::body::json;

/// A failed request: its status and the text for people.
#[derive(Debug)]
pub(crate) struct ApiError {
    status: StatusCode,
    message: String,
}

/// What a route answers.
pub(crate) type Reply = Result<Response, ApiError>;

impl ApiError {
    pub(crate) fn new(status: StatusCode, message: impl Into<String>) -> Self {
        Self {
            status,
            message: message.into(),
        }
    }

    pub(crate) fn invalid(message: impl Into<String>) -> Self {
        Self::new(StatusCode::BAD_REQUEST, message)
    }

    /// The same answer with what was being done in front.
    pub(crate) fn context(self, step: &str) -> Self {
        Self {
            message: format!("{step}: {}", self.message),
            ..self
        }
    }

    /// Gives the text for people.
    pub(crate) fn into_message(self) -> String {
        self.message
    }

    /// An endpoint of Docker's that Gorae does not have.
    pub(crate) fn not_implemented(what: &str) -> Self {
        Self::new(
            StatusCode::NOT_IMPLEMENTED,
            format!("{what} is not supported by this version of gorae"),
        )
    }
}

fn status(kind: Kind) -> StatusCode {
    match kind {
        Kind::NotFound => StatusCode::NOT_FOUND,
        Kind::InvalidParameter => StatusCode::BAD_REQUEST,
        Kind::Conflict => StatusCode::CONFLICT,
        Kind::NotModified => StatusCode::NOT_MODIFIED,
        Kind::Unauthorized => StatusCode::UNAUTHORIZED,
        Kind::Forbidden => StatusCode::FORBIDDEN,
        Kind::Unavailable => StatusCode::SERVICE_UNAVAILABLE,
        Kind::NotImplemented => StatusCode::NOT_IMPLEMENTED,
        Kind::System => StatusCode::INTERNAL_SERVER_ERROR,
    }
}

impl From<engine::Error> for ApiError {
    fn from(error: engine::Error) -> Self {
        Self::new(status(error.kind()), error.message())
    }
}

impl From<InvalidParameter> for ApiError {
    fn from(error: InvalidParameter) -> Self {
        Self::invalid(error.0)
    }
}

impl IntoResponse for ApiError {
    fn into_response(self) -> Response {
        if self.status == StatusCode::INTERNAL_SERVER_ERROR {
            tracing::error!(status = self.status.as_u16(), message = %self.message, "a request failed");
        } else {
            tracing::debug!(status = self.status.as_u16(), message = %self.message, "a request was refused");
        }
        // RFC 9110, 15.4.5: an answer 304 has no content
        if self.status == StatusCode::NOT_MODIFIED {
            return self.status.into_response();
        }
        let message = self.message;
        json(self.status, &ErrorResponse { message })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn answers() {
        let error = ApiError::from(engine::Error::conflict("in use"));
        let response = error.into_response();
        assert_eq!(response.status(), StatusCode::CONFLICT);
        assert_eq!(response.headers()["content-type"], "application/json");
        let body = axum::body::to_bytes(response.into_body(), 100)
            .await
            .unwrap();
        assert_eq!(&body[..], b"{\"message\":\"in use\"}\n");

        let response = ApiError::from(engine::Error::not_modified("x")).into_response();
        assert_eq!(response.status(), StatusCode::NOT_MODIFIED);
        let body = axum::body::to_bytes(response.into_body(), 100)
            .await
            .unwrap();
        assert!(body.is_empty());
    }
}
