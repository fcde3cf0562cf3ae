//! A client of registries that does nothing else: what it takes is the server's time.

use anyhow::{Context, Result, bail, ensure};
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::time::Duration;

/// No answer takes longer.
const PATIENCE: Duration = Duration::from_secs(60);
const PIECE: usize = 256 << 10;

/// A connection that is kept.
#[derive(Debug)]
pub(super) struct Client {
    server: SocketAddr,
    stream: BufReader<TcpStream>,
    piece: Vec<u8>,
}

/// The head of an answer.
#[derive(Debug)]
pub(super) struct Head {
    pub(super) status: u16,
    pub(super) location: Option<String>,
    length: u64,
}

impl Client {
    pub(super) fn connect(server: SocketAddr) -> Result<Self> {
        let stream = TcpStream::connect(server).with_context(|| format!("connect to {server}"))?;
        stream.set_nodelay(true).context("set TCP_NODELAY")?;
        stream
            .set_read_timeout(Some(PATIENCE))
            .context("limit the time of an answer")?;
        Ok(Self {
            server,
            stream: BufReader::with_capacity(PIECE, stream),
            piece: vec![0; PIECE],
        })
    }

    /// Asks, and reads the answer to its end; gives its head and how long its body was.
    pub(super) fn ask(
        &mut self,
        method: &str,
        path: &str,
        headers: &str,
        body: &[u8],
    ) -> Result<(Head, u64)> {
        let head = format!(
            "{method} {path} HTTP/1.1\r\nHost: {}\r\nContent-Length: {}\r\n{headers}\r\n",
            self.server,
            body.len()
        );
        let stream = self.stream.get_mut();
        stream
            .write_all(head.as_bytes())
            .context("send a request")?;
        stream.write_all(body).context("send a request's body")?;
        let head = self.head()?;
        let length = if method == "HEAD" { 0 } else { head.length };
        let mut left = length;
        while left > 0 {
            let most = usize::try_from(left).map_or(PIECE, |left| left.min(PIECE));
            let count = self
                .stream
                .read(&mut self.piece[..most])
                .context("read an answer")?;
            ensure!(count > 0, "{} closes before its answer's end", self.server);
            left -= u64::try_from(count)?;
        }
        Ok((head, length))
    }

    /// The same, where one status is expected.
    pub(super) fn expect(
        &mut self,
        status: u16,
        method: &str,
        path: &str,
        headers: &str,
        body: &[u8],
    ) -> Result<(Head, u64)> {
        let (head, length) = self.ask(method, path, headers, body)?;
        ensure!(
            head.status == status,
            "{method} {path}: {} instead of {status}",
            head.status
        );
        Ok((head, length))
    }

    fn head(&mut self) -> Result<Head> {
        let mut head = Head {
            status: 0,
            location: None,
            length: 0,
        };
        let mut line = String::new();
        loop {
            line.clear();
            if self
                .stream
                .read_line(&mut line)
                .context("read an answer's head")?
                == 0
            {
                bail!("{} closes without an answer", self.server);
            }
            let text = line.trim_end();
            if text.is_empty() {
                return Ok(head);
            }
            if head.status == 0 {
                let status = text.split(' ').nth(1).and_then(|word| word.parse().ok());
                head.status = status.with_context(|| format!("read the status {text:?}"))?;
            } else if let Some((name, value)) = text.split_once(": ") {
                if name.eq_ignore_ascii_case("content-length") {
                    head.length = value.parse().context("read Content-Length")?;
                } else if name.eq_ignore_ascii_case("location") {
                    head.location = Some(value.to_owned());
                }
            }
        }
    }
}
