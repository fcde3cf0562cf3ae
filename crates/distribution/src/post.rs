//! A message to an address that a person gave: how others are told of events.

use bytes::Bytes;
use http::Method;
use http::header::{HeaderName, HeaderValue};

use crate::answer::printable;
use crate::ask::message;
use crate::client::Client;
use crate::error::RegistryError;

impl Client {
    /// Posts bytes by http or https, once, and tells the status of the answer.
    ///
    /// # Errors
    /// When the address or a header is none, or the host cannot be reached.
    pub async fn post(
        &self,
        address: &str,
        headers: &[(&str, &str)],
        body: Bytes,
    ) -> Result<u16, RegistryError> {
        let invalid = |problem: &str| RegistryError::Protocol {
            method: "Post",
            url: printable(address),
            problem: problem.to_owned(),
        };
        let mut message = message(Method::POST, address)?;
        for (name, value) in headers {
            let name = HeaderName::try_from(*name).map_err(|_| invalid("invalid header"))?;
            let value = HeaderValue::try_from(*value).map_err(|_| invalid("invalid header"))?;
            message.headers.insert(name, value);
        }
        message.body = body;
        let answer = self.shared.exchange.follow(&message).await?;
        let status = answer.status.as_u16();
        // so that the connection can be used again
        drop(answer.complaint().await);
        Ok(status)
    }
}
