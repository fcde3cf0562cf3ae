//! The stream of events: what dockerd tells of the same commands, and every way to choose among it.

use std::collections::BTreeMap;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use api::event::Message;
use testkit::docker::Client;
use testkit::engine::Engine;

use crate::bench::{Checks, engine, eventually};

/// Commands of Docker's command line, and behind each what dockerd 28.5.2 told of it: kind, action and
/// attributes, with ids left out. `die` and `stop` race with each other there.
const SCRIPT: &[(&str, &[&str])] = &[
    (
        "volume create --label vl=1 evvol",
        &["volume create evvol driver=local"],
    ),
    (
        "network create --label nl=1 evnet",
        &["network create ID name=evnet type=bridge"],
    ),
    (
        "create --name evc --label cl=2 -v evvol:/v --network evnet busybox sleep 1000",
        &["container create ID cl=2 image=busybox name=evc"],
    ),
    (
        "start evc",
        &[
            "volume mount evvol container=ID destination=/v driver=local propagation= read/write=true",
            "network connect ID container=ID name=evnet type=bridge",
            "container start ID cl=2 image=busybox name=evc",
        ],
    ),
    (
        "exec evc true",
        &[
            "container exec_create: true  ID cl=2 execID=ID image=busybox name=evc",
            "container exec_start: true  ID cl=2 execID=ID image=busybox name=evc",
            "container exec_die ID cl=2 execID=ID exitCode=0 image=busybox name=evc",
        ],
    ),
    (
        "exec -d evc sh -c 'exit 3'",
        &[
            "container exec_create: sh -c exit 3 ID cl=2 execID=ID image=busybox name=evc",
            "container exec_start: sh -c exit 3 ID cl=2 execID=ID image=busybox name=evc",
            "container exec_die ID cl=2 execID=ID exitCode=3 image=busybox name=evc",
        ],
    ),
    (
        "pause evc",
        &["container pause ID cl=2 image=busybox name=evc"],
    ),
    (
        "unpause evc",
        &["container unpause ID cl=2 image=busybox name=evc"],
    ),
    ("top evc", &["container top ID cl=2 image=busybox name=evc"]),
    (
        "rename evc evd",
        &["container rename ID cl=2 image=busybox name=evd oldName=/evc"],
    ),
    (
        "update --memory 100m --memory-swap 200m evd",
        &["container update ID cl=2 image=busybox name=evd"],
    ),
    (
        "network connect bridge evd",
        &["network connect ID container=ID name=bridge type=bridge"],
    ),
    (
        "network disconnect bridge evd",
        &["network disconnect ID container=ID name=bridge type=bridge"],
    ),
    (
        "restart -t 0 evd",
        &[
            "container kill ID cl=2 image=busybox name=evd signal=15",
            "container kill ID cl=2 image=busybox name=evd signal=9",
            "network disconnect ID container=ID name=evnet type=bridge",
            "volume unmount evvol container=ID driver=local",
            "container die ID cl=2 exitCode=137 image=busybox name=evd",
            "container stop ID cl=2 image=busybox name=evd",
            "volume mount evvol container=ID destination=/v driver=local propagation= read/write=true",
            "network connect ID container=ID name=evnet type=bridge",
            "container start ID cl=2 image=busybox name=evd",
            "container restart ID cl=2 image=busybox name=evd",
        ],
    ),
    (
        "kill -s USR1 evd",
        &["container kill ID cl=2 image=busybox name=evd signal=10"],
    ),
    (
        "rm -f evd",
        &[
            "container kill ID cl=2 image=busybox name=evd signal=9",
            "network disconnect ID container=ID name=evnet type=bridge",
            "volume unmount evvol container=ID driver=local",
            "container die ID cl=2 exitCode=137 image=busybox name=evd",
            "container destroy ID cl=2 image=busybox name=evd",
        ],
    ),
    ("tag busybox evother:2", &["image tag ID name=evother:2"]),
    ("rmi evother:2", &["image untag ID name=ID"]),
    (
        "run --name evn --label a=b --network none busybox true",
        &[
            "container create ID a=b image=busybox name=evn",
            "container attach ID a=b image=busybox name=evn",
            "network connect ID container=ID name=none type=null",
            "container start ID a=b image=busybox name=evn",
            "network disconnect ID container=ID name=none type=null",
            "container die ID a=b exitCode=0 image=busybox name=evn",
        ],
    ),
    (
        "container prune -f --filter label=a=b",
        &[
            "container destroy ID a=b image=busybox name=evn",
            "container prune  reclaimed=0",
        ],
    ),
    ("volume rm evvol", &["volume destroy evvol driver=local"]),
    (
        "network rm evnet",
        &["network destroy ID name=evnet type=bridge"],
    ),
    (
        "volume prune -f --filter label=nosuch",
        &["volume prune  reclaimed=0"],
    ),
    (
        "network prune -f --filter label=nosuch",
        &["network prune  reclaimed=0"],
    ),
    (
        "image prune -f --filter label=nosuch",
        &["image prune  reclaimed=0"],
    ),
    // buildx prunes by BuildKit's API, which tells nobody
    ("builder prune -f", &[]),
];

