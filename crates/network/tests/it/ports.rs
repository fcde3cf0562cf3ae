//! Reserving ports of the host.

use std::io::{ErrorKind, Read};
use std::net::{IpAddr, Ipv6Addr, TcpListener, TcpStream, UdpSocket};
use std::process::Command;
use std::time::{Duration, Instant};

use network::{HostAddress, HostPort, PortError, PortLease, PortRequest, Ports, Protocol};
use proptest::prelude::*;
use proptest::test_runner::{Config, TestRunner};
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

use crate::lab::{ANY, LOOPBACK, mapping, on_a_host, sysctl, until};

const ANY6: IpAddr = IpAddr::V6(Ipv6Addr::UNSPECIFIED);

fn request(protocol: Protocol, host: HostAddress, port: HostPort) -> PortRequest {
    PortRequest {
        protocol,
        host,
        port,
        container_port: 80,
        v4: Some([172, 17, 0, 2].into()),
        v6: None,
        owner: "web".to_owned(),
    }
}

fn reserve(ports: &Ports, request: PortRequest) -> Result<PortLease, PortError> {
    ports.reserve_all(&[request])
}

fn exactly(port: u16) -> HostPort {
    HostPort::Range {
        first: port,
        last: port,
    }
}

fn tcp(host: IpAddr, port: u16) -> PortRequest {
    request(Protocol::Tcp, HostAddress::Ip(host), exactly(port))
}

/// Takes what was just given back: a program that another test is starting at this moment holds
/// copies of all descriptors until it runs.
fn soon<T, E>(take: impl Fn() -> Result<T, E>) -> T {
    until(|| take().ok()).expect("the port is free")
}

#[test]
fn ours_and_foreign_ones_are_told_apart_in_dockers_words() {
    on_a_host(|| {
        let ports = Ports::new();
        let lease = reserve(&ports, tcp(ANY, 8080)).unwrap();
        let ours = reserve(&ports, tcp(ANY, 8080)).unwrap_err();
        assert_eq!(
            ours.to_string(),
            "Bind for 0.0.0.0:8080 failed: port is already allocated by container web"
        );
        let ours = reserve(&ports, tcp(LOOPBACK, 8080)).unwrap_err();
        assert_eq!(
            ours.to_string(),
            "Bind for 0.0.0.0:8080 failed: port is already allocated by container web"
        );
        reserve(
            &ports,
            request(Protocol::Udp, HostAddress::Ip(ANY), exactly(8080)),
        )
        .unwrap();
        drop(lease);
        let _lease = soon(|| reserve(&ports, tcp(LOOPBACK, 8080)));
        let ours = reserve(&ports, tcp(ANY, 8080)).unwrap_err();
        assert_eq!(
            ours.to_string(),
            "Bind for 127.0.0.1:8080 failed: port is already allocated by container web"
        );

        let listener = TcpListener::bind((LOOPBACK, 8081)).unwrap();
        let foreign = reserve(&ports, tcp(ANY, 8081)).unwrap_err();
        let text = "failed to bind host port for 0.0.0.0:8081:172.17.0.2:80/tcp: \
                    address already in use by ";
        let own = format!(" (process {})", std::process::id());
        let foreign = foreign.to_string();
        assert!(
            foreign.starts_with(text) && foreign.ends_with(&own),
            "{foreign}"
        );
        // a failure leaves nothing reserved
        drop(listener);
        soon(|| reserve(&ports, tcp(ANY, 8081)));

        let nowhere = reserve(&ports, tcp([10, 1, 2, 3].into(), 80))
            .unwrap_err()
            .to_string();
        assert!(
            nowhere.ends_with("80/tcp: cannot assign requested address"),
            "{nowhere}"
        );
    });
}

#[test]
fn a_reserved_port_is_busy_for_others_and_refuses_connections() {
    on_a_host(|| {
        let ports = Ports::new();
        let lease = reserve(&ports, tcp(ANY, 8080)).unwrap();
        // std sets SO_REUSEADDR, as most servers do
        let kind = |error: std::io::Error| error.kind();
        for address in [ANY, LOOPBACK] {
            let other = TcpListener::bind((address, 8080)).map_err(kind);
            assert_eq!(other.err(), Some(ErrorKind::AddrInUse), "{address}");
        }
        let client = TcpStream::connect((LOOPBACK, 8080)).map_err(kind);
        assert_eq!(client.err(), Some(ErrorKind::ConnectionRefused));
        let udp = request(Protocol::Udp, HostAddress::Ip(ANY), exactly(5353));
        let held = reserve(&ports, udp).unwrap();
        assert!(UdpSocket::bind((ANY, 5353)).is_err());
        drop((lease, held));
        soon(|| TcpListener::bind((ANY, 8080)));
        soon(|| UdpSocket::bind((ANY, 5353)));
    });
}

