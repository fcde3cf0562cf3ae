//! Uploads in pieces, at once, broken off, and over a restart.

use std::io::Write as _;
use std::net::TcpStream;
use std::time::{Duration, Instant};

use crate::client::{Registry, code, text};

fn begin(registry: &Registry, name: &str) -> String {
    let answer = registry.ask("POST", &format!("/v2/{name}/blobs/uploads/"), &[], b"");
    assert_eq!(answer.status, 202, "{}", text(&answer));
    assert!(answer.header("docker-upload-uuid").is_some());
    assert_eq!(answer.header("range"), Some("0-0"));
    answer.header("location").unwrap().to_owned()
}

fn digest(bytes: &[u8]) -> String {
    storage::digest_of(bytes).to_string()
}

#[test]
fn in_one_piece() {
    let registry = Registry::start();
    let place = begin(&registry, "a");
    let put = format!("{place}?digest={}", digest(b"hello"));
    let answer = registry.ask("PUT", &put, &[], b"hello");
    assert_eq!(answer.status, 201, "{}", text(&answer));
    let blob = format!("/v2/a/blobs/{}", digest(b"hello"));
    assert_eq!(answer.header("location"), Some(&*blob));
    assert_eq!(registry.get(&blob).body, b"hello");
    assert_eq!(registry.ask("PUT", &put, &[], b"hello").status, 404, "once");
    let wrong = registry.ask(
        "POST",
        &format!("/v2/a/blobs/uploads/?digest={}", digest(b"x")),
        &[],
        b"y",
    );
    assert_eq!(
        (wrong.status, code(&wrong)),
        (400, "DIGEST_INVALID".to_owned())
    );
    assert_eq!(registry.blob("a", b""), digest(b""), "of nothing");
    assert_eq!(
        registry.get(&format!("/v2/a/blobs/{}", digest(b""))).status,
        200
    );
}

#[test]
fn in_pieces_and_out_of_order() {
    let registry = Registry::start();
    let place = begin(&registry, "a");
    let patch = |range: &str, bytes: &[u8]| {
        registry.ask("PATCH", &place, &[("Content-Range", range)], bytes)
    };
    let answer = patch("0-2", b"abc");
    assert_eq!(answer.status, 202, "{}", text(&answer));
    assert_eq!(answer.header("range"), Some("0-2"));
    let early = patch("5-6", b"fg");
    assert_eq!(
        (early.status, code(&early)),
        (416, "RANGE_INVALID".to_owned())
    );
    assert_eq!(early.header("range"), Some("0-2"));
    assert!(early.header("location").is_some());
    assert_eq!(patch("0-2", b"abc").status, 416, "again");
    let length = patch("3-9", b"d");
    assert_eq!(
        (length.status, code(&length)),
        (400, "SIZE_INVALID".to_owned())
    );
    assert_eq!(patch("x", b"d").status, 400);
    let status = registry.get(&place);
    assert_eq!((status.status, status.header("range")), (204, Some("0-2")));
    assert_eq!(
        registry.ask("PATCH", &place, &[], b"de").status,
        202,
        "as a stream"
    );
    let put = format!("{place}?digest={}", digest(b"abcdefg"));
    let last = registry.ask("PUT", &put, &[("Content-Range", "5-6")], b"fg");
    assert_eq!(last.status, 201, "{}", text(&last));
    assert_eq!(registry.get(&place).status, 404);
}

#[test]
fn cancelled_and_anothers() {
    let registry = Registry::start();
    let place = begin(&registry, "a");
    let foreign = place.replace("/v2/a/", "/v2/b/");
    assert_eq!(registry.get(&foreign).status, 404);
    assert_eq!(registry.ask("DELETE", &place, &[], b"").status, 204);
    let gone = registry.get(&place);
    assert_eq!(
        (gone.status, code(&gone)),
        (404, "BLOB_UPLOAD_UNKNOWN".to_owned())
    );
    let uploads = registry.config.root.join("uploads");
    assert_eq!(std::fs::read_dir(uploads).unwrap().count(), 0);
}

/// What came before a connection broke is kept, also over a restart of the registry.
#[test]
fn broken_off_and_resumed() {
    let mut registry = Registry::start();
    let place = begin(&registry, "a");
    let bytes: Vec<u8> = (0..=250).cycle().take(3 << 20).collect();
    let mut stream = TcpStream::connect(registry.address).unwrap();
    let head = format!(
        "PATCH {place} HTTP/1.1\r\nHost: x\r\nContent-Length: {}\r\n\r\n",
        bytes.len()
    );
    stream.write_all(head.as_bytes()).unwrap();
    stream.write_all(&bytes[..1 << 20]).unwrap();
    drop(stream);
    let started = Instant::now();
    let has = |registry: &Registry| {
        let range = registry.get(&place).header("range").unwrap().to_owned();
        range.strip_prefix("0-").unwrap().parse::<usize>().unwrap()
    };
    while has(&registry) < (1 << 20) - 1 {
        assert!(
            started.elapsed() < Duration::from_secs(60),
            "{}",
            has(&registry)
        );
        std::thread::sleep(Duration::from_millis(10));
    }
    registry.restart();
    let from = has(&registry) + 1;
    assert_eq!(from, 1 << 20);
    let range = format!("{from}-{}", bytes.len() - 1);
    let rest = registry.ask(
        "PATCH",
        &place,
        &[("Content-Range", &range)],
        &bytes[from..],
    );
    assert_eq!(rest.status, 202, "{}", text(&rest));
    let put = format!("{place}?digest={}", digest(&bytes));
    let done = registry.ask("PUT", &put, &[], b"");
    assert_eq!(done.status, 201, "{}", text(&done));
    let blob = registry.get(&format!("/v2/a/blobs/{}", digest(&bytes)));
    assert!(blob.body == bytes);
}

/// 64 clients push images that share a layer, and pull each other's.
#[test]
fn many_at_once() {
    let registry = Registry::start();
    std::thread::scope(|scope| {
        for number in 0..64_u8 {
            let registry = &registry;
            scope.spawn(move || {
                let name = format!("r{}", number % 8);
                registry.blob(&name, &[7; 100_000]);
                let own = [number; 50_000];
                let image = registry.image(&name, &format!("t{number}"), &own);
                let got = registry.get(&format!("/v2/{name}/blobs/{}", image.layer));
                assert!(got.body == own);
                let got = registry.get(&format!("/v2/{name}/manifests/t{number}"));
                assert_eq!(got.body, image.manifest.as_bytes());
            });
        }
    });
    // the shared blob, the configuration, and a layer and a manifest each
    assert_eq!(registry.files(), 2 + 64 * 2);
}
