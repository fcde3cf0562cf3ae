//! More processes in a running container.

use std::io::Read;
use std::io::Write;
use std::os::fd::AsFd;
use std::os::unix::net::UnixStream;

use shim::{AttachOrder, ErrorKind, Event, ExecOrder, Reply, Request, call};

use crate::fixture::{ALL, Fixture, demultiplex, process, read_until, send_input, wait_until};

#[test]
fn runs_and_tells_the_code() {
    let fixture = Fixture::running(&["sleep", "1000"]);
    let stream = fixture.exec("one", &["sh", "-c", "echo out; echo err >&2; exit 5"], ALL);
    assert_eq!(demultiplex(&stream), ("out\n".into(), "err\n".into()));
    assert_eq!(
        fixture.event(),
        Event::ExecExited {
            id: "one".into(),
            code: 5
        }
    );
    assert!(fixture.state().execs.is_empty());
    fixture.kill(9);
    assert_eq!(fixture.wait().code, 137);
}

#[test]
fn is_inside_the_container() {
    let fixture = Fixture::running(&["sleep", "1000"]);
    let stream = fixture.exec("ps", &["ps", "-o", "pid,args"], ALL);
    let (stdout, _) = demultiplex(&stream);
    assert!(stdout.contains("1 sleep 1000"), "{stdout}");
    fixture.kill(9);
    fixture.wait();
}

#[test]
fn many_run_at_once_with_their_own_streams() {
    let fixture = Fixture::running(&["sleep", "1000"]);
    let names: Vec<String> = (0..20).map(|number| format!("exec-{number}")).collect();
    let streams: Vec<_> = names
        .iter()
        .map(|name| fixture.exec(name, &["cat"], ALL))
        .collect();
    assert_eq!(fixture.state().execs.len(), 20);
    for (name, stream) in names.iter().zip(&streams) {
        send_input(stream, name);
    }
    for (name, stream) in names.iter().zip(&streams) {
        assert_eq!(demultiplex(stream), (name.clone(), String::new()));
    }
    fixture.kill(9);
    fixture.wait();
}

#[test]
fn has_a_terminal_of_its_own() {
    let fixture = Fixture::running(&["sleep", "1000"]);
    let mut process = process(&["sh", "-c", "tty; read line; stty size; exit 4"]);
    process.terminal = true;
    let stream = fixture.exec_order(ExecOrder {
        id: "tty".into(),
        process,
        streams: ALL,
    });
    read_until(&stream, "/dev/");
    let resize = Request::Resize {
        exec: Some("tty".into()),
        height: 12,
        width: 34,
    };
    assert!(matches!(fixture.ask(&resize), Reply::Ok));
    (&stream).write_all(b"\n").unwrap();
    read_until(&stream, "12 34");
    let mut rest = String::new();
    (&stream).read_to_string(&mut rest).unwrap();
    assert_eq!(
        fixture.event(),
        Event::ExecExited {
            id: "tty".into(),
            code: 4
        }
    );
    fixture.kill(9);
    fixture.wait();
}

#[test]
fn says_why_it_cannot_run() {
    let fixture = Fixture::running(&["sleep", "1000"]);
    for (program, kind) in [
        ("nothing-here", ErrorKind::NotFound),
        ("/etc/plain", ErrorKind::NotExecutable),
    ] {
        let order = ExecOrder {
            id: "x".into(),
            process: process(&[program]),
            streams: ALL,
        };
        let (found, message) = fixture.refused(&Request::Exec(Box::new(order)));
        assert_eq!(found, kind, "{message}");
        assert!(message.contains(program), "{message}");
    }
    assert!(fixture.state().execs.is_empty());
    fixture.kill(9);
    fixture.wait();
}

#[test]
fn takes_a_stream_as_an_fd_and_keeps_the_connection() {
    let fixture = Fixture::running(&["sleep", "1000"]);
    let (ours, theirs) = UnixStream::pair().unwrap();
    let connection = fixture.connect();
    let order = ExecOrder {
        id: "fd".into(),
        process: process(&["echo", "hi"]),
        streams: ALL,
    };
    let request = Request::Exec(Box::new(order.clone()));
    assert!(matches!(
        call(&connection, &request, &[theirs.as_fd()]).unwrap(),
        Reply::Exec { .. }
    ));
    drop(theirs);
    assert_eq!(demultiplex(&ours).0, "hi\n");
    assert!(matches!(
        call(&connection, &Request::State, &[]).unwrap(),
        Reply::State(_)
    ));
    // Control is subscribed, so its next frame is the event; and it cannot be given away.
    assert_eq!(
        fixture.event(),
        Event::ExecExited {
            id: "fd".into(),
            code: 0
        }
    );
    assert!(call(&fixture.control, &Request::Exec(Box::new(order)), &[]).is_err());
    drop(connection);
    fixture.kill(9);
    fixture.wait();
}

#[test]
fn without_streams_it_runs_in_the_background_and_can_be_killed() {
    let fixture = Fixture::running(&["sleep", "1000"]);
    let connection = fixture.connect();
    let order = ExecOrder {
        id: "quiet".into(),
        process: process(&["sleep", "1000"]),
        streams: AttachOrder::default(),
    };
    assert!(call(&connection, &Request::Exec(Box::new(order.clone())), &[]).is_ok());
    let (kind, _) = fixture.refused(&Request::Exec(Box::new(order)));
    assert_eq!(kind, ErrorKind::InvalidInput);
    let kill = Request::Kill {
        signal: 15,
        exec: Some("quiet".into()),
    };
    assert!(matches!(call(&connection, &kill, &[]).unwrap(), Reply::Ok));
    assert_eq!(
        fixture.event(),
        Event::ExecExited {
            id: "quiet".into(),
            code: 143
        }
    );
    assert_eq!(fixture.refused(&kill).0, ErrorKind::NoSuchProcess);
    fixture.kill(9);
    fixture.wait();
}

#[test]
fn a_child_that_holds_the_pipe_does_not_hold_the_client() {
    let fixture = Fixture::running(&["sleep", "1000"]);
    let stream = fixture.exec("bg", &["sh", "-c", "sleep 1000 & echo started"], ALL);
    assert_eq!(demultiplex(&stream).0, "started\n");
    wait_until("the orphan", || {
        fixture.cgroup().unwrap().pids().unwrap().len() == 2
    });
    fixture.kill(9);
    assert_eq!(fixture.wait().code, 137);
}

#[test]
fn ends_with_the_container() {
    let fixture = Fixture::running(&["sleep", "1000"]);
    let stream = fixture.exec("long", &["sleep", "1000"], ALL);
    fixture.kill(9);
    assert_eq!(demultiplex(&stream), (String::new(), String::new()));
    assert_eq!(
        fixture.event(),
        Event::ExecExited {
            id: "long".into(),
            code: 137
        }
    );
    assert_eq!(fixture.wait().code, 137);
}
