//! A client of the Engine API on a unix socket: one connection, requests one after another.

use anyhow::{Context, Result, bail};
use serde_json::Value;
use std::io::{BufRead, BufReader, Read, Write};
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::time::Duration;

/// An engine that says nothing for so long hangs.
const PATIENCE: Duration = Duration::from_secs(120);

/// A connection on which requests are made.
#[derive(Debug)]
pub(super) struct Client {
    stream: BufReader<UnixStream>,
}

/// How an answer's body ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum End {
    /// After so many bytes.
    Length(u64),
    /// After a chunk of no bytes.
    Chunked,
    /// With the connection.
    Close,
}

/// An answer whose body comes bit by bit.
#[derive(Debug)]
pub(super) struct Stream {
    pub(super) status: u16,
    end: End,
    /// Bytes of the chunk that are still to come.
    left: u64,
    over: bool,
    stream: BufReader<UnixStream>,
}

impl Client {
    pub(super) fn connect(socket: &Path) -> Result<Self> {
        let stream = UnixStream::connect(socket)
            .with_context(|| format!("connect to {}", socket.display()))?;
        stream
            .set_read_timeout(Some(PATIENCE))
            .context("bound the wait for an answer")?;
        let stream = BufReader::with_capacity(256 << 10, stream);
        Ok(Self { stream })
    }

    /// Makes a request; gives the status and the body.
    pub(super) fn ask(&mut self, method: &str, path: &str, body: &str) -> Result<(u16, Vec<u8>)> {
        send(self.stream.get_mut(), method, path, body, "")?;
        let (status, end) = head(&mut self.stream)?;
        let mut bytes = Vec::new();
        match end {
            End::Length(length) => {
                let whole = (&mut self.stream).take(length).read_to_end(&mut bytes)?;
                if whole as u64 != length {
                    bail!("{method} {path}: the answer ends too early");
                }
            }
            End::Chunked => loop {
                let length = chunk(&mut self.stream)?;
                (&mut self.stream).take(length).read_to_end(&mut bytes)?;
                line(&mut self.stream)?;
                if length == 0 {
                    break;
                }
            },
            End::Close => drop(self.stream.read_to_end(&mut bytes)?),
        }
        Ok((status, bytes))
    }

    /// Makes a request that must go well; gives the answer as JSON, or null where there is none.
    pub(super) fn call(&mut self, method: &str, path: &str, body: &str) -> Result<Value> {
        let (status, bytes) = self.ask(method, path, body)?;
        if status >= 400 {
            let text = String::from_utf8_lossy(&bytes);
            bail!("{method} {path}: {status} {}", text.trim());
        }
        if bytes.iter().all(u8::is_ascii_whitespace) {
            return Ok(Value::Null);
        }
        serde_json::from_slice(&bytes)
            .with_context(|| format!("read the answer to {method} {path}"))
    }

    /// Makes a request whose answer goes on; what is hijacked ends with the connection.
    pub(super) fn open(
        mut self,
        method: &str,
        path: &str,
        body: &str,
        hijack: bool,
    ) -> Result<Stream> {
        let more = if hijack {
            "Connection: Upgrade\r\nUpgrade: tcp\r\n"
        } else {
            ""
        };
        send(self.stream.get_mut(), method, path, body, more)?;
        let (status, end) = head(&mut self.stream)?;
        let end = if hijack { End::Close } else { end };
        Ok(Stream {
            status,
            end,
            left: match end {
                End::Length(length) => length,
                End::Chunked | End::Close => 0,
            },
            over: false,
            stream: self.stream,
        })
    }
}

impl Stream {
    /// Another handle of the connection, by which it can be closed while somebody reads.
    pub(super) fn end(&self) -> Result<UnixStream> {
        self.stream
            .get_ref()
            .try_clone()
            .context("share a connection")
    }
}

