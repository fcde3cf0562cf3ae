//! Errors on the wire.

use std::fmt;

use crate::wire::wire;

wire! {
    /// The body of every failed request.
    #[derive(Eq)]
    pub struct ErrorResponse {
        /// Text.
        "message" => message: String,
    }
}

/// A request parameter that cannot be read; its text is Docker's.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct InvalidParameter(pub String);

impl fmt::Display for InvalidParameter {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(&self.0)
    }
}

impl std::error::Error for InvalidParameter {}
