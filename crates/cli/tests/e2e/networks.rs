//! User-defined networks: what they are told is what they are, and containers come and go in them.

use std::time::{Duration, Instant};

use testkit::docker::Client;
use testkit::engine::Engine;
use testkit::namespace::Namespace;
use testkit::serve::{Server, ask_tcp, ask_tcp_once};

use crate::bench::{Checks, engine, eventually, kill9, now, options, parent_of};

/// What a server at `address` says to the container, if it is reached.
pub(crate) fn from(container: &Namespace, address: &str) -> Option<String> {
    container.within(|| ask_tcp(address)).unwrap()
}

/// Whether nobody answers the container at `address`.
fn is_shut(container: &Namespace, address: &str) -> bool {
    let asked = container.within(|| ask_tcp_once(address));
    asked.unwrap().is_none()
}

/// What `docker network inspect -f` prints.
#[track_caller]
fn network(engine: &Engine, name: &str, format: &str) -> String {
    let outcome = engine.docker(&format!("network inspect {name} -f '{format}'"));
    outcome.ok().to_owned()
}

/// A container's address in a network.
#[track_caller]
pub(crate) fn address(engine: &Engine, container: &str, network: &str) -> String {
    let format = format!("{{{{(index .NetworkSettings.Networks \"{network}\").IPAddress}}}}");
    engine.inspect(container, &format)
}

/// A container that sleeps, and the network that it is in.
pub(crate) fn place(engine: &Engine, name: &str, flags: &str) -> Namespace {
    sleeper(engine, &format!("--name {name} {flags}"));
    engine.inside(name)
}

pub(crate) fn sleeper(engine: &Engine, flags: &str) {
    engine
        .docker(&format!("run -d {flags} busybox sleep 1000"))
        .ok();
}

#[test]
fn what_create_was_told_is_what_inspect_and_the_container_show() {
    let engine = engine();
    for client in Client::BOTH {
        let id = engine.run(client, "network create --subnet 10.80.0.0/24 --gateway 10.80.0.254 --ip-range 10.80.0.128/25 --aux-address router=10.80.0.128 --ipv6 --subnet fd80::/64 --gateway fd80::fe --label tier=web --attachable --opt com.docker.network.driver.mtu=1400 --opt com.docker.network.bridge.name=brapp app");
        assert_eq!(id.ok().len(), 64, "{id:?}");
        engine.run(client, "network inspect app -f '{{json .IPAM.Config}}'").prints(
            r#"[{"Subnet":"10.80.0.0/24","IPRange":"10.80.0.128/25","Gateway":"10.80.0.254","AuxiliaryAddresses":{"router":"10.80.0.128"}},{"Subnet":"fd80::/64","Gateway":"fd80::fe"}]"#,
        );
        engine
            .run(client, "network inspect app -f '{{.Name}} {{.Id}} {{.Driver}} {{.Scope}} {{.EnableIPv4}} {{.EnableIPv6}} {{.Internal}} {{.Attachable}} {{.Labels}} {{json .Options}} {{json .Containers}}'")
            .prints(&format!(
                r#"app {} bridge local true true false true map[tier:web] {{"com.docker.network.bridge.name":"brapp","com.docker.network.driver.mtu":"1400"}} {{}}"#,
                id.ok()
            ));
        sleeper(&engine, "--name one --network app --hostname inside");
        let inside = engine.inside("one");
        let eth0 = inside.run("ip addr show dev eth0").unwrap();
        for expected in [" mtu 1400 ", "inet 10.80.0.129/24 ", "inet6 fd80::1/64 "] {
            assert!(eth0.contains(expected), "{expected}: {eth0}");
        }
        let global = |line: &&str| line.contains("scope global");
        assert!(
            eth0.lines()
                .filter(global)
                .all(|line| !line.contains("tentative")),
            "{eth0}"
        );
        let route = |flags: &str| {
            inside
                .run(&format!("ip {flags} route show default"))
                .unwrap()
        };
        assert!(route("-4").starts_with("default via 10.80.0.254 dev eth0"));
        assert!(route("-6").starts_with("default via fd80::fe dev eth0"));
        let bridge = engine.network().run("ip addr show dev brapp").unwrap();
        for expected in [" mtu 1400 ", "10.80.0.254/24", "fd80::fe/64"] {
            assert!(bridge.contains(expected), "{expected}: {bridge}");
        }
        for server in ["10.80.0.254", "fd80::fe"] {
            engine
                .run(client, &format!("exec one ping -c 1 -W 30 {server}"))
                .ok();
        }
        engine
            .run(client, "exec one cat /etc/hosts")
            .shows("10.80.0.129\tinside\nfd80::1\tinside");
        engine.run(client, "network inspect app -f '{{range .Containers}}{{.Name}} {{.IPv4Address}} {{.IPv6Address}}{{end}}'").prints("one 10.80.0.129/24 fd80::1/64");
        assert_eq!(engine.inspect("one", "{{with .NetworkSettings.Networks.app}}{{.Gateway}} {{.IPAddress}} {{.IPPrefixLen}} {{.IPv6Gateway}} {{.GlobalIPv6Address}} {{.GlobalIPv6PrefixLen}} {{len .MacAddress}} {{len .EndpointID}}{{end}}"), "10.80.0.254 10.80.0.129 24 fd80::fe fd80::1 64 17 64");
        assert_eq!(
            engine.inspect("one", "{{.NetworkSettings.Networks.app.NetworkID}}"),
            id.ok()
        );
        engine
            .run(client, "network rm app")
            .complains(1, "network app has active endpoints (name:\"one\" id:\"");
        engine.run(client, "rm -f one").ok();
        let short = &id.ok()[..12];
        engine
            .run(client, &format!("network rm {short}"))
            .prints(short);
        // the kernel deletes a bridge some time after it was told to
        eventually("the bridge goes", || {
            let links = engine.network().links().unwrap();
            !links.contains(&"brapp".to_owned())
        });
    }
}

