//! Pid 1 of `--init`: starts the program as its child, passes signals on, reaps orphans.

use std::os::fd::BorrowedFd;

use rustix::process::{Pid, WaitOptions, kill_process};
use rustix::thread::UnshareFlags;
use sys::process::{CloneOptions, Cloned};

use super::{Launch, StageError, report};
use crate::report::Report;

/// Runs the program in a child, and ends when it ends, with its exit code.
pub(super) fn run(launch: &Launch, socket: BorrowedFd<'_>) -> Result<(), StageError> {
    // a signal from now on waits until it can be passed on
    sys::signal::block_all().map_err(StageError::Fork)?;
    let options = CloneOptions {
        namespaces: UnshareFlags::empty(),
        cgroup: None,
        sibling: false,
    };
    let child = sys::process::clone(options, || run_child(launch, socket));
    let child = child.map_err(StageError::Fork)?;
    // the parent sees the program start when the last copy of the socket is closed
    launch.confine()?;
    let _name = rustix::thread::set_name(c"init");
    let Cloned { pid, pidfd } = child;
    drop(pidfd);
    sys::process::close_all().map_err(StageError::Stdio)?;
    sys::process::exit_now(watch(pid))
}

fn run_child(launch: &Launch, socket: BorrowedFd<'_>) -> u8 {
    let error = match lead(launch).and_then(|()| launch.go()) {
        Ok(()) => return 0,
        Err(error) => error,
    };
    report(socket, &Report::Failed(error.failure()), &[]);
    1
}

/// Makes the program the leader of its own process group, which has the terminal: keys reach the
/// program once, and not a second time by way of its reaper.
fn lead(launch: &Launch) -> Result<(), StageError> {
    let fail = |error: rustix::io::Errno| StageError::Fork(error.into());
    rustix::process::setpgid(None, None).map_err(fail)?;
    if !launch.terminal {
        return Ok(());
    }
    // tcsetpgrp(3): a background process that does it is stopped by SIGTTOU unless that is blocked
    let stop = [rustix::process::Signal::TTOU];
    sys::signal::block(&stop).map_err(StageError::Fork)?;
    rustix::termios::tcsetpgrp(rustix::stdio::stdin(), rustix::process::getpid()).map_err(fail)?;
    sys::signal::unblock_all().map_err(StageError::Fork)
}

/// Passes signals to `child` and reaps everybody until it has ended; gives the exit code.
fn watch(child: i32) -> u8 {
    let Some(child) = Pid::from_raw(child) else {
        return 1;
    };
    loop {
        if let Some(code) = reap(child) {
            return code;
        }
        let Ok(number) = sys::process::wait_signal() else {
            continue;
        };
        match sys::signal::from_raw(number) {
            Some(rustix::process::Signal::CHILD) | None => {}
            Some(signal) => {
                // it may just have ended; the next turn will see
                let _gone = kill_process(child, signal);
            }
        }
    }
}

/// Reaps all that have ended; tells the exit code if `child` is among them.
fn reap(child: Pid) -> Option<u8> {
    while let Ok(Some((pid, status))) = rustix::process::wait(WaitOptions::NOHANG) {
        if pid != child {
            continue;
        }
        let signaled = || Some(128 + status.terminating_signal()?);
        let code = status.exit_status().or_else(signaled).unwrap_or(1);
        return Some(u8::try_from(code).unwrap_or(u8::MAX));
    }
    None
}
