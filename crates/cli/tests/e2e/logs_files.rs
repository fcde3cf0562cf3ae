//! Logs in files: rotation, compression, and following through all that can happen meanwhile.

use std::time::Duration;

use testkit::docker::Client;
use testkit::engine::Engine;

use crate::bench::{engine, eventually, options};

/// The lines `1` to `n`.
fn numbers(range: std::ops::RangeInclusive<u32>) -> String {
    range.map(|number| format!("{number}\n")).collect()
}

fn folder(engine: &Engine, name: &str) -> std::path::PathBuf {
    let id = engine.inspect(name, "{{.Id}}");
    engine.root_folder().join("containers").join(id)
}

fn names(engine: &Engine, name: &str) -> Vec<String> {
    let entries = std::fs::read_dir(folder(engine, name)).unwrap();
    let mut names: Vec<String> = entries
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .filter(|name| name.contains("log"))
        .collect();
    names.sort();
    names
}

#[test]
fn a_follower_loses_nothing_to_rotation_and_compression() {
    let engine = engine();
    for driver in ["json-file", "local"] {
        let count = "echo 0; while [ ! -e /dev/shm/go ]; do usleep 10000; done; i=0; while [ $i -lt 40 ]; do seq $((i*1000+1)) $((i*1000+1000)); i=$((i+1)); usleep 100000; done";
        engine
            .docker(&format!(
                "run -d --name box --log-driver {driver} --log-opt max-size=100k --log-opt max-file=12 --log-opt compress=true busybox sh -c '{count}; sleep 1000'"
            ))
            .ok();
        let follower = engine.session(Client::Docker, "logs -f box");
        follower.expect("0\n");
        engine.docker("exec box touch /dev/shm/go").ok();
        follower.expect("40000");
        engine.docker("kill box").ok();
        let outcome = follower.finish();
        assert!(
            outcome.stdout == numbers(0..=40_000),
            "{driver}: {} bytes",
            outcome.stdout.len()
        );
        // what is left is the end, without a hole, from files of both kinds
        let kept = engine.docker("logs box").ok().to_owned();
        let first: u32 = kept.lines().next().unwrap().parse().unwrap();
        assert!(kept == numbers(first..=40_000).trim_end() || kept == numbers(first..=40_000));
        let tail = engine.docker("logs --tail 20000 box");
        let lines: Vec<&str> = tail.stdout.lines().collect();
        assert!(lines.len() <= 20_000 && lines.last() == Some(&"40000"));
        engine.docker("rm box").ok();
    }
}

#[test]
fn rotated_files_are_compressed_while_the_container_runs() {
    let engine = engine();
    engine
        .docker("run -d --name box --log-opt max-size=50k --log-opt max-file=3 busybox sh -c 'seq 1 5000; sleep 1000'")
        .ok();
    let id = engine.inspect("box", "{{.Id}}");
    let expect: Vec<String> = ["", ".1.gz", ".2.gz"]
        .map(|suffix| format!("{id}-json.log{suffix}"))
        .into();
    eventually("all are compressed", || names(&engine, "box") == expect);
    let kept = engine.docker("logs box").ok().to_owned();
    let first: u32 = kept.lines().next().unwrap().parse().unwrap();
    assert_eq!(kept.trim_end(), numbers(first..=5000).trim_end());
    assert!(first < 4500, "{first}");
    let path = engine.inspect("box", "{{.LogPath}}");
    assert_eq!(
        path,
        folder(&engine, "box").join(&expect[0]).to_string_lossy()
    );
    engine.docker("rm -f box").ok();
}

#[test]
fn a_follower_goes_on_through_a_restart_of_the_container() {
    let engine = engine();
    for client in Client::BOTH {
        engine
            .docker("run -d --name box busybox sh -c 'echo up; trap exit TERM; while true; do sleep 0.05; done'")
            .ok();
        let follower = engine.session(client, "logs -f box");
        follower.expect("up");
        engine.docker("restart box").ok();
        eventually("the second run", || follower.output() == "up\nup\n");
        engine.docker("stop box").ok();
        let outcome = follower.finish();
        assert_eq!((outcome.code, outcome.stdout.as_str()), (0, "up\nup\n"));
        engine.docker("rm box").ok();
    }
}

