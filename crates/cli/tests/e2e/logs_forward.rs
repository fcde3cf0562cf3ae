//! Logs that are sent on: each driver against a receiver of the test.

use std::collections::BTreeMap;
use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream, UdpSocket};
use std::os::unix::net::{UnixDatagram, UnixListener};
use std::process::Command;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use flate2::read::GzDecoder;
use testkit::engine::Engine;

use crate::bench::{engine, eventually, options};

/// What a receiver has got, message by message.
#[derive(Clone, Default)]
struct Received(Arc<Mutex<Vec<Vec<u8>>>>);

impl Received {
    fn push(&self, message: &[u8]) {
        self.0.lock().unwrap().push(message.to_vec());
    }

    fn count(&self) -> usize {
        self.0.lock().unwrap().len()
    }

    fn all(&self) -> Vec<Vec<u8>> {
        self.0.lock().unwrap().clone()
    }

    fn texts(&self) -> Vec<String> {
        let text = |bytes: &Vec<u8>| String::from_utf8_lossy(bytes).into_owned();
        self.all().iter().map(text).collect()
    }

    #[track_caller]
    fn wait(&self, count: usize) -> Vec<String> {
        eventually(&format!("{count} messages"), || self.count() >= count);
        self.texts()
    }

    /// Takes datagrams from now on; the thread ends with the test's process.
    fn udp(socket: UdpSocket) -> Self {
        let received = Self::default();
        let own = received.clone();
        std::thread::spawn(move || {
            let mut buffer = vec![0; 65536];
            while let Ok(count) = socket.recv(&mut buffer) {
                own.push(&buffer[..count]);
            }
        });
        received
    }

    fn unixgram(socket: UnixDatagram) -> Self {
        let received = Self::default();
        let own = received.clone();
        std::thread::spawn(move || {
            let mut buffer = vec![0; 1 << 20];
            while let Ok(count) = socket.recv(&mut buffer) {
                own.push(&buffer[..count]);
            }
        });
        received
    }

    /// Takes connections from now on, and cuts what comes on them at a byte.
    fn tcp(listener: TcpListener, end: u8) -> Self {
        let received = Self::default();
        let own = received.clone();
        std::thread::spawn(move || {
            while let Ok((stream, _)) = listener.accept() {
                let own = own.clone();
                std::thread::spawn(move || own.cut(stream, end));
            }
        });
        received
    }

    fn cut(&self, mut stream: impl Read, end: u8) {
        let mut rest = Vec::new();
        let mut buffer = vec![0; 65536];
        while let Ok(count) = stream.read(&mut buffer) {
            if count == 0 {
                return;
            }
            rest.extend_from_slice(&buffer[..count]);
            while let Some(at) = rest.iter().position(|byte| *byte == end) {
                self.push(&rest[..at]);
                rest.drain(..=at);
            }
        }
    }
}

fn udp() -> (UdpSocket, u16) {
    let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
    let port = socket.local_addr().unwrap().port();
    (socket, port)
}

fn tcp() -> (TcpListener, u16) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    (listener, port)
}

fn run(engine: &Engine, options: &str, script: &str) {
    let mut words: Vec<&str> = vec!["run", "--name", "box"];
    words.extend(options.split_whitespace());
    words.extend(["busybox", "sh", "-c", script]);
    let output = engine
        .command(testkit::docker::Client::Docker, words)
        .output()
        .unwrap();
    assert!(output.status.success(), "{output:?}");
}