fn now() -> Duration {
    SystemTime::now().duration_since(UNIX_EPOCH).unwrap()
}

fn stamp(time: Duration) -> String {
    format!("{}.{:09}", time.as_secs(), time.subsec_nanos())
}

/// What the engine told between two points in time.
fn told(engine: &Engine, since: Duration, until: Duration, filters: &str) -> Vec<Message> {
    let filters: String = filters.bytes().map(|b| format!("%{b:02x}")).collect();
    let (since, until) = (stamp(since), stamp(until));
    let path = format!("/v1.51/events?since={since}&until={until}&filters={filters}");
    let answer = engine.api("GET", &path, "").unwrap();
    let text = String::from_utf8(answer.body).unwrap();
    assert_eq!(answer.status, 200, "{text}");
    let lines = text.lines().filter(|line| !line.is_empty());
    lines
        .map(|line| serde_json::from_str(line).unwrap())
        .collect()
}

/// `sha256:` and 64 digits, or those alone, are an id.
fn without_id(text: &str) -> &str {
    let digits = text.strip_prefix("sha256:").unwrap_or(text);
    if digits.len() == 64 && digits.bytes().all(|b| b.is_ascii_hexdigit()) {
        return "ID";
    }
    text
}

fn shown(event: &Message) -> String {
    let attributes = event.actor.attributes.clone().unwrap_or_default();
    let pairs = attributes
        .iter()
        .filter(|(name, _)| *name != "execDuration");
    let pairs: Vec<String> = pairs
        .map(|(name, value)| format!("{name}={}", without_id(value)))
        .collect();
    let id = without_id(&event.actor.id);
    format!("{} {} {id} {}", event.kind, event.action, pairs.join(" "))
}

#[test]
fn the_stream_is_dockerds() {
    let engine = engine();
    let mut checks = Checks::default();
    for (line, expect) in SCRIPT {
        let since = now();
        engine.docker(line).ok();
        let mut found = Vec::new();
        let begun = Instant::now();
        while begun.elapsed() < crate::bench::LIMIT {
            found = told(&engine, since, now(), "").iter().map(shown).collect();
            if found.len() >= expect.len() {
                break;
            }
            std::thread::sleep(Duration::from_millis(20));
        }
        // the end of a container and what stopped it are told by two tasks
        let stop = found
            .iter()
            .position(|text| text.starts_with("container stop "));
        let die = found
            .iter()
            .position(|text| text.starts_with("container die "));
        if let (Some(stop), Some(die)) = (stop, die)
            && stop < die
        {
            let text = found.remove(stop);
            found.insert(die, text);
        }
        checks.note(&found == expect, || {
            format!("{line}\nexpected {expect:#?}\nfound {found:#?}")
        });
    }
}

#[test]
fn what_older_clients_read_is_there() {
    let engine = engine();
    let since = now();
    engine.docker("create --name old busybox").ok();
    engine.docker("volume create oldvol").ok();
    let mut events = Vec::new();
    eventually("both are told", || {
        events = told(&engine, since, now(), "");
        events.len() == 2
    });
    let (container, volume) = (&events[0], &events[1]);
    assert_eq!(container.status, "create");
    assert_eq!(container.id, container.actor.id);
    assert_eq!(container.from, "busybox");
    assert_eq!((volume.status.as_str(), volume.id.as_str()), ("", ""));
    for event in &events {
        assert_eq!(event.scope, "local");
        assert_eq!(event.time, event.time_nano / 1_000_000_000);
    }
}

