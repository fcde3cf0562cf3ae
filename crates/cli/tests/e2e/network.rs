//! Published ports and reachability, from the host, from loopback, from another host, and between containers.

use std::io::{Read as _, Write as _};
use std::net::{SocketAddr, TcpStream};
use std::time::Duration;

use testkit::docker::Client;
use testkit::engine::Engine;
use testkit::namespace::Namespace;
use testkit::serve::{Server, ask_udp};

use crate::bench::{engine, eventually};

const SERVE: &str = "sh -c 'echo ready; while :; do echo served | nc -l -p 80 -w 3; done'";

/// What a TCP server says at once.
fn fetch(address: &str) -> Option<String> {
    let address: SocketAddr = address.parse().unwrap();
    let mut stream = TcpStream::connect_timeout(&address, Duration::from_secs(2)).ok()?;
    stream
        .set_read_timeout(Some(Duration::from_secs(20)))
        .unwrap();
    let mut text = String::new();
    stream.shutdown(std::net::Shutdown::Write).ok()?;
    stream.read_to_string(&mut text).ok()?;
    Some(text)
}

/// Where port 80 of a container is published for IPv4, as seen from this host.
fn published(engine: &Engine, name: &str) -> String {
    let ports = engine.docker(&format!("port {name} 80"));
    let mut all = ports.ok().lines();
    let line = all.find(|line| line.starts_with("0.0.0.0:")).unwrap();
    line.replace("0.0.0.0", "127.0.0.1")
}

#[track_caller]
fn serves(address: &str) {
    eventually(address, || fetch(address).as_deref() == Some("served\n"));
}

fn serves_from(other: &Namespace, address: &str) {
    other.within(|| serves(address)).unwrap();
}

#[test]
fn a_published_port_is_reached_from_everywhere() {
    let engine = engine();
    let other = engine.network().neighbour().unwrap();
    for client in Client::BOTH {
        engine
            .run(
                client,
                &format!("run -d --name web -p 8080:80 busybox {SERVE}"),
            )
            .ok();
        serves("127.0.0.1:8080");
        serves("10.9.0.1:8080");
        serves("172.17.0.1:8080");
        serves("[::1]:8080");
        engine.run(client, "port web 80").shows("0.0.0.0:8080");
        engine.run(client, "port web 80").shows("[::]:8080");
        serves_from(&other, "10.9.0.1:8080");
        let ip = engine.inspect("web", "{{.NetworkSettings.IPAddress}}");
        serves(&format!("{ip}:80"));
        // between two clients nobody listens for a moment
        for place in ["172.17.0.1 8080".to_owned(), format!("{ip} 80")] {
            let line = format!("run --rm busybox sh -c 'nc -w 5 {place} < /dev/null'");
            eventually("another container is served", || {
                engine.run(client, &line).stdout == "served\n"
            });
        }
        engine
            .run(client, "port web")
            .shows("80/tcp -> 0.0.0.0:8080");
        engine.run(client, "port web 80").shows("0.0.0.0:8080");
        engine.run(client, "rm -f web").ok();
        assert_eq!(
            fetch("127.0.0.1:8080"),
            None,
            "a port outlives its container"
        );
    }
}

#[test]
fn addresses_ranges_and_chosen_ports() {
    let engine = engine();
    let other = engine.network().neighbour().unwrap();
    for client in Client::BOTH {
        engine
            .run(
                client,
                &format!("run -d --name one -p 127.0.0.1:8081:80 busybox {SERVE}"),
            )
            .ok();
        serves("127.0.0.1:8081");
        assert_eq!(fetch("10.9.0.1:8081"), None);
        assert_eq!(other.within(|| fetch("10.9.0.1:8081")).unwrap(), None);

        engine
            .run(
                client,
                &format!("run -d --name ranged -p 9000-9001:80-81 busybox {SERVE}"),
            )
            .ok();
        serves("127.0.0.1:9000");
        engine
            .run(client, "port ranged 81/tcp")
            .shows("0.0.0.0:9001");

        engine
            .run(
                client,
                &format!("run -d --name chosen -p 80 busybox {SERVE}"),
            )
            .ok();
        let place = published(&engine, "chosen");
        serves(&place);

        engine
            .run(
                client,
                &format!("run -d --name all --expose 80 -P busybox {SERVE}"),
            )
            .ok();
        let place = published(&engine, "all");
        serves(&place);

        engine
            .run(
                client,
                &format!("run -d --name any -p 9100-9110:80 busybox {SERVE}"),
            )
            .ok();
        let place = published(&engine, "any");
        assert!(place.starts_with("127.0.0.1:91"), "{place}");
        serves(&place);
        engine.run(client, "rm -f one ranged chosen all any").ok();
    }
}

