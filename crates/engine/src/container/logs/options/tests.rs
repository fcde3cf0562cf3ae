use super::*;

fn options(text: &str) -> Options {
    let pairs = text.split_whitespace();
    let pair = |pair: &str| {
        let (key, value) = pair.split_once('=').unwrap();
        (key.to_owned(), value.to_owned())
    };
    pairs.map(pair).collect()
}

#[track_caller]
fn kept(driver: &str, text: &str) -> Plan {
    plan(driver, &options(text)).unwrap().unwrap()
}

/// Drivers, options, and what dockerd 28.5 says, asked of the real one.
const REFUSED: &[(&str, &str, &str)] = &[
    (
        "nosuch",
        "",
        "error looking up logging plugin nosuch: plugin \"nosuch\" not found: logger: no log driver named 'nosuch' is registered",
    ),
    (
        "json-file",
        "foo=1",
        "unknown log opt 'foo' for json-file log driver",
    ),
    (
        "local",
        "foo=1",
        "unknown log opt 'foo' for log driver local",
    ),
    (
        "local",
        "labels=a",
        "unknown log opt 'labels' for log driver local",
    ),
    (
        "syslog",
        "foo=1",
        "unknown log opt 'foo' for syslog log driver",
    ),
    (
        "journald",
        "foo=1",
        "unknown log opt 'foo' for journald log driver",
    ),
    (
        "fluentd",
        "foo=1",
        "unknown log opt 'foo' for fluentd log driver",
    ),
    ("gelf", "foo=1", "gelf-address is a required parameter"),
    ("gelf", "", "gelf-address is a required parameter"),
    (
        "json-file",
        "mode=x",
        "logger: logging mode not supported: x",
    ),
    (
        "json-file",
        "max-buffer-size=1m",
        "logger: max-buffer-size option is only supported with 'mode=non-blocking'",
    ),
    (
        "json-file",
        "mode=non-blocking max-buffer-size=x",
        "error parsing option max-buffer-size: invalid size: 'x'",
    ),
    (
        "json-file",
        "mode=non-blocking max-buffer-size=-1",
        "error parsing option max-buffer-size: invalid size: '-1'",
    ),
    ("json-file", "max-size=x", "invalid size: 'x'"),
    ("json-file", "max-size=-5", "invalid size: '-5'"),
    (
        "json-file",
        "max-size=0",
        "max-size must be a positive number",
    ),
    ("json-file", "max-file=0", "max-file cannot be less than 1"),
    (
        "json-file",
        "max-file=x",
        "strconv.Atoi: parsing \"x\": invalid syntax",
    ),
    (
        "json-file",
        "compress=x",
        "strconv.ParseBool: parsing \"x\": invalid syntax",
    ),
    (
        "json-file",
        "compress=true max-size=10k",
        "compress cannot be true when max-file is less than 2 or max-size is not set",
    ),
    (
        "json-file",
        "cache-disabled=x",
        "invalid value for option cache-disabled: x",
    ),
    ("json-file", "env-regex=(", "error parsing regexp"),
    (
        "json-file",
        "tag={{.Foo}}",
        "can't evaluate field Foo in type *logger.Info",
    ),
    ("syslog", "syslog-address=foo", "unsupported scheme: ''"),
    (
        "syslog",
        "syslog-address=ftp://x",
        "unsupported scheme: 'ftp'",
    ),
    (
        "syslog",
        "syslog-address=unix:///nosuch",
        "stat /nosuch: no such file or directory",
    ),
    ("syslog", "syslog-facility=x", "invalid syslog facility"),
    ("syslog", "syslog-facility=24", "invalid syslog facility"),
    ("syslog", "syslog-format=x", "Invalid syslog format"),
    (
        "gelf",
        "gelf-address=foo",
        "gelf: endpoint needs to be TCP or UDP",
    ),
    (
        "gelf",
        "gelf-address=http://a:1",
        "gelf: endpoint needs to be TCP or UDP",
    ),
    (
        "gelf",
        "gelf-address=udp://a",
        "gelf: please provide gelf-address as proto://host:port",
    ),
    (
        "gelf",
        "gelf-address=udp://a:1 gelf-compression-type=x",
        "unknown value \"x\" for log opt \"gelf-compression-type\" for gelf log driver",
    ),
    (
        "gelf",
        "gelf-address=udp://a:1 gelf-compression-level=10",
        "unknown value \"10\" for log opt \"gelf-compression-level\" for gelf log driver",
    ),
    (
        "gelf",
        "gelf-address=tcp://a:1 gelf-compression-level=1",
        "compression is only supported on UDP",
    ),
    (
        "gelf",
        "gelf-address=udp://a:1 gelf-tcp-max-reconnect=1",
        "\"gelf-tcp-max-reconnect\" is only valid for TCP",
    ),
    (
        "gelf",
        "gelf-address=tcp://a:1 gelf-tcp-max-reconnect=x",
        "\"gelf-tcp-max-reconnect\" must be a positive integer",
    ),
    (
        "gelf",
        "gelf-address=tcp://a:1 gelf-tcp-reconnect-delay=-1",
        "\"gelf-tcp-reconnect-delay\" must be a positive integer",
    ),
    (
        "fluentd",
        "fluentd-address=foo:bar",
        "invalid fluentd-address (foo:bar): parse \"tcp://foo:bar\": invalid port \":bar\" after host",
    ),
    (
        "fluentd",
        "fluentd-address=http://foo",
        "invalid fluentd-address (http://foo): unsupported scheme: 'http'",
    ),
    (
        "fluentd",
        "fluentd-address=tcp://foo/path",
        "invalid fluentd-address (tcp://foo/path): should not contain a path element",
    ),
    (
        "fluentd",
        "fluentd-address=unix://",
        "invalid fluentd-address (unix://): path is empty",
    ),
    ("fluentd", "fluentd-buffer-limit=x", "invalid size: 'x'"),
    (
        "fluentd",
        "fluentd-retry-wait=x",
        "time: invalid duration \"x\"",
    ),
    (
        "fluentd",
        "fluentd-max-retries=x",
        "strconv.ParseUint: parsing \"x\": invalid syntax",
    ),
    (
        "fluentd",
        "fluentd-async=x",
        "strconv.ParseBool: parsing \"x\": invalid syntax",
    ),
    (
        "fluentd",
        "fluentd-async-connect=true",
        "unknown log opt 'fluentd-async-connect' for fluentd log driver",
    ),
    (
        "fluentd",
        "fluentd-request-ack=x",
        "strconv.ParseBool: parsing \"x\": invalid syntax",
    ),
    (
        "fluentd",
        "fluentd-sub-second-precision=x",
        "strconv.ParseBool: parsing \"x\": invalid syntax",
    ),
    (
        "fluentd",
        "fluentd-write-timeout=x",
        "invalid value for fluentd-write-timeout: value must be a duration: time: invalid duration \"x\"",
    ),
    (
        "fluentd",
        "fluentd-async-reconnect-interval=1ms",
        "invalid value for fluentd-async-reconnect-interval: value (\"1ms\") must be between 100ms and 10s",
    ),
    (
        "fluentd",
        "fluentd-async-reconnect-interval=x",
        "invalid value for fluentd-async-reconnect-interval: time: invalid duration \"x\"",
    ),
];

