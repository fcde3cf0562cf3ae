//! The web page: a small HTTP/1.1 server with a bounded number of threads and bounded reads.

use crate::facts;
use crate::live::Figures;
use std::fmt::Write as _;
use std::io::{self, Read, Write};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, TcpListener, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::thread;
use std::time::{Duration, Instant};

/// How many clients are served at once; the others wait in the socket's queue.
const WORKERS: usize = 8;
/// The longest request head that is read.
const HEAD_LIMIT: usize = 8 << 10;
/// How long a client may take to send its request, and to take the answer.
const PATIENCE: Duration = Duration::from_secs(5);

const PAGE: &str = include_str!("page.html");

/// What the workers share.
#[derive(Debug)]
struct Server {
    listener: TcpListener,
    begun: Instant,
    requests: AtomicU64,
}

/// Serves the page until the process ends.
pub(crate) fn serve(port: u16) -> io::Result<()> {
    let listener = listen(port)?;
    let address = listener.local_addr()?;
    let server = Arc::new(Server {
        listener,
        begun: Instant::now(),
        requests: AtomicU64::new(0),
    });
    writeln!(
        io::stdout(),
        "hello: serving what {} sees on {address}",
        facts::hostname()
    )?;
    let spawn = |_| {
        let server = Arc::clone(&server);
        thread::Builder::new()
            .stack_size(256 << 10)
            .spawn(move || server.work())
    };
    let workers: Vec<_> = (0..WORKERS).map(spawn).collect::<io::Result<_>>()?;
    for worker in workers {
        // a worker ends only when accepting fails for good
        worker
            .join()
            .map_err(|_| io::Error::other("a worker panicked"))??;
    }
    Ok(())
}

/// Listens on all addresses, of IPv4 alone where the container has no IPv6.
fn listen(port: u16) -> io::Result<TcpListener> {
    let any = |address: IpAddr| TcpListener::bind(SocketAddr::new(address, port));
    any(Ipv6Addr::UNSPECIFIED.into())
        .or_else(|_| any(Ipv4Addr::UNSPECIFIED.into()))
        .map_err(|error| {
            io::Error::new(
                error.kind(),
                format!("cannot listen on port {port}: {error}"),
            )
        })
}

impl Server {
    fn work(&self) -> io::Result<()> {
        loop {
            match self.listener.accept() {
                // one client's trouble is no other's
                Ok((stream, peer)) => drop(self.answer(stream, peer)),
                // the client is gone again, or descriptors are short for the moment
                Err(error) if error.kind() == io::ErrorKind::ConnectionAborted => {}
                Err(error) if error.raw_os_error() == Some(24) => {
                    thread::sleep(Duration::from_millis(100));
                }
                Err(error) => return Err(error),
            }
        }
    }

    fn answer(&self, mut stream: TcpStream, peer: SocketAddr) -> io::Result<()> {
        stream.set_write_timeout(Some(PATIENCE))?;
        let head = read_head(&mut stream)?;
        let answer = match request(&head) {
            Err(status) => Answer::text(status, "what was sent is no request for this server\n"),
            Ok((_, "/")) => {
                let count = self.requests.fetch_add(1, Ordering::Relaxed) + 1;
                // the poll of the figures is not logged: an open page would fill the log
                drop(writeln!(
                    io::stdout(),
                    "hello: page {count} to {}",
                    peer.ip().to_canonical()
                ));
                Answer {
                    status: "200 OK",
                    kind: "text/html; charset=utf-8",
                    body: page(),
                }
            }
            Ok((_, "/stats.json")) => {
                let figures = Figures::read(self.begun, self.requests.load(Ordering::Relaxed));
                Answer {
                    status: "200 OK",
                    kind: "application/json",
                    body: figures.json(),
                }
            }
            Ok(_) => Answer::text(
                "404 Not Found",
                "there are two pages here: / and /stats.json\n",
            ),
        };
        let with_body = !head.starts_with(b"HEAD ");
        stream.write_all(answer.bytes(with_body).as_bytes())?;
        stream.flush()
    }
}

/// Reads until the empty line, within the limits of length and time.
fn read_head(stream: &mut TcpStream) -> io::Result<Vec<u8>> {
    let deadline = Instant::now() + PATIENCE;
    let mut head = Vec::new();
    let mut part = [0; 1024];
    while !head.windows(4).any(|end| end == b"\r\n\r\n") && head.len() < HEAD_LIMIT {
        let left = deadline.saturating_duration_since(Instant::now());
        if left.is_zero() {
            return Err(io::ErrorKind::TimedOut.into());
        }
        stream.set_read_timeout(Some(left))?;
        match stream.read(&mut part)? {
            0 => return Err(io::ErrorKind::UnexpectedEof.into()),
            count => head.extend_from_slice(&part[..count]),
        }
    }
    Ok(head)
}

