use super::*;
use std::fs::File;
use std::io::Write;
use std::path::PathBuf;

struct Log {
    dir: tempfile::TempDir,
    phase: watch::Sender<Phase>,
    watch: LogWatch,
}

impl Log {
    fn new() -> Self {
        Self {
            dir: tempfile::tempdir().unwrap(),
            phase: watch::channel(Phase::running()).0,
            watch: LogWatch::default(),
        }
    }

    fn path(&self) -> PathBuf {
        self.dir.path().join("x-json.log")
    }

    fn write(&self, from: u32, to: u32) {
        let mut file = File::options()
            .append(true)
            .create(true)
            .open(self.path())
            .unwrap();
        for n in from..to {
            let stream = if n % 10 == 9 { "stderr" } else { "stdout" };
            writeln!(
                file,
                r#"{{"log":"line {n}\n","stream":"{stream}","time":"2026-01-01T00:00:{:02}Z"}}"#,
                n % 60
            )
            .unwrap();
        }
    }

    fn open(&self, options: &Logs) -> LogReader {
        let both = Logs {
            stdout: true,
            stderr: true,
            ..options.clone()
        };
        LogReader::open(
            (&self.path(), Format::Json),
            true,
            &both,
            Following::Container,
            self.phase.subscribe(),
            &self.watch,
        )
        .unwrap()
    }
}

async fn all(mut reader: LogReader) -> String {
    let mut text = Vec::new();
    while let Some(chunk) = reader.next().await.unwrap() {
        text.extend_from_slice(&chunk);
    }
    String::from_utf8(text).unwrap()
}

#[tokio::test]
async fn tail_crosses_rotated_files() {
    let log = Log::new();
    log.write(0, 10);
    std::fs::rename(log.path(), log.dir.path().join("x-json.log.1")).unwrap();
    log.write(10, 13);
    assert_eq!(all(log.open(&Logs::default())).await.lines().count(), 13);
    let tail = all(log.open(&Logs {
        tail: Some(5),
        ..Logs::default()
    }))
    .await;
    assert_eq!(tail, "line 8\nline 9\nline 10\nline 11\nline 12\n");
    assert_eq!(
        all(log.open(&Logs {
            tail: Some(0),
            ..Logs::default()
        }))
        .await,
        ""
    );
}

#[tokio::test]
async fn until_and_since_bound_the_lines() {
    let log = Log::new();
    log.write(0, 10);
    let options = Logs {
        since: api::query::Timestamp::parse("1767225603").unwrap(),
        until: api::query::Timestamp::parse("1767225604.0").unwrap(),
        timestamps: true,
        ..Logs::default()
    };
    let text = all(log.open(&options)).await;
    assert_eq!(
        text,
        "2026-01-01T00:00:03.000000000Z line 3\n2026-01-01T00:00:04.000000000Z line 4\n"
    );
}

#[tokio::test]
async fn following_survives_a_rotation_and_ends_with_the_container() {
    let log = Log::new();
    log.write(0, 2);
    let reader = log.open(&Logs {
        follow: true,
        ..Logs::default()
    });
    let read = tokio::spawn(all(reader));
    tokio::time::sleep(std::time::Duration::from_millis(50)).await;
    std::fs::rename(log.path(), log.dir.path().join("x-json.log.1")).unwrap();
    log.write(2, 4);
    tokio::time::sleep(std::time::Duration::from_millis(50)).await;
    log.write(4, 5);
    log.phase.send_replace(Phase::over());
    assert_eq!(read.await.unwrap().lines().count(), 5);
}

#[test]
fn details_are_those_of_the_last_record() {
    let mut details = Details::default();
    let attrs = br#"{"tag":"a/b c","X":"1 2","a":"b"}"#;
    assert_eq!(details.of(attrs), b"X=1+2,a=b,tag=a%2Fb+c");
    assert_eq!(details.of(attrs), b"X=1+2,a=b,tag=a%2Fb+c");
    assert_eq!(details.of(b""), b"");
}

#[tokio::test]
async fn frames_details_and_times_are_as_dockers() {
    let log = Log::new();
    let line =
        r#"{"log":"hi\n","stream":"stderr","attrs":{"a":"b"},"time":"2026-01-01T00:00:00.5Z"}"#;
    std::fs::write(log.path(), format!("{line}\n")).unwrap();
    let options = Logs {
        stderr: true,
        details: true,
        timestamps: true,
        ..Logs::default()
    };
    let mut reader = LogReader::open(
        (&log.path(), Format::Json),
        false,
        &options,
        Following::Run,
        log.phase.subscribe(),
        &log.watch,
    )
    .unwrap();
    let chunk = reader.next().await.unwrap().unwrap();
    let text = b"2026-01-01T00:00:00.500000000Z a=b hi\n";
    assert_eq!(chunk[..HEADER], [2, 0, 0, 0, 0, 0, 0, 38]);
    assert_eq!(chunk[HEADER..], text[..]);
    assert!(reader.next().await.unwrap().is_none());
}

#[tokio::test]
async fn following_ends_at_the_last_wanted_time() {
    let log = Log::new();
    log.write(0, 2);
    let soon = jiff::Timestamp::now() + Duration::from_millis(200);
    let text = format!("{}.{:09}", soon.as_second(), soon.subsec_nanosecond());
    let options = Logs {
        follow: true,
        until: api::query::Timestamp::parse(&text).unwrap(),
        ..Logs::default()
    };
    let reader = log.open(&options);
    let read = tokio::time::timeout(Duration::from_secs(10), all(reader));
    assert_eq!(read.await.unwrap().lines().count(), 2);
}

#[tokio::test]
async fn a_run_is_followed_to_its_end_and_no_further() {
    let log = Log::new();
    log.write(0, 2);
    let options = Logs {
        follow: true,
        stdout: true,
        ..Logs::default()
    };
    for (following, lines) in [(Following::Run, 2), (Following::Container, 4)] {
        let reader = LogReader::open(
            (&log.path(), Format::Json),
            true,
            &options,
            following,
            log.phase.subscribe(),
            &log.watch,
        );
        let read = tokio::spawn(all(reader.unwrap()));
        tokio::time::sleep(Duration::from_millis(50)).await;
        log.phase.send_modify(|phase| {
            phase.status = crate::container::Status::Restarting;
            phase.exits += 1;
        });
        if following == Following::Container {
            log.write(2, 4);
            tokio::time::sleep(Duration::from_millis(50)).await;
            log.phase.send_replace(Phase::over());
        }
        assert_eq!(read.await.unwrap().lines().count(), lines);
    }
}

#[tokio::test]
async fn what_is_not_followed_ends_where_it_ended() {
    let log = Log::new();
    log.write(0, 100);
    let last = Logs {
        tail: Some(2),
        ..Logs::default()
    };
    let (whole, last) = (log.open(&Logs::default()), log.open(&last));
    log.write(100, 200);
    // neither what is appended nor what a rotation brings
    let rotated = log.path().with_extension("log.1");
    std::fs::rename(log.path(), rotated).unwrap();
    log.write(200, 300);
    let whole = all(whole).await;
    assert_eq!(whole.lines().count(), 100);
    assert!(whole.ends_with("line 99\n"));
    assert_eq!(all(last).await, "line 98\nline 99\n");
}
