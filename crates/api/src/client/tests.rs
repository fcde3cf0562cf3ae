use super::*;
use std::path::Path;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{UnixListener, UnixStream};

fn runtime() -> tokio::runtime::Runtime {
    tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .unwrap()
}

struct Socket(std::path::PathBuf);

impl Socket {
    fn new(name: &str) -> Self {
        let path =
            std::env::temp_dir().join(format!("gorae-api-{}-{name}.sock", std::process::id()));
        drop(std::fs::remove_file(&path));
        Self(path)
    }

    fn client(&self) -> Client {
        Client::new(Endpoint::Unix(self.0.clone()))
    }

    fn listen(&self) -> UnixListener {
        UnixListener::bind::<&Path>(&self.0).unwrap()
    }
}

impl Drop for Socket {
    fn drop(&mut self) {
        drop(std::fs::remove_file(&self.0));
    }
}

async fn read_head(stream: &mut UnixStream) -> String {
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        head.push(stream.read_u8().await.unwrap());
    }
    String::from_utf8(head).unwrap()
}

#[test]
fn endpoints() {
    let check = |text: &str, expect: Result<&str, &str>| {
        let got = text.parse::<Endpoint>();
        match expect {
            Ok(shown) => assert_eq!(got.unwrap().to_string(), shown, "{text}"),
            Err(part) => assert!(got.unwrap_err().to_string().contains(part), "{text}"),
        }
    };
    check("unix:///run/x.sock", Ok("unix:///run/x.sock"));
    check("tcp://127.0.0.1:80", Ok("tcp://127.0.0.1:80"));
    check("tcp://127.0.0.1", Ok("tcp://127.0.0.1:2375"));
    check("tcp://localhost:99/", Ok("tcp://127.0.0.1:99"));
    check("tcp://[::1]", Ok("tcp://[::1]:2375"));
    check("tcp://example.org:1", Err("IP address"));
    check("ssh://me@host:22/x.sock", Ok("ssh://me@host:22/x.sock"));
    check("ssh://-oProxyCommand=x", Err("ssh://[user@]host"));
    check("npipe://x", Err("unix://, tcp:// or ssh://"));
    check("/run/x.sock", Err("unable to parse docker host"));
}

#[test]
fn one_connection_serves_request_after_request() {
    runtime().block_on(async {
        let socket = Socket::new("reuse");
        let listener = socket.listen();
        let server = tokio::spawn(async move {
            let (mut stream, _peer) = listener.accept().await.unwrap();
            let mut heads = Vec::new();
            for body in [r#"{"a":1}"#, r#"{"message":"no such thing"}"#] {
                heads.push(read_head(&mut stream).await);
                let status = if heads.len() == 1 {
                    "200 OK"
                } else {
                    "404 Not Found"
                };
                let answer = format!(
                    "HTTP/1.1 {status}\r\nContent-Length: {}\r\n\r\n{body}",
                    body.len()
                );
                stream.write_all(answer.as_bytes()).await.unwrap();
            }
            heads
        });
        let client = socket.client();
        let value: serde_json::Value = client
            .get("/x")
            .query("f", "a b&c")
            .query_flag("all", true)
            .fetch()
            .await
            .unwrap();
        assert_eq!(value["a"], 1);
        let error = client.delete("/y").run().await.unwrap_err();
        assert_eq!(error.status(), Some(404));
        assert_eq!(
            error.to_string(),
            "Error response from daemon: no such thing"
        );
        let heads = server.await.unwrap();
        assert!(
            heads[0].starts_with("GET /v1.51/x?f=a%20b%26c&all=1 HTTP/1.1\r\n"),
            "{}",
            heads[0]
        );
        assert!(heads[1].starts_with("DELETE /v1.51/y HTTP/1.1\r\n"));
    });
}

