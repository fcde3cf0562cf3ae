//! Measures, in a private namespace, what the network costs a container's start.
//!
//! `cargo run -p network --profile profiling --example latency [rounds]`; needs root.
#![expect(
    clippy::print_stdout,
    reason = "a measuring program prints its figures"
)]

use std::error::Error;
use std::time::{Duration, Instant};

use network::{
    Alive, BridgeConfig, Endpoint, Network, NetworkConfig, PoolSize, PortMapping, Protocol, Rules,
    mac_for,
};

type Outcome = Result<(), Box<dyn Error + Send + Sync>>;

fn main() -> Outcome {
    let rounds = std::env::args()
        .nth(1)
        .map_or(Ok(50), |text| text.parse())?;
    sys::netns::create_with(|| measure(rounds))?.1
}

fn measure(rounds: usize) -> Outcome {
    let gateway = [172, 17, 0, 1].into();
    let config = |pool| -> Result<NetworkConfig, Box<dyn Error + Send + Sync>> {
        let bridge = BridgeConfig {
            name: "br0".to_owned(),
            subnet: "172.17.0.0/16".parse()?,
            gateway,
            mtu: 1500,
        };
        Ok(NetworkConfig {
            bridge,
            table: "gorae".to_owned(),
            pool,
        })
    };
    let none = PoolSize {
        attached: 0,
        isolated: 0,
    };
    let started = Instant::now();
    let network = Network::start(config(none)?, &Alive::default())?;
    println!("first start of a network      {:>9.1?}", started.elapsed());
    report("isolated sandbox, made inline", rounds, |_| {
        drop(network.pool.take_isolated()?);
        Ok(())
    })?;
    settle();
    let mut kept = Vec::new();
    report("attached sandbox, made inline", rounds, |_| {
        kept.push(network.pool.take()?);
        Ok(())
    })?;
    let connect = |network: &Network, sandbox: &mut network::Sandbox| -> Outcome {
        let ip = network.ipam.allocate()?;
        let endpoint = Endpoint {
            ip,
            prefix: 16,
            gateway: Some(gateway),
            mac: mac_for(ip),
        };
        Ok(sandbox.connect(&endpoint)?)
    };
    let mut idle = kept.iter_mut();
    report("connect", rounds, |_| {
        idle.next().map_or(Ok(()), |s| connect(&network, s))
    })?;
    report("dropping a connected sandbox", rounds, |_| {
        drop(kept.pop());
        Ok(())
    })?;
    settle();
    network.destroy().map_err(|mut errors| errors.remove(0))?;

    let pool = PoolSize {
        attached: 8,
        isolated: 2,
    };
    let network = Network::start(config(pool)?, &Alive::default())?;
    while network.pool.ready() != (8, 2) {
        std::thread::sleep(Duration::from_millis(1));
    }
    report("take + connect, one each 10 ms", rounds, |timer| {
        std::thread::sleep(Duration::from_millis(10));
        *timer = Instant::now();
        kept.push(network.pool.take()?);
        kept.last_mut()
            .map_or(Ok(()), |sandbox| connect(&network, sandbox))
    })?;
    kept.clear();
    settle();
    report("the same, each dropped at once", rounds, |timer| {
        std::thread::sleep(Duration::from_millis(10));
        *timer = Instant::now();
        let mut sandbox = network.pool.take()?;
        connect(&network, &mut sandbox)
    })?;
    report("publish one TCP port", rounds, |_| {
        publish(&network, Protocol::Tcp)
    })?;
    report("publish one UDP port", rounds, |_| {
        publish(&network, Protocol::Udp)
    })?;
    network
        .destroy()
        .map_err(|mut errors| errors.remove(0).into())
}

fn publish(network: &Network, protocol: Protocol) -> Outcome {
    static NEXT: std::sync::atomic::AtomicU16 = std::sync::atomic::AtomicU16::new(20_000);
    let host_port = NEXT.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
    let host_ip = [0, 0, 0, 0].into();
    let container = ([172, 17, 0, 2], 80).into();
    let mapping = PortMapping {
        protocol,
        host_ip,
        host_port,
        container,
    };
    let rules = Rules {
        published: vec![mapping],
        ..Rules::default()
    };
    Ok(network.firewall.add(&rules)?)
}

/// Lets the kernel finish to remove namespaces.
fn settle() {
    std::thread::sleep(Duration::from_secs(1));
}

/// Runs the work so often and prints how long it took; the work may start the clock anew.
fn report(name: &str, rounds: usize, mut work: impl FnMut(&mut Instant) -> Outcome) -> Outcome {
    let mut times = Vec::with_capacity(rounds);
    for _ in 0..rounds {
        let mut timer = Instant::now();
        work(&mut timer)?;
        times.push(timer.elapsed());
    }
    times.sort_unstable();
    let at = |percent: usize| times.get((times.len() * percent / 100).min(times.len() - 1));
    if let (Some(median), Some(p90), Some(most)) = (at(50), at(90), times.last()) {
        println!("{name:<30} median {median:>9.1?}  p90 {p90:>9.1?}  max {most:>9.1?}");
    }
    Ok(())
}
