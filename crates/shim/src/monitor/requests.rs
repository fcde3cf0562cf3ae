//! What each request does.

use std::os::fd::OwnedFd;

use oci::runtime::Resources;
use rustix::event::PollFlags;
use shim::frame::Frame;
use shim::{AttachOrder, Event, ExecState, Prepare, Reply, Request, State, Status};

use super::connection::Kind;
use super::container::{Container, Phase};
use super::gauge::Gauge;
use super::refusal::Refusal;
use super::stream::{Standing, Stream};
use super::{Monitor, Owner, Stage};

type Answer = Result<Reply, Refusal>;

impl Monitor {
    /// Handles one connection's event.
    pub(super) fn serve(&mut self, index: usize, flags: PollFlags) {
        if flags.contains(PollFlags::OUT) {
            self.connections[index].write();
        }
        if flags.intersects(PollFlags::IN | PollFlags::HUP | PollFlags::ERR) {
            while let Some(frame) = self.connections[index].next() {
                self.request(index, frame);
            }
        }
    }

    /// The container, while it runs.
    pub(super) fn running(&mut self, step: &'static str) -> Result<&mut Container, Refusal> {
        match &mut self.stage {
            Stage::Container(container) if matches!(container.phase, Phase::Running) => {
                Ok(container)
            }
            Stage::Container(_) | Stage::Over => {
                Err(Refusal::gone(step, "the container has ended"))
            }
            Stage::Idle | Stage::Prepared(_) => {
                Err(Refusal::invalid(step, "the shim has no container yet"))
            }
        }
    }

    fn request(&mut self, index: usize, frame: Frame) {
        let parsed = frame.parse();
        // figures are asked for every second, and leave nothing to give back
        self.active |= !matches!(parsed, Ok(Request::Stats));
        let request = match parsed {
            Ok(request) => request,
            Err(error) => {
                let refusal = Refusal::failed("decode the request", &error);
                self.connections[index].reply(&refusal.into_reply());
                self.connections[index].close();
                return;
            }
        };
        let refused = match request {
            Request::Run(order) => self.start(index, *order, frame.fds).err(),
            Request::Exec(order) => self.exec(index, *order, frame.fds).err(),
            Request::Attach(order) => self.attach(index, order, frame.fds).err(),
            Request::Subscribe => {
                self.subscribe(index);
                None
            }
            simple => match self.simple(simple) {
                Ok(reply) => {
                    self.connections[index].reply(&reply);
                    None
                }
                Err(refusal) => Some(refusal),
            },
        };
        if let Some(refusal) = refused {
            self.connections[index].reply(&refusal.into_reply());
        }
    }

    /// Requests that are a question and an answer.
    fn simple(&mut self, request: Request) -> Answer {
        match request {
            Request::Prepare(order) => self.prepare(&order),
            Request::State => Ok(Reply::State(Box::new(self.state()))),
            Request::Kill { signal, exec } => {
                self.running("kill")?.kill_one(signal, exec.as_deref())
            }
            Request::Resize {
                exec,
                height,
                width,
            } => self
                .running("resize")?
                .resize(exec.as_deref(), height, width),
            Request::CloseStdin => {
                self.running("close standard input")?.stdio.close_stdin();
                Ok(Reply::Ok)
            }
            Request::Stats => self.running("stats")?.stats(),
            Request::Processes => self.running("list processes")?.processes(),
            Request::Pause => self.running("pause")?.pause(),
            Request::Resume => self.running("resume")?.resume(),
            Request::Update(resources) => self.running("update")?.update(&resources),
            Request::ReopenLog => {
                let log = &mut self.running("reopen the log")?.log;
                log.reopen()
                    .map_err(|error| Refusal::failed("reopen the log", &error))?;
                Ok(Reply::Ok)
            }
            Request::LogFollowed(position) => {
                self.running("follow the log")?.log.followed(&position);
                Ok(Reply::Ok)
            }
            Request::Run(_) | Request::Exec(_) | Request::Attach(_) | Request::Subscribe => Err(
                Refusal::invalid("dispatch", "the request needs a connection"),
            ),
        }
    }

