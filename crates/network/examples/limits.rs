//! Measures, in a private namespace, how near the throughput of a limited link comes to its limit.
//!
//! `cargo run -p network --profile profiling --example limits [seconds [rate...]]`; needs root.
#![expect(
    clippy::print_stdout,
    reason = "a measuring program prints its figures"
)]

use std::error::Error;
use std::io::{Read, Write};
use std::net::{IpAddr, SocketAddr, TcpListener, TcpStream};
use std::os::fd::BorrowedFd;
use std::time::{Duration, Instant};

use network::{
    Attachment, Bandwidth, Bridge, BridgeConfig, HostInterface, HostSide, Interface, Rate, Sandbox,
    bandwidth,
};

type Failure = Box<dyn Error + Send + Sync>;

const PORT: u16 = 5201;
const RATES: [&str; 7] = [
    "1mbit", "5mbit", "20mbit", "100mbit", "300mbit", "600mbit", "1gbit",
];

fn main() -> Result<(), Failure> {
    let mut arguments = std::env::args().skip(1);
    let seconds = arguments.next().map_or(Ok(5), |text| text.parse())?;
    let mut rates = arguments
        .map(|text| text.parse())
        .collect::<Result<Vec<Rate>, _>>()?;
    if rates.is_empty() {
        rates = RATES
            .iter()
            .map(|text| text.parse())
            .collect::<Result<_, _>>()?;
    }
    sys::netns::create_with(|| measure(Duration::from_secs(seconds), &rates))?.1
}

fn measure(time: Duration, rates: &[Rate]) -> Result<(), Failure> {
    let bridge = Bridge::ensure(BridgeConfig {
        name: "br0".to_owned(),
        sides: vec![
            side("172.18.0.0/24", [172, 18, 0, 1].into())?,
            side("fd00::/64", "fd00::1".parse()?)?,
        ],
        mtu: 1500,
        owner: None,
    })?;
    let (limited, port) = container(&bridge, 2)?;
    let (other, _) = container(&bridge, 3)?;
    println!("rate      family  ingress    egress");
    for rate in rates {
        for six in [false, true] {
            let address = |number: u16| -> IpAddr {
                if six {
                    [0xfd00, 0, 0, 0, 0, 0, 0, number].into()
                } else {
                    [172, 18, 0, number.to_be_bytes()[1]].into()
                }
            };
            let share = |(bytes, time): (u64, Duration)| {
                #[expect(clippy::cast_precision_loss, reason = "a figure to print")]
                let (bits, wanted) = ((bytes * 8) as f64, rate.bits() as f64);
                bits / time.as_secs_f64() / wanted * 100.0
            };
            set(&port, Some(*rate), None)?;
            let ingress = flow(other.netns(), limited.netns(), address(2), time)?;
            set(&port, None, Some(*rate))?;
            let egress = flow(limited.netns(), other.netns(), address(3), time)?;
            println!(
                "{:<9} {:<6} {:>7.1} %  {:>7.1} %",
                rate.to_string(),
                if six { "IPv6" } else { "IPv4" },
                share(ingress),
                share(egress)
            );
        }
    }
    Ok(())
}

fn side(subnet: &str, gateway: IpAddr) -> Result<HostSide, Failure> {
    Ok(HostSide {
        subnet: subnet.parse()?,
        gateway: Some(gateway),
    })
}

fn container(bridge: &Bridge, number: u8) -> Result<(Sandbox, HostInterface), Failure> {
    let mut sandbox = Sandbox::isolated()?;
    let interface = Interface {
        name: "eth0".to_owned(),
        mac: None,
        addresses: vec![
            ([172, 18, 0, number].into(), 24),
            ([0xfd00, 0, 0, 0, 0, 0, 0, number.into()].into(), 64),
        ],
        mtu: 0,
        sysctls: Vec::new(),
    };
    let attachment = Attachment::Bridge {
        bridge,
        isolated: false,
    };
    let port = sandbox.attach(attachment, &interface)?;
    Ok((sandbox, port.ok_or("a bridge's link has a host end")?))
}

fn set(port: &HostInterface, ingress: Option<Rate>, egress: Option<Rate>) -> Result<(), Failure> {
    Ok(bandwidth::limit(port, &Bandwidth { ingress, egress })?)
}

/// Sends as fast as it goes and returns what arrived, and in what time.
fn flow(
    from: BorrowedFd<'_>,
    to: BorrowedFd<'_>,
    address: IpAddr,
    time: Duration,
) -> Result<(u64, Duration), Failure> {
    let unspecified: IpAddr = match address {
        IpAddr::V4(_) => [0; 4].into(),
        IpAddr::V6(_) => [0_u8; 16].into(),
    };
    let listener = sys::netns::within(to, || TcpListener::bind((unspecified, PORT)))??;
    let sender = sys::netns::within(from, || TcpStream::connect(SocketAddr::new(address, PORT)))??;
    let (receiver, _) = listener.accept()?;
    std::thread::scope(|scope| {
        scope.spawn(|| send(sender));
        receive(receiver, time)
    })
}

fn send(mut stream: TcpStream) {
    let data = vec![0_u8; 128 << 10];
    while stream.write_all(&data).is_ok() {}
}

fn receive(mut stream: TcpStream, time: Duration) -> Result<(u64, Duration), Failure> {
    stream.set_read_timeout(Some(time))?;
    let mut buffer = vec![0_u8; 256 << 10];
    let (started, mut bytes) = (Instant::now(), 0);
    while started.elapsed() < time {
        bytes += u64::try_from(stream.read(&mut buffer)?)?;
    }
    Ok((bytes, started.elapsed()))
}
