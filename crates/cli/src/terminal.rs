//! The user's terminal: raw mode, its size, and whether there is one.

use rustix::termios::{self, OptionalActions, Termios};
use std::io::{self, IsTerminal};
use std::os::fd::{AsFd, OwnedFd};

/// Whether standard input is a terminal.
pub(crate) fn stdin_is_terminal() -> bool {
    io::stdin().is_terminal()
}

/// Whether standard output is a terminal.
pub(crate) fn stdout_is_terminal() -> bool {
    io::stdout().is_terminal()
}

/// Whether standard error is a terminal.
pub(crate) fn stderr_is_terminal() -> bool {
    io::stderr().is_terminal()
}

/// Height and width of the terminal behind standard output or input.
pub(crate) fn size() -> Option<(u16, u16)> {
    let window = termios::tcgetwinsize(io::stdout())
        .or_else(|_| termios::tcgetwinsize(io::stdin()))
        .ok()?;
    (window.ws_row > 0 && window.ws_col > 0).then_some((window.ws_row, window.ws_col))
}

/// How wide help may be.
pub(crate) fn width() -> usize {
    size().map_or(80, |(_height, width)| usize::from(width))
}

/// A terminal that passes every key on; dropping it gives the terminal its modes back.
#[derive(Debug)]
pub(crate) struct RawMode {
    terminal: OwnedFd,
    before: Termios,
}

impl RawMode {
    /// Puts the terminal of standard input into raw mode.
    pub(crate) fn enter() -> io::Result<Self> {
        let terminal = io::stdin().as_fd().try_clone_to_owned()?;
        let before = termios::tcgetattr(&terminal)?;
        let mut raw = before.clone();
        raw.make_raw();
        // as Docker's clients: output is still processed as the far terminal wrote it
        termios::tcsetattr(&terminal, OptionalActions::Now, &raw)?;
        Ok(Self { terminal, before })
    }
}

impl Drop for RawMode {
    fn drop(&mut self) {
        // a terminal that was hung up has no modes to restore
        let _hung_up = termios::tcsetattr(&self.terminal, OptionalActions::Now, &self.before);
    }
}

/// A terminal that shows no keys; dropping it shows them again.
#[derive(Debug)]
pub(crate) struct Silence {
    terminal: OwnedFd,
    before: Termios,
}

impl Silence {
    /// Stops the terminal of standard input from showing what is typed.
    pub(crate) fn enter() -> io::Result<Self> {
        let terminal = io::stdin().as_fd().try_clone_to_owned()?;
        let before = termios::tcgetattr(&terminal)?;
        let mut silent = before.clone();
        silent.local_modes.remove(termios::LocalModes::ECHO);
        termios::tcsetattr(&terminal, OptionalActions::Now, &silent)?;
        Ok(Self { terminal, before })
    }
}

impl Drop for Silence {
    fn drop(&mut self) {
        // a terminal that was hung up has no modes to restore
        let _hung_up = termios::tcsetattr(&self.terminal, OptionalActions::Now, &self.before);
    }
}
