//! `GET /containers/{id}/stats`: once, twice and for ever, of containers that run, stand and end.

use std::io::{BufRead, BufReader, Write};
use std::os::unix::net::UnixStream;
use std::time::Duration;

use testkit::engine::Engine;

use crate::bench::{engine, eventually};

fn once(engine: &Engine, name: &str, query: &str) -> String {
    let path = format!("/v1.51/containers/{name}/stats?{query}");
    let answer = engine.api("GET", &path, "").unwrap();
    assert_eq!(answer.status, 200);
    String::from_utf8(answer.body).unwrap()
}

const ZERO: &str = "0001-01-01T00:00:00Z";

#[test]
fn one_sample_and_two() {
    let engine = engine();
    engine
        .docker("run -d --name box --pids-limit 40 -m 64m busybox sh -c 'while :; do :; done'")
        .ok();
    engine.docker("run --name off busybox true").ok();
    let text = once(&engine, "box", "stream=0&one-shot=1");
    for part in [
        r#""name":"/box""#,
        &format!(r#""preread":"{ZERO}""#),
        r#""pids_stats":{"current":1,"limit":40}"#,
        r#""num_procs":0,"storage_stats":{}"#,
        r#""precpu_stats":{"cpu_usage":{"total_usage":0,"usage_in_kernelmode":0,"usage_in_usermode":0},"throttling_data":{"periods":0,"throttled_periods":0,"throttled_time":0}}"#,
        r#""limit":67108864"#,
        r#""networks":{"eth0":{"rx_bytes":"#,
        r#""io_service_bytes_recursive":["#,
        r#""online_cpus":"#,
    ] {
        assert!(text.contains(part), "{part} is not in {text}");
    }
    let text = once(&engine, "box", "stream=false");
    let number = |key: &str, nth: usize| -> u64 {
        let rest = text.split(&format!(r#""{key}":"#)).nth(nth).unwrap();
        let digits = rest.split(|c: char| !c.is_ascii_digit()).next();
        digits.unwrap().parse().unwrap()
    };
    assert!(!text.contains(&format!(r#""preread":"{ZERO}""#)), "{text}");
    let (now, before) = (number("total_usage", 1), number("total_usage", 2));
    assert!(now > before && before > 0, "{text}");
    let (system, system_before) = (number("system_cpu_usage", 1), number("system_cpu_usage", 2));
    let passed = (system - system_before) / number("online_cpus", 1);
    assert!((500_000_000..120_000_000_000).contains(&passed), "{passed}");

    let text = once(&engine, "off", "stream=false");
    let zeros = format!(
        r#""read":"{ZERO}","preread":"{ZERO}","pids_stats":{{}},"blkio_stats":{{"io_service_bytes_recursive":null,"io_serviced_recursive":null,"io_queue_recursive":null,"io_service_time_recursive":null,"io_wait_time_recursive":null,"io_merged_recursive":null,"io_time_recursive":null,"sectors_recursive":null}},"num_procs":0,"storage_stats":{{}},"cpu_stats":{{"cpu_usage":{{"total_usage":0,"usage_in_kernelmode":0,"usage_in_usermode":0}},"throttling_data":{{"periods":0,"throttled_periods":0,"throttled_time":0}}}}"#
    );
    assert!(
        text.starts_with(r#"{"name":"/off","id":""#) && text.contains(&zeros),
        "{text}"
    );
    assert!(text.trim_end().ends_with(r#""memory_stats":{}}"#), "{text}");
}

#[test]
fn a_stream_lasts_as_long_as_the_container() {
    let engine = engine();
    engine.docker("run -d --name box busybox sleep 1000").ok();
    let mut stream = UnixStream::connect(engine.socket()).unwrap();
    stream
        .set_read_timeout(Some(Duration::from_secs(60)))
        .unwrap();
    stream
        .write_all(b"GET /v1.51/containers/box/stats HTTP/1.0\r\nHost: x\r\n\r\n")
        .unwrap();
    let mut lines = BufReader::new(stream).lines().map(Result::unwrap);
    let mut next = || lines.by_ref().find(|line| line.starts_with('{'));
    let first = next().unwrap();
    assert!(first.contains(&format!(r#""preread":"{ZERO}""#)), "{first}");
    let second = next().unwrap();
    assert!(
        !second.contains(&format!(r#""preread":"{ZERO}""#)),
        "{second}"
    );
    engine.docker("pause box").ok();
    assert!(next().unwrap().contains(r#""current":1"#));
    engine.docker("unpause box").ok();
    engine.docker("stop -t 0 box").ok();
    let mut is_zero = || next().unwrap().contains(r#""pids_stats":{}"#);
    assert!((0..60).any(|_| is_zero()), "a stopped one uses nothing");
    engine.docker("start box").ok();
    assert!(
        (0..60).any(|_| !is_zero()),
        "it is followed when it starts again"
    );
    engine.docker("rm -f box").ok();
    assert!((0..60).any(|_| next().is_none()), "its removal is the end");
}

#[test]
fn files_are_kept_open_only_while_somebody_asks() {
    let engine = engine();
    engine.docker("run -d --name box busybox sleep 1000").ok();
    let shim = crate::bench::parent_of(&engine.inspect("box", "{{.State.Pid}}"));
    let open = || {
        std::fs::read_dir(format!("/proc/{shim}/fd"))
            .unwrap()
            .count()
    };
    let before = open();
    eventually("they are kept open", || {
        once(&engine, "box", "stream=0&one-shot=1");
        open() > before + 4
    });
    eventually("they are closed", || open() <= before);
}
