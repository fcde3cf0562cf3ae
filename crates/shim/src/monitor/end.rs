//! The container's end: the last output, the record, the farewell, the cgroup.

use std::fs;
use std::io;
use std::path::Path;
use std::time::{Duration, Instant};

use shim::protocol::{EXIT_NAME, SOCKET_NAME};
use shim::{Event, Exit};

use super::connection::Connection;
use super::container::{Container, Phase};
use super::{BUFFER, Monitor, Stage};

/// How long a peer may take to accept the last event.
pub(crate) const FAREWELL: Duration = Duration::from_secs(1);

impl Monitor {
    /// Brings execs and the container nearer to their end, as far as they are.
    pub(super) fn advance(&mut self) {
        let Stage::Container(container) = &mut self.stage else {
            return;
        };
        let mut events = Vec::new();
        if container.is_draining() {
            self.buffer.resize(BUFFER, 0);
            events = container.step_execs(&mut self.buffer);
        }
        let last = container.step(&mut self.buffer);
        if (last || !events.is_empty()) && container.new_oom_kill() {
            events.push(Event::Oom);
        }
        if last {
            events.push(Event::Exited(container.record()));
        }
        for event in &events {
            self.tell(event);
        }
        self.let_go();
    }

    /// After everybody was told: ends the streams, deletes the cgroup, closes the connections.
    fn let_go(&mut self) {
        let Stage::Container(container) = &mut self.stage else {
            return;
        };
        container.end_streams();
        if let Phase::Told { exit, since } = &container.phase {
            let flushed = self.connections.iter().all(Connection::is_flushed);
            if !flushed && since.elapsed() < FAREWELL {
                return;
            }
            let exit = exit.clone();
            // Nobody is left to hear of a failure; the engine's reconciliation looks for what stays.
            container.gauge = None;
            let _deleted = container.cgroup.delete();
            container.phase = Phase::Gone { exit };
            self.connections.clear();
        }
        if matches!(container.phase, Phase::Gone { .. }) && container.is_deserted() {
            self.stage = Stage::Over;
        }
    }
}

impl Container {
    /// Writes the end down, and takes the container's name from the file system.
    fn record(&mut self) -> Exit {
        self.log.finish();
        let (code, finished_at) = match &mut self.phase {
            Phase::Draining {
                code, finished_at, ..
            } => (*code, std::mem::take(finished_at)),
            Phase::Running | Phase::Told { .. } | Phase::Gone { .. } => (255, String::new()),
        };
        let exit = Exit {
            code,
            oom_killed: self.oom_kills > 0,
            started_at: self.started_at.clone(),
            finished_at,
        };
        // The event says the same; an engine that gets neither finds the init gone and says so.
        let _written = write_record(&self.dir, &exit);
        self.listener = None;
        let _removed = fs::remove_file(self.dir.join(SOCKET_NAME));
        self.phase = Phase::Told {
            exit: exit.clone(),
            since: Instant::now(),
        };
        exit
    }

    /// Lets the clients go whose process was told to have ended.
    fn end_streams(&mut self) {
        for exec in self.execs.iter_mut().filter(|exec| exec.is_over()) {
            exec.stdio.end();
        }
        if self.exit().is_some() {
            self.stdio.end();
        }
        self.stdio.sweep();
        self.execs.retain_mut(|exec| !exec.is_gone());
    }

    /// Whether no client is left.
    fn is_deserted(&mut self) -> bool {
        !self.stdio.sweep() && self.execs.is_empty()
    }
}

/// Writes the record so that a reader finds all of it or nothing.
fn write_record(dir: &Path, exit: &Exit) -> io::Result<()> {
    let part = dir.join("exit.json.part");
    fs::write(&part, serde_json::to_vec(exit)?)?;
    fs::rename(part, dir.join(EXIT_NAME))
}
