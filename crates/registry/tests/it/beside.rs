//! What stands beside the specification: figures, the log, the page, webhooks, limits.

use std::io::{Read as _, Write as _};
use std::net::{TcpListener, TcpStream};
use std::time::{Duration, Instant};

use crate::client::{Registry, code, text};

const LIMIT: Duration = Duration::from_secs(60);

#[test]
fn figures_and_the_log() {
    let registry = Registry::start_with(|config, folder| {
        config.metrics_address = Some(([127, 0, 0, 1], 0).into());
        config.access_log = Some(folder.join("log"));
    });
    registry.image("a", "one", b"layer");
    let page = testkit::http::request(registry.metrics(), "GET", "/metrics", &[], b"").unwrap();
    let page = String::from_utf8(page.body).unwrap();
    for expect in [
        "gorae_registry_repositories 1",
        "gorae_registry_blobs 3",
        r#"gorae_registry_requests_total{code="201",method="PUT",route="manifest"} 1"#,
    ] {
        assert!(page.lines().any(|line| line == expect), "{expect}\n{page}");
    }
    assert_eq!(registry.get("/metrics").status, 404, "not for clients");
    let path = registry.config.access_log.clone().unwrap();
    let log = std::fs::read_to_string(path).unwrap();
    let lines: Vec<serde_json::Value> = log
        .lines()
        .map(|line| serde_json::from_str(line).unwrap())
        .collect();
    let put = lines.iter().find(|line| line["method"] == "PUT").unwrap();
    assert_eq!(put["status"], 201);
    assert_eq!(put["path"], "/v2/a/manifests/one");
    assert_eq!(put["complete"], true);
}

#[test]
fn the_page() {
    let registry = Registry::start();
    let image = registry.image("team/app", "one", b"layer");
    let get = |path: &str| {
        let answer = registry.get(path);
        assert_eq!(answer.status, 200, "{path}: {}", text(&answer));
        let policy = answer.header("content-security-policy").unwrap();
        assert!(policy.starts_with("default-src 'none'"), "{policy}");
        String::from_utf8(answer.body).unwrap()
    };
    assert!(get("/").contains("<a href=\"/r/team/app\">team/app</a>"));
    let repository = get("/r/team/app");
    assert!(repository.contains(&format!("digest={}", image.digest)));
    let one = get(&format!("/r/team/app?digest={}", image.digest));
    assert!(one.contains(&image.layer) && one.contains("5 B"), "{one}");
    assert_eq!(registry.get("/r/none").status, 404);
    assert_eq!(registry.get("/r/team/app?digest=x").status, 400);
}

/// Events arrive in the common envelope, also after a receiver that failed first.
#[test]
fn webhooks() {
    let receiver = TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("http://{}/hook", receiver.local_addr().unwrap());
    let registry = Registry::start_with(|config, _| {
        let hook =
            serde_json::json!({"url": url, "headers": {"X-Secret": "s"}, "repositories": ["a"]});
        config.webhook = vec![serde_json::from_value(hook).unwrap()];
    });
    let image = registry.image("b", "two", b"layer");
    registry.image("a", "one", b"layer");
    let mut seen = Vec::new();
    let mut refused = false;
    while seen.len() < 3 {
        let (mut stream, _) = receiver.accept().unwrap();
        let (head, body) = read_request(&mut stream);
        assert!(head.to_ascii_lowercase().contains("x-secret: s"), "{head}");
        let status = match refused {
            false => "500 no",
            true => "200 ok",
        };
        let answer = format!("HTTP/1.1 {status}\r\nContent-Length: 0\r\nConnection: close\r\n\r\n");
        stream.write_all(answer.as_bytes()).unwrap();
        if refused {
            let body: serde_json::Value = serde_json::from_slice(&body).unwrap();
            seen.push(body["events"][0].clone());
        }
        refused = true;
    }
    let last = &seen[2];
    assert_eq!(last["action"], "push");
    assert_eq!(last["target"]["repository"], "a");
    assert_eq!(last["target"]["tag"], "one");
    assert_eq!(last["target"]["digest"], image.digest);
    assert_eq!(last["request"]["method"], "PUT");
}

