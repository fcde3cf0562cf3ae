//! The laboratory: a host, a machine outside, and containers, as namespaces.
//!
//! ```text
//! outside 10.9.0.2 --- lan0 10.9.0.1 host 172.17.0.1 br0 --- containers 172.17.0.x
//! ```

use std::io::{ErrorKind, Read, Write};
use std::net::{IpAddr, Ipv4Addr, SocketAddr, TcpListener, TcpStream, UdpSocket};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::process::Command;
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use network::{
    Bridge, BridgeConfig, Firewall, Gateway, GatewayMode, Gateways, HostSide, Interface, Ipam,
    IpamConfig, Pool, PoolSize, PortMapping, Protocol, PublishPolicy, Rules, Sandbox, Zone,
    ZoneSide,
};
use sys::netns;

/// Long enough for a packet that comes.
pub(crate) const PATIENCE: Duration = Duration::from_secs(20);
/// Long enough to believe that a packet does not come.
pub(crate) const SILENCE: Duration = Duration::from_millis(400);

pub(crate) const HOST: IpAddr = IpAddr::V4(Ipv4Addr::new(10, 9, 0, 1));
pub(crate) const OUTSIDE: IpAddr = IpAddr::V4(Ipv4Addr::new(10, 9, 0, 2));
pub(crate) const GATEWAY: IpAddr = IpAddr::V4(Ipv4Addr::new(172, 17, 0, 1));
pub(crate) const LOOPBACK: IpAddr = IpAddr::V4(Ipv4Addr::LOCALHOST);
pub(crate) const ANY: IpAddr = IpAddr::V4(Ipv4Addr::UNSPECIFIED);

pub(crate) const BRIDGE: &str = "br0";
pub(crate) const TABLE: &str = "gorae";

/// Runs a test as the only thing in a new network namespace, with its loopback link up.
pub(crate) fn on_a_host(test: impl FnOnce() + Send) {
    let (_namespace, ()) = netns::create_with(|| {
        run("ip", "link set lo up");
        test();
    })
    .unwrap();
}

/// Runs a test on a host that has a neighbour outside.
pub(crate) fn in_the_lab(test: impl FnOnce(&Lab) + Send) {
    on_a_host(|| {
        let outside = netns::create().unwrap();
        let path = path(&outside);
        run(
            "ip",
            &format!("link add lan0 type veth peer name eth0 netns {path}"),
        );
        run("ip", "addr add 10.9.0.1/24 dev lan0");
        run("ip", "link set lan0 up");
        within(&outside, || {
            run("ip", "addr add 10.9.0.2/24 dev eth0");
            run("ip", "link set eth0 up");
            run("ip", "route add 172.17.0.0/16 via 10.9.0.1");
        });
        let network = Network::start(2);
        test(&Lab { network, outside });
    });
}

/// A host with its network, and the namespace of a machine outside.
pub(crate) struct Lab {
    pub(crate) network: Network,
    pub(crate) outside: OwnedFd,
}

/// Everything of a host's default network.
pub(crate) struct Network {
    pub(crate) firewall: Firewall,
    pub(crate) ipam: Ipam,
    pub(crate) pool: Pool,
}

impl Network {
    /// Sets everything up, with a pool of this size.
    pub(crate) fn start(pool: usize) -> Self {
        let config = bridge_config();
        let (bridge, subnet) = (config.name.clone(), config.sides[0].subnet);
        let rules = Rules {
            zones: vec![Zone {
                bridge,
                v4: Some(ZoneSide {
                    subnet,
                    mode: GatewayMode::Nat,
                    masquerade: true,
                    source: None,
                }),
                v6: None,
                internal: false,
                icc: true,
            }],
            ..Rules::default()
        };
        let addresses = IpamConfig {
            subnet,
            range: None,
            gateway: Some(GATEWAY),
            reserved: Vec::new(),
        };
        let bridge = Bridge::ensure(config).unwrap();
        let size = PoolSize {
            attached: pool,
            isolated: pool.min(1),
        };
        Self {
            firewall: Firewall::ensure(TABLE, PublishPolicy::Docker, rules).unwrap(),
            ipam: Ipam::new(addresses).unwrap(),
            pool: Pool::new(&bridge, size).unwrap(),
        }
    }

    pub(crate) fn destroy(self) {
        drop(self.pool);
        self.firewall.destroy().unwrap();
        Bridge::remove(BRIDGE).unwrap();
    }
}

/// A container: a connected sandbox and its address.
pub(crate) struct Container {
    pub(crate) sandbox: Sandbox,
    pub(crate) ip: IpAddr,
}

impl Lab {
    pub(crate) fn container(&self) -> Container {
        let mut sandbox = self.network.pool.take().unwrap();
        let ip = self.network.ipam.allocate().unwrap();
        join(&mut sandbox, ip);
        Container { sandbox, ip }
    }

    pub(crate) fn publish(&self, protocol: Protocol, host_ip: IpAddr, port: u16, to: &Container) {
        self.network
            .firewall
            .add(&published(&[mapping(protocol, host_ip, port, to.ip)]))
            .unwrap();
    }
}

pub(crate) fn mapping(
    protocol: Protocol,
    host_ip: IpAddr,
    host_port: u16,
    container: IpAddr,
) -> PortMapping {
    PortMapping {
        protocol,
        host_ip,
        host_port,
        container: SocketAddr::new(container, 80),
    }
}

/// Rules that are nothing but published ports.
pub(crate) fn published(ports: &[PortMapping]) -> Rules {
    Rules {
        published: ports.to_vec(),
        ..Rules::default()
    }
}