/// The method and the path of a request, or the status that refuses it.
fn request(head: &[u8]) -> Result<(&str, &str), &'static str> {
    const BAD: &str = "400 Bad Request";
    let end = head
        .windows(2)
        .position(|end| end == b"\r\n")
        .ok_or("431 Request Header Fields Too Large")?;
    let line = std::str::from_utf8(&head[..end]).map_err(|_| BAD)?;
    let mut words = line.split(' ');
    let (method, target, version) = (words.next(), words.next(), words.next());
    let (Some(method), Some(target), Some("HTTP/1.1" | "HTTP/1.0"), None) =
        (method, target, version, words.next())
    else {
        return Err(BAD);
    };
    if !matches!(method, "GET" | "HEAD") {
        return Err("405 Method Not Allowed");
    }
    Ok((
        method,
        target.split_once('?').map_or(target, |(path, _)| path),
    ))
}

#[derive(Debug)]
struct Answer {
    status: &'static str,
    kind: &'static str,
    body: String,
}

impl Answer {
    fn text(status: &'static str, body: &str) -> Self {
        Self {
            status,
            kind: "text/plain; charset=utf-8",
            body: body.to_owned(),
        }
    }

    fn bytes(&self, with_body: bool) -> String {
        let body = if with_body { self.body.as_str() } else { "" };
        format!(
            "HTTP/1.1 {}\r\nContent-Type: {}\r\nContent-Length: {}\r\nCache-Control: no-store\r\nConnection: close\r\n\
             X-Content-Type-Options: nosniff\r\nAllow: GET, HEAD\r\n\
             Content-Security-Policy: default-src 'none'; style-src 'unsafe-inline'; script-src 'unsafe-inline'; \
             connect-src 'self'; img-src data:\r\n\r\n{body}",
            self.status,
            self.kind,
            self.body.len()
        )
    }
}

fn page() -> String {
    let mut cards = String::new();
    for section in facts::sections() {
        // a String takes all that is written to it
        let _ = write!(
            cards,
            "<section class=\"card\"><h2>{}</h2><dl>",
            escape(section.title)
        );
        for fact in &section.facts {
            let _ = write!(
                cards,
                "<dt>{}</dt><dd>{}</dd>",
                escape(&fact.name),
                escape(&fact.value)
            );
        }
        cards.push_str("</dl></section>\n");
    }
    // the host name first: what is put in is not looked through again
    PAGE.replacen("{{hostname}}", &escape(&facts::hostname()), 2)
        .replacen("{{cards}}", &cards, 1)
}

/// Makes text harmless inside HTML: host names, labels and paths are whoever's who made the container.
fn escape(text: &str) -> String {
    let mut safe = String::with_capacity(text.len());
    for c in text.chars() {
        match c {
            '&' => safe.push_str("&amp;"),
            '<' => safe.push_str("&lt;"),
            '>' => safe.push_str("&gt;"),
            '"' => safe.push_str("&quot;"),
            '\'' => safe.push_str("&#39;"),
            _ => safe.push(c),
        }
    }
    safe
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn requests() {
        let check = |head: &str, expect: Result<(&str, &str), &str>| {
            assert_eq!(request(head.as_bytes()), expect, "{head}");
        };
        check("GET / HTTP/1.1\r\nHost: x\r\n\r\n", Ok(("GET", "/")));
        check(
            "HEAD /stats.json?t=1 HTTP/1.0\r\n\r\n",
            Ok(("HEAD", "/stats.json")),
        );
        check("POST / HTTP/1.1\r\n\r\n", Err("405 Method Not Allowed"));
        check("GET /\r\n\r\n", Err("400 Bad Request"));
        check("GET / HTTP/1.1 x\r\n\r\n", Err("400 Bad Request"));
        check("GET /", Err("431 Request Header Fields Too Large"));
    }

    #[test]
    fn the_page_is_whole_and_alone() {
        let page = page();
        assert!(page.contains("<h2>Namespaces</h2>") && page.trim_end().ends_with("</html>"));
        assert!(!page.contains("{{"), "a place was left empty");
        for outside in ["http://", "https://", "src=", "url(", "@import"] {
            assert!(
                !page.contains(outside),
                "the page refers to the outside by {outside}"
            );
        }
    }

    #[test]
    fn escaping() {
        assert_eq!(
            escape("<a href='x'>&\"</a>"),
            "&lt;a href=&#39;x&#39;&gt;&amp;&quot;&lt;/a&gt;"
        );
    }

    #[test]
    fn over_a_socket() {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
        let address = listener.local_addr().unwrap();
        let server = Arc::new(Server {
            listener,
            begun: Instant::now(),
            requests: AtomicU64::new(0),
        });
        thread::spawn({
            let server = Arc::clone(&server);
            move || server.work()
        });
        let ask = |head: &str| {
            let mut stream = TcpStream::connect(address).unwrap();
            stream.write_all(head.as_bytes()).unwrap();
            let mut text = String::new();
            stream.read_to_string(&mut text).unwrap();
            text
        };
        assert!(ask("GET / HTTP/1.1\r\n\r\n").contains("Root file system"));
        assert!(ask("GET /stats.json HTTP/1.1\r\n\r\n").contains("\"requests\":1}"));
        assert!(ask("HEAD / HTTP/1.1\r\n\r\n").ends_with("\r\n\r\n"));
        assert!(ask("GET /x HTTP/1.1\r\n\r\n").starts_with("HTTP/1.1 404"));
    }
}