#[test]
fn syslog_over_udp_tcp_and_unix_sockets() {
    let engine = engine();
    let script = "echo one; echo two >&2";
    let (socket, port) = udp();
    let received = Received::udp(socket);
    let options = format!(
        "--log-driver syslog --log-opt syslog-address=udp://127.0.0.1:{port} --log-opt syslog-format=rfc3164 --log-opt syslog-facility=local0 --log-opt tag={{{{.Name}}}}"
    );
    run(&engine, &options, script);
    let messages = received.wait(2);
    let find = |text: &str| {
        messages
            .iter()
            .find(|m| m.ends_with(text))
            .cloned()
            .unwrap()
    };
    let out = find(": one\n");
    assert!(
        out.starts_with("<134>") && out.contains(" docker/box["),
        "{out}"
    );
    assert!(find(": two\n").starts_with("<131>"));
    let logs = engine.docker("logs box");
    assert_eq!(
        (logs.stdout.as_str(), logs.stderr.as_str()),
        ("one\n", "two\n")
    );
    engine.docker("rm box").ok();

    let (listener, port) = tcp();
    let received = Received::tcp(listener, b'\n');
    let options = format!(
        "--log-driver syslog --log-opt syslog-address=tcp://localhost:{port} --log-opt syslog-format=rfc5424micro"
    );
    run(&engine, &options, "seq 1 1000");
    let id = engine.inspect("box", "{{.Id}}");
    let messages = received.wait(1000);
    for (number, message) in (1..).zip(&messages) {
        assert!(message.starts_with("<30>1 2"), "{message}");
        assert!(
            message.contains(&format!(" docker/{} ", &id[..12])),
            "{message}"
        );
        assert!(message.ends_with(&format!(" - {number}")), "{message}");
    }
    engine.docker("rm box").ok();

    let path = engine.home().join("syslog");
    let received = Received::unixgram(UnixDatagram::bind(&path).unwrap());
    let options = format!(
        "--log-driver syslog --log-opt syslog-address=unixgram://{}",
        path.display()
    );
    run(&engine, &options, script);
    assert!(received.wait(2).iter().any(|m| m.ends_with("]: one\n")));
    engine.docker("rm box").ok();
}

#[test]
fn the_journal() {
    // the engine and this thread see the same mounts, and only they
    let engine = Engine::start(testkit::engine::EngineOptions {
        private_etc: true,
        ..options()
    })
    .unwrap();
    engine
        .docker("run --log-driver journald busybox true")
        .complains(125, "journald is not enabled on this host");
    let mounted = Command::new("mount")
        .args(["-t", "tmpfs", "gorae-test", "/run/systemd"])
        .status();
    assert!(mounted.unwrap().success());
    std::fs::create_dir_all("/run/systemd/journal").unwrap();
    let socket = UnixDatagram::bind("/run/systemd/journal/socket").unwrap();
    let received = Received::unixgram(socket);
    let options = "--log-driver journald --label com.example/a=b --log-opt labels=com.example/a --log-opt tag=web";
    run(
        &engine,
        options,
        "echo out; echo error >&2; head -c 20000 /dev/zero | tr '\\0' x; echo",
    );
    let messages = received.wait(4);
    let id = engine.inspect("box", "{{.Id}}");
    let find = |text: &str| messages.iter().find(|m| m.starts_with(text)).unwrap();
    let out = find("MESSAGE=out\n");
    for field in [
        "PRIORITY=6",
        "SYSLOG_IDENTIFIER=web",
        "CONTAINER_TAG=web",
        "CONTAINER_NAME=box",
        "IMAGE_NAME=busybox",
        "COM_EXAMPLE_A=b",
        &format!("CONTAINER_ID={}", &id[..12]),
        &format!("CONTAINER_ID_FULL={id}"),
    ] {
        assert!(out.contains(&format!("\n{field}\n")), "{field}: {out}");
    }
    assert!(find("MESSAGE=error\n").contains("\nPRIORITY=3\n"));
    let pieces: Vec<&String> = messages
        .iter()
        .filter(|m| m.starts_with("MESSAGE=xxx"))
        .collect();
    assert_eq!(pieces.len(), 2);
    assert!(pieces[0].contains("\nCONTAINER_PARTIAL_MESSAGE=true\n"));
    assert!(pieces[1].contains("\nCONTAINER_PARTIAL_LAST=true\n"));
    assert!(pieces[1].contains("\nCONTAINER_PARTIAL_ORDINAL=2\n"));
    engine.docker("rm box").ok();
}

