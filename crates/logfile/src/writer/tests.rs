use std::path::Path;

use super::*;
use crate::Reader;

fn settings(path: &Path, max_size: Option<u64>, max_files: u32) -> Settings {
    Settings {
        path: path.into(),
        format: Format::Json,
        max_size,
        max_files,
        compress: false,
        attrs: String::new(),
        ring: 0,
    }
}

fn push(log: &mut LogFile, text: &str) {
    let piece = Piece {
        text: text.as_bytes(),
        line_end: true,
        ordinal: 0,
    };
    log.push(piece, Stream::Stdout);
    log.flush();
}

fn texts(reader: &mut Reader) -> Vec<String> {
    let mut all = Vec::new();
    while let Some(record) = reader.read_next().unwrap() {
        all.push(String::from_utf8_lossy(record.text).into_owned());
    }
    all
}

fn lines(numbers: impl Iterator<Item = u32>) -> Vec<String> {
    numbers.map(|number| format!("line {number}")).collect()
}

fn compress_all(log: &mut LogFile) {
    while log.wants_compression() {
        log.compress_some();
    }
    assert_eq!(log.error(), None);
}

fn names(folder: &Path) -> Vec<String> {
    let entries = std::fs::read_dir(folder).unwrap();
    let mut names: Vec<String> = entries
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .collect();
    names.sort();
    names
}

#[test]
fn rotates_by_size_and_keeps_so_many_files() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("log");
    let mut log = LogFile::open(settings(&path, Some(100), 3)).unwrap();
    for number in 0..10 {
        push(&mut log, &format!("line {number}"));
    }
    let read = |name: &str| std::fs::read_to_string(dir.path().join(name)).unwrap();
    assert!(read("log").contains("line 9"));
    assert!(read("log.1").contains("line 7"));
    assert!(read("log.2").contains("line 5"));
    assert_eq!(names(dir.path()), ["log", "log.1", "log.2"]);
    assert_eq!(log.records_lost(), 0);
}

#[test]
fn with_one_file_it_starts_over_and_a_reader_loses_nothing() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("log");
    let mut log = LogFile::open(settings(&path, Some(60), 1)).unwrap();
    let mut reader = Reader::open(&path, Format::Json).unwrap();
    let mut seen = Vec::new();
    for number in 0..5 {
        push(&mut log, &format!("line {number}"));
        seen.extend(texts(&mut reader));
    }
    assert_eq!(seen, lines(0..5));
    let text = std::fs::read_to_string(&path).unwrap();
    assert!(text.contains("line 4") && !text.contains("line 1"));
    assert_eq!(names(dir.path()), ["log"]);
}

#[test]
fn goes_on_after_the_file_was_moved_away() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("log");
    let mut log = LogFile::open(settings(&path, None, 1)).unwrap();
    push(&mut log, "one");
    std::fs::rename(&path, dir.path().join("moved")).unwrap();
    log.reopen().unwrap();
    push(&mut log, "two");
    let text = std::fs::read_to_string(&path).unwrap();
    assert!(text.contains("two") && !text.contains("one"));
}

#[test]
fn counts_what_a_full_disk_refuses() {
    let mut log = LogFile::open(settings(Path::new("/dev/full"), None, 1)).unwrap();
    push(&mut log, "one");
    push(&mut log, "two");
    assert_eq!(log.records_lost(), 2);
    assert!(log.error().unwrap().contains("/dev/full"));
}

#[test]
fn a_ring_keeps_the_newest_while_the_disk_is_full() {
    let mut log = LogFile::open(Settings {
        ring: 250,
        ..settings(Path::new("/dev/full"), None, 1)
    })
    .unwrap();
    for number in 0..10 {
        push(&mut log, &format!("line {number}"));
    }
    assert!(log.is_waiting());
    assert_eq!(log.records_lost(), 7);
    let dir = tempfile::tempdir().unwrap();
    log.settings.path = dir.path().join("log");
    log.reopen().unwrap();
    log.flush();
    assert!(!log.is_waiting());
    let mut reader = Reader::open(&log.settings.path, Format::Json).unwrap();
    assert_eq!(texts(&mut reader), lines(7..10));
}

#[test]
fn refuses_a_log_that_is_a_symbolic_link() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("log");
    std::os::unix::fs::symlink("/dev/null", &path).unwrap();
    assert!(LogFile::open(settings(&path, None, 1)).is_err());
}

#[test]
fn a_cut_record_is_left_out_and_the_next_is_whole() {
    for format in [Format::Json, Format::Local] {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("log");
        let settings = Settings {
            format,
            ..settings(&path, None, 1)
        };
        let mut log = LogFile::open(settings.clone()).unwrap();
        push(&mut log, "one");
        push(&mut log, "two");
        let file = File::options().write(true).open(&path).unwrap();
        file.set_len(file.metadata().unwrap().len() - 5).unwrap();
        let mut log = LogFile::open(settings).unwrap();
        push(&mut log, "three");
        let mut reader = Reader::open(&path, format).unwrap();
        assert_eq!(texts(&mut reader), ["one", "three"], "{format:?}");
    }
}

