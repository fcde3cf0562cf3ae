//! Containers and clients that take all they can get: the engine answers others at once, and what they
//! took is given back.

use std::io::{Read, Write};
use std::os::unix::net::UnixStream;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use testkit::engine::{Engine, EngineOptions};
use testkit::http::Response;

use crate::bench::{engine, eventually, kill9, options, parent_of};

/// What an answer takes at most here: 50 ms are promised to a machine that has nothing else to do, and other
/// tests run beside this one, unoptimized.
const USUAL: Duration = Duration::from_secs(2);
/// What even the slowest answer takes.
const LONGEST: Duration = Duration::from_secs(30);
/// So many answers tell something.
const ENOUGH: usize = 20;
const BETWEEN_PINGS: Duration = Duration::from_millis(10);

/// Does something while the engine is asked whether it is there; prints how fast it answered.
#[track_caller]
fn responsive<T>(engine: &Engine, what: &str, work: impl FnOnce() -> T) -> T {
    let over = AtomicBool::new(false);
    let (result, mut times) = thread::scope(|scope| {
        let pings = scope.spawn(|| {
            let mut times = Vec::new();
            while !over.load(Ordering::Relaxed) {
                times.push(ping(engine));
                thread::sleep(BETWEEN_PINGS);
            }
            times
        });
        let result = {
            let _over = Over(&over);
            work()
        };
        (result, pings.join().unwrap())
    });
    times.sort_unstable();
    let at = |percent: usize| times[(times.len() - 1) * percent / 100];
    let (median, late, last) = (at(50), at(99), at(100));
    let count = times.len();
    println!("{what}: _ping median {median:?}, 99 % {late:?}, last {last:?} of {count}");
    // few answers are those of a moment in which the test's own threads have the processors
    let is_enough = count >= ENOUGH;
    assert!(
        !is_enough || median < USUAL,
        "{what}: _ping takes {median:?}"
    );
    assert!(last < LONGEST, "{what}: a _ping took {last:?}");
    result
}

/// Ends the pings, also when a check fails.
struct Over<'a>(&'a AtomicBool);

impl Drop for Over<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

fn text(answer: &Response) -> String {
    String::from_utf8_lossy(&answer.body).into_owned()
}

fn ping(engine: &Engine) -> Duration {
    let begun = Instant::now();
    let answer = engine.api("GET", "/_ping", "").unwrap();
    assert_eq!(answer.status, 200);
    begun.elapsed()
}

/// Sends the head of a request and leaves the connection open.
fn open(engine: &Engine, head: &str) -> UnixStream {
    let mut stream = UnixStream::connect(engine.socket()).unwrap();
    stream.write_all(head.as_bytes()).unwrap();
    stream
}

/// What the engine's process holds: its open files, and its memory in kB.
fn holds(engine: &Engine) -> (usize, u64) {
    let pid = engine.pid().unwrap();
    let files = std::fs::read_dir(format!("/proc/{pid}/fd"))
        .unwrap()
        .count();
    let status = std::fs::read_to_string(format!("/proc/{pid}/status")).unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"));
    let words = line.unwrap().split_whitespace().next().unwrap();
    (files, words.parse().unwrap())
}

fn raw_pids_max(cgroup: &str, limit: u32) {
    let v1 = format!("/sys/fs/cgroup/pids{cgroup}/pids.max");
    let v2 = format!("/sys/fs/cgroup{cgroup}/pids.max");
    let limit = limit.to_string();
    std::fs::write(&v1, &limit)
        .or_else(|_| std::fs::write(&v2, &limit))
        .unwrap_or_else(|error| panic!("{v1}, {v2}: {error}"));
}

/// The folder of a container's cgroup below that of its engine, in the hierarchy that counts processes.
fn cgroup_parent(engine: &Engine, container: &str) -> String {
    let pid = engine.inspect(container, "{{.State.Pid}}");
    let table = std::fs::read_to_string(format!("/proc/{pid}/cgroup")).unwrap();
    let find = |key: &str| {
        table
            .lines()
            .find_map(|line| line.split_once(key))
            .map(|found| found.1)
    };
    let place = find(":pids:").or_else(|| find("0::")).unwrap();
    place.rsplit_once('/').unwrap().0.to_owned()
}

