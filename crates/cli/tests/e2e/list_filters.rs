//! `GET /containers/json`: every filter, the order, the limit, and health beside the state.

use testkit::engine::Engine;

use crate::bench::{Checks, engine, eventually};

/// The names that a list gives, in its order, joined by spaces; or the refusal.
fn listed(engine: &Engine, query: &str) -> String {
    let query = query
        .replace('{', "%7B")
        .replace('}', "%7D")
        .replace('"', "%22");
    let query = query.replace('[', "%5B").replace(']', "%5D");
    let path = format!("/v1.51/containers/json?{query}");
    let answer = engine.api("GET", &path, "").unwrap();
    let text = String::from_utf8(answer.body).unwrap();
    if answer.status != 200 {
        return format!("{} {}", answer.status, text.trim());
    }
    let names = text.split(r#""Names":["/"#).skip(1);
    let names: Vec<&str> = names.map(|rest| rest.split('"').next().unwrap()).collect();
    names.join(" ")
}

#[test]
fn every_filter() {
    let engine = engine();
    engine.docker("network create app").ok();
    engine
        .docker("run -d --name first --network app --expose 80 --expose 53/udp -l tier=web -v data:/srv busybox sleep 1000")
        .ok();
    engine
        .docker("run --name second -l tier=db busybox sh -c 'exit 3'")
        .fails(3);
    engine
        .docker("create --name third -p 127.0.0.1:0:8080 busybox true")
        .ok();
    engine
        .docker("run -d --name fourth --health-cmd true --health-interval 100ms busybox sleep 1000")
        .ok();
    eventually("the fourth is healthy", || {
        engine.inspect("fourth", "{{.State.Health.Status}}") == "healthy"
    });
    engine.docker("pause first").ok();
    #[rustfmt::skip]
    const ROWS: &[(&str, &str)] = &[
        ("", "fourth first"),
        ("all=1", "fourth third second first"),
        ("limit=2", "fourth third"),
        ("limit=-1", "fourth first"),
        ("limit=x", r#"400 {"message":"strconv.Atoi: parsing \"x\": invalid syntax"}"#),
        (r#"filters={"status":["exited"]}"#, "second"),
        (r#"filters={"status":["created","paused"]}"#, "third first"),
        (r#"filters={"status":["removing"]}"#, ""),
        (r#"filters={"status":["x"]}"#, r#"400 {"message":"invalid filter 'status=x': invalid value for state (x): must be one of created, running, paused, restarting, removing, exited, dead"}"#),
        (r#"filters={"exited":["3"]}"#, "second"),
        (r#"filters={"exited":["0","3"]}"#, "second"),
        (r#"filters={"exited":["x"]}"#, r#"400 {"message":"invalid filter 'exited=x': strconv.Atoi: parsing \"x\": invalid syntax"}"#),
        (r#"all=1&filters={"health":["healthy"]}"#, "fourth"),
        (r#"all=1&filters={"health":["none"]}"#, "third second first"),
        (r#"filters={"health":["x"]}"#, r#"400 {"message":"invalid filter 'health=x': invalid value for health (x): must be one of none, starting, healthy, unhealthy"}"#),
        (r#"filters={"is-task":["0"]}"#, "fourth first"),
        (r#"filters={"is-task":["true"]}"#, ""),
        (r#"filters={"is-task":["x"]}"#, r#"400 {"message":"invalid filter 'is-task=[x]'"}"#),
        (r#"filters={"isolation":["x"]}"#, "fourth first"),
        (r#"all=1&filters={"before":["second"]}"#, "first"),
        (r#"all=1&filters={"since":["second"]}"#, "fourth third"),
        (r#"filters={"since":["nosuch"]}"#, r#"404 {"message":"No such container: nosuch"}"#),
        (r#"all=1&filters={"ancestor":["busybox"]}"#, "fourth third second first"),
        (r#"all=1&filters={"ancestor":["nosuch"]}"#, ""),
        (r#"all=1&filters={"expose":["80"]}"#, "first"),
        (r#"all=1&filters={"expose":["50-60/udp"]}"#, "first"),
        (r#"all=1&filters={"expose":["53"]}"#, ""),
        (r#"all=1&filters={"publish":["8080/tcp"]}"#, "third"),
        (r#"all=1&filters={"publish":["8000-9000"]}"#, "third"),
        (r#"all=1&filters={"publish":["8080/udp"]}"#, ""),
        (r#"filters={"publish":["99999"]}"#, r#"400 {"message":"error while looking up for publish 99999: strconv.ParseUint: parsing \"99999\": value out of range"}"#),
        (r#"filters={"expose":["x"]}"#, r#"400 {"message":"error while looking up for expose x: strconv.ParseUint: parsing \"x\": invalid syntax"}"#),
        (r#"all=1&filters={"label":["tier"]}"#, "second first"),
        (r#"all=1&filters={"label":["tier=db"]}"#, "second"),
        (r#"all=1&filters={"label!":["tier"]}"#, "fourth third"),
        (r#"all=1&filters={"name":["^/fi"]}"#, "first"),
        (r#"all=1&filters={"name":["ir"]}"#, "third first"),
        (r#"all=1&filters={"network":["app"]}"#, "first"),
        (r#"all=1&filters={"volume":["data"]}"#, "first"),
        (r#"all=1&filters={"volume":["/srv"]}"#, "first"),
        (r#"all=1&filters={"id":["zz"]}"#, ""),
        (r#"all=1&filters={"status":["exited"],"label":["tier=web"]}"#, ""),
        (r#"filters={"nosuch":["1"]}"#, r#"400 {"message":"invalid filter 'nosuch'"}"#),
    ];
    let mut checks = Checks::default();
    for (query, expect) in ROWS {
        let found = listed(&engine, query);
        checks.note(found == *expect, || {
            format!("{query}: expected {expect:?}: {found:?}")
        });
    }
}

#[test]
fn health_is_listed() {
    let engine = engine();
    engine.docker("create --name plain busybox true").ok();
    engine.docker("run -d --name sick --health-cmd false --health-interval 100ms --health-retries 2 busybox sleep 1000").ok();
    eventually("it is unhealthy", || {
        engine.docker("ps").stdout.contains("(unhealthy)")
    });
    let answer = engine
        .api("GET", "/v1.51/containers/json?all=1", "")
        .unwrap();
    let text = String::from_utf8(answer.body).unwrap();
    assert!(
        text.contains(r#""Health":{"Status":"none","FailingStreak":0}"#),
        "{text}"
    );
    assert!(
        text.contains(r#""Health":{"Status":"unhealthy","FailingStreak":"#),
        "{text}"
    );
}
