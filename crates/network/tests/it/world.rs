//! Small topologies for the firewall: a host with bridges made by hand, machines around it, and
//! guests behind the bridges, all as namespaces.
//!
//! ```text
//! outside 10.9.0.2 fd09::2 --- lan0 10.9.0.1 fd09::1 host  br1 --- guests 172.20.1.x fd20:1::x
//!                                                          br2 --- guests 172.20.2.x fd20:2::x
//! ```

use std::io::{Read, Write};
use std::net::{IpAddr, Ipv6Addr, SocketAddr, TcpListener, TcpStream, UdpSocket};
use std::os::fd::OwnedFd;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use std::time::Duration;

use network::{GatewayMode, MacAddress, Member, PortMapping, Protocol, Zone, ZoneSide, mac_for};
use sys::netns;

use crate::lab::{on_a_host, path, run, sysctl, within};

/// Long enough for a packet that comes, and for a machine that is busy with other tests.
pub(crate) const PATIENCE: Duration = Duration::from_secs(20);
/// Long enough to believe that a packet does not come.
pub(crate) const SILENCE: Duration = Duration::from_millis(300);
/// Where all servers listen.
pub(crate) const SERVICE: u16 = 80;

pub(crate) fn ip(text: &str) -> IpAddr {
    text.parse().unwrap()
}

/// Runs a test on a host that routes both versions of IP and has a neighbour outside.
pub(crate) fn in_the_world(test: impl FnOnce(&Machine) + Send) {
    on_a_host(|| {
        sysctl("ipv4/ip_forward", "1");
        sysctl("ipv6/conf/all/forwarding", "1");
        let outside = Machine::beside(
            "lan0",
            ["10.9.0.1/24", "fd09::1/64"],
            ["10.9.0.2/24", "fd09::2/64"],
        );
        outside.inside(|| {
            run("ip", "route add default via 10.9.0.1");
            run("ip", "-6 route add default via fd09::1");
        });
        test(&outside);
    });
}

/// A namespace with a link `eth0`, and servers that answer with the asker's address.
pub(crate) struct Machine {
    pub(crate) namespace: OwnedFd,
    pub(crate) addresses: Vec<IpAddr>,
    pub(crate) port: String,
    stop: Arc<AtomicBool>,
    servers: Vec<JoinHandle<()>>,
}

impl Machine {
    /// Makes a machine at the other end of a new link of the host's.
    pub(crate) fn beside(link: &str, ours: [&str; 2], theirs: [&str; 2]) -> Self {
        let machine = Self::new(link, &theirs);
        for address in ours.iter().filter(|address| !address.is_empty()) {
            run(
                "ip",
                &format!("addr add {address} dev {link} {}", nodad(address)),
            );
        }
        machine.serve()
    }

    /// Makes a container behind a bridge, whose first addresses are its gateways.
    pub(crate) fn behind(bridge: &str, port: &str, addresses: &[&str]) -> Self {
        let guest = Self::new(port, addresses);
        run("ip", &format!("link set {port} master {bridge}"));
        run(
            "ip",
            &format!("link set {port} type bridge_slave hairpin on"),
        );
        sysctl(&format!("ipv6/conf/{port}/disable_ipv6"), "1");
        let gateways = run("ip", &format!("-o addr show dev {bridge} scope global"));
        guest.inside(|| {
            for word in gateways
                .split_whitespace()
                .filter(|word| word.contains('/'))
            {
                let gateway: IpAddr = word.split('/').next().unwrap().parse().unwrap();
                if guest
                    .addresses
                    .iter()
                    .any(|own| own.is_ipv4() == gateway.is_ipv4())
                {
                    run("ip", &format!("route add default via {gateway}"));
                }
            }
        });
        guest.serve()
    }

    fn new(link: &str, addresses: &[&str]) -> Self {
        let namespace = netns::create().unwrap();
        let path = path(&namespace);
        let addresses: Vec<_> = addresses.iter().filter(|text| !text.is_empty()).collect();
        let parsed: Vec<_> = addresses
            .iter()
            .map(|text| ip(text.split('/').next().unwrap()))
            .collect();
        let mac = mac_for(parsed[0]);
        run(
            "ip",
            &format!("link add {link} type veth peer name eth0 address {mac} netns {path}"),
        );
        run("ip", &format!("link set {link} up"));
        within(&namespace, || {
            run("ip", "link set lo up");
            sysctl("ipv6/conf/eth0/accept_dad", "0");
            for address in addresses {
                run(
                    "ip",
                    &format!("addr add {address} dev eth0 {}", nodad(address)),
                );
            }
            run("ip", "link set eth0 up");
        });
        Self {
            namespace,
            addresses: parsed,
            port: link.to_owned(),
            stop: Arc::default(),
            servers: Vec::new(),
        }
    }

    fn serve(mut self) -> Self {
        let any: IpAddr = ip("::");
        let address = SocketAddr::new(any, SERVICE);
        let (tcp, udp) = self.inside(|| {
            (
                TcpListener::bind(address).unwrap(),
                UdpSocket::bind(address).unwrap(),
            )
        });
        tcp.set_nonblocking(true).unwrap();
        udp.set_read_timeout(Some(Duration::from_millis(50)))
            .unwrap();
        let stop = Arc::clone(&self.stop);
        self.servers.push(std::thread::spawn(move || {
            while !stop.load(Ordering::Relaxed) {
                match tcp.accept() {
                    Ok((mut stream, peer)) => {
                        let _gone =
                            stream.write_all(peer.ip().to_canonical().to_string().as_bytes());
                    }
                    Err(_) => std::thread::sleep(Duration::from_millis(5)),
                }
            }
        }));
        let stop = Arc::clone(&self.stop);
        self.servers.push(std::thread::spawn(move || {
            let mut room = [0; 4096];
            while !stop.load(Ordering::Relaxed) {
                if let Ok((_, peer)) = udp.recv_from(&mut room) {
                    let answer = peer.ip().to_canonical().to_string();
                    let _gone = udp.send_to(answer.as_bytes(), peer);
                }
            }
        }));
        self
    }

