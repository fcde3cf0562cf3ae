//! Which sockets the daemon opens, and which it refuses to.

use std::net::SocketAddr;
use std::os::fd::OwnedFd;
use std::sync::Arc;

use crate::address::Address;
use crate::config::Config;
use crate::listen::{self, ListenError, Socket};
use crate::tls::Tls;

/// A socket that a service manager passed, with its name; absent when it was taken.
type Passed = (String, Option<OwnedFd>);

/// Opens all sockets of the API.
pub(crate) fn open(
    config: &Config,
    tls: Option<&Arc<Tls>>,
    passed: Vec<(String, OwnedFd)>,
) -> Result<Vec<Socket>, ListenError> {
    let group = listen::group(config.group.as_deref())?;
    listen::open_folder(&config.engine.run, group)?;
    let mut passed: Vec<Passed> = passed
        .into_iter()
        .map(|(name, descriptor)| (name, Some(descriptor)))
        .collect();
    let mut sockets = Vec::new();
    for address in config.addresses(!passed.is_empty()) {
        match &address {
            Address::Unix(path) => sockets.push(Socket::bind(path, group)?),
            Address::Tcp(ip, port) => {
                let wanted = SocketAddr::new(*ip, Address::port(*port, tls.is_some()));
                guard(wanted, config)?;
                sockets.push(Socket::bind_tcp(wanted, tls.cloned())?);
            }
            Address::Inherited(name) => {
                sockets.extend(inherited(&mut passed, name.as_deref(), config, tls)?);
            }
        }
        tracing::info!(socket = %address, "the engine listens");
    }
    Ok(sockets)
}

/// Opens the socket of those who collect figures: over it nothing can be changed.
pub(crate) fn metrics(address: SocketAddr) -> Result<Socket, ListenError> {
    let socket = Socket::bind_tcp(address, None)?;
    tracing::info!(%address, "metrics are served");
    Ok(socket)
}

/// Whoever may ask the API is root on this host: an address that others reach needs TLS, and clients that show who they are.
fn guard(address: SocketAddr, config: &Config) -> Result<(), ListenError> {
    let verified = config.tls.as_ref().map(|files| files.authority.is_some());
    match (address.ip().is_loopback(), verified) {
        (_, Some(true)) => Ok(()),
        (true, Some(false)) => {
            tracing::warn!(%address, "clients need no certificate: every user of this host can become root through this socket");
            Ok(())
        }
        (true, None) => {
            tracing::warn!(%address, "TCP without TLS: every user of this host, and every web page that one of them opens, may become root through this socket");
            Ok(())
        }
        (false, Some(false)) => Err(ListenError::Unverified { address }),
        (false, None) => Err(ListenError::Open { address }),
    }
}

fn inherited(
    passed: &mut [Passed],
    name: Option<&str>,
    config: &Config,
    tls: Option<&Arc<Tls>>,
) -> Result<Vec<Socket>, ListenError> {
    // sd_listen_fds(3) counts from 3
    let number = name.and_then(|name| name.parse::<usize>().ok());
    let mut sockets = Vec::new();
    for (at, (own, descriptor)) in passed.iter_mut().enumerate() {
        let wanted = name.is_none_or(|name| name == own.as_str()) || number == Some(at + 3);
        if wanted && let Some(descriptor) = descriptor.take() {
            let socket = Socket::inherited(descriptor, tls.cloned())?;
            if let Some(address) = socket.tcp_address() {
                guard(address, config)?;
            }
            sockets.push(socket);
        }
    }
    if sockets.is_empty() {
        return Err(ListenError::NotPassed {
            address: Address::Inherited(name.map(str::to_owned)).to_string(),
        });
    }
    Ok(sockets)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tls::TlsFiles;

    #[test]
    fn strangers_are_kept_out() {
        let mut config = Config::default();
        let files = |authority: bool| {
            Some(TlsFiles {
                authority: authority.then(|| "ca".into()),
                certificate: "cert".into(),
                key: "key".into(),
            })
        };
        let here = "127.0.0.1:0".parse().unwrap();
        let everywhere = "0.0.0.0:0".parse().unwrap();
        let cases = [
            (None, true, false),
            (files(false), true, false),
            (files(true), true, true),
        ];
        for (tls, local, remote) in cases {
            config.tls = tls;
            assert_eq!(guard(here, &config).is_ok(), local, "{config:?}");
            assert_eq!(guard(everywhere, &config).is_ok(), remote, "{config:?}");
        }
    }

    #[tokio::test]
    async fn passed_sockets() {
        let folder = tempfile::tempdir().unwrap();
        let make = |name: &str| {
            let path = folder.path().join(name);
            let listener = std::os::unix::net::UnixListener::bind(path).unwrap();
            (name.to_owned(), Some(OwnedFd::from(listener)))
        };
        let config = Config::default();
        let mut passed = vec![make("a"), make("b"), make("c")];
        let mut take = |name: Option<&str>| {
            inherited(&mut passed, name, &config, None).map(|sockets| sockets.len())
        };
        assert_eq!(take(Some("b")).unwrap(), 1);
        assert!(take(Some("b")).is_err(), "taken");
        assert_eq!(take(Some("3")).unwrap(), 1);
        assert_eq!(take(None).unwrap(), 1);
        assert!(take(None).is_err());
        let (not_listening, _other) = std::os::unix::net::UnixStream::pair().unwrap();
        let mut passed = [("x".to_owned(), Some(OwnedFd::from(not_listening)))];
        assert!(inherited(&mut passed, None, &config, None).is_err());
    }
}
