//! Wrong requests about images, and what they are told: the words that dockerd 28.5 was seen to use.
//! Where it answers 500 to what is the client's fault, Gorae answers 400.

use serde_json::Value;

use crate::bench::engine;

/// Method, path, status, and how the message begins.
const REFUSED: &[(&str, &str, u16, &str)] = &[
    ("GET", "/images/none/get", 404, "No such image: none"),
    ("GET", "/images/get?names=none", 404, "No such image: none"),
    ("GET", "/images/get?names=", 400, "invalid reference format"),
    (
        "GET",
        "/images/NONE/get",
        400,
        "invalid reference format: repository name (library/NONE) must be lowercase",
    ),
    (
        "GET",
        "/images/busybox/get?platform=x",
        400,
        "failed to parse platform: ",
    ),
    (
        "POST",
        "/images/load?platform=x",
        400,
        "failed to parse platform: ",
    ),
    (
        "GET",
        "/images/none/json",
        404,
        "No such image: none:latest",
    ),
    (
        "GET",
        "/images/busybox/json?platform=linux/amd64",
        400,
        "failed to parse platform: ",
    ),
    (
        "GET",
        "/images/busybox/json?manifests=1&platform=%7B%22os%22%3A%22linux%22%2C%22architecture%22%3A%22s390x%22%7D",
        400,
        "conflicting options: manifests and platform options cannot both be set",
    ),
    (
        "GET",
        "/images/busybox/history?platform=%7B%22os%22%3A%22linux%22%2C%22architecture%22%3A%22s390x%22%7D",
        404,
        "image with reference busybox was found but its platform (linux/",
    ),
    (
        "DELETE",
        "/images/busybox?platforms=%7B%22os%22%3A%22linux%22%2C%22architecture%22%3A%22s390x%22%7D",
        404,
        "image with reference busybox was found but its platform (linux/",
    ),
    (
        "DELETE",
        "/images/busybox?platforms=x",
        400,
        "failed to parse platform: ",
    ),
    (
        "POST",
        "/images/busybox/tag?repo=sha256",
        400,
        "refusing to create an ambiguous tag using digest algorithm as name",
    ),
    (
        "POST",
        "/images/busybox/tag?repo=x&tag=a:b",
        400,
        "invalid tag format",
    ),
    (
        "GET",
        "/images/search?term=a&limit=101",
        400,
        "limit 101 is outside the range of [1, 100]",
    ),
    (
        "GET",
        "/images/search?term=a&limit=x",
        400,
        "invalid limit specified: ",
    ),
    (
        "GET",
        "/images/search?term=127.0.0.1:1/a",
        500,
        "Get \"http://127.0.0.1:1/v1/search\": dial tcp 127.0.0.1:1: connect: connection refused",
    ),
    (
        "GET",
        "/distribution/127.0.0.1:1/a:1/json",
        500,
        "Get \"http://127.0.0.1:1/v2/\": dial tcp 127.0.0.1:1: connect: connection refused",
    ),
    (
        "GET",
        "/distribution/NONE/json",
        400,
        "invalid reference format: repository name (library/NONE) must be lowercase",
    ),
    ("GET", "/distribution/none", 404, "page not found"),
    (
        "GET",
        "/images/none/attestations",
        404,
        "No such image: none:latest",
    ),
    (
        "GET",
        "/images/json?filters=%7B%22x%22%3A%5B%221%22%5D%7D",
        400,
        "invalid filter 'x'",
    ),
    (
        "GET",
        "/images/json?filters=%7B%22label%21%22%3A%5B%221%22%5D%7D",
        400,
        "invalid filter 'label!'",
    ),
    (
        "GET",
        "/images/json?filters=%7B%22dangling%22%3A%5B%22true%22%2C%22false%22%5D%7D",
        400,
        "invalid filter 'dangling=[",
    ),
    (
        "GET",
        "/images/json?filters=%7B%22until%22%3A%5B%22x%22%5D%7D",
        400,
        "failed to parse value as time or duration: \"x\"",
    ),
    (
        "GET",
        "/images/json?filters=%7B%22reference%22%3A%5B%22tr/%5Ba%22%5D%7D",
        400,
        "syntax error in pattern",
    ),
    (
        "GET",
        "/images/json?filters=%7B%22before%22%3A%5B%22none%22%5D%7D",
        404,
        "No such image: none:latest",
    ),
    (
        "POST",
        "/images/create?fromSrc=http://127.0.0.1:1/x.tar",
        500,
        "Get \"http://127.0.0.1:1/x.tar\": dial tcp 127.0.0.1:1: connect: connection refused",
    ),
    (
        "POST",
        "/images/create?fromSrc=ftp://127.0.0.1:1/x.tar",
        500,
        "Get \"ftp://127.0.0.1:1/x.tar\": unsupported protocol scheme \"ftp\"",
    ),
    (
        "POST",
        "/images/create?fromSrc=-&repo=x&changes=RUN+x",
        400,
        "RUN is not a valid change command",
    ),
    (
        "POST",
        "/images/create?fromSrc=-&platform=windows/amd64",
        400,
        "operating system is not supported",
    ),
    (
        "POST",
        "/images/create?fromSrc=-&repo=x&tag=a:b",
        400,
        "invalid tag format",
    ),
    (
        "POST",
        "/images/prune?filters=%7B%22until%22%3A%5B%22x%22%5D%7D",
        400,
        "failed to parse value as time or duration: \"x\"",
    ),
];

#[test]
fn wrong_requests_are_refused_as_by_docker() {
    let engine = engine();
    for &(method, path, status, expect) in REFUSED {
        let answer = engine.api(method, path, "").unwrap();
        let text = String::from_utf8_lossy(&answer.body).into_owned();
        assert_eq!(answer.status, status, "{method} {path}: {text}");
        let told: Value = serde_json::from_str(&text).unwrap();
        let told = told["message"].as_str().unwrap();
        assert!(told.starts_with(expect), "{path}: {told}");
    }
    engine
        .gorae("save busybox -o /nosuch/x")
        .complains(1, "/nosuch/x");
    engine.gorae("load -i /nosuch").complains(1, "/nosuch");
}
