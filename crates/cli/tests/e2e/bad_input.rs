//! Wrong input ends in one clear message, with Docker's words and codes.

use testkit::docker::Client;
use testkit::engine::Engine;

use crate::bench::{Checks, engine};

#[test]
fn names_and_references() {
    let engine = engine();
    let mut checks = Checks::default();
    for client in Client::BOTH {
        let mut check = |line: &str, code: i32, text: &str| {
            checks.complains(&engine.run(client, line), code, text);
        };
        check(
            "run --rm Bad/Name true",
            125,
            "invalid reference format: repository name (Name) must be lowercase",
        );
        check("run --rm ::: true", 125, "invalid reference format");
        check("pull a//b", 1, "invalid reference format");
        check(
            "tag busybox UPPER",
            1,
            "invalid reference format: repository name (library/UPPER) must be lowercase",
        );
        check("tag nosuch x1", 1, "No such image: nosuch:latest");
        check("rmi nosuch", 1, "No such image: nosuch:latest");
        check("history nosuch", 1, "No such image: nosuch:latest");
        check("image inspect nosuch", 1, "No such image: nosuch");
        check(
            "run --pull never nosuch",
            125,
            "No such image: nosuch:latest",
        );
        check("start nosuch", 1, "No such container: nosuch");
        check("logs nosuch", 1, "No such container: nosuch");
        check("stop nosuch", 1, "No such container: nosuch");
        check("wait nosuch", 1, "No such container: nosuch");
        check("attach nosuch", 1, "No such container: nosuch");
        check("network inspect nosuch", 1, "network nosuch not found");
        check("pull 127.0.0.1:1/none", 1, "connection refused");
    }
}

#[test]
fn flags_that_make_no_sense() {
    let engine = engine();
    let mut checks = Checks::default();
    for client in Client::BOTH {
        let mut check = |flags: &str, text: &str| {
            let outcome = engine.run(client, &format!("run --rm {flags} busybox true"));
            checks.complains(&outcome, 125, text);
        };
        check("--nosuch", "unknown flag: --nosuch");
        check("-v /nosuch:relative", "mount path must be absolute");
        check("-v a:b:c:d", "invalid");
        check("-v /a:/b:nosuchmode", "invalid mode: nosuchmode");
        check(
            "-v busybox!:/x",
            "includes invalid characters for a local volume name",
        );
        check("-v /:/", "destination can't be '/'");
        check(
            "--mount type=bind,src=/nosuch/at/all,dst=/x",
            "bind source path does not exist: /nosuch/at/all",
        );
        check("--mount type=nosuch,dst=/x", "mount type unknown");
        check(
            "--mount type=bind,src=/tmp,dst=/x,nosuch=1",
            "unexpected key 'nosuch' in 'nosuch=1'",
        );
        check("-v /tmp:/x -v /var:/x", "Duplicate mount point: /x");
        check("-p 99999:80", "invalid hostPort: 99999");
        check("-p 80:x", "invalid containerPort: x");
        check("-p 1.2.3:80:80", "invalid ip address: 1.2.3");
        check(
            "-p 8000-8002:80-81",
            "invalid ranges specified for container and host Ports",
        );
        check("--cap-add NOSUCH", "NOSUCH");
        check("--security-opt nosuch=1", "nosuch");
        check("--security-opt seccomp=/nosuch.json", "/nosuch.json");
        check("--sysctl nosuch", "nosuch");
        check("--ipc nosuch", "invalid IPC mode: nosuch");
        check("--pid nosuch", "--pid: invalid PID mode");
        check("--uts nosuch", "--uts: invalid UTS mode");
        check("--stop-signal NOSUCH", "NOSUCH");
        check("--add-host nocolon", "bad format for add-host");
        check("--dns not.an.ip", "not.an.ip");
        check("-e ''", "invalid environment variable");
        check("--env-file /nosuch", "/nosuch");
        check("--name -x", "Invalid container name");
        check("--tmpfs /", "/");
        check(
            "--runtime nosuch",
            "unknown or invalid runtime name: nosuch",
        );
    }
    engine.docker("ps -aq").prints("");
    engine.docker("volume ls -q").prints("");
}

