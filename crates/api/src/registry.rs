//! Credentials for registries.

use base64::Engine as _;
use base64::alphabet;
use base64::engine::{DecodePaddingMode, GeneralPurpose, GeneralPurposeConfig};

use crate::error::InvalidParameter;
use crate::wire::wire;

/// Name of the header that carries [`AuthConfig`].
pub const AUTH_HEADER: &str = "X-Registry-Auth";

/// Longest header that is read; tokens of cloud registries have a few kilobytes.
const MAX_HEADER: usize = 64 * 1024;

wire! {
    /// Credentials for a registry.
    #[derive(Eq)]
    pub struct AuthConfig {
        /// User.
        "username" [omitempty] => username: String,
        /// Password.
        "password" [omitempty] => password: String,
        /// `user:password` in base64.
        "auth" [omitempty] => auth: String,
        /// Obsolete.
        "email" [omitempty] => email: String,
        /// Registry.
        "serveraddress" [omitempty] => server_address: String,
        /// Token that is exchanged for bearer tokens.
        "identitytoken" [omitempty] => identity_token: String,
        /// Bearer token.
        "registrytoken" [omitempty] => registry_token: String,
    }

    /// The answer of `POST /auth`.
    #[derive(Eq)]
    pub struct AuthResponse {
        /// Token that replaces the password.
        "IdentityToken" => identity_token: String,
        /// `Login Succeeded`.
        "Status" => status: String,
    }
}

/// Go's `base64.URLEncoding`, but with or without padding.
const URL: GeneralPurpose = GeneralPurpose::new(
    &alphabet::URL_SAFE,
    GeneralPurposeConfig::new().with_decode_padding_mode(DecodePaddingMode::Indifferent),
);

impl AuthConfig {
    /// Reads the header's value; an empty one is no credentials.
    pub fn from_header(value: &str) -> Result<Self, InvalidParameter> {
        if value.len() > MAX_HEADER {
            return Err(invalid("too long"));
        }
        if value.is_empty() {
            return Ok(Self::default());
        }
        // the standard alphabet differs in two characters only, and some clients use it
        let urlsafe = value.replace('+', "-").replace('/', "_");
        let json = URL
            .decode(urlsafe.trim())
            .map_err(|_| invalid("must be a valid base64url-encoded string"))?;
        serde_json::from_slice(&json).map_err(|error| invalid(&error.to_string()))
    }

    /// Writes the header's value.
    #[must_use]
    pub fn to_header(&self) -> String {
        URL.encode(serde_json::to_vec(self).unwrap_or_default())
    }
}

fn invalid(reason: &str) -> InvalidParameter {
    InvalidParameter(format!("invalid {AUTH_HEADER} header: {reason}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn headers() {
        let auth = AuthConfig {
            username: "u".into(),
            password: "p\u{ff}?>".into(),
            ..AuthConfig::default()
        };
        assert_eq!(AuthConfig::from_header(&auth.to_header()).unwrap(), auth);
        let none = AuthConfig::default();
        for empty in ["", "e30=", "e30", "bnVsbA=="] {
            assert_eq!(AuthConfig::from_header(empty).unwrap(), none, "{empty}");
        }
        for bad in ["%", "e30=x", "WzFd", "ew=="] {
            let error = AuthConfig::from_header(bad).unwrap_err().to_string();
            assert!(
                error.starts_with("invalid X-Registry-Auth header: "),
                "{error}"
            );
        }
        assert!(AuthConfig::from_header(&"A".repeat(MAX_HEADER + 1)).is_err());
    }
}
