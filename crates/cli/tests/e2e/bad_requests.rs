//! Wrong requests to every endpoint: each gets one clear answer, dockerd's, and the engine stays responsive.
//!
//! `bad_requests.tsv` is the table: method, path, content type, body, status and words of the answer. It
//! was asked of dockerd 28.5.2 too; where a cell of statuses holds two, the second one is dockerd's.

use std::io::{Read, Write};
use std::os::unix::net::UnixStream;
use std::time::{Duration, Instant};

use testkit::docker::LIMIT;
use testkit::engine::Engine;
use testkit::http::{self, Response};

use crate::bench::{Checks, engine};

const TABLE: &str = include_str!("bad_requests.tsv");

/// As much as a path may hold of one name here.
const LONG: usize = 5000;

/// The endpoints that read JSON, and what a wrong body is sent to.
const READERS: [&str; 9] = [
    "/containers/create",
    "/containers/box/update",
    "/containers/up/exec",
    "/exec/nosuch/start",
    "/networks/create",
    "/networks/net1/connect",
    "/networks/net1/disconnect",
    "/volumes/create",
    "/services/create",
];

fn ask(engine: &Engine, method: &str, path: &str, kind: &str, body: &[u8]) -> Response {
    let mut stream = UnixStream::connect(engine.socket()).unwrap();
    stream.set_read_timeout(Some(LIMIT)).unwrap();
    let kind = match kind {
        "-" => None,
        "json" => Some(("Content-Type", "application/json")),
        other => Some(("Content-Type", other)),
    };
    http::exchange(&mut stream, "gorae", method, path, kind.as_slice(), body).unwrap()
}

/// A path as clients write it: what is no part of an address is escaped.
fn escaped(path: &str) -> String {
    let plain = |b: u8| b.is_ascii_alphanumeric() || b"/?=&%-_.,:!@".contains(&b);
    path.bytes()
        .map(|b| {
            if plain(b) {
                char::from(b).to_string()
            } else {
                format!("%{b:02X}")
            }
        })
        .collect()
}

/// Containers `box` and `up`, `net1`, `vol1`, and the beginning of two containers' ids.
fn furnish(engine: &Engine) -> String {
    engine.docker("create --name box busybox").ok();
    engine.docker("run -d --name up busybox sleep 1000").ok();
    engine.docker("network create net1").ok();
    engine.docker("volume create vol1").ok();
    let mut first = Vec::new();
    loop {
        let id = engine.docker("create busybox").ok().to_owned();
        let start = id[..1].to_owned();
        if first.contains(&start) {
            return start;
        }
        first.push(start);
    }
}

#[test]
fn each_wrong_request_gets_its_answer() {
    let engine = engine();
    let ambiguous = furnish(&engine);
    let fill = |text: &str| {
        text.replace("@AMBIGUOUS@", &ambiguous)
            .replace("@LONG@", &"a".repeat(LONG))
    };
    let mut checks = Checks::default();
    let mut slowest = Duration::ZERO;
    for row in TABLE.lines() {
        let cells: Vec<&str> = row.split('\t').collect();
        let [method, path, kind, body, statuses, words] = cells[..] else {
            panic!("{row:?}");
        };
        let path = format!("/v1.51{}", escaped(&fill(path)));
        let answer = ask(&engine, method, &path, kind, fill(body).as_bytes());
        let told = String::from_utf8_lossy(&answer.body).into_owned();
        let told = serde_json::from_str::<serde_json::Value>(&told)
            .ok()
            .and_then(|value| Some(value.get("message")?.as_str()?.to_owned()))
            .unwrap_or(told);
        let status: u16 = statuses.split(',').next().unwrap().parse().unwrap();
        let is_so = answer.status == status && told.contains(&fill(words));
        checks.note(is_so, || {
            let told: String = told.chars().take(300).collect();
            format!("{row:.300}\nfound {} {told}", answer.status)
        });
        slowest = slowest.max(pinged(&engine));
    }
    println!(
        "{} requests, the slowest ping between them {slowest:?}",
        TABLE.lines().count()
    );
    engine.docker("rm -f up").ok();
}

