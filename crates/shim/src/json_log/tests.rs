use super::*;

fn escaped(text: &[u8]) -> String {
    let mut into = Vec::new();
    escape(&mut into, text);
    String::from_utf8(into).unwrap()
}

fn split(chunks: &[&[u8]]) -> Vec<(Vec<u8>, bool)> {
    let mut splitter = Splitter::default();
    let mut all = Vec::new();
    for chunk in chunks {
        splitter.feed(chunk, |piece| {
            all.push((piece.text.to_vec(), piece.line_end));
        });
    }
    splitter.finish(|piece| all.push((piece.text.to_vec(), piece.line_end)));
    all
}

#[test]
fn escapes_as_go_does() {
    assert_eq!(escaped(b"plain /~\x7f"), "plain /~\x7f");
    assert_eq!(escaped(b"\"\\\r\t\x00\x1b"), r#"\"\\\r\u0009\u0000\u001b"#);
    assert_eq!(escaped(b"<a&b>"), r"\u003ca\u0026b\u003e");
    assert_eq!(
        escaped("고래\u{2028}\u{2029}é".as_bytes()),
        "고래\\u2028\\u2029é"
    );
    assert_eq!(escaped(b"a\xffb\xe2\x80"), r"a\ufffdb\ufffd\ufffd");
}

#[test]
fn whatever_comes_is_valid_json_with_the_same_text() {
    let bytes: Vec<u8> = (0..=255).chain((0..=255).rev()).collect();
    let mut line = Vec::new();
    encode(
        &mut line,
        Piece {
            text: &bytes,
            line_end: true,
        },
        Output::Stderr,
        "T",
    );
    let value: serde_json::Value = serde_json::from_slice(&line).unwrap();
    assert_eq!(value["stream"], "stderr");
    assert!(value["log"].as_str().unwrap().ends_with('\n'));
}

#[test]
fn splits_lines_over_reads_and_cuts_long_ones() {
    let text = |s: &str, end| (s.as_bytes().to_vec(), end);
    assert_eq!(
        split(&[b"a\nb", b"c\n", b"\nd"]),
        [
            text("a", true),
            text("bc", true),
            text("", true),
            text("d", false)
        ]
    );

    let long = vec![b'x'; PIECE + 10];
    let parts = split(&[&long[..5], &long[5..], b"\n"]);
    assert_eq!(
        parts
            .iter()
            .map(|(t, end)| (t.len(), *end))
            .collect::<Vec<_>>(),
        [(PIECE, false), (10, true)]
    );

    let mut exact = vec![b'x'; PIECE];
    exact.push(b'\n');
    let lengths: Vec<_> = split(&[&exact])
        .iter()
        .map(|(t, end)| (t.len(), *end))
        .collect();
    assert_eq!(lengths, [(PIECE, false), (0, true)]);
}

fn push(log: &mut LogFile, text: &str) {
    log.push(
        Piece {
            text: text.as_bytes(),
            line_end: true,
        },
        Output::Stdout,
        "T",
    );
    log.flush();
}

#[test]
fn rotates_by_size_and_keeps_so_many_files() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("log");
    let mut log = LogFile::open(&path, Some(60), 3).unwrap();
    for number in 0..10 {
        push(&mut log, &format!("line {number}"));
    }
    let read = |name: &str| std::fs::read_to_string(dir.path().join(name)).unwrap();
    assert!(read("log").contains("line 9"));
    assert!(read("log.1").contains("line 7"));
    assert!(read("log.2").contains("line 5"));
    assert_eq!(std::fs::read_dir(dir.path()).unwrap().count(), 3);
    assert_eq!(log.lines_lost(), 0);
}

#[test]
fn with_one_file_it_starts_over() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("log");
    let mut log = LogFile::open(&path, Some(60), 1).unwrap();
    for number in 0..5 {
        push(&mut log, &format!("line {number}"));
    }
    let text = std::fs::read_to_string(&path).unwrap();
    assert!(text.contains("line 4") && !text.contains("line 1"));
    assert_eq!(std::fs::read_dir(dir.path()).unwrap().count(), 1);
}

#[test]
fn goes_on_after_the_file_was_moved_away() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("log");
    let mut log = LogFile::open(&path, None, 1).unwrap();
    push(&mut log, "one");
    std::fs::rename(&path, dir.path().join("moved")).unwrap();
    log.reopen().unwrap();
    push(&mut log, "two");
    let text = std::fs::read_to_string(&path).unwrap();
    assert!(text.contains("two") && !text.contains("one"));
}

#[test]
fn counts_what_a_full_disk_refuses() {
    let mut log = LogFile::open(Path::new("/dev/full"), None, 1).unwrap();
    push(&mut log, "one");
    push(&mut log, "two");
    assert_eq!(log.lines_lost(), 2);
    assert!(log.error().unwrap().contains("/dev/full"));
}

#[test]
fn refuses_a_log_that_is_a_symbolic_link() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("log");
    std::os::unix::fs::symlink("/dev/null", &path).unwrap();
    assert!(LogFile::open(&path, None, 1).is_err());
}
