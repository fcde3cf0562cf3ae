//! Faults under traffic: what should go on goes on, and the rest is back within a second or two.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use testkit::dns::{A, ask};
use testkit::engine::Engine;
use testkit::namespace::Namespace;
use testkit::serve::{Server, ask_tcp, ask_tcp_once};

use crate::bench::{engine, eventually, kill9, parent_of};

/// The longest time without an answer: on a machine that has nothing else to do it is a second or two, and here
/// other tests share the processors.
const LONGEST: Duration = Duration::from_secs(20);

/// A client that fetches again and again, and remembers when it last was answered.
struct Traffic {
    end: Arc<AtomicBool>,
    answered: Arc<Mutex<Vec<Instant>>>,
    worker: Option<JoinHandle<()>>,
}

impl Traffic {
    /// Starts to fetch from `address`, as seen from a namespace.
    fn start(client: &Namespace, address: &str) -> Self {
        let end = Arc::new(AtomicBool::new(false));
        let answered = Arc::new(Mutex::new(Vec::new()));
        let (stop, log, address) = (Arc::clone(&end), Arc::clone(&answered), address.to_owned());
        // a thread that is started inside stays inside
        let worker = client
            .within(move || {
                std::thread::spawn(move || {
                    while !stop.load(Ordering::Relaxed) {
                        if ask_tcp_once(&address).is_some() {
                            log.lock().unwrap().push(Instant::now());
                        }
                        std::thread::sleep(Duration::from_millis(2));
                    }
                })
            })
            .unwrap();
        Self {
            end,
            answered,
            worker: Some(worker),
        }
    }

    /// Waits for an answer from now on.
    #[track_caller]
    fn flows(&self) {
        let now = Instant::now();
        eventually("traffic flows", || {
            let answered = self.answered.lock().unwrap();
            answered.last().is_some_and(|last| *last > now)
        });
    }

    /// The longest time without an answer since `begun`.
    fn gap(&self, begun: Instant) -> Duration {
        let answered = self.answered.lock().unwrap();
        let since = answered.iter().filter(|at| **at > begun);
        let mut last = begun;
        let mut longest = Duration::ZERO;
        for at in since.copied().chain([Instant::now()]) {
            longest = longest.max(at - last);
            last = at;
        }
        longest
    }
}

impl Drop for Traffic {
    fn drop(&mut self) {
        self.end.store(true, Ordering::Relaxed);
        let _panicked = self.worker.take().map(JoinHandle::join);
    }
}

/// Two networks with a server each, and clients that fetch by published ports and by name.
struct Scene {
    engine: Engine,
    world: Namespace,
    _servers: Vec<Server>,
}

fn scene() -> Scene {
    let engine = engine();
    let world = engine.network().host(1).unwrap();
    engine
        .docker("network create --subnet 10.81.0.0/24 --ipv6 --subnet fd81::/64 -o com.docker.network.bridge.name=brapp app")
        .ok();
    engine
        .docker("run -d --name web --network app --ip 10.81.0.9 -p 8080:80 busybox sleep 1000")
        .ok();
    engine
        .docker("run -d --name peer --network app busybox sleep 1000")
        .ok();
    engine
        .docker("run -d --name plain -p 8081:80 busybox sleep 1000")
        .ok();
    let servers = vec![
        Server::tcp(&engine.inside("web"), "[::]:80", "web").unwrap(),
        Server::tcp(&engine.inside("plain"), "0.0.0.0:80", "plain").unwrap(),
    ];
    Scene {
        engine,
        world,
        _servers: servers,
    }
}

#[test]
fn rules_bridge_and_engine_fail_under_traffic() {
    let Scene {
        mut engine,
        world,
        _servers,
    } = scene();
    let published = Traffic::start(&world, "10.9.1.1:8080");
    let v6 = Traffic::start(&world, "[fd00:9:1::1]:8080");
    let plain = Traffic::start(&world, "10.9.1.1:8081");
    let inside = Traffic::start(&engine.inside("peer"), "10.81.0.9:80");
    let all = [&published, &v6, &plain, &inside];
    let peer = engine.inside("peer");
    let named = || ask(&peer, "web", A).is_ok_and(|answer| answer.data(A) == ["10.81.0.9"]);
    let settle = || {
        all.iter().for_each(|traffic| traffic.flows());
        std::thread::sleep(Duration::from_millis(600));
        Instant::now()
    };
    // a lost SYN is sent again after a second, so a client that is patient for half of one shows less
    let within = |what: &str, begun: Instant, traffic: &Traffic| {
        let gap = traffic.gap(begun);
        println!("{what}: a gap of {gap:?}");
        assert!(gap < LONGEST, "{what}: a gap of {gap:?}");
    };

    let begun = settle();
    engine.network().run("nft flush ruleset").unwrap();
    settle();
    within("flush, published", begun, &published);
    within("flush, IPv6", begun, &v6);
    within("flush, inside", begun, &inside);

    let begun = settle();
    engine.network().run("ip link del brapp").unwrap();
    settle();
    within("bridge, published", begun, &published);
    within("bridge, IPv6", begun, &v6);
    within("bridge, inside", begun, &inside);
    within("bridge, another network", begun, &plain);

    let begun = settle();
    engine.kill9().unwrap();
    settle();
    for (name, traffic) in [
        ("published", &published),
        ("v6", &v6),
        ("plain", &plain),
        ("inside", &inside),
    ] {
        within(&format!("no engine, {name}"), begun, traffic);
    }
    engine.restart().unwrap();
    eventually("names are back", named);
    settle();
    for (name, traffic) in [
        ("published", &published),
        ("v6", &v6),
        ("plain", &plain),
        ("inside", &inside),
    ] {
        within(&format!("next engine, {name}"), begun, traffic);
    }

    // everything at once, while no engine is there to see it
    engine.kill9().unwrap();
    engine.network().run("nft flush ruleset").unwrap();
    engine.network().run("ip link del brapp").unwrap();
    engine.restart().unwrap();
    let begun = Instant::now();
    all.iter().for_each(|traffic| traffic.flows());
    println!("all at once: {:?}", begun.elapsed());
    eventually("names are back", named);
    engine.gorae("system check").ok();
}

