//! Running a step, from its shim to the last byte of its output.

use std::future::Future;
use std::os::fd::{AsFd as _, BorrowedFd, OwnedFd};
use std::path::PathBuf;
use std::sync::Arc;

use oci::runtime::Process;
use shim::{AttachOrder, CallError, ErrorKind, Event, Exit, FdRole, Reply, Request, RunOrder};
use sys::spawn::Spawned;
use tokio::net::UnixStream;
use tokio::sync::{mpsc, oneshot};

use super::live::{ProcessEnds, StepInput, StepStreams};
use super::output::Output;
use super::{StepEnd, StepOutput, StepRequest};
use crate::container::{Record, spec};
use crate::engine::Engine;
use crate::error::{Error, Result, Step, chain};
use crate::network::Connection;
use crate::shim_link::{Link, ask, refusal};
use crate::warm::{Namespaces, Ready, reap};

/// The exit code of a step whose shim was killed: nobody saw how it ended.
pub(super) const UNSEEN: i32 = 137;

/// A step that runs.
pub(super) struct Running {
    link: Link,
    child: Spawned,
    output: Output,
    /// The other half of the output's socket; without an input it is kept for nothing but that.
    pub(super) input: Option<StepInput>,
    pub(super) dir: PathBuf,
    /// The first process, which further ones resemble.
    pub(super) like: Arc<Process>,
    pub(super) ends: Arc<ProcessEnds>,
    connection: Option<Connection>,
    record: Record,
}

/// What came of a start.
pub(super) enum Start {
    Running(Box<Running>),
    Refused(StepEnd),
}

/// A step whose shim has it.
struct Ordered {
    link: Link,
    child: Spawned,
    io: std::os::unix::net::UnixStream,
    like: Process,
}

impl Engine {
    /// Runs a step to its end, and gives its output to `output` as it comes; where that is not taken, the
    /// step waits. It is killed, with all its processes, when `cancel` comes to its end or this is
    /// given up.
    ///
    /// # Errors
    ///
    /// What is needed for it cannot be made. A program that cannot be started is no error.
    pub async fn run_step(
        self: &Arc<Self>,
        request: StepRequest,
        output: mpsc::Sender<StepOutput>,
        cancel: impl Future<Output = ()> + Send + 'static,
    ) -> Result<StepEnd> {
        let engine = Arc::clone(self);
        // dropped with this future, it ends the step
        let (wanted, unwanted) = oneshot::channel::<()>();
        let task = tokio::spawn(async move {
            let cancelled = async {
                tokio::select! {
                    () = cancel => {}
                    _ = unwanted => {}
                }
            };
            match engine.start_step(request, StepStreams::default()).await? {
                Start::Running(step) => engine.follow_step(*step, output, cancelled).await,
                Start::Refused(end) => Ok(end),
            }
        });
        let end = task.await;
        drop(wanted);
        end.unwrap_or_else(|error| Err(Error::internal(format!("a step broke off: {error}"))))
    }

    pub(super) async fn start_step(
        self: &Arc<Self>,
        request: StepRequest,
        streams: StepStreams,
    ) -> Result<Start> {
        let record = self.step_record(&request, streams)?;
        let usual = Namespaces::usual(false);
        let (connection, shim) = self.network_and_shim(&record, usual).await?;
        let started = match shim {
            Ok(shim) => {
                self.order_step(request, streams, &record, connection.as_ref(), shim)
                    .await
            }
            Err(error) => Err(error),
        };
        let started = started.and_then(|started| match started {
            Ok(ordered) => {
                let socket = UnixStream::from_std(ordered.io);
                let socket = socket.step(|| "take over a step's output")?;
                Ok(Ok((ordered.link, ordered.child, ordered.like, socket)))
            }
            Err(end) => Ok(Err(end)),
        });
        match started {
            Ok(Ok((link, child, like, socket))) => {
                let (output, input) = socket.into_split();
                Ok(Start::Running(Box::new(Running {
                    link,
                    child,
                    output: Output::new(output, streams.tty),
                    input: Some(input),
                    dir: self.run_dir(&record.id),
                    like: Arc::new(like),
                    ends: Arc::default(),
                    connection: connection.map(|mut connection| {
                        connection.settle();
                        connection
                    }),
                    record,
                })))
            }
            Ok(Err(end)) => {
                self.clear_step(&record, connection);
                Ok(Start::Refused(end))
            }
            Err(error) => {
                self.clear_step(&record, connection);
                Err(error)
            }
        }
    }

    /// Gives a shim its order; what the program itself is refused for is an end, and no error.
    async fn order_step(
        self: &Arc<Self>,
        request: StepRequest,
        streams: StepStreams,
        record: &Record,
        connection: Option<&Connection>,
        shim: Ready,
    ) -> Result<Result<Ordered, StepEnd>> {
        let order = self.step_order(&request, streams, record, connection)?;
        let like = order.order.spec.process.clone();
        let settings = self.settings();
        let profile = settings.seccomp_profile.as_deref();
        let filter = self
            .filters
            .of(&record.host, &spec::capabilities(&record.host)?, profile)?;
        let (ours, theirs) =
            std::os::unix::net::UnixStream::pair().step(|| "make the streams of a step")?;
        ours.set_nonblocking(true)
            .step(|| "make the streams of a step")?;
        let mut roles = vec![FdRole::Attach(AttachOrder {
            stdin: streams.stdin,
            stdout: true,
            stderr: true,
        })];
        let mut fds: Vec<BorrowedFd<'_>> = vec![theirs.as_fd()];
        if let Some(netns) = connection.and_then(Connection::netns) {
            roles.push(FdRole::Netns);
            fds.push(netns);
        }
        if let Some(filter) = &filter {
            roles.push(FdRole::Seccomp);
            fds.push(OwnedFd::as_fd(filter));
        }
        let order = RunOrder {
            fds: roles,
            ..order
        };
        let Ready {
            mut control, child, ..
        } = shim;
        match control.call(&Request::Run(Box::new(order)), &fds).await {
            Ok(Reply::Started { .. }) => {
                drop(request.guard);
                Ok(Ok(Ordered {
                    link: control,
                    child,
                    io: ours,
                    like,
                }))
            }
            Ok(reply) => {
                drop(control);
                reap(child);
                Err(Error::internal(format!(
                    "start a step: unexpected answer {reply:?}"
                )))
            }
            Err(error) => {
                drop(control);
                reap(child);
                refused(&error).map(Err)
            }
        }
    }