#[test]
fn a_busy_name_and_a_busy_port() {
    let engine = engine();
    let holder = std::net::TcpListener::bind("0.0.0.0:7777").unwrap();
    for client in Client::BOTH {
        engine
            .run(client, "run --name box -p 7777:80 busybox true")
            .complains(125, "address already in use");
        assert_eq!(engine.inspect("box", "{{.State.Status}}"), "created");
        engine.run(client, "rm box").ok();
        engine
            .run(client, "run -d --name box -p 7778:80 busybox sleep 1000")
            .ok();
        engine
            .run(client, "run --rm -p 7778:80 busybox true")
            .complains(125, "port is already allocated");
        engine.run(client, "rm -f box").ok();
        engine.run(client, "run --rm -p 7778:80 busybox true").ok();
    }
    drop(holder);
}

/// What is asked of the API, and what it answers: a status and some of its words.
type Case = (&'static str, &'static str, &'static str, u16, &'static str);

fn check(engine: &Engine, cases: &[Case]) {
    let mut checks = Checks::default();
    for (method, path, body, status, text) in cases {
        let answer = engine.api(method, path, body).unwrap();
        let told = String::from_utf8_lossy(&answer.body).into_owned();
        let is_so = answer.status == *status && told.contains(text);
        checks.note(is_so, || {
            format!(
                "{method} {path}: expected {status} {text:?}: {} {told}",
                answer.status
            )
        });
    }
}

#[test]
fn the_api_refuses_what_is_no_request_of_its() {
    const CREATE: &str = "/v1.51/containers/create";
    #[rustfmt::skip]
    const CASES: &[Case] = &[
        ("GET", "/v1.51/nosuch", "", 404, "page not found"),
        ("PUT", "/v1.51/containers/json", "", 404, "page not found"),
        ("GET", "/v1.23/version", "", 400, "client version 1.23 is too old. Minimum supported API version is 1.24, please upgrade your client to a newer version"),
        ("GET", "/v1.99/version", "", 400, "client version 1.99 is too new. Maximum supported API version is"),
        ("POST", CREATE, "{", 400, "invalid JSON: unexpected EOF"),
        ("POST", CREATE, "", 400, "invalid JSON: got EOF while reading request body"),
        ("POST", CREATE, "{\"Image\":\"\"}", 400, ""),
        ("POST", CREATE, "{\"Image\":\"nosuch\"}", 404, "No such image: nosuch:latest"),
        ("POST", CREATE, "{\"Image\":7}", 400, "invalid JSON: "),
        ("GET", "/v1.51/containers/nosuch/json", "", 404, "No such container: nosuch"),
        ("POST", "/v1.51/containers/nosuch/start", "", 404, "No such container: nosuch"),
        ("DELETE", "/v1.51/images/nosuch", "", 404, "No such image: nosuch:latest"),
        ("GET", "/v1.51/images/nosuch/json", "", 404, "No such image: nosuch"),
        ("DELETE", "/v1.51/volumes/nosuch", "", 404, "get nosuch: no such volume"),
        ("GET", "/v1.51/containers/json?filters=%7Bnosuch", "", 400, "invalid filter"),
        ("GET", "/v1.51/exec/nosuch/json", "", 404, "No such exec instance: nosuch"),
        ("GET", "/_ping", "", 200, "OK"),
    ];
    check(&engine(), CASES);
}

#[test]
fn the_api_tells_states_that_do_not_fit() {
    const CREATE: &str = "/v1.51/containers/create?name=box";
    #[rustfmt::skip]
    const CASES: &[Case] = &[
        ("POST", CREATE, "{\"Image\":\"busybox\",\"Cmd\":[\"sleep\",\"100\"]}", 201, "Id"),
        ("POST", CREATE, "{\"Image\":\"busybox\"}", 409, "is already in use by container"),
        ("POST", "/v1.51/containers/box/start", "", 204, ""),
        ("POST", "/v1.51/containers/box/start", "", 304, ""),
        ("POST", "/v1.51/containers/box/kill?signal=NOSUCH", "", 400, "NOSUCH"),
        ("DELETE", "/v1.51/containers/box", "", 409, "container is running"),
        ("POST", "/v1.51/containers/box/unpause", "", 409, "is not paused"),
        ("POST", "/v1.51/containers/box/stop?t=0", "", 204, ""),
        ("POST", "/v1.51/containers/box/stop", "", 304, ""),
        ("POST", "/v1.51/containers/box/kill", "", 409, "is not running"),
        ("POST", "/v1.51/containers/box/exec", "{\"Cmd\":[\"true\"]}", 409, "is not running"),
        ("DELETE", "/v1.51/containers/box", "", 204, ""),
    ];
    check(&engine(), CASES);
}
