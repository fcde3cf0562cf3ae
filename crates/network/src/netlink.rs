//! Netlink: building messages, sending them in batches, and reading answers with bounds checks.
//!
//! One codec serves rtnetlink, nftables and connection tracking.

pub(crate) mod abi;
mod batch;
mod own;
mod parse;
mod socket;

pub(crate) use batch::{Attributes, Batch};
pub(crate) use own::{Port, is_own};
pub(crate) use parse::{Message, attributes, find, integer_be, integer_ne, text};
pub(crate) use socket::Socket;

use std::io;

/// What went wrong between us and the kernel.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum NetlinkError {
    /// No netlink socket could be opened.
    #[error("cannot open a netlink socket")]
    Open(#[source] io::Error),
    /// A request could not be sent.
    #[error("cannot send a netlink request to {step}")]
    Send {
        /// What the request was for.
        step: String,
        /// What the kernel answered.
        #[source]
        source: io::Error,
    },
    /// The answer could not be received.
    #[error("cannot receive the netlink answer to {step}")]
    Receive {
        /// What the request was for.
        step: String,
        /// What the kernel answered.
        #[source]
        source: io::Error,
    },
    /// The kernel refused the request.
    #[error("cannot {step}{}", detail.as_ref().map(|text| format!(" ({text})")).unwrap_or_default())]
    Refused {
        /// What the request was for.
        step: String,
        /// The kernel's own words (extended acknowledgement), if it had any.
        detail: Option<String>,
        /// The error number.
        #[source]
        source: io::Error,
    },
    /// The answer breaks the netlink format.
    #[error("malformed netlink answer to {step}")]
    Malformed {
        /// What the request was for.
        step: String,
    },
    /// A value does not fit the 16 bits that netlink has for an attribute's length.
    #[error("netlink request to {step} has an attribute of more than 65535 bytes")]
    TooLong {
        /// What the request was for.
        step: String,
    },
    /// A dump changed while it was read, several times in a row.
    #[error("the kernel's tables kept changing during {step}")]
    Unsettled {
        /// What the request was for.
        step: String,
    },
}

impl NetlinkError {
    /// Returns the error number of a refusal.
    pub(crate) fn errno(&self) -> Option<rustix::io::Errno> {
        match self {
            Self::Refused { source, .. } => rustix::io::Errno::from_io_error(source),
            _ => None,
        }
    }

    /// Tells whether the kernel refused with this error number.
    pub(crate) fn is(&self, errno: rustix::io::Errno) -> bool {
        self.errno() == Some(errno)
    }
}

/// Turns a refusal for this reason into success.
pub(crate) fn tolerate(
    result: Result<(), NetlinkError>,
    errno: rustix::io::Errno,
) -> Result<(), NetlinkError> {
    match result {
        Err(error) if error.is(errno) => Ok(()),
        other => other,
    }
}
