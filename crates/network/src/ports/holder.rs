//! Which program of the host has a port, found as `ss -p` does: the socket's inode from
//! `/proc/net`, then the process that has it open.
//!
//! It serves a message only, so it gives up early rather than keep a caller waiting.

use std::fs::{self, File};
use std::io::{BufRead, BufReader, Read};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::time::{Duration, Instant};

use rustix::fs::{Dir, Mode, OFlags, readlinkat};

use super::Protocol;

/// A table of a million sockets would be some 150 MB.
const TABLE_BYTES: u64 = 16 << 20;
/// How long the search may take: a host that is busy has many files open and little time.
const PATIENCE: Duration = Duration::from_secs(1);
/// The kernel's number for a listening socket in `/proc/net/tcp`.
const LISTEN: &str = "0A";

/// Names the program whose socket keeps this address from being bound, with its process.
pub(super) fn program_at(protocol: Protocol, address: SocketAddr) -> Option<String> {
    let end = Instant::now() + PATIENCE;
    let inode = socket_at(protocol, address)?;
    let pid = process_with(&format!("socket:[{inode}]"), end)?;
    let name = name_of(pid).unwrap_or_else(|| "a program".to_owned());
    Some(format!("{name} (process {pid})"))
}

/// Finds the socket in the calling thread's namespace. A socket of IPv6 may keep IPv4 too.
fn socket_at(protocol: Protocol, address: SocketAddr) -> Option<u64> {
    let tables: &[&str] = match (protocol, address.is_ipv4()) {
        (Protocol::Tcp, true) => &["tcp", "tcp6"],
        (Protocol::Tcp, false) => &["tcp6"],
        (Protocol::Udp, true) => &["udp", "udp6"],
        (Protocol::Udp, false) => &["udp6"],
        (Protocol::Sctp, _) => return None,
    };
    let rows: Vec<Row> = tables
        .iter()
        .filter_map(|table| File::open(format!("/proc/thread-self/net/{table}")).ok())
        .flat_map(|file| BufReader::new(file.take(TABLE_BYTES)).lines())
        .map_while(Result::ok)
        .filter_map(|line| Row::parse(&line))
        .filter(|row| row.stands_in_the_way_of(address))
        .collect();
    let listening = rows.iter().find(|row| row.listening);
    listening.or(rows.first()).map(|row| row.inode)
}

/// A line of `/proc/net/tcp` and its like (proc_net_tcp(5)).
struct Row {
    local: SocketAddr,
    listening: bool,
    inode: u64,
}

impl Row {
    fn parse(line: &str) -> Option<Self> {
        let mut fields = line.split_ascii_whitespace();
        let local = parse_address(fields.nth(1)?)?;
        let listening = fields.nth(1)? == LISTEN;
        let inode = fields.nth(5)?.parse().ok().filter(|inode| *inode != 0)?;
        Some(Self {
            local,
            listening,
            inode,
        })
    }

    fn stands_in_the_way_of(&self, wanted: SocketAddr) -> bool {
        let (held, wanted_ip) = (self.local.ip(), wanted.ip());
        self.local.port() == wanted.port()
            && (held.is_unspecified()
                || wanted_ip.is_unspecified()
                || held.to_canonical() == wanted_ip)
    }
}

/// Reads an address as the kernel prints it: each 32 bits in the host's order of bytes.
fn parse_address(text: &str) -> Option<SocketAddr> {
    let (address, port) = text.split_once(':')?;
    let word = |at: usize| {
        let digits = address.get(at..at + 8)?;
        u32::from_str_radix(digits, 16).ok().map(u32::to_ne_bytes)
    };
    let ip: IpAddr = match address.len() {
        8 => Ipv4Addr::from(word(0)?).into(),
        32 => {
            let words = [word(0)?, word(8)?, word(16)?, word(24)?];
            let octets: [u8; 16] = words.concat().try_into().ok()?;
            Ipv6Addr::from(octets).into()
        }
        _ => return None,
    };
    Some(SocketAddr::new(ip, u16::from_str_radix(port, 16).ok()?))
}

/// Finds the first process that has the socket open: of a server with workers, the oldest.
fn process_with(socket: &str, end: Instant) -> Option<u32> {
    let pids = fs::read_dir("/proc").ok()?.filter_map(|entry| {
        let name = entry.ok()?.file_name();
        name.to_str()?.parse::<u32>().ok()
    });
    let mut target = Vec::new();
    for pid in pids {
        // a process that ended, or that we may not look into, has no list
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
        let Ok(folder) = rustix::fs::open(format!("/proc/{pid}/fd"), flags, Mode::empty()) else {
            continue;
        };
        let Ok(list) = Dir::read_from(&folder) else {
            continue;
        };
        for entry in list.filter_map(Result::ok) {
            let Ok(link) = readlinkat(&folder, entry.file_name(), target) else {
                target = Vec::new();
                continue;
            };
            if link.as_bytes() == socket.as_bytes() {
                return Some(pid);
            }
            target = link.into_bytes();
        }
        if Instant::now() > end {
            return None;
        }
    }
    None
}

/// Reads the name of a process, which it can set to any bytes.
fn name_of(pid: u32) -> Option<String> {
    let mut bytes = Vec::new();
    let file = File::open(format!("/proc/{pid}/comm")).ok()?;
    file.take(64).read_to_end(&mut bytes).ok()?;
    let name: String = String::from_utf8_lossy(&bytes)
        .trim_end()
        .chars()
        .map(|c| if c.is_control() { '?' } else { c })
        .collect();
    Some(name).filter(|name| !name.is_empty())
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::net::{TcpListener, UdpSocket};

    #[test]
    fn finds_this_very_process() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
        let check = |protocol, held: SocketAddr| {
            for wanted in [held, SocketAddr::new([0, 0, 0, 0].into(), held.port())] {
                let found = program_at(protocol, wanted).unwrap();
                let own = format!(" (process {})", std::process::id());
                assert!(found.ends_with(&own) && found.len() > own.len(), "{found}");
            }
            let other = SocketAddr::new([127, 0, 0, 9].into(), held.port());
            assert_eq!(program_at(protocol, other), None);
        };
        check(Protocol::Tcp, listener.local_addr().unwrap());
        check(Protocol::Udp, socket.local_addr().unwrap());
    }

    #[test]
    fn reads_the_kernels_lines() {
        let line = "   1: 00000000000000000000000000000000:1F90 00000000000000000000000000000000:0000 \
                    0A 00000000:00000000 00:00000000 00000000     0        0 4711 1 0 100 0 0 10 0";
        let row = Row::parse(line).unwrap();
        assert_eq!(row.local, "[::]:8080".parse().unwrap());
        assert!(row.listening && row.inode == 4711);
        assert!(row.stands_in_the_way_of("127.0.0.1:8080".parse().unwrap()));
        let local = parse_address("0100007F:0050").unwrap();
        assert_eq!(local, "127.0.0.1:80".parse().unwrap());
        let mapped = parse_address("0000000000000000FFFF00000100007F:0050").unwrap();
        assert_eq!(mapped.ip().to_canonical(), local.ip());
        for bad in [
            "",
            "0100007F",
            "010000:0050",
            "0100007Fé:0050",
            "0100007F:123456",
        ] {
            assert_eq!(parse_address(bad), None, "{bad}");
        }
        assert!(Row::parse("  sl  local_address rem_address   st").is_none());
    }
}
