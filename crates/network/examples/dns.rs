//! Measures resolvers: a server of names, a name server upstream, and a load.
//!
//! ```text
//! dns serve NAMESPACE RESOLV_CONF      serves `web` and `db` at 127.0.0.11 inside the namespace
//! dns upstream ADDRESS:53              answers every question
//! dns load ADDRESS:53 THREADS WINDOW SECONDS NAME   a '%' in the name becomes a number
//! dns flood ...                        the same with many datagrams a system call
//! ```
//!
//! `cargo run -p network --profile profiling --example dns`; needs root.
#![expect(
    clippy::print_stdout,
    reason = "a measuring program prints its figures"
)]

use std::error::Error;
use std::fs::File;
use std::net::{SocketAddr, UdpSocket};
use std::os::fd::AsFd;
use std::sync::Arc;
use std::time::{Duration, Instant};

use network::{DnsServer, Entry, NetworkNames, ResolvPaths, Scope, ScopeState};
use sys::datagrams::{Inbox, Outbox};

type Failure = Box<dyn Error + Send + Sync>;

fn main() -> Result<(), Failure> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
    match arguments[..] {
        ["serve", namespace, resolv_conf] => serve(namespace, resolv_conf),
        ["upstream", address] => upstream(address.parse()?),
        [
            how @ ("load" | "flood"),
            address,
            threads,
            window,
            seconds,
            name,
        ] => load(
            if how == "load" { client } else { batches },
            address.parse()?,
            threads.parse()?,
            window.parse()?,
            Duration::from_secs(seconds.parse()?),
            name,
        ),
        _ => Err("see the head of the program".into()),
    }
}

fn serve(namespace: &str, resolv_conf: &str) -> Result<(), Failure> {
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build()?;
    let paths = ResolvPaths {
        main: resolv_conf.into(),
    };
    let server = DnsServer::start(runtime.handle().clone(), paths)?;
    let names = Arc::new(NetworkNames::default());
    for (number, name) in (2..).zip(["web", "db"]) {
        let entry = Entry {
            names: vec![name.to_owned()],
            addresses: vec![[10, 1, 0, number].into()],
            canonical: format!("{name}.net"),
        };
        names.insert(name, entry);
    }
    let scope = Arc::new(Scope::new(ScopeState {
        networks: vec![names],
        ..ScopeState::default()
    }));
    let start = Instant::now();
    let _guard = server.serve(File::open(namespace)?.as_fd(), scope)?;
    println!("served after {:?}", start.elapsed());
    loop {
        std::thread::park();
    }
}

fn upstream(address: SocketAddr) -> Result<(), Failure> {
    let socket = UdpSocket::bind(address)?;
    let mut datagram = [0; 4096];
    loop {
        let (length, client) = socket.recv_from(&mut datagram)?;
        datagram[2] |= 0x80;
        datagram[7] = 1;
        let answer = [0xc0, 12, 0, 1, 0, 1, 0, 0, 0, 60, 0, 4, 9, 9, 9, 9];
        datagram[length..length + 16].copy_from_slice(&answer);
        socket.send_to(&datagram[..length + 16], client)?;
    }
}

type Client = fn(SocketAddr, u16, usize, Duration, &str) -> Result<(Vec<Duration>, usize), Failure>;

fn load(
    client: Client,
    server: SocketAddr,
    threads: u16,
    window: usize,
    time: Duration,
    name: &str,
) -> Result<(), Failure> {
    let workers: Vec<_> = (0..threads)
        .map(|number| {
            let name = name.to_owned();
            std::thread::spawn(move || client(server, number, window, time, &name))
        })
        .collect();
    let (mut delays, mut lost) = (Vec::new(), 0);
    for worker in workers {
        let (some, missing) = worker.join().map_err(|_| "a client panicked")??;
        delays.extend(some);
        lost += missing;
    }
    delays.sort_unstable();
    let at = |part: usize| delays.get(delays.len() * part / 1000).copied();
    println!(
        "{} q/s, p50 {:?}, p99 {:?}, p99.9 {:?}, {lost} lost",
        delays.len() as u64 / time.as_secs().max(1),
        at(500).unwrap_or_default(),
        at(990).unwrap_or_default(),
        at(999).unwrap_or_default(),
    );
    Ok(())
}

