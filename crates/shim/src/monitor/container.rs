//! The one container: its processes, its stdio, and how far its end is.

use std::collections::VecDeque;
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::net::UnixListener;
use std::path::PathBuf;
use std::time::{Duration, Instant};

use runtime::HostRoot;
use runtime::cgroup::Cgroup;
use rustix::event::PollFlags;
use rustix::process::Signal;
use shim::{Event, Exit};

use super::drain::Drain;
use super::exec::Exec;
use super::gauge::Gauge;
use super::log::Log;
use super::stdio::{Part, Stdio};
use super::{Owner, Token};

/// How many exit codes of execs are kept for an engine that comes later.
const CODES_KEPT: usize = 64;

/// How far a container is.
#[derive(Debug)]
pub(crate) enum Phase {
    /// Its init runs.
    Running,
    /// Its init was reaped; its last output is being copied.
    Draining {
        code: i32,
        finished_at: String,
        drain: Drain,
    },
    /// Everybody was told.
    Told { exit: Exit, since: Instant },
    /// Nothing is left but clients that still read.
    Gone { exit: Exit },
}

/// A container that was started.
#[derive(Debug)]
pub(crate) struct Container {
    pub(crate) dir: PathBuf,
    pub(crate) listener: Option<UnixListener>,
    pub(crate) pid: i32,
    pub(crate) pidfd: OwnedFd,
    /// Whether the kernel ends everything in the container with its init.
    pub(crate) own_pids: bool,
    /// Who its root is on the host, if it is in a user namespace.
    pub(crate) user: Option<HostRoot>,
    pub(crate) cgroup: Cgroup,
    /// The cgroup's figures, open while somebody asks for them.
    pub(crate) gauge: Option<Gauge>,
    /// The compiled system call filter, which execs get, too.
    pub(crate) seccomp: Option<OwnedFd>,
    pub(crate) stdio: Stdio,
    pub(crate) log: Log,
    pub(crate) execs: Vec<Exec>,
    pub(crate) codes: VecDeque<(String, i32)>,
    pub(crate) started_at: String,
    pub(crate) oom_kills: u64,
    pub(crate) phase: Phase,
}

impl Container {
    /// Tells what to poll for.
    pub(crate) fn interest<'a>(&'a self, ask: &mut impl FnMut(Token, BorrowedFd<'a>, PollFlags)) {
        if let Some(listener) = &self.listener {
            ask(Token::Listener, listener.as_fd(), PollFlags::IN);
        }
        let held_up = self.log.holds_up();
        self.stdio.interest(|part, fd, flags| {
            if !(held_up && matches!(part, Part::Output(_))) {
                ask(Token::Stdio(Owner::Container, part), fd, flags);
            }
        });
        for (index, exec) in self.execs.iter().enumerate() {
            let owner = Owner::Exec(index);
            exec.stdio
                .interest(|part, fd, flags| ask(Token::Stdio(owner, part), fd, flags));
        }
    }

    /// Handles one event of somebody's stdio.
    pub(crate) fn handle(&mut self, owner: Owner, part: Part, flags: PollFlags, buffer: &mut [u8]) {
        match owner {
            Owner::Container => {
                let log = &mut self.log;
                self.stdio
                    .handle(part, flags, buffer, |output, bytes| log.take(output, bytes));
            }
            Owner::Exec(index) => {
                if let Some(exec) = self.execs.get_mut(index) {
                    exec.stdio.handle(part, flags, buffer, |_, _| {});
                }
            }
        }
    }

    /// The next visitor.
    pub(crate) fn accept(&self) -> Option<OwnedFd> {
        match self.listener.as_ref()?.accept() {
            Ok((stream, _)) => Some(stream.into()),
            Err(error) => {
                if error.kind() != io::ErrorKind::WouldBlock {
                    // No fd is free: the visitor stays in the queue, and poll(2) tells of it again
                    // at once.
                    std::thread::sleep(Duration::from_millis(10));
                }
                None
            }
        }
    }