impl Read for Stream {
    fn read(&mut self, buffer: &mut [u8]) -> std::io::Result<usize> {
        if self.end == End::Close {
            return self.stream.read(buffer);
        }
        if self.left == 0 && self.end == End::Chunked && !self.over {
            self.left = chunk(&mut self.stream).map_err(std::io::Error::other)?;
            self.over = self.left == 0;
        }
        let most = usize::try_from(self.left)
            .unwrap_or(usize::MAX)
            .min(buffer.len());
        let length = self.stream.read(&mut buffer[..most])?;
        self.left -= length as u64;
        if self.left == 0 && self.end == End::Chunked && length > 0 {
            line(&mut self.stream).map_err(std::io::Error::other)?;
        }
        Ok(length)
    }
}

fn send(stream: &mut UnixStream, method: &str, path: &str, body: &str, more: &str) -> Result<()> {
    let kind = if body.is_empty() {
        String::new()
    } else {
        "Content-Type: application/json\r\n".to_owned()
    };
    let length = body.len();
    let text = format!(
        "{method} {path} HTTP/1.1\r\nHost: bench\r\n{kind}{more}Content-Length: {length}\r\n\r\n{body}"
    );
    stream
        .write_all(text.as_bytes())
        .with_context(|| format!("send {method} {path}"))
}

/// Reads a line without its end.
fn line(stream: &mut BufReader<UnixStream>) -> Result<String> {
    let mut text = String::new();
    if stream.read_line(&mut text).context("read an answer")? == 0 {
        bail!("the engine has closed the connection");
    }
    Ok(text.trim_end().to_owned())
}

fn chunk(stream: &mut BufReader<UnixStream>) -> Result<u64> {
    let text = line(stream)?;
    u64::from_str_radix(text.trim(), 16).with_context(|| format!("read a chunk's length {text:?}"))
}

/// Reads an answer's head.
fn head(stream: &mut BufReader<UnixStream>) -> Result<(u16, End)> {
    let first = line(stream)?;
    let status: u16 = first
        .split(' ')
        .nth(1)
        .and_then(|word| word.parse().ok())
        .with_context(|| format!("read an answer's first line {first:?}"))?;
    let mut end = End::Close;
    loop {
        let text = line(stream)?;
        if text.is_empty() {
            break;
        }
        let (name, value) = text.split_once(':').unwrap_or((&text, ""));
        let value = value.trim();
        if name.eq_ignore_ascii_case("content-length") {
            end = End::Length(value.parse().context("read an answer's length")?);
        } else if name.eq_ignore_ascii_case("transfer-encoding") && value.contains("chunked") {
            end = End::Chunked;
        }
    }
    if matches!(status, 204 | 304) {
        end = End::Length(0);
    }
    Ok((status, end))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn answered(answer: &str) -> (Client, UnixStream) {
        let (own, mut theirs) = UnixStream::pair().unwrap();
        theirs.write_all(answer.as_bytes()).unwrap();
        let stream = BufReader::new(own);
        (Client { stream }, theirs)
    }

    #[test]
    fn answers_of_every_form() {
        for (answer, wanted) in [
            (
                "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nOK",
                (200, "OK"),
            ),
            ("HTTP/1.1 204 No Content\r\n\r\n", (204, "")),
            (
                "HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n2\r\nab\r\na\r\n0123456789\r\n0\r\n\r\n",
                (200, "ab0123456789"),
            ),
        ] {
            let (mut client, _theirs) = answered(answer);
            let (status, body) = client.ask("GET", "/x", "").unwrap();
            assert_eq!((status, String::from_utf8(body).unwrap().as_str()), wanted);
        }
    }

    #[test]
    fn a_stream_comes_bit_by_bit() {
        let answer =
            "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n2\r\nde\r\n0\r\n\r\n";
        let (client, _theirs) = answered(answer);
        let mut text = String::new();
        let mut stream = client.open("GET", "/x", "", false).unwrap();
        assert_eq!(stream.status, 200);
        stream.read_to_string(&mut text).unwrap();
        assert_eq!(text, "abcde");
    }
}