/// Leaves a connection in TIME_WAIT on the server's side, whose port it keeps for a minute.
fn leave_time_wait(port: u16) {
    let listener = TcpListener::bind((LOOPBACK, port)).unwrap();
    let mut client = TcpStream::connect((LOOPBACK, port)).unwrap();
    let (server, _) = listener.accept().unwrap();
    drop(server);
    assert_eq!(client.read(&mut [0]).unwrap(), 0);
}

#[test]
fn connections_of_a_server_that_ended_are_no_obstacle() {
    on_a_host(|| {
        let ports = Ports::new();
        leave_time_wait(8080);
        let lease = soon(|| reserve(&ports, tcp(ANY, 8080)));
        let other = TcpListener::bind((LOOPBACK, 8080))
            .err()
            .map(|error| error.kind());
        assert_eq!(
            other,
            Some(ErrorKind::AddrInUse),
            "the port is held all the same"
        );
        let client = TcpStream::connect((LOOPBACK, 8080))
            .err()
            .map(|error| error.kind());
        assert_eq!(client, Some(ErrorKind::ConnectionRefused));
        drop(lease);
        let _server = soon(|| TcpListener::bind((LOOPBACK, 8080)));
        assert!(matches!(
            reserve(&ports, tcp(ANY, 8080)),
            Err(PortError::Bind { .. })
        ));
    });
}

#[test]
fn both_families_at_once_or_neither() {
    on_a_host(|| {
        let ports = Ports::new();
        let any = |port| request(Protocol::Tcp, HostAddress::Any, exactly(port));
        let lease = reserve(&ports, any(8080)).unwrap();
        let addresses: Vec<_> = lease.mappings().iter().map(|m| m.host_ip).collect();
        assert_eq!(addresses, [ANY, ANY6]);
        assert!(TcpListener::bind((ANY6, 8080)).is_err());
        let _six = TcpListener::bind((Ipv6Addr::LOCALHOST, 8081)).unwrap();
        let error = reserve(&ports, any(8081)).unwrap_err().to_string();
        assert!(
            error.starts_with("failed to bind host port for [::]:8081:"),
            "{error}"
        );
        soon(|| reserve(&ports, tcp(ANY, 8081)));
    });
}

#[test]
fn ranges_and_chosen_ports() {
    on_a_host(|| {
        sysctl("ipv4/ip_local_port_range", "40000 40003");
        let ports = Ports::new();
        let any = |port| request(Protocol::Tcp, HostAddress::Ip(ANY), port);
        let port = |lease: &PortLease| lease.mappings()[0].host_port;
        let _busy = TcpListener::bind((ANY, 40001)).unwrap();
        let first = reserve(&ports, any(HostPort::Ephemeral)).unwrap();
        assert_eq!(port(&first), 40000);
        drop(first);
        let rest: Vec<_> = (0..3)
            .map(|_| reserve(&ports, any(HostPort::Ephemeral)).unwrap())
            .collect();
        assert_eq!(
            rest.iter().map(port).collect::<Vec<_>>(),
            [40002, 40003, 40000]
        );
        let error = reserve(&ports, any(HostPort::Ephemeral)).unwrap_err();
        assert_eq!(error.to_string(), "all ports are allocated");

        let range = HostPort::Range {
            first: 8000,
            last: 8001,
        };
        let two = [
            reserve(&ports, any(range)).unwrap(),
            reserve(&ports, any(range)).unwrap(),
        ];
        assert_eq!(two.each_ref().map(port), [8000, 8001]);
        assert!(matches!(
            reserve(&ports, any(range)),
            Err(PortError::Allocated { .. })
        ));
        let wrong = HostPort::Range { first: 9, last: 8 };
        assert!(matches!(
            reserve(&ports, any(wrong)),
            Err(PortError::Range { .. })
        ));
    });
}

#[test]
fn living_containers_keep_their_ports_even_when_somebody_took_them() {
    on_a_host(|| {
        let ports = Ports::new();
        let _taken = TcpListener::bind((ANY, 8080)).unwrap();
        let published = vec![
            mapping(Protocol::Tcp, ANY, 8080, [172, 17, 0, 2].into()),
            mapping(Protocol::Tcp, ANY, 8081, [172, 17, 0, 2].into()),
        ];
        let lease = ports.adopt(published.clone(), "web").unwrap();
        assert_eq!(lease.mappings(), published);
        assert!(matches!(
            reserve(&ports, tcp(ANY, 8080)),
            Err(PortError::Allocated { .. })
        ));
        assert!(TcpListener::bind((ANY, 8081)).is_err());
        assert!(ports.adopt(published, "db").is_err());
    });
}

