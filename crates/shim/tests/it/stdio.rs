//! Output, input, terminals, clients that are slow or leave.

use std::io::{Read, Write};
use std::net::Shutdown;
use std::time::Duration;

use shim::{AttachOrder, LogSink, Reply, Request};

use crate::fixture::{ALL, Fixture, demultiplex, read_until, send_input, wait_until};

const OUT: AttachOrder = AttachOrder {
    stdin: false,
    stdout: true,
    stderr: true,
};

#[test]
fn gives_a_first_client_every_byte() {
    let script = "echo out; echo err >&2";
    let (fixture, client) = Fixture::attached(&["sh", "-c", script], |_| {});
    assert_eq!(demultiplex(&client), ("out\n".into(), "err\n".into()));
    assert_eq!(fixture.wait().code, 0);
}

#[test]
fn echoes_input_until_its_end() {
    let (fixture, client) = Fixture::attached(&["cat"], |order| {
        order.open_stdin = true;
        order.stdin_once = true;
    });
    let text = "hello\n".repeat(50_000);
    let writer = client.try_clone().unwrap();
    let sent = text.clone();
    let thread = std::thread::spawn(move || send_input(&writer, &sent));
    let (stdout, stderr) = demultiplex(&client);
    thread.join().unwrap();
    assert!(stdout == text, "{} bytes came back", stdout.len());
    assert_eq!(stderr, "");
    assert_eq!(fixture.wait().code, 0);
}

#[test]
fn without_open_stdin_there_is_no_input() {
    let (fixture, client) = Fixture::attached(&["cat"], |_| {});
    assert_eq!(demultiplex(&client), (String::new(), String::new()));
    assert_eq!(fixture.wait().code, 0);
}

#[test]
fn input_stays_open_for_the_next_client() {
    let mut fixture = Fixture::new(&["sh", "-c", "while read line; do echo got $line; done"]);
    fixture.order.open_stdin = true;
    fixture.start();
    for word in ["one", "two"] {
        let client = fixture.attach(ALL);
        (&client).write_all(format!("{word}\n").as_bytes()).unwrap();
        client.shutdown(Shutdown::Write).unwrap();
        read_until(&client, &format!("got {word}"));
    }
    assert!(matches!(fixture.ask(&Request::CloseStdin), Reply::Ok));
    assert_eq!(fixture.wait().code, 0);
}

#[test]
fn serves_several_clients_and_lets_them_leave() {
    let mut fixture = Fixture::new(&["cat"]);
    fixture.order.open_stdin = true;
    fixture.start();
    let (first, second) = (fixture.attach(OUT), fixture.attach(ALL));
    (&second).write_all(b"both\n").unwrap();
    read_until(&first, "both");
    read_until(&second, "both");
    drop(first);
    (&second).write_all(b"one\n").unwrap();
    read_until(&second, "one");
    fixture.kill(9);
    assert_eq!(fixture.wait().code, 137);
}

#[test]
fn a_terminal_is_raw_and_has_a_size() {
    let script = "stty size; read line; stty size; echo got $line; exit 3";
    let (fixture, client) = Fixture::attached(&["sh", "-c", script], |order| {
        order.open_stdin = true;
        order.order.spec.process.terminal = true;
        order.order.spec.process.console_size = Some(oci::runtime::ConsoleSize {
            height: 11,
            width: 22,
        });
    });
    read_until(&client, "11 22\r\n");
    let resize = Request::Resize {
        exec: None,
        height: 33,
        width: 44,
    };
    assert!(matches!(fixture.ask(&resize), Reply::Ok));
    (&client).write_all(b"word\n").unwrap();
    let mut rest = String::new();
    (&client).read_to_string(&mut rest).unwrap();
    assert_eq!(rest, "word\r\n33 44\r\ngot word\r\n");
    assert_eq!(fixture.wait().code, 3);
}

#[test]
fn a_slow_first_client_loses_nothing() {
    let (fixture, client) = Fixture::attached(&["seq", "1", "400000"], |order| {
        order.log = LogSink::None;
    });
    std::thread::sleep(Duration::from_millis(300));
    // The program waits for the client: it cannot have ended yet.
    assert_eq!(fixture.state().status, shim::Status::Running);
    let (stdout, _) = demultiplex(&client);
    assert_eq!(stdout.lines().count(), 400_000);
    assert!(stdout.ends_with("399999\n400000\n"));
    assert_eq!(fixture.wait().code, 0);
}

#[test]
fn a_client_that_does_not_read_cannot_put_off_the_end() {
    let (fixture, client) = Fixture::attached(&["yes"], |order| order.log = LogSink::None);
    // until all that lies in between is full
    std::thread::sleep(Duration::from_secs(2));
    fixture.kill(9);
    let exit = match fixture.event() {
        shim::Event::Exited(exit) => exit,
        other => panic!("unexpected event {other:?}"),
    };
    assert_eq!(exit.code, 137);
    wait_until("the cgroup to go", || fixture.cgroup().is_none());
    let (stdout, _) = demultiplex(&client);
    assert!(stdout.len() > 256 << 10);
}

#[test]
fn what_a_client_has_not_read_outlives_the_container() {
    let (fixture, client) = Fixture::attached(&["seq", "1", "20000"], |_| {});
    // Past the buffer of the socket, but not past the shim's.
    let exit = match fixture.event() {
        shim::Event::Exited(exit) => exit,
        other => panic!("unexpected event {other:?}"),
    };
    assert_eq!(exit.code, 0);
    wait_until("the cgroup to go", || fixture.cgroup().is_none());
    let (stdout, _) = demultiplex(&client);
    assert!(stdout.ends_with("\n20000\n"));
}
