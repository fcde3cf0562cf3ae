//! Health checks: what is run, when, what its results mean, and what follows from them.

use std::time::Duration;

use testkit::docker::Client;
use testkit::engine::Engine;

use crate::bench::{Checks, engine, eventually, told};

fn status(engine: &Engine, name: &str) -> String {
    engine.inspect(name, "{{.State.Health.Status}}")
}

/// A container that is checked ten times a second.
fn checked(engine: &Engine, name: &str, flags: &str) {
    let line = format!("run -d --name {name} --health-interval 100ms {flags} busybox sleep 1000");
    engine.docker(&line).ok();
}

/// The events of a container so far, each as its action and one attribute.
fn events(engine: &Engine, name: &str) -> Vec<String> {
    let filter = format!("container={name}");
    let format = "{{.Action}} {{.Actor.Attributes.exitCode}}";
    told(engine, &[&filter], format)
}

#[test]
fn results_and_events() {
    let engine = engine();
    checked(&engine, "well", "--health-cmd 'echo fine'");
    checked(
        &engine,
        "sick",
        "--health-cmd 'echo bad; exit 3' --health-retries 2",
    );
    eventually("the two are told apart", || {
        status(&engine, "well") == "healthy" && status(&engine, "sick") == "unhealthy"
    });
    let streak = engine.inspect("sick", "{{.State.Health.FailingStreak}}");
    assert!(streak.parse::<u32>().unwrap() >= 2, "{streak}");
    assert_eq!(
        engine.inspect(
            "sick",
            "{{with index .State.Health.Log 0}}{{.ExitCode}} {{.Output}}{{end}}"
        ),
        "3 bad"
    );
    eventually("five results are kept", || {
        engine.inspect("well", "{{len .State.Health.Log}}") == "5"
    });
    std::thread::sleep(Duration::from_millis(400));
    assert_eq!(engine.inspect("well", "{{len .State.Health.Log}}"), "5");
    let told = events(&engine, "sick");
    let beginning: Vec<&str> = told.iter().take(9).map(String::as_str).collect();
    assert_eq!(
        beginning,
        [
            "create",
            "start",
            "exec_create: /bin/sh -c echo bad; exit 3",
            "exec_start: /bin/sh -c echo bad; exit 3",
            "exec_die 3",
            "exec_create: /bin/sh -c echo bad; exit 3",
            "exec_start: /bin/sh -c echo bad; exit 3",
            "exec_die 3",
            "health_status: unhealthy",
        ],
        "{told:#?}"
    );
    assert!(events(&engine, "well").contains(&"health_status: healthy".to_owned()));
    engine.docker("stop -t 0 well").ok();
    assert_eq!(
        status(&engine, "well"),
        "unhealthy",
        "nobody checks a stopped one"
    );
    assert_eq!(
        engine.inspect("well", "{{.State.Health.FailingStreak}}"),
        "0"
    );
}

#[test]
fn limits_of_a_check() {
    let engine = engine();
    let mut checks = Checks::default();
    // long enough to say something, and with time in between
    engine
        .docker("run -d --name slow --health-interval 2s --health-timeout 2s --health-retries 1 --health-cmd 'echo said; sleep 100' busybox sleep 1000")
        .ok();
    checked(&engine, "loud", "--health-cmd 'yes | head -c 9000'");
    engine
        .docker("run -d --name none --no-healthcheck busybox sleep 1000")
        .ok();
    let body = r#"{"Image":"busybox","Cmd":["sleep","1000"],"Healthcheck":{"Test":["CMD","nosuch"],"Interval":100000000}}"#;
    engine
        .api("POST", "/v1.51/containers/create?name=lost", body)
        .unwrap();
    engine.docker("start lost").ok();
    eventually("all have been checked", || {
        ["slow", "loud", "lost"]
            .iter()
            .all(|name| engine.inspect(name, "{{len .State.Health.Log}}") != "0")
    });
    let last = |name: &str| {
        engine.inspect(
            name,
            "{{with index .State.Health.Log 0}}{{.ExitCode}} {{.Output}}{{end}}",
        )
    };
    let slow = last("slow");
    checks.note(
        slow == "-1 Health check exceeded timeout (2s): said",
        || slow.clone(),
    );
    let loud = last("loud");
    checks.note(
        loud.len() == "0 ".len() + 4096 + "...".len() && loud.ends_with("..."),
        || loud.clone(),
    );
    let lost = last("lost");
    checks.note(lost.starts_with("-1 OCI runtime exec failed: "), || {
        lost.clone()
    });
    checks.note(
        engine.inspect("none", "{{json .State.Health}}") == "null",
        || "NONE is checked".into(),
    );
    // a check that was given up runs no more
    eventually("nothing of a check is left", || {
        !engine
            .docker("top slow -eo pid,args")
            .stdout
            .contains("sleep 100\n")
    });
}