#[test]
fn sctp_is_reserved_whether_or_not_the_kernel_has_it() {
    on_a_host(|| {
        let ports = Ports::new();
        let sctp = request(Protocol::Sctp, HostAddress::Ip(ANY), exactly(9899));
        let _lease = reserve(&ports, sctp.clone()).unwrap();
        assert!(matches!(
            reserve(&ports, sctp),
            Err(PortError::Allocated { .. })
        ));
    });
}

/// What a container with as many ports asks for.
fn many(count: u16) -> Vec<PortRequest> {
    (0..count)
        .map(|index| PortRequest {
            container_port: 1000 + index,
            ..request(Protocol::Tcp, HostAddress::Any, exactly(20_000 + index))
        })
        .collect()
}

/// Says that the test is the only one of its process, which it measures.
const ALONE: &str = "GORAE_TEST_ALONE";

/// Runs a test of this file in a process of its own.
fn alone(name: &str) {
    let output = Command::new(std::env::current_exe().unwrap())
        .args(["--exact", "--nocapture", &format!("ports::{name}")])
        .env(ALONE, "1")
        .output()
        .unwrap();
    let (out, err) = (
        String::from_utf8_lossy(&output.stdout),
        String::from_utf8_lossy(&output.stderr),
    );
    assert!(output.status.success(), "{out}{err}");
    println!("{out}");
}

/// The memory that is this process's own, in KiB.
fn own_memory() -> usize {
    let text = std::fs::read_to_string("/proc/self/smaps_rollup").unwrap();
    let line = text.lines().find(|line| line.starts_with("Private_Dirty:"));
    let number = line.and_then(|line| line.split_whitespace().nth(1));
    number.unwrap().parse().unwrap()
}

fn descriptors() -> usize {
    std::fs::read_dir("/proc/self/fd").unwrap().count()
}

#[test]
fn five_hundred_ports_cost_little() {
    if std::env::var_os(ALONE).is_none() {
        return alone("five_hundred_ports_cost_little");
    }
    on_a_host(|| {
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(1)
            .enable_all()
            .build()
            .unwrap();
        // as the engine does at its start: growing the table waits for all processors
        drop(rustix::io::fcntl_dupfd_cloexec(std::io::stdin(), 4096).unwrap());
        let ports = Ports::new();
        let measure = |count: u16| {
            let requests = many(count);
            let (memory, fds, start) = (own_memory(), descriptors(), Instant::now());
            let mut lease = ports.reserve_all(&requests).unwrap();
            let reserved = start.elapsed();
            lease.serve(runtime.handle()).unwrap();
            let served = start.elapsed() - reserved;
            let memory = own_memory().saturating_sub(memory);
            assert_eq!(lease.mappings().len(), usize::from(count) * 2);
            assert_eq!(ports.len(), usize::from(count) * 2);
            let start = Instant::now();
            drop(lease);
            let dropped = start.elapsed();
            assert!(until(|| (descriptors() == fds).then_some(())).is_some());
            println!(
                "{count} ports: reserved in {reserved:?}, served in {served:?}, \
                 dropped in {dropped:?}, {memory} KiB"
            );
            assert!(memory < 1024, "{count} ports take {memory} KiB");
            assert!(reserved + served < Duration::from_secs(20));
        };
        measure(1);
        measure(100);
        measure(500);
        runtime.shutdown_timeout(Duration::from_secs(1));
    });
}

#[test]
fn without_descriptors_nothing_is_left_behind() {
    if std::env::var_os(ALONE).is_none() {
        return alone("without_descriptors_nothing_is_left_behind");
    }
    on_a_host(|| {
        let limit = getrlimit(Resource::Nofile);
        let few = Rlimit {
            current: Some(200),
            maximum: limit.maximum,
        };
        setrlimit(Resource::Nofile, few).unwrap();
        let ports = Ports::new();
        let before = descriptors();
        let error = ports.reserve_all(&many(500)).unwrap_err().to_string();
        assert!(error.contains(": too many open files"), "{error}");
        assert_eq!((ports.len(), descriptors()), (0, before));
        let _lease = ports.reserve_all(&many(50)).unwrap();
    });
}

#[test]
fn requests_that_name_a_port_come_before_those_that_choose() {
    on_a_host(|| {
        sysctl("ipv4/ip_local_port_range", "20000 20003");
        let ports = Ports::new();
        let any = HostAddress::Any;
        let range = HostPort::Range {
            first: 20_000,
            last: 20_001,
        };
        let requests = [
            request(Protocol::Tcp, any, HostPort::Ephemeral),
            request(Protocol::Tcp, any, range),
            request(Protocol::Tcp, any, exactly(20_000)),
        ];
        let lease = ports.reserve_all(&requests).unwrap();
        let found: Vec<_> = lease.mappings().iter().map(|m| m.host_port).collect();
        // in the order of the requests, both families with one number
        assert_eq!(found, [20_002, 20_002, 20_001, 20_001, 20_000, 20_000]);
    });
}

