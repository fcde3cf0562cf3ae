//! The reaper that Testcontainers starts beside a test's containers, for images that cannot be fetched: it
//! speaks the protocol of `testcontainers/ryuk` and removes what a test program that died has left.
//!
//! A client connects to port 8080 and sends lines of filters, `label=key=value&label=...`; each is answered
//! by `ACK`. When the last connection has been gone for a while, everything that fits one of the lines is
//! removed by the engine's API at `/var/run/docker.sock`, and the reaper ends.
#![forbid(unsafe_code)]

use std::collections::BTreeSet;
use std::io::{self, BufRead as _, BufReader, Read as _, Write as _};
use std::net::{TcpListener, TcpStream};
use std::os::unix::net::UnixStream;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use serde_json::{Map, Value, json};
use testkit::http::{self, Response};

const SOCKET: &str = "/var/run/docker.sock";
const PORT: u16 = 8080;
const FIRST: Duration = Duration::from_secs(60);
const AGAIN: Duration = Duration::from_secs(10);
const LINE: u64 = 64 * 1024;
/// Something that still ends, as a network whose last container is just removed, is tried again.
const TRIES: u32 = 10;

/// What clients have asked for, and how many of them are there.
#[derive(Default)]
struct Shared {
    state: Mutex<State>,
    news: Condvar,
}

#[derive(Default)]
struct State {
    connections: usize,
    came: bool,
    filters: BTreeSet<String>,
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn change(&self, change: impl FnOnce(&mut State)) {
        change(&mut self.lock());
        self.news.notify_all();
    }

    /// Waits until no client is left and none comes again in time, and returns what they asked for.
    fn wait(&self, first: Duration, again: Duration) -> BTreeSet<String> {
        let mut state = self.lock();
        let mut deadline = Instant::now() + first;
        loop {
            if state.connections > 0 {
                state = self
                    .news
                    .wait(state)
                    .unwrap_or_else(PoisonError::into_inner);
                deadline = Instant::now() + again;
                continue;
            }
            let left = deadline.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return state.filters.clone();
            }
            let waited = self.news.wait_timeout(state, left);
            state = waited.unwrap_or_else(PoisonError::into_inner).0;
            if state.came {
                state.came = false;
                deadline = Instant::now() + again;
            }
        }
    }
}

fn main() -> io::Result<()> {
    let listener = TcpListener::bind(("0.0.0.0", PORT))?;
    let shared = Arc::new(Shared::default());
    let clients = Arc::clone(&shared);
    std::thread::spawn(move || {
        for stream in listener.incoming().flatten() {
            clients.change(|state| {
                state.connections += 1;
                state.came = true;
            });
            let shared = Arc::clone(&clients);
            std::thread::spawn(move || {
                let _hung_up = serve(&stream, &shared);
                shared.change(|state| state.connections -= 1);
            });
        }
    });
    say(&format!("reaper listens on port {PORT}: Started!"))?;
    let first = duration("RYUK_CONNECTION_TIMEOUT", FIRST);
    let again = duration("RYUK_RECONNECTION_TIMEOUT", AGAIN);
    let mut removed = 0;
    for filters in shared.wait(first, again) {
        removed += prune(&filters)?;
    }
    say(&format!("removed {removed}"))
}

/// Takes down the filters of one client until it hangs up.
fn serve(stream: &TcpStream, shared: &Shared) -> io::Result<()> {
    let mut reader = BufReader::new(stream.try_clone()?);
    let mut answers = stream.try_clone()?;
    loop {
        let mut line = String::new();
        if reader.by_ref().take(LINE).read_line(&mut line)? == 0 {
            return Ok(());
        }
        let line = line.trim();
        if !line.is_empty() {
            shared.change(|state| {
                state.filters.insert(line.to_owned());
            });
            answers.write_all(b"ACK\n")?;
        }
    }
}