#[test]
fn lists_filters_and_prune() {
    let engine = engine();
    for client in Client::BOTH {
        let run = |line: &str| engine.run(client, line);
        let names = |filter: &str| {
            let list = run(&format!("network ls {filter} --format {{{{.Name}}}}"));
            let mut all: Vec<String> = list.ok().lines().map(str::to_owned).collect();
            all.sort();
            all.join(" ")
        };
        run("network create --label tier=web --label keep web").ok();
        let id = run("network create --internal app");
        run("network create --label tier=db --ipv6 --ipv4=false db").ok();
        assert_eq!(names(""), "app bridge db host none web");
        assert_eq!(names("-f type=custom"), "app db web");
        assert_eq!(names("-f type=builtin"), "bridge host none");
        assert_eq!(names("-f driver=bridge"), "app bridge db web");
        assert_eq!(names("-f driver=host -f driver=null"), "host none");
        assert_eq!(names("-f label=tier"), "db web");
        assert_eq!(names("-f label=tier=db"), "db");
        assert_eq!(names("-f name=eb -f name=ap"), "app web");
        assert_eq!(names("-f scope=local -f name=db"), "db");
        assert_eq!(names("-f scope=swarm"), "");
        assert_eq!(names(&format!("-f id={}", &id.ok()[..8])), "app");
        run("network ls -f name=^db$ --format '{{.Name}} {{.Driver}} {{.Scope}} {{.IPv4}} {{.IPv6}} {{.Internal}} {{.Labels}}'").prints("db bridge local false true false tier=db");
        let table = run("network ls --no-trunc -f name=app");
        let mut lines = table.ok().lines().map(str::split_whitespace);
        assert_eq!(
            lines.next().unwrap().collect::<Vec<_>>(),
            ["NETWORK", "ID", "NAME", "DRIVER", "SCOPE"]
        );
        assert_eq!(
            lines.next().unwrap().collect::<Vec<_>>(),
            [id.ok(), "app", "bridge", "local"]
        );
        run("network ls -f nosuch=1").complains(1, "invalid filter 'nosuch'");

        sleeper(&engine, "--name one --network app");
        run("network prune -f --filter label!=keep").prints("Deleted Networks:\ndb");
        run("network prune -f --filter until=1h").prints("");
        // a container that is stopped keeps no network in use
        run("stop -t 0 one").ok();
        let pruned = run("network prune -f");
        let mut all: Vec<&str> = pruned.ok().lines().skip(1).collect();
        all.sort_unstable();
        assert_eq!(all, ["app", "web"], "{pruned:?}");
        run("start one").complains(1, "not found");
        run("rm -f one").ok();
        run("network create app").ok();
        run("network rm app nosuch").complains(1, "network nosuch not found");
        assert_eq!(names("-f type=custom"), "");
        run("network rm -f nosuch").ok();
        run("network rm bridge")
            .complains(1, "bridge is a pre-defined network and cannot be removed");
    }
}

