//! What build clients speak with the engine: buildx over BuildKit's API, sessions, and where files come from.

use std::fs;
use std::io::{Read, Write};
use std::net::TcpListener;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use serde_json::Value;
use testkit::docker::{Client, Outcome};
use testkit::engine::Engine;

use crate::bench::{context, engine, eventually};
use crate::service::free_port;

fn build(engine: &Engine, flags: &str, context: &Path) -> Outcome {
    let line = format!(
        "buildx build --progress plain {flags} {}",
        context.display()
    );
    engine.docker(&line)
}

#[test]
fn buildx_sees_the_builder_its_cache_and_its_history() {
    let engine = engine();
    let inspected = engine.docker("buildx inspect");
    inspected.ok();
    for part in ["Driver: docker", "linux/amd64", "host-gateway-ip: 172."] {
        assert!(inspected.stdout.contains(part), "{part}: {inspected:?}");
    }
    let listed = engine.docker("buildx ls");
    listed.ok();
    assert!(listed.stdout.contains("running"), "{listed:?}");

    let folder = context(
        &engine,
        "seen",
        &[("Dockerfile", "FROM busybox\nRUN echo seen >/made\n")],
    );
    build(&engine, "-t seen:1", &folder).ok();
    let used = engine.docker("buildx du --verbose");
    used.ok();
    assert!(
        used.stdout
            .contains("from exec /bin/sh -c echo seen >/made"),
        "{used:?}"
    );
    let past = engine.docker("buildx history ls --format {{.Ref}}|{{.Status}}");
    past.ok();
    let line = past.stdout.lines().next().unwrap_or_default().to_owned();
    let (reference, status) = line.split_once('|').unwrap_or_default();
    assert_eq!(status, "Completed", "{past:?}");
    let logs = engine.docker(&format!("buildx history logs {reference}"));
    logs.ok();
    let told = format!("{}{}", logs.stdout, logs.stderr);
    assert!(told.contains("RUN echo seen >/made"), "{logs:?}");
    engine
        .docker(&format!("buildx history inspect {reference}"))
        .ok();
    engine
        .docker(&format!("buildx history rm {reference}"))
        .ok();
    let past = engine.docker("buildx history ls --format {{.Ref}}");
    assert!(!past.stdout.contains(reference), "{past:?}");

    engine.docker("buildx prune --force --all").ok();
    let used = engine.docker("buildx du --verbose");
    assert!(
        !used
            .stdout
            .contains("from exec /bin/sh -c echo seen >/made"),
        "{used:?}"
    );
}

#[test]
fn what_fails_is_shown_where_it_stands() {
    let engine = engine();
    let dockerfile = "FROM busybox\nRUN echo before\nRUN exit 7\n";
    let folder = context(&engine, "fails", &[("Dockerfile", dockerfile)]);
    let told = build(&engine, "", &folder);
    assert_ne!(told.code, 0);
    for part in [
        "Dockerfile:3",
        ">>> RUN exit 7",
        "did not complete successfully: exit code: 7",
    ] {
        assert!(told.stderr.contains(part), "{part}: {told:?}");
    }
    let past = engine.docker("buildx history ls --format {{.Status}}");
    assert_eq!(past.stdout.trim(), "Error", "{past:?}");
}

#[test]
fn a_front_end_that_cannot_be_had() {
    let engine = engine();
    let dockerfile = "# syntax=127.0.0.1:9/no/front:1\nFROM busybox\n";
    let folder = context(&engine, "front", &[("Dockerfile", dockerfile)]);
    let official = "# syntax=docker/dockerfile:1\nFROM busybox\n";
    let replaced = context(&engine, "replaced", &[("Dockerfile", official)]);
    build(&engine, "", &replaced).ok();
    let other = "--build-context docker/dockerfile:1=docker-image://127.0.0.1:9/no/front:1";
    for (flags, folder) in [("", &folder), (other, &replaced)] {
        let line = format!("build --progress plain {flags} {}", folder.display());
        for client in Client::BOTH {
            let told = engine.run(client, &line);
            assert_ne!(told.code, 0, "{told:?}");
            for part in ["127.0.0.1:9/no/front:1", "docker/dockerfile is built in"] {
                assert!(told.stderr.contains(part), "{part}: {told:?}");
            }
        }
    }
}

