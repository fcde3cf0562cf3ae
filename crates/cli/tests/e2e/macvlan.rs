//! macvlan networks: containers beside the host, on a link of its own.

use testkit::docker::Client;
use testkit::serve::Server;

use crate::bench::engine;
use crate::networks::{address, from, sleeper};

#[test]
fn containers_that_share_a_macvlan_network() {
    let engine = engine();
    let world = engine.network().host(3).unwrap();
    let _server = Server::tcp(&world, "0.0.0.0:80", "world").unwrap();
    for client in Client::BOTH {
        let run = |line: &str| engine.run(client, line);
        run("network create -d macvlan -o parent=lan3 --subnet 10.9.3.0/24 --gateway 10.9.3.1 --ip-range 10.9.3.128/25 mac").ok();
        // a link may carry several networks
        run("network create -d macvlan -o parent=lan3 --subnet 10.78.0.0/24 more").ok();
        sleeper(&engine, "--name one --network mac");
        sleeper(&engine, "--name two --network mac");
        let (one, two) = (engine.inside("one"), engine.inside("two"));
        let own = address(&engine, "one", "mac");
        assert!(own.starts_with("10.9.3.1"), "{own}");
        assert_eq!(from(&one, "10.9.3.2:80"), Some(format!("world sees {own}")));
        let _served = Server::tcp(&two, "0.0.0.0:80", "two").unwrap();
        let two = address(&engine, "two", "mac");
        assert_eq!(
            from(&one, &format!("{two}:80")),
            Some(format!("two sees {own}"))
        );
        // the world reaches a container directly
        let said = from(&world, &format!("{two}:80"));
        assert_eq!(said.as_deref(), Some("two sees 10.9.3.2"));
        run("exec one ping -c 1 -W 30 two").ok();
        run("rm -f one two").ok();
        run("network rm mac more").ok();
    }
}

#[test]
fn a_macvlan_network_makes_its_vlan_or_says_that_it_cannot() {
    let engine = engine();
    let _world = engine.network().host(3).unwrap();
    let host = engine.network();
    let able = host
        .run("ip link add link lan3 name lan3.8 type vlan id 8")
        .is_ok();
    let made =
        engine.docker("network create -d macvlan -o parent=lan3.7 --subnet 10.77.0.0/24 tagged");
    let has = |name: &str| host.links().unwrap().contains(&name.to_owned());
    if !able {
        eprintln!("skipped: this kernel has no VLANs");
        made.complains(1, "lan3.7");
        assert!(!has("lan3.7"));
        return;
    }
    made.ok();
    sleeper(&engine, "--name one --network tagged");
    assert!(has("lan3.7"));
    engine.docker("rm -f one").ok();
    engine.docker("network rm tagged").ok();
    // what was made for a network goes with it
    assert!(!has("lan3.7"));
}
