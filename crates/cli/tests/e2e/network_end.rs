//! What an engine's end leaves in the host's network: nothing, unless a container lives on.

use testkit::engine::Engine;

use crate::bench::{engine, eventually};

/// The links of the engine and its tables, as the host shows them.
fn left(engine: &Engine) -> String {
    let host = engine.network();
    let links = host.run("ip -br link").unwrap();
    let others = links.lines().filter(|line| {
        let name = line.split([' ', '@']).next().unwrap_or_default();
        name != "lo" && !name.starts_with("lan")
    });
    let links: Vec<&str> = others.collect();
    format!(
        "{}\n{}",
        links.join("\n"),
        host.run("nft list tables").unwrap()
    )
}

/// Waits for the kernel, which takes namespaces down behind everybody's back.
fn nothing_is_left(engine: &Engine) {
    eventually("links and rules are gone", || {
        left(engine).trim().is_empty()
    });
}

#[test]
fn networks_go_with_the_engine_and_come_again() {
    let mut engine = engine();
    for line in [
        "network create app",
        "network create --ipv6 six",
        "network create -d macvlan --subnet 10.82.0.0/24 shared",
        "create --name box --network app -p 8080:80 busybox sleep 1000",
        "run -d --name other --network six busybox sleep 1000",
    ] {
        engine.docker(line).ok();
    }
    // a container lives on, and with it all networks
    engine.stop().unwrap();
    let kept = left(&engine);
    for name in ["gorae0", "br-", "dm-", "inet gorae", "bridge gorae"] {
        assert!(kept.contains(name), "{name}: {kept}");
    }
    engine.restart().unwrap();
    engine.docker("exec other ping -c 1 -W 30 other").ok();
    engine.docker("rm -f other").ok();
    for _ in 0..2 {
        engine.stop().unwrap();
        nothing_is_left(&engine);
        engine.restart().unwrap();
        engine.docker("start box").ok();
        engine.docker("exec box ping -c 1 -W 30 box").ok();
        engine.docker("run --rm --network shared busybox true").ok();
        assert!(left(&engine).contains("inet gorae"));
        engine.docker("stop -t 0 box").ok();
        engine.gorae("system check").ok();
    }
}

#[test]
fn a_killed_engine_leaves_its_networks_to_the_next() {
    let mut engine = engine();
    engine.docker("network create app").ok();
    engine
        .docker("run -d --name box --network app busybox sleep 1000")
        .ok();
    engine.kill9().unwrap();
    assert!(left(&engine).contains("gorae0"));
    engine.restart().unwrap();
    engine.docker("rm -f box").ok();
    engine.kill9().unwrap();
    assert!(left(&engine).contains("inet gorae"));
    engine.restart().unwrap();
    engine.stop().unwrap();
    nothing_is_left(&engine);
}

#[test]
fn the_links_of_others_keep_a_bridge() {
    let mut engine = engine();
    let host = |line: &str| engine.network().run(line).unwrap();
    host("ip link add lan7 type veth peer name lan8");
    host("ip link set lan7 master gorae0");
    host("nft add table inet mine");
    engine.stop().unwrap();
    assert!(left(&engine).contains("gorae0"), "{}", left(&engine));
    engine.network().run("ip link del lan7").unwrap();
    engine.restart().unwrap();
    engine.stop().unwrap();
    eventually("links and rules of the engine are gone", || {
        left(&engine).trim() == "table inet mine"
    });
    engine.network().run("nft delete table inet mine").unwrap();
}