/// Removes everything that fits one line of filters, and tells how much that was.
fn prune(line: &str) -> io::Result<usize> {
    let filters = encode(&filters(line).to_string());
    let mut removed = 0;
    let kinds: [(&str, &str, Pick, &str, &str); 4] = [
        (
            "/containers/json?all=1&filters=",
            "/containers/",
            others,
            "Id",
            "?force=1&v=1",
        ),
        ("/networks?filters=", "/networks/", ids, "Id", ""),
        (
            "/volumes?filters=",
            "/volumes/",
            volumes,
            "Name",
            "?force=1",
        ),
        (
            "/images/json?all=1&filters=",
            "/images/",
            ids,
            "Id",
            "?force=1",
        ),
    ];
    for (list, one, pick, name, how) in kinds {
        let found = api("GET", &format!("{list}{filters}"))?;
        let found: Value = serde_json::from_slice(&found.body)?;
        for id in pick(&found, name) {
            removed += usize::from(remove(&format!("{one}{id}{how}"))?);
        }
    }
    Ok(removed)
}

type Pick = fn(&Value, &str) -> Vec<String>;

fn ids(found: &Value, name: &str) -> Vec<String> {
    let all = found.as_array().into_iter().flatten();
    all.filter_map(|one| one[name].as_str().map(str::to_owned))
        .collect()
}

/// Containers but the reaper's own, which some clients label as all of theirs.
fn others(found: &Value, name: &str) -> Vec<String> {
    let all = found.as_array().into_iter().flatten();
    let others = all.filter(|one| one["Labels"]["org.testcontainers.ryuk"] != "true");
    ids(&Value::Array(others.cloned().collect()), name)
}

fn volumes(found: &Value, name: &str) -> Vec<String> {
    ids(&found["Volumes"], name)
}

fn remove(path: &str) -> io::Result<bool> {
    let mut answer = api("DELETE", path)?;
    for _ in 1..TRIES {
        if matches!(answer.status, 200..300 | 404) {
            break;
        }
        std::thread::sleep(Duration::from_millis(200));
        answer = api("DELETE", path)?;
    }
    let done = matches!(answer.status, 200..300);
    if !done {
        let text = String::from_utf8_lossy(&answer.body);
        say(&format!("{path}: {} {text}", answer.status))?;
    }
    Ok(done)
}

fn api(method: &str, path: &str) -> io::Result<Response> {
    let mut stream = UnixStream::connect(SOCKET)?;
    http::exchange(&mut stream, "docker", method, path, &[], b"")
}

/// A line of filters as the API takes it: a list of values for each name.
fn filters(line: &str) -> Value {
    let mut all = Map::new();
    for (name, value) in line.split('&').filter_map(|part| part.split_once('=')) {
        let values = all.entry(name).or_insert_with(|| json!([]));
        if let Some(values) = values.as_array_mut() {
            values.push(decode(value).into());
        }
    }
    all.into()
}

fn encode(text: &str) -> String {
    text.bytes().map(|byte| format!("%{byte:02X}")).collect()
}

fn decode(text: &str) -> String {
    let mut bytes = Vec::new();
    let mut rest = text.as_bytes();
    while let [first, tail @ ..] = rest {
        let code = tail.get(..2).and_then(|two| std::str::from_utf8(two).ok());
        let code = code.and_then(|two| u8::from_str_radix(two, 16).ok());
        rest = match (first, code) {
            (b'%', Some(byte)) => {
                bytes.push(byte);
                tail.get(2..).unwrap_or_default()
            }
            (b'+', _) => {
                bytes.push(b' ');
                tail
            }
            (byte, _) => {
                bytes.push(*byte);
                tail
            }
        };
    }
    String::from_utf8_lossy(&bytes).into_owned()
}

/// A time of the environment in Go's form: `10s`, `500ms`, `1m`.
fn duration(variable: &str, default: Duration) -> Duration {
    let text = std::env::var(variable).unwrap_or_default();
    let digits = text.trim_end_matches(char::is_alphabetic);
    let Ok(number) = digits.parse() else {
        return default;
    };
    match &text[digits.len()..] {
        "ms" => Duration::from_millis(number),
        "m" => Duration::from_secs(60 * number),
        _ => Duration::from_secs(number),
    }
}

fn say(text: &str) -> io::Result<()> {
    let mut out = io::stdout().lock();
    writeln!(out, "{text}")?;
    out.flush()
}
