//! A file at an address that a person gave, with the registry client's limits and proxies.

use bytes::Bytes;
use http::header::IF_NONE_MATCH;
use http::{HeaderMap, HeaderValue, Method, StatusCode, Uri};

use crate::answer::{Answer, printable};
use crate::client::Client;
use crate::error::RegistryError;
use crate::exchange::Message;
use crate::location::Origin;

/// A file on its way.
#[derive(Debug)]
pub struct Download {
    answer: Answer,
}

impl Client {
    /// Begins to read a file by http or https. No credentials are sent.
    ///
    /// # Errors
    /// When the address is none, or the host cannot be reached or does not have it.
    pub async fn download(&self, address: &str) -> Result<Download, RegistryError> {
        let answer = self.get(address, HeaderMap::new(), None).await?;
        if answer.status != StatusCode::OK {
            return Err(answer.into_error().await);
        }
        Ok(Download { answer })
    }

    /// Begins to read a file by http or https as [`Client::download`] does, with further headers and
    /// an `Authorization` that no other host gets; none where the host says that it still is what
    /// `If-None-Match` names.
    ///
    /// # Errors
    /// When the address is none, or the host cannot be reached or does not have it.
    pub async fn download_unless(
        &self,
        address: &str,
        headers: HeaderMap,
        authorization: Option<HeaderValue>,
    ) -> Result<Option<Download>, RegistryError> {
        let conditional = headers.contains_key(IF_NONE_MATCH);
        let answer = self.get(address, headers, authorization).await?;
        match answer.status {
            StatusCode::NOT_MODIFIED if conditional => Ok(None),
            StatusCode::OK => Ok(Some(Download { answer })),
            _ => Err(answer.into_error().await),
        }
    }

    async fn get(
        &self,
        address: &str,
        headers: HeaderMap,
        authorization: Option<HeaderValue>,
    ) -> Result<Answer, RegistryError> {
        let invalid = |problem: &str| RegistryError::Protocol {
            method: "Get",
            url: printable(address),
            problem: problem.to_owned(),
        };
        let uri: Uri = address.parse().map_err(|_| invalid("invalid address"))?;
        if Origin::of(&uri).is_none() {
            let scheme = uri.scheme_str().unwrap_or_default();
            return Err(match scheme {
                "http" | "https" => invalid("http: no Host in request URL"),
                other => invalid(&format!("unsupported protocol scheme {other:?}")),
            });
        }
        let mut message = Message::new(Method::GET, uri);
        message.downgrade = true;
        message.headers = headers;
        message.authorization = authorization;
        self.shared.exchange.follow(&message).await
    }
}

impl Download {
    /// A header of the answer, if it is text.
    #[must_use]
    pub fn header(&self, name: &str) -> Option<&str> {
        self.answer.header(name)
    }

    /// The next piece of the file, `None` at its end.
    ///
    /// # Errors
    /// When the connection breaks or stands still.
    pub async fn chunk(&mut self) -> Result<Option<Bytes>, RegistryError> {
        let size = self.answer.length().unwrap_or(u64::MAX);
        match self.answer.chunk(size).await {
            Ok(chunk) => Ok(chunk),
            Err(source) => Err(self.answer.broken(source)),
        }
    }
}