    fn prepare(&mut self, order: &Prepare) -> Answer {
        if !matches!(self.stage, Stage::Idle) {
            return Err(Refusal::invalid("prepare", "the shim is already prepared"));
        }
        let prepared = super::start::prepare(order)?;
        let pid = prepared.pid();
        self.stage = Stage::Prepared(Box::new(prepared));
        Ok(Reply::Prepared { pid })
    }

    /// From now on events go to this connection; what already happened goes first.
    fn subscribe(&mut self, index: usize) {
        let connection = &mut self.connections[index];
        connection.reply(&Reply::Ok);
        connection.subscribe();
        let Stage::Container(container) = &self.stage else {
            return;
        };
        for (id, code) in &container.codes {
            connection.tell(&Event::ExecExited {
                id: id.clone(),
                code: *code,
            });
        }
        if container.oom_kills > 0 {
            connection.tell(&Event::Oom);
        }
        if let Some(exit) = container.exit() {
            connection.tell(&Event::Exited(exit.clone()));
        }
    }

    fn attach(
        &mut self,
        index: usize,
        order: AttachOrder,
        fds: Vec<OwnedFd>,
    ) -> Result<(), Refusal> {
        self.running("attach")?;
        self.check_stream("attach", index, order, &fds)?;
        self.hand_over(
            index,
            fds,
            order,
            (Owner::Container, Standing::Guest),
            &Reply::Ok,
        )
    }

    /// Refuses a stream that would take away the control connection.
    pub(super) fn check_stream(
        &self,
        step: &'static str,
        index: usize,
        order: AttachOrder,
        fds: &[OwnedFd],
    ) -> Result<(), Refusal> {
        if fds.len() > 1 {
            return Err(Refusal::invalid(
                step,
                "more than one fd came with the request",
            ));
        }
        let takes_connection = order.any() && fds.is_empty();
        if takes_connection && self.connections[index].kind() == Kind::Control {
            return Err(Refusal::invalid(
                step,
                "the control connection cannot become a stream",
            ));
        }
        Ok(())
    }

    /// Answers, and makes the fd of the request, or else the connection, a stream of the owner's.
    pub(super) fn hand_over(
        &mut self,
        index: usize,
        fds: Vec<OwnedFd>,
        order: AttachOrder,
        (owner, standing): (Owner, Standing),
        reply: &Reply,
    ) -> Result<(), Refusal> {
        let connection = &mut self.connections[index];
        let Some(fd) = fds.into_iter().next() else {
            if !order.any() {
                connection.reply(reply);
                return Ok(());
            }
            let Some((fd, first)) = connection.take_over(reply) else {
                return Ok(());
            };
            // The peer finds the connection ended if it cannot be made a stream.
            self.add_stream(owner, Stream::new(fd, order, standing, first));
            return Ok(());
        };
        connection.reply(reply);
        let stream = Stream::new(fd, order, standing, Vec::new());
        self.add_stream(owner, stream);
        Ok(())
    }

    fn add_stream(&mut self, owner: Owner, stream: std::io::Result<Stream>) {
        let Stage::Container(container) = &mut self.stage else {
            return;
        };
        let stdio = match owner {
            Owner::Container => Some(&mut container.stdio),
            Owner::Exec(index) => container.execs.get_mut(index).map(|exec| &mut exec.stdio),
        };
        if let (Some(stdio), Ok(stream)) = (stdio, stream) {
            stdio.add(stream);
        }
    }

    fn state(&mut self) -> State {
        let (status, container) = match &mut self.stage {
            Stage::Idle | Stage::Over => (Status::Idle, None),
            Stage::Prepared(_) => (Status::Prepared, None),
            Stage::Container(container) => (container.status(), Some(container)),
        };
        let shim_pid = rustix::process::getpid().as_raw_nonzero().get();
        let mut state = State {
            status,
            pid: 0,
            shim_pid,
            started_at: None,
            execs: Vec::new(),
            oom_kills: 0,
            log_lines_lost: 0,
            log_error: None,
            exit: None,
        };
        if let Some(container) = container {
            container.describe(&mut state);
        }
        state
    }
}

