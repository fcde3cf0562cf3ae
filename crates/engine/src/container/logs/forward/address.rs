//! Where logs are sent: addresses as the options write them.

use std::path::PathBuf;

use crate::error::{Error, Result};

/// Where a driver sends to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Address {
    /// A TCP connection.
    Tcp(Host),
    /// UDP datagrams.
    Udp(Host),
    /// A unix stream.
    Unix(PathBuf),
    /// Datagrams to a unix socket.
    Unixgram(PathBuf),
    /// The host's own syslog, wherever its socket is.
    LocalSyslog,
}

/// A host and its port.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Host {
    pub(crate) name: String,
    pub(crate) port: u16,
}

/// A URL in its parts: scheme, authority and path.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Url<'a> {
    pub(super) scheme: &'a str,
    pub(super) host: &'a str,
    pub(super) path: &'a str,
}

impl<'a> Url<'a> {
    /// Cuts an address up; one without `://` has no scheme and is all path.
    pub(super) fn cut(text: &'a str) -> Self {
        let Some((scheme, rest)) = text.split_once("://") else {
            return Self {
                scheme: "",
                host: "",
                path: text,
            };
        };
        let (host, path) = rest.split_at(rest.find('/').unwrap_or(rest.len()));
        Self { scheme, host, path }
    }
}

impl Host {
    /// Reads `host`, `host:port` or `[address]:port`; `None` for a port that is none.
    pub(super) fn parse(text: &str, default_port: Option<u16>) -> Option<Self> {
        let (name, port) = match text.strip_prefix('[') {
            Some(rest) => rest.split_once(']')?,
            None => text.split_at(text.find(':').unwrap_or(text.len())),
        };
        let port = match port.strip_prefix(':') {
            Some(port) => port.parse().ok()?,
            None if port.is_empty() => default_port?,
            None => return None,
        };
        Some(Self {
            name: name.to_owned(),
            port,
        })
    }
}

/// Refuses TLS by its name, and any other scheme as Docker does.
pub(super) fn unsupported(scheme: &str) -> Error {
    if matches!(scheme, "tcp+tls" | "tls") {
        return Error::invalid(format!(
            "unsupported scheme: '{scheme}': logs are sent without TLS only; send them to a relay on this host"
        ));
    }
    Error::invalid(format!("unsupported scheme: '{scheme}'"))
}

/// A socket's path must be there when the container is made, as Docker has it.
pub(super) fn existing(path: &str) -> Result<PathBuf> {
    match std::fs::metadata(path) {
        Ok(_) => Ok(path.into()),
        Err(error) => {
            let why = crate::error::chain(&error);
            Err(Error::invalid(format!("stat {path}: {why}")))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hosts() {
        let check = |text: &str, expect: Option<(&str, u16)>| {
            let found = Host::parse(text, Some(514));
            let found = found.as_ref().map(|host| (host.name.as_str(), host.port));
            assert_eq!(found, expect, "{text}");
        };
        check("a", Some(("a", 514)));
        check("a:1", Some(("a", 1)));
        check("[::1]:1", Some(("::1", 1)));
        check("[::1]", Some(("::1", 514)));
        check("a:b", None);
        check("a:70000", None);
        assert_eq!(Host::parse("a", None), None);
    }
}