    /// Sends a signal to init.
    pub(crate) fn kill(&self, signal: Signal) -> io::Result<()> {
        if !matches!(self.phase, Phase::Running) {
            return Err(rustix::io::Errno::SRCH.into());
        }
        rustix::process::pidfd_send_signal(&self.pidfd, signal)?;
        if signal == Signal::KILL && self.cgroup.is_frozen().unwrap_or(false) {
            // The v1 freezer keeps even SIGKILL waiting.
            self.cgroup.thaw().map_err(io::Error::other)?;
        }
        Ok(())
    }

    /// A process of ours has ended.
    pub(crate) fn reaped(&mut self, pid: i32, code: i32) {
        if pid == self.pid && matches!(self.phase, Phase::Running) {
            let finished_at = shim::timestamp::now();
            self.phase = Phase::Draining {
                code,
                finished_at,
                drain: Drain::new(),
            };
            if !self.own_pids {
                // What is left is told at the cgroup's end; here is nobody to tell.
                let _killed = self.cgroup.kill_all();
            }
        } else if let Some(exec) = self.execs.iter_mut().find(|exec| exec.is(pid)) {
            exec.reaped(code);
        }
    }

    /// Whether anything waits for [`Self::step`].
    pub(crate) fn is_draining(&self) -> bool {
        matches!(self.phase, Phase::Draining { .. }) || self.execs.iter().any(Exec::is_draining)
    }

    /// Copies last output of execs, and says what has ended with that.
    pub(crate) fn step_execs(&mut self, buffer: &mut [u8]) -> Vec<Event> {
        let mut events = Vec::new();
        for exec in &mut self.execs {
            if let Some(code) = exec.step(buffer) {
                self.codes.push_back((exec.id.clone(), code));
                events.push(Event::ExecExited {
                    id: exec.id.clone(),
                    code,
                });
            }
        }
        while self.codes.len() > CODES_KEPT {
            self.codes.pop_front();
        }
        events
    }

    /// Copies the container's last output; says whether that was the last.
    pub(crate) fn step(&mut self, buffer: &mut [u8]) -> bool {
        let Phase::Draining { drain, .. } = &mut self.phase else {
            return false;
        };
        let log = &mut self.log;
        drain.step(&mut self.stdio, buffer, |output, bytes| {
            log.take(output, bytes);
        })
    }

    /// Whether the kernel has killed for want of memory since the last time that this was asked.
    pub(crate) fn new_oom_kill(&mut self) -> bool {
        let kills = self.cgroup.oom_kills().unwrap_or(0);
        let more = kills > self.oom_kills;
        self.oom_kills = self.oom_kills.max(kills);
        more
    }

    /// How it ended, once everybody was told.
    pub(crate) fn exit(&self) -> Option<&Exit> {
        match &self.phase {
            Phase::Told { exit, .. } | Phase::Gone { exit } => Some(exit),
            Phase::Running | Phase::Draining { .. } => None,
        }
    }

    /// Closes what nobody has asked for any more.
    pub(crate) fn tidy(&mut self) {
        self.gauge.take_if(|gauge| gauge.due() <= Instant::now());
    }

    /// How long until something is due without any event.
    pub(crate) fn next_due(&mut self, now: Instant) -> Option<Duration> {
        let own = match &self.phase {
            Phase::Draining { drain, .. } => Some(drain.due()),
            Phase::Told { since, .. } => Some(*since + super::end::FAREWELL),
            Phase::Running | Phase::Gone { .. } => None,
        };
        let log = match &self.phase {
            Phase::Running => self.log.due(),
            Phase::Draining { .. } | Phase::Told { .. } | Phase::Gone { .. } => None,
        };
        let execs = self.execs.iter().filter_map(Exec::due);
        let gauge = self.gauge.as_ref().map(Gauge::due);
        let due = own
            .into_iter()
            .chain(execs)
            .chain(gauge)
            .min()
            .map(|due| due.saturating_duration_since(now));
        let stdios = self
            .execs
            .iter_mut()
            .map(|exec| &mut exec.stdio)
            .chain([&mut self.stdio]);
        let patience = stdios.filter_map(|stdio| stdio.check_patience(now)).min();
        due.into_iter().chain(patience).chain(log).min()
    }
}