#[test]
fn bad_networks_are_refused_and_nothing_is_half_made() {
    let engine = engine();
    engine
        .docker("network create --subnet 10.80.0.0/24 -o com.docker.network.bridge.name=brapp app")
        .ok();
    // ready namespaces have links, and come when there is time
    let links = || {
        let mut links = engine.network().links().unwrap();
        links.retain(|name| !name.starts_with("veth"));
        links
    };
    let before = links();
    let mut checks = Checks::default();
    for client in Client::BOTH {
        let mut check = |words: &str, text: &str| {
            let outcome = engine.run(client, &format!("network create {words}"));
            checks.complains(&outcome, 1, text);
        };
        check("app", "network with name app already exists");
        check(
            "bridge",
            "operation is not permitted on predefined bridge network",
        );
        check("''", "invalid name: name is empty");
        check("-d nosuch x", "plugin \"nosuch\" not found");
        check(
            "-d host x",
            "only one instance of \"host\" network is allowed",
        );
        check(
            "-d null x",
            "only one instance of \"null\" network is allowed",
        );
        check("--ipv4=false x", "IPv4 or IPv6 must be enabled");
        let overlap = "Pool overlaps with other one on this address space";
        check("--subnet 10.80.0.0/16 x", overlap);
        check("--subnet 10.80.0.128/25 x", overlap);
        check("--subnet 172.17.1.0/24 x", overlap);
        // which Docker does not say: with whom
        check("--subnet 10.80.0.0/16 x", "app");
        check("--subnet 10.80.0.0/16 x", "10.80.0.0/24");
        check("--subnet 172.17.1.0/24 x", "172.17.0.0/16");
        check(
            "--subnet 10.81.0.0 x",
            "invalid subnet 10.81.0.0: invalid CIDR block notation",
        );
        check(
            "--subnet 10.81.0.0/33 x",
            "invalid subnet 10.81.0.0/33: invalid CIDR block notation",
        );
        check(
            "--subnet 10.81.0.5/24 x",
            "invalid subnet 10.81.0.5/24: it should be 10.81.0.0/24",
        );
        check(
            "--subnet 10.81.0.0/24 --gateway 10.82.0.1 x",
            "no matching subnet for gateway 10.82.0.1",
        );
        check(
            "--subnet 10.81.0.0/24 --ip-range 10.82.0.0/25 x",
            "no matching subnet for range 10.82.0.0/25",
        );
        check(
            "--subnet 10.81.0.0/24 --aux-address a=10.99.0.1 x",
            "no matching subnet for aux-address 10.99.0.1",
        );
        check(
            "--gateway 10.81.0.1 x",
            "every ip-range or gateway must have a corresponding subnet",
        );
        let mtu = "-o com.docker.network.driver.mtu";
        check(&format!("{mtu}=-1 x"), "invalid MTU number: -1");
        check(
            &format!("{mtu}=x x"),
            "failed to parse com.docker.network.driver.mtu value: x",
        );
        check(&format!("{mtu}=70000 x"), "");
        check(
            "-o com.docker.network.bridge.name=brapp x",
            "networks have same bridge name",
        );
        check("-o com.docker.network.bridge.enable_icc=maybe x", "maybe");
    }
    assert_eq!(links(), before);
    engine
        .docker("network ls -f type=custom --format {{.Name}}")
        .prints("app");
    let body = r#"{"Name":"raw","Driver":"bridge","IPAM":{"Config":[{"Subnet":"10.81.0.0/24","Gateway":"10.82.0.1"}]}}"#;
    let answer = engine.api("POST", "/networks/create", body).unwrap();
    assert_eq!(answer.status, 400, "{answer:?}");
}

#[test]
fn addresses_and_macs_that_were_asked_for() {
    let engine = engine();
    let mut checks = Checks::default();
    engine.docker("network create --subnet 10.80.0.0/24 --aux-address printer=10.80.0.9 --ipv6 --subnet fd80::/64 app").ok();
    engine.docker("network create plain").ok();
    for client in Client::BOTH {
        engine.run(client, "run -d --name one --network app --ip 10.80.0.77 --ip6 fd80::77 --mac-address 02:42:0a:50:00:4d busybox sleep 1000").ok();
        let look = |container: &str| {
            engine.docker(&format!("inspect {container} -f '{{{{with .NetworkSettings.Networks.app}}}}{{{{.IPAddress}}}} {{{{.GlobalIPv6Address}}}} {{{{.MacAddress}}}}{{{{end}}}}'"))
        };
        look("one").prints("10.80.0.77 fd80::77 02:42:0a:50:00:4d");
        let eth0 = engine.inside("one").run("ip addr show dev eth0").unwrap();
        for text in ["10.80.0.77/24", "fd80::77/64", "02:42:0a:50:00:4d"] {
            assert!(eth0.contains(text), "{text}: {eth0}");
        }
        engine.run(client, "restart -t 0 one").ok();
        look("one").prints("10.80.0.77 fd80::77 02:42:0a:50:00:4d");
        engine.run(client, "run -d --name two --network name=app,ip=10.80.0.78,mac-address=02:42:0a:50:00:4e,alias=second busybox sleep 1000").ok();
        look("two").shows("10.80.0.78");
        let mut check = |flags: &str, text: &str| {
            let outcome = engine.run(client, &format!("run --rm {flags} busybox true"));
            checks.complains(&outcome, 125, text);
        };
        check("--network app --ip 10.80.0.77", "Address already in use");
        // which it is, which Docker does not say
        check("--network app --ip 10.80.0.77", "10.80.0.77");
        check("--network app --ip 10.80.0.1", "Address already in use");
        check("--network app --ip 10.80.0.9", "Address already in use");
        check(
            "--network app --ip 10.99.0.1",
            "no configured subnet or ip-range contain the IP address 10.99.0.1",
        );
        check("--network app --ip 1.2", "invalid IPv4 address: 1.2");
        check(
            "--network plain --ip 172.18.0.9",
            "user specified IP address is supported only when connecting to networks with user configured subnets",
        );
        check(
            "--ip 172.17.0.9",
            "user specified IP address is supported on user defined networks only",
        );
        check("--network app --mac-address zz", "not a valid mac address");
        check("--network app --mac-address 01:00:5e:00:00:01", "");
        check(
            "--network-alias x",
            "network-scoped aliases are only supported for user-defined networks",
        );
        check("--network nosuch", "network nosuch not found");
        engine.run(client, "rm -f one two").ok();
    }
    engine.docker("ps -aq").prints("");
    assert_eq!(network(&engine, "app", "{{len .Containers}}"), "0");
}

