//! Execs over the raw API: their answers, their fields, their terminals, and how long they are known.

use std::io::{Read, Write};
use std::os::unix::net::UnixStream;
use std::time::Duration;

use testkit::engine::Engine;

use crate::bench::{engine, eventually, read_head};

/// What a request answers: its status and body.
fn ask(engine: &Engine, method: &str, path: &str, body: &str) -> (u16, String) {
    let answer = engine.api(method, &format!("/v1.51{path}"), body).unwrap();
    let text = String::from_utf8_lossy(&answer.body).trim().to_owned();
    (answer.status, text)
}

/// Creates an exec; gives its id.
fn create(engine: &Engine, body: &str) -> String {
    let (status, text) = ask(engine, "POST", "/containers/box/exec", body);
    assert_eq!(status, 201, "{text}");
    text.split('"').nth(3).unwrap().to_owned()
}

fn inspect(engine: &Engine, id: &str) -> String {
    let (status, text) = ask(engine, "GET", &format!("/exec/{id}/json"), "");
    assert_eq!(status, 200, "{text}");
    text
}

/// Starts an exec over a connection of its own, past the answer's head.
fn hijack(engine: &Engine, id: &str, body: &str) -> UnixStream {
    let mut stream = UnixStream::connect(engine.socket()).unwrap();
    stream
        .set_read_timeout(Some(Duration::from_secs(60)))
        .unwrap();
    let head = format!(
        "POST /v1.51/exec/{id}/start HTTP/1.1\r\nHost: x\r\nConnection: Upgrade\r\nUpgrade: tcp\r\nContent-Type: application/json\r\nContent-Length: {}\r\n\r\n{body}",
        body.len()
    );
    stream.write_all(head.as_bytes()).unwrap();
    let answer = read_head(&mut stream);
    assert!(answer.starts_with("HTTP/1.1 101 UPGRADED"), "{answer}");
    stream
}

