//! The monitor: one thread, one poll(2) loop over everything that can happen to one container.

mod connection;
mod container;
mod drain;
mod end;
mod exec;
mod gauge;
mod log;
mod refusal;
mod requests;
mod start;
mod stdin;
mod stdio;
mod stream;

use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::process::ExitCode;
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags};
use rustix::process::{Signal, WaitOptions};
use rustix::time::Timespec;
use shim::Event;

use connection::{Connection, Kind};
use container::Container;
use stdio::Part;

/// The one buffer that everything is read into; it exists only while something happens.
const BUFFER: usize = 32 << 10;
/// After so long a silence the buffer and the heap's free pages are given back.
const IDLE: Duration = Duration::from_secs(1);

/// How far the shim is.
#[derive(Debug)]
enum Stage {
    /// No container yet.
    Idle,
    /// The init stage waits for an order.
    Prepared(Box<runtime::Prepared>),
    /// It has a container.
    Container(Box<Container>),
    /// It has none any more.
    Over,
}

/// Whose stdio an event is about.
#[derive(Clone, Copy, Debug)]
enum Owner {
    Container,
    Exec(usize),
}

/// What an event is about.
#[derive(Clone, Copy, Debug)]
enum Token {
    Signals,
    Listener,
    Connection(usize),
    Stdio(Owner, Part),
}

#[derive(Debug)]
struct Monitor {
    stage: Stage,
    connections: Vec<Connection>,
    signals: OwnedFd,
    buffer: Vec<u8>,
    /// Whether memory may be given back at the next silence.
    active: bool,
}

/// Whether standard input is a socket: the engine's control connection.
pub(crate) fn has_control() -> bool {
    rustix::net::sockopt::socket_type(io::stdin()).is_ok()
}

/// Runs until the container is gone, or until there will never be one.
pub(crate) fn run() -> ExitCode {
    match Monitor::new() {
        Ok(mut monitor) => {
            monitor.run();
            ExitCode::SUCCESS
        }
        Err(error) => {
            crate::complain(&format!("gorae-shim: set up: {error}\n"));
            ExitCode::FAILURE
        }
    }
}

impl Monitor {
    fn new() -> io::Result<Self> {
        become_monitor()?;
        // Standard input stays open as /dev/null, so that no later fd gets its number.
        let control = rustix::io::fcntl_dupfd_cloexec(io::stdin(), 3)?;
        let null = std::fs::File::open("/dev/null")?;
        rustix::stdio::dup2_stdin(&null)?;
        let signals = sys::signal::signalfd(&[Signal::CHILD, Signal::TERM])?;
        Ok(Self {
            stage: Stage::Idle,
            connections: vec![Connection::new(control, Kind::Control)?],
            signals,
            buffer: Vec::new(),
            active: true,
        })
    }

    fn run(&mut self) {
        while !self.is_over() {
            let timeout = self.timeout();
            match self.wait(timeout) {
                Ok(events) if events.is_empty() => self.rest(timeout),
                Ok(events) => {
                    for (token, flags) in events {
                        self.handle(token, flags);
                    }
                }
                // EINTR; anything else would be a bug of this list of fds, and the next round asks
                // for a new one.
                Err(_again) => {}
            }
            self.sweep();
        }
    }

    /// Waits for events, or until the timeout.
    fn wait(&self, timeout: Option<Duration>) -> rustix::io::Result<Vec<(Token, PollFlags)>> {
        let mut tokens = Vec::new();
        let mut fds = Vec::new();
        let mut ask = |token, fd, flags| {
            tokens.push(token);
            fds.push(PollFd::from_borrowed_fd(fd, flags));
        };
        ask(Token::Signals, self.signals.as_fd(), PollFlags::IN);
        for (index, connection) in self.connections.iter().enumerate() {
            if let Some(fd) = connection.fd() {
                ask(Token::Connection(index), fd, connection.interest());
            }
        }
        if let Stage::Container(container) = &self.stage {
            container.interest(&mut ask);
        }
        let timeout = timeout.map(timespec);
        rustix::event::poll(&mut fds, timeout.as_ref())?;
        let happened = tokens.into_iter().zip(fds.iter().map(PollFd::revents));
        Ok(happened.filter(|(_, flags)| !flags.is_empty()).collect())
    }

