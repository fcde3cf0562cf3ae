//! An engine that answers each request with what the test says, and keeps what was asked.

use std::io::{BufRead, BufReader, Read, Write};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::PathBuf;
use std::process::{Command, Output, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Mutex};

/// A request: its first line without the protocol, and its body.
pub(crate) type Asked = (String, String);

/// What an engine says to a request.
pub(crate) enum Answer {
    /// A status and a body.
    Plain(u16, String),
    /// The connection becomes a stream of these bytes, and the input is read to its end first if asked for.
    Stream { output: Vec<u8>, reads_input: bool },
}

pub(crate) fn ok(body: &str) -> Answer {
    Answer::Plain(200, body.to_owned())
}

pub(crate) fn refusal(status: u16, message: &str) -> Answer {
    Answer::Plain(
        status,
        serde_json::json!({ "message": message }).to_string(),
    )
}

pub(crate) fn stream(frames: &[(u8, &str)]) -> Answer {
    let output = frames
        .iter()
        .flat_map(|(kind, text)| {
            let length = u32::try_from(text.len()).unwrap().to_be_bytes();
            [&[*kind, 0, 0, 0], &length[..], text.as_bytes()].concat()
        })
        .collect();
    Answer::Stream {
        output,
        reads_input: false,
    }
}

pub(crate) struct Engine {
    socket: PathBuf,
    asked: Arc<Mutex<Vec<Asked>>>,
}

impl Engine {
    /// Listens, and answers with `answer`, which sees the first line of each request.
    pub(crate) fn new(answer: impl Fn(&str) -> Answer + Send + Sync + 'static) -> Self {
        static COUNT: AtomicU32 = AtomicU32::new(0);
        let count = COUNT.fetch_add(1, Ordering::Relaxed);
        let socket =
            std::env::temp_dir().join(format!("gorae-cli-it-{}-{count}.sock", std::process::id()));
        let listener = UnixListener::bind(&socket).unwrap();
        let asked = Arc::new(Mutex::new(Vec::new()));
        let (answer, log) = (Arc::new(answer), Arc::clone(&asked));
        std::thread::spawn(move || {
            for connection in listener.incoming() {
                let (answer, log) = (Arc::clone(&answer), Arc::clone(&log));
                std::thread::spawn(move || serve(connection.unwrap(), &*answer, &log));
            }
        });
        Self { socket, asked }
    }

    pub(crate) fn asked(&self) -> Vec<Asked> {
        self.asked.lock().unwrap().clone()
    }

    /// The first lines of all requests.
    pub(crate) fn lines(&self) -> Vec<String> {
        self.asked().into_iter().map(|(line, _body)| line).collect()
    }

    /// Runs the program with these words and this input.
    pub(crate) fn gorae(&self, words: &[&str], input: &str) -> Seen {
        let host = format!("unix://{}", self.socket.display());
        gorae(&host, words, input)
    }
}

impl Drop for Engine {
    fn drop(&mut self) {
        drop(std::fs::remove_file(&self.socket));
    }
}

/// What a user sees of a command.
#[derive(Debug)]
pub(crate) struct Seen {
    pub(crate) code: i32,
    pub(crate) out: String,
    pub(crate) errors: String,
}

pub(crate) fn gorae(host: &str, words: &[&str], input: &str) -> Seen {
    let mut child = Command::new(env!("CARGO_BIN_EXE_gorae"))
        .args(words)
        .env("GORAE_HOST", host)
        .env("DOCKER_CONFIG", "/nonexistent")
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    // a command that reads no input closes the pipe
    drop(child.stdin.take().unwrap().write_all(input.as_bytes()));
    let Output {
        status,
        stdout,
        stderr,
    } = child.wait_with_output().unwrap();
    Seen {
        code: status.code().unwrap_or(-1),
        out: String::from_utf8(stdout).unwrap(),
        errors: String::from_utf8(stderr).unwrap(),
    }
}

fn serve(connection: UnixStream, answer: &dyn Fn(&str) -> Answer, log: &Mutex<Vec<Asked>>) {
    let mut reader = BufReader::new(connection);
    loop {
        let Some((line, body)) = request(&mut reader) else {
            return;
        };
        let said = answer(&line);
        log.lock().unwrap().push((line, body));
        let writer = reader.get_mut();
        match said {
            Answer::Plain(status, body) => {
                let head = format!(
                    "HTTP/1.1 {status} X\r\nContent-Length: {}\r\n\r\n",
                    body.len()
                );
                writer.write_all((head + &body).as_bytes()).unwrap();
            }
            Answer::Stream {
                mut output,
                reads_input,
            } => {
                let head = "HTTP/1.1 101 UPGRADED\r\nConnection: Upgrade\r\nUpgrade: tcp\r\n\r\n";
                writer.write_all(head.as_bytes()).unwrap();
                if reads_input {
                    let mut input = String::new();
                    reader.read_to_string(&mut input).unwrap();
                    log.lock().unwrap().push(("input".to_owned(), input));
                }
                reader
                    .get_mut()
                    .write_all(&std::mem::take(&mut output))
                    .unwrap();
                return;
            }
        }
    }
}

fn request(reader: &mut BufReader<UnixStream>) -> Option<Asked> {
    let mut line = String::new();
    let mut length = 0;
    reader.read_line(&mut line).ok().filter(|read| *read > 0)?;
    loop {
        let mut header = String::new();
        reader.read_line(&mut header).ok()?;
        let Some((name, value)) = header.trim_end().split_once(':') else {
            break;
        };
        if name.eq_ignore_ascii_case("content-length") {
            length = value.trim().parse().unwrap();
        }
    }
    let mut body = vec![0; length];
    reader.read_exact(&mut body).ok()?;
    let line = line
        .trim_end()
        .trim_end_matches(" HTTP/1.1")
        .replace("/v1.51", "");
    Some((line, String::from_utf8(body).unwrap()))
}