/// How much of a context a build said that it got, in bytes.
/// The most that was sent of a folder; the file of ignored patterns comes under the same name.
fn transferred(told: &Outcome) -> f64 {
    let lines = told.stderr.lines();
    let sizes = lines.filter_map(|line| line.split_once("transferring context: "));
    let most = sizes.map(|(_, size)| bytes(size)).max_by(f64::total_cmp);
    most.unwrap_or_else(|| panic!("no context: {told:?}"))
}

/// A size as buildx tells it; none where nothing was sent.
fn bytes(size: &str) -> f64 {
    let size = size.split_whitespace().next().unwrap();
    let digits = size.trim_end_matches(|character: char| character.is_ascii_alphabetic());
    let factor = match &size[digits.len()..] {
        "B" => 1.0,
        "kB" => 1e3,
        "MB" => 1e6,
        _ => 0.0,
    };
    digits.parse::<f64>().unwrap_or(0.0) * factor
}

#[test]
fn only_what_changed_of_a_context_is_sent() {
    let engine = engine();
    let folder = context(
        &engine,
        "many",
        &[(
            "Dockerfile",
            "FROM busybox\nCOPY src /src\nRUN cat /src/7 /src/8 >/both\n",
        )],
    );
    fs::create_dir(folder.join("src")).unwrap();
    for number in 0..1000 {
        fs::write(folder.join(format!("src/{number}")), vec![b'a'; 4096]).unwrap();
    }
    let first = build(&engine, "-t many:1", &folder);
    first.ok();
    assert!(transferred(&first) > 4e6, "{first:?}");
    fs::write(folder.join("src/7"), "changed\n").unwrap();
    fs::remove_file(folder.join("src/9")).unwrap();
    let second = build(&engine, "-t many:2", &folder);
    second.ok();
    assert!(transferred(&second) < 1e6, "{second:?}");
    engine
        .docker("run --rm many:2 head -c 8 /both")
        .prints("changed");
    engine.docker("run --rm many:2 ls /src/9").fails(1);
    contexts_are_a_part_of_the_cache(&engine, &folder);
}

/// What was kept of a context is shown and removed as everything else that was kept.
fn contexts_are_a_part_of_the_cache(engine: &Engine, folder: &Path) {
    let kept = || {
        let used = engine.docker("buildx du --verbose --filter type=source.local");
        used.ok();
        used.stdout.matches("local source for context").count()
    };
    assert!(kept() >= 1);
    let listed = engine
        .api("GET", "/system/df?type=build-cache", "")
        .unwrap();
    let listed: Value = serde_json::from_slice(&listed.body).unwrap();
    let all = listed["BuildCache"].as_array().unwrap();
    let sizes = all.iter().filter(|one| one["Type"] == "source.local");
    let most = sizes.filter_map(|one| one["Size"].as_u64()).max();
    assert!(most > Some(4_000_000), "{listed}");
    engine
        .docker("buildx prune --force --filter type=source.local")
        .ok();
    assert_eq!(kept(), 0);
    let locals = engine.root_folder().join("builder/locals");
    assert_eq!(fs::read_dir(locals).unwrap().count(), 0);
    // all of it is sent anew
    let third = build(engine, "-t many:3", folder);
    third.ok();
    assert!(transferred(&third) > 3e6, "{third:?}");
}

#[test]
fn results_go_to_the_client() {
    let engine = engine();
    let dockerfile = "FROM scratch\nCOPY a /a\nCOPY b/c /b/c\n";
    let folder = context(
        &engine,
        "local",
        &[("Dockerfile", dockerfile), ("a", "1\n"), ("b/c", "2\n")],
    );
    let out = engine.home().join("out");
    build(&engine, &format!("--output {}", out.display()), &folder).ok();
    assert_eq!(fs::read_to_string(out.join("a")).unwrap(), "1\n");
    assert_eq!(fs::read_to_string(out.join("b/c")).unwrap(), "2\n");
    let tar = engine.home().join("out.tar");
    build(
        &engine,
        &format!("--output type=tar,dest={}", tar.display()),
        &folder,
    )
    .ok();
    assert!(fs::metadata(tar).unwrap().len() > 1024);
}

