//! Starting, stopping, restarting and waiting: signals, back-off, counters, `--init`, and the events
//! and hints about them.

use std::io::{Read as _, Write as _};
use std::os::unix::net::UnixStream;
use std::time::{Duration, Instant};

use testkit::docker::Client;
use testkit::engine::Engine;

use crate::bench::{LIMIT, engine, eventually, read_head, told};

/// The actions of a container's events so far, with the signal or exit code.
fn events(engine: &Engine, name: &str) -> Vec<String> {
    let filter = format!("container={name}");
    let format = "{{.Action}} {{.Actor.Attributes.signal}} {{.Actor.Attributes.exitCode}}";
    told(engine, &[&filter, "type=container"], format)
}

#[test]
fn events_of_a_life() {
    let engine = engine();
    engine
        .docker(
            "run -d --name box busybox sh -c 'trap \"exit 5\" TERM; while :; do sleep 0.05; done'",
        )
        .ok();
    eventually("the trap is set", || {
        let pid = engine.inspect("box", "{{.State.Pid}}");
        let status = std::fs::read_to_string(format!("/proc/{pid}/status")).unwrap();
        status
            .lines()
            .any(|line| line.starts_with("SigCgt:") && !line.ends_with("0000000000000000"))
    });
    engine.docker("stop box").ok();
    assert_eq!(engine.inspect("box", "{{.State.ExitCode}}"), "5");
    engine.docker("start box").ok();
    // without time it may end by itself or be killed
    engine.docker("restart -t 0 box").ok();
    engine.docker("pause box").ok();
    engine.docker("unpause box").ok();
    engine.docker("rename box new").ok();
    engine.docker("top new").ok();
    engine.docker("kill new").ok();
    engine.docker("rm new").ok();
    let told = events(&engine, "new");
    assert_eq!(
        told,
        ["rename", "top", "kill 9", "die 137", "destroy"],
        "{told:#?}"
    );
    let mut told = events(&engine, "box");
    let second = told.iter().rposition(|e| e.starts_with("die ")).unwrap();
    told[second].truncate("die".len());
    told.retain(|e| e != "kill 9");
    assert_eq!(
        told,
        [
            "create", "start", "kill 15", "die 5", "stop", "start", "kill 15", "die", "stop",
            "start", "restart", "pause", "unpause",
        ],
        "{told:#?}"
    );
}

#[test]
fn pid_1_that_ignores_the_signal_is_explained() {
    let engine = engine();
    for client in Client::BOTH {
        engine.docker("run -d --name box busybox sleep 1000").ok();
        let outcome = engine.run(client, "stop -t 1 box");
        outcome.ok();
        if client == Client::Gorae {
            assert!(
                outcome
                    .stderr
                    .contains("Note: container box was killed 1 s after SIGTERM")
                    && outcome
                        .stderr
                        .contains("(\"sleep\") has no handler for SIGTERM")
                    && outcome.stderr.contains("--init"),
                "{outcome:?}"
            );
        }
        engine.docker("rm box").ok();
    }
    assert!(
        engine.log().contains("has no handler for SIGTERM"),
        "{}",
        engine.log()
    );
    let hints = told(&engine, &["event=stop"], "{{.Actor.Attributes.hint}}");
    assert!(
        hints
            .iter()
            .any(|hint| hint.contains("has no handler for SIGTERM")),
        "{hints:?}"
    );
    // who asks for no patience is told nothing, and with --init there is nothing to tell
    engine.docker("run -d --name box busybox sleep 1000").ok();
    assert_eq!(engine.gorae("stop -t 0 box").stderr, "");
    engine
        .docker("run -d --name init --init busybox sleep 1000")
        .ok();
    let outcome = engine.gorae("stop init");
    assert_eq!((outcome.stderr.as_str(), outcome.code), ("", 0));
    // --init hands the signal on: it was not killed in the end
    assert_eq!(engine.inspect("init", "{{.State.ExitCode}}"), "143");
}

#[test]
fn many_are_stopped_at_once() {
    let engine = engine();
    for client in Client::BOTH {
        let names: Vec<String> = (0..6).map(|n| format!("box{n}")).collect();
        for name in &names {
            engine
                .docker(&format!("run -d --name {name} busybox sleep 1000"))
                .ok();
        }
        let begun = Instant::now();
        engine
            .run(client, &format!("stop -t 4 {}", names.join(" ")))
            .ok();
        // one after the other they would take 24
        assert!(
            begun.elapsed() < Duration::from_secs(20),
            "{:?}",
            begun.elapsed()
        );
        engine.docker(&format!("rm {}", names.join(" "))).ok();
    }
}

