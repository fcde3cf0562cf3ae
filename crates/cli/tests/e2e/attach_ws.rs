//! `attach` over WebSocket and over a plain connection: frames, logs, detach keys, origins.

use std::io::{Read, Write};
use std::os::unix::net::UnixStream;
use std::time::Duration;

use testkit::engine::Engine;

use crate::bench::{engine, eventually, read_head};

/// A client's end of a WebSocket.
struct Socket(UnixStream);

/// Asks for a WebSocket with the RFC's own key; gives the head of the answer, too.
fn connect(engine: &Engine, target: &str, headers: &str) -> (Socket, String) {
    let mut stream = UnixStream::connect(engine.socket()).unwrap();
    stream
        .set_read_timeout(Some(Duration::from_secs(60)))
        .unwrap();
    let head = format!(
        "GET {target} HTTP/1.1\r\nHost: engine\r\nUpgrade: websocket\r\nConnection: keep-alive, Upgrade\r\nSec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n{headers}\r\n"
    );
    stream.write_all(head.as_bytes()).unwrap();
    let answer = read_head(&mut stream);
    (Socket(stream), answer.to_ascii_lowercase())
}

fn open(engine: &Engine, name: &str, query: &str) -> Socket {
    let target = format!("/v1.51/containers/{name}/attach/ws?{query}");
    let (socket, head) = connect(engine, &target, "");
    assert!(head.starts_with("http/1.1 101 "), "{head}");
    assert!(
        head.contains("sec-websocket-accept: s3pplmbitxaq9kygzzhzrbk+xoo="),
        "{head}"
    );
    socket
}

impl Socket {
    fn send(&mut self, opcode: u8, payload: &[u8]) {
        const MASK: [u8; 4] = [7, 11, 13, 17];
        let mut frame = vec![0x80 | opcode, 0x80 | u8::try_from(payload.len()).unwrap()];
        frame.extend(MASK);
        frame.extend(
            payload
                .iter()
                .enumerate()
                .map(|(n, byte)| byte ^ MASK[n % 4]),
        );
        self.0.write_all(&frame).unwrap();
    }

    /// The next frame: its first byte and its payload.
    fn next(&mut self) -> (u8, Vec<u8>) {
        let mut head = [0; 2];
        self.0.read_exact(&mut head).unwrap();
        let mut length = usize::from(head[1]);
        if length == 126 {
            let mut more = [0; 2];
            self.0.read_exact(&mut more).unwrap();
            length = usize::from(u16::from_be_bytes(more));
        }
        let mut payload = vec![0; length];
        self.0.read_exact(&mut payload).unwrap();
        (head[0], payload)
    }

    /// Data until it holds some text.
    fn until(&mut self, text: &str) {
        let mut told = String::new();
        while !told.contains(text) {
            let (first, payload) = self.next();
            assert_eq!(first, 0x82, "{told:?}");
            told.push_str(&String::from_utf8_lossy(&payload));
        }
    }
}

#[test]
fn frames_both_ways() {
    let engine = engine();
    engine
        .docker("run -d -i --name box busybox sh -c 'echo hello; echo oops >&2; cat; echo bye'")
        .ok();
    eventually("it has said something", || {
        engine.docker("logs box").stdout.contains("hello")
    });
    let mut socket = open(&engine, "box", "stream=1&stdin=1&stdout=1&stderr=1&logs=1");
    let mut past = String::new();
    while !(past.contains("hello\n") && past.contains("oops\n")) {
        past.push_str(&String::from_utf8(socket.next().1).unwrap());
    }
    assert_eq!(past.len(), "hello\noops\n".len(), "no headers: {past:?}");
    socket.send(2, b"one\n");
    socket.until("one\n");
    socket.send(1, b"two\n");
    socket.until("two\n");
    socket.send(9, b"still there?");
    assert_eq!(socket.next(), (0x8a, b"still there?".to_vec()));
    // standard input stays open for others
    socket.send(8, &1000_u16.to_be_bytes());
    assert_eq!(socket.next(), (0x88, 1000_u16.to_be_bytes().to_vec()));
    assert_eq!(socket.0.read(&mut [0]).unwrap(), 0);
    let mut socket = open(&engine, "box", "stream=1&stdout=1");
    engine.docker("kill box").ok();
    assert_eq!(socket.next().0, 0x88, "the container's end is a close");
}