/// How long a ping takes.
fn pinged(engine: &Engine) -> Duration {
    let begun = Instant::now();
    assert_eq!(ask(engine, "GET", "/_ping", "-", b"").status, 200);
    begun.elapsed()
}

#[test]
fn bodies_that_are_none() {
    let engine = engine();
    furnish(&engine);
    let mut checks = Checks::default();
    let deep = "[".repeat(100_000);
    let deep_object = r#"{"Labels":"#.repeat(10_000);
    let bodies: [(&str, &str, u16, &str); 12] = [
        ("json", "{", 400, "invalid JSON: unexpected EOF"),
        ("json", r#"{"Image":"#, 400, "invalid JSON: unexpected EOF"),
        ("json", "[]", 400, "invalid JSON"),
        ("json", "7", 400, "invalid JSON"),
        ("json", "\"text\"", 400, "invalid JSON"),
        ("json", "{}{}", 400, "unexpected content after JSON"),
        ("json", "nonsense", 400, "invalid JSON"),
        ("json", "{\"a\":\"\u{1}\"}", 400, "invalid JSON"),
        ("json", &deep, 400, "invalid JSON"),
        ("json", &deep_object, 400, "invalid JSON"),
        (
            "text/plain",
            "{}",
            400,
            "unsupported Content-Type header (text/plain): must be 'application/json'",
        ),
        (
            "-",
            "{}",
            400,
            "malformed Content-Type header (): mime: no media type",
        ),
    ];
    for path in READERS {
        for (kind, body, status, words) in bodies {
            let answer = ask(
                &engine,
                "POST",
                &format!("/v1.51{path}"),
                kind,
                body.as_bytes(),
            );
            let told = String::from_utf8_lossy(&answer.body).into_owned();
            let is_so = answer.status == status && told.contains(words);
            checks.note(is_so, || {
                let told: String = told.chars().take(300).collect();
                format!("{path} {kind} {body:.60}: {} {told}", answer.status)
            });
        }
    }
    engine.docker("rm -f up").ok();
}

/// A body of 10 MB is no settings of anything: its answer comes before it is read to its end.
#[test]
fn bodies_that_are_too_large() {
    let engine = engine();
    furnish(&engine);
    let labels = format!(
        r#"{{"Name":"x1","Labels":{{"a":"{}"}}}}"#,
        "x".repeat(10_000_000)
    );
    for path in READERS {
        let mut stream = UnixStream::connect(engine.socket()).unwrap();
        stream.set_read_timeout(Some(LIMIT)).unwrap();
        let head = format!(
            "POST /v1.51{path} HTTP/1.1\r\nHost: d\r\nContent-Type: application/json\r\n\
             Connection: close\r\nContent-Length: {}\r\n\r\n",
            labels.len()
        );
        stream.write_all(head.as_bytes()).unwrap();
        // the engine may have closed its side before all is sent
        drop(stream.write_all(labels.as_bytes()));
        let mut text = Vec::new();
        drop(stream.read_to_end(&mut text));
        let text = String::from_utf8_lossy(&text).into_owned();
        assert!(text.starts_with("HTTP/1.1 413 "), "{path}: {text:.300}");
        assert!(
            text.contains("is longer than 8388608 bytes"),
            "{path}: {text:.300}"
        );
    }
    // what is not JSON by its path may be as long as it likes
    pinged(&engine);
    engine.docker("volume ls -q").prints("vol1");
    engine.docker("rm -f up").ok();
}

#[test]
fn requests_that_are_no_http() {
    let engine = engine();
    let long_path = format!("GET /{} HTTP/1.1\r\nHost: d\r\n\r\n", "a".repeat(1 << 20));
    let long_header = format!(
        "GET /_ping HTTP/1.1\r\nHost: d\r\nX: {}\r\n\r\n",
        "a".repeat(1 << 20)
    );
    let many_headers = format!(
        "GET /_ping HTTP/1.1\r\nHost: d\r\n{}\r\n",
        "X: y\r\n".repeat(5000)
    );
    for (request, statuses) in [
        ("\0\0\0\0\r\n\r\n", &["400"][..]),
        ("GET\r\n\r\n", &["400"]),
        ("GET /_ping HTTP/9.9\r\n\r\n", &["400", "505"]),
        ("GET /_ping HTTP/1.1\r\nContent-Length: x\r\n\r\n", &["400"]),
        (
            "GET /_ping HTTP/1.1\r\nContent-Length: -5\r\n\r\n",
            &["400"],
        ),
        (
            "POST /volumes/create HTTP/1.1\r\nHost: d\r\nContent-Type: application/json\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n",
            &["400"],
        ),
        (
            "GET /containers/%zz/json HTTP/1.1\r\nHost: d\r\nConnection: close\r\n\r\n",
            &["400", "404"],
        ),
        (&long_path, &["414", "431", "400"]),
        (&long_header, &["431", "400"]),
        (&many_headers, &["431", "400"]),
    ] {
        let mut stream = UnixStream::connect(engine.socket()).unwrap();
        stream.set_read_timeout(Some(LIMIT)).unwrap();
        drop(stream.write_all(request.as_bytes()));
        drop(stream.shutdown(std::net::Shutdown::Write));
        let mut text = Vec::new();
        drop(stream.read_to_end(&mut text));
        let text = String::from_utf8_lossy(&text).into_owned();
        let status = text.split(' ').nth(1).unwrap_or_default();
        assert!(statuses.contains(&status), "{request:.80}: {text:.300}");
    }
    pinged(&engine);
}

/// Connections that say nothing, or half of something, cost others nothing.
#[test]
fn thousands_of_slow_clients() {
    const CLIENTS: usize = 2000;
    let engine = engine();
    crate::bench::many_files();
    let begun = Instant::now();
    let starts = [
        "",
        "GET /_pi",
        "GET /_ping HTTP/1.1\r\nHost: ",
        "POST /volumes/create HTTP/1.1\r\nHost: d\r\nContent-Type: application/json\r\nContent-Length: 100\r\n\r\n{\"Na",
    ];
    let mut clients = Vec::with_capacity(CLIENTS);
    for number in 0..CLIENTS {
        let Ok(mut stream) = UnixStream::connect(engine.socket()) else {
            break;
        };
        // the engine may have turned it away
        drop(stream.write_all(starts[number % starts.len()].as_bytes()));
        clients.push(stream);
    }
    let mut pings: Vec<Duration> = (0..200)
        .map(|number| {
            let slow = &mut clients[number * 7 % 1000];
            drop(slow.write_all(b"x"));
            pinged(&engine)
        })
        .collect();
    pings.sort_unstable();
    let (median, worst) = (pings[100], pings[199]);
    println!(
        "{} slow clients after {:?}: ping {median:?}, at worst {worst:?}",
        clients.len(),
        begun.elapsed()
    );
    assert!(clients.len() >= 1000, "{}", clients.len());
    // 50 ms are promised to a machine that has nothing else to do; here many tests share the processors
    assert!(median < Duration::from_secs(2), "{median:?}");
    drop(clients);
    engine
        .docker("run --rm busybox echo still here")
        .prints("still here");
    engine.docker("volume ls -q").prints("");
}

/// A client that leaves in the middle of its request leaves nothing behind.
#[test]
fn clients_that_leave() {
    let engine = engine();
    for body in ["", "{\"Na", "{\"Name\":\"one\"}"] {
        for _ in 0..50 {
            let mut stream = UnixStream::connect(engine.socket()).unwrap();
            let head = "POST /v1.51/volumes/create HTTP/1.1\r\nHost: d\r\n\
                        Content-Type: application/json\r\nContent-Length: 100\r\n\r\n";
            drop(stream.write_all(head.as_bytes()));
            drop(stream.write_all(body.as_bytes()));
            drop(stream);
        }
    }
    pinged(&engine);
    engine.docker("volume ls -q").prints("");
}
