//! One client's session.

use std::collections::{HashMap, HashSet};
use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

use http::{HeaderMap, HeaderValue};
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

/// The headers of a session's head, as BuildKit's clients send them.
const ID: &str = "x-docker-expose-session-uuid";
const NAME: &str = "x-docker-expose-session-name";
const SHARED_KEY: &str = "x-docker-expose-session-sharedkey";
const METHOD: &str = "x-docker-expose-session-grpc-method";
/// The headers of folders that lie on this machine; the folder's name follows, in hexadecimal.
const FOLDER: &str = "x-gorae-local-";
/// Methods, and folders, of one session at most.
const MAX_OFFERS: usize = 256;

impl Head {
    /// Reads what a client says; what makes no sense counts as not said.
    #[must_use]
    pub fn of_headers(headers: &HeaderMap) -> Self {
        let text = |value: &HeaderValue| String::from_utf8_lossy(value.as_bytes()).into_owned();
        let one = |name| headers.get(name).map(text).unwrap_or_default();
        let methods = headers.get_all(METHOD).iter().take(MAX_OFFERS).map(text);
        let folders = headers.iter().filter_map(|(name, value)| {
            let name = hex::decode(name.as_str().strip_prefix(FOLDER)?).ok()?;
            let path = PathBuf::from(OsStr::from_bytes(value.as_bytes()));
            Some((String::from_utf8(name).ok()?, path)).filter(|(_, path)| path.is_absolute())
        });
        Self {
            id: one(ID),
            name: one(NAME),
            shared_key: one(SHARED_KEY),
            methods: methods.collect(),
            folders: folders.take(MAX_OFFERS).collect(),
        }
    }
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn heads() {
        let mut headers = HeaderMap::new();
        for (name, value) in [
            ("X-Docker-Expose-Session-Uuid", "abc"),
            ("X-Docker-Expose-Session-Name", "context"),
            ("X-Docker-Expose-Session-Grpc-Method", "/a/B"),
            ("X-Docker-Expose-Session-Grpc-Method", "/a/C"),
            ("x-gorae-local-636f6e74657874", "/src/app"),
            ("x-gorae-local-61", "relative"),
            ("x-gorae-local-zz", "/src"),
        ] {
            let name: http::HeaderName = name.parse().unwrap();
            headers.append(name, value.parse().unwrap());
        }
        let head = Head::of_headers(&headers);
        assert_eq!((head.id.as_str(), head.name.as_str()), ("abc", "context"));
        assert_eq!(head.methods, ["/a/B", "/a/C"]);
        let folders = HashMap::from([("context".to_owned(), PathBuf::from("/src/app"))]);
        assert_eq!(head.folders, folders);
    }
}