#[test]
fn start_period_and_start_interval() {
    let engine = engine();
    engine
        .docker("run -d --name box --health-cmd 'test -e /ready' --health-interval 1h --health-start-period 1h --health-start-interval 100ms --health-retries 1 busybox sleep 1000")
        .ok();
    eventually("it has failed some checks", || {
        engine.inspect("box", "{{len .State.Health.Log}}") == "5"
    });
    assert_eq!(
        status(&engine, "box"),
        "starting",
        "failures do not count yet"
    );
    assert_eq!(
        engine.inspect("box", "{{.State.Health.FailingStreak}}"),
        "0"
    );
    assert!(engine.docker("ps").stdout.contains("(health: starting)"));
    engine.docker("exec box touch /ready").ok();
    eventually("it is ready", || status(&engine, "box") == "healthy");
}

#[test]
fn health_outlives_the_engine() {
    let mut engine = engine();
    checked(
        &engine,
        "box",
        "--health-cmd 'test -e /ready' --health-retries 1",
    );
    eventually("it is unhealthy", || status(&engine, "box") == "unhealthy");
    engine.kill9().unwrap();
    engine.restart().unwrap();
    eventually("the next engine knows it, too", || {
        status(&engine, "box") == "unhealthy"
    });
    engine.docker("exec box touch /ready").ok();
    eventually("it is checked again", || {
        status(&engine, "box") == "healthy"
    });
}

#[test]
fn the_unhealthy_are_restarted_where_they_ask_for_it() {
    // a check that comes before the program has removed the file makes one restart more
    const FLAGS: &str = "--health-cmd 'test ! -e /sick' --health-interval 300ms --health-retries 1";
    let engine = engine();
    for (client, name, policy) in [
        (Client::Gorae, "policy", "--restart on-unhealthy"),
        (
            Client::Docker,
            "label",
            "-l io.gorae.restart=on-unhealthy:2",
        ),
        (
            Client::Gorae,
            "both",
            "--restart always -l io.gorae.restart=on-unhealthy",
        ),
    ] {
        let line = format!(
            "run -d --name {name} {policy} {FLAGS} busybox sh -c 'rm -f /sick; exec sleep 1000'"
        );
        engine.run(client, &line).ok();
        eventually("it is healthy", || status(&engine, name) == "healthy");
        engine.docker(&format!("exec {name} touch /sick")).ok();
        eventually("it was restarted", || {
            let told = engine.inspect(name, "{{.RestartCount}} {{.State.Status}}");
            told.ends_with(" running") && !told.starts_with("0 ")
        });
        eventually("it is healthy again", || status(&engine, name) == "healthy");
        let told = events(&engine, name);
        let turn = told
            .iter()
            .position(|e| e == "health_status: unhealthy")
            .unwrap();
        let after: Vec<&str> = told[turn..]
            .iter()
            .map(String::as_str)
            .filter(|e| !e.starts_with("exec_"))
            .collect();
        assert_eq!(after[1], "kill", "{told:#?}");
        assert!(after.contains(&"start"), "{told:#?}");
        // what a person stops stays so
        engine.docker(&format!("stop -t 0 {name}")).ok();
        std::thread::sleep(Duration::from_millis(300));
        assert_eq!(engine.inspect(name, "{{.State.Status}}"), "exited");
    }
    assert_eq!(
        engine.inspect(
            "label",
            "{{.HostConfig.RestartPolicy.Name}} {{.HostConfig.RestartPolicy.MaximumRetryCount}}"
        ),
        "on-unhealthy 2"
    );
}

#[test]
fn restarts_of_the_unhealthy_have_a_bound() {
    let engine = engine();
    engine
        .gorae("run -d --name box --stop-timeout 0 --restart on-unhealthy:2 --health-cmd false --health-interval 100ms --health-retries 1 busybox sleep 1000")
        .ok();
    eventually("it was restarted twice", || {
        engine.inspect("box", "{{.RestartCount}} {{.State.Status}}") == "2 running"
            && status(&engine, "box") == "unhealthy"
    });
    std::thread::sleep(Duration::from_millis(600));
    assert_eq!(
        engine.inspect("box", "{{.RestartCount}} {{.State.Status}}"),
        "2 running"
    );
}
