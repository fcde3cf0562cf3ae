//! Further processes in a container.

use std::io::Write as _;

use runtime::{ExecError, FailureKind, Fds};
use rustix::process::{Signal, pidfd_send_signal};

use super::Test;
use super::bed::{Bed, Output, spec};

pub(crate) const TESTS: &[Test] = &[
    (
        "execs::same_namespaces_and_cgroup",
        same_namespaces_and_cgroup,
    ),
    ("execs::exit_codes", exit_codes),
    ("execs::refusals", refusals),
    ("execs::users_by_name", users_by_name),
    ("execs::a_terminal", a_terminal),
    ("execs::capabilities_and_filter", capabilities_and_filter),
    (
        "execs::a_container_that_has_ended",
        a_container_that_has_ended,
    ),
    ("execs::a_hostile_container", a_hostile_container),
    ("execs::one_after_another", one_after_another),
];

fn same_namespaces_and_cgroup() {
    let bed = Bed::new("exec");
    let container = bed.sleeper(&spec(&[]));
    let output = container.shell(
        "for n in pid net ipc uts mnt cgroup; do \
         test $(readlink /proc/1/ns/$n) = $(readlink /proc/self/ns/$n) || echo $n; done; \
         hostname; cat /proc/1/cgroup > /a; cat /proc/self/cgroup > /b; test $(cat /a | wc -c) = $(cat /b | wc -c) && echo same; \
         pwd; echo $HOME; ls /proc/self/fd | wc -l",
    );
    assert_eq!(output.text, "whale\nsame\n/\n/root\n4\n");
    let own = std::fs::read_link("/proc/self/ns/pid").unwrap();
    let children = std::fs::read_link("/proc/self/ns/pid_for_children").unwrap();
    assert_eq!(own, children);
}

fn exit_codes() {
    let bed = Bed::new("exec-codes");
    let container = bed.sleeper(&spec(&[]));
    assert_eq!(container.shell("exit 42").code, 42);
    assert_eq!(container.shell("kill -15 $$").code, 143);
}

fn refusals() {
    let bed = Bed::new("exec-refused");
    let container = bed.sleeper(&spec(&[]));
    let check = |words: &[&str], cwd: &str, kind, text: &str| {
        let mut process = spec(words).process;
        process.cwd = cwd.to_owned();
        let error = container.exec(&process).unwrap_err();
        assert_eq!(error.to_string(), text);
        assert_eq!(error.kind(), kind);
    };
    let text = "exec: \"foo\": executable file not found in $PATH";
    check(&["foo"], "/", FailureKind::NotFound, text);
    let text = "exec: \"/etc/passwd\": permission denied";
    check(&["/etc/passwd"], "/", FailureKind::PermissionDenied, text);
    let text = "chdir to cwd (\"/none\") set in config.json failed: no such file or directory";
    check(&["true"], "/none", FailureKind::NotFound, text);
    let text = "current working directory is outside of container mount namespace root -- possible \
                container breakout detected";
    for number in 3..12 {
        let mut process = spec(&["readlink", "/proc/self/cwd"]).process;
        process.cwd = format!("/proc/self/fd/{number}");
        match container.exec(&process) {
            // one of the stage's descriptors is the container's own root
            Ok(output) => assert_eq!(output.text, "/\n"),
            Err(error) => {
                let error = error.to_string();
                assert!(error == text || error.contains("failed: "), "{error}");
            }
        }
    }
}

fn users_by_name() {
    let bed = Bed::new("exec-user");
    let container = bed.sleeper(&spec(&[]));
    let run = |user: &str| {
        let mut process = spec(&["/bin/sh", "-c", "id -u; id -G; echo $HOME"]).process;
        process.user.username = Some(user.to_owned());
        container.exec(&process)
    };
    assert_eq!(run("web").unwrap().text, "33\n44 4\n/var/www\n");
    assert_eq!(run("7:adm").unwrap().text, "7\n4\n/\n");
    let error = run("nobody").unwrap_err();
    let text = "unable to find user nobody: no matching entries in passwd file";
    assert_eq!(error.to_string(), text);
    assert_eq!(error.kind(), FailureKind::InvalidInput);
    assert!(run("4294967296").is_err());
}

