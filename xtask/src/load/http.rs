//! Small HTTP/1.1 requests and answers.

use super::Tally;
use anyhow::{Context, Result, bail};
use std::net::SocketAddr;
use std::time::{Duration, Instant};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinSet;

const BODY: &[u8; 100] = &[b'g'; 100];
const HEAD_END: &[u8] = b"\r\n\r\n";
/// A head that is longer than this is not of our client or server.
const LARGEST: usize = 4096;
/// How long an answer may take.
const PATIENCE: Duration = Duration::from_secs(5);

fn runtime() -> Result<tokio::runtime::Runtime> {
    tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .context("start an event loop")
}

fn answer(keep: bool) -> Vec<u8> {
    let connection = if keep { "keep-alive" } else { "close" };
    let head = format!(
        "HTTP/1.1 200 OK\r\nContent-Length: {}\r\nConnection: {connection}\r\n\r\n",
        BODY.len()
    );
    [head.as_bytes(), BODY].concat()
}

/// Answers every request with the same 100 bytes.
pub(super) fn serve(own: SocketAddr) -> Result<()> {
    runtime()?.block_on(async {
        let listener = TcpListener::bind(own)
            .await
            .with_context(|| format!("listen on {own}"))?;
        loop {
            let (stream, _) = listener.accept().await.context("accept a connection")?;
            // a client that goes away is no failure of the server
            drop(tokio::spawn(attend(stream)));
        }
    })
}

async fn attend(mut stream: TcpStream) -> Result<()> {
    stream.set_nodelay(true).context("set TCP_NODELAY")?;
    let (keep, close) = (answer(true), answer(false));
    let mut buffer = Vec::with_capacity(LARGEST);
    loop {
        buffer.clear();
        while !buffer.ends_with(HEAD_END) {
            if buffer.len() > LARGEST || stream.read_buf(&mut buffer).await? == 0 {
                return Ok(());
            }
        }
        let last = buffer
            .windows(b"Connection: close".len())
            .any(|part| part == b"Connection: close");
        stream.write_all(if last { &close } else { &keep }).await?;
        if last {
            return Ok(stream.shutdown().await?);
        }
    }
}

/// Asks over a number of connections at once, each with one request under way.
pub(super) fn ask(
    server: SocketAddr,
    connections: u16,
    keep: bool,
    time: Duration,
) -> Result<Tally> {
    runtime()?.block_on(async {
        let begun = Instant::now();
        let mut clients: JoinSet<Result<Vec<Duration>>> = (0..connections)
            .map(|_| client(server, keep, begun + time))
            .collect();
        let mut tally = Tally::default();
        while let Some(client) = clients.join_next().await {
            tally.taken.extend(client.context("wait for a client")??);
        }
        tally.elapsed = begun.elapsed();
        Ok(tally)
    })
}

async fn client(server: SocketAddr, keep: bool, end: Instant) -> Result<Vec<Duration>> {
    let mut taken = Vec::new();
    let mut kept = None;
    let connection = if keep { "keep-alive" } else { "close" };
    let request = format!("GET / HTTP/1.1\r\nHost: {server}\r\nConnection: {connection}\r\n\r\n");
    let mut buffer = Vec::with_capacity(LARGEST);
    while Instant::now() < end {
        let begun = Instant::now();
        let exchange = exchange(server, keep, &mut kept, request.as_bytes(), &mut buffer);
        tokio::time::timeout(PATIENCE, exchange)
            .await
            .with_context(|| format!("{server} did not answer within {PATIENCE:?}"))??;
        taken.push(begun.elapsed());
    }
    Ok(taken)
}

/// One request and its answer, over the connection that was kept or a new one.
async fn exchange(
    server: SocketAddr,
    keep: bool,
    kept: &mut Option<TcpStream>,
    request: &[u8],
    buffer: &mut Vec<u8>,
) -> Result<()> {
    let mut stream = match kept.take() {
        Some(stream) => stream,
        None => TcpStream::connect(server)
            .await
            .with_context(|| format!("connect to {server}"))?,
    };
    stream.set_nodelay(true).context("set TCP_NODELAY")?;
    stream.write_all(request).await.context("send a request")?;
    buffer.clear();
    let expected = answer(keep).len();
    // the server of this file closes first, where it is asked to
    while !keep || buffer.len() < expected {
        if stream.read_buf(buffer).await.context("read an answer")? == 0 {
            break;
        }
    }
    if buffer.len() != expected || !buffer.starts_with(b"HTTP/1.1 200") {
        bail!("{server} gave another answer of {} bytes", buffer.len());
    }
    *kept = keep.then_some(stream);
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_kinds_of_connection() {
        let own: SocketAddr = "127.0.0.1:0".parse().unwrap();
        let free = std::net::TcpListener::bind(own)
            .unwrap()
            .local_addr()
            .unwrap();
        std::thread::spawn(move || serve(free));
        let begun = Instant::now();
        while std::net::TcpStream::connect(free).is_err() && begun.elapsed() < PATIENCE {}
        for keep in [true, false] {
            let tally = ask(free, 4, keep, Duration::from_millis(50)).unwrap();
            assert!(tally.taken.len() >= 4, "{tally:?}");
        }
    }
}
