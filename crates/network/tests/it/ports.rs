//! Reserving ports of the host.

use std::io::{ErrorKind, Read};
use std::net::{IpAddr, Ipv6Addr, TcpListener, TcpStream, UdpSocket};

use network::{HostAddress, HostPort, PortError, PortLease, PortRequest, Ports, Protocol};

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