    /// Follows a step to its end.
    pub(super) async fn follow_step(
        self: &Arc<Self>,
        mut step: Running,
        output: mpsc::Sender<StepOutput>,
        cancelled: impl Future<Output = ()>,
    ) -> Result<StepEnd> {
        let mut cancelled = std::pin::pin!(cancelled);
        let (mut exit, mut open, mut killed) = (None, true, false);
        let mut waiting = None;
        while exit.is_none() || open || waiting.is_some() {
            tokio::select! {
                biased;
                () = &mut cancelled, if !killed => {
                    killed = true;
                    // a reader that does not read must not keep it from ending
                    waiting = None;
                    let kill = Request::Kill { signal: 9, exec: None };
                    // it may have ended by itself
                    drop(ask(&step.dir, &kill).await);
                }
                permit = output.reserve(), if waiting.is_some() => {
                    // where nobody reads any more it is to end, not to wait
                    if let (Ok(permit), Some(piece)) = (permit, waiting.take()) {
                        permit.send(piece);
                    }
                }
                piece = step.output.next(), if open && waiting.is_none() => match piece {
                    Ok(Some(piece)) => waiting = Some(piece).filter(|_| !killed),
                    Ok(None) | Err(_) => open = false,
                },
                event = step.link.event(), if exit.is_none() => match event {
                    Ok(Some(Event::Exited(end))) => exit = Some(end),
                    Ok(Some(Event::ExecExited { id, code })) => step.ends.ended(&id, code),
                    Ok(Some(Event::Oom)) => {}
                    Ok(None) | Err(_) => exit = Some(self.unseen_end(&step)),
                },
            }
        }
        let end = exit.map_or((UNSEEN, false), |exit| (exit.code, exit.oom_killed));
        self.leave_step(step);
        Ok(StepEnd {
            code: end.0,
            out_of_memory: end.1,
            cancelled: killed,
            refusal: None,
        })
    }

    /// The end of a step whose shim has told nobody, by what it wrote.
    fn unseen_end(&self, step: &Running) -> Exit {
        let path = step.dir.join(shim::protocol::EXIT_NAME);
        let written = std::fs::read(path).ok();
        let written = written.and_then(|text| serde_json::from_slice(&text).ok());
        written.unwrap_or_else(|| {
            let now = jiff::Timestamp::now().to_string();
            Exit {
                code: UNSEEN,
                oom_killed: false,
                started_at: now.clone(),
                finished_at: now,
            }
        })
    }

    /// Lets go of what a step had, behind its end: its shim still has its cgroup to remove.
    fn leave_step(self: &Arc<Self>, step: Running) {
        let engine = Arc::clone(self);
        tokio::spawn(async move {
            let Running {
                mut link,
                child,
                connection,
                record,
                ends,
                ..
            } = step;
            while let Ok(Some(event)) = link.event().await {
                if let Event::ExecExited { id, code } = event {
                    ends.ended(&id, code);
                }
            }
            ends.all_ended();
            drop(link);
            reap(child);
            let cgroup = engine.cgroup(&record);
            let work = {
                let engine = Arc::clone(&engine);
                move || {
                    engine.clear_step(&record, connection);
                    remove_cgroup(&cgroup);
                    Ok(())
                }
            };
            drop(engine.blocking(work).await);
        });
    }

    /// Lets go of a step's network and its folder.
    fn clear_step(&self, record: &Record, connection: Option<Connection>) {
        if let Some(connection) = connection {
            self.networks.release(connection);
        }
        let dir = self.run_dir(&record.id);
        match std::fs::remove_dir_all(&dir) {
            Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
                tracing::warn!(dir = %dir.display(), %error, "the run folder of a step stays");
            }
            _ => {}
        }
    }
}

/// Removes the cgroup that a shim leaves which was killed.
fn remove_cgroup(path: &std::path::Path) {
    let removed = runtime::cgroup::Hierarchies::detect()
        .and_then(|hierarchies| runtime::cgroup::Cgroup::open(&hierarchies, path)?.delete());
    if let Err(error) = removed {
        tracing::debug!(path = %path.display(), error = chain(&error), "the cgroup of a step");
    }
}

/// What a shim's refusal says of the program; anything else is a failure of ours.
fn refused(error: &CallError) -> Result<StepEnd> {
    let CallError::Refused { kind, message, .. } = error else {
        return Err(refusal(error).context("start a step"));
    };
    let code = match kind {
        ErrorKind::NotFound => 127,
        ErrorKind::NotExecutable => 126,
        ErrorKind::InvalidInput | ErrorKind::NoSuchProcess | ErrorKind::Other => {
            return Err(refusal(error));
        }
    };
    Ok(StepEnd {
        code,
        out_of_memory: false,
        cancelled: false,
        refusal: Some(format!(
            "runc run failed: unable to start container process: {message}"
        )),
    })
}
