//! TCP connections to the first address of a host that answers (RFC 8305, simplified).

use std::future::Future;
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use futures_util::StreamExt as _;
use futures_util::stream::FuturesUnordered;
use tokio::net::TcpStream;

use super::TransportError;
use super::names::Names;

/// The head start of an address over the next one (RFC 8305, section 5).
const HEAD_START: Duration = Duration::from_millis(250);
/// More addresses than this are not tried.
const ADDRESSES_MAX: usize = 16;

/// Looks up `host` and connects to it within `limit`.
pub(super) async fn dial(
    names: &Names,
    host: &str,
    port: u16,
    limit: Duration,
) -> Result<TcpStream, TransportError> {
    let addresses = names.lookup(host, limit).await?;
    let targets = addresses.into_iter().take(ADDRESSES_MAX);
    let race = first_of(targets.map(|ip| SocketAddr::new(ip, port)));
    let stream =
        tokio::time::timeout(limit, race)
            .await
            .map_err(|_| TransportError::DialTimeout {
                target: format!("{host}:{port}"),
                limit,
            })??;
    // Requests are small and wait for their answers; Nagle would only delay them.
    let _best_effort = stream.set_nodelay(true);
    Ok(stream)
}

/// Connects to all addresses, one head start after the other, and takes the first that works;
/// the first failure is the one that is told.
async fn first_of(
    addresses: impl Iterator<Item = SocketAddr>,
) -> Result<TcpStream, TransportError> {
    let mut waiting = addresses.peekable();
    let mut running = FuturesUnordered::new();
    let mut first_error = None;
    loop {
        if let Some(address) = waiting.next() {
            running.push(connect(address));
        }
        let more = waiting.peek().is_some();
        match next_or_timeout(&mut running, more).await {
            Step::Done(Ok(stream)) => return Ok(stream),
            Step::Done(Err(error)) => first_error = first_error.or(Some(error)),
            Step::HeadStartOver => {}
            Step::Empty => break,
        }
    }
    Err(first_error.unwrap_or_else(|| TransportError::Dial {
        address: SocketAddr::new(IpAddr::from([0, 0, 0, 0]), 0),
        source: io::ErrorKind::AddrNotAvailable.into(),
    }))
}

enum Step {
    Done(Result<TcpStream, TransportError>),
    HeadStartOver,
    Empty,
}

async fn next_or_timeout<F>(running: &mut FuturesUnordered<F>, more: bool) -> Step
where
    F: Future<Output = Result<TcpStream, TransportError>>,
{
    let next = if more {
        match tokio::time::timeout(HEAD_START, running.next()).await {
            Ok(next) => next,
            Err(_) => return Step::HeadStartOver,
        }
    } else {
        running.next().await
    };
    next.map_or(Step::Empty, Step::Done)
}

async fn connect(address: SocketAddr) -> Result<TcpStream, TransportError> {
    TcpStream::connect(address)
        .await
        .map_err(|source| TransportError::Dial { address, source })
}