#[test]
fn who_followed_an_engine_that_died_goes_on_behind_the_last_line() {
    let mut engine = engine();
    engine
        .docker("run -d --name box --log-opt max-size=20k --log-opt max-file=50 busybox sh -c 'i=0; while [ $i -lt 4000 ]; do i=$((i+1)); echo $i; [ $((i%20)) -eq 0 ] && usleep 10000; done; true'")
        .ok();
    let follower = engine.session(Client::Docker, "logs -f -t box");
    follower.expect(" 400\n");
    engine.kill9().unwrap();
    let first = follower.finish().stdout;
    engine.restart().unwrap();
    // a record has a time of its own: since it, without it
    let whole = first.rfind('\n').map_or("", |end| &first[..end]);
    let last = whole.lines().last().unwrap().split(' ').next().unwrap();
    let second = engine
        .session(Client::Docker, &format!("logs -f -t --since {last} box"))
        .finish()
        .stdout;
    let lines = whole.lines().chain(second.lines().skip(1));
    let texts: Vec<u32> = lines
        .map(|line| line.split(' ').nth(1).unwrap().parse().unwrap())
        .collect();
    assert!(texts == (1..=4000).collect::<Vec<_>>(), "{}", texts.len());
}

#[test]
fn our_own_client_follows_past_the_end_of_its_engine() {
    let mut engine = engine();
    engine
        .docker("run -d --name box busybox sh -c 'i=0; while [ $i -lt 3000 ]; do i=$((i+1)); echo $i; [ $((i%20)) -eq 0 ] && usleep 10000; done; true'")
        .ok();
    let follower = engine.session(Client::Gorae, "logs -f box");
    follower.expect("\n400\n");
    engine.kill9().unwrap();
    std::thread::sleep(Duration::from_millis(300));
    engine.restart().unwrap();
    follower.expect("\n1200\n");
    engine.stop().unwrap();
    engine.restart().unwrap();
    let outcome = follower.finish();
    assert!(
        outcome.code == 0 && outcome.stdout == numbers(1..=3000),
        "{}",
        outcome.stdout.len()
    );
}

