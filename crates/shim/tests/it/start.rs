//! Starting, and failing to.

use std::path::Path;

use shim::{ErrorKind, Reply, Request, Status, call};

use crate::fixture::{Fixture, prepare_request, wait_until};

#[test]
fn runs_a_program_to_its_end() {
    let fixture = Fixture::running(&["sh", "-c", "echo out; echo err >&2; printf half; exit 7"]);
    let log = fixture.log_path();
    let folder = fixture.folder.path().to_owned();
    let copy = folder.with_extension("log");
    std::fs::hard_link(log, &copy).unwrap();
    let exit = fixture.wait();
    assert_eq!(exit.code, 7);
    assert!(!exit.oom_killed);
    assert!(exit.started_at < exit.finished_at);
    let mut log = crate::fixture::read_log(&copy);
    std::fs::remove_file(copy).unwrap();
    log.sort();
    let record = |text: &str, stream: &str| (text.to_owned(), stream.to_owned());
    assert_eq!(
        log,
        [
            record("err\n", "stderr"),
            record("half", "stdout"),
            record("out\n", "stdout")
        ]
    );
}

#[test]
fn starts_warm_and_renames_the_cgroup() {
    let mut fixture = Fixture::new(&["sleep", "1000"]);
    let reply = call(&fixture.control, &prepare_request(&fixture.order), &[]).unwrap();
    assert!(matches!(reply, Reply::Prepared { .. }));
    fixture.start();
    assert_eq!(fixture.state().status, Status::Running);
    assert_eq!(fixture.cgroup().unwrap().pids().unwrap(), [fixture.pid]);
    fixture.kill(9);
    assert_eq!(fixture.wait().code, 137);
}

#[test]
fn tells_a_missing_program_from_one_that_cannot_run() {
    for (program, kind) in [
        ("nothing-here", ErrorKind::NotFound),
        ("/bin/nothing-here", ErrorKind::NotFound),
        ("/etc/plain", ErrorKind::NotExecutable),
        ("/etc", ErrorKind::NotExecutable),
    ] {
        let mut fixture = Fixture::new(&[program]);
        let (found, message) = fixture.start_fails();
        assert_eq!(found, kind, "{program}: {message}");
        assert!(message.contains(program), "{message}");
        fixture.check_gone();
    }
}

#[test]
fn leaves_nothing_of_a_start_that_fails_on_the_way() {
    let mut fixture = Fixture::new(&["true"]);
    fixture.order.order.spec.mounts[1].kind = Some("no-such-file-system".into());
    let (_, message) = fixture.start_fails();
    assert!(message.contains("no-such-file-system"), "{message}");
    fixture.check_gone();
}

#[test]
fn refuses_a_log_that_cannot_be_made() {
    let mut fixture = Fixture::new(&["true"]);
    std::fs::remove_dir(fixture.folder.path().join("log")).unwrap();
    let (_, message) = fixture.start_fails();
    assert!(message.contains("log"), "{message}");
    fixture.check_gone();
}

#[test]
fn ends_when_nobody_wants_it_any_more() {
    let mut fixture = Fixture::new(&["true"]);
    let reply = call(&fixture.control, &prepare_request(&fixture.order), &[]).unwrap();
    assert!(matches!(reply, Reply::Prepared { .. }));
    fixture.order.order.spec.linux.cgroups_path = fixture
        .order
        .order
        .spec
        .linux
        .cgroups_path
        .clone()
        .map(|path| path.with_extension("warm"));
    assert!(fixture.cgroup().is_some());
    fixture.control.shutdown(std::net::Shutdown::Both).unwrap();
    wait_until("the shim to end", || fixture.child.has_ended().unwrap());
    wait_until("the cgroup to go", || fixture.cgroup().is_none());
}

#[test]
fn takes_orders_to_start_from_control_only_and_once() {
    let mut fixture = Fixture::new(&["sleep", "1000"]);
    assert!(call(&fixture.control, &Request::Stats, &[]).is_err());
    fixture.start();
    let (kind, _) = fixture.refused(&Request::Run(Box::new(fixture.order.clone())));
    assert_eq!(kind, ErrorKind::InvalidInput);
    let mode = |path: &Path| {
        use std::os::unix::fs::PermissionsExt;
        path.metadata().unwrap().permissions().mode() & 0o777
    };
    assert_eq!(mode(fixture.dir()), 0o700);
    assert_eq!(mode(&fixture.dir().join("shim.sock")), 0o600);
    fixture.kill(9);
    fixture.wait();
}