fn a_terminal() {
    let bed = Bed::new("exec-tty");
    let container = bed.sleeper(&spec(&[]));
    let mut process = spec(&["/bin/sh", "-c", "tty; read line; echo got $line"]).process;
    process.terminal = true;
    let child = runtime::exec(&container.target(), &process, Fds::default()).unwrap();
    let mut console = std::fs::File::from(child.console.unwrap());
    console.write_all(b"word\n").unwrap();
    let mut text = String::new();
    let _end = std::io::Read::read_to_string(&mut console, &mut text);
    assert!(text.contains("/dev/pts/0"), "{text}");
    assert!(text.contains("got word"), "{text}");
    assert_eq!(super::bed::wait(&child.pidfd), 0);
}

fn capabilities_and_filter() {
    let bed = Bed::new("exec-caps");
    let container = bed.sleeper(&spec(&[]));
    let set = runtime::capabilities::default_set();
    let profile = runtime::seccomp::default_profile(&set, (6, 1));
    let program = runtime::seccomp::compile(&profile).unwrap();
    let mut file = tempfile::tempfile().unwrap();
    file.write_all(&program.to_bytes()).unwrap();
    let (mut reader, mut fds) = super::bed::streams();
    fds.seccomp = Some(file.into());
    let command = "grep -E '^(CapEff|CapInh|Seccomp:)' /proc/self/status";
    let process = spec(&["/bin/sh", "-c", command]).process;
    let child = runtime::exec(&container.target(), &process, fds).unwrap();
    let mut text = String::new();
    std::io::Read::read_to_string(&mut reader, &mut text).unwrap();
    let expect = "CapInh:\t0000000000000000\nCapEff:\t00000000a80425fb\nSeccomp:\t2\n";
    assert_eq!(text, expect);
    assert_eq!(super::bed::wait(&child.pidfd), 0);
}

fn a_container_that_has_ended() {
    let bed = Bed::new("exec-ended");
    let container = bed.sleeper(&spec(&[]));
    pidfd_send_signal(&container.running().pidfd, Signal::KILL).unwrap();
    // it is a zombie until it is waited for, and gone then
    let process = spec(&["true"]).process;
    let error = loop {
        match container.exec(&process) {
            Ok(Output { .. }) => {}
            Err(error) => break error,
        }
    };
    assert!(matches!(error, ExecError::NotRunning), "{error:?}");
    assert_eq!(container.wait(), 137);
    let error = container.exec(&process).unwrap_err();
    assert!(matches!(error, ExecError::NotRunning), "{error:?}");
}

/// A container that has changed its own `/dev` and `/etc` (CVE-2025-52565, CVE-2024-9676).
fn a_hostile_container() {
    let bed = Bed::new("exec-hostile");
    let mut own = spec(&[]);
    let all = runtime::capabilities::available().unwrap();
    let capabilities = own.process.capabilities.as_mut().unwrap();
    capabilities.bounding.clone_from(&all);
    capabilities.permitted.clone_from(&all);
    capabilities.effective.clone_from(&all);
    let container = bed.sleeper(&own);
    let mut process = own.process.clone();
    process.args = super::bed::args(&[
        "/bin/sh",
        "-c",
        "umount /dev/pts && rm -r /dev/pts && mkdir /dev/pts && touch /dev/pts/ptmx",
    ]);
    assert_eq!(container.exec(&process).unwrap().code, 0);
    let mut process = spec(&["true"]).process;
    process.terminal = true;
    let error = container.exec(&process).unwrap_err().to_string();
    assert!(error.contains("open the terminal"), "{error}");
}

fn one_after_another() {
    let bed = Bed::new("exec-many");
    let container = bed.sleeper(&spec(&[]));
    for _ in 0..50 {
        assert_eq!(container.shell("exit 0").code, 0);
    }
}