#[test]
fn running_containers_are_connected_and_disconnected() {
    let engine = engine();
    for client in Client::BOTH {
        let run = |line: &str| engine.run(client, line);
        run("network create --subnet 10.81.0.0/24 left").ok();
        run("network create --subnet 10.82.0.0/24 right").ok();
        sleeper(&engine, "--name box --network left");
        sleeper(&engine, "--name peer --network right --ip 10.82.0.9");
        let (inside, other) = (engine.inside("box"), engine.inside("peer"));
        let _server = Server::tcp(&other, "0.0.0.0:80", "peer").unwrap();
        assert!(is_shut(&inside, "10.82.0.9:80"));

        run("network connect --ip 10.82.0.50 --alias second --gw-priority 1 right box").ok();
        let links = inside.run("ip -o -4 addr show scope global").unwrap();
        assert!(
            links.contains("eth1") && links.contains("10.82.0.50/24"),
            "{links}"
        );
        assert_eq!(
            from(&inside, "10.82.0.9:80").as_deref(),
            Some("peer sees 10.82.0.50")
        );
        let route = || inside.run("ip route show default").unwrap();
        assert!(route().starts_with("default via 10.82.0.1 dev eth1"));
        run("exec box cat /etc/hosts").shows("10.82.0.50\t");
        assert_eq!(
            engine.inspect("box", "{{with .NetworkSettings.Networks.right}}{{.IPAMConfig.IPv4Address}} {{.Aliases}} {{.GwPriority}} {{index .DNSNames 0}} {{index .DNSNames 1}}{{end}}"),
            "10.82.0.50 [second] 1 box second"
        );
        run("network connect right box")
            .complains(1, "endpoint with name box already exists in network right");

        // what was connected is connected at the next start
        run("restart -t 0 box").ok();
        let inside = engine.inside("box");
        let _still = from(&inside, "10.82.0.9:80").unwrap();
        run("network disconnect left box").ok();
        let links = inside.run("ip -o -4 addr show scope global").unwrap();
        assert!(!links.contains("10.81.0."), "{links}");
        assert!(
            !run("exec box cat /etc/hosts").ok().contains("10.81.0."),
            "/etc/hosts has the address of a network that was left"
        );
        run("network disconnect left box").complains(1, "is not connected to network left");
        run("network disconnect right box").ok();
        assert_eq!(
            inside
                .run("ip -o -4 addr show scope global")
                .unwrap()
                .trim(),
            ""
        );
        assert_eq!(inside.run("ip route show").unwrap().trim(), "");
        assert_eq!(
            engine.inspect("box", "{{len .NetworkSettings.Networks}}"),
            "0"
        );
        run("network connect left box").ok();
        assert_eq!(address(&engine, "box", "left"), "10.81.0.2");
        run("exec box ping -c 1 -W 30 10.81.0.1").ok();

        // not running: noted for the start
        run("stop -t 0 box").ok();
        run("network connect right box").ok();
        run("network disconnect left box").ok();
        run("start box").ok();
        assert_eq!(
            engine.inspect(
                "box",
                "{{range $n, $e := .NetworkSettings.Networks}}{{$n}} {{len $e.IPAddress}}{{end}}"
            ),
            "right 9"
        );
        run("network connect none box").complains(1, "private (none) mode");
        run("network disconnect -f right box").ok();
        run("network connect nosuch box").complains(1, "network nosuch not found");
        run("network connect left nosuch").complains(1, "No such container: nosuch");
        run("network connect host box").complains(1, "cannot connect container to host network");
        run("network connect bridge box").ok();
        run("exec box ping -c 1 -W 30 172.17.0.1").ok();
        run("rm -f box peer").ok();
        run("network rm left right").ok();
    }
    assert_eq!(engine.traces(), [""; 0]);
}

#[test]
fn a_failed_connect_leaves_the_container_as_it_was() {
    let engine = engine();
    engine
        .docker("network create --subnet 10.81.0.0/24 left")
        .ok();
    engine
        .docker("network create --subnet 10.82.0.0/29 right")
        .ok();
    sleeper(&engine, "--name box --network left");
    sleeper(&engine, "--name peer --network right --ip 10.82.0.2");
    let inside = engine.inside("box");
    // ready namespaces have links, and come when there is time
    let bridges = || {
        engine
            .network()
            .run("ip -br link show type bridge")
            .unwrap()
    };
    let look = || {
        (
            inside.run("ip -o addr").unwrap(),
            inside.run("ip route").unwrap(),
            engine.docker("exec box cat /etc/hosts").stdout,
            engine.inspect("box", "{{json .NetworkSettings.Networks}}"),
            bridges(),
        )
    };
    let before = look();
    engine
        .docker("network connect --ip 10.82.0.2 right box")
        .complains(1, "Address already in use");
    engine
        .docker("network connect --ip 10.83.0.2 right box")
        .complains(
            1,
            "no configured subnet or ip-range contain the IP address 10.83.0.2",
        );
    engine
        .docker("network connect --driver-opt com.docker.network.endpoint.sysctls=net.ipv4.nosuch=1 right box")
        .complains(1, "");
    assert_eq!(look(), before);
    for n in 0..4 {
        sleeper(&engine, &format!("--name f{n} --network right"));
    }
    engine.docker("network connect right box").complains(
        1,
        "no available IPv4 addresses on this network's address pools: right",
    );
    assert_eq!(look().0, before.0);
    assert_eq!(look().3, before.3);
}

