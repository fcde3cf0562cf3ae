//! Steps that somebody talks with while they run: input, a terminal, signals, and further processes.

use std::collections::HashMap;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use oci::runtime::{ConsoleSize, Process, User};
use shim::{AttachOrder, CallError, ErrorKind, ExecOrder, Reply, Request};
use tokio::net::UnixStream;
use tokio::net::unix::OwnedWriteHalf;
use tokio::sync::{mpsc, oneshot};
use tokio::task::JoinHandle;

use super::output::Output;
use super::run::{Start, UNSEEN};
use super::{StepEnd, StepGuard, StepOutput, StepRequest};
use crate::engine::Engine;
use crate::error::{Error, Result, chain};
use crate::shim_link::{Link, ask, refusal};

/// Pieces of output that wait for their reader.
const WAITING: usize = 16;
/// Processes beside the first that one step has at the same time.
const MAX_PROCESSES: usize = 256;

/// What a process of a step is talked with.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct StepStreams {
    /// Whether it has an input that somebody writes to.
    pub stdin: bool,
    /// Whether it has a terminal, which has one output only.
    pub tty: bool,
}

/// A further process of a step.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct StepProcess {
    /// The program and its arguments.
    pub args: Vec<String>,
    /// The whole environment.
    pub env: Vec<String>,
    /// Where it starts.
    pub cwd: String,
    /// `user[:group]`, names or numbers; empty is root.
    pub user: String,
    /// What it is talked with.
    pub streams: StepStreams,
}

/// A process's input; it ends when this is dropped.
pub type StepInput = OwnedWriteHalf;

/// A process of a step that runs. Dropped, it is killed; a step's first takes all others along.
#[derive(Debug)]
pub struct LiveProcess {
    /// What signals and sizes are sent by.
    pub control: StepControl,
    /// Its input, if it has one.
    pub input: Option<StepInput>,
    /// Its output; where that is not taken, it waits.
    pub output: mpsc::Receiver<StepOutput>,
    /// How it ends, which is told when all of its output is.
    pub end: JoinHandle<Result<StepEnd>>,
    /// Dropped with this, it ends the process.
    _wanted: oneshot::Sender<()>,
}

/// A way to a process of a step.
#[derive(Clone, Debug)]
pub struct StepControl {
    dir: PathBuf,
    /// What further processes are like.
    like: Arc<Process>,
    ends: Arc<ProcessEnds>,
    /// The further process that is meant; the first where absent.
    exec: Option<String>,
}

/// Who waits for the ends of further processes.
#[derive(Debug, Default)]
pub(super) struct ProcessEnds(Mutex<HashMap<String, oneshot::Sender<i32>>>);

impl ProcessEnds {
    fn table(&self) -> MutexGuard<'_, HashMap<String, oneshot::Sender<i32>>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Takes note of an end.
    pub(super) fn ended(&self, id: &str, code: i32) {
        if let Some(waiting) = self.table().remove(id) {
            // who gave up needs no word
            waiting.send(code).ok();
        }
    }

    /// All of them have ended with the step.
    pub(super) fn all_ended(&self) {
        self.table().clear();
    }

    fn expect(&self, id: &str) -> Result<oneshot::Receiver<i32>> {
        let (sender, receiver) = oneshot::channel();
        let mut table = self.table();
        if table.len() >= MAX_PROCESSES {
            return Err(Error::conflict("too many processes of one step"));
        }
        table.insert(id.to_owned(), sender);
        Ok(receiver)
    }
}

impl Engine {
    /// Starts a step that somebody talks with. What is in `held` stays until the step is over.
    ///
    /// # Errors
    ///
    /// What is needed for it cannot be made. A program that cannot be started is no error but an end.
    pub async fn open_step(
        self: &Arc<Self>,
        request: StepRequest,
        streams: StepStreams,
        held: StepGuard,
    ) -> Result<Result<LiveProcess, StepEnd>> {
        let engine = Arc::clone(self);
        let (wanted, unwanted) = oneshot::channel::<()>();
        let (sender, output) = mpsc::channel(WAITING);
        let (told, started) = oneshot::channel();
        // a start that is given up half way still has to be undone
        let end = tokio::spawn(async move {
            let mut step = match engine.start_step(request, streams).await {
                Ok(Start::Running(step)) => step,
                Ok(Start::Refused(end)) => {
                    drop(told.send(Ok(Err(end.clone()))));
                    release(&engine, held).await;
                    return Ok(end);
                }
                Err(error) => {
                    drop(told.send(Err(error)));
                    release(&engine, held).await;
                    return Err(Error::internal("a step was not started"));
                }
            };
            let control = StepControl {
                dir: step.dir.clone(),
                like: Arc::clone(&step.like),
                ends: Arc::clone(&step.ends),
                exec: None,
            };
            let input = step.input.take_if(|_| streams.stdin);
            drop(told.send(Ok(Ok((control, input)))));
            let cancelled = async {
                drop(unwanted.await);
            };
            let end = engine.follow_step(*step, sender, cancelled).await;
            release(&engine, held).await;
            end
        });
        let started = started.await;
        let started = started.map_err(|_| Error::internal("a step broke off"))??;
        Ok(started.map(|(control, input)| LiveProcess {
            control,
            input,
            output,
            end,
            _wanted: wanted,
        }))
    }
}

/// Lets go of what a step held, which may take a while.
async fn release(engine: &Arc<Engine>, held: StepGuard) {
    let dropped = engine.blocking(move || {
        drop(held);
        Ok(())
    });
    drop(dropped.await);
}