#[test]
fn failures_name_the_attempt_as_docker_does() {
    on_a_host(|| {
        let ports = Ports::new();
        let _busy = TcpListener::bind((ANY, 9099)).unwrap();
        let _held = reserve(&ports, tcp(ANY, 9098)).unwrap();
        let range = HostPort::Range {
            first: 9098,
            last: 9099,
        };
        let wanted = request(Protocol::Tcp, HostAddress::Any, range);
        let error = reserve(&ports, wanted.clone()).unwrap_err().to_string();
        let text = "failed to bind host port 9099 for 0.0.0.0:9098-9099:172.17.0.2:80/tcp: \
                    address already in use by ";
        assert!(error.starts_with(text), "{error}");
        let nowhere = PortRequest { v4: None, ..wanted };
        let error = reserve(&ports, nowhere).unwrap_err().to_string();
        assert_eq!(
            error,
            "cannot publish port 80/tcp: the container has no IP address"
        );
        let far = HostAddress::Ip("fd00::99".parse().unwrap());
        let wanted = request(Protocol::Udp, far, exactly(9097));
        let error = reserve(&ports, wanted).unwrap_err().to_string();
        assert_eq!(
            error,
            "failed to bind host port for [fd00::99]:9097:172.17.0.2:80/udp: \
             cannot assign requested address"
        );
    });
}

#[test]
fn a_host_without_ipv6_gives_ports_of_ipv4() {
    on_a_host(|| {
        sysctl("ipv6/conf/all/disable_ipv6", "1");
        let ports = Ports::new();
        let any = request(Protocol::Tcp, HostAddress::Any, exactly(8080));
        let lease = reserve(&ports, any).unwrap();
        let addresses: Vec<_> = lease.mappings().iter().map(|m| m.host_ip).collect();
        assert_eq!(addresses, [ANY]);
    });
}

/// One step of a history: reserve what may clash, or give back.
#[derive(Debug, Clone)]
enum Step {
    Reserve(Vec<(Protocol, u8, u8)>),
    Release(usize),
}

fn step() -> impl Strategy<Value = Step> {
    let protocol = prop_oneof![Just(Protocol::Tcp), Just(Protocol::Udp)];
    let request = (protocol, 0..4u8, 0..6u8);
    prop_oneof![
        proptest::collection::vec(request, 1..4).prop_map(Step::Reserve),
        (0..8usize).prop_map(Step::Release),
    ]
}

fn small_request((protocol, host, port): (Protocol, u8, u8)) -> PortRequest {
    let host = match host {
        0 => HostAddress::Any,
        1 => HostAddress::Ip(ANY),
        2 => HostAddress::Ip(LOOPBACK),
        _ => HostAddress::Ip(ANY6),
    };
    let range = |first, last| HostPort::Range { first, last };
    let port = match port {
        0 => HostPort::Ephemeral,
        1 => range(20_000, 20_003),
        other => exactly(20_000 + u16::from(other) - 2),
    };
    request(protocol, host, port)
}

#[test]
fn whatever_is_reserved_and_released_nothing_leaks() {
    on_a_host(|| {
        sysctl("ipv4/ip_local_port_range", "20000 20005");
        let mut runner = TestRunner::new(Config {
            cases: 64,
            failure_persistence: None,
            ..Config::default()
        });
        let history = proptest::collection::vec(step(), 0..24);
        let outcome = runner.run(&history, |steps| {
            let ports = Ports::new();
            let mut leases: Vec<PortLease> = Vec::new();
            for step in steps {
                match step {
                    Step::Reserve(wanted) => {
                        let wanted: Vec<_> = wanted.into_iter().map(small_request).collect();
                        leases.extend(ports.reserve_all(&wanted).ok());
                    }
                    Step::Release(index) if index < leases.len() => drop(leases.remove(index)),
                    Step::Release(_) => {}
                }
                let held: usize = leases.iter().map(|lease| lease.mappings().len()).sum();
                prop_assert_eq!(ports.len(), held);
            }
            drop(leases);
            prop_assert!(ports.is_empty());
            for port in 20_000..20_006 {
                let tcp = until(|| TcpListener::bind((ANY6, port)).ok());
                let udp = until(|| UdpSocket::bind((ANY6, port)).ok());
                prop_assert!(tcp.is_some() && udp.is_some(), "{} is still held", port);
            }
            Ok(())
        });
        outcome.unwrap();
    });
}