#[test]
fn several_networks_and_which_is_the_way_out() {
    let engine = engine();
    for name in ["aaa", "bbb"] {
        engine.docker(&format!("network create {name}")).ok();
    }
    engine.docker("network create --internal inner").ok();
    let gateway = |network: &str| network_gateway(&engine, network);
    for client in Client::BOTH {
        let way = |flags: &str| {
            let line = format!(
                "run --rm {flags} busybox sh -c 'ip route | grep ^default; ip -o link show | grep -c eth'"
            );
            engine.run(client, &line)
        };
        // the first by name where nothing else is said
        way("--network bbb --network aaa")
            .shows(&format!("default via {} dev eth", gateway("aaa")));
        way("--network bbb --network aaa").shows("\n2");
        way("--network aaa --network name=bbb,gw-priority=10")
            .shows(&format!("default via {} dev eth", gateway("bbb")));
        way("--network name=aaa,gw-priority=-1 --network bbb")
            .shows(&format!("default via {} dev eth", gateway("bbb")));
        // an internal network never is
        way("--network name=inner,gw-priority=10 --network bbb")
            .shows(&format!("default via {} dev eth", gateway("bbb")));
        let alone = way("--network inner");
        alone.prints("1");
    }
}

fn network_gateway(engine: &Engine, name: &str) -> String {
    network(engine, name, "{{(index .IPAM.Config 0).Gateway}}")
}

#[test]
fn published_ports_follow_the_way_out() {
    let engine = engine();
    let other = engine.network().neighbour().unwrap();
    engine
        .docker("network create --subnet 10.81.0.0/24 aaa")
        .ok();
    engine
        .docker("network create --subnet 10.82.0.0/24 bbb")
        .ok();
    engine
        .docker("run -d --name web --network aaa -p 8080:80 busybox sleep 1000")
        .ok();
    let _server = Server::tcp(&engine.inside("web"), "0.0.0.0:80", "web").unwrap();
    let reached = || from(&other, "10.9.0.1:8080");
    assert_eq!(reached().as_deref(), Some("web sees 10.9.0.2"));
    engine
        .docker("network connect --gw-priority 1 bbb web")
        .ok();
    assert_eq!(reached().as_deref(), Some("web sees 10.9.0.2"));
    engine.docker("port web").shows("80/tcp -> 0.0.0.0:8080");
    engine.docker("network disconnect aaa web").ok();
    assert_eq!(reached().as_deref(), Some("web sees 10.9.0.2"));
    engine.docker("network disconnect bbb web").ok();
    assert!(is_shut(&other, "10.9.0.1:8080"));
    engine.docker("network connect aaa web").ok();
    assert_eq!(reached().as_deref(), Some("web sees 10.9.0.2"));
    engine
        .docker("run --rm -p 8080:80 busybox true")
        .complains(125, "port is already allocated");
}

#[test]
fn none_host_and_another_containers_network() {
    let engine = engine();
    engine.docker("network create app").ok();
    for client in Client::BOTH {
        let run = |line: &str| engine.run(client, line);
        run("run -d --name first --network app --hostname inside --add-host extra:10.1.2.3 --dns 10.9.9.9 busybox sleep 1000").ok();
        run("run -d --name second --network container:first busybox sleep 1000").ok();
        for file in ["/etc/hosts", "/etc/resolv.conf", "/etc/hostname"] {
            assert_eq!(
                run(&format!("exec first cat {file}")).ok(),
                run(&format!("exec second cat {file}")).ok(),
                "{file}"
            );
        }
        assert_eq!(
            engine.inside("first").identity().unwrap(),
            engine.inside("second").identity().unwrap()
        );
        // one file, not two copies: what is connected later is seen by both
        run("network create late").ok();
        run("network connect late first").ok();
        let late = address(&engine, "first", "late");
        run("exec second cat /etc/hosts").shows(&late);
        run("network connect late second").complains(1, "container");
        assert_eq!(
            engine.inspect("second", "{{len .NetworkSettings.Networks}}"),
            "0"
        );
        run("rm -f second first").ok();
        run("network rm late").ok();
        for (flags, text) in [
            ("--network container:nosuch", "No such container: nosuch"),
            ("--network container:", "container"),
            (
                "--network host --network app",
                "conflicting options: cannot attach both user-defined and non-user-defined network-modes",
            ),
        ] {
            run(&format!("run --rm {flags} busybox true")).complains(125, text);
        }
        run("run --rm --network none busybox sh -c 'ip -o addr | grep -vc \" lo \"; cat /etc/hosts | grep -c ip6-localhost'")
            .says(0, "0");
        run("run --rm --network host busybox cat /etc/hosts").shows("127.0.0.1");
        run("run --rm --network host -p 80:80 busybox true").says(
            0,
            "Published ports are discarded when using host network mode",
        );
    }
    engine.docker("create --name stopped busybox true").ok();
    engine
        .docker("run --rm --network container:stopped busybox true")
        .complains(
            125,
            "cannot join network namespace of a non running container",
        );
}