#[test]
fn gelf_over_udp_and_tcp() {
    let engine = engine();
    let (socket, port) = udp();
    let received = Received::udp(socket);
    let options = format!(
        "--log-driver gelf --log-opt gelf-address=udp://127.0.0.1:{port} --env A=1 --log-opt env=A"
    );
    run(
        &engine,
        &options,
        "echo one; od -v -N 3000 /dev/urandom | tr -d '\\n'; echo",
    );
    let mut chunks: BTreeMap<u8, Vec<u8>> = BTreeMap::new();
    let mut whole = Vec::new();
    eventually("both messages", || {
        chunks.clear();
        whole.clear();
        for message in received.all() {
            if message.starts_with(&[0x1e, 0x0f]) {
                chunks.insert(message[10], message[12..].to_vec());
                assert!(message[11] > 1 && message.len() <= 1420);
            } else {
                whole.push(message);
            }
        }
        whole.len() == 1
            && chunks.len() > 1
            && unzip(&chunks.values().flatten().copied().collect::<Vec<_>>()).is_some()
    });
    let one = unzip(&whole[0]).unwrap();
    let id = engine.inspect("box", "{{.Id}}");
    for member in [
        r#""version":"1.1""#,
        r#""short_message":"one""#,
        r#""level":6"#,
        r#""_A":"1""#,
        r#""_container_name":"box""#,
        r#""_image_name":"busybox""#,
        &format!(r#""_container_id":"{id}""#),
    ] {
        assert!(one.contains(member), "{member}: {one}");
    }
    engine.docker("rm box").ok();

    let (listener, port) = tcp();
    let received = Received::tcp(listener, 0);
    let options = format!("--log-driver gelf --log-opt gelf-address=tcp://127.0.0.1:{port}");
    run(&engine, &options, "seq 1 500");
    for (number, message) in (1..).zip(received.wait(500)) {
        let member = format!(r#""short_message":"{number}","#);
        assert!(message.contains(&member), "{message}");
    }
    engine.docker("rm box").ok();
}

fn unzip(bytes: &[u8]) -> Option<String> {
    let mut text = String::new();
    GzDecoder::new(bytes).read_to_string(&mut text).ok()?;
    Some(text)
}

/// A value of MessagePack, as far as fluentd's messages have them.
#[derive(Clone, Debug, PartialEq)]
enum Value {
    Number(u64),
    Text(String),
    Time(u32, u32),
    List(Vec<Value>),
    Map(Vec<(Value, Value)>),
}

impl Value {
    fn read(from: &mut impl Read) -> std::io::Result<Self> {
        let mut byte = [0];
        from.read_exact(&mut byte)?;
        let mut number = |length: usize| {
            let mut bytes = [0; 8];
            from.read_exact(&mut bytes[8 - length..])?;
            std::io::Result::Ok(u64::from_be_bytes(bytes))
        };
        let (kind, length) = match byte[0] {
            small @ 0..=0x7f => return Ok(Self::Number(small.into())),
            0xd3 => return number(8).map(Self::Number),
            0xd7 => {
                assert_eq!(number(1)?, 0);
                let both = number(8)?.to_be_bytes();
                let half = |at: usize| u32::from_be_bytes(both[at..at + 4].try_into().unwrap());
                return Ok(Self::Time(half(0), half(4)));
            }
            map @ 0x80..=0x8f => ('m', u64::from(map & 15)),
            list @ 0x90..=0x9f => ('l', u64::from(list & 15)),
            text @ 0xa0..=0xbf => ('t', u64::from(text & 31)),
            0xd9 => ('t', number(1)?),
            0xda => ('t', number(2)?),
            0xde => ('m', number(2)?),
            other => panic!("unexpected type {other:x}"),
        };
        Ok(match kind {
            't' => {
                let mut bytes = vec![0; usize::try_from(length).unwrap()];
                from.read_exact(&mut bytes)?;
                Self::Text(String::from_utf8_lossy(&bytes).into_owned())
            }
            'l' => Self::List(
                (0..length)
                    .map(|_| Self::read(from))
                    .collect::<Result<_, _>>()?,
            ),
            _ => {
                let pair = |_| Ok((Self::read(from)?, Self::read(from)?));
                Self::Map((0..length).map(pair).collect::<std::io::Result<_>>()?)
            }
        })
    }

    fn member(&self, name: &str) -> Option<String> {
        let Self::Map(pairs) = self else { return None };
        let found = pairs
            .iter()
            .find(|(key, _)| *key == Self::Text(name.to_owned()));
        found.map(|(_, value)| match value {
            Self::Text(text) => text.clone(),
            other => format!("{other:?}"),
        })
    }
}

/// Reads messages, and acknowledges those that ask for it.
fn fluentd(mut stream: impl Read + Write, messages: &Mutex<Vec<Vec<Value>>>) {
    while let Ok(Value::List(message)) = Value::read(&mut stream) {
        if let Some(chunk) = message.get(3).and_then(|option| option.member("chunk")) {
            let length = u8::try_from(chunk.len()).unwrap();
            let mut answer = vec![0x81, 0xa3];
            answer.extend_from_slice(b"ack");
            answer.push(0xa0 | length);
            answer.extend_from_slice(chunk.as_bytes());
            stream.write_all(&answer).unwrap();
        }
        messages.lock().unwrap().push(message);
    }
}

#[test]
fn fluentd_over_tcp_and_unix_sockets() {
    let engine = engine();
    let (listener, port) = tcp();
    let messages: Arc<Mutex<Vec<Vec<Value>>>> = Arc::default();
    let own = Arc::clone(&messages);
    std::thread::spawn(move || {
        while let Ok((stream, _)) = listener.accept() {
            fluentd(stream, &own);
        }
    });
    let options = format!(
        "--log-driver fluentd --log-opt fluentd-address=127.0.0.1:{port} --log-opt fluentd-request-ack=true --log-opt fluentd-sub-second-precision=true --log-opt tag=docker.{{{{.Name}}}} --label a=b --log-opt labels=a"
    );
    run(
        &engine,
        &options,
        "seq 1 2000; head -c 20000 /dev/zero | tr '\\0' x; echo >&2",
    );
    eventually("all messages", || messages.lock().unwrap().len() == 2003);
    let id = engine.inspect("box", "{{.Id}}");
    let all = messages.lock().unwrap().clone();
    for (number, message) in (1..=2000).zip(&all) {
        assert_eq!(message[0], Value::Text("docker.box".to_owned()));
        assert!(matches!(message[1], Value::Time(seconds, _) if seconds > 1_700_000_000));
        let member = |name: &str| message[2].member(name).unwrap();
        assert_eq!(member("log"), number.to_string());
        assert_eq!(member("source"), "stdout");
        assert_eq!(member("container_id"), id);
        assert_eq!(member("container_name"), "/box");
        assert_eq!(member("a"), "b");
    }
    let partial = all
        .iter()
        .find(|m| m[2].member("partial_message").is_some());
    assert_eq!(partial.unwrap()[2].member("partial_ordinal").unwrap(), "1");
    engine.docker("rm box").ok();

    let path = engine.home().join("fluentd");
    let listener = UnixListener::bind(&path).unwrap();
    let messages: Arc<Mutex<Vec<Vec<Value>>>> = Arc::default();
    let own = Arc::clone(&messages);
    std::thread::spawn(move || {
        while let Ok((stream, _)) = listener.accept() {
            fluentd(stream, &own);
        }
    });
    let options = format!(
        "--rm --log-driver fluentd --log-opt fluentd-address=unix://{}",
        path.display()
    );
    // a container that removes itself has its last words sent all the same
    run(&engine, &options, "seq 1 100");
    eventually("all messages", || messages.lock().unwrap().len() == 100);
    let first = messages.lock().unwrap()[0].clone();
    assert!(matches!(first[1], Value::Number(seconds) if seconds > 1_700_000_000));
}

#[test]
fn neither_an_engine_nor_a_receiver_that_goes_away_costs_or_doubles_a_line() {
    let mut engine = engine();
    let (listener, port) = tcp();
    let count = "i=0; while [ $i -lt 3000 ]; do i=$((i+1)); echo $i; [ $((i%10)) -eq 0 ] && usleep 10000; done; true";
    let options = format!(
        "-d --log-driver syslog --log-opt syslog-address=tcp://127.0.0.1:{port} --log-opt cache-max-size=20k --log-opt cache-max-file=9"
    );
    run(&engine, &options, count);
    // nobody accepts yet: the kernel does, and a restart must not make anything of that twice
    let received = Received::tcp(listener, b'\n');
    received.wait(300);
    engine.stop().unwrap();
    std::thread::sleep(Duration::from_millis(300));
    engine.restart().unwrap();
    let seen = received.count();
    received.wait((seen + 300).min(3000));
    engine.stop().unwrap();
    engine.restart().unwrap();
    assert_eq!(engine.wait("box"), "0");
    received.wait(3000);
    std::thread::sleep(Duration::from_millis(200));
    let numbers: Vec<u32> = received
        .texts()
        .iter()
        .map(|message| message.rsplit(' ').next().unwrap().parse().unwrap())
        .collect();
    assert!(
        numbers == (1..=3000).collect::<Vec<_>>(),
        "{}",
        numbers.len()
    );
    engine.docker("rm box").ok();

    // a receiver that comes late gets all
    let (listener, port) = tcp();
    drop(listener);
    let options = format!("--log-driver syslog --log-opt syslog-address=tcp://127.0.0.1:{port}");
    run(&engine, &options, "seq 1 100");
    std::thread::sleep(Duration::from_millis(300));
    let received = Received::tcp(TcpListener::bind(("127.0.0.1", port)).unwrap(), b'\n');
    assert!(received.wait(100)[99].ends_with(": 100"));
    engine.docker("rm box").ok();
}

#[test]
fn an_engine_that_is_killed_loses_nothing() {
    let mut engine = engine();
    let (listener, port) = tcp();
    let received = Received::tcp(listener, b'\n');
    let count = "i=0; while [ $i -lt 2000 ]; do i=$((i+1)); echo $i; [ $((i%10)) -eq 0 ] && usleep 10000; done; true";
    let options = format!("-d --log-driver syslog --log-opt syslog-address=tcp://127.0.0.1:{port}");
    run(&engine, &options, count);
    for _ in 0..2 {
        let seen = received.count();
        received.wait((seen + 200).min(2000));
        engine.kill9().unwrap();
        engine.restart().unwrap();
    }
    assert_eq!(engine.wait("box"), "0");
    let numbers = || -> Vec<u32> {
        let texts = received.texts();
        let number = |message: &String| message.rsplit(' ').next()?.parse().ok();
        texts.iter().filter_map(number).collect()
    };
    eventually("the last line", || numbers().last() == Some(&2000));
    let mut unique = numbers();
    let all = unique.len();
    unique.sort_unstable();
    unique.dedup();
    assert_eq!(unique, (1..=2000).collect::<Vec<_>>());
    // what was on its way at the kill may have come twice
    assert!(all - unique.len() <= 2 * 512, "{all}");
    engine.docker("rm box").ok();
}

#[test]
fn a_container_waits_for_its_receiver_only_where_that_was_asked() {
    let engine = engine();
    let (listener, port) = tcp();
    let address = format!("--log-driver gelf --log-opt gelf-address=tcp://127.0.0.1:{port}");
    drop(listener);
    // 4 MB, of which a blocking container may write 1 MiB
    let flood = "yes 0123456789012345678901234567890123456789 | head -n 100000; echo done > /dev/shm/done; sleep 1000";
    let done = |name: &str| {
        engine
            .docker(&format!("exec {name} cat /dev/shm/done"))
            .code
            == 0
    };
    for (name, mode) in [
        ("free", ""),
        (
            "dropping",
            "--log-opt mode=non-blocking --log-opt max-buffer-size=64k",
        ),
        ("waiting", "--log-opt mode=blocking"),
    ] {
        engine
            .docker(&format!(
                "run -d --name {name} {address} {mode} busybox sh -c '{flood}'"
            ))
            .ok();
    }
    eventually("those that do not wait", || {
        done("free") && done("dropping")
    });
    assert!(!done("waiting"));
    std::thread::sleep(Duration::from_millis(500));
    assert!(!done("waiting"));
    let received = Received::tcp(TcpListener::bind(("127.0.0.1", port)).unwrap(), 0);
    eventually("the one that waited", || done("waiting"));
    let of = |name: &str| {
        let member = format!(r#""_container_name":"{name}""#);
        let texts = received.texts();
        texts
            .iter()
            .filter(|message| message.contains(&member))
            .count()
    };
    eventually("all lines of two", || {
        of("waiting") == 100_000 && of("free") == 100_000
    });
    let dropping = of("dropping");
    assert!(dropping < 20_000, "{dropping}");
    engine.docker("rm -f free dropping waiting").ok();
}

#[test]
fn a_receiver_that_does_not_read_holds_nobody_up() {
    let engine = engine();
    let (listener, port) = tcp();
    let held: Arc<Mutex<Vec<TcpStream>>> = Arc::default();
    let own = Arc::clone(&held);
    std::thread::spawn(move || {
        while let Ok((stream, _)) = listener.accept() {
            own.lock().unwrap().push(stream);
        }
    });
    engine
        .docker(&format!("run -d --name box --log-driver syslog --log-opt syslog-address=tcp://127.0.0.1:{port} busybox sh -c 'yes 01234567890123456789 | head -c 30000000; echo done > /dev/shm/done; sleep 1000'"))
        .ok();
    eventually("the end of the flood", || {
        engine.docker("exec box cat /dev/shm/done").code == 0
    });
    engine.docker("rm -f box").ok();
    held.lock().unwrap().clear();
}