#[test]
fn restarts_back_off_and_are_counted() {
    let engine = engine();
    let state = || {
        engine.inspect(
            "box",
            "{{.RestartCount}} {{.State.Status}} {{.State.Restarting}}",
        )
    };
    engine
        .docker("run -d --name box --restart on-failure:3 busybox false")
        .ok();
    eventually("the policy gives up", || state() == "3 exited false");
    assert_eq!(engine.inspect("box", "{{.State.ExitCode}}"), "1");
    // a start by hand begins anew
    engine.docker("start box").ok();
    eventually("the policy gives up again", || state() == "3 exited false");
    engine.docker("rm box").ok();

    engine
        .docker("run -d --name box --restart always busybox false")
        .ok();
    eventually("its pauses are long", || {
        state()
            .strip_suffix(" restarting true")
            .is_some_and(|count| count.parse::<u32>().unwrap() >= 5)
    });
    eventually("lists show it", || {
        engine.docker("ps").stdout.contains("Restarting (1) ")
    });
    engine.docker("stop box").ok();
    assert!(state().ends_with(" exited false"), "{}", state());
    let stopped = state();
    std::thread::sleep(Duration::from_secs(4));
    assert_eq!(state(), stopped, "stopped in its pause, it stays stopped");
    let count = || {
        engine
            .inspect("box", "{{.RestartCount}}")
            .parse::<u32>()
            .unwrap()
    };
    let before = count();
    engine.docker("start box").ok();
    eventually("it is counted from the beginning", || {
        (1..before).contains(&count())
    });
    eventually("its pauses are long", || {
        count() >= 5 && state().ends_with(" restarting true")
    });
    engine.docker("kill box").ok();
    assert!(state().ends_with(" exited false"), "{}", state());
    engine.docker("update --restart no box").ok();
    engine.docker("rm box").ok();
}

#[test]
fn a_policy_can_change_while_it_runs() {
    let engine = engine();
    engine
        .docker("run -d --name box busybox sh -c 'sleep 1000 & wait'")
        .ok();
    engine.docker("update --restart always box").ok();
    engine.docker("exec box kill -9 1").ok();
    let pid = engine.inspect("box", "{{.State.Pid}}");
    crate::bench::kill9(pid.parse().unwrap());
    eventually("it was restarted", || {
        engine.inspect("box", "{{.RestartCount}} {{.State.Status}}") == "1 running"
    });
    engine.gorae("update --restart on-unhealthy:4 box").ok();
    assert_eq!(
        engine.inspect("box", "{{json .HostConfig.RestartPolicy}}"),
        r#"{"Name":"on-unhealthy","MaximumRetryCount":4}"#
    );
}

#[test]
fn init_reaps_and_hands_signals_on() {
    let engine = engine();
    engine
        .docker("run -d --name box --init busybox sh -c '(sleep 0.1 &) ; trap \"echo usr1\" USR1; trap \"exit 9\" TERM; while :; do sleep 0.05; done'")
        .ok();
    engine.docker("exec -d box sh -c '(sleep 0.2 &)'").ok();
    eventually("its orphans are reaped", || {
        !engine
            .docker("top box -eo pid,stat,args")
            .stdout
            .contains(" Z")
            && !engine
                .docker("top box -eo pid,args")
                .stdout
                .contains("sleep 0.2")
    });
    engine.docker("kill -s USR1 box").ok();
    eventually("the signal is handed on", || {
        engine.docker("logs box").stdout.contains("usr1")
    });
    engine.docker("stop box").ok();
    assert_eq!(engine.inspect("box", "{{.State.ExitCode}}"), "9");
    engine
        .docker("run --rm --init busybox sh -c 'exit 42'")
        .fails(42);
    engine
        .docker("run --rm --init busybox sh -c 'kill -KILL $$'")
        .fails(137);
}

/// Sends a request to wait; the head of its answer tells that the engine does.
fn begin_to_wait(engine: &Engine, path: &str) -> UnixStream {
    let mut stream = UnixStream::connect(engine.socket()).unwrap();
    stream.set_read_timeout(Some(LIMIT)).unwrap();
    let request = format!("POST {path} HTTP/1.0\r\nHost: gorae\r\nContent-Length: 0\r\n\r\n");
    stream.write_all(request.as_bytes()).unwrap();
    let head = read_head(&mut stream);
    assert!(head.contains(" 200 "), "{head}");
    stream
}

#[test]
fn waits() {
    let engine = engine();
    for (condition, expect) in [
        ("removed", r#"{"StatusCode":6}"#),
        ("next-exit", r#"{"StatusCode":6}"#),
        ("not-running", r#"{"StatusCode":0}"#),
    ] {
        let id = engine.docker("create --rm --name box busybox sh -c 'exit 6'");
        let path = format!("/v1.51/containers/box/wait?condition={condition}");
        {
            let mut waiting = begin_to_wait(&engine, &path);
            engine.docker("start box").ok();
            let mut text = String::new();
            waiting.read_to_string(&mut text).unwrap();
            assert_eq!(text.trim(), expect, "{condition}");
        }
        eventually("it has removed itself", || {
            engine.docker("inspect box").code != 0
        });
        // who asks a moment too late is told as well, but only by its id
        let path = |name: &str| format!("/v1.51/containers/{name}/wait?condition={condition}");
        let late = engine.api("POST", &path(id.ok()), "").unwrap();
        let text = String::from_utf8(late.body).unwrap();
        assert_eq!((late.status, text.trim()), (200, r#"{"StatusCode":6}"#));
        assert_eq!(engine.api("POST", &path("box"), "").unwrap().status, 404);
    }
    // a removal by force ends every wait
    engine.docker("run -d --name box busybox sleep 1000").ok();
    for condition in ["removed", "next-exit", "not-running"] {
        let _missing_at_first = engine.docker("rm -f box");
        engine.docker("run -d --name box busybox sleep 1000").ok();
        let path = format!("/v1.51/containers/box/wait?condition={condition}");
        {
            let mut waiting = begin_to_wait(&engine, &path);
            engine.docker("rm -f box").ok();
            let mut text = String::new();
            waiting.read_to_string(&mut text).unwrap();
            assert_eq!(text.trim(), r#"{"StatusCode":137}"#, "{condition}");
        }
    }
}
