//! Every command on containers, with Docker's command line and with Gorae's.

use testkit::docker::Client;

use crate::bench::{engine, eventually, now};

#[test]
fn run_gives_output_and_exit_code() {
    let engine = engine();
    for client in Client::BOTH {
        engine
            .run(client, "run --rm busybox echo hello")
            .prints("hello");
        let outcome = engine.run(
            client,
            "run --rm busybox sh -c 'echo out; echo err >&2; exit 3'",
        );
        let streams = (outcome.code, outcome.stdout.trim(), outcome.stderr.trim());
        assert_eq!(streams, (3, "out", "err"), "{outcome:?}");
        engine
            .run(
                client,
                "run --rm busybox sh -c \"sh -c 'kill -9 $$'; exit $?\"",
            )
            .fails(137);
        engine
            .run(
                client,
                "run --rm busybox sh -c \"sh -c 'kill -TERM $$'; exit $?\"",
            )
            .fails(143);
        engine
            .run(client, "run --rm busybox nosuchprogram")
            .complains(
                127,
                "exec: \"nosuchprogram\": executable file not found in $PATH",
            );
        engine.run(client, "run --rm busybox /no/such").complains(
            127,
            "exec: \"/no/such\": stat /no/such: no such file or directory",
        );
        engine
            .run(client, "run --rm busybox /etc/passwd")
            .complains(126, "exec: \"/etc/passwd\": permission denied");
        engine.run(client, "run --rm busybox /etc").fails(126);
        engine
            .run(client, "run --rm --nosuchflag busybox true")
            .complains(125, "unknown flag: --nosuchflag");
        engine.run(client, "ps -aq").prints("");
    }
}

#[test]
fn create_start_stop_and_their_states() {
    let engine = engine();
    for client in Client::BOTH {
        let id = engine.run(client, "create --name one busybox sleep 1000");
        let id = id.ok();
        assert_eq!(id.len(), 64);
        assert_eq!(
            engine.inspect("one", "{{.State.Status}} {{.State.Pid}}"),
            "created 0"
        );
        engine.run(client, "start one").prints("one");
        assert_eq!(
            engine.inspect("one", "{{.State.Status}} {{.State.Running}}"),
            "running true"
        );
        engine.run(client, "start one").prints("one");
        // sleep is pid 1 and has no handler: only SIGKILL ends it
        engine.run(client, "stop -t 0 one").prints("one");
        assert_eq!(
            engine.inspect("one", "{{.State.Status}} {{.State.ExitCode}}"),
            "exited 137"
        );
        engine.run(client, "stop one").prints("one");
        engine
            .run(client, &format!("start {}", &id[..12]))
            .prints(&id[..12]);
        engine
            .run(client, "rm one")
            .complains(1, "container is running");
        engine.run(client, "kill one").prints("one");
        engine.run(client, "wait one").prints("137");
        engine
            .run(client, "kill one")
            .complains(1, "is not running");
        engine.run(client, "rm one").prints("one");
        engine.run(client, "inspect one").complains(1, "one");
        engine
            .run(client, "start one")
            .complains(1, "No such container: one");
    }
}

#[test]
fn stop_sends_the_stop_signal_and_waits() {
    let engine = engine();
    let script = "trap 'echo got it; exit 7' USR1; echo ready; while :; do sleep 0.05; done";
    for client in Client::BOTH {
        let line = format!("run -d --name box --stop-signal SIGUSR1 busybox sh -c \"{script}\"");
        engine.run(client, &line).ok();
        eventually("the trap is set", || {
            engine.run(client, "logs box").stdout.contains("ready")
        });
        engine.run(client, "stop box").prints("box");
        assert_eq!(engine.inspect("box", "{{.State.ExitCode}}"), "7");
        engine.run(client, "logs box").shows("got it");
        engine.run(client, "rm box").ok();

        let line = "run -d --name two --stop-timeout 1 busybox sh -c \"trap '' TERM; sleep 1000\"";
        engine.run(client, line).ok();
        let begun = std::time::Instant::now();
        engine.run(client, "stop two").ok();
        assert!(
            // ten seconds are the time where nobody says
            (900..9500).contains(&begun.elapsed().as_millis()),
            "{:?}",
            begun.elapsed()
        );
        assert_eq!(engine.inspect("two", "{{.State.ExitCode}}"), "137");
        engine.run(client, "rm two").ok();
    }
}

