//! The reaper of `--init`.

use std::path::PathBuf;
use std::process::{Command, Stdio};

use oci::runtime::Mount;
use shim::Reply;

use crate::fixture::{Fixture, demultiplex, read_until, wait_until};

fn with_init(args: &[&str]) -> (Fixture, std::os::unix::net::UnixStream) {
    let args: Vec<&str> = ["/sbin/docker-init", "--"]
        .iter()
        .chain(args)
        .copied()
        .collect();
    Fixture::attached(&args, |order| {
        order.init = true;
        order.order.spec.mounts.push(Mount {
            destination: "/sbin/docker-init".into(),
            kind: Some("bind".into()),
            source: Some(PathBuf::from(env!("CARGO_BIN_EXE_gorae-shim"))),
            options: vec!["bind".into(), "ro".into()],
        });
    })
}

#[test]
fn ends_with_the_programs_code() {
    let (fixture, client) = with_init(&["sh", "-c", "echo pid $$; exit 6"]);
    assert_eq!(demultiplex(&client).0, "pid 2\n");
    assert_eq!(fixture.wait().code, 6);
}

#[test]
fn hands_on_signals_that_process_one_would_not_get() {
    let (fixture, client) = with_init(&["sh", "-c", "echo ready; exec sleep 1000"]);
    read_until(&client, "ready");
    fixture.kill(15);
    assert_eq!(fixture.wait().code, 143);
}

#[test]
fn reaps_orphans() {
    let (fixture, client) = with_init(&[
        "sh",
        "-c",
        "(sleep 0 & exec true); sleep 0.2; echo ready; sleep 1000",
    ]);
    read_until(&client, "ready");
    wait_until("the orphan to be reaped", || {
        let Reply::Processes(pids) = fixture.ask(&shim::Request::Processes) else {
            return false;
        };
        pids.iter().all(|pid| {
            std::fs::read_to_string(format!("/proc/{pid}/stat"))
                .is_ok_and(|stat| !stat.contains(") Z "))
        })
    });
    fixture.kill(9);
    fixture.wait();
}

#[test]
fn says_what_it_cannot_run() {
    let (fixture, client) = with_init(&["nothing-here"]);
    let (_, stderr) = demultiplex(&client);
    assert!(stderr.contains("exec nothing-here"), "{stderr}");
    assert_eq!(fixture.wait().code, 127);
}

#[test]
fn the_runtime_has_one_too() {
    let (fixture, client) =
        Fixture::attached(&["sh", "-c", "echo pid $$; exec sleep 1000"], |order| {
            order.init = true;
        });
    read_until(&client, "pid 2\n");
    fixture.kill(15);
    assert_eq!(fixture.wait().code, 143);
}

#[test]
fn by_hand_it_explains_itself() {
    let shim = |args: &[&str]| {
        Command::new(env!("CARGO_BIN_EXE_gorae-shim"))
            .args(args)
            .stdin(Stdio::null())
            .output()
            .unwrap()
    };
    let plain = shim(&[]);
    assert_eq!(plain.status.code(), Some(2));
    assert!(
        String::from_utf8(plain.stderr)
            .unwrap()
            .contains("started by the engine")
    );
    assert!(shim(&["--version"]).status.success());
    assert_eq!(
        shim(&["init", "--", "/bin/sh", "-c", "exit 3"])
            .status
            .code(),
        Some(3)
    );
    assert_eq!(shim(&["init"]).status.code(), Some(1));
    assert_eq!(
        shim(&["init", "--", "/etc/passwd"]).status.code(),
        Some(126)
    );
}
