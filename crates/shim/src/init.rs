//! Process 1 of a container with `--init`: runs one program, hands signals on, reaps everything.

use std::ffi::OsString;
use std::io;
use std::os::unix::process::CommandExt;
use std::process::{Command, ExitCode};

use rustix::process::{Pid, Signal, WaitOptions, WaitStatus};

/// Runs the program of `args` (after an optional `--`) and ends with its exit code.
pub(crate) fn run(args: Vec<OsString>) -> ExitCode {
    let mut args = args.into_iter().peekable();
    args.next_if(|first| first == "--");
    let Some(program) = args.next() else {
        crate::complain("init: no program to run\n");
        return ExitCode::from(1);
    };
    // Blocked before the program exists: none is lost, and all are taken by sigwaitinfo(2).
    if let Err(error) = sys::signal::block_all() {
        crate::complain(&format!("init: block signals: {error}\n"));
        return ExitCode::from(1);
    }
    let mut command = Command::new(&program);
    command.args(args).process_group(0);
    sys::signal::unblock_in_child(&mut command);
    match command.spawn() {
        Ok(child) => match i32::try_from(child.id()).ok().and_then(Pid::from_raw) {
            Some(pid) => supervise(pid),
            None => ExitCode::from(1),
        },
        Err(error) => {
            crate::complain(&format!("exec {}: {error}\n", program.display()));
            ExitCode::from(if error.kind() == io::ErrorKind::NotFound {
                127
            } else {
                126
            })
        }
    }
}

fn supervise(program: Pid) -> ExitCode {
    give_terminal(program);
    loop {
        if let Some(code) = reap(program) {
            return ExitCode::from(code);
        }
        match sys::process::wait_signal() {
            Ok(number) if number == Signal::CHILD.as_raw() => {}
            Ok(number) => hand_on(program, number),
            // EINTR after a stop and continue.
            Err(_interrupted) => {}
        }
    }
}

/// Makes the program's group the terminal's foreground, as a shell does for its jobs.
///
/// The program may have read from the terminal before that, which stops it; so it is continued.
fn give_terminal(program: Pid) {
    let stdin = io::stdin();
    if rustix::termios::isatty(&stdin) && rustix::termios::tcsetpgrp(&stdin, program).is_ok() {
        let _sent = rustix::process::kill_process_group(program, Signal::CONT);
    }
}

fn hand_on(program: Pid, number: i32) {
    if let Some(signal) = sys::signal::from_raw(number) {
        // It may have ended just now; the next SIGCHLD tells.
        let _sent = rustix::process::kill_process(program, signal);
    }
}

/// Reaps all that has ended; the program's exit code if it is among them.
fn reap(program: Pid) -> Option<u8> {
    let mut code = None;
    while let Ok(Some((pid, status))) = rustix::process::wait(WaitOptions::NOHANG) {
        if pid == program {
            code = Some(exit_code(status));
        }
    }
    code
}

/// The code a shell would give: the exit status, or 128 and the signal's number.
pub(crate) fn exit_code(status: WaitStatus) -> u8 {
    let code = status
        .exit_status()
        .or_else(|| status.terminating_signal().map(|n| 128 + n));
    code.and_then(|code| u8::try_from(code).ok()).unwrap_or(255)
}