/// What a receiver did not take before the registry ended, it gets after the next start.
#[test]
fn webhooks_outlive_the_registry() {
    let receiver = TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("http://{}/hook", receiver.local_addr().unwrap());
    let mut registry = Registry::start_with(|config, _| {
        let hook = serde_json::json!({"url": url, "timeout": "10m"});
        config.webhook = vec![serde_json::from_value(hook).unwrap()];
    });
    registry.image("a", "one", b"layer");
    // the first event arrives, and is answered by nobody
    let (mut unanswered, _) = receiver.accept().unwrap();
    let (_, body) = read_request(&mut unanswered);
    registry.restart();
    drop(unanswered);
    let mut seen: Vec<serde_json::Value> = Vec::new();
    while seen.len() < 3 {
        seen.push(take_event(&receiver));
    }
    let first: serde_json::Value = serde_json::from_slice(&body).unwrap();
    assert_eq!(seen[0]["id"], first["events"][0]["id"]);
    assert_eq!(seen[2]["target"]["tag"], "one");
    // what was taken does not come again, but for the one whose answer the registry may not have read
    registry.restart();
    let manifest = String::from_utf8(registry.get("/v2/a/manifests/one").body).unwrap();
    registry.manifest("a", "two", &manifest);
    let mut next = take_event(&receiver);
    if next["id"] == seen[2]["id"] {
        next = take_event(&receiver);
    }
    assert_eq!(next["target"]["tag"], "two");
}

/// Accepts one event and answers that all is well.
fn take_event(receiver: &TcpListener) -> serde_json::Value {
    let (mut stream, _) = receiver.accept().unwrap();
    let (_, body) = read_request(&mut stream);
    let answer = b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\nConnection: close\r\n\r\n";
    stream.write_all(answer).unwrap();
    let body: serde_json::Value = serde_json::from_slice(&body).unwrap();
    body["events"][0].clone()
}

fn read_request(stream: &mut TcpStream) -> (String, Vec<u8>) {
    stream.set_read_timeout(Some(LIMIT)).unwrap();
    let mut all = Vec::new();
    let mut buffer = [0; 4096];
    loop {
        let count = stream.read(&mut buffer).unwrap();
        all.extend_from_slice(&buffer[..count]);
        let Some(end) = all.windows(4).position(|four| four == b"\r\n\r\n") else {
            continue;
        };
        let head = String::from_utf8_lossy(&all[..end]).into_owned();
        let lower = head.to_ascii_lowercase();
        let length = lower
            .lines()
            .find_map(|line| line.strip_prefix("content-length: "));
        let length: usize = length.unwrap().parse().unwrap();
        if all.len() >= end + 4 + length {
            return (head, all.split_off(end + 4));
        }
    }
}

#[test]
fn limits() {
    let registry = Registry::start_with(|config, _| {
        config.limits.connections_per_client = 2;
        config.limits.uploads = 1;
        config.blob_max_size = Some(registry::config::Size(1000));
    });
    let held: Vec<TcpStream> = (0..2)
        .map(|_| TcpStream::connect(registry.address).unwrap())
        .collect();
    // both places are taken: a third connection is closed without a word
    let started = Instant::now();
    loop {
        let mut third = TcpStream::connect(registry.address).unwrap();
        let _closed = third.write_all(b"GET /v2/ HTTP/1.0\r\n\r\n");
        let mut answer = Vec::new();
        let read = third.read_to_end(&mut answer);
        if read.is_err() || answer.is_empty() {
            break;
        }
        assert!(started.elapsed() < LIMIT, "never refused");
    }
    drop(held);
    while testkit::http::request(registry.address, "GET", "/v2/", &[], b"").is_err() {
        assert!(started.elapsed() < LIMIT, "never let in again");
        std::thread::sleep(Duration::from_millis(10));
    }
    let ask = |path: &str, body: &[u8]| {
        loop {
            // the connection before may still be counted
            if let Ok(answer) = testkit::http::request(registry.address, "POST", path, &[], body) {
                return answer;
            }
            assert!(started.elapsed() < LIMIT, "never let in again");
            std::thread::sleep(Duration::from_millis(10));
        }
    };
    let digest = storage::digest_of(&[0; 1001]);
    let long = ask(&format!("/v2/a/blobs/uploads/?digest={digest}"), &[0; 1001]);
    assert_eq!((long.status, code(&long)), (413, "SIZE_INVALID".to_owned()));
    assert_eq!(ask("/v2/a/blobs/uploads/", b"").status, 202);
    let many = ask("/v2/a/blobs/uploads/", b"");
    assert_eq!(
        (many.status, code(&many)),
        (429, "TOOMANYREQUESTS".to_owned())
    );
    assert!(many.header("retry-after").is_some());
}

#[test]
fn a_pace_for_requests() {
    let registry = Registry::start_with(|config, _| config.limits.requests_per_second = 3);
    let started = Instant::now();
    loop {
        let answer = registry.get("/v2/");
        if answer.status == 429 {
            assert_eq!(code(&answer), "TOOMANYREQUESTS");
            assert_eq!(answer.header("retry-after"), Some("1"));
            break;
        }
        assert!(started.elapsed() < LIMIT, "never too fast");
    }
}
