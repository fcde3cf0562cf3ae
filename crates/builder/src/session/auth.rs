//! Credentials of registries, which stay with the client.

use bollard_buildkit_proto::moby::filesync::v1::auth_client::AuthClient;
use bollard_buildkit_proto::moby::filesync::v1::{
    CredentialsRequest, FetchTokenRequest, GetTokenAuthorityRequest, VerifyTokenAuthorityRequest,
};
use zeroize::Zeroizing;

use super::{Method, Session, SessionError, SessionResult};

/// A name and a password, or an identity token where the name is empty.
#[derive(Clone)]
pub struct Credentials {
    /// Name; empty where `secret` is an identity token.
    pub username: String,
    /// Password or token.
    pub secret: Zeroizing<String>,
}

impl std::fmt::Debug for Credentials {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let name = &self.username;
        formatter
            .debug_struct("Credentials")
            .field("username", name)
            .finish_non_exhaustive()
    }
}

/// What a token is asked for.
#[derive(Debug, Clone, Default)]
pub struct TokenRequest {
    /// Name of the program that asks.
    pub client_id: String,
    /// Registry.
    pub host: String,
    /// Where tokens are given.
    pub realm: String,
    /// Whom the token is for.
    pub service: String,
    /// Rights.
    pub scopes: Vec<String>,
}

/// A token of a registry.
#[derive(Clone)]
pub struct Token {
    /// The token.
    pub token: Zeroizing<String>,
    /// Seconds that it is good for.
    pub expires_in: i64,
    /// When it was given, in seconds of Unix time.
    pub issued_at: i64,
}

impl std::fmt::Debug for Token {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let seconds = &self.expires_in;
        formatter
            .debug_struct("Token")
            .field("expires_in", seconds)
            .finish_non_exhaustive()
    }
}

impl Session {
    fn auth(&self) -> AuthClient<tonic::transport::Channel> {
        AuthClient::new(self.channel())
    }

    /// Asks for a registry's credentials; none where the client has none or offers none.
    ///
    /// # Errors
    /// When the client refuses or is gone.
    pub async fn credentials(&self, host: &str) -> SessionResult<Option<Credentials>> {
        let method = Method::Credentials;
        if !self.supports(method) {
            return Ok(None);
        }
        let host = host.to_owned();
        let asked = self.auth().credentials(CredentialsRequest { host }).await;
        let answer = match asked.map_err(SessionError::call(method)) {
            Ok(answer) => answer.into_inner(),
            Err(error) if error.is_unsupported() => return Ok(None),
            Err(error) => return Err(error),
        };
        let found = Credentials {
            username: answer.username,
            secret: Zeroizing::new(answer.secret),
        };
        let none = found.username.is_empty() && found.secret.is_empty();
        Ok(Some(found).filter(|_| !none))
    }

    /// Lets the client fetch a token, so that its password never leaves it.
    ///
    /// # Errors
    /// When the client does not offer it, refuses or is gone.
    pub async fn fetch_token(&self, request: TokenRequest) -> SessionResult<Token> {
        let method = self.offered(Method::FetchToken)?;
        let request = FetchTokenRequest {
            client_id: request.client_id,
            host: request.host,
            realm: request.realm,
            service: request.service,
            scopes: request.scopes,
        };
        let asked = self.auth().fetch_token(request).await;
        let answer = asked.map_err(SessionError::call(method))?.into_inner();
        Ok(Token {
            token: Zeroizing::new(answer.token),
            expires_in: answer.expires_in,
            issued_at: answer.issued_at,
        })
    }

    /// The public key by which the client proves that it may see what a token of `host` gave;
    /// none where it has none.
    ///
    /// # Errors
    /// When the client refuses or is gone.
    pub async fn token_authority(&self, host: &str, salt: &[u8]) -> SessionResult<Option<Vec<u8>>> {
        let method = Method::TokenAuthority;
        if !self.supports(method) {
            return Ok(None);
        }
        let request = GetTokenAuthorityRequest {
            host: host.to_owned(),
            salt: salt.to_vec(),
        };
        let asked = self.auth().get_token_authority(request).await;
        match asked.map_err(SessionError::call(method)) {
            Ok(answer) => Ok(Some(answer.into_inner().public_key)),
            Err(error) if error.is_unsupported() || is_unavailable(&error) => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// Lets the client sign `payload` with the key of [`Session::token_authority`].
    ///
    /// # Errors
    /// When the client does not offer it, refuses or is gone.
    pub async fn sign_token_authority(
        &self,
        host: &str,
        payload: Vec<u8>,
        salt: &[u8],
    ) -> SessionResult<Vec<u8>> {
        let method = self.offered(Method::VerifyTokenAuthority)?;
        let request = VerifyTokenAuthorityRequest {
            host: host.to_owned(),
            payload,
            salt: salt.to_vec(),
        };
        let asked = self.auth().verify_token_authority(request).await;
        let answer = asked.map_err(SessionError::call(method))?;
        Ok(answer.into_inner().signed)
    }
}

fn is_unavailable(error: &SessionError) -> bool {
    matches!(error, SessionError::Call { source, .. } if source.code() == tonic::Code::Unavailable)
}