#[test]
fn kill_sends_any_signal() {
    let engine = engine();
    for client in Client::BOTH {
        let script = "trap 'echo hup' HUP; trap 'echo usr2' USR2; trap 'exit 4' INT; echo ready; while :; do sleep 0.05; done";
        engine
            .run(
                client,
                &format!("run -d --name box busybox sh -c \"{script}\""),
            )
            .ok();
        eventually("the traps are set", || {
            engine.run(client, "logs box").stdout.contains("ready")
        });
        for (signal, word) in [("HUP", "hup"), ("SIGUSR2", "usr2")] {
            engine
                .run(client, &format!("kill -s {signal} box"))
                .prints("box");
            eventually(word, || {
                engine.run(client, "logs box").stdout.contains(word)
            });
        }
        engine.run(client, "kill --signal=2 box").ok();
        engine.run(client, "wait box").prints("4");
        engine
            .run(client, "kill -s NOSUCH box")
            .complains(1, "NOSUCH");
        engine.run(client, "rm box").ok();
    }
}

#[test]
fn restart_wait_rename_and_rm() {
    let engine = engine();
    for client in Client::BOTH {
        engine
            .run(
                client,
                "run -d --name box busybox sh -c 'echo started; sleep 1000'",
            )
            .ok();
        let pid = engine.inspect("box", "{{.State.Pid}}");
        engine.run(client, "restart -t 0 box").prints("box");
        assert_ne!(engine.inspect("box", "{{.State.Pid}}"), pid);
        eventually("it said so twice", || {
            engine
                .run(client, "logs box")
                .stdout
                .matches("started")
                .count()
                == 2
        });
        engine.run(client, "rename box two").ok();
        engine
            .run(client, "rename box three")
            .complains(1, "No such container: box");
        engine.run(client, "create --name taken busybox").ok();
        engine
            .run(client, "rename two taken")
            .complains(1, "is already in use");
        let waiter = engine.session(client, "wait two taken");
        let removed = engine.run(client, "rm -f two taken");
        removed.prints("two\ntaken");
        drop(waiter);
        engine
            .run(client, "rm nosuch")
            .complains(1, "No such container: nosuch");
        engine
            .run(client, "rm -f nosuch")
            .complains(0, "No such container: nosuch");
    }
}

#[test]
fn ps_lists_filters_and_formats() {
    let engine = engine();
    engine
        .docker("run -d --name up --label tier=web -p 127.0.0.1:8080:80 busybox sleep 1000")
        .ok();
    engine
        .docker("run --name down --label tier=db busybox sh -c 'exit 5'")
        .fails(5);
    engine.docker("create --name new busybox true").ok();
    let check = |line: &str, expect: &str| {
        for client in Client::BOTH {
            let outcome = engine.run(client, line);
            let mut lines: Vec<&str> = outcome.ok().lines().collect();
            lines.sort_unstable();
            assert_eq!(lines.join(" "), expect, "{outcome:?}");
        }
    };
    check("ps --format {{.Names}}", "up");
    check("ps -a --format {{.Names}}", "down new up");
    check("ps -a --filter status=exited --format {{.Names}}", "down");
    check("ps -a --filter exited=5 --format {{.Names}}", "down");
    check("ps -a --filter label=tier --format {{.Names}}", "down up");
    check("ps -a --filter label=tier=web --format {{.Names}}", "up");
    check("ps -a --filter name=ow --format {{.Names}}", "down");
    check(
        "ps -a --filter ancestor=busybox --filter status=created --format {{.Names}}",
        "new",
    );
    check("ps -n 1 --format {{.Names}}", "new");
    check("ps -l --format {{.Names}}", "new");
    check("ps --format {{.Ports}}", "127.0.0.1:8080->80/tcp");
    check(
        "ps --format '{{.Image}} {{.Command}} {{.Label \"tier\"}}'",
        "busybox \"sleep 1000\" web",
    );
    for client in Client::BOTH {
        let table = engine.run(client, "ps -a");
        let header: Vec<&str> = table
            .ok()
            .lines()
            .next()
            .unwrap()
            .split_whitespace()
            .collect();
        assert_eq!(
            header.join(" "),
            "CONTAINER ID IMAGE COMMAND CREATED STATUS PORTS NAMES"
        );
        table.shows("Exited (5)");
        table.shows("Up ");
        table.shows("Created");
        let json = engine.run(client, "ps --format json");
        let value: serde_json::Value = serde_json::from_str(json.ok()).unwrap();
        assert_eq!(
            (&value["Names"], &value["State"]),
            (&"up".into(), &"running".into())
        );
        assert_eq!(engine.run(client, "ps -q --no-trunc").ok().len(), 64);
        engine
            .run(client, "ps --filter nosuch=1")
            .complains(1, "invalid filter 'nosuch'");
    }
}

