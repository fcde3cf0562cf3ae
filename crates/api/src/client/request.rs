//! Requests: path, query, headers, body, and the ways to send them.

use super::body::Body;
use super::connection::{Checkout, Sender};
use super::error::ClientError;
use super::hijack::Hijacked;
use super::query::encode_into;
use super::response::Response;
use super::{Client, response};
use hyper::body::Incoming;
use hyper::header::{CONNECTION, CONTENT_TYPE, HOST, HeaderName, UPGRADE};
use hyper::{Method, StatusCode};
use serde::Serialize;
use serde::de::DeserializeOwned;

/// A request that is being put together.
#[derive(Debug)]
pub struct Request {
    client: Client,
    method: Method,
    path: String,
    query: String,
    headers: Vec<(HeaderName, String)>,
    body: Body,
    versioned: bool,
    failure: Option<serde_json::Error>,
}

impl Request {
    pub(super) fn new(client: Client, method: Method, path: String) -> Self {
        Self {
            client,
            method,
            path,
            query: String::new(),
            headers: Vec::new(),
            body: Body::empty(),
            versioned: true,
            failure: None,
        }
    }

    /// Adds a parameter to the query.
    #[must_use]
    pub fn query(mut self, name: &str, value: impl AsRef<str>) -> Self {
        self.query
            .push(if self.query.is_empty() { '?' } else { '&' });
        encode_into(&mut self.query, name);
        self.query.push('=');
        encode_into(&mut self.query, value.as_ref());
        self
    }

    /// Adds a parameter to the query if there is a value.
    #[must_use]
    pub fn query_opt(self, name: &str, value: Option<impl AsRef<str>>) -> Self {
        match value {
            Some(value) => self.query(name, value),
            None => self,
        }
    }

    /// Adds `name=1` to the query if `on`.
    #[must_use]
    pub fn query_flag(self, name: &str, on: bool) -> Self {
        if on { self.query(name, "1") } else { self }
    }

    /// Adds a header.
    #[must_use]
    pub fn header(mut self, name: HeaderName, value: impl Into<String>) -> Self {
        self.headers.push((name, value.into()));
        self
    }

    /// Adds a header by its name in lower case, such as `x-registry-auth`.
    #[must_use]
    pub fn header_static(self, name: &'static str, value: impl Into<String>) -> Self {
        self.header(HeaderName::from_static(name), value)
    }

    /// Adds a header by a name that is only known now.
    ///
    /// # Errors
    /// When it is no name of a header.
    pub fn header_named(self, name: &str, value: impl Into<String>) -> Result<Self, ClientError> {
        match HeaderName::try_from(name) {
            Ok(name) => Ok(self.header(name, value)),
            Err(error) => Err(ClientError::Request {
                path: self.path,
                source: error.into(),
            }),
        }
    }

    /// Sends the path as it is, without a version in front.
    #[must_use]
    pub fn unversioned(mut self) -> Self {
        self.versioned = false;
        self
    }

    /// Sends `value` as JSON.
    #[must_use]
    pub fn json<T: Serialize + ?Sized>(mut self, value: &T) -> Self {
        match serde_json::to_vec(value) {
            Ok(bytes) => self.body = Body::full(bytes),
            Err(error) => self.failure = Some(error),
        }
        self.header(CONTENT_TYPE, "application/json")
    }

    /// Sends `body` as it is.
    #[must_use]
    pub fn body(mut self, body: Body, content_type: &str) -> Self {
        self.body = body;
        self.header(CONTENT_TYPE, content_type)
    }

    /// Sends the request and takes an answer with a status below 400.
    ///
    /// # Errors
    /// When there is no engine, the connection breaks, or the engine answers with an error.
    pub async fn send(self) -> Result<Response, ClientError> {
        let path = self.path.clone();
        let (client, sender, answer) = self.exchange().await?;
        let answer = Response::new(path, answer, sender, client.pool().clone());
        answer.error_for_status().await
    }

    /// Sends the request and decodes the answer.
    ///
    /// # Errors
    /// As [`Request::send`], or when the answer is not such JSON.
    pub async fn fetch<T: DeserializeOwned>(self) -> Result<T, ClientError> {
        self.send().await?.json().await
    }

    /// Sends the request and drops what the answer says.
    ///
    /// # Errors
    /// As [`Request::send`].
    pub async fn run(self) -> Result<(), ClientError> {
        self.send().await?.finish().await
    }

    /// Sends the request and takes the connection over for raw bytes in both directions.
    ///
    /// # Errors
    /// As [`Request::send`], or when the engine does not hand the connection over.
    pub async fn hijack(self) -> Result<Hijacked, ClientError> {
        self.upgrade("tcp").await
    }

    /// The same for another protocol, by its name in HTTP, such as `h2c`.
    ///
    /// # Errors
    /// As [`Request::hijack`].
    pub async fn upgrade(self, protocol: &str) -> Result<Hijacked, ClientError> {
        let path = self.path.clone();
        let request = self.header(CONNECTION, "Upgrade").header(UPGRADE, protocol);
        let (client, sender, answer) = request.exchange().await?;
        let status = answer.status();
        if status == StatusCode::SWITCHING_PROTOCOLS {
            return Hijacked::take(path, answer).await;
        }
        let answer = Response::new(path.clone(), answer, sender, client.pool().clone());
        answer.error_for_status().await?;
        Err(ClientError::NoUpgrade {
            path,
            status: status.as_u16(),
        })
    }

    /// Sends the request over a kept connection, or over a new one if the kept one turns out to be closed.
    async fn exchange(self) -> Result<(Client, Sender, hyper::Response<Incoming>), ClientError> {
        let Self {
            client,
            method,
            path,
            query,
            headers,
            body,
            versioned,
            failure,
        } = self;
        if let Some(source) = failure {
            return Err(ClientError::Encode { path, source });
        }
        let uri = if versioned {
            format!("/v{}{path}{query}", client.version())
        } else {
            format!("{path}{query}")
        };
        let mut builder = hyper::Request::builder()
            .method(method.clone())
            .uri(uri)
            .header(HOST, "localhost");
        for (name, value) in headers {
            builder = builder.header(name, value);
        }
        let mut message = builder.body(body).map_err(|source| ClientError::Request {
            path: path.clone(),
            source,
        })?;
        loop {
            let Checkout { mut sender, reused } = client.pool().checkout().await?;
            match sender.try_send_request(message).await {
                Ok(answer) => return Ok((client, sender, answer)),
                Err(mut failed) => match failed.take_message() {
                    // the engine closed the idle connection before it saw the request
                    Some(unsent) if reused => message = unsent,
                    _ => {
                        let source = failed.into_error();
                        return Err(ClientError::Http {
                            method: method.to_string(),
                            path,
                            source,
                        });
                    }
                },
            }
        }
    }
}

impl Client {
    /// Asks the engine for its newest API version and speaks that one if it is the older of the two.
    ///
    /// # Errors
    /// When there is no engine or it does not answer.
    pub async fn negotiate(&self) -> Result<(), ClientError> {
        let answer = self.get("/_ping").unversioned().send().await?;
        let newest = answer.header("api-version").map(str::to_owned);
        answer.finish().await?;
        if let Some(newest) = newest
            && response::older(&newest, &self.version())
        {
            self.set_version(&newest);
        }
        Ok(())
    }
}
