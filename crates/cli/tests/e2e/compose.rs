//! Docker Compose, unmodified, with several networks, aliases, ports, and nothing left at the end.

use std::collections::BTreeSet;

use testkit::dns::{A, ask};
use testkit::docker::Outcome;
use testkit::engine::Engine;
use testkit::serve::{Server, ask_tcp, ask_tcp_once};

use crate::bench::{engine, eventually};

const SHOP: &str = r#"
services:
  web:
    image: busybox
    command: sleep 1000
    init: false
    stop_grace_period: 0s
    ports: ["8080:80", "127.0.0.1:8443:443/tcp", "9000-9002:9000-9002/udp"]
    networks:
      front: {aliases: [www, shop.example]}
      back: {}
    depends_on:
      db: {condition: service_started}
      ready: {condition: service_completed_successfully}
  worker:
    image: busybox
    command: sleep 1000
    stop_grace_period: 0s
    networks: [back]
    deploy: {replicas: 3}
  db:
    image: busybox
    command: sleep 1000
    stop_grace_period: 0s
    networks:
      back: {ipv4_address: 10.82.0.50, ipv6_address: "fd82::50", mac_address: "02:42:0a:52:00:32"}
      vault: {}
  ready:
    image: busybox
    command: "true"
    network_mode: none
  side:
    image: busybox
    command: sleep 1000
    stop_grace_period: 0s
    network_mode: "service:db"
networks:
  front: {}
  back:
    enable_ipv6: true
    driver_opts: {com.docker.network.driver.mtu: "1400"}
    labels: {tier: data}
    ipam:
      config:
        - {subnet: 10.82.0.0/24, gateway: 10.82.0.254}
        - {subnet: "fd82::/64"}
  vault: {internal: true, name: strongroom}
"#;

/// Runs `docker compose` on a file of this text.
#[track_caller]
fn compose(engine: &Engine, text: &str, words: &str) -> Outcome {
    let file = engine.home().join("compose.yaml");
    std::fs::write(&file, text).unwrap();
    engine.docker(&format!(
        "compose --progress quiet -p shop -f {} {words}",
        file.display()
    ))
}

#[test]
fn several_networks_up_scaled_and_down() {
    let engine = engine();
    let world = engine.network().host(1).unwrap();
    compose(&engine, SHOP, "up -d").ok();
    let running = engine.docker("ps --format {{.Names}}");
    let running: BTreeSet<&str> = running.ok().lines().collect();
    assert_eq!(
        running,
        BTreeSet::from([
            "shop-web-1",
            "shop-db-1",
            "shop-side-1",
            "shop-worker-1",
            "shop-worker-2",
            "shop-worker-3"
        ])
    );
    let web = engine.inside("shop-web-1");
    let worker = engine.inside("shop-worker-1");
    let db = engine.inside("shop-db-1");
    assert_eq!(ask(&web, "worker", A).unwrap().data(A).len(), 3);
    assert_eq!(ask(&web, "db", A).unwrap().data(A), ["10.82.0.50"]);
    assert_eq!(ask(&web, "shop-db-1", A).unwrap().data(A), ["10.82.0.50"]);
    for name in ["www", "shop.example", "web"] {
        assert!(!ask(&web, name, A).unwrap().data(A).is_empty(), "{name}");
    }
    // an alias is one of its network only
    assert!(ask(&worker, "www", A).unwrap().records.is_empty());
    assert_eq!(ask(&worker, "web", A).unwrap().data(A).len(), 1);
    assert_eq!(
        engine.inside("shop-side-1").identity().unwrap(),
        db.identity().unwrap()
    );
    let eth = db.run("ip -o addr").unwrap();
    for part in ["10.82.0.50/24", "fd82::50/64"] {
        assert!(eth.contains(part), "{part}: {eth}");
    }
    assert!(db.run("ip -o link").unwrap().contains("02:42:0a:52:00:32"));
    let _server = Server::tcp(&web, "0.0.0.0:80", "web").unwrap();
    assert_eq!(
        world
            .within(|| ask_tcp("10.9.1.1:8080"))
            .unwrap()
            .as_deref(),
        Some("web sees 10.9.1.2")
    );
    compose(&engine, SHOP, "port web 443").prints("127.0.0.1:8443");
    compose(&engine, SHOP, "ps --services --status running").shows("worker");
    let labels = engine.docker("network inspect shop_back -f '{{.Labels.tier}} {{index .Labels \"com.docker.compose.network\"}}'");
    labels.prints("data back");
    engine
        .docker("network inspect strongroom -f {{.Internal}}")
        .prints("true");

    // nothing has changed: nothing is made again
    let before = engine.docker("ps -q --no-trunc").ok().to_owned();
    compose(&engine, SHOP, "up -d").ok();
    assert_eq!(engine.docker("ps -q --no-trunc").ok(), before);

    compose(&engine, SHOP, "up -d --scale worker=5").ok();
    let addresses = || {
        let answer = ask(&web, "worker", A).unwrap();
        answer
            .data(A)
            .iter()
            .map(|text| (*text).to_owned())
            .collect::<BTreeSet<_>>()
    };
    eventually("five addresses", || addresses().len() == 5);
    let firsts: BTreeSet<String> = (0..60)
        .map(|_| ask(&web, "worker", A).unwrap().records[0].data.clone())
        .collect();
    assert!(firsts.len() >= 3, "{firsts:?}");
    compose(&engine, SHOP, "up -d --scale worker=1").ok();
    eventually("one address", || addresses().len() == 1);

    compose(&engine, SHOP, "down").ok();
    engine.docker("ps -aq").prints("");
    engine.docker("network ls -q -f type=custom").prints("");
    assert_eq!(engine.traces(), [""; 0]);
    assert_eq!(
        world.within(|| ask_tcp_once("10.9.1.1:8080")).unwrap(),
        None
    );
}

