//! One more process in the container.

use std::os::fd::OwnedFd;
use std::time::Instant;

use super::drain::Drain;
use super::stdio::Stdio;

/// How far an exec is.
#[derive(Debug)]
enum Phase {
    Running,
    Draining {
        code: i32,
        drain: Drain,
    },
    /// Nothing is left but clients that still read.
    Ended,
}

/// An exec.
#[derive(Debug)]
pub(crate) struct Exec {
    pub(crate) id: String,
    pub(crate) pid: i32,
    pub(crate) pidfd: OwnedFd,
    pub(crate) stdio: Stdio,
    phase: Phase,
}

impl Exec {
    pub(crate) fn new(id: String, pid: i32, pidfd: OwnedFd, stdio: Stdio) -> Self {
        Self {
            id,
            pid,
            pidfd,
            stdio,
            phase: Phase::Running,
        }
    }

    /// Whether it runs and is this process.
    pub(crate) fn is(&self, pid: i32) -> bool {
        self.pid == pid && self.is_running()
    }

    pub(crate) fn is_running(&self) -> bool {
        matches!(self.phase, Phase::Running)
    }

    /// Whether its end was told.
    pub(crate) fn is_over(&self) -> bool {
        matches!(self.phase, Phase::Ended)
    }

    pub(crate) fn is_draining(&self) -> bool {
        matches!(self.phase, Phase::Draining { .. })
    }

    /// Its process has ended.
    pub(crate) fn reaped(&mut self, code: i32) {
        self.phase = Phase::Draining {
            code,
            drain: Drain::new(),
        };
    }

    /// Copies its last output; gives its exit code when that was the last.
    pub(crate) fn step(&mut self, buffer: &mut [u8]) -> Option<i32> {
        let Phase::Draining { code, drain } = &mut self.phase else {
            return None;
        };
        if !drain.step(&mut self.stdio, buffer, |_, _| {}) {
            return None;
        }
        let code = *code;
        self.phase = Phase::Ended;
        Some(code)
    }

    /// Lets its clients go, after everybody was told; says whether it can be forgotten.
    pub(crate) fn is_gone(&mut self) -> bool {
        let clients_left = self.stdio.sweep();
        matches!(self.phase, Phase::Ended) && !clients_left
    }

    /// When its last output ends at the latest.
    pub(crate) fn due(&self) -> Option<Instant> {
        match &self.phase {
            Phase::Draining { drain, .. } => Some(drain.due()),
            Phase::Running | Phase::Ended => None,
        }
    }
}