#[test]
fn details_attributes_and_the_local_format() {
    let engine = engine();
    engine
        .docker("run --name box --label a=b --label other=x --env 'X=1 2' --env YY=3 --log-opt labels=a --log-opt env=X --log-opt env-regex=^Y --log-opt tag={{.Name}}/{{.ImageName}} busybox echo hi")
        .ok();
    engine
        .docker("logs --details box")
        .prints("X=1+2,YY=3,a=b,tag=box%2Fbusybox hi");
    let stamped = engine.docker("logs --details --timestamps box");
    assert!(
        stamped
            .ok()
            .ends_with("Z X=1+2,YY=3,a=b,tag=box%2Fbusybox hi"),
        "{stamped:?}"
    );
    let line = std::fs::read_to_string(engine.inspect("box", "{{.LogPath}}")).unwrap();
    let start = r#"{"log":"hi\n","stream":"stdout","attrs":{"X":"1 2","YY":"3","a":"b","tag":"box/busybox"},"time":""#;
    assert!(line.starts_with(start), "{line}");
    engine
        .docker("run --name two --log-driver local busybox sh -c 'printf \"\\377\\000x\\n\"; echo error >&2; printf end'")
        .ok();
    let both = engine.docker("logs two");
    assert_eq!(both.stderr, "error\n");
    assert_eq!(both.stdout, "\u{fffd}\0x\nend");
    engine.docker("logs --details --tail 1 two").ok();
    assert_eq!(engine.inspect("two", "{{.LogPath}}"), "");
    let drivers = engine.docker("info --format '{{json .Plugins.Log}} {{.LoggingDriver}}'");
    drivers.prints(r#"["fluentd","gelf","journald","json-file","local","syslog"] json-file"#);
}

#[test]
fn a_follower_stops_at_the_last_wanted_time() {
    let engine = engine();
    engine
        .docker("run -d --name box busybox sh -c 'echo one; sleep 1000'")
        .ok();
    eventually("the line", || engine.docker("logs box").stdout == "one\n");
    let until = engine
        .docker("run --rm busybox date -u +%s")
        .ok()
        .trim()
        .parse::<i64>();
    let until = until.unwrap() + 2;
    let outcome = engine
        .session(Client::Docker, &format!("logs -f --until {until} box"))
        .finish();
    assert_eq!((outcome.code, outcome.stdout.as_str()), (0, "one\n"));
    engine.docker("rm -f box").ok();
}

#[test]
fn a_full_disk_costs_log_lines_and_nothing_else() {
    let engine = Engine::start(testkit::engine::EngineOptions {
        disk: Some(24 * 1024),
        ..options()
    })
    .unwrap();
    engine
        .docker("run -d --name flood --log-opt max-size=-1 busybox sh -c 'yes 0123456789012345678901234567890123456789 | head -n 2000000; echo done > /dev/shm/done; sleep 1000'")
        .ok();
    eventually("the end of the flood", || {
        engine.docker("exec flood cat /dev/shm/done").code == 0
    });
    let answer = engine.api("GET", "/_ping", "").unwrap();
    assert_eq!(answer.status, 200);
    let kept = engine.docker("logs --tail 5 flood");
    assert_eq!(kept.ok().lines().count(), 5);
    engine.docker("rm -f flood").ok();
    engine.docker("run --rm busybox echo alive").prints("alive");
}

#[test]
fn without_waiting_the_newest_lines_are_kept_for_a_disk_that_is_full() {
    let engine = Engine::start(testkit::engine::EngineOptions {
        disk: Some(24 * 1024),
        ..options()
    })
    .unwrap();
    engine
        .docker("run -d --name hog -v hog:/hog busybox sh -c 'while [ ! -e /go ]; do sleep 0.05; done; dd if=/dev/zero of=/hog/x bs=64k; dd if=/dev/zero of=/hog/y bs=1; sleep 1000'")
        .ok();
    engine
        .docker("run -d --name box --log-opt mode=non-blocking --log-opt max-buffer-size=256k -v hog:/hog busybox sh -c 'echo first; while [ ! -e /go ]; do sleep 0.05; done; seq 1 100000; echo last; sleep 1000'")
        .ok();
    engine.docker("exec hog touch /go").ok();
    eventually("a full disk", || {
        let file = engine.docker("exec hog cat /hog/y");
        file.code == 0
            && engine
                .docker("exec hog sh -c 'echo x > /hog/z && rm /hog/z'")
                .code
                != 0
    });
    engine.docker("exec box touch /dev/shm/x").ok();
    engine.docker("exec box sh -c ': > /go'").ok();
    std::thread::sleep(Duration::from_millis(500));
    engine.docker("exec hog rm /hog/x /hog/y").ok();
    eventually("the last line", || {
        engine.docker("logs --tail 1 box").stdout == "last\n"
    });
    engine.docker("rm -f box hog").ok();
    engine.docker("volume rm hog").ok();
}

#[test]
fn compose_follows_its_services_logs() {
    let engine = engine();
    let project = engine.home().join("compose.yaml");
    let text = r#"
services:
  a:
    image: busybox
    stop_grace_period: 0s
    command: sh -c 'for i in 1 2 3; do echo a$$i; sleep 0.1; done; sleep 1000'
  b:
    image: busybox
    logging: {driver: local, options: {max-size: 10k}}
    stop_grace_period: 0s
    command: sh -c 'for i in 1 2 3; do echo b$$i >&2; sleep 0.1; done; sleep 1000'
"#;
    std::fs::write(&project, text).unwrap();
    let compose = format!("compose -p logs -f {}", project.display());
    engine.docker(&format!("{compose} up -d")).ok();
    let follower = engine.session(Client::Docker, &format!("{compose} logs -f --no-color"));
    follower.expect("a3");
    follower.expect("b3");
    engine.docker(&format!("{compose} restart a")).ok();
    eventually("the second run, once", || {
        follower.output().matches("a-1  | a3").count() == 2
    });
    engine.docker(&format!("{compose} stop")).ok();
    let outcome = follower.finish();
    for line in ["a1", "a2", "a3", "b1", "b2", "b3"] {
        assert!(outcome.stdout.contains(line), "{line}: {outcome:?}");
    }
    engine.docker(&format!("{compose} down")).ok();
}