#[test]
fn filters_choose_as_dockerds_do() {
    let engine = engine();
    let since = now();
    for line in [
        "network create --label nl=1 xx1",
        "create --name yy1 -l k=v busybox",
        "rm yy1",
        "network rm xx1",
        "tag busybox r:5000/evx:2",
        "rmi r:5000/evx:2",
    ] {
        engine.docker(line).ok();
    }
    let until = now();
    let id = engine
        .docker("images -q --no-trunc busybox")
        .ok()
        .to_owned();
    let by_id = format!(r#"{{"image":["{id}"]}}"#);
    let by_start = format!(r#"{{"image":["{}"]}}"#, &id[..20]);
    let mut checks = Checks::default();
    for (filters, count) in [
        ("", 6),
        (r#"{"container":["xx1"]}"#, 2),
        (r#"{"container":["xx"]}"#, 2),
        (r#"{"container":["yy1","xx1"]}"#, 4),
        (r#"{"network":["yy1"]}"#, 2),
        (r#"{"network":["zz"]}"#, 0),
        (r#"{"volume":["zz"]}"#, 0),
        (r#"{"daemon":["zz"]}"#, 0),
        (r#"{"plugin":["zz"]}"#, 0),
        (r#"{"node":["zz"]}"#, 0),
        (r#"{"service":["zz"]}"#, 0),
        (r#"{"secret":["zz"]}"#, 0),
        (r#"{"config":["zz"]}"#, 0),
        (r#"{"image":["r:5000/evx"]}"#, 1),
        (r#"{"image":["r:5000/evx:2"]}"#, 1),
        (r#"{"image":["r"]}"#, 0),
        (r#"{"image":["busybox"]}"#, 2),
        (r#"{"image":["busy"]}"#, 0),
        (by_id.as_str(), 2),
        (by_start.as_str(), 0),
        (r#"{"label":["k"]}"#, 2),
        (r#"{"label":["k=v"]}"#, 2),
        (r#"{"label":["k=w"]}"#, 0),
        (r#"{"label":["nl"]}"#, 0),
        (r#"{"label!":["k"]}"#, 6),
        (r#"{"type":["container","image"]}"#, 4),
        (r#"{"type":["nosuch"]}"#, 0),
        (r#"{"type":[]}"#, 6),
        (r#"{"event":["create"]}"#, 2),
        (r#"{"event":["creat"]}"#, 0),
        (r#"{"event":["creat","exec_start"]}"#, 2),
        (r#"{"event":["tag","untag"]}"#, 2),
        (r#"{"event":{"create":true},"type":{"network":true}}"#, 1),
        (r#"{"scope":["local"]}"#, 6),
        (r#"{"scope":["swarm"]}"#, 0),
        (r#"{"nosuch":["x"]}"#, 6),
    ] {
        let found = told(&engine, since, until, filters).len();
        checks.note(found == count, || format!("{filters}: {found} for {count}"));
    }
}

#[test]
fn times_of_the_command_line() {
    let engine = engine();
    let first = now();
    engine.docker("volume create one").ok();
    let middle = now();
    engine.docker("volume create two").ok();
    // the clients cut the present to whole seconds
    std::thread::sleep(Duration::from_secs(1));
    let rfc = jiff::Timestamp::from_nanosecond(middle.as_nanos().try_into().unwrap()).unwrap();
    for client in Client::BOTH {
        let names = |flags: &str| {
            let line = format!("events --filter type=volume --format '{{{{.Actor.ID}}}}' {flags}");
            let outcome = engine.run(client, &line);
            outcome
                .ok()
                .split_whitespace()
                .map(str::to_owned)
                .collect::<Vec<_>>()
        };
        let since = stamp(first);
        assert_eq!(
            names(&format!("--since {since} --until 0s")),
            ["one", "two"]
        );
        assert_eq!(names("--since 10m --until 0s"), ["one", "two"]);
        let (middle, end) = (stamp(middle), stamp(now()));
        assert_eq!(names(&format!("--since {middle} --until {end}")), ["two"]);
        assert_eq!(names(&format!("--since {since} --until {middle}")), ["one"]);
        assert_eq!(names(&format!("--since {rfc} --until 0s")), ["two"]);
        engine
            .run(client, "events --since nonsense --until 0s")
            .complains(1, "nonsense");
    }
}

/// Health checks are told as processes, as dockerd does, and their outcome.
#[test]
fn health_checks_are_told() {
    let engine = engine();
    let since = now();
    engine
        .docker("run -d --name sick --health-cmd true --health-interval 100ms busybox sleep 100")
        .ok();
    let actions = || -> BTreeMap<String, usize> {
        let mut counts = BTreeMap::new();
        for event in told(&engine, since, now(), r#"{"type":["container"]}"#) {
            *counts.entry(event.action).or_default() += 1;
        }
        counts
    };
    eventually("the container is healthy", || {
        actions().contains_key("health_status: healthy")
    });
    let counts = actions();
    for action in [
        "exec_create: /bin/sh -c true",
        "exec_start: /bin/sh -c true",
        "exec_die",
    ] {
        assert!(counts.contains_key(action), "{counts:?}");
    }
    engine.docker("rm -f sick").ok();
}

/// Settings that are read again are told, with what they are now.
#[test]
fn a_reload_is_told() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("config.toml");
    std::fs::write(&file, "label = [\"a=b\"]\n").unwrap();
    let mut options = crate::bench::options();
    options.flags = vec!["--config-file".into(), file.to_str().unwrap().into()];
    let engine = Engine::start(options).unwrap();
    let since = now();
    std::fs::write(&file, "label = [\"c=d\"]\n").unwrap();
    let pid = i32::try_from(engine.pid().unwrap()).unwrap();
    let pid = rustix::process::Pid::from_raw(pid).unwrap();
    rustix::process::kill_process(pid, rustix::process::Signal::HUP).unwrap();
    let events = || told(&engine, since, now(), r#"{"type":["daemon"]}"#);
    eventually("the reload is told", || !events().is_empty());
    let event = events().remove(0);
    let attributes = event.actor.attributes.unwrap();
    assert_eq!(
        (event.kind.as_str(), event.action.as_str()),
        ("daemon", "reload")
    );
    assert_eq!(attributes["labels"], "[\"c=d\"]");
    assert!(attributes.contains_key("name"), "{attributes:?}");
    let info = engine
        .docker("info --format '{{.ID}} {{json .Labels}}'")
        .ok()
        .to_owned();
    assert_eq!(info, format!("{} [\"c=d\"]", event.actor.id));
}
