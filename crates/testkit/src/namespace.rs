//! Private network namespaces: a host of its own for each test.
//!
//! A namespace is entered by a thread, so that what the thread starts afterwards lives in it too. Only
//! the network is private: `ip netns exec` would also hide the host's cgroup mounts.

use std::ffi::OsString;
use std::io;
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::process::Command;

use rustix::thread::LinkNameSpaceType;

/// A network namespace with its loopback link up. It ends with the last process in it.
#[derive(Debug)]
pub struct Namespace {
    file: OwnedFd,
}

impl Namespace {
    /// Makes a namespace.
    ///
    /// # Errors
    /// When the kernel refuses, or `ip` (Debian's `iproute2`) is missing.
    pub fn create() -> io::Result<Self> {
        let (file, up) =
            sys::netns::create_with(|| ip("link set lo up")).map_err(io::Error::other)?;
        up?;
        Ok(Self { file })
    }

    /// The namespace of a process.
    ///
    /// # Errors
    /// When the process is gone.
    pub fn of_process(pid: i32) -> io::Result<Self> {
        let file = sys::netns::of_process(pid).map_err(io::Error::other)?;
        Ok(Self { file })
    }

    /// Moves the calling thread into the namespace, for good.
    ///
    /// # Errors
    /// When the kernel refuses.
    pub fn enter(&self) -> io::Result<()> {
        rustix::thread::move_into_link_name_space(
            self.file.as_fd(),
            Some(LinkNameSpaceType::Network),
        )?;
        Ok(())
    }

    /// Runs `work` inside, on a thread of its own.
    ///
    /// # Errors
    /// When the namespace cannot be entered.
    pub fn within<T: Send>(&self, work: impl FnOnce() -> T + Send) -> io::Result<T> {
        sys::netns::within(self.file.as_fd(), work).map_err(io::Error::other)
    }

    /// Makes another host on a cable to this one: 10.9.0.1 here, 10.9.0.2 there, and there a default
    /// route to here.
    ///
    /// # Errors
    /// When a link cannot be made.
    pub fn neighbour(&self) -> io::Result<Self> {
        let other = Self::create()?;
        let own = std::process::id();
        let path = format!("/proc/{own}/fd/{}", other.file.as_raw_fd());
        self.within(|| {
            ip(&format!(
                "link add lan0 type veth peer name eth0 netns {path}"
            ))?;
            ip("addr add 10.9.0.1/24 dev lan0")?;
            ip("link set lan0 up")
        })??;
        other.within(|| {
            ip("addr add 10.9.0.2/24 dev eth0")?;
            ip("link set eth0 up")?;
            ip("route add default via 10.9.0.1")
        })??;
        Ok(other)
    }

    /// Runs a program inside, and returns what it printed.
    ///
    /// # Errors
    /// When it cannot be run or fails; what it complained of is in the error.
    pub fn run(&self, line: &str) -> io::Result<String> {
        self.within(|| program(&crate::docker::words(line)))?
    }

    /// Makes another host on a cable of its own: `lan<n>` here with 10.9.<n>.1 and fd00:9:<n>::1, there
    /// `eth0` with `.2` and `::2`, and there default routes to here. Number 0 is [`Self::neighbour`]'s.
    ///
    /// # Errors
    /// When a link cannot be made.
    pub fn host(&self, number: u8) -> io::Result<Self> {
        let other = Self::create()?;
        let own = std::process::id();
        let path = format!("/proc/{own}/fd/{}", other.file.as_raw_fd());
        self.within(|| {
            ip(&format!(
                "link add lan{number} type veth peer name eth0 netns {path}"
            ))?;
            ip(&format!("addr add 10.9.{number}.1/24 dev lan{number}"))?;
            ip(&format!(
                "addr add fd00:9:{number}::1/64 dev lan{number} nodad"
            ))?;
            ip(&format!("link set lan{number} up"))
        })??;
        other.within(|| {
            ip(&format!("addr add 10.9.{number}.2/24 dev eth0"))?;
            ip(&format!("addr add fd00:9:{number}::2/64 dev eth0 nodad"))?;
            ip("link set eth0 up")?;
            ip(&format!("route add default via 10.9.{number}.1"))?;
            ip(&format!("-6 route add default via fd00:9:{number}::1"))
        })??;
        Ok(other)
    }

    /// The names of the links inside.
    ///
    /// # Errors
    /// When the namespace cannot be entered.
    pub fn links(&self) -> io::Result<Vec<String>> {
        let table = self.within(|| std::fs::read_to_string("/proc/thread-self/net/dev"))??;
        let names = table.lines().filter_map(|line| line.split_once(':'));
        Ok(names.map(|(name, _)| name.trim().to_owned()).collect())
    }

    /// What `/proc/<pid>/ns/net` shows for a process inside.
    ///
    /// # Errors
    /// When the namespace's file cannot be looked at.
    pub fn identity(&self) -> io::Result<String> {
        let inode = rustix::fs::fstat(&self.file)?.st_ino;
        Ok(format!("net:[{inode}]"))
    }
}

fn ip(words: &str) -> io::Result<()> {
    program(&crate::docker::words(&format!("ip {words}"))).map(drop)
}

fn program(words: &[OsString]) -> io::Result<String> {
    let (name, rest) = words.split_first().ok_or(io::ErrorKind::InvalidInput)?;
    let output = Command::new(name).args(rest).output()?;
    if output.status.success() {
        return Ok(String::from_utf8_lossy(&output.stdout).into_owned());
    }
    let complaint = String::from_utf8_lossy(&output.stderr);
    Err(io::Error::other(format!("{words:?}: {complaint}")))
}