/// Answers datagrams inside the container `dns`.
fn answer_inside(engine: &Engine) -> Server {
    Server::udp(&engine.inside("dns"), "0.0.0.0:53", "dns").unwrap()
}

#[test]
fn udp_is_published_too() {
    let engine = engine();
    let other = engine.network().neighbour().unwrap();
    for client in Client::BOTH {
        engine
            .run(
                client,
                "run -d --name dns -p 5353:53/udp -p 5353:53/tcp busybox sleep 1000",
            )
            .ok();
        engine.run(client, "port dns 53/udp").shows("0.0.0.0:5353");
        let server = answer_inside(&engine);
        let told = ask_udp("127.0.0.1:5353").unwrap();
        assert!(told.starts_with("dns sees "), "{told}");
        // its socket would keep the container's network
        drop(server);
        engine.run(client, "restart -t 0 dns").ok();
        let server = answer_inside(&engine);
        let told = other.within(|| ask_udp("10.9.0.1:5353")).unwrap();
        assert_eq!(told.as_deref(), Some("dns sees 10.9.0.2"));
        drop(server);
        engine.run(client, "rm -f dns").ok();
    }
}

#[test]
fn containers_reach_out_with_the_hosts_address() {
    let engine = engine();
    let other = engine.network().neighbour().unwrap();
    let served = other.within(|| {
        let listener = std::net::TcpListener::bind("10.9.0.2:7000").unwrap();
        std::thread::spawn(move || {
            for stream in listener.incoming().take(2) {
                let mut stream = stream.unwrap();
                let peer = stream.peer_addr().unwrap();
                writeln!(stream, "you are {}", peer.ip()).unwrap();
            }
        })
    });
    for client in Client::BOTH {
        engine
            .run(
                client,
                "run --rm busybox sh -c 'nc -w 3 10.9.0.2 7000 < /dev/null'",
            )
            .prints("you are 10.9.0.1");
    }
    served.unwrap().join().unwrap();
}

#[test]
fn networks_none_host_and_container() {
    let engine = engine();
    engine
        .docker(&format!("run -d --name web busybox {SERVE}"))
        .ok();
    for client in Client::BOTH {
        engine.run(client, "run --rm --network none busybox sh -c 'ip -o link | wc -l; ip -o addr show lo | grep -c 127.0.0.1'").prints("1\n1");
        engine
            .run(
                client,
                "run --rm --network host busybox sh -c 'ip -o link show gorae0 | wc -l'",
            )
            .prints("1");
        eventually("loopback is shared", || {
            engine.run(client, "run --rm --network container:web busybox sh -c 'nc -w 2 127.0.0.1 80 < /dev/null'").stdout == "served\n"
        });
        engine
            .run(client, "run --rm --network nosuch busybox true")
            .complains(125, "network nosuch not found");
        engine
            .run(client, "run --rm --network container:nosuch busybox true")
            .complains(125, "No such container: nosuch");
        engine
            .run(client, "network ls --format '{{.Name}} {{.Driver}}'")
            .shows("bridge bridge");
    }
    engine.docker("network inspect bridge -f '{{(index .IPAM.Config 0).Subnet}} {{index .Options \"com.docker.network.bridge.name\"}}'").prints("172.17.0.0/16 gorae0");
}

#[test]
fn addresses_are_given_and_taken_back() {
    let engine = engine();
    for client in Client::BOTH {
        let address = |engine: &Engine, name: &str| {
            engine.inspect(
                name,
                "{{.NetworkSettings.IPAddress}} {{.NetworkSettings.MacAddress}}",
            )
        };
        engine
            .run(client, "run -d --name one busybox sleep 1000")
            .ok();
        engine
            .run(client, "run -d --name two busybox sleep 1000")
            .ok();
        assert_ne!(address(&engine, "one"), address(&engine, "two"));
        let inside = engine.run(client, "exec one sh -c 'ip -4 -o addr show eth0 | tr -s \" \" | cut -d\" \" -f4; ip route | head -1'");
        let ip = engine.inspect("one", "{{.NetworkSettings.IPAddress}}");
        inside.prints(&format!("{ip}/16\ndefault via 172.17.0.1 dev eth0"));
        engine
            .run(client, "exec one ping -c 1 -W 30 172.17.0.1")
            .ok();
        engine.run(client, "stop -t 0 one").ok();
        assert_eq!(engine.inspect("one", "{{.NetworkSettings.IPAddress}}"), "");
        engine.run(client, "rm -f one two").ok();
    }
}
