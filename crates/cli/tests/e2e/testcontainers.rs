//! Testcontainers for Python and for Node, unmodified, with a reaper that speaks Ryuk's protocol.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

use testkit::docker::{Session, python};
use testkit::engine::Engine;
use testkit::image::Archive;

use crate::bench::{engine, eventually};

const LIMIT: Duration = Duration::from_secs(300);
/// The images of the reaper that the fetched versions start: for Python, for Node.js 20, for Node.js 18.
const REAPERS: [&str; 3] = [
    "testcontainers/ryuk:0.8.1",
    "testcontainers/ryuk:0.14.0",
    "testcontainers/ryuk:0.11.0",
];

/// An engine with busybox and the reaper under its usual names.
fn engine_with_reaper() -> Engine {
    let engine = engine();
    let program = Path::new(env!("CARGO_BIN_EXE_gorae")).with_file_name("testkit-reaper");
    let program = std::fs::read(&program)
        .unwrap_or_else(|error| panic!("{}: {error}: cargo build -p testkit", program.display()));
    let archive = Archive::new().file("reaper", &program, 0o755).unwrap();
    let archive = archive.finish().unwrap();
    // by this label of the image, as by that of Ryuk's, the reaper knows itself
    let label = "LABEL org.testcontainers.ryuk=true";
    let entry = "ENTRYPOINT [\"/reaper\"]";
    let words = ["import", "-c", entry, "-c", label, "-", REAPERS[0]];
    engine.import_with(&words, &archive).unwrap();
    for name in &REAPERS[1..] {
        engine.docker(&format!("tag {} {name}", REAPERS[0])).ok();
    }
    engine
}

fn script(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("tests/e2e")
        .join(name)
}

fn run(engine: &Engine, program: impl AsRef<std::ffi::OsStr>, name: &str, word: &str) -> Command {
    let mut command = engine.program(program);
    command.arg(script(name));
    if !word.is_empty() {
        command.arg(word);
    }
    // in a container of its own, a test program would look for the engine's host elsewhere
    command.env("TESTCONTAINERS_HOST_OVERRIDE", "localhost");
    command.env("TMPDIR", engine.home());
    command
}

#[test]
fn python_waits_networks_logs_and_compose() {
    let engine = engine_with_reaper();
    let command = run(&engine, python(), "testcontainers_python.py", "");
    let outcome = Session::pipes(command).unwrap().finish_within(LIMIT);
    outcome.shows("all well: testcontainers");
    // its reaper goes with it
    eventually("nothing is left", || {
        engine.docker("ps -aq").ok().is_empty()
    });
}

#[test]
fn node_waits_networks_logs_and_compose() {
    let engine = engine_with_reaper();
    let command = run(&engine, "node", "testcontainers_node.js", "");
    let outcome = Session::pipes(command).unwrap().finish_within(LIMIT);
    outcome.shows("all well: testcontainers");
}

/// Starts a test program, kills it as a crash does, and sees that the reaper leaves nothing behind, and
/// removes nothing before its time.
fn is_reaped(engine: &Engine, mut command: Command, timeout: &str, at_least: Duration) {
    engine
        .docker("run -d --name others busybox sleep 1000")
        .ok();
    engine.docker("volume create others").ok();
    command.env("RYUK_RECONNECTION_TIMEOUT", timeout);
    command.env("TESTCONTAINERS_RYUK_RECONNECTION_TIMEOUT", timeout);
    let session = Session::pipes(command).unwrap();
    session.expect("left ");
    let all = || engine.docker("ps -a --format {{.Names}}").ok().to_owned();
    assert!(all().contains("left-running"), "{}", all());
    let networks = || {
        engine
            .docker("network ls -q -f type=custom")
            .ok()
            .to_owned()
    };
    assert!(!networks().is_empty());
    let killed = Instant::now();
    session.kill();
    eventually("all but the others is gone", || all() == "others");
    assert!(killed.elapsed() >= at_least, "after {:?}", killed.elapsed());
    eventually("their network is gone", || networks().is_empty());
    eventually("their volumes are gone", || {
        engine.docker("volume ls -q").ok() == "others"
    });
    engine.docker("image ls -q busybox").ok();
}

#[test]
fn what_a_killed_python_program_left_is_reaped() {
    let engine = engine_with_reaper();
    let command = run(&engine, python(), "testcontainers_python.py", "die");
    is_reaped(&engine, command, "2s", Duration::from_millis(1900));
}

#[test]
fn what_a_killed_node_program_left_is_reaped_after_ten_seconds() {
    let engine = engine_with_reaper();
    let command = run(&engine, "node", "testcontainers_node.js", "die");
    is_reaped(&engine, command, "10s", Duration::from_millis(9900));
}