    fn handle(&mut self, token: Token, flags: PollFlags) {
        match token {
            Token::Signals => {
                self.active = true;
                self.take_signals();
            }
            Token::Connection(index) => self.serve(index, flags),
            Token::Listener => self.accept(),
            Token::Stdio(owner, part) => {
                self.active = true;
                self.buffer.resize(BUFFER, 0);
                if let Stage::Container(container) = &mut self.stage {
                    container.handle(owner, part, flags, &mut self.buffer);
                }
            }
        }
    }

    fn accept(&mut self) {
        let Stage::Container(container) = &self.stage else {
            return;
        };
        if let Some(fd) = container.accept()
            && let Ok(connection) = Connection::new(fd, Kind::Visitor)
        {
            self.connections.push(connection);
        }
    }

    fn take_signals(&mut self) {
        while let Ok(Some(received)) = sys::signal::read_signalfd(&self.signals) {
            if received.signal == Signal::TERM {
                self.asked_to_end();
            }
        }
        while let Ok(Some((pid, status))) = rustix::process::wait(WaitOptions::NOHANG) {
            let code = i32::from(crate::init::exit_code(status));
            if let Stage::Container(container) = &mut self.stage {
                container.reaped(pid.as_raw_nonzero().get(), code);
            }
        }
    }

    /// SIGTERM, of a host that shuts down: the container gets it, so that it can end in order.
    fn asked_to_end(&mut self) {
        match &self.stage {
            Stage::Container(container) => {
                let _sent = container.kill(Signal::TERM);
            }
            Stage::Idle | Stage::Prepared(_) | Stage::Over => self.stage = Stage::Over,
        }
    }

    /// Does what is due after each round of events, and forgets what is over.
    fn sweep(&mut self) {
        if let Stage::Container(container) = &mut self.stage {
            container.tidy();
        }
        self.advance();
        self.connections.retain(Connection::is_open);
        let control_lost = !self.connections.iter().any(|c| c.kind() == Kind::Control);
        if control_lost && matches!(self.stage, Stage::Idle | Stage::Prepared(_)) {
            self.stage = Stage::Over;
        }
    }

    fn tell(&mut self, event: &Event) {
        for connection in &mut self.connections {
            connection.tell(event);
        }
    }

    fn is_over(&self) -> bool {
        matches!(self.stage, Stage::Over)
    }

    /// How long nothing may happen.
    fn timeout(&mut self) -> Option<Duration> {
        let due = match &mut self.stage {
            Stage::Container(container) => container.next_due(Instant::now()),
            Stage::Idle | Stage::Prepared(_) | Stage::Over => None,
        };
        let idle = self.active.then_some(IDLE);
        due.into_iter().chain(idle).min()
    }

    /// Nothing happened for a while.
    fn rest(&mut self, waited: Option<Duration>) {
        if let Stage::Container(container) = &mut self.stage
            && container
                .log
                .due()
                .is_some_and(|due| waited.is_some_and(|waited| waited >= due))
            && container.log.work()
        {
            self.active = true;
            return;
        }
        if self.active && waited.is_some_and(|waited| waited >= IDLE) {
            self.active = false;
            self.buffer = Vec::new();
            self.connections.shrink_to_fit();
            sys::heap::trim();
        }
    }
}

/// Leaves the engine's session, and takes over the container's orphans.
fn become_monitor() -> io::Result<()> {
    // It fails for a group's leader, whose session is its own already.
    let _session = rustix::process::setsid();
    // Every process outside the container's own pid namespace that loses its parent comes to us.
    rustix::process::set_child_subreaper(Some(rustix::process::getpid()))?;
    rustix::thread::set_name(c"gorae-shim")?;
    for signal in [
        Signal::HUP,
        Signal::INT,
        Signal::QUIT,
        Signal::PIPE,
        Signal::USR1,
        Signal::USR2,
        Signal::XFSZ,
    ] {
        sys::signal::ignore(signal)?;
    }
    std::env::set_current_dir("/")
}

fn timespec(duration: Duration) -> Timespec {
    Timespec {
        tv_sec: i64::try_from(duration.as_secs()).unwrap_or(i64::MAX),
        tv_nsec: i64::from(duration.subsec_nanos()),
    }
}
