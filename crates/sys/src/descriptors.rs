//! How many files a process may have open, and that its children do not inherit more than it got.
//!
//! A server wants as many as it may have. Programs that were written for 1024 misbehave with more:
//! some close every number up to the limit, and select(2) overflows. So the soft limit is raised
//! for this process only, which is what the split into soft and hard limits is for.

use std::io;
use std::sync::OnceLock;

use rustix::process::{Pid, Resource, Rlimit, getrlimit, prlimit, setrlimit};

/// What this process was started with, once it has more.
static INHERITED: OnceLock<Rlimit> = OnceLock::new();

/// The kernel's own bound for one process unless it was told otherwise (`fs.nr_open`).
const MOST: u64 = 1 << 20;

/// How many descriptors the table has room for from the start.
const ROOM: i32 = 4096;

/// Lets this process have as many files open as its hard limit allows; returns that number.
///
/// # Errors
/// When the kernel refuses it.
pub fn raise_limit() -> io::Result<u64> {
    let inherited = getrlimit(Resource::Nofile);
    let most = inherited.maximum.unwrap_or(MOST).min(MOST);
    if inherited.current.is_some_and(|current| current < most) {
        let raised = Rlimit {
            current: Some(most),
            maximum: inherited.maximum,
        };
        setrlimit(Resource::Nofile, raised)?;
        // a second call finds what the first has raised: what came first counts
        let _ = INHERITED.set(inherited);
    }
    Ok(most)
}

/// Makes room in the kernel's table of this process while it has one thread: with more, each
/// doubling of a table waits for all processors (synchronize_rcu in the kernel's `fs/file.c`).
///
/// # Errors
/// When the limit is too low for it, which does no harm.
pub fn make_room() -> io::Result<()> {
    let null = rustix::fs::open(
        c"/dev/null",
        rustix::fs::OFlags::RDONLY | rustix::fs::OFlags::CLOEXEC,
        rustix::fs::Mode::empty(),
    )?;
    rustix::io::fcntl_dupfd_cloexec(null, ROOM).map(drop)?;
    Ok(())
}

/// Gives a child of this process the limit that this process was started with.
///
/// A child that has ended meanwhile needs none, and lowering is always allowed.
pub(crate) fn restore_for(child: Pid) {
    if let Some(inherited) = INHERITED.get() {
        let _ = prlimit(Some(child), Resource::Nofile, *inherited);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::fd::AsFd;

    #[test]
    fn the_limit_is_raised_for_this_process_only() {
        let hard = getrlimit(Resource::Nofile).maximum;
        let inherited = Rlimit {
            current: Some(1000),
            maximum: hard,
        };
        setrlimit(Resource::Nofile, inherited).unwrap();
        let most = raise_limit().unwrap();
        assert_eq!(raise_limit().unwrap(), most);
        assert_eq!(getrlimit(Resource::Nofile).current, Some(most));
        make_room().unwrap();

        let (stdin, held_open) = std::io::pipe().unwrap();
        let child = crate::spawn::spawn(c"/bin/cat", c"cat", stdin.as_fd()).unwrap();
        drop(stdin);
        let path = format!("/proc/{}/limits", child.id());
        let limits = std::fs::read_to_string(path).unwrap();
        drop(held_open);
        child.wait().unwrap();
        let line = limits
            .lines()
            .find(|line| line.starts_with("Max open files"));
        let soft = line.and_then(|line| line.split_whitespace().nth(3));
        assert_eq!(soft, Some("1000"), "{limits}");
    }
}
