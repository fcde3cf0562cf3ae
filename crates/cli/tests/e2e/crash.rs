//! kill -9 of the engine at any moment: what runs runs on, and nothing is lost or left behind.

use std::time::Duration;

use testkit::docker::Client;

use crate::bench::{engine, eventually, kill9, parent_of};

/// Whether a process runs; none has the number 0, which those have that do not run.
fn exists(pid: &str) -> bool {
    pid != "0" && std::path::Path::new("/proc").join(pid).exists()
}

#[test]
fn containers_run_on_and_no_log_line_is_lost() {
    let mut engine = engine();
    let count = "i=0; while [ $i -lt 1000 ]; do i=$((i+1)); echo line $i; usleep 12000; done";
    engine
        .docker(&format!("run -d --name box busybox sh -c '{count}'"))
        .ok();
    let pid = engine.inspect("box", "{{.State.Pid}}");
    for _ in 0..3 {
        std::thread::sleep(Duration::from_millis(200));
        engine.kill9().unwrap();
        std::thread::sleep(Duration::from_millis(200));
        engine.restart().unwrap();
        assert_eq!(
            engine.inspect("box", "{{.State.Status}} {{.State.Pid}}"),
            format!("running {pid}")
        );
    }
    let follower = engine.session(Client::Docker, "logs -f box");
    assert_eq!(engine.wait("box"), "0");
    let expect: String = (1..=1000).map(|n| format!("line {n}\n")).collect();
    assert_eq!(follower.finish().stdout, expect);
}

#[test]
fn what_ended_meanwhile_has_its_exit_code() {
    let mut engine = engine();
    for (name, code) in [("zero", 0), ("three", 3), ("two", 2)] {
        engine
            .docker(&format!(
                "run -d --name {name} busybox sh -c 'sleep 0.3; echo bye; exit {code}'"
            ))
            .ok();
    }
    engine
        .docker("run -d --name gone --rm busybox sleep 0.3")
        .ok();
    engine
        .docker("run -d --name killed busybox sleep 1000")
        .ok();
    let pid = |name: &str| engine.inspect(name, "{{.State.Pid}}");
    let running = ["zero", "three", "two", "killed"].map(pid);
    engine.kill9().unwrap();
    kill9(running[3].parse().unwrap());
    eventually("all have ended", || !running.iter().any(|pid| exists(pid)));
    engine.restart().unwrap();
    for (name, code) in [("zero", 0), ("three", 3), ("two", 2), ("killed", 137)] {
        assert_eq!(
            engine.inspect(name, "{{.State.Status}} {{.State.ExitCode}}"),
            format!("exited {code}"),
            "{name}"
        );
        assert_eq!(engine.wait(name), code.to_string());
    }
    engine.docker("logs three").prints("bye");
    eventually("--rm is done", || {
        engine.docker("ps -aq --filter name=gone").ok().is_empty()
    });
}

#[test]
fn everything_works_on_a_container_of_an_earlier_engine() {
    let mut engine = engine();
    engine.docker("run -d -i --name box --hostname inside busybox sh -c 'while read line; do echo got $line; done'").ok();
    engine.docker("run -d --name other busybox sleep 1000").ok();
    engine.kill9().unwrap();
    engine.restart().unwrap();
    engine.docker("exec box hostname").prints("inside");
    let mut session = engine.session(Client::Docker, "attach box");
    session.write("hello\n").unwrap();
    session.expect("got hello");
    session.kill();
    engine.docker("top box").shows("while read line");
    engine
        .docker("stats --no-stream --format {{.Name}} box")
        .prints("box");
    engine.docker("pause other").ok();
    engine.kill9().unwrap();
    engine.restart().unwrap();
    assert_eq!(engine.inspect("other", "{{.State.Status}}"), "paused");
    engine.docker("unpause other").ok();
    engine.docker("update -m 64m --memory-swap -1 other").ok();
    let waiter = engine.session(Client::Docker, "wait other");
    engine.docker("kill other").ok();
    waiter.finish().prints("137");
    engine.docker("restart -t 0 box").ok();
    engine.docker("exec box hostname").prints("inside");
    engine.docker("rm -f box other").ok();
    assert_eq!(engine.traces(), [""; 0]);
}

#[test]
fn restart_policies_resume() {
    let mut engine = engine();
    let go = engine.home().join("go");
    std::fs::create_dir(&go).unwrap();
    let until_told = "sh -c 'while [ ! -e /go/now ]; do sleep 0.02; done; exit 1'";
    let flags = format!("-v {}:/go", go.display());
    for policy in ["always", "unless-stopped", "on-failure", "no"] {
        engine
            .docker(&format!(
                "run -d --name {policy}-one --restart {policy} {flags} busybox {until_told}"
            ))
            .ok();
    }
    engine
        .docker("run -d --name stopped --restart unless-stopped busybox sleep 1000")
        .ok();
    engine
        .docker("run -d --name again --restart always busybox sleep 1000")
        .ok();
    engine.docker("stop -t 0 stopped again").ok();
    let running = ["always", "unless-stopped", "on-failure", "no"]
        .map(|policy| engine.inspect(&format!("{policy}-one"), "{{.State.Pid}}"));
    engine.kill9().unwrap();
    std::fs::write(go.join("now"), "").unwrap();
    eventually("all have ended", || !running.iter().any(|pid| exists(pid)));
    std::fs::remove_file(go.join("now")).unwrap();
    engine.restart().unwrap();
    for policy in ["always", "unless-stopped", "on-failure"] {
        eventually(policy, || {
            engine.inspect(&format!("{policy}-one"), "{{.State.Running}}") == "true"
        });
    }
    assert_eq!(
        engine.inspect("no-one", "{{.State.Status}} {{.State.ExitCode}}"),
        "exited 1"
    );
    assert_eq!(engine.inspect("stopped", "{{.State.Status}}"), "exited");
    eventually("always means it", || {
        engine.inspect("again", "{{.State.Running}}") == "true"
    });
}

