//! One client's session.

use std::collections::{HashMap, HashSet};
use std::path::{Path, PathBuf};

use tokio::sync::watch;
use tonic::transport::Channel;

use super::{Method, SessionError, SessionResult};

/// What a client says of its session when it connects.
#[derive(Debug, Clone, Default)]
pub struct Head {
    /// Name that its requests give.
    pub id: String,
    /// What the client calls it: often the last part of the context's path.
    pub name: String,
    /// Key under which its folders are kept between builds.
    pub shared_key: String,
    /// Methods that the client serves, as gRPC has them.
    pub methods: Vec<String>,
    /// Folders that may be read in place, for the client is on this machine.
    pub folders: HashMap<String, PathBuf>,
}

/// A connected client's services.
#[derive(Debug)]
pub struct Session {
    id: String,
    name: String,
    shared_key: String,
    methods: HashSet<String>,
    folders: HashMap<String, PathBuf>,
    channel: Channel,
    closed: watch::Receiver<bool>,
}

impl Session {
    pub(super) fn new(head: Head, channel: Channel, closed: watch::Receiver<bool>) -> Self {
        let methods = head.methods.iter().map(|path| path.to_ascii_lowercase());
        Self {
            id: head.id,
            name: head.name,
            shared_key: head.shared_key,
            methods: methods.collect(),
            folders: head.folders,
            channel,
            closed,
        }
    }

    /// Name that the client's requests give.
    #[must_use]
    pub fn id(&self) -> &str {
        &self.id
    }

    /// What the client calls it.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Key under which the client's folders are kept between builds; may be empty.
    #[must_use]
    pub fn shared_key(&self) -> &str {
        &self.shared_key
    }

    /// Tells whether the client offers a method.
    #[must_use]
    pub fn supports(&self, method: Method) -> bool {
        self.methods.contains(&method.path().to_ascii_lowercase())
    }

    /// The folder of this machine that the client's `name` is, where the client says so: read it
    /// in place.
    #[must_use]
    pub fn local_path(&self, name: &str) -> Option<&Path> {
        self.folders.get(name).map(PathBuf::as_path)
    }

    /// Tells whether the client is gone.
    #[must_use]
    pub fn is_closed(&self) -> bool {
        *self.closed.borrow()
    }

    /// Returns when the client is gone.
    pub async fn closed(&self) {
        let mut closed = self.closed.clone();
        // a sender that is gone is an end too
        drop(closed.wait_for(|closed| *closed).await);
    }

    pub(super) fn channel(&self) -> Channel {
        self.channel.clone()
    }

    /// The method, if the client offers it.
    pub(super) fn offered(&self, method: Method) -> SessionResult<Method> {
        let found = Some(method).filter(|method| self.supports(*method));
        found.ok_or(SessionError::Unsupported { method })
    }
}