const LIMITED: &str = r#"
services:
  web:
    image: busybox
    command: sleep 1000
    stop_grace_period: 0s
    labels: {io.gorae.net.ingress: 20mbit, io.gorae.net.egress: 5mbit}
    ports:
      - {target: 80, published: "8080", host_ip: 127.0.0.1, protocol: tcp}
    extra_hosts: ["printer:10.1.2.3"]
    dns: [10.9.9.9]
    dns_search: [corp.example]
    links: ["db:store"]
    networks:
      one: {priority: 1, gw_priority: 1}
      two: {}
  db:
    image: busybox
    command: sleep 1000
    stop_grace_period: 0s
    networks: [one]
networks:
  one: {}
  two: {external: true, name: outer}
"#;

#[test]
fn external_networks_links_limits_and_changes() {
    let engine = engine();
    compose(&engine, LIMITED, "up -d").complains(
        1,
        "network outer declared as external, but could not be found",
    );
    engine
        .docker("network create --subnet 10.82.0.0/24 outer")
        .ok();
    compose(&engine, LIMITED, "up -d").ok();
    let web = engine.inside("shop-web-1");
    assert_eq!(ask(&web, "store", A).unwrap().data(A).len(), 1);
    let route = web.run("ip route show default").unwrap();
    let one = engine.docker("network inspect shop_one -f '{{(index .IPAM.Config 0).Gateway}}'");
    assert!(route.contains(one.ok()), "{route}");
    engine
        .docker("exec shop-web-1 cat /etc/hosts")
        .shows("10.1.2.3\tprinter");
    engine
        .docker("exec shop-web-1 cat /etc/resolv.conf")
        .shows("search corp.example");
    // a network less: the container is made again, and only that one
    let db = engine.inspect("shop-db-1", "{{.Id}}");
    let changed = LIMITED.replace("      two: {}\n  db", "  db");
    compose(&engine, &changed, "up -d").ok();
    assert_eq!(engine.inspect("shop-db-1", "{{.Id}}"), db);
    assert_eq!(
        engine.inspect("shop-web-1", "{{len .NetworkSettings.Networks}}"),
        "1"
    );
    compose(&engine, &changed, "restart -t 0").ok();
    compose(&engine, &changed, "exec -T web ping -c 1 -W 30 db").ok();
    compose(&engine, &changed, "run --rm --no-deps web true").ok();
    compose(&engine, &changed, "down").ok();
    // an external one is not Compose's to remove
    engine
        .docker("network ls -f type=custom --format {{.Name}}")
        .prints("outer");
}