#[test]
fn secrets_reach_their_step_and_nothing_else() {
    let engine = engine();
    let dockerfile = "FROM busybox\nRUN --mount=type=secret,id=key sha256sum /run/secrets/key | cut -c1-64 >/sum\n";
    let folder = context(&engine, "secret", &[("Dockerfile", dockerfile)]);
    let secret = engine.home().join("key");
    fs::write(&secret, "a-secret-of-this-test").unwrap();
    let told = build(
        &engine,
        &format!("--secret id=key,src={} -t secret", secret.display()),
        &folder,
    );
    told.ok();
    engine
        .docker("run --rm secret cat /sum")
        .prints("cdd96b3dbb2387512477873965253b525f166b54942562b42faf8bfcefc12090");
}

/// A server of one file, which says that it has not changed where it was asked.
struct Web {
    port: u16,
    whole: Arc<AtomicUsize>,
    unchanged: Arc<AtomicUsize>,
}

impl Web {
    fn serve(content: &'static str) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let web = Self {
            port: listener.local_addr().unwrap().port(),
            whole: Arc::default(),
            unchanged: Arc::default(),
        };
        let (whole, unchanged) = (Arc::clone(&web.whole), Arc::clone(&web.unchanged));
        std::thread::spawn(move || {
            for connection in listener.incoming() {
                let Ok(mut connection) = connection else {
                    return;
                };
                let mut head = Vec::new();
                let mut byte = [0];
                while !head.ends_with(b"\r\n\r\n")
                    && connection.read(&mut byte).is_ok_and(|count| count > 0)
                {
                    head.push(byte[0]);
                }
                let head = String::from_utf8_lossy(&head).to_lowercase();
                let answer = if head.contains("if-none-match: \"one\"") {
                    unchanged.fetch_add(1, Ordering::Relaxed);
                    "HTTP/1.1 304 Not Modified\r\nETag: \"one\"\r\nConnection: close\r\n\r\n"
                        .to_owned()
                } else {
                    whole.fetch_add(1, Ordering::Relaxed);
                    let length = content.len();
                    format!(
                        "HTTP/1.1 200 OK\r\nETag: \"one\"\r\nLast-Modified: Sun, 06 Nov 1994 08:49:37 GMT\r\nContent-Length: {length}\r\nConnection: close\r\n\r\n{content}"
                    )
                };
                drop(connection.write_all(answer.as_bytes()));
            }
        });
        web
    }
}

#[test]
fn files_of_the_web_are_asked_for_again_only_where_they_change() {
    let engine = engine();
    let web = Web::serve("from the web\n");
    let dockerfile = format!(
        "FROM busybox\nADD http://127.0.0.1:{}/some/file.txt /got/\n",
        web.port
    );
    let folder = context(&engine, "web", &[("Dockerfile", dockerfile.as_str())]);
    build(&engine, "-t web:1", &folder).ok();
    engine
        .docker("run --rm web:1 cat /got/file.txt")
        .prints("from the web");
    engine
        .docker("run --rm web:1 stat -c %a.%Y /got/file.txt")
        .prints("600.784111777");
    let again = build(&engine, "-t web:2", &folder);
    again.ok();
    assert!(again.stderr.contains("CACHED"), "{again:?}");
    assert_eq!(web.whole.load(Ordering::Relaxed), 1);
    assert_eq!(web.unchanged.load(Ordering::Relaxed), 1);
    let wrong = format!(
        "FROM busybox\nADD --checksum=sha256:{} http://127.0.0.1:{}/x /x\n",
        "0".repeat(64),
        web.port
    );
    let folder = context(&engine, "wrong", &[("Dockerfile", wrong.as_str())]);
    let told = build(&engine, "", &folder);
    assert_eq!(told.code, 1, "{told:?}");
    assert!(told.stderr.contains("digest mismatch"), "{told:?}");
}