#[test]
fn refuses_in_dockers_words() {
    for (driver, text, words) in REFUSED {
        let error = plan(driver, &options(text)).unwrap_err();
        assert!(error.message().contains(words), "{driver} {text}: {error}");
    }
}

#[test]
fn logs_are_bounded_unless_asked() {
    let plan = kept("json-file", "");
    assert_eq!(
        (plan.max_size, plan.max_files, plan.compress),
        (Some(20 << 20), 5, true)
    );
    assert_eq!(kept("json-file", "max-size=10k").max_size, Some(10_000));
    assert_eq!(kept("json-file", "max-size=1.5kb").max_size, Some(1_500));
    assert_eq!(kept("json-file", "max-size=10k").max_files, 1);
    assert!(!kept("json-file", "max-size=10k").compress);
    assert_eq!(kept("json-file", "max-size=-1").max_size, None);
    let plan = kept("local", "max-size=10k max-file=2 compress=false");
    assert_eq!(
        (plan.format, plan.max_size, plan.max_files, plan.compress),
        (Format::Local, Some(10_000), 2, false)
    );
    assert_eq!(super::plan("none", &options("a=b")).unwrap(), None);
}

#[test]
fn modes_bound_who_waits() {
    let remote = "gelf-address=udp://a:1";
    assert_eq!(kept("gelf", remote).hold, None);
    assert_eq!(kept("gelf", remote).drop_behind, None);
    let blocking = kept("gelf", &format!("{remote} mode=blocking"));
    assert_eq!((blocking.hold, blocking.drop_behind), (Some(1 << 20), None));
    let small = kept(
        "gelf",
        &format!("{remote} mode=blocking cache-max-size=10k"),
    );
    assert_eq!(small.hold, Some(5_000));
    let other = kept(
        "gelf",
        &format!("{remote} mode=non-blocking max-buffer-size=4m"),
    );
    assert_eq!((other.hold, other.drop_behind), (None, Some(4 << 20)));
    let file = kept("json-file", "mode=non-blocking");
    assert_eq!((file.ring, file.drop_behind), (1 << 20, None));
    assert_eq!(kept("json-file", "mode=blocking").hold, None);
    let limited = kept("fluentd", "fluentd-buffer-limit=64k");
    assert_eq!(limited.drop_behind, Some(64 << 10));
    assert!(!kept("gelf", &format!("{remote} cache-disabled=true")).readable);
}

#[test]
fn durations_are_gos() {
    let check = |text: &str, milliseconds: u64| {
        let expect = std::time::Duration::from_millis(milliseconds);
        assert_eq!(duration(text).unwrap(), expect, "{text}");
    };
    check("0", 0);
    check("1s", 1000);
    check("1.5s", 1500);
    check("1m2s3ms", 62_003);
    for wrong in ["", "1", "s", "-1s", "1x"] {
        assert!(duration(wrong).is_err(), "{wrong}");
    }
}
