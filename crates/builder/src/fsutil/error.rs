//! What goes wrong with a transfer.

use std::io;
use std::path::PathBuf;

use tonic::Status;

/// Why files cannot be sent or received.
#[derive(Debug, thiserror::Error)]
pub enum FsutilError {
    /// A name that no tree may have.
    #[error("invalid path {path:?}: {why}")]
    Path {
        /// Name.
        path: String,
        /// What is wrong with it.
        why: &'static str,
    },
    /// A file that has more than is taken.
    #[error("{path} has more than {largest} bytes")]
    TooLarge {
        /// Its name.
        path: String,
        /// What is taken.
        largest: u64,
    },
    /// The other side breaks the protocol.
    #[error("the other side sent {what}")]
    Protocol {
        /// What no side may send.
        what: &'static str,
    },
    /// The other side cannot go on.
    #[error("{message}")]
    Remote {
        /// Its words.
        message: String,
    },
    /// The stream broke.
    #[error("{}", .source.message())]
    Stream {
        /// Cause.
        #[source]
        source: Box<Status>,
    },
    /// The other side is gone.
    #[error("the stream ended too early")]
    Ended,
    /// A step on the disk failed.
    #[error("{step} {path:?}")]
    Disk {
        /// What was done.
        step: &'static str,
        /// With what.
        path: String,
        /// Cause.
        #[source]
        source: io::Error,
    },
    /// The list of what a folder holds cannot be kept.
    #[error("keep the index {path}")]
    Index {
        /// File.
        path: PathBuf,
        /// Cause.
        #[source]
        source: io::Error,
    },
    /// The thread that works on the disk failed.
    #[error("work on the disk")]
    Thread(#[source] tokio::task::JoinError),
}

impl FsutilError {
    /// A step that failed, for `map_err`.
    pub(super) fn disk<E: Into<io::Error>>(
        step: &'static str,
        path: &str,
    ) -> impl FnOnce(E) -> Self {
        move |source| Self::Disk {
            step,
            path: path.to_owned(),
            source: source.into(),
        }
    }
}

impl From<Status> for FsutilError {
    fn from(source: Status) -> Self {
        Self::Stream {
            source: Box::new(source),
        }
    }
}