#[test]
fn a_container_forks_without_end() {
    let engine = engine();
    let bomb = "sh -c 'f() { f | f & }; (f) & exec sleep 1000'";
    responsive(&engine, "forks up to its limit", || {
        let flags = "--pids-limit 60 --cpus 0.5";
        engine
            .docker(&format!("run -d --name limited {flags} busybox {bomb}"))
            .ok();
        thread::sleep(Duration::from_secs(2));
        // another container does not notice
        engine.docker("run --rm busybox echo fine").prints("fine");
        assert_eq!(engine.inspect("limited", "{{.State.Running}}"), "true");
        engine.docker("rm -f limited").ok();
    });
    // without a limit of its own it takes what all containers of the engine may have
    engine.docker("run -d --name still busybox sleep 1000").ok();
    let parent = cgroup_parent(&engine, "still");
    responsive(&engine, "forks up to the limit of all", || {
        raw_pids_max(&parent, 200);
        engine
            .docker(&format!("run -d --name free --cpus 0.5 busybox {bomb}"))
            .ok();
        thread::sleep(Duration::from_secs(2));
        let other = engine.docker("run --rm busybox echo fine");
        let is_clear =
            other.stdout.contains("fine") || other.stderr.contains("temporarily unavailable");
        assert!(is_clear, "{other:?}");
        engine.docker("kill free").ok();
        assert_eq!(engine.wait("free"), "137");
    });
    eventually("the processes are gone", || {
        engine.docker("run --rm busybox echo fine").code == 0
    });
    assert_eq!(engine.inspect("still", "{{.State.Status}}"), "running");
}

#[test]
fn a_container_fills_the_disk() {
    let engine = Engine::start(EngineOptions {
        disk: Some(24 << 10),
        ..options()
    })
    .unwrap();
    engine
        .docker("run -d --name witness busybox sleep 1000")
        .ok();
    responsive(&engine, "fills the disk", || {
        let fill = "sh -c 'dd if=/dev/zero of=/fill bs=64k; i=0; while echo x > /fill$i; do i=$((i+1)); done; sleep 1000'";
        engine
            .docker(&format!("run -d --name full busybox {fill}"))
            .ok();
        eventually("the disk is full", || {
            let top = engine.docker("top full -eo pid,args");
            top.stdout.contains("sleep 1000")
        });
        for _ in 0..3 {
            // it may succeed where a page is left, or is refused for a reason that can be read
            let made = engine.docker("create busybox true");
            let is_clear = made.code == 0 || made.stderr.contains("o space left on device");
            assert!(is_clear, "{made:?}");
        }
        engine.docker("exec witness echo alive").prints("alive");
        assert_eq!(engine.inspect("witness", "{{.State.Running}}"), "true");
        engine.docker("ps -a").ok();
        engine.docker("rm -f full").ok();
    });
    // with room again, which what was removed gives back a moment later, everything works and is kept
    eventually("there is room again", || {
        engine.docker("run --rm busybox true").code == 0
    });
    engine
        .docker("run --name after busybox echo fine")
        .prints("fine");
    engine.docker("rename witness still").ok();
    let mut engine = engine;
    engine.stop().unwrap();
    // the disk of this engine went with it, and with the disk who the bridge belongs to: the next one
    // begins from nothing, and takes nobody's links away
    engine.network().run("ip link del gorae0").unwrap();
    engine.restart().unwrap();
}