    pub(crate) fn inside<T: Send>(&self, work: impl FnOnce() -> T + Send) -> T {
        within(&self.namespace, work)
    }

    pub(crate) fn v4(&self) -> IpAddr {
        *self
            .addresses
            .iter()
            .find(|address| address.is_ipv4())
            .unwrap()
    }

    pub(crate) fn v6(&self) -> IpAddr {
        *self
            .addresses
            .iter()
            .find(|address| address.is_ipv6())
            .unwrap()
    }

    /// The address that the kernel gives `eth0` by itself.
    pub(crate) fn link_local(&self) -> Ipv6Addr {
        let text = self.inside(|| run("ip", "-6 -o addr show dev eth0 scope link"));
        let word = text.split_whitespace().find(|word| word.contains('/'));
        word.unwrap().split('/').next().unwrap().parse().unwrap()
    }

    pub(crate) fn mac(&self) -> MacAddress {
        mac_for(self.addresses[0])
    }

    pub(crate) fn member(&self) -> Member {
        Member {
            port: self.port.clone(),
            mac: self.mac(),
            addresses: self.addresses.clone(),
        }
    }

    /// Asks from here; returns as whom one is seen there.
    pub(crate) fn asks(&self, protocol: Protocol, address: IpAddr, port: u16) -> Option<IpAddr> {
        self.inside(|| ask(protocol, SocketAddr::new(address, port)))
    }
}

impl Drop for Machine {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        for server in self.servers.drain(..) {
            let _panicked = server.join();
        }
    }
}

fn nodad(address: &str) -> &'static str {
    if address.contains(':') { "nodad" } else { "" }
}

/// Makes a bridge with these addresses of the host's.
pub(crate) fn bridge(name: &str, addresses: &[&str]) {
    run("ip", &format!("link add {name} type bridge"));
    sysctl(&format!("ipv4/conf/{name}/route_localnet"), "1");
    // without a link-local address there are no neighbours for what is forwarded
    sysctl(&format!("ipv6/conf/{name}/accept_dad"), "0");
    for address in addresses {
        run(
            "ip",
            &format!("addr add {address} dev {name} {}", nodad(address)),
        );
    }
    run("ip", &format!("link set {name} up"));
}

pub(crate) fn side(subnet: &str) -> ZoneSide {
    ZoneSide {
        subnet: subnet.parse().unwrap(),
        mode: GatewayMode::Nat,
        masquerade: true,
        source: None,
    }
}

/// A zone with the networks 172.20.N.0/24 and fd20:N::/64.
pub(crate) fn zone(bridge: &str, number: u8) -> Zone {
    Zone {
        bridge: bridge.to_owned(),
        v4: Some(side(&format!("172.20.{number}.0/24"))),
        v6: Some(side(&format!("fd20:{number}::/64"))),
        internal: false,
        icc: true,
    }
}

/// Makes the bridge `brN` of such a zone.
pub(crate) fn network(number: u8) -> Zone {
    let name = format!("br{number}");
    bridge(
        &name,
        &[
            &format!("172.20.{number}.1/24"),
            &format!("fd20:{number}::1/64"),
        ],
    );
    zone(&name, number)
}

/// Makes the guest number `own` of the network `number`.
pub(crate) fn guest(number: u8, own: u8) -> Machine {
    Machine::behind(
        &format!("br{number}"),
        &format!("p{number}x{own}"),
        &[
            &format!("172.20.{number}.{own}/24"),
            &format!("fd20:{number}::{own}/64"),
        ],
    )
}

pub(crate) fn mapping(protocol: Protocol, host: &str, port: u16, to: IpAddr) -> PortMapping {
    PortMapping {
        protocol,
        host_ip: ip(host),
        host_port: port,
        container: SocketAddr::new(to, SERVICE),
    }
}

/// Asks a server; returns as whom one is seen there, or nothing when there is no answer.
pub(crate) fn ask(protocol: Protocol, address: SocketAddr) -> Option<IpAddr> {
    ask_within(protocol, address, PATIENCE)
}

pub(crate) fn ask_within(
    protocol: Protocol,
    address: SocketAddr,
    patience: Duration,
) -> Option<IpAddr> {
    match protocol {
        Protocol::Tcp => {
            let mut stream = TcpStream::connect_timeout(&address, patience).ok()?;
            stream.set_read_timeout(Some(patience)).unwrap();
            let mut answer = String::new();
            stream.read_to_string(&mut answer).ok()?;
            answer.parse().ok()
        }
        Protocol::Udp => {
            let any = if address.is_ipv4() { "0.0.0.0" } else { "::" };
            let socket = UdpSocket::bind((ip(any), 0)).unwrap();
            socket.connect(address).ok()?;
            socket.set_read_timeout(Some(patience)).unwrap();
            socket.send(b"who am I?").ok()?;
            let mut room = [0; 64];
            let length = socket.recv(&mut room).ok()?;
            std::str::from_utf8(&room[..length]).ok()?.parse().ok()
        }
        Protocol::Sctp => None,
    }
}

/// Asks where no answer is expected.
pub(crate) fn silent(protocol: Protocol, address: IpAddr, port: u16) -> bool {
    ask_within(protocol, SocketAddr::new(address, port), SILENCE).is_none()
}
