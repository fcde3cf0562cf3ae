//! Requests to a service that is no registry, such as one that keeps caches.

use bytes::Bytes;
use http::{HeaderMap, HeaderValue, Method, StatusCode, Uri};

use crate::answer::{Answer, method_name, printable};
use crate::client::Client;
use crate::error::RegistryError;
use crate::exchange::Message;
use crate::location::Origin;
use crate::retry::{Backoff, retry_after};

/// What a service answered.
#[derive(Debug)]
pub struct Asked {
    answer: Answer,
}

/// A message to an address that a person or a service gave.
pub(crate) fn message(method: Method, address: &str) -> Result<Message, RegistryError> {
    let invalid = |problem: &str| RegistryError::Protocol {
        method: method_name(&method),
        // a service signs the addresses that it gives by their queries
        url: printable(address.split('?').next().unwrap_or_default()),
        problem: problem.to_owned(),
    };
    let uri: Uri = address.parse().map_err(|_| invalid("invalid address"))?;
    if Origin::of(&uri).is_none() {
        return Err(invalid("it is no http or https address"));
    }
    Ok(Message::new(method, uri))
}

impl Client {
    /// Sends a request by http or https; an `Authorization` goes to no other host.
    ///
    /// What may be sent twice is sent again where that may help; everything else only where the host
    /// says that it has done nothing because it is asked too often.
    ///
    /// # Errors
    /// When the address is none, or the host cannot be reached.
    pub async fn ask(
        &self,
        method: Method,
        address: &str,
        headers: HeaderMap,
        authorization: Option<HeaderValue>,
        body: Bytes,
    ) -> Result<Asked, RegistryError> {
        let mut message = message(method, address)?;
        message.headers = headers;
        message.authorization = authorization;
        message.body = body;
        let answer = match message.method {
            Method::GET | Method::PUT => self.shared.exchange.patient(&message).await?,
            _ => self.ask_politely(&message).await?,
        };
        Ok(Asked { answer })
    }

    /// Sends a request that changes something once, and again only when it came too early.
    async fn ask_politely(&self, message: &Message) -> Result<Answer, RegistryError> {
        let mut backoff = Backoff::new(self.shared.config.retry);
        loop {
            let answer = self.shared.exchange.follow(message).await?;
            if answer.status != StatusCode::TOO_MANY_REQUESTS {
                return Ok(answer);
            }
            let Some(pause) = backoff.next_pause(retry_after(&answer.headers)) else {
                return Ok(answer);
            };
            drop(answer);
            tokio::time::sleep(pause).await;
        }
    }
}

impl Asked {
    /// The status of the answer.
    #[must_use]
    pub fn status(&self) -> u16 {
        self.answer.status.as_u16()
    }

    /// The next piece of the answer, `None` at its end.
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

    /// The whole answer, which has no more than `max` bytes.
    ///
    /// # Errors
    /// When it is longer, or the connection breaks.
    pub async fn bytes(self, what: &'static str, max: u64) -> Result<Bytes, RegistryError> {
        self.answer.bytes(what, max).await
    }
}