#[test]
fn fields_before_during_and_after() {
    let engine = engine();
    engine.docker("run -d --name box busybox sleep 1000").ok();
    let id = create(
        &engine,
        r#"{"Cmd":["sh","-c","until test -e /go; do sleep 0.05; done; exit 3"],"AttachStdout":true,"DetachKeys":"ctrl-a,b","User":"nobody","Privileged":true,"Env":["A=b"],"WorkingDir":"/tmp"}"#,
    );
    let box_id = engine.inspect("box", "{{.Id}}");
    let is_so = |running: bool, code: &str, pid: &str| {
        format!(
            r#"{{"ID":"{id}","Running":{running},"ExitCode":{code},"ProcessConfig":{{"tty":false,"entrypoint":"sh","arguments":["-c","until test -e /go; do sleep 0.05; done; exit 3"],"privileged":true,"user":"nobody"}},"OpenStdin":false,"OpenStderr":false,"OpenStdout":true,"CanRemove":false,"ContainerID":"{box_id}","DetachKeys":"AWI=","Pid":{pid}}}"#
        )
    };
    assert_eq!(inspect(&engine, &id), is_so(false, "null", "0"));
    assert!(engine.inspect("box", "{{.ExecIDs}}").contains(&id));
    let start = format!("/exec/{id}/start");
    assert_eq!(
        ask(&engine, "POST", &start, r#"{"Detach":true}"#),
        (200, String::new())
    );
    let during = inspect(&engine, &id);
    let pid = during
        .rsplit(':')
        .next()
        .unwrap()
        .trim_end_matches('}')
        .to_owned();
    assert_eq!(during, is_so(true, "null", &pid));
    assert_ne!(pid, "0");
    assert_eq!(
        ask(&engine, "POST", &start, r#"{"Detach":true}"#),
        (
            409,
            format!(r#"{{"message":"exec command {id} is already running"}}"#)
        )
    );
    engine.docker("exec box touch /go").ok();
    eventually("it has ended", || {
        inspect(&engine, &id) == is_so(false, "3", &pid)
    });
    eventually("it is forgotten", || {
        engine.inspect("box", "{{.ExecIDs}}") == "[]"
    });
    assert_eq!(
        ask(&engine, "POST", &start, r#"{"Detach":true}"#),
        (
            409,
            format!(r#"{{"message":"exec command {id} has already run"}}"#)
        )
    );
    let (status, text) = ask(&engine, "POST", &start, "{}");
    assert_eq!(status, 200);
    assert!(
        text.ends_with(&format!("exec command {id} has already run")),
        "{text}"
    );
    let (status, text) = ask(&engine, "POST", &format!("/exec/{id}/resize?h=1&w=1"), "");
    assert_eq!(
        (status, text),
        (
            404,
            format!(r#"{{"message":"process does not exist {id}: not found"}}"#)
        )
    );
}

#[test]
fn failures() {
    let engine = engine();
    engine.docker("run -d --name box busybox sleep 1000").ok();
    #[rustfmt::skip]
    const ROWS: &[(&str, &str, &str, u16, &str)] = &[
        ("POST", "/containers/box/exec", "{}", 400, "No exec command specified"),
        ("POST", "/containers/nosuch/exec", r#"{"Cmd":[]}"#, 400, "No exec command specified"),
        ("POST", "/containers/nosuch/exec", r#"{"Cmd":["true"]}"#, 404, "No such container: nosuch"),
        ("POST", "/containers/box/exec", r#"{"Cmd":["true"],"DetachKeys":"xx"}"#, 400, "Invalid escape keys (xx) provided"),
        ("POST", "/containers/box/exec", r#"{"Cmd":["true"],"User":"nosuch"}"#, 400, "unable to find user nosuch: no matching entries in passwd file"),
        ("GET", "/exec/nosuch/json", "", 404, "No such exec instance: nosuch"),
        ("POST", "/exec/nosuch/start", "{}", 404, "No such exec instance: nosuch"),
        ("POST", "/exec/nosuch/resize?h=1&w=1", "", 404, "No such exec instance: nosuch"),
        ("POST", "/exec/nosuch/resize?h=x&w=1", "", 400, r#"invalid resize height \"x\": invalid syntax"#),
    ];
    for (method, path, body, status, text) in ROWS {
        let (found, told) = ask(&engine, method, path, body);
        assert!(
            found == *status && told.contains(text),
            "{method} {path}: {found} {told}"
        );
    }
    const MISSING: &str =
        "OCI runtime exec failed: exec failed: unable to start container process: exec: ";
    // detached, it is an answer; attached, it is told in the stream
    let id = create(&engine, r#"{"Cmd":["nosuch"]}"#);
    let (status, text) = ask(
        &engine,
        "POST",
        &format!("/exec/{id}/start"),
        r#"{"Detach":true}"#,
    );
    assert_eq!(status, 400);
    assert!(text.contains(MISSING), "{text}");
    let id = create(&engine, r#"{"Cmd":["nosuch"],"AttachStdout":true}"#);
    let (status, text) = ask(&engine, "POST", &format!("/exec/{id}/start"), "{}");
    assert_eq!(status, 200);
    assert!(text.contains(MISSING), "{text}");
    assert!(inspect(&engine, &id).contains(r#""ExitCode":127"#));
    let id = create(&engine, r#"{"Cmd":["nosuch"],"AttachStdout":true}"#);
    let mut told = String::new();
    hijack(&engine, &id, "{}")
        .read_to_string(&mut told)
        .unwrap();
    assert!(
        told.starts_with('\u{1}') && told.contains(MISSING),
        "{told:?}"
    );
    // paused, it has to wait
    let id = create(&engine, r#"{"Cmd":["true"]}"#);
    engine.docker("pause box").ok();
    let (status, text) = ask(
        &engine,
        "POST",
        &format!("/exec/{id}/start"),
        r#"{"Detach":true}"#,
    );
    assert!(
        status == 409 && text.contains(" is paused, unpause the container before exec"),
        "{text}"
    );
    engine.docker("unpause box").ok();
    let done = create(&engine, r#"{"Cmd":["true"]}"#);
    ask(&engine, "POST", &format!("/exec/{done}/start"), "{}");
    // with the container go those that were never started
    engine.docker("stop -t 0 box").ok();
    assert_eq!(ask(&engine, "GET", &format!("/exec/{id}/json"), "").0, 404);
    assert!(inspect(&engine, &done).contains(r#""ExitCode":0"#));
    engine.docker("rm box").ok();
    assert_eq!(
        ask(&engine, "GET", &format!("/exec/{done}/json"), "").0,
        404
    );
}

#[test]
fn terminals_have_sizes_and_detach_keys() {
    let engine = engine();
    engine.docker("run -d --name box busybox sleep 1000").ok();
    let id = create(
        &engine,
        r#"{"Cmd":["sh"],"Tty":true,"AttachStdin":true,"AttachStdout":true,"DetachKeys":"ctrl-a,b"}"#,
    );
    assert_eq!(
        ask(&engine, "POST", &format!("/exec/{id}/resize?h=5&w=7"), "").0,
        409,
        "not yet"
    );
    let mut stream = hijack(&engine, &id, r#"{"Tty":true,"ConsoleSize":[11,22]}"#);
    stream.write_all(b"stty size\n").unwrap();
    let mut told = String::new();
    let mut read_until = |stream: &mut UnixStream, text: &str| {
        let mut buffer = [0; 4096];
        while !told.contains(text) {
            let length = stream.read(&mut buffer).unwrap();
            assert_ne!(length, 0, "the stream has ended: {told:?}");
            told.push_str(&String::from_utf8_lossy(&buffer[..length]));
        }
    };
    read_until(&mut stream, "11 22");
    assert_eq!(
        ask(&engine, "POST", &format!("/exec/{id}/resize?h=33&w=44"), "").0,
        200
    );
    stream.write_all(b"stty size\n").unwrap();
    read_until(&mut stream, "33 44");
    stream.write_all(b"\x01b").unwrap();
    let mut rest = Vec::new();
    stream.read_to_end(&mut rest).unwrap();
    assert!(
        inspect(&engine, &id).contains(r#""Running":true"#),
        "it goes on without its client"
    );
    let now = std::time::SystemTime::now();
    let now = now.duration_since(std::time::UNIX_EPOCH).unwrap().as_secs();
    let (_, events) = ask(
        &engine,
        "GET",
        &format!("/events?since=1&until={}", now + 1),
        "",
    );
    assert!(events.contains(r#""Action":"exec_detach""#), "{events}");
}
