//! Starts that fail: their words, their kinds, and that nothing is left.

use std::fs;
use std::os::unix::fs::PermissionsExt as _;

use oci::runtime::NamespaceKind;
use runtime::{CreateError, FailureKind, Fds, PrepareOptions, prepare};

use super::Test;
use super::bed::{Bed, args, mount, spec};

pub(crate) const TESTS: &[Test] = &[
    ("failures::programs", programs),
    ("failures::what_execve_refuses", what_execve_refuses),
    ("failures::a_missing_source", a_missing_source),
    ("failures::a_missing_layer", a_missing_layer),
    ("failures::an_unknown_option", an_unknown_option),
    ("failures::a_directory_on_a_file", a_directory_on_a_file),
    ("failures::nul_bytes", nul_bytes),
    ("failures::a_stage_that_is_dropped", a_stage_that_is_dropped),
    (
        "failures::a_container_that_is_never_started",
        a_container_that_is_never_started,
    ),
    (
        "failures::other_namespaces_than_prepared",
        other_namespaces_than_prepared,
    ),
    ("failures::two_threads", two_threads),
    ("failures::a_stage_that_is_killed", a_stage_that_is_killed),
];

#[track_caller]
fn check(words: &[&str], kind: FailureKind, message: &str) {
    let bed = Bed::new("program");
    fs::write(bed.image("etc/data"), "text").unwrap();
    let error = bed.create(&spec(words), Fds::default()).unwrap_err();
    assert_eq!(error.to_string(), message);
    assert_eq!(error.kind(), kind);
    assert!(bed.leftovers().is_empty());
}

fn programs() {
    use FailureKind::{InvalidInput, NotFound, PermissionDenied};
    let text = "exec: \"foo\": executable file not found in $PATH";
    check(&["foo"], NotFound, text);
    let text = "exec: \"/x\": stat /x: no such file or directory";
    check(&["/x"], NotFound, text);
    let text = "exec: \"/etc/data\": permission denied";
    check(&["/etc/data"], PermissionDenied, text);
    let text = "exec: \"/etc\": is a directory";
    check(&["/etc"], PermissionDenied, text);
    let text = "exec: \"./bin/none\": stat ./bin/none: no such file or directory";
    check(&["./bin/none"], NotFound, text);
    check(&[], InvalidInput, "invalid process: args must not be empty");
    check(
        &[""],
        InvalidInput,
        "invalid process: args must not be empty",
    );
}

fn what_execve_refuses() {
    let cases = [
        (
            "\u{7f}no program",
            FailureKind::Other,
            "exec /etc/data: exec format error",
        ),
        (
            "#!/bin/none\n",
            FailureKind::NotFound,
            "exec /etc/data: no such file or directory",
        ),
    ];
    for (content, kind, message) in cases {
        let bed = Bed::new("format");
        fs::write(bed.image("etc/data"), content).unwrap();
        let mode = fs::Permissions::from_mode(0o755);
        fs::set_permissions(bed.image("etc/data"), mode).unwrap();
        let created = bed.create(&spec(&["/etc/data"]), Fds::default()).unwrap();
        let error = created.start().unwrap_err();
        assert_eq!(error.to_string(), message);
        assert_eq!(error.kind(), kind);
        assert!(bed.leftovers().is_empty());
    }
}

fn a_missing_source() {
    let bed = Bed::new("source");
    let mut spec = spec(&["true"]);
    spec.mounts
        .push(mount("/data", "bind", "/nonexistent", &["rbind"]));
    let error = bed.create(&spec, Fds::default()).unwrap_err();
    assert!(matches!(error, CreateError::Source { .. }), "{error:?}");
    assert!(bed.leftovers().is_empty());
}

fn stage_message(error: CreateError) -> String {
    match error {
        CreateError::Stage(failure) => failure.message,
        other => panic!("{other:?}"),
    }
}

fn a_missing_layer() {
    let bed = Bed::new("layer");
    fs::remove_dir_all(bed.path("lower")).unwrap();
    let error = bed.create(&spec(&["true"]), Fds::default()).unwrap_err();
    let message = stage_message(error);
    assert!(message.contains("lowerdir+"), "{message}");
    assert!(message.ends_with("no such file or directory"), "{message}");
}