#[test]
fn a_terminals_detach_keys() {
    let engine = engine();
    engine.docker("run -dit --name box busybox cat").ok();
    let mut socket = open(
        &engine,
        "box",
        "stream=1&stdin=1&stdout=1&detachKeys=ctrl-x,y",
    );
    socket.send(2, b"typed\n");
    socket.until("typed");
    socket.send(2, b"\x18");
    socket.send(2, b"y");
    while socket.next().0 != 0x88 {}
    assert_eq!(engine.inspect("box", "{{.State.Status}}"), "running");
    let now = std::time::SystemTime::now();
    let now = now.duration_since(std::time::UNIX_EPOCH).unwrap().as_secs();
    let answer = engine
        .api(
            "GET",
            &format!("/v1.51/events?since=1&until={}", now + 1),
            "",
        )
        .unwrap();
    let events = String::from_utf8(answer.body).unwrap();
    assert!(
        events.contains(r#""Action":"attach""#) && events.contains(r#""Action":"detach""#),
        "{events}"
    );
}

#[test]
fn handshakes_that_are_refused() {
    let engine = engine();
    engine.docker("run -d --name box busybox sleep 1000").ok();
    let target = "/v1.51/containers/box/attach/ws?stream=1";
    for (headers, status) in [
        ("Origin: https://evil.example\r\n", 403),
        ("Origin: null\r\n", 403),
        ("Origin: http://engine\r\n", 101),
        ("Origin: http://localhost:8080\r\n", 101),
    ] {
        let (_, head) = connect(&engine, target, headers);
        assert!(
            head.starts_with(&format!("http/1.1 {status} ")),
            "{headers}: {head}"
        );
    }
    let (_, head) = connect(&engine, "/v1.51/containers/nosuch/attach/ws", "");
    assert!(head.starts_with("http/1.1 404 "), "{head}");
    engine.docker("pause box").ok();
    let (_, head) = connect(&engine, target, "");
    assert!(head.starts_with("http/1.1 409 "), "{head}");
    engine.docker("unpause box").ok();
    // a frame that breaks the protocol ends the connection, not the container
    let mut socket = open(&engine, "box", "stream=1&stdin=1&stdout=1");
    socket.0.write_all(&[0x82, 0x01, b'x']).unwrap();
    assert_eq!(socket.next(), (0x88, 1002_u16.to_be_bytes().to_vec()));
    assert_eq!(engine.inspect("box", "{{.State.Status}}"), "running");
    // old clients get text, and all streams
    engine.docker("run -d -i --name old busybox cat").ok();
    let (mut socket, head) = connect(&engine, "/v1.27/containers/old/attach/ws?stream=1", "");
    assert!(head.starts_with("http/1.1 101 "), "{head}");
    socket.send(1, b"text\n");
    assert_eq!(socket.next(), (0x81, b"text\n".to_vec()));
}

#[test]
fn logs_without_a_stream() {
    let engine = engine();
    engine
        .docker("run --name box busybox sh -c 'echo out; echo err >&2'")
        .ok();
    let ask = |query: &str| {
        let path = format!("/v1.51/containers/box/attach?{query}");
        let answer = engine.api("POST", &path, "").unwrap();
        assert_eq!(answer.status, 200);
        String::from_utf8(answer.body).unwrap()
    };
    assert_eq!(ask("logs=1&stdout=1"), "\u{1}\0\0\0\0\0\0\u{4}out\n");
    assert_eq!(ask("logs=1&stderr=1"), "\u{2}\0\0\0\0\0\0\u{4}err\n");
    assert_eq!(ask("stdout=1"), "");
    let mut socket = open(&engine, "box", "logs=1&stdout=1");
    assert_eq!(socket.next(), (0x82, b"out\n".to_vec()));
    assert_eq!(socket.next().0, 0x88);
}