#[test]
fn inspect_shows_what_was_asked_for() {
    let engine = engine();
    let flags = "--name box -e A=1 -w /tmp -u 1:2 --hostname box -m 64m --label l=v --restart on-failure:3 -p 127.0.0.1:0:80 -v vol:/v:ro";
    engine
        .docker(&format!("run -d {flags} busybox sleep 1000"))
        .ok();
    let check = |format: &str, expect: &str| {
        for client in Client::BOTH {
            let words = ["inspect", "--format", format, "box"];
            let command = engine.command(client, words);
            let outcome = testkit::docker::Session::pipes(command).unwrap().finish();
            outcome.prints(expect);
        }
    };
    check(
        "{{.Name}} {{.State.Status}} {{.Config.User}} {{.Config.WorkingDir}}",
        "/box running 1:2 /tmp",
    );
    check(
        "{{json .Config.Cmd}} {{.Path}} {{json .Args}}",
        "[\"sleep\",\"1000\"] sleep [\"1000\"]",
    );
    check(
        "{{.HostConfig.Memory}} {{.HostConfig.MemorySwap}}",
        "67108864 134217728",
    );
    check(
        "{{.HostConfig.RestartPolicy.Name}}:{{.HostConfig.RestartPolicy.MaximumRetryCount}}",
        "on-failure:3",
    );
    check(
        "{{index .Config.Labels \"l\"}} {{.Config.Hostname}}",
        "v box",
    );
    check(
        "{{range .Mounts}}{{.Type}} {{.Name}} {{.Destination}} {{.RW}}{{end}}",
        "volume vol /v false",
    );
    check("{{.NetworkSettings.Networks.bridge.Gateway}}", "172.17.0.1");
    check(
        "{{(index (index .NetworkSettings.Ports \"80/tcp\") 0).HostIp}}",
        "127.0.0.1",
    );
    check(
        "{{.Config.Image}} {{.HostConfig.NetworkMode}} {{.Driver}}",
        "busybox bridge overlay2",
    );
    for client in Client::BOTH {
        let all = engine.run(client, "inspect box busybox");
        let all: serde_json::Value = serde_json::from_str(all.ok()).unwrap();
        assert_eq!(all.as_array().unwrap().len(), 2);
        let missing = engine.run(client, "inspect nosuch");
        assert_eq!((missing.code, missing.stdout.trim()), (1, "[]"));
        assert!(missing.stderr.contains("nosuch"), "{missing:?}");
        engine
            .run(client, "container inspect busybox")
            .complains(1, "No such container: busybox");
    }
}

#[test]
fn exec_runs_beside_the_first_process() {
    let engine = engine();
    engine
        .docker("run -d --name box -e A=1 busybox sleep 1000")
        .ok();
    for client in Client::BOTH {
        engine.run(client, "exec box echo hello").prints("hello");
        let outcome = engine.run(client, "exec box sh -c 'echo out; echo err >&2; exit 9'");
        let streams = (outcome.code, outcome.stdout.trim(), outcome.stderr.trim());
        assert_eq!(streams, (9, "out", "err"), "{outcome:?}");
        engine
            .run(
                client,
                "exec -e B=2 -w /tmp -u 65534 box sh -c 'echo $A $B $PWD $(id -u)'",
            )
            .prints("1 2 /tmp 65534");
        engine
            .run(client, "exec -u nobody box id -un")
            .prints("nobody");
        engine
            .run(client, "exec box nosuchprogram")
            .says(127, "executable file not found in $PATH");
        engine
            .run(client, "exec box /etc/passwd")
            .says(126, "permission denied");
        engine.run(client, "exec -u nosuch box id").says(
            1,
            "unable to find user nosuch: no matching entries in passwd file",
        );
        engine.run(client, "exec -w /nosuch box id").says(
            127,
            "chdir to cwd (\"/nosuch\") set in config.json failed: no such file or directory",
        );
        engine
            .run(client, "exec box sh -c 'kill -KILL $$'")
            .fails(137);
        engine.run(client, "exec -d box touch /tmp/detached").ok();
        eventually("the detached process has run", || {
            engine.run(client, "exec box rm /tmp/detached").code == 0
        });
        engine
            .run(client, "exec box grep CapEff /proc/self/status")
            .shows(crate::bench::DEFAULT_CAPABILITIES);
        engine
            .run(
                client,
                "exec --privileged box grep CapBnd /proc/self/status",
            )
            .ok();
        engine
            .run(client, "exec nosuch true")
            .complains(1, "No such container: nosuch");
    }
    engine.docker("stop -t 0 box").ok();
    for client in Client::BOTH {
        engine
            .run(client, "exec box true")
            .complains(1, "is not running");
    }
}