fn an_unknown_option() {
    let bed = Bed::new("option");
    let mut spec = spec(&["true"]);
    spec.mounts
        .push(mount("/t", "tmpfs", "tmpfs", &["colour=blue"]));
    let message = stage_message(bed.create(&spec, Fds::default()).unwrap_err());
    assert!(message.contains("Unknown parameter 'colour'"), "{message}");
    spec.mounts.pop();
    spec.mounts.push(mount("/t", "nosuchfs", "x", &[]));
    let message = stage_message(bed.create(&spec, Fds::default()).unwrap_err());
    assert!(message.contains("\"nosuchfs\""), "{message}");
}

fn a_directory_on_a_file() {
    let bed = Bed::new("kinds");
    let mut spec = spec(&["true"]);
    spec.mounts
        .push(mount("/etc/passwd", "bind", "/var/tmp", &["rbind"]));
    let message = stage_message(bed.create(&spec, Fds::default()).unwrap_err());
    assert!(message.ends_with("not a directory"), "{message}");
}

fn nul_bytes() {
    let bed = Bed::new("nul");
    let mut spec = spec(&["true", "a\0b"]);
    let error = bed.create(&spec, Fds::default()).unwrap_err();
    assert_eq!(error.kind(), FailureKind::InvalidInput);
    spec.process.args = args(&["true"]);
    spec.process.env.push("A=\0".to_owned());
    let error = bed.create(&spec, Fds::default()).unwrap_err();
    assert_eq!(error.kind(), FailureKind::InvalidInput);
}

fn is_alive(pid: i32) -> bool {
    fs::exists(format!("/proc/{pid}")).unwrap()
}

fn a_stage_that_is_dropped() {
    let bed = Bed::new("dropped");
    let prepared = bed.prepare(&spec(&["true"]));
    let pid = prepared.pid();
    assert!(is_alive(pid) && !bed.leftovers().is_empty());
    drop(prepared);
    assert!(!is_alive(pid) && bed.leftovers().is_empty());
}

fn a_container_that_is_never_started() {
    let bed = Bed::new("unstarted");
    let created = bed.create(&spec(&["true"]), Fds::default()).unwrap();
    let pid = created.pid;
    assert!(is_alive(pid));
    drop(created);
    assert!(!is_alive(pid) && bed.leftovers().is_empty());
}

fn other_namespaces_than_prepared() {
    let bed = Bed::new("mismatch");
    let mut spec = spec(&["true"]);
    let prepared = bed.prepare(&spec);
    let is_pid = |kind| kind == NamespaceKind::Pid;
    spec.linux
        .namespaces
        .retain(|namespace| !is_pid(namespace.kind));
    let error = prepared
        .create(&bed.order(spec), Fds::default())
        .unwrap_err();
    assert!(matches!(
        error,
        CreateError::Mismatch {
            kind: NamespaceKind::Pid
        }
    ));
    assert!(bed.leftovers().is_empty());
}

fn two_threads() {
    let bed = Bed::new("threads");
    let (sender, receiver) = std::sync::mpsc::channel::<()>();
    let other = std::thread::spawn(move || receiver.recv());
    let options = PrepareOptions::for_spec(&spec(&["true"]), bed.cgroup.clone());
    assert!(prepare(&options).is_err());
    drop(sender);
    let _ended = other.join().unwrap();
    assert!(bed.leftovers().is_empty());
}

fn a_stage_that_is_killed() {
    let bed = Bed::new("killed");
    let prepared = bed.prepare(&spec(&["true"]));
    let kill = rustix::process::Signal::KILL;
    rustix::process::pidfd_send_signal(prepared.pidfd().unwrap(), kill).unwrap();
    let error = prepared
        .create(&bed.order(spec(&["true"])), Fds::default())
        .unwrap_err();
    let died = matches!(error, CreateError::Died { .. } | CreateError::Cgroup { .. });
    assert!(died, "{error:?}");
    assert!(bed.leftovers().is_empty());
}
