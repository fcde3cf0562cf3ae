//! Network namespaces, and the sockets that live in them.
//!
//! A socket belongs for life to the namespace of the thread that made it. So everything here that
//! concerns another namespace runs on a thread of its own, which enters the namespace and ends:
//! no thread of the caller ever changes its namespace, not even for a moment.

use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};

use rustix::fs::{Mode, OFlags};
use rustix::net::{AddressFamily, SocketFlags, SocketType, netlink};
use rustix::thread::{LinkNameSpaceType, UnshareFlags};

/// The step of namespace work that failed.
#[derive(Debug, thiserror::Error)]
pub enum NetnsError {
    /// The thread that was to enter the namespace was refused.
    #[error("cannot start a thread for a network namespace")]
    Thread(#[source] io::Error),
    /// The kernel gave no new namespace.
    #[error("cannot make a network namespace")]
    Unshare(#[source] io::Error),
    /// The namespace's file could not be opened.
    #[error("cannot open the network namespace {path}")]
    Open {
        /// The file under `/proc`.
        path: String,
        /// What the kernel answered.
        #[source]
        source: io::Error,
    },
    /// The namespace could not be entered.
    #[error("cannot enter a network namespace")]
    Enter(#[source] io::Error),
}

/// The netlink families that are spoken here.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Family {
    /// Links, addresses, routes, neighbours.
    Route,
    /// nftables and connection tracking.
    Netfilter,
}

/// Makes a new network namespace; it lives as long as the descriptor or a process in it.
pub fn create() -> Result<OwnedFd, NetnsError> {
    create_with(|| ()).map(|(namespace, ())| namespace)
}

/// Makes a new network namespace and runs `work` inside before anybody else can.
pub fn create_with<T: Send>(work: impl FnOnce() -> T + Send) -> Result<(OwnedFd, T), NetnsError> {
    on_own_thread(|| {
        // SAFETY: unshare is unsafe only for CLONE_FILES, which would invalidate the descriptors
        // other code believes this thread shares; the one flag passed here is CLONE_NEWNET.
        unsafe { rustix::thread::unshare_unsafe(UnshareFlags::NEWNET) }
            .map_err(|errno| NetnsError::Unshare(errno.into()))?;
        let namespace = current()?;
        Ok((namespace, work()))
    })
}

/// Runs `work` inside the namespace.
pub fn within<T: Send>(
    namespace: BorrowedFd<'_>,
    work: impl FnOnce() -> T + Send,
) -> Result<T, NetnsError> {
    on_own_thread(|| {
        rustix::thread::move_into_link_name_space(namespace, Some(LinkNameSpaceType::Network))
            .map_err(|errno| NetnsError::Enter(errno.into()))?;
        Ok(work())
    })
}

/// Opens the calling thread's namespace.
pub fn current() -> Result<OwnedFd, NetnsError> {
    open("/proc/thread-self/ns/net".to_owned())
}

/// Opens the namespace of a process; the caller makes sure that `pid` is still the one it means.
pub fn of_process(pid: i32) -> Result<OwnedFd, NetnsError> {
    open(format!("/proc/{pid}/ns/net"))
}

/// Opens a netlink socket in the calling thread's namespace, with extended errors switched on.
pub fn netlink_socket(family: Family) -> io::Result<OwnedFd> {
    let protocol = match family {
        Family::Route => None,
        Family::Netfilter => Some(netlink::NETFILTER),
    };
    let socket = rustix::net::socket_with(
        AddressFamily::NETLINK,
        SocketType::RAW,
        SocketFlags::CLOEXEC,
        protocol,
    )?;
    // Without CAP_ACK each answer repeats the request, which overflows the receive buffer on large
    // batches; without EXT_ACK the kernel's own words for a refusal are lost (netlink(7)).
    enable(&socket, libc::NETLINK_CAP_ACK)?;
    enable(&socket, libc::NETLINK_EXT_ACK)?;
    Ok(socket)
}

fn enable(socket: &OwnedFd, option: libc::c_int) -> io::Result<()> {
    let on: libc::c_int = 1;
    let length = libc::socklen_t::try_from(size_of_val(&on)).map_err(io::Error::other)?;
    // SAFETY: the kernel reads `length` bytes at the pointer, which is exactly the live local
    // `on`; the descriptor is open for as long as `socket` is borrowed.
    let result = unsafe {
        libc::setsockopt(
            socket.as_fd().as_raw_fd(),
            libc::SOL_NETLINK,
            option,
            (&raw const on).cast(),
            length,
        )
    };
    if result == 0 {
        Ok(())
    } else {
        Err(io::Error::last_os_error())
    }
}

fn open(path: String) -> Result<OwnedFd, NetnsError> {
    rustix::fs::open(&path, OFlags::RDONLY | OFlags::CLOEXEC, Mode::empty()).map_err(|errno| {
        NetnsError::Open {
            path,
            source: errno.into(),
        }
    })
}

/// Runs `work` on a short-lived thread and hands its panic on.
fn on_own_thread<T: Send>(
    work: impl FnOnce() -> Result<T, NetnsError> + Send,
) -> Result<T, NetnsError> {
    std::thread::scope(|scope| {
        let thread = std::thread::Builder::new()
            .name("netns".to_owned())
            .spawn_scoped(scope, work)
            .map_err(NetnsError::Thread)?;
        match thread.join() {
            Ok(result) => result,
            Err(panic) => std::panic::resume_unwind(panic),
        }
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn identity(namespace: &OwnedFd) -> (u64, u64) {
        let stat = rustix::fs::fstat(namespace).unwrap();
        (stat.st_dev, stat.st_ino)
    }

    #[test]
    fn a_new_namespace_is_another_one_and_the_caller_stays() {
        let before = current().unwrap();
        let made = create().unwrap();
        let after = current().unwrap();
        assert_ne!(identity(&before), identity(&made));
        assert_eq!(identity(&before), identity(&after));
    }

    #[test]
    fn within_runs_inside() {
        let made = create().unwrap();
        let inside = within(made.as_fd(), || current().unwrap()).unwrap();
        assert_eq!(identity(&made), identity(&inside));
    }

    #[test]
    fn a_panic_inside_reaches_the_caller() {
        let result = std::panic::catch_unwind(|| create_with(|| panic!("inside")));
        assert!(result.is_err());
    }
}