#[test]
fn published_ports_go_on() {
    use std::io::Read as _;
    let mut engine = engine();
    engine.docker("run -d --name web -p 8080:80 busybox sh -c 'while :; do echo served | nc -l -p 80 -w 3; done'").ok();
    let fetch = || {
        let mut text = String::new();
        let stream = std::net::TcpStream::connect("127.0.0.1:8080");
        stream
            .is_ok_and(|mut stream| stream.read_to_string(&mut text).is_ok() && text == "served\n")
    };
    eventually("it serves", fetch);
    engine.kill9().unwrap();
    eventually("it serves without an engine", fetch);
    engine.restart().unwrap();
    eventually("it serves with the next engine", fetch);
    engine
        .docker("run -d --name late -p 8080:80 busybox true")
        .complains(125, "port is already allocated");
    engine.docker("rm late").ok();
    engine.docker("rm -f web").ok();
    eventually("nobody serves any more", || {
        std::net::TcpStream::connect("127.0.0.1:8080").is_err()
    });
}

#[test]
fn a_kill_at_any_moment_of_run_leaves_nothing_half_made() {
    let mut engine = engine();
    for moment in 0..12_u64 {
        let runs: Vec<_> = (0..3)
            .map(|n| {
                engine.session(
                    Client::Gorae,
                    &format!("run --name c{moment}-{n} busybox sh -c 'echo ran; sleep 0.02'"),
                )
            })
            .collect();
        std::thread::sleep(Duration::from_millis(3 + moment * 7));
        engine.kill9().unwrap();
        drop(runs);
        engine.restart().unwrap();
    }
    eventually("all that ran has ended", || {
        engine.docker("ps -q").ok().is_empty()
    });
    let all = engine.docker("ps -a --format '{{.Names}} {{.State}}'");
    for line in all.ok().lines() {
        let (name, state) = line.split_once(' ').unwrap();
        assert!(state == "exited" || state == "created", "{line}");
        if state == "exited" {
            engine.docker(&format!("logs {name}")).prints("ran");
        }
        engine.docker(&format!("start {name}")).ok();
        assert_eq!(engine.wait(name), "0");
        engine.docker(&format!("rm {name}")).ok();
    }
    assert_eq!(engine.traces(), [""; 0]);
}

#[test]
fn a_removed_container_does_not_come_back() {
    let mut engine = engine();
    for round in 0..8 {
        for name in ["keeps", "takes"] {
            engine
                .docker(&format!(
                    "create --name {name}{round} -v /data busybox true"
                ))
                .ok();
        }
        let remove = |path: &str| engine.api("DELETE", path, "").unwrap().status;
        assert_eq!(remove(&format!("/containers/keeps{round}")), 204);
        assert_eq!(remove(&format!("/containers/takes{round}?v=1")), 204);
        // what follows has happened only in memory, perhaps
        engine.kill9().unwrap();
        engine.restart().unwrap();
        engine.docker("ps -aq").prints("");
        // what the engine that died has not deleted, this one has
        eventually("the folders are gone", || engine.traces().is_empty());
        eventually(
            "anonymous volumes stay where nobody asked for their end",
            || engine.docker("volume ls -q").ok().lines().count() == round + 1,
        );
    }
    engine.docker("volume prune -f").ok();
}

#[test]
fn a_stopped_engine_leaves_containers_alone() {
    let mut engine = engine();
    engine.docker("run -d --name box busybox sleep 1000").ok();
    let pid = engine.inspect("box", "{{.State.Pid}}");
    engine.stop().unwrap();
    assert!(exists(&pid));
    assert!(!engine.socket().exists());
    engine.restart().unwrap();
    assert_eq!(engine.inspect("box", "{{.State.Pid}}"), pid);
}

#[test]
fn a_killed_shim_ends_its_container_only() {
    let engine = engine();
    engine.docker("run -d --name box busybox sleep 1000").ok();
    engine.docker("run -d --name other busybox sleep 1000").ok();
    let pid = engine.inspect("box", "{{.State.Pid}}");
    kill9(parent_of(&pid));
    eventually("it is known", || {
        engine.inspect("box", "{{.State.Running}}") == "false"
    });
    assert_ne!(engine.inspect("box", "{{.State.ExitCode}}"), "0");
    assert_eq!(engine.inspect("other", "{{.State.Running}}"), "true");
    eventually("the container ends with its shim", || !exists(&pid));
    engine.docker("start box").ok();
    engine.docker("rm -f box other").ok();
    assert_eq!(engine.traces(), [""; 0]);
}
