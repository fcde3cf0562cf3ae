//! Login: whether a registry takes credentials.

use http::{Method, StatusCode};

use crate::answer::printable;
use crate::auth::{Asked, Claim, fetch};
use crate::challenge::Challenge;
use crate::client::{Client, Ping};
use crate::credentials::Credentials;
use crate::error::RegistryError;
use crate::exchange::Message;
use crate::location::shown;

/// What a successful login gives.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Login {
    /// The text for the person.
    pub status: String,
    /// A refresh token to keep in place of the password, if the registry gave one.
    pub identity_token: Option<String>,
}

impl Client {
    /// Checks credentials against a registry, named as in `docker login`: a domain, an address, or
    /// nothing for Docker Hub.
    ///
    /// # Errors
    /// When the registry cannot be reached or refuses the credentials.
    pub async fn login(
        &self,
        registry: &str,
        credentials: &Credentials,
    ) -> Result<Login, RegistryError> {
        let ping = self.ping(&domain_of(registry)).await?;
        let claim = Claim {
            credentials: Some(credentials),
            scope: "",
            insecure: ping.base.insecure,
            offline: true,
        };
        let uri = ping.base.api("/").unwrap_or_else(|| ping.base.uri.clone());
        let url = shown(&uri);
        let identity_token = self.refresh_token(&ping, claim, &url).await?;
        let answer = self.authorized(&ping, Message::new(Method::GET, uri), claim);
        let answer = answer.await?;
        match answer.status {
            StatusCode::OK => Ok(Login {
                status: "Login Succeeded".to_owned(),
                identity_token,
            }),
            StatusCode::UNAUTHORIZED => Err(answer.into_error().await),
            status => Err(answer.misfit(format!(
                "login attempt to {url} failed with status: {}",
                printable(&status.to_string())
            ))),
        }
    }

    /// Asks the token server for a token without any scope, which proves the credentials; the
    /// registry alone would accept anonymous ones.
    async fn refresh_token(
        &self,
        ping: &Ping,
        claim: Claim<'_>,
        url: &str,
    ) -> Result<Option<String>, RegistryError> {
        let bearer = ping
            .challenges
            .iter()
            .find_map(|challenge| match challenge {
                Challenge::Bearer(bearer) => Some(bearer),
                Challenge::Basic => None,
            });
        let Some(bearer) = bearer else {
            return Ok(None);
        };
        let asked = Asked { method: "Get", url };
        let grant = fetch(&self.shared.exchange, bearer, "", claim, &asked).await?;
        Ok(grant.refresh_token.filter(|token| !token.is_empty()))
    }
}

/// The domain in what people type: `https://index.docker.io/v1/`, `reg.example/`, or nothing.
fn domain_of(registry: &str) -> String {
    let rest = registry
        .split_once("://")
        .map_or(registry, |(_, rest)| rest);
    let domain = rest.split('/').next().unwrap_or_default();
    match domain {
        "" | "index.docker.io" => oci::reference::DEFAULT_DOMAIN.to_owned(),
        other => other.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn finds_the_domain() {
        assert_eq!(domain_of(""), "docker.io");
        assert_eq!(domain_of("https://index.docker.io/v1/"), "docker.io");
        assert_eq!(domain_of("http://127.0.0.1:5000/"), "127.0.0.1:5000");
        assert_eq!(domain_of("quay.io"), "quay.io");
    }
}