#[test]
fn networks_do_not_reach_each_other() {
    let engine = engine();
    engine
        .docker("network create --subnet 10.81.0.0/24 --ipv6 --subnet fd81::/64 left")
        .ok();
    engine
        .docker("network create --subnet 10.82.0.0/24 --ipv6 --subnet fd82::/64 right")
        .ok();
    engine.docker("network create --subnet 10.83.0.0/24 -o com.docker.network.bridge.enable_icc=false quiet").ok();
    engine
        .docker("network create --internal --subnet 10.84.0.0/24 --ipv6 --subnet fd84::/64 inner")
        .ok();
    let place = |name: &str, network: &str, address: &str| {
        sleeper(
            &engine,
            &format!("--name {name} --network {network} {address}"),
        );
        let inside = engine.inside(name);
        let server = Server::tcp(&inside, "[::]:80", name);
        // without IPv6 there is no such socket
        let server = server.or_else(|_| Server::tcp(&inside, "0.0.0.0:80", name));
        (inside, server.unwrap())
    };
    let left = place("left", "left", "--ip 10.81.0.9 --ip6 fd81::9");
    let also = place("also", "left", "--ip 10.81.0.10 --ip6 fd81::a");
    let right = place("right", "right", "--ip 10.82.0.9 --ip6 fd82::9");
    let quiet = place("quiet", "quiet", "--ip 10.83.0.9");
    let quiet2 = place("quiet2", "quiet", "--ip 10.83.0.10");
    let inner = place("inner", "inner", "--ip 10.84.0.9 --ip6 fd84::9");
    let inner2 = place("inner2", "inner", "--ip 10.84.0.10 --ip6 fd84::a");
    let world = engine.network().host(1).unwrap();
    let _outside = Server::tcp(&world, "[::]:80", "world").unwrap();
    let mut checks = Checks::default();
    let mut check = |who: &Namespace, address: &str, expect: Option<&str>| {
        let Some(expect) = expect else {
            checks.note(is_shut(who, address), || format!("{address} is reached"));
            return;
        };
        let got = from(who, address);
        checks.note(got.as_deref() == Some(expect), || {
            format!("{address}: {got:?}, not {expect:?}")
        });
    };
    check(&left.0, "10.81.0.10:80", Some("also sees 10.81.0.9"));
    check(&left.0, "[fd81::a]:80", Some("also sees fd81::9"));
    for address in [
        "10.82.0.9:80",
        "[fd82::9]:80",
        "10.83.0.9:80",
        "10.84.0.9:80",
        "[fd84::9]:80",
    ] {
        check(&also.0, address, None);
    }
    check(&right.0, "10.81.0.9:80", None);
    check(&quiet.0, "10.83.0.10:80", None);
    check(&quiet2.0, "10.83.0.9:80", None);
    check(&quiet.0, "10.9.1.2:80", Some("world sees 10.9.1.1"));
    check(&left.0, "10.9.1.2:80", Some("world sees 10.9.1.1"));
    check(&left.0, "[fd00:9:1::2]:80", Some("world sees fd00:9:1::1"));
    check(&inner.0, "10.84.0.10:80", Some("inner2 sees 10.84.0.9"));
    check(&inner2.0, "[fd84::9]:80", Some("inner sees fd84::a"));
    check(&inner.0, "10.9.1.2:80", None);
    check(&inner.0, "10.81.0.9:80", None);
    // the way by the host's own addresses is no way around
    inner.0.run("ip route add default via 10.84.0.1").unwrap();
    check(&inner.0, "10.9.1.2:80", None);
    check(&inner.0, "10.81.0.9:80", None);
    // the world does not reach in, though it knows the way
    check(&world, "10.81.0.9:80", None);
    check(&world, "[fd81::9]:80", None);
    check(&world, "10.84.0.9:80", None);
    // the host reaches all of them
    for (address, name) in [
        ("10.81.0.9:80", "left"),
        ("10.84.0.9:80", "inner"),
        ("[fd82::9]:80", "right"),
    ] {
        let got = from(engine.network(), address).unwrap_or_default();
        assert!(got.starts_with(name), "{address}: {got}");
    }
}

#[test]
fn a_network_of_ipv6_only() {
    let engine = engine();
    for client in Client::BOTH {
        let run = |line: &str| engine.run(client, line);
        run("network create --ipv6 --ipv4=false six").ok();
        let subnet = network(&engine, "six", "{{(index .IPAM.Config 0).Subnet}}");
        assert!(
            subnet.starts_with("fd") && subnet.ends_with("/64"),
            "{subnet}"
        );
        assert_eq!(network(&engine, "six", "{{len .IPAM.Config}}"), "1");
        sleeper(&engine, "--name one --network six");
        sleeper(&engine, "--name two --network six");
        let inside = engine.inside("one");
        assert_eq!(inside.run("ip -4 addr show dev eth0").unwrap().trim(), "");
        assert_eq!(inside.run("ip -4 route").unwrap().trim(), "");
        let two = engine.inspect(
            "two",
            "{{.NetworkSettings.Networks.six.GlobalIPv6Address}}{{.NetworkSettings.Networks.six.IPAddress}}",
        );
        let _server = Server::tcp(&engine.inside("two"), "[::]:80", "two").unwrap();
        let said = from(&inside, &format!("[{two}]:80")).unwrap();
        assert!(said.starts_with("two sees fd"), "{said}");
        run("exec one ping -6 -c 1 -W 30 two").ok();
        run("rm -f one two").ok();
        run("network rm six").ok();
    }
    // two networks never share a range
    engine.docker("network create --ipv6 one").ok();
    engine.docker("network create --ipv6 two").ok();
    let of = |name: &str| network(&engine, name, "{{range .IPAM.Config}}{{.Subnet}} {{end}}");
    assert_ne!(of("one"), of("two"));
    // without IPv6 there is no IPv6 address, not even a local one (GHSA-x84c-p2g9-rqv9)
    engine.docker("network create four").ok();
    engine
        .docker("run --rm --network four busybox sh -c 'ip -6 addr show dev eth0'")
        .prints("");
}

