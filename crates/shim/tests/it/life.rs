//! Signals, pauses, figures, an engine that dies and comes back.

use std::os::unix::net::UnixStream;

use shim::{ErrorKind, Event, Reply, Request, Status, call};

use crate::fixture::{Fixture, demultiplex, next_event, read_until, wait_until};

fn subscribe(fixture: &Fixture) -> UnixStream {
    let connection = fixture.connect();
    assert!(matches!(
        call(&connection, &Request::Subscribe, &[]).unwrap(),
        Reply::Ok
    ));
    connection
}

#[test]
fn hands_signals_to_init() {
    let script = "trap 'echo caught; exit 9' TERM; echo ready; while :; do sleep 0.05; done";
    let (fixture, client) = Fixture::attached(&["sh", "-c", script], |_| {});
    read_until(&client, "ready");
    fixture.kill(15);
    assert_eq!(demultiplex(&client).0, "caught\n");
    assert_eq!(fixture.wait().code, 9);
}

#[test]
fn refuses_signals_that_are_none() {
    let fixture = Fixture::running(&["sleep", "1000"]);
    for signal in [0, -1, 65] {
        let (kind, _) = fixture.refused(&Request::Kill { signal, exec: None });
        assert_eq!(kind, ErrorKind::InvalidInput);
    }
    fixture.kill(9);
    fixture.wait();
}

#[test]
fn outlives_the_engine_and_tells_the_next_one() {
    let mut fixture = Fixture::running(&["sh", "-c", "echo $PPID; sleep 1000"]);
    // The engine is gone: its end of control is closed.
    let (unused, _) = UnixStream::pair().unwrap();
    drop(std::mem::replace(&mut fixture.control, unused));
    let state = fixture.state();
    assert_eq!((state.status, state.pid), (Status::Running, fixture.pid));
    assert_eq!(state.shim_pid, fixture.child.id());
    assert!(state.started_at.is_some());

    let stream = fixture.exec("first", &["false"], crate::fixture::ALL);
    demultiplex(&stream);
    let subscriber = subscribe(&fixture);
    assert_eq!(
        next_event(&subscriber),
        Event::ExecExited {
            id: "first".into(),
            code: 1
        }
    );
    fixture.kill(9);
    fixture.control = subscriber;
    assert_eq!(fixture.wait().code, 137);
}

#[test]
fn a_signal_to_the_shim_ends_the_container_in_order() {
    let fixture = Fixture::running(&[
        "sh",
        "-c",
        "trap 'exit 4' TERM; while :; do sleep 0.05; done",
    ]);
    wait_until("the trap", || {
        let status = std::fs::read_to_string(format!("/proc/{}/status", fixture.pid)).unwrap();
        let line = status
            .lines()
            .find(|line| line.starts_with("SigCgt:"))
            .unwrap();
        u64::from_str_radix(line[7..].trim(), 16).unwrap() & (1 << 14) != 0
    });
    let shim = rustix::process::Pid::from_raw(fixture.child.id()).unwrap();
    rustix::process::kill_process(shim, rustix::process::Signal::TERM).unwrap();
    assert_eq!(fixture.wait().code, 4);
}

#[test]
fn a_killed_shim_takes_the_container_along() {
    let fixture = Fixture::running(&["sleep", "1000"]);
    fixture.child.kill().unwrap();
    fixture.child.wait().unwrap();
    let pid = fixture.pid;
    wait_until("init to die", || {
        std::fs::read_to_string(format!("/proc/{pid}/stat"))
            .map_or(true, |stat| stat.contains(") Z "))
    });
}

#[test]
fn pauses_and_resumes() {
    let fixture = Fixture::running(&["sleep", "1000"]);
    assert!(matches!(fixture.ask(&Request::Pause), Reply::Ok));
    assert_eq!(fixture.state().status, Status::Paused);
    let order = shim::ExecOrder {
        id: "x".into(),
        process: crate::fixture::process(&["true"]),
        streams: crate::fixture::ALL,
    };
    let (kind, message) = fixture.refused(&Request::Exec(Box::new(order)));
    assert_eq!(kind, ErrorKind::InvalidInput);
    assert!(message.contains("paused"));
    assert!(matches!(fixture.ask(&Request::Resume), Reply::Ok));
    assert_eq!(fixture.state().status, Status::Running);
    assert!(matches!(fixture.ask(&Request::Pause), Reply::Ok));
    fixture.kill(9);
    assert_eq!(fixture.wait().code, 137);
}

#[test]
fn tells_figures_and_processes_and_takes_limits() {
    let fixture = Fixture::running(&["sh", "-c", "sleep 1000; true"]);
    wait_until(
        "the second process",
        || matches!(fixture.ask(&Request::Processes), Reply::Processes(pids) if pids.len() == 2),
    );
    assert!(matches!(fixture.ask(&Request::Stats), Reply::Stats(_)));
    let resources = oci::runtime::Resources {
        pids: Some(oci::runtime::Pids { limit: 7 }),
        ..Default::default()
    };
    assert!(matches!(
        fixture.ask(&Request::Update(Box::new(resources))),
        Reply::Ok
    ));
    fixture.kill(9);
    fixture.wait();
}

#[test]
fn says_when_the_kernel_killed_for_memory() {
    let mut fixture = Fixture::new(&[
        "sh",
        "-c",
        "head -c 60000000 /dev/zero | sort >/dev/null; true",
    ]);
    std::os::unix::fs::symlink("busybox", fixture.folder.path().join("rootfs/bin/sort")).unwrap();
    fixture.order.order.spec.linux.resources.memory = Some(oci::runtime::Memory {
        limit: Some(8 << 20),
        swap: Some(8 << 20),
        ..Default::default()
    });
    fixture.start();
    assert!(fixture.wait().oom_killed);
}

#[test]
fn ends_everything_of_a_container_without_its_own_pids() {
    let mut fixture = Fixture::new(&["sh", "-c", "sleep 1000 & sleep 1000 & exit 3"]);
    let namespaces = &mut fixture.order.order.spec.linux.namespaces;
    namespaces.retain(|namespace| namespace.kind != oci::runtime::NamespaceKind::Pid);
    fixture.start();
    assert_eq!(fixture.wait().code, 3);
}

#[test]
fn closes_a_connection_that_talks_nonsense() {
    use std::io::{Read, Write};
    let fixture = Fixture::running(&["sleep", "1000"]);
    let connection = fixture.connect();
    (&connection).write_all(&[2, 0, 0, 0, b'{', b'}']).unwrap();
    let reply: Reply = shim::receive(&connection)
        .unwrap()
        .unwrap()
        .parse()
        .unwrap();
    assert!(matches!(reply, Reply::Error { .. }));
    assert_eq!((&connection).read(&mut [0]).unwrap(), 0);
    let connection = fixture.connect();
    (&connection).write_all(&[255; 4]).unwrap();
    assert_eq!((&connection).read(&mut [0]).unwrap(), 0);
    assert_eq!(fixture.state().status, Status::Running);
    fixture.kill(9);
    fixture.wait();
}