/// Connects a pooled sandbox to the default bridge.
pub(crate) fn join(sandbox: &mut Sandbox, ip: IpAddr) {
    sandbox
        .connect_and_route(&interface("eth0", &[(ip, 16)]), &default_gateway())
        .unwrap();
}

pub(crate) fn interface(name: &str, addresses: &[(IpAddr, u8)]) -> Interface {
    Interface {
        name: name.to_owned(),
        mac: None,
        addresses: addresses.to_vec(),
        mtu: 0,
        sysctls: Vec::new(),
    }
}

pub(crate) fn default_gateway() -> Gateways {
    Gateways {
        v4: Some(Gateway {
            address: GATEWAY,
            interface: "eth0".to_owned(),
        }),
        v6: None,
    }
}

pub(crate) fn bridge_config() -> BridgeConfig {
    BridgeConfig {
        name: BRIDGE.to_owned(),
        sides: vec![HostSide {
            subnet: "172.17.0.0/16".parse().unwrap(),
            gateway: Some(GATEWAY),
        }],
        mtu: 1500,
        owner: None,
    }
}

pub(crate) fn within<T: Send>(namespace: &impl AsFd, work: impl FnOnce() -> T + Send) -> T {
    netns::within(namespace.as_fd(), work).unwrap()
}

/// Runs work in a container's namespace.
pub(crate) fn inside<T: Send>(container: &Container, work: impl FnOnce() -> T + Send) -> T {
    let namespace: BorrowedFd<'_> = container.sandbox.netns();
    netns::within(namespace, work).unwrap()
}

/// Runs a program in the calling thread's namespace and returns what it prints.
pub(crate) fn run(program: &str, arguments: &str) -> String {
    let output = Command::new(program)
        .args(arguments.split_whitespace())
        .output()
        .unwrap_or_else(|error| panic!("{program} (install iproute2 and nftables): {error}"));
    assert!(
        output.status.success(),
        "{program} {arguments}: {}",
        String::from_utf8_lossy(&output.stderr)
    );
    String::from_utf8(output.stdout).unwrap()
}

/// Writes a kernel setting of the calling thread's namespace.
pub(crate) fn sysctl(name: &str, value: &str) {
    std::fs::write(format!("/proc/sys/net/{name}"), value).unwrap();
}

/// A path by which another process finds the namespace.
pub(crate) fn path(namespace: &OwnedFd) -> String {
    format!("/proc/{}/fd/{}", std::process::id(), namespace.as_raw_fd())
}

/// Serves one TCP connection: answers with the client's address as seen here.
pub(crate) fn serve_tcp(address: SocketAddr) -> JoinHandle<Option<SocketAddr>> {
    // a program that another test is just starting holds copies of all descriptors until it runs
    let listener = until(|| TcpListener::bind(address).ok()).expect("the port is free");
    std::thread::spawn(move || {
        listener.set_nonblocking(true).unwrap();
        let (mut stream, peer) = until(|| listener.accept().ok())?;
        stream.set_nonblocking(false).unwrap();
        stream.write_all(b"hello").unwrap();
        Some(peer)
    })
}

/// Asks a TCP server for its greeting.
pub(crate) fn ask_tcp(address: SocketAddr, patience: Duration) -> Result<(), ErrorKind> {
    let mut stream =
        TcpStream::connect_timeout(&address, patience).map_err(|error| error.kind())?;
    stream.set_read_timeout(Some(patience)).unwrap();
    let mut answer = String::new();
    stream
        .read_to_string(&mut answer)
        .map_err(|error| error.kind())?;
    assert_eq!(answer, "hello");
    Ok(())
}

/// Answers one datagram and returns where it came from.
pub(crate) fn serve_udp(address: SocketAddr) -> JoinHandle<Option<SocketAddr>> {
    let socket = until(|| UdpSocket::bind(address).ok()).expect("the port is free");
    std::thread::spawn(move || answer_udp(&socket, PATIENCE))
}

pub(crate) fn answer_udp(socket: &UdpSocket, patience: Duration) -> Option<SocketAddr> {
    socket.set_read_timeout(Some(patience)).unwrap();
    let mut buffer = [0; 16];
    let (length, peer) = socket.recv_from(&mut buffer).ok()?;
    socket.send_to(&buffer[..length], peer).unwrap();
    Some(peer)
}

/// Sends a datagram over a connected socket (which takes answers only from whom it asked).
pub(crate) fn ask_udp(address: SocketAddr, patience: Duration) -> Result<(), ErrorKind> {
    let socket = UdpSocket::bind((ANY, 0)).unwrap();
    socket.connect(address).map_err(|error| error.kind())?;
    ask_again(&socket, patience)
}

pub(crate) fn ask_again(socket: &UdpSocket, patience: Duration) -> Result<(), ErrorKind> {
    socket.set_read_timeout(Some(patience)).unwrap();
    socket.send(b"hello").map_err(|error| error.kind())?;
    let mut buffer = [0; 16];
    let length = socket.recv(&mut buffer).map_err(|error| error.kind())?;
    assert_eq!(&buffer[..length], b"hello");
    Ok(())
}

/// Repeats until there is a value, within patience.
pub(crate) fn until<T>(mut probe: impl FnMut() -> Option<T>) -> Option<T> {
    let end = Instant::now() + PATIENCE;
    loop {
        if let Some(value) = probe() {
            return Some(value);
        }
        if Instant::now() > end {
            return None;
        }
        std::thread::sleep(Duration::from_millis(5));
    }
}

/// Names the links of the calling thread's namespace.
pub(crate) fn link_names() -> Vec<String> {
    run("ip", "-o link")
        .lines()
        .filter_map(|line| line.split(':').nth(1))
        .map(|name| name.trim().split('@').next().unwrap_or_default().to_owned())
        .collect()
}