#[test]
fn default_subnets_avoid_what_the_host_has() {
    let engine = engine();
    let host = engine.network();
    host.run("ip link add lanvpn type veth peer name lanvpn1")
        .unwrap();
    host.run("ip addr add 172.29.1.1/24 dev lanvpn").unwrap();
    host.run("ip link set lanvpn1 up").unwrap();
    host.run("ip link set lanvpn up").unwrap();
    host.run("ip route add 172.18.0.0/15 dev lanvpn").unwrap();
    for n in 0..3 {
        engine.docker(&format!("network create n{n}")).ok();
        let subnet = network(
            &engine,
            &format!("n{n}"),
            "{{(index .IPAM.Config 0).Subnet}}",
        );
        for taken in ["172.18.", "172.19.", "172.17.", "172.29.1."] {
            assert!(!subnet.starts_with(taken), "{subnet}");
        }
    }
    // asked for by name it is refused, and both sides are told
    let outcome = engine.docker("network create --subnet 172.19.5.0/24 covers");
    outcome.complains(1, "172.19.5.0/24");
    outcome.complains(1, "172.18.0.0/15");
    outcome.complains(1, "lanvpn");
    let outcome = engine.docker("network create --subnet 172.29.0.0/16 covers");
    outcome.complains(1, "172.29.1.0/24");
    engine.docker("network ls -q -f name=covers").prints("");
}

#[test]
fn an_address_pool_that_is_used_up() {
    let mut options = options();
    let pool = "--default-address-pool base=10.99.0.0/24,size=29";
    options.flags = pool.split(' ').map(str::to_owned).collect();
    let engine = Engine::start(options).unwrap();
    // the default bridge may have one of the 32
    let mut made = 0;
    let refused = loop {
        let outcome = engine.docker(&format!("network create n{made}"));
        if outcome.code != 0 {
            break outcome;
        }
        made += 1;
        assert!(made <= 32, "{made} networks in 32 ranges");
    };
    assert!(made >= 30, "{made}");
    refused.complains(1, "all predefined address pools have been fully subnetted");
    engine.docker("network rm n7").ok();
    engine.docker("network create again").ok();
    // a /29 has five addresses besides the gateway
    for n in 0..5 {
        sleeper(&engine, &format!("--name c{n} --network again"));
    }
    engine
        .docker("run --rm --network again busybox true")
        .complains(
            125,
            "no available IPv4 addresses on this network's address pools: again",
        );
    engine.docker("rm -f c3").ok();
    engine.docker("run --rm --network again busybox true").ok();
}

#[test]
fn a_network_that_is_removed_while_it_is_connected() {
    let engine = engine();
    sleeper(&engine, "--name box");
    let begun = Instant::now();
    for round in 0.. {
        engine.docker("network create race").ok();
        let connect = engine.session(Client::Docker, "network connect race box");
        std::thread::sleep(Duration::from_millis(round * 3 % 40));
        let remove = engine.docker("network rm race");
        let connect = connect.finish();
        let connected = engine.inspect(
            "box",
            "{{range $n, $e := .NetworkSettings.Networks}}{{$n}} {{end}}",
        );
        if connect.code == 0 {
            assert_eq!(remove.code, 1, "{remove:?}\n{connect:?}");
            assert_eq!(connected, "bridge race");
            engine.docker("network disconnect race box").ok();
            engine.docker("network rm race").ok();
        } else {
            assert_eq!(connected, "bridge", "{connect:?}\n{remove:?}");
            connect.complains(1, "race");
            if remove.code != 0 {
                engine.docker("network rm race").ok();
            }
        }
        if begun.elapsed() > Duration::from_secs(4) {
            break;
        }
    }
    engine.docker("network ls -q -f type=custom").prints("");
    let links = engine.inside("box").links().unwrap();
    assert_eq!(links.len(), 2, "{links:?}");
    assert_eq!(engine.gorae("system check").code, 0);
}

