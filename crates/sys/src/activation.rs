//! Sockets that a service manager opened before it started this process (sd_listen_fds(3)).

use std::os::fd::{BorrowedFd, FromRawFd, OwnedFd, RawFd};
use std::sync::atomic::{AtomicBool, Ordering};

use rustix::io::{FdFlags, fcntl_setfd};

/// The first number that a manager passes.
const FIRST: RawFd = 3;
/// More than any unit file names.
const MOST: RawFd = 1024;

/// Whether they were taken: they belong to one owner.
static TAKEN: AtomicBool = AtomicBool::new(false);

/// Takes the passed descriptors, each with its name; none where there are none, or at a second call.
///
/// What the environment says counts only when it was meant for this process: it is inherited by
/// children, and their descriptors of these numbers are others.
///
/// To be called before the process opens files of its own: then a number that the manager did
/// not pass is closed, and told from one that it did.
#[must_use]
pub fn take() -> Vec<(String, OwnedFd)> {
    let number = |name: &str| std::env::var(name).ok()?.parse::<RawFd>().ok();
    let own = i32::try_from(std::process::id()).ok();
    let count = number("LISTEN_FDS").unwrap_or(0).clamp(0, MOST);
    if number("LISTEN_PID") != own || TAKEN.swap(true, Ordering::SeqCst) {
        return Vec::new();
    }
    let names = std::env::var("LISTEN_FDNAMES").unwrap_or_default();
    let names = names.split(':').map(str::to_owned);
    (FIRST..FIRST + count)
        .zip(names.chain(std::iter::repeat(String::new())))
        .filter_map(|(number, name)| Some((name, own_descriptor(number)?)))
        .collect()
}

fn own_descriptor(number: RawFd) -> Option<OwnedFd> {
    // SAFETY: the descriptor is not -1, and it lives for this call only, in which nothing closes
    // descriptors of these numbers: they are for `take` alone.
    let passed = unsafe { BorrowedFd::borrow_raw(number) };
    // shims and containers have no business with it; a number that is not open is none of ours
    fcntl_setfd(passed, FdFlags::CLOEXEC).ok()?;
    // SAFETY: it is open, the manager passed it for us to own, and `TAKEN` lets that happen once.
    Some(unsafe { OwnedFd::from_raw_fd(number) })
}

#[cfg(test)]
mod tests {
    #[test]
    fn nothing_was_passed_to_this_process() {
        assert!(super::take().is_empty());
    }
}