#[test]
fn rotated_files_are_compressed_and_read_on() {
    for format in [Format::Json, Format::Local] {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("log");
        let mut log = LogFile::open(Settings {
            format,
            compress: true,
            ..settings(&path, Some(90), 4)
        })
        .unwrap();
        let mut slow = Reader::open(&path, format).unwrap();
        for number in 0..100 {
            push(&mut log, &format!("line {number}"));
            if number == 0 {
                assert_eq!(slow.read_next().unwrap().unwrap().text, b"line 0");
            }
            if number % 3 == 0 {
                log.compress_some();
            }
            if number % 7 == 0 {
                compress_all(&mut log);
            }
        }
        compress_all(&mut log);
        assert_eq!(
            names(dir.path()),
            ["log", "log.1.gz", "log.2.gz", "log.3.gz"]
        );
        let mut reader = Reader::open(&path, format).unwrap();
        let all = texts(&mut reader);
        assert!(all.len() >= 7, "{all:?}");
        let first = u32::try_from(100 - all.len()).unwrap();
        assert_eq!(all, lines(first..100));
        for wanted in 0..=all.len() {
            let mut reader = Reader::open(&path, format).unwrap();
            reader.keep_last(wanted as u64).unwrap();
            assert_eq!(texts(&mut reader), all[all.len() - wanted..], "{wanted}");
        }
        let rest = texts(&mut slow);
        assert!(slow.take_missed(), "it was a hundred records late");
        assert!(rest.ends_with(&all));
    }
}

#[test]
fn a_position_outlives_rotation_and_compression() {
    for format in [Format::Json, Format::Local] {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("log");
        let mut log = LogFile::open(Settings {
            format,
            compress: true,
            ..settings(&path, Some(200), 6)
        })
        .unwrap();
        let mut reader = Reader::open(&path, format).unwrap();
        assert_eq!(reader.position(), None);
        let mut place = None;
        for number in 0..13 {
            push(&mut log, &format!("line {number}"));
            // a reader that is opened anew for each record
            let mut reader = Reader::open(&path, format).unwrap();
            if let Some(place) = &place {
                assert!(reader.go_behind(place).unwrap());
            }
            let record = reader.read_next().unwrap().unwrap();
            assert_eq!(record.text, format!("line {number}").as_bytes());
            place = reader.position();
            log.followed(&place.unwrap());
            assert_eq!(log.behind(), 0);
            compress_all(&mut log);
        }
        for number in 13..16 {
            push(&mut log, &format!("line {number}"));
        }
        assert!(log.behind() > 0);
        compress_all(&mut log);
        let mut reader = Reader::open(&path, format).unwrap();
        assert!(reader.go_behind(&place.unwrap()).unwrap());
        assert!(reader.behind() > 0);
        assert_eq!(texts(&mut reader), lines(13..16));
        assert_eq!(reader.behind(), 0);
        let nowhere = Position { file: 1, offset: 1 };
        let mut reader = Reader::open(&path, format).unwrap();
        assert!(!reader.go_behind(&nowhere).unwrap());
    }
}

#[test]
fn times_are_all_different_and_in_order() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("log");
    let mut log = LogFile::open(settings(&path, None, 1)).unwrap();
    for _ in 0..1000 {
        let piece = Piece {
            text: b"y",
            line_end: true,
            ordinal: 0,
        };
        log.push(piece, Stream::Stdout);
    }
    log.flush();
    let mut reader = Reader::open(&path, Format::Json).unwrap();
    let mut last = 0;
    while let Some(record) = reader.read_next().unwrap() {
        assert!(record.time > last);
        last = record.time;
    }
}

#[test]
fn a_log_that_was_emptied_by_hand_is_read_from_its_new_start() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("log");
    let mut log = LogFile::open(settings(&path, None, 1)).unwrap();
    let mut reader = Reader::open(&path, Format::Json).unwrap();
    push(&mut log, "a long first line");
    assert_eq!(texts(&mut reader), ["a long first line"]);
    File::create(&path).unwrap();
    push(&mut log, "b");
    assert_eq!(texts(&mut reader), ["b"]);
}

#[test]
fn lines_of_no_end_and_rubbish_are_passed_over() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("log");
    let mut text = vec![b'x'; 3 << 20];
    text.extend_from_slice(b"\nrubbish\n");
    text.extend_from_slice(br#"{"log":"ok\n","stream":"stdout","time":"2026-01-01T00:00:00Z"}"#);
    text.push(b'\n');
    std::fs::write(&path, text).unwrap();
    let mut reader = Reader::open(&path, Format::Json).unwrap();
    assert_eq!(texts(&mut reader), ["ok"]);
    let mut reader = Reader::open(&path, Format::Local).unwrap();
    assert_eq!(texts(&mut reader), [""; 0]);
}