#[test]
fn a_container_cannot_pretend_to_be_another() {
    let engine = engine();
    engine
        .docker("network create --subnet 10.81.0.0/24 --ipv6 --subnet fd81::/64 app")
        .ok();
    let start = |name: &str, last: u8| {
        engine.docker(&format!("run -d --name {name} --network app --ip 10.81.0.{last} --ip6 fd81::{last} --cap-add NET_ADMIN busybox sleep 1000")).ok();
        engine.inside(name)
    };
    let (thief, victim, peer) = (start("thief", 7), start("victim", 8), start("peer", 9));
    let _server = Server::tcp(&peer, "[::]:80", "peer").unwrap();
    assert_eq!(
        from(&thief, "10.81.0.9:80").as_deref(),
        Some("peer sees 10.81.0.7")
    );
    // the neighbour's addresses, and one that is nobody's
    for address in ["10.81.0.8/32", "10.81.0.99/32", "fd81::8/128"] {
        thief
            .run(&format!("ip addr add {address} dev eth0"))
            .unwrap();
    }
    let said = thief
        .within(|| {
            let socket = std::net::UdpSocket::bind("10.81.0.99:0").unwrap();
            let listener = peer
                .within(|| std::net::UdpSocket::bind("10.81.0.9:99").unwrap())
                .unwrap();
            listener
                .set_read_timeout(Some(Duration::from_millis(300)))
                .unwrap();
            socket.send_to(b"spoofed", "10.81.0.9:99").unwrap();
            listener.recv_from(&mut [0; 16]).ok()
        })
        .unwrap();
    assert_eq!(said, None, "a datagram with a made-up source arrived");
    // nor does it take the neighbour's place in the caches of others
    peer.run("ip neigh flush dev eth0").unwrap();
    let _sent = engine.docker("exec thief arping -U -c 1 -w 1 -I eth0 10.81.0.8");
    let _served = Server::tcp(&victim, "0.0.0.0:81", "victim").unwrap();
    let _stolen = Server::tcp(&thief, "10.81.0.8:81", "thief").unwrap();
    for _ in 0..3 {
        assert_eq!(
            from(&peer, "10.81.0.8:81").as_deref(),
            Some("victim sees 10.81.0.9")
        );
        peer.run("ip neigh flush dev eth0").unwrap();
    }
    // a made-up MAC loses the container its own network and nobody else's
    thief
        .run("ip link set dev eth0 address 02:00:00:00:00:99")
        .unwrap();
    assert!(is_shut(&thief, "10.81.0.9:80"));
    assert_eq!(
        from(&victim, "10.81.0.9:80").as_deref(),
        Some("peer sees 10.81.0.8")
    );
}

#[test]
fn events_tell_of_networks() {
    let engine = engine();
    for client in Client::BOTH {
        let format = "'{{.Action}} {{index .Actor.Attributes \"name\"}} {{index .Actor.Attributes \"type\"}} {{len (index .Actor.Attributes \"container\")}}'";
        let line = format!(
            "events --since {} --filter type=network --format {format}",
            now()
        );
        let events = engine.session(client, &line);
        engine.run(client, "network create app").ok();
        engine
            .run(client, "run -d --name one --network app busybox sleep 1000")
            .ok();
        engine.run(client, "network connect bridge one").ok();
        engine.run(client, "network disconnect app one").ok();
        engine.run(client, "rm -f one").ok();
        engine.run(client, "network rm app").ok();
        events.expect("destroy app");
        let lines: Vec<String> = events.output().lines().map(str::to_owned).collect();
        assert_eq!(
            lines,
            [
                "create app bridge 0",
                "connect app bridge 64",
                "connect bridge bridge 64",
                "disconnect app bridge 64",
                "disconnect bridge bridge 64",
                "destroy app bridge 0",
            ]
        );
        events.kill();
    }
}

#[test]
fn endpoints_of_the_dead_hold_nothing() {
    let mut engine = engine();
    engine
        .docker("network create --subnet 10.81.0.0/24 app")
        .ok();
    for n in 0..3 {
        engine
            .docker(&format!(
                "run -d --name c{n} --network app --ip 10.81.0.{} -p 808{n}:80 busybox sleep 1000",
                10 + n
            ))
            .ok();
    }
    let shims: Vec<i32> = (0..3)
        .map(|n| {
            let pid = engine.inspect(&format!("c{n}"), "{{.State.Pid}}");
            parent_of(&pid)
        })
        .collect();
    engine.kill9().unwrap();
    for pid in shims {
        kill9(pid);
    }
    engine.restart().unwrap();
    eventually("they are known to have ended", || {
        engine.docker("ps -q").ok().is_empty()
    });
    eventually("nobody is in the network", || {
        network(&engine, "app", "{{len .Containers}}") == "0"
    });
    // neither the address nor the port is held by the dead
    engine
        .docker("run -d --name next --network app --ip 10.81.0.11 -p 8081:80 busybox sleep 1000")
        .ok();
    engine.docker("rm -f next").ok();
    engine.docker("start c1").ok();
    engine.docker("rm -f c0 c1 c2").ok();
    engine.docker("network rm app").ok();
    assert_eq!(engine.traces(), [""; 0]);
}

#[test]
fn a_link_gives_a_name_and_no_more() {
    let engine = engine();
    engine.docker("network create app").ok();
    for client in Client::BOTH {
        let run = |line: &str| engine.run(client, line);
        sleeper(&engine, "--name db --network app");
        run("run -d --name web --network app --link db:store busybox sleep 1000").ok();
        let ip = address(&engine, "db", "app");
        run("exec web nslookup store").shows(&ip);
        assert_eq!(
            engine.inspect("web", "{{.NetworkSettings.Networks.app.Links}}"),
            "[db:store]"
        );
        run("exec db nslookup store").fails(1);
        // on the default bridge a link is a line of /etc/hosts
        sleeper(&engine, "--name old --hostname oldhost");
        run("run --rm --link old:store busybox cat /etc/hosts")
            .shows(&format!("{}\tstore ", address(&engine, "old", "bridge")));
        run("run --rm --link nosuch busybox true").complains(125, "nosuch");
        run("rm -f db web old").ok();
    }
}