impl StepControl {
    /// Sends a signal.
    ///
    /// # Errors
    ///
    /// The process has ended, or the number is none of a signal.
    pub async fn kill(&self, signal: i32) -> Result<()> {
        let exec = self.exec.clone();
        ask(&self.dir, &Request::Kill { signal, exec }).await?;
        Ok(())
    }

    /// Sets the size of the terminal.
    ///
    /// # Errors
    ///
    /// The process has ended, or has no terminal.
    pub async fn resize(&self, height: u16, width: u16) -> Result<()> {
        let request = Request::Resize {
            exec: self.exec.clone(),
            height,
            width,
        };
        ask(&self.dir, &request).await?;
        Ok(())
    }

    /// Starts a further process in the step.
    ///
    /// # Errors
    ///
    /// The step has ended. A program that cannot be started is no error but an end.
    pub async fn exec(&self, process: StepProcess) -> Result<Result<LiveProcess, StepEnd>> {
        let id = crate::names::draw_id()?.as_str().to_owned();
        let code = self.ends.expect(&id)?;
        let streams = process.streams;
        let order = ExecOrder {
            id: id.clone(),
            process: self.further(process),
            streams: AttachOrder {
                stdin: streams.stdin,
                stdout: true,
                stderr: true,
            },
        };
        let stream = match start_exec(&self.dir, order).await {
            Ok(Ok(stream)) => stream,
            refused => {
                self.ends.table().remove(&id);
                return refused.map(|refused| match refused {
                    Err(end) => Err(end),
                    Ok(_) => Err(unseen()),
                });
            }
        };
        let control = Self {
            exec: Some(id),
            ..self.clone()
        };
        let (read, write) = stream.into_split();
        let (wanted, unwanted) = oneshot::channel::<()>();
        let (sender, output) = mpsc::channel(WAITING);
        let (input, kept) = match streams.stdin {
            true => (Some(write), None),
            false => (None, Some(write)),
        };
        let following = control.clone();
        let end = tokio::spawn(async move {
            let end = following
                .follow(Output::new(read, streams.tty), sender, code, unwanted)
                .await;
            drop(kept);
            Ok(end)
        });
        Ok(Ok(LiveProcess {
            control,
            input,
            output,
            end,
            _wanted: wanted,
        }))
    }

    /// A further process with the rights of the first.
    fn further(&self, process: StepProcess) -> Process {
        Process {
            terminal: process.streams.tty,
            console_size: None::<ConsoleSize>,
            user: User {
                username: Some(process.user),
                ..self.like.user.clone()
            },
            args: process.args,
            env: process.env,
            cwd: if process.cwd.is_empty() {
                "/".to_owned()
            } else {
                process.cwd
            },
            ..Process::clone(&self.like)
        }
    }

    /// Follows a further process to its end.
    async fn follow(
        &self,
        mut from: Output,
        output: mpsc::Sender<StepOutput>,
        mut code: oneshot::Receiver<i32>,
        mut unwanted: oneshot::Receiver<()>,
    ) -> StepEnd {
        let (mut waiting, mut open, mut exit, mut killed) = (None, true, None, false);
        while exit.is_none() || open || waiting.is_some() {
            tokio::select! {
                biased;
                _ = &mut unwanted, if !killed => {
                    killed = true;
                    waiting = None;
                    // it may have ended by itself
                    drop(self.kill(9).await);
                }
                permit = output.reserve(), if waiting.is_some() => {
                    if let (Ok(permit), Some(piece)) = (permit, waiting.take()) {
                        permit.send(piece);
                    }
                }
                piece = from.next(), if open && waiting.is_none() => match piece {
                    Ok(piece) => {
                        open = piece.is_some();
                        waiting = piece.filter(|_| !killed);
                    }
                    Err(_) => open = false,
                },
                ended = &mut code, if exit.is_none() => exit = Some(ended.unwrap_or(UNSEEN)),
            }
        }
        StepEnd {
            code: exit.unwrap_or(UNSEEN),
            cancelled: killed,
            ..unseen()
        }
    }
}

/// The end of a process that nobody saw.
fn unseen() -> StepEnd {
    StepEnd {
        code: UNSEEN,
        out_of_memory: false,
        cancelled: false,
        refusal: None,
    }
}

/// Has a shim start a process; what the program is refused for is an end.
async fn start_exec(
    dir: &std::path::Path,
    order: ExecOrder,
) -> Result<Result<UnixStream, StepEnd>> {
    let mut link = Link::connect(dir)?;
    let code = match link.call(&Request::Exec(Box::new(order)), &[]).await {
        Ok(Reply::Exec { .. }) => return Ok(Ok(link.into_stream())),
        Ok(reply) => {
            let why = format!("start a process of a step: unexpected answer {reply:?}");
            return Err(Error::internal(why));
        }
        Err(error) => match &error {
            CallError::Refused { kind, .. } => match kind {
                ErrorKind::NotFound => (127, error),
                ErrorKind::NotExecutable => (126, error),
                ErrorKind::InvalidInput | ErrorKind::NoSuchProcess | ErrorKind::Other => {
                    return Err(refusal(&error));
                }
            },
            CallError::Frame(_) | CallError::Closed => return Err(refusal(&error)),
        },
    };
    let (code, error) = code;
    Ok(Err(StepEnd {
        code,
        refusal: Some(format!(
            "exec failed: unable to start container process: {}",
            chain(&error)
        )),
        ..unseen()
    }))
}