#[test]
fn top_pause_and_update() {
    let engine = engine();
    engine
        .docker("run -d --name box busybox sh -c 'sleep 1000 & sleep 2000'")
        .ok();
    for client in Client::BOTH {
        eventually("both have been started", || {
            let top = engine.run(client, "top box");
            assert!(top.ok().starts_with("UID"), "{top:?}");
            top.stdout.contains("sleep 1000") && top.stdout.contains("sleep 2000")
        });
        engine
            .run(client, "top box -o pid,args")
            .shows("sleep 2000");
        engine.run(client, "pause box").prints("box");
        engine.run(client, "ps").shows("(Paused)");
        engine
            .run(client, "exec box true")
            .complains(1, "is paused");
        engine.run(client, "unpause box").prints("box");
        engine.run(client, "exec box true").ok();
        engine
            .run(
                client,
                "update -m 32m --memory-swap 64m --restart unless-stopped box",
            )
            .ok();
        assert_eq!(engine.inspect("box", "{{.HostConfig.Memory}}"), "33554432");
        let stats = engine.run(
            client,
            "stats --no-stream --format '{{.Name}} {{.MemUsage}}' box",
        );
        assert!(
            stats.ok().starts_with("box ") && stats.stdout.contains("32MiB"),
            "{stats:?}"
        );
    }
}

#[test]
fn prune_removes_what_has_ended() {
    let engine = engine();
    for client in Client::BOTH {
        engine
            .run(client, "run -d --name up busybox sleep 1000")
            .ok();
        engine.run(client, "run --name down busybox true").ok();
        engine.run(client, "create --name new busybox").ok();
        let pruned = engine.run(client, "container prune -f");
        pruned.shows("Total reclaimed space");
        engine.run(client, "ps -a --format {{.Names}}").prints("up");
        engine.run(client, "rm -f up").ok();
    }
}

#[test]
fn events_tell_the_life_of_a_container() {
    let engine = engine();
    for client in Client::BOTH {
        let since = now();
        engine.run(client, "run --name box busybox true").ok();
        engine.run(client, "rm box").ok();
        let until = now();
        let line = format!(
            "events --since {since} --until {until} --filter container=box --format '{{{{.Action}}}}'"
        );
        let events = engine.run(client, &line);
        let actions: Vec<&str> = events.ok().lines().collect();
        let wanted = ["create", "start", "die", "destroy"];
        let mut rest = actions.iter();
        assert!(
            wanted.iter().all(|action| rest.any(|seen| seen == action)),
            "{events:?}"
        );
    }
}

#[test]
fn two_containers_cannot_share_a_name() {
    let engine = engine();
    let first = engine.docker("create --name box busybox").ok().to_owned();
    let text = format!(
        "Conflict. The container name \"/box\" is already in use by container \"{first}\". You have to remove (or rename) that container to be able to reuse that name."
    );
    for client in Client::BOTH {
        engine
            .run(client, "create --name box busybox")
            .complains(1, &text);
        engine
            .run(client, "run --name box busybox")
            .complains(125, &text);
        engine.run(client, "run --name 'a b' busybox").complains(
            125,
            "Invalid container name (a b), only [a-zA-Z0-9][a-zA-Z0-9_.-] are allowed",
        );
    }
}
