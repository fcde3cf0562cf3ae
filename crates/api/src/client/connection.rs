//! Connections that are kept for the next request.

use super::body::Body;
use super::endpoint::Endpoint;
use super::error::ClientError;
use super::transport::Transport;
use hyper::client::conn::http1::{self, SendRequest};
use hyper_util::rt::TokioIo;
use std::sync::{Mutex, MutexGuard};

/// The most idle connections that are kept.
const IDLE: usize = 4;

pub(super) type Sender = SendRequest<Body>;

/// The connections to one engine.
#[derive(Debug)]
pub(super) struct Pool {
    endpoint: Endpoint,
    idle: Mutex<Vec<Sender>>,
}

/// A connection for one request, and whether it was used before.
pub(super) struct Checkout {
    pub(super) sender: Sender,
    pub(super) reused: bool,
}

impl Pool {
    pub(super) fn new(endpoint: Endpoint) -> Self {
        Self {
            endpoint,
            idle: Mutex::new(Vec::new()),
        }
    }

    pub(super) fn endpoint(&self) -> &Endpoint {
        &self.endpoint
    }

    fn idle(&self) -> MutexGuard<'_, Vec<Sender>> {
        match self.idle.lock() {
            Ok(idle) => idle,
            Err(poisoned) => poisoned.into_inner(),
        }
    }

    /// Takes an idle connection that still stands, or opens one.
    pub(super) async fn checkout(&self) -> Result<Checkout, ClientError> {
        loop {
            let candidate = self.idle().pop();
            let Some(mut sender) = candidate else { break };
            if sender.ready().await.is_ok() {
                return Ok(Checkout {
                    sender,
                    reused: true,
                });
            }
        }
        Ok(Checkout {
            sender: self.open().await?,
            reused: false,
        })
    }

    pub(super) async fn warm(&self) -> Result<(), ClientError> {
        if self.idle().is_empty() {
            let sender = self.open().await?;
            self.give_back(sender);
        }
        Ok(())
    }

    /// Opens a connection and leaves its driver running in the background.
    pub(super) async fn open(&self) -> Result<Sender, ClientError> {
        let transport: Transport =
            self.endpoint
                .dial()
                .await
                .map_err(|source| ClientError::Connect {
                    endpoint: self.endpoint.to_string(),
                    source,
                })?;
        let (sender, connection) =
            http1::handshake(TokioIo::new(transport))
                .await
                .map_err(|source| ClientError::Http {
                    method: "CONNECT".to_owned(),
                    path: self.endpoint.to_string(),
                    source,
                })?;
        // its error reaches whoever waits for the answer, through the sender
        tokio::spawn(connection.with_upgrades());
        Ok(sender)
    }

    /// Keeps a connection whose last answer was read to its end.
    pub(super) fn give_back(&self, sender: Sender) {
        let mut idle = self.idle();
        if idle.len() < IDLE && !sender.is_closed() {
            idle.push(sender);
        }
    }
}