#[test]
fn output_without_end_and_clients_that_never_read() {
    let engine = engine();
    let attach = |name: &str| {
        let path = format!("/containers/{name}/attach?stream=1&stdout=1&stderr=1&logs=0");
        open(
            &engine,
            &format!(
                "POST {path} HTTP/1.1\r\nHost: gorae\r\nConnection: Upgrade\r\nUpgrade: tcp\r\n\r\n"
            ),
        )
    };
    responsive(&engine, "floods its log", || {
        let flags = "--log-opt max-size=1m --log-opt max-file=2";
        engine
            .docker(&format!(
                "run -d --name flood {flags} --cpus 0.5 busybox yes"
            ))
            .ok();
        thread::sleep(Duration::from_secs(2));
        let id = engine.inspect("flood", "{{.Id}}");
        let folder = engine.root_folder().join("containers").join(id);
        let logs = std::fs::read_dir(folder).unwrap().map(Result::unwrap);
        let logs = logs.filter(|entry| entry.file_name().to_string_lossy().contains("json.log"));
        let size: u64 = logs.map(|entry| entry.metadata().unwrap().len()).sum();
        assert!(size < 4 << 20, "logs of {size} bytes");
        eventually("the flood is logged", || {
            engine.docker("logs --tail 1 flood").ok().starts_with('y')
        });
        engine.docker("rm -f flood").ok();
    });
    let much = "sh -c 'sleep 2; yes 0123456789012345678901234567890 | head -c 8000000'";
    responsive(
        &engine,
        "clients that attach to what runs and never read",
        || {
            engine
                .docker(&format!("run -d --name talks busybox {much}"))
                .ok();
            let deaf: Vec<_> = (0..10).map(|_| attach("talks")).collect();
            // whoever comes later holds it up for a while at most, and is dropped then
            eventually("nobody holds it up", || {
                engine.inspect("talks", "{{.State.Running}}") == "false"
            });
            assert_eq!(engine.inspect("talks", "{{.State.ExitCode}}"), "0");
            drop(deaf);
        },
    );
    responsive(
        &engine,
        "clients that a container was started for and that never read",
        || {
            engine
                .docker(&format!("create --name waits busybox {much}"))
                .ok();
            let deaf: Vec<_> = (0..10).map(|_| attach("waits")).collect();
            engine.docker("start waits").ok();
            thread::sleep(Duration::from_secs(3));
            // it waits for them, as a program does whose output goes to a pager, and can be ended
            engine.docker("kill waits").ok();
            assert_eq!(engine.wait("waits"), "137");
            drop(deaf);
        },
    );
    responsive(&engine, "clients of events that never read", || {
        let (_, before) = holds(&engine);
        let deaf: Vec<_> = (0..100)
            .map(|_| open(&engine, "GET /events HTTP/1.1\r\nHost: gorae\r\n\r\n"))
            .collect();
        for number in 0..300 {
            let path = format!("/containers/create?name=e{number}");
            let answer = engine.api("POST", &path, r#"{"Image":"busybox"}"#).unwrap();
            assert_eq!(answer.status, 201);
            let path = format!("/containers/e{number}");
            assert_eq!(engine.api("DELETE", &path, "").unwrap().status, 204);
        }
        let (_, after) = holds(&engine);
        let growth = after.saturating_sub(before);
        println!("100 clients that read no event: {growth} kB");
        assert!(growth < 64 << 10, "the engine grew by {growth} kB");
        drop(deaf);
    });
}

#[test]
fn signals_are_ignored_and_ends_come_early() {
    let engine = engine();
    responsive(&engine, "ignores signals", || {
        let deaf = "sh -c 'trap \"\" TERM INT HUP QUIT USR1; while true; do sleep 1; done'";
        engine
            .docker(&format!(
                "run -d --name deaf --stop-timeout 100 busybox {deaf}"
            ))
            .ok();
        let begun = Instant::now();
        engine.docker("stop -t 1 deaf").ok();
        let took = begun.elapsed();
        // a hundred seconds are what is waited where nobody says
        assert!(
            took > Duration::from_millis(900) && took < Duration::from_secs(60),
            "{took:?}"
        );
        assert_eq!(engine.inspect("deaf", "{{.State.ExitCode}}"), "137");
    });
    responsive(&engine, "starts and removals of the same at once", || {
        for round in 0..10 {
            let name = format!("race{round}");
            engine
                .docker(&format!("create --name {name} busybox sleep 1000"))
                .ok();
            thread::scope(|scope| {
                let start = || engine.api("POST", &format!("/containers/{name}/start"), "");
                let remove = || engine.api("DELETE", &format!("/containers/{name}?force=1"), "");
                let starts = [scope.spawn(start), scope.spawn(start)];
                let removes = [scope.spawn(remove), scope.spawn(remove)];
                for answer in starts.into_iter().chain(removes) {
                    let answer = answer.join().unwrap().unwrap();
                    let usual = [204, 304, 404, 409];
                    assert!(usual.contains(&answer.status), "{answer:?}");
                }
            });
        }
        // a start that came last may have lost to nobody
        engine.docker("ps -aq").ok();
    });
    responsive(&engine, "containers whose monitor is killed", || {
        for round in 0..5 {
            engine
                .docker(&format!("run -d --name m{round} busybox sleep 1000"))
                .ok();
            let pid = engine.inspect(&format!("m{round}"), "{{.State.Pid}}");
            kill9(parent_of(&pid));
            assert_eq!(engine.wait(&format!("m{round}")), "137");
        }
        let gone = engine.docker("run --name gone busybox /nosuch");
        gone.complains(127, "no such file or directory");
    });
}

#[test]
fn storms_of_requests() {
    let engine = engine();
    let made = responsive(&engine, "200 creates of one name", || {
        let create = || {
            let body = r#"{"Image":"busybox","Cmd":["sleep","1000"]}"#;
            let answer = engine
                .api("POST", "/containers/create?name=one", body)
                .unwrap();
            if answer.status == 409 {
                assert!(
                    text(&answer).contains("is already in use by container"),
                    "{answer:?}"
                );
            }
            answer.status
        };
        thread::scope(|scope| {
            let all: Vec<_> = (0..200).map(|_| scope.spawn(create)).collect();
            let codes = all.into_iter().map(|one| one.join().unwrap());
            codes.collect::<Vec<_>>()
        })
    });
    assert_eq!(made.iter().filter(|code| **code == 201).count(), 1);
    assert_eq!(made.iter().filter(|code| **code == 409).count(), 199);
    engine.docker("start one").ok();
    responsive(&engine, "a storm of exec", || {
        let storm = || {
            for _ in 0..12 {
                let made = engine
                    .api("POST", "/containers/one/exec", r#"{"Cmd":["true"]}"#)
                    .unwrap();
                // the container is killed while the storm goes on
                if made.status != 201 {
                    assert!([404, 409].contains(&made.status), "{made:?}");
                    continue;
                }
                let text = text(&made);
                let id = text.split('"').nth(3).unwrap();
                let path = format!("/exec/{id}/start");
                let started = engine.api("POST", &path, r#"{"Detach":true}"#).unwrap();
                assert!([200, 404, 409].contains(&started.status), "{started:?}");
            }
        };
        thread::scope(|scope| {
            for _ in 0..8 {
                scope.spawn(storm);
            }
            thread::sleep(Duration::from_millis(500));
            engine.docker("kill one").ok();
        });
        assert_eq!(engine.inspect("one", "{{.State.ExitCode}}"), "137");
    });
}

#[test]
fn thousands_of_slow_clients() {
    const CLIENTS: usize = 2000;
    let engine = engine();
    crate::bench::many_files();
    let (before, _) = holds(&engine);
    responsive(&engine, "2,000 clients that send half a request", || {
        let slow: Vec<_> = (0..CLIENTS)
            .map(|number| {
                let heads = ["", "GET /_pi", "POST /containers/create HTTP/1.1\r\nHost: gorae\r\nContent-Type: application/json\r\nContent-Length: 100\r\n\r\n{"];
                open(&engine, heads[number % heads.len()])
            })
            .collect();
        engine.docker("run --rm busybox echo fine").prints("fine");
        let (with, memory) = holds(&engine);
        println!("{CLIENTS} slow clients: {with} open files, {memory} kB");
        // of those who go away in the middle, some by half
        for stream in slow.iter().step_by(2) {
            stream.shutdown(std::net::Shutdown::Write).unwrap();
        }
        drop(slow);
        eventually("the connections are let go", || {
            holds(&engine).0 <= before + 50
        });
    });
    // an answer of which nobody reads a byte
    let mut deaf: Vec<_> = (0..200)
        .map(|_| open(&engine, "GET /info HTTP/1.1\r\nHost: gorae\r\n\r\n"))
        .collect();
    responsive(&engine, "200 answers that nobody reads", || {
        thread::sleep(Duration::from_secs(2));
    });
    let mut answer = [0; 12];
    deaf[0].read_exact(&mut answer).unwrap();
    assert_eq!(&answer, b"HTTP/1.1 200");
}