impl Container {
    fn status(&self) -> Status {
        match self.phase {
            Phase::Running if self.cgroup.is_frozen().unwrap_or(false) => Status::Paused,
            Phase::Running | Phase::Draining { .. } => Status::Running,
            Phase::Told { .. } | Phase::Gone { .. } => Status::Exited,
        }
    }

    fn describe(&mut self, state: &mut State) {
        if matches!(self.phase, Phase::Running) {
            state.pid = self.pid;
            self.new_oom_kill();
        }
        let running = self.execs.iter().filter(|exec| exec.is_running());
        state.execs = running
            .map(|exec| ExecState {
                id: exec.id.clone(),
                pid: exec.pid,
            })
            .collect();
        state.started_at = Some(self.started_at.clone());
        state.oom_kills = self.oom_kills;
        (state.log_lines_lost, state.log_error) = self.log.failures();
        state.exit = self.exit().cloned();
    }

    fn kill_one(&mut self, signal: i32, exec: Option<&str>) -> Answer {
        let signal = sys::signal::from_raw(signal)
            .ok_or_else(|| Refusal::invalid("kill", format!("no such signal: {signal}")))?;
        let sent = match exec {
            None => self.kill(signal),
            Some(id) => {
                let exec = self.running_exec("kill", id)?;
                rustix::process::pidfd_send_signal(&exec.pidfd, signal).map_err(Into::into)
            }
        };
        match sent {
            Ok(()) => Ok(Reply::Ok),
            Err(error) if error.raw_os_error() == Some(rustix::io::Errno::SRCH.raw_os_error()) => {
                Err(Refusal::gone("kill", "the process has ended"))
            }
            Err(error) => Err(Refusal::failed("kill", &error)),
        }
    }

    fn running_exec(&self, step: &'static str, id: &str) -> Result<&super::exec::Exec, Refusal> {
        self.execs
            .iter()
            .find(|exec| exec.id == id && exec.is_running())
            .ok_or_else(|| Refusal::gone(step, format!("no running exec {id}")))
    }

    fn resize(&self, exec: Option<&str>, height: u16, width: u16) -> Answer {
        let stdio = match exec {
            None => &self.stdio,
            Some(id) => &self.running_exec("resize", id)?.stdio,
        };
        match stdio.resize(height, width) {
            Ok(true) => Ok(Reply::Ok),
            Ok(false) => Err(Refusal::invalid("resize", "the process has no terminal")),
            Err(error) => Err(Refusal::failed("resize", &error)),
        }
    }

    fn stats(&mut self) -> Answer {
        let failed = |error| Refusal::failed("stats", &error);
        let gauge = match &mut self.gauge {
            Some(gauge) => gauge,
            none => none.insert(Gauge::open(&self.cgroup).map_err(failed)?),
        };
        let stats = gauge.read().map_err(failed)?;
        Ok(Reply::Stats(Box::new(stats)))
    }

    fn processes(&self) -> Answer {
        let pids = self
            .cgroup
            .pids()
            .map_err(|error| Refusal::failed("list processes", &error))?;
        Ok(Reply::Processes(pids))
    }

    fn pause(&self) -> Answer {
        self.cgroup
            .freeze()
            .map_err(|error| Refusal::failed("pause", &error))?;
        Ok(Reply::Ok)
    }

    fn resume(&self) -> Answer {
        self.cgroup
            .thaw()
            .map_err(|error| Refusal::failed("resume", &error))?;
        Ok(Reply::Ok)
    }

    fn update(&mut self, resources: &Resources) -> Answer {
        // it knows the limits
        self.gauge = None;
        self.cgroup
            .apply(resources)
            .map_err(|error| Refusal::failed("update", &error))?;
        Ok(Reply::Ok)
    }
}