#[test]
fn a_shim_dies_under_traffic() {
    let Scene {
        engine,
        world,
        _servers,
    } = scene();
    let plain = Traffic::start(&world, "10.9.1.1:8081");
    plain.flows();
    let begun = Instant::now();
    let pid = engine.inspect("web", "{{.State.Pid}}");
    // the servers of this test hold the namespace as a program in it would not
    drop(_servers);
    let _server = Server::tcp(&engine.inside("plain"), "0.0.0.0:80", "plain").unwrap();
    kill9(parent_of(&pid));
    eventually("it is known to have ended", || {
        engine.inspect("web", "{{.State.Running}}") == "false"
    });
    plain.flows();
    let gap = plain.gap(begun);
    assert!(gap < LONGEST, "{gap:?}");
    let nobody = || {
        let asked = world.within(|| ask_tcp_once("10.9.1.1:8080"));
        asked.unwrap().is_none()
    };
    eventually("nobody answers for the dead", nobody);
    eventually("the network has one less", || {
        let left = engine.docker("network inspect app -f '{{len .Containers}}'");
        left.ok() == "1"
    });
    eventually("nobody has its name", || {
        let gone = ask(&engine.inside("peer"), "web", A).unwrap();
        gone.records.is_empty()
    });
    // its port, its address and its name are free
    engine
        .docker("run -d --name next --network app --ip 10.81.0.9 --network-alias web -p 8080:80 busybox sleep 1000")
        .ok();
    let _next = Server::tcp(&engine.inside("next"), "0.0.0.0:80", "next").unwrap();
    assert_eq!(
        world
            .within(|| ask_tcp("10.9.1.1:8080"))
            .unwrap()
            .as_deref(),
        Some("next sees 10.9.1.2")
    );
    assert_eq!(
        ask(&engine.inside("peer"), "web", A).unwrap().data(A),
        ["10.81.0.9"]
    );
    engine.docker("rm -f web").ok();
    engine
        .docker("port next")
        .prints("80/tcp -> 0.0.0.0:8080\n80/tcp -> [::]:8080");
}

#[test]
fn many_engines_deaths_while_networks_change() {
    let mut engine = engine();
    engine.docker("run -d --name box busybox sleep 1000").ok();
    for moment in 0..8_u64 {
        let sessions: Vec<_> = [
            format!("network create n{moment}"),
            "network connect shared box".to_owned(),
            format!("run -d --name c{moment} --network shared -p 80{moment}0-80{moment}9:80-89 busybox sleep 1000"),
        ]
        .iter()
        .map(|line| engine.session(testkit::docker::Client::Gorae, line))
        .collect();
        if moment == 0 {
            engine.docker("network create shared").ok();
        }
        std::thread::sleep(Duration::from_millis(4 + moment * 9));
        engine.kill9().unwrap();
        drop(sessions);
        engine.restart().unwrap();
        engine.gorae("system check").ok();
        let _left = engine.docker("network disconnect -f shared box");
    }
    // whatever came to be works: each network can be used, and each container runs or starts
    let all = engine.docker("network ls -f type=custom --format {{.Name}}");
    for name in all.ok().lines() {
        engine
            .docker(&format!(
                "run --rm --network {name} busybox ip -o addr show dev eth0"
            ))
            .shows("inet ");
    }
    let made = engine.docker("ps -a --format {{.Names}}");
    for name in made.ok().lines() {
        engine.docker(&format!("start {name}")).ok();
        engine
            .docker(&format!("exec {name} ip -o addr show dev eth0"))
            .shows("inet ");
    }
    let all = made.ok().replace('\n', " ");
    engine.docker(&format!("rm -f {all}")).ok();
    engine.docker("network prune -f").ok();
    engine.docker("network ls -q -f type=custom").prints("");
    assert_eq!(engine.traces(), [""; 0]);
    engine.gorae("system check").ok();
    // no port, no rule, no link of the dead
    let rules = engine.network().run("nft list ruleset").unwrap();
    assert!(!rules.contains(" . 80"), "{rules}");
}

#[test]
fn a_start_that_the_database_has_not_seen_keeps_its_network() {
    let mut engine = engine();
    engine.docker("network create app").ok();
    let mut addresses = std::collections::BTreeSet::new();
    for round in 0..5 {
        let (name, port) = (format!("box{round}"), 8080 + round);
        engine
            .docker(&format!(
                "run -d --name {name} --network app -p {port}:80 busybox sleep 1000"
            ))
            .ok();
        // what was written after the start is mostly not on the disk yet
        engine.kill9().unwrap();
        engine.restart().unwrap();
        let address = engine.inspect(&name, "{{.NetworkSettings.Networks.app.IPAddress}}");
        assert!(addresses.insert(address.clone()), "{address} again");
        assert!(address.starts_with("172.18."), "{address:?}");
        engine
            .docker(&format!("port {name}"))
            .shows(&format!("80/tcp -> 0.0.0.0:{port}"));
        engine
            .docker(&format!(
                "run --rm --network app busybox ping -c 1 -W 30 {name}"
            ))
            .ok();
    }
    let names: Vec<String> = (0..5).map(|round| format!("box{round}")).collect();
    engine.docker(&format!("rm -f {}", names.join(" "))).ok();
    engine.docker("network rm app").ok();
    assert_eq!(engine.traces(), [""; 0]);
}
