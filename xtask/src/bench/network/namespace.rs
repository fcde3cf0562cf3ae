//! Network namespaces of the benchmark's own, and what runs in them.

use crate::bench::memory;
use crate::bench::subject::{kill, output};
use anyhow::{Context, Result, bail};
use serde_json::Value;
use std::fs;
use std::net::IpAddr;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::thread;
use std::time::Duration;

/// A named network namespace; it goes with this value.
#[derive(Debug)]
pub(crate) struct Namespace {
    name: &'static str,
}

impl Namespace {
    /// Makes it anew, whatever an earlier run left.
    pub(crate) fn new(name: &'static str) -> Result<Self> {
        if Path::new(&file(name)).exists() {
            ip(&["netns", "delete", name])?;
        }
        ip(&["netns", "add", name])?;
        let namespace = Self { name };
        namespace.ip(&["link", "set", "lo", "up"])?;
        Ok(namespace)
    }

    pub(crate) fn file(&self) -> String {
        file(self.name)
    }

    /// Runs `ip` inside.
    pub(crate) fn ip(&self, words: &[&str]) -> Result<()> {
        ip(&[&["-n", self.name], words].concat())
    }

    /// Lets it pass on what is not for itself.
    pub(crate) fn forward(&self) -> Result<()> {
        for switch in ["ipv4/ip_forward", "ipv6/conf/all/forwarding"] {
            let script = format!("echo 1 > /proc/sys/net/{switch}");
            output(inside(&self.file(), "sh").args(["-c", &script]))?;
        }
        Ok(())
    }
}

impl Drop for Namespace {
    fn drop(&mut self) {
        if let Err(error) = ip(&["netns", "delete", self.name]) {
            println!("xtask: {error:#}");
        }
    }
}

fn file(name: &str) -> String {
    format!("/run/netns/{name}")
}

/// The file of a process's network namespace.
pub(crate) fn of_process(pid: u32) -> String {
    format!("/proc/{pid}/ns/net")
}

/// Runs `ip` here.
pub(crate) fn ip(words: &[&str]) -> Result<()> {
    output(Command::new("ip").args(words)).map(drop)
}

/// A program of this machine in a network.
pub(crate) fn inside(network: &str, program: &str) -> Command {
    let mut command = Command::new("nsenter");
    command.args([&format!("--net={network}"), program]);
    command
}

/// This program in a network.
pub(crate) fn own(network: &str) -> Result<Command> {
    let own = std::env::current_exe().context("find this program's own file")?;
    Ok(inside(network, &own.to_string_lossy()))
}

/// An address in each family, where there is one.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Addresses {
    pub(crate) v4: Option<IpAddr>,
    pub(crate) v6: Option<IpAddr>,
}

/// The first addresses in a network that others can reach.
pub(crate) fn addresses(network: &str) -> Result<Addresses> {
    let text = output(inside(network, "ip").args(["-json", "address", "show", "scope", "global"]))?;
    let links: Value = serde_json::from_str(&text).context("read the list of addresses")?;
    let all = || {
        let links = links.as_array().into_iter().flatten();
        links.flat_map(|link| link["addr_info"].as_array().into_iter().flatten())
    };
    let first = |family: &str| {
        all()
            .filter(|address| address["family"] == family)
            .find_map(|address| address["local"].as_str()?.parse().ok())
    };
    Ok(Addresses {
        v4: first("inet"),
        v6: first("inet6"),
    })
}

/// The gateways of a network.
pub(crate) fn gateways(network: &str) -> Result<Addresses> {
    let gateway = |family: &str| -> Result<Option<IpAddr>> {
        let text =
            output(inside(network, "ip").args([family, "-json", "route", "show", "default"]))?;
        let routes: Value = serde_json::from_str(&text).context("read the list of routes")?;
        Ok(routes[0]["gateway"]
            .as_str()
            .and_then(|word| word.parse().ok()))
    };
    Ok(Addresses {
        v4: gateway("-4")?,
        v6: gateway("-6")?,
    })
}

/// A program that goes on until it is dropped.
#[derive(Debug)]
pub(crate) struct Background {
    child: Child,
}

impl Background {
    pub(crate) fn start(command: &mut Command) -> Result<Self> {
        let child = command
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .with_context(|| format!("start {command:?}"))?;
        Ok(Self { child })
    }

    pub(crate) fn pid(&self) -> u32 {
        self.child.id()
    }

    /// Ends what was started elsewhere.
    pub(crate) fn of(child: Child) -> Self {
        Self { child }
    }

    /// Waits until it listens on a port; `list` is the kernel's name for the protocol.
    pub(crate) fn listening(mut self, list: &str, port: u16) -> Result<Self> {
        let pid = self.child.id();
        for _ in 0..500 {
            if let Some(status) = self.child.try_wait().context("wait for a server")? {
                bail!("a server ended at once with {status}");
            }
            if memory::name(pid) != "nsenter" && listens(pid, list, port) {
                return Ok(self);
            }
            thread::sleep(Duration::from_millis(10));
        }
        bail!("process {pid} does not listen on port {port}")
    }
}

impl Drop for Background {
    fn drop(&mut self) {
        if self.child.try_wait().is_ok_and(|ended| ended.is_some()) {
            return;
        }
        kill(self.child.id(), "TERM");
        for _ in 0..1000 {
            if self.child.try_wait().is_ok_and(|ended| ended.is_some()) {
                return;
            }
            thread::sleep(Duration::from_millis(10));
        }
        kill(self.child.id(), "KILL");
        if let Err(error) = self.child.wait() {
            println!(
                "xtask: cannot wait for process {}: {error}",
                self.child.id()
            );
        }
    }
}

/// Whether something in a process's network has a socket on a port (proc_pid_net(5)).
fn listens(pid: u32, list: &str, port: u16) -> bool {
    let listen = if list.starts_with("tcp") { "0A" } else { "07" };
    let port = format!(":{port:04X}");
    ["", "6"].iter().any(|family| {
        let text = fs::read_to_string(format!("/proc/{pid}/net/{list}{family}"));
        text.unwrap_or_default().lines().any(|line| {
            let words: Vec<&str> = line.split_whitespace().collect();
            words.get(1).is_some_and(|local| local.ends_with(&port))
                && words.get(3).is_some_and(|state| *state == listen)
        })
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sockets_are_found() {
        let tcp = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let udp = std::net::UdpSocket::bind("127.0.0.1:0").unwrap();
        let pid = std::process::id();
        let port = tcp.local_addr().unwrap().port();
        assert!(listens(pid, "tcp", port));
        assert!(listens(pid, "udp", udp.local_addr().unwrap().port()));
        drop(tcp);
        // a process that another test is just starting may have it still
        let gone = || {
            thread::sleep(Duration::from_millis(10));
            !listens(pid, "tcp", port)
        };
        assert!((0..3000).any(|_| gone()));
    }
}
