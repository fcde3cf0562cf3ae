//! Search: Docker Hub's and other registries' `/v1/search`, the only search that there is.

use http::header::ACCEPT;
use http::{HeaderValue, Method, StatusCode};
use serde::Deserialize;

use crate::answer::printable;
use crate::client::Client;
use crate::credentials::Credentials;
use crate::error::RegistryError;
use crate::exchange::Message;

/// A page of a hundred results is far below this.
const RESULTS_MAX: u64 = 4 << 20;
/// Where Docker Hub answers searches.
const HUB: &str = "index.docker.io";

/// What is searched for, and where.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Search {
    /// The registry as in an image's name; Docker Hub where it is empty.
    pub registry: String,
    /// Words of a name or a description.
    pub term: String,
    /// The most results.
    pub limit: u32,
}

/// A repository that was found.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(default)]
pub struct Found {
    /// Its name.
    pub name: String,
    /// What its owner says of it.
    pub description: String,
    /// How many people have marked it.
    pub star_count: i64,
    /// Whether the registry's owner answers for it.
    pub is_official: bool,
    /// Obsolete.
    pub is_automated: bool,
}

impl Client {
    /// Searches a registry for repositories.
    ///
    /// # Errors
    /// When the registry cannot be reached, refuses, or has no search.
    pub async fn search(
        &self,
        search: &Search,
        credentials: Option<&Credentials>,
    ) -> Result<Vec<Found>, RegistryError> {
        let mut refused = None;
        for base in self.bases(if search.registry.is_empty() {
            HUB
        } else {
            &search.registry
        })? {
            let path = format!("/v1/search?q={}&n={}", encode(&search.term), search.limit);
            let Some(uri) = base.at(&path) else { continue };
            let mut message = Message::new(Method::GET, uri);
            message.downgrade = base.insecure;
            message
                .headers
                .insert(ACCEPT, HeaderValue::from_static("application/json"));
            message.authorization = credentials
                .filter(|c| !c.username.is_empty() && !c.password.is_empty())
                .and_then(Credentials::basic_header);
            match self.shared.exchange.follow(&message).await {
                Ok(answer) if answer.status == StatusCode::OK => {
                    let misfit = answer.misfit("the answer is no list of repositories");
                    let body = answer.bytes("list of repositories", RESULTS_MAX).await?;
                    return read(&body, search.limit).ok_or(misfit);
                }
                Ok(answer) => return Err(answer.into_error().await),
                Err(error) => refused = refused.or(Some(error)),
            }
        }
        Err(refused.unwrap_or_else(|| RegistryError::RegistryName {
            name: search.registry.clone(),
        }))
    }
}

fn read(body: &[u8], limit: u32) -> Option<Vec<Found>> {
    #[derive(Deserialize)]
    struct Page {
        results: Option<Vec<Found>>,
    }
    let page: Page = serde_json::from_slice(body).ok()?;
    let mut results = page.results.unwrap_or_default();
    results.truncate(usize::try_from(limit).unwrap_or(usize::MAX));
    for found in &mut results {
        // the texts are written to terminals
        found.name = printable(&found.name);
        found.description = printable(&found.description);
    }
    Some(results)
}

/// A value in a query (RFC 3986, 2.3).
fn encode(text: &str) -> String {
    let mut encoded = String::new();
    for byte in text.bytes() {
        if byte.is_ascii_alphanumeric() || b"-._~".contains(&byte) {
            encoded.push(char::from(byte));
        } else {
            encoded.push_str(&format!("%{byte:02X}"));
        }
    }
    encoded
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pages() {
        let page = br#"{"num_results":2,"results":[{"name":"a","star_count":3,"description":"x\u001b[2J","extra":1},{"name":"b"}]}"#;
        let found = read(page, 1).unwrap();
        assert_eq!(found.len(), 1);
        assert_eq!(
            (found[0].star_count, found[0].description.as_str()),
            (3, "x [2J")
        );
        assert_eq!(read(br#"{"results":null}"#, 5), Some(Vec::new()));
        assert_eq!(read(b"<html>", 5), None);
    }

    #[test]
    fn terms_are_encoded() {
        assert_eq!(encode("a b/c&d=ü"), "a%20b%2Fc%26d%3D%C3%BC");
    }
}