/// A server of repositories that goes with its value.
struct GitServer {
    child: Child,
    port: u16,
}

impl GitServer {
    /// Serves what lies in a folder.
    fn of(folder: &Path) -> Self {
        let port = free_port();
        // not by `git daemon`: its child would outlive it
        let programs = Command::new("git").arg("--exec-path").output().unwrap();
        let programs = String::from_utf8(programs.stdout).unwrap();
        let child = Command::new(Path::new(programs.trim()).join("git-daemon"))
            .args(["--reuseaddr", "--export-all", "--listen=127.0.0.1"])
            .arg(format!("--port={port}"))
            .arg(format!("--base-path={}", folder.display()))
            .arg(folder)
            .stderr(Stdio::null())
            .spawn();
        let child = child.unwrap();
        let server = Self { child, port };
        eventually("git-daemon listens", || {
            std::net::TcpStream::connect(("127.0.0.1", port)).is_ok()
        });
        server
    }
}

impl Drop for GitServer {
    fn drop(&mut self) {
        drop(self.child.kill());
        drop(self.child.wait());
    }
}

fn git(folder: &Path, arguments: &[&str]) {
    let status = Command::new("git")
        .args([
            "-c",
            "user.name=x",
            "-c",
            "user.email=x@example.com",
            "-c",
            "init.defaultBranch=main",
        ])
        .args(arguments)
        .current_dir(folder)
        .stdout(Stdio::null())
        .status();
    assert!(status.is_ok_and(|status| status.success()), "{arguments:?}");
}

#[test]
fn repositories_are_contexts() {
    let engine = engine();
    let repository = context(
        &engine,
        "served/repo",
        &[
            ("Dockerfile", "FROM busybox\nCOPY file /file\n"),
            ("file", "one\n"),
            ("sub/Dockerfile", "FROM busybox\nCOPY in /file\n"),
            ("sub/in", "sub\n"),
        ],
    );
    git(&repository, &["init", "--quiet"]);
    git(&repository, &["add", "."]);
    git(&repository, &["commit", "--quiet", "-m", "one"]);
    git(&repository, &["tag", "v1"]);
    fs::write(repository.join("file"), "two\n").unwrap();
    git(&repository, &["commit", "--quiet", "-am", "two"]);
    let server = GitServer::of(repository.parent().unwrap());
    for (fragment, expect) in [
        ("", "two"),
        ("#v1", "one"),
        ("#main:sub", "sub"),
        ("#:sub", "sub"),
    ] {
        let url = format!("git://127.0.0.1:{}/repo{fragment}", server.port);
        let line = format!("buildx build --progress plain -t repo {url}");
        engine.docker(&line).ok();
        engine.docker("run --rm repo cat /file").prints(expect);
    }
    let url = format!("git://127.0.0.1:{}/repo#nosuchbranch", server.port);
    let line = format!("buildx build --progress plain {url}");
    assert_ne!(engine.docker(&line).code, 0);
}

#[test]
fn a_client_that_leaves_takes_its_build_along() {
    let engine = engine();
    let folder = context(
        &engine,
        "leaves",
        &[("Dockerfile", "FROM busybox\nRUN echo begun; sleep 1000\n")],
    );
    let home = engine.home();
    let mut child = engine
        .program(testkit::docker::docker_cli().unwrap())
        .args(["buildx", "build", "--progress", "plain"])
        .arg(&folder)
        .env("HOME", &home)
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let mut stderr = child.stderr.take().unwrap();
    let (mut told, mut byte) = (Vec::new(), [0]);
    while !String::from_utf8_lossy(&told).contains(" begun\n")
        && stderr.read(&mut byte).is_ok_and(|count| count > 0)
    {
        told.push(byte[0]);
    }
    child.kill().unwrap();
    child.wait().unwrap();
    eventually("the build is over", || {
        let past = engine.docker("buildx history ls --format {{.Status}}");
        past.code == 0 && past.stdout.contains("Error")
    });
    let past = engine.docker("buildx history inspect");
    assert!(past.stdout.contains("Canceled"), "{past:?}");
}