/// As [`client`], but takes and sends what it can at once, so that it costs less than the server.
fn batches(
    server: SocketAddr,
    number: u16,
    window: usize,
    time: Duration,
    name: &str,
) -> Result<(Vec<Duration>, usize), Failure> {
    let socket = UdpSocket::bind("0.0.0.0:0")?;
    let begin = Instant::now();
    let mut started = vec![None; 1 << 16];
    let (mut inbox, mut outbox) = (Inbox::new(4096), Outbox::default());
    let (mut next, mut delays, mut lost) = (0_u32, Vec::new(), 0);
    let mut free = window;
    while begin.elapsed() < time {
        let now = Instant::now();
        for _ in 0..free {
            // numbers of one length make questions of one length
            let full = name.replace('%', &format!("x{number}-{:07}", next % 10_000_000));
            let id = u16::try_from(next & 0xffff)?;
            next += 1;
            started[usize::from(id)] = Some(now);
            outbox.push(&query(id, &full), server);
        }
        outbox.send(&socket)?;
        let mut fds = [rustix::event::PollFd::new(
            &socket,
            rustix::event::PollFlags::IN,
        )];
        let second = rustix::event::Timespec {
            tv_sec: 1,
            tv_nsec: 0,
        };
        if rustix::event::poll(&mut fds, Some(&second))? == 0 {
            (lost, free) = (lost + window, window);
            continue;
        }
        free = inbox.receive(&socket)?;
        for (answer, _) in inbox.datagrams() {
            let id = usize::from(u16::from_be_bytes([answer[0], answer[1]]));
            let good = answer[3] & 15 == 0 && answer[7] > 0;
            match started[id].take() {
                Some(start) if good => delays.push(start.elapsed()),
                _ => lost += 1,
            }
        }
    }
    Ok((delays, lost))
}

/// Keeps a window of questions under way and notes how long each takes.
fn client(
    server: SocketAddr,
    number: u16,
    window: usize,
    time: Duration,
    name: &str,
) -> Result<(Vec<Duration>, usize), Failure> {
    let socket = UdpSocket::bind("0.0.0.0:0")?;
    socket.connect(server)?;
    socket.set_read_timeout(Some(Duration::from_secs(1)))?;
    let begin = Instant::now();
    let mut started = vec![None; 1 << 16];
    let (mut next, mut delays, mut lost) = (0_u32, Vec::new(), 0);
    let mut ask = |started: &mut Vec<Option<Instant>>| -> Result<(), Failure> {
        let full = name.replace('%', &format!("x{number}-{next}"));
        let id = u16::try_from(next & 0xffff)?;
        next += 1;
        started[usize::from(id)] = Some(Instant::now());
        socket.send(&query(id, &full))?;
        Ok(())
    };
    for _ in 0..window {
        ask(&mut started)?;
    }
    let mut answer = [0; 4096];
    while begin.elapsed() < time {
        match socket.recv(&mut answer) {
            Ok(_) => {
                let id = usize::from(u16::from_be_bytes([answer[0], answer[1]]));
                let good = answer[3] & 15 == 0 && answer[7] > 0;
                match started[id].take() {
                    Some(start) if good => delays.push(start.elapsed()),
                    _ => lost += 1,
                }
                ask(&mut started)?;
            }
            Err(_) => {
                lost += window;
                for _ in 0..window {
                    ask(&mut started)?;
                }
            }
        }
    }
    Ok((delays, lost))
}

fn query(id: u16, name: &str) -> Vec<u8> {
    let mut query = id.to_be_bytes().to_vec();
    query.extend_from_slice(&[1, 0, 0, 1, 0, 0, 0, 0, 0, 0]);
    for label in name.split('.') {
        query.push(u8::try_from(label.len()).unwrap_or(63));
        query.extend_from_slice(label.as_bytes());
    }
    query.extend_from_slice(&[0, 0, 1, 0, 1]);
    query
}