#[test]
fn a_closed_idle_connection_is_replaced() {
    runtime().block_on(async {
        let socket = Socket::new("closed");
        let listener = socket.listen();
        let server = tokio::spawn(async move {
            for _ in 0..2 {
                let (mut stream, _peer) = listener.accept().await.unwrap();
                read_head(&mut stream).await;
                stream
                    .write_all(b"HTTP/1.1 204 No Content\r\n\r\n")
                    .await
                    .unwrap();
            }
        });
        let client = socket.client();
        client.get("/a").run().await.unwrap();
        tokio::task::yield_now().await;
        client.get("/b").run().await.unwrap();
        server.await.unwrap();
    });
}

#[test]
fn a_hijacked_connection_half_closes() {
    runtime().block_on(async {
        let socket = Socket::new("hijack");
        let listener = socket.listen();
        let server = tokio::spawn(async move {
            let (mut stream, _peer) = listener.accept().await.unwrap();
            let head = read_head(&mut stream).await.to_ascii_lowercase();
            assert!(head.contains("upgrade: tcp") && head.contains("connection: upgrade"));
            // early bytes in the same segment as the head
            stream
                .write_all(b"HTTP/1.1 101 UPGRADED\r\nConnection: Upgrade\r\nUpgrade: tcp\r\nContent-Type: application/vnd.docker.multiplexed-stream\r\n\r\n\x01\0\0\0\0\0\0\x02hi")
                .await
                .unwrap();
            let mut input = String::new();
            stream.read_to_string(&mut input).await.unwrap();
            stream.write_all(b"\x04\0\0\0\0\0\0\x02{}").await.unwrap();
            input
        });
        let hijacked = socket.client().post("/attach").hijack().await.unwrap();
        assert_eq!(hijacked.is_multiplexed(), Some(true));
        let (reader, mut writer) = hijacked.split();
        let mut frames = Frames::new(reader);
        let frame = frames.next().await.unwrap().unwrap();
        assert_eq!((frame.kind, &frame.data[..]), (StreamKind::Stdout, &b"hi"[..]));
        writer.write_all(b"input").await.unwrap();
        writer.close().await.unwrap();
        let frame = frames.next().await.unwrap().unwrap();
        assert_eq!((frame.kind, &frame.data[..]), (StreamKind::Control, &b"{}"[..]));
        assert_eq!(frames.next().await.unwrap(), None);
        assert_eq!(server.await.unwrap(), "input");
    });
}

#[test]
fn lines_come_as_they_are_written() {
    runtime().block_on(async {
        let socket = Socket::new("lines");
        let listener = socket.listen();
        let server = tokio::spawn(async move {
            let (mut stream, _peer) = listener.accept().await.unwrap();
            read_head(&mut stream).await;
            stream
                .write_all(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\n{\"a\":\r\n4\r\n1}\r\n\r\n7\r\n{\"a\":2}\r\n0\r\n\r\n")
                .await
                .unwrap();
        });
        let mut lines = socket.client().get("/l").send().await.unwrap().lines();
        for expect in [1, 2] {
            let value: serde_json::Value = lines.next().await.unwrap().unwrap();
            assert_eq!(value["a"], expect);
        }
        assert!(lines.next::<serde_json::Value>().await.unwrap().is_none());
        server.await.unwrap();
    });
}

#[test]
fn no_engine_is_told_apart() {
    runtime().block_on(async {
        let socket = Socket::new("absent");
        let error = socket.client().get("/x").run().await.unwrap_err();
        assert!(error.is_connect());
    });
}

#[test]
fn bad_frames_are_refused() {
    runtime().block_on(async {
        for (bytes, expect) in [
            (&b"\x09\0\0\0\0\0\0\x01x"[..], "unrecognized stream: 9"),
            (
                b"\x04\0\0\0\xff\xff\xff\xff",
                "a control frame of 4294967295 bytes",
            ),
            (b"\x01\0\0\0\0\0\0\x05ab", ""),
        ] {
            let mut frames = Frames::new(bytes);
            let error = loop {
                match frames.next().await {
                    Ok(Some(_frame)) => {}
                    Ok(None) => panic!("no error for {bytes:?}"),
                    Err(error) => break error,
                }
            };
            assert!(error.to_string().contains(expect), "{error}");
        }
    });
}
