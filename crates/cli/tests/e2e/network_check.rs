//! What an engine finds that others broke, or that an engine left that died, and what it leaves alone.

use testkit::engine::Engine;
use testkit::serve::{Server, ask_tcp_once};

use crate::bench::{engine, eventually};

fn check(engine: &Engine, query: &str) -> String {
    let path = format!("/gorae/system/check{query}");
    let answer = engine.api("POST", &path, "").unwrap();
    assert_eq!(answer.status, 200, "{answer:?}");
    String::from_utf8(answer.body).unwrap()
}

/// What is found names the word, and is mended when that is asked for.
#[track_caller]
fn finds_and_mends(engine: &Engine, word: &str) {
    let found = check(engine, "");
    assert!(found.contains(word), "{word}: {found}");
    assert!(!found.contains(r#""Repaired":true"#), "{found}");
    let mended = check(engine, "?repair=true");
    assert!(mended.contains(r#""Repaired":true"#), "{word}: {mended}");
    assert!(!mended.contains(r#""Repaired":false"#), "{word}: {mended}");
    engine.gorae("system check").ok();
}

/// The mark on this engine's links.
fn mark(engine: &Engine) -> String {
    let text = engine.network().run("ip -d link show gorae0").unwrap();
    let alias = text
        .lines()
        .find_map(|line| line.trim().strip_prefix("alias "));
    alias.unwrap_or_else(|| panic!("{text}")).to_owned()
}

#[test]
fn links_of_an_engine_that_died_are_deleted_and_no_others() {
    let mut engine = engine();
    engine.docker("network create app").ok();
    engine.docker("run -d --name box busybox sleep 1000").ok();
    let alias = mark(&engine);
    assert!(alias.starts_with("gorae "), "{alias}");
    let ip = |line: &str| engine.network().run(&format!("ip {line}")).unwrap();
    let links = || ip("-br link show type bridge");
    let litter = || {
        for name in ["br-lost", "br-docker", "br-plain"] {
            ip(&format!("link add {name} type bridge"));
        }
        ip(&format!("link set br-lost alias '{alias}'"));
        ip("link set br-docker alias 'gorae somebody-else'");
    };
    litter();
    finds_and_mends(&engine, "br-lost");
    assert!(!links().contains("br-lost"), "{}", links());
    assert!(links().contains("br-docker") && links().contains("br-plain"));
    ip("link del br-docker");
    ip("link del br-plain");
    // at the next start, too; with a container's link that was not noted
    litter();
    let pid = engine.inspect("box", "{{.State.Pid}}");
    let veth = |name: &str, inner: &str| {
        ip(&format!(
            "link add {name} type veth peer name {inner} netns {pid}"
        ));
        ip(&format!("link set {name} alias '{alias}'"));
    };
    veth("veth0000001", "eth1");
    finds_and_mends(&engine, "eth1");
    veth("veth0000001", "eth1");
    ip(&format!(
        "link add veth0000002 type veth peer name eth2 netns {pid}"
    ));
    engine.kill9().unwrap();
    engine.restart().unwrap();
    let links = engine.network().run("ip -br link").unwrap();
    for gone in ["br-lost", "veth0000001"] {
        assert!(!links.contains(gone), "{gone}: {links}");
    }
    for kept in ["br-docker", "br-plain", "veth0000002", "gorae0"] {
        assert!(links.contains(kept), "{kept}: {links}");
    }
    engine
        .docker("exec box ip -o addr show dev eth0")
        .shows("inet ");
    engine.gorae("system check").ok();
    for name in ["br-docker", "br-plain", "veth0000002"] {
        engine
            .network()
            .run(&format!("ip link del {name}"))
            .unwrap();
    }
}

#[test]
fn links_that_share_a_wire_are_checked_as_well() {
    let engine = engine();
    engine
        .docker("network create -d macvlan --subnet 10.82.0.0/24 lan")
        .ok();
    engine
        .docker("run -d --name one --network lan --ip 10.82.0.9 busybox sleep 1000")
        .ok();
    engine
        .docker("run -d --name two --network lan busybox sleep 1000")
        .ok();
    engine.gorae("system check").ok();
    let id = engine.docker("network inspect lan -f '{{slice .Id 0 12}}'");
    let parent = format!("dm-{}", id.ok());
    let one = engine.inside("one");
    for line in [
        "ip link del eth0",
        "ip link set eth0 down",
        "ip addr flush dev eth0",
        "ip link set eth0 address 02:00:00:00:00:99",
    ] {
        one.run(line).unwrap();
        finds_and_mends(&engine, "eth0");
        engine.docker("exec two ping -c 1 -W 30 10.82.0.9").ok();
    }
    for line in ["ip link set PARENT down", "ip link del PARENT"] {
        engine
            .network()
            .run(&line.replace("PARENT", &parent))
            .unwrap();
        finds_and_mends(&engine, &parent);
        engine.docker("exec two ping -c 1 -W 30 10.82.0.9").ok();
    }
    engine.docker("rm -f one two").ok();
    engine.docker("network rm lan").ok();
    eventually("the link of the network is gone", || {
        let links = engine.network().run("ip -br link");
        !links.unwrap().contains(&parent)
    });
}

#[test]
fn a_bridge_is_put_back_once_and_also_when_no_engine_saw_it_go() {
    let mut engine = engine();
    engine
        .docker("network create -o com.docker.network.bridge.name=brapp app")
        .ok();
    engine
        .docker("run -d --name web --network app -p 8080:80 busybox sleep 1000")
        .ok();
    let _server = Server::tcp(&engine.inside("web"), "0.0.0.0:80", "web").unwrap();
    let restored = |engine: &Engine| engine.log().matches("a bridge was disturbed").count();
    let answers = |engine: &Engine| {
        let asked = engine.network().within(|| ask_tcp_once("127.0.0.1:8080"));
        asked.unwrap().is_some()
    };
    for (number, damage) in ["ip link del brapp", "ip link set brapp down"]
        .into_iter()
        .enumerate()
    {
        engine.network().run(damage).unwrap();
        eventually("the bridge is back", || restored(&engine) > number);
        eventually("the port answers", || answers(&engine));
        std::thread::sleep(std::time::Duration::from_millis(500));
        assert_eq!(restored(&engine), number + 1, "{}", engine.log());
    }
    engine.gorae("system check").ok();
    engine.kill9().unwrap();
    engine.network().run("ip link del brapp").unwrap();
    engine.restart().unwrap();
    eventually("the port answers", || answers(&engine));
    engine.gorae("system check").ok();
}

#[test]
fn a_bridge_of_the_hosts_own_is_used_and_stays() {
    let engine = engine();
    let ip = |line: &str| engine.network().run(&format!("ip {line}")).unwrap();
    ip("link add brown type bridge");
    engine
        .docker("network create -o com.docker.network.bridge.name=brown --subnet 10.81.0.0/24 app")
        .ok();
    engine
        .docker("run --rm --network app busybox ping -c 1 -W 30 10.81.0.1")
        .ok();
    engine.gorae("system check").ok();
    engine.docker("network rm app").ok();
    assert!(ip("-br link").contains("brown"));
    engine.gorae("system check").ok();
    ip("link del brown");
}
