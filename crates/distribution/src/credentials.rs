//! A person's credentials for one registry.

use std::fmt;

use base64::Engine as _;
use base64::engine::general_purpose::{STANDARD, URL_SAFE};
use http::HeaderValue;
use oci::reference::DEFAULT_DOMAIN;
use serde::{Deserialize, Serialize};
use sha2::{Digest as _, Sha256};

/// The name under which credentials of `docker.io` are kept everywhere.
pub(crate) const DOCKER_HUB_KEY: &str = "https://index.docker.io/v1/";
const HEADER_MAX: usize = 64 * 1024;

/// Credentials in any of the forms that Docker's clients send.
#[derive(Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Credentials {
    /// The user's name.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub username: String,
    /// The password or access token.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub password: String,
    /// A refresh token, used in place of the password.
    #[serde(rename = "identitytoken", skip_serializing_if = "String::is_empty")]
    pub identity_token: String,
    /// A bearer token that is sent to the registry as it is.
    #[serde(rename = "registrytoken", skip_serializing_if = "String::is_empty")]
    pub registry_token: String,
}

/// A text that holds no credentials.
#[derive(Debug, thiserror::Error)]
pub enum DecodeCredentialsError {
    /// The text is longer than credentials can be.
    #[error("credentials are longer than {HEADER_MAX} bytes")]
    TooLong,
    /// The text is not base64.
    #[error("decode credentials")]
    Base64(#[source] base64::DecodeError),
    /// The decoded text is not the JSON that is expected.
    #[error("parse credentials")]
    Json(#[source] serde_json::Error),
}

impl Credentials {
    /// Credentials of a user with a password.
    #[must_use]
    pub fn basic(username: &str, password: &str) -> Self {
        Self {
            username: username.to_owned(),
            password: password.to_owned(),
            ..Self::default()
        }
    }

    /// Whether there is nothing to authenticate with.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.password.is_empty() && self.identity_token.is_empty() && self.registry_token.is_empty()
    }

    /// Credentials from the value of an `X-Registry-Auth` header: base64 of JSON, in either
    /// alphabet, padded or not. An empty value gives empty credentials.
    ///
    /// # Errors
    /// When the value is not such a text.
    pub fn from_header(value: &str) -> Result<Self, DecodeCredentialsError> {
        if value.len() > HEADER_MAX {
            return Err(DecodeCredentialsError::TooLong);
        }
        let text = value.trim().trim_end_matches('=');
        if text.is_empty() {
            return Ok(Self::default());
        }
        let standard: String = text
            .chars()
            .map(|c| match c {
                '-' => '+',
                '_' => '/',
                other => other,
            })
            .collect();
        let json = base64::engine::general_purpose::STANDARD_NO_PAD
            .decode(standard)
            .map_err(DecodeCredentialsError::Base64)?;
        serde_json::from_slice(&json).map_err(DecodeCredentialsError::Json)
    }

    /// The value of an `X-Registry-Auth` header that carries these credentials.
    #[must_use]
    pub fn to_header(&self) -> String {
        let json = serde_json::json!({
            "username": self.username,
            "password": self.password,
            "identitytoken": self.identity_token,
            "registrytoken": self.registry_token,
        });
        URL_SAFE.encode(json.to_string())
    }

    pub(crate) fn basic_header(&self) -> Option<HeaderValue> {
        let pair = STANDARD.encode(format!("{}:{}", self.username, self.password));
        let mut value = HeaderValue::try_from(format!("Basic {pair}")).ok()?;
        value.set_sensitive(true);
        Some(value)
    }

    /// What tells these credentials from others in a cache, without holding the secret.
    pub(crate) fn fingerprint(&self) -> [u8; 32] {
        let mut hash = Sha256::new();
        for part in [
            &self.username,
            &self.password,
            &self.identity_token,
            &self.registry_token,
        ] {
            hash.update(part.len().to_le_bytes());
            hash.update(part);
        }
        hash.finalize().into()
    }
}

impl fmt::Debug for Credentials {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Credentials")
            .field("username", &self.username)
            .finish_non_exhaustive()
    }
}

/// The key under which the credentials of a registry are kept, for a reference's domain.
#[must_use]
pub fn auth_key(domain: &str) -> &str {
    match domain {
        DEFAULT_DOMAIN | "index.docker.io" | "registry-1.docker.io" => DOCKER_HUB_KEY,
        other => other,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn header_round_trips_and_hides_secrets() {
        let credentials = Credentials::basic("ann", "p?>~ss");
        let header = credentials.to_header();
        assert_eq!(Credentials::from_header(&header).unwrap(), credentials);
        let unpadded = header.trim_end_matches('=');
        assert_eq!(Credentials::from_header(unpadded).unwrap(), credentials);
        assert!(!format!("{credentials:?}").contains("p?>"));
        assert!(Credentials::from_header("").unwrap().is_empty());
        assert!(Credentials::from_header("e30=").unwrap().is_empty());
        assert!(Credentials::from_header("%%").is_err());
    }

    #[test]
    fn accepts_dockers_extra_fields() {
        let json = r#"{"username":"u","password":"p","auth":"","email":"e","serveraddress":"x"}"#;
        let header = STANDARD.encode(json);
        assert_eq!(
            Credentials::from_header(&header).unwrap(),
            Credentials::basic("u", "p")
        );
    }

    #[test]
    fn hub_has_one_key() {
        assert_eq!(auth_key("docker.io"), DOCKER_HUB_KEY);
        assert_eq!(auth_key("quay.io"), "quay.io");
    }
}
