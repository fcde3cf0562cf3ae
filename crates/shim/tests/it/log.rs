//! The log: rotation, compression, failures of the disk, and whom the container waits for.

use std::io::Write;
use std::net::Shutdown;
use std::path::Path;
use std::time::Duration;

use shim::{LogSink, Reply, Request};

use crate::fixture::{ALL, Fixture, log_sink, read_log, read_until, wait_until};

#[test]
fn rotates_the_log() {
    let mut fixture = Fixture::new(&["seq", "1", "1000"]);
    let path = fixture.log_path();
    fixture.order.log = log_sink(&path, Some(20_000), 3);
    fixture.start();
    let copy = fixture.folder.path().to_owned();
    let kept = tempfile::tempdir().unwrap();
    wait_until("the end", || fixture.dir().join("exit.json").exists());
    let mut lines = Vec::new();
    for name in ["json.log.2", "json.log.1", "json.log"] {
        let to = kept.path().join(name);
        std::fs::copy(copy.join("log").join(name), &to).unwrap();
        assert!(to.metadata().unwrap().len() < 20_200);
        lines.extend(read_log(&to).into_iter().map(|(text, _)| text));
    }
    let numbers: Vec<u32> = lines
        .iter()
        .map(|line| line.trim().parse().unwrap())
        .collect();
    assert_eq!(numbers.last(), Some(&1000));
    assert!(numbers.windows(2).all(|pair| pair[0] + 1 == pair[1]));
    assert_eq!(fixture.wait().code, 0);
}

#[test]
fn a_full_disk_costs_log_lines_and_nothing_else() {
    let (fixture, client) = Fixture::attached(&["sh", "-c", "echo a; echo b; read x"], |order| {
        order.open_stdin = true;
        order.stdin_once = true;
        order.log = log_sink(Path::new("/dev/full"), None, 1);
    });
    read_until(&client, "b\n");
    let state = fixture.state();
    assert_eq!(state.log_lines_lost, 2);
    assert!(state.log_error.unwrap().contains("/dev/full"));
    client.shutdown(Shutdown::Write).unwrap();
    assert_eq!(fixture.wait().code, 1);
}

#[test]
fn writes_to_a_new_log_after_the_old_one_was_moved() {
    let mut fixture = Fixture::new(&["cat"]);
    fixture.order.open_stdin = true;
    fixture.start();
    let client = fixture.attach(ALL);
    (&client).write_all(b"one\n").unwrap();
    read_until(&client, "one");
    let path = fixture.log_path();
    std::fs::rename(&path, path.with_extension("old")).unwrap();
    assert!(matches!(fixture.ask(&Request::ReopenLog), Reply::Ok));
    (&client).write_all(b"two\n").unwrap();
    read_until(&client, "two");
    assert_eq!(fixture.log(), [("two\n".to_owned(), "stdout".to_owned())]);
    fixture.kill(9);
    fixture.wait();
}

#[test]
fn compresses_what_it_has_rotated_when_nothing_else_is_to_be_done() {
    let mut fixture = Fixture::new(&["sh", "-c", "seq 1 3000; read x"]);
    fixture.order.open_stdin = true;
    let path = fixture.log_path();
    fixture.order.log = log_sink(&path, Some(50_000), 4);
    if let LogSink::File { settings, .. } = &mut fixture.order.log {
        settings.compress = true;
    }
    fixture.start();
    let gone = |name: &str| !path.with_file_name(name).exists();
    wait_until("the last line", || {
        last_line(&path).as_deref() == Some("3000")
    });
    wait_until("all files to be compressed", || {
        gone("json.log.1") && gone("json.log.2") && gone("json.log.3") && gone("json.log.gz.tmp")
    });
    let mut reader = logfile::Reader::open(&path, logfile::Format::Json).unwrap();
    let mut numbers = Vec::new();
    while let Some(record) = reader.read_next().unwrap() {
        let text = std::str::from_utf8(record.text).unwrap();
        numbers.push(text.parse::<u32>().unwrap());
    }
    assert_eq!(numbers.last(), Some(&3000));
    assert!(numbers.len() > 1500, "{}", numbers.len());
    assert!(numbers.windows(2).all(|pair| pair[0] + 1 == pair[1]));
    assert_eq!(fixture.state().log_error, None);
    fixture.kill(9);
    fixture.wait();
}

fn last_line(path: &Path) -> Option<String> {
    let mut reader = logfile::Reader::open(path, logfile::Format::Json).unwrap();
    reader.keep_last(1).unwrap();
    let record = reader.read_next().unwrap()?;
    Some(String::from_utf8_lossy(record.text).into_owned())
}

#[test]
fn waits_for_whoever_follows_the_log_where_that_was_asked() {
    const HOLD: u64 = 100_000;
    let mut fixture = Fixture::new(&["seq", "1", "100000"]);
    let path = fixture.log_path();
    fixture.order.log = log_sink(&path, None, 1);
    if let LogSink::File { hold, .. } = &mut fixture.order.log {
        *hold = Some(HOLD);
    }
    fixture.start();
    let size = || path.metadata().map_or(0, |metadata| metadata.len());
    wait_until("the bound", || size() >= HOLD);
    std::thread::sleep(Duration::from_millis(200));
    // a read of the pipe and its escapes more at most
    assert!(size() < HOLD + 500_000, "{}", size());
    let mut reader = logfile::Reader::open(&path, logfile::Format::Json).unwrap();
    let mut last = 0;
    while last < 100_000 {
        if let Some(record) = reader.read_next().unwrap() {
            let number = std::str::from_utf8(record.text).unwrap().parse().unwrap();
            assert_eq!(number, last + 1);
            last = number;
        } else if fixture.dir().join("shim.sock").exists() {
            let place = reader.position().unwrap();
            // it may end meanwhile
            if let Ok(connection) = shim::connect(fixture.dir()) {
                let _answer = shim::call(connection, &Request::LogFollowed(place), &[]);
            }
        }
    }
    assert_eq!(fixture.wait().code, 0);
}

#[test]
fn a_held_up_process_can_still_be_ended_and_its_last_words_are_kept() {
    let mut fixture = Fixture::new(&["seq", "1", "1000000"]);
    let path = fixture.log_path();
    fixture.order.log = log_sink(&path, None, 1);
    if let LogSink::File { hold, .. } = &mut fixture.order.log {
        *hold = Some(1);
    }
    fixture.start();
    wait_until("output", || path.metadata().is_ok_and(|m| m.len() > 0));
    fixture.kill(9);
    assert_eq!(fixture.wait().code, 137);
}
