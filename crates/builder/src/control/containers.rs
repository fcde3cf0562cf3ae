//! Containers of front ends, and the talk with their processes.

use std::collections::HashMap;
use std::sync::Arc;

use bollard_buildkit_proto::google::rpc;
use bollard_buildkit_proto::moby::buildkit::v1::frontend::exec_message::Input;
use bollard_buildkit_proto::moby::buildkit::v1::frontend::{
    DoneMessage, ExecMessage, ExitMessage, FdMessage, InitMessage, NewContainerRequest,
    StartedMessage,
};
use engine::{LiveProcess, StepControl, StepEnd, StepInput, StepStream, StepStreams};
use futures_util::Stream;
use tokio::io::AsyncWriteExt as _;
use tokio::sync::mpsc;
use tokio::task::JoinSet;
use tokio_stream::wrappers::ReceiverStream;
use tonic::{Code, Status, Streaming};

use super::bridge::Bridge;
use super::status::failure;
use crate::error::{Error, Result};
use crate::llb::pb;
use crate::ops::exec::container::{Container, ContainerRequest, ProcessRequest};

/// Messages that wait for the front end.
const WAITING: usize = 64;
/// Pieces of input that wait for a process.
const INPUT: usize = 64;
/// Mounts of one container.
const MAX_MOUNTS: usize = 1000;
/// Processes of one call.
const MAX_PROCESSES: usize = 256;

/// Makes a container out of results.
pub(super) async fn open(bridge: &Arc<Bridge>, request: NewContainerRequest) -> Result<()> {
    let id = request.container_id.clone();
    bridge.reserve_container(&id)?;
    let name = NameGuard {
        bridge: Arc::clone(bridge),
        id,
    };
    let made = make(bridge, request).await?;
    name.give(made);
    Ok(())
}

/// The name of a container that is being made; dropped, it is free again.
struct NameGuard {
    bridge: Arc<Bridge>,
    id: String,
}

impl NameGuard {
    fn give(mut self, made: Container) {
        let id = std::mem::take(&mut self.id);
        self.bridge.set_container(&id, Some(made));
    }
}

impl Drop for NameGuard {
    fn drop(&mut self) {
        if !self.id.is_empty() {
            self.bridge.set_container(&self.id, None);
        }
    }
}

async fn make(bridge: &Arc<Bridge>, request: NewContainerRequest) -> Result<Container> {
    if request.container_id.is_empty() {
        return Err(Error::invalid("ContainerID required"));
    }
    if request.mounts.len() > MAX_MOUNTS {
        return Err(Error::invalid("too many mounts of one container"));
    }
    let mut wanted = ContainerRequest {
        network: request.network,
        hostname: request.hostname,
        extra_hosts: request.extra_hosts,
        ..ContainerRequest::default()
    };
    for mount in request.mounts {
        let mut input = -1;
        if !mount.result_id.is_empty() {
            let found = bridge.find(&mount.result_id).map_err(|error| {
                let (id, place) = (&mount.result_id, &mount.dest);
                error.context(format!("failed to find ref {id} for {place:?} mount"))
            })?;
            if let Some(found) = found {
                input = i64::try_from(wanted.inputs.len()).unwrap_or(-1);
                wanted.inputs.push(found.snapshot().await?);
            }
        }
        wanted.mounts.push(pb::Mount {
            input,
            output: -1,
            result_id: String::new(),
            ..mount
        });
    }
    Container::open(&bridge.job, wanted).await
}

/// Where messages to the front end go.
type Outgoing = mpsc::Sender<std::result::Result<ExecMessage, Status>>;

/// Runs the processes that a front end asks for, until it asks for no more and all have ended.
pub(super) fn talk(
    bridge: Arc<Bridge>,
    incoming: Streaming<ExecMessage>,
) -> impl Stream<Item = std::result::Result<ExecMessage, Status>> + Send {
    let (sender, messages) = mpsc::channel(WAITING);
    tokio::spawn(async move {
        let (closed, over) = (bridge.closed.clone(), bridge.job.cancel.clone());
        let mut talk = Talk {
            bridge,
            sender: sender.clone(),
            known: HashMap::new(),
            tasks: JoinSet::new(),
        };
        // whatever ends first, what is left of the processes is killed with `talk`
        tokio::select! {
            () = closed.canceled() => {}
            () = over.canceled() => {}
            () = sender.closed() => {}
            done = talk.run(incoming) => if let Err(error) = done {
                drop(sender.send(Err(error)).await);
            },
        }
    });
    ReceiverStream::new(messages)
}

/// One call for processes.
struct Talk {
    bridge: Arc<Bridge>,
    sender: Outgoing,
    known: HashMap<String, Known>,
    tasks: JoinSet<()>,
}

/// A process that was asked for.
struct Known {
    control: StepControl,
    input: Option<mpsc::Sender<Vec<u8>>>,
}

impl Talk {
    async fn run(
        &mut self,
        mut incoming: Streaming<ExecMessage>,
    ) -> std::result::Result<(), Status> {
        while let Some(message) = incoming.message().await? {
            self.take(message).await?;
            while self.tasks.try_join_next().is_some() {}
        }
        // nobody can write to them any more
        self.known.clear();
        while self.tasks.join_next().await.is_some() {}
        Ok(())
    }

    async fn take(&mut self, message: ExecMessage) -> std::result::Result<(), Status> {
        let id = message.process_id;
        if id.is_empty() {
            return Err(Status::invalid_argument("ProcessID required"));
        }
        let known = self.known.get_mut(&id);
        let missing = || Status::not_found(format!("IO for process {id:?} not found"));
        match message.input {
            Some(Input::Init(_)) if known.is_some() => Err(Status::already_exists(format!(
                "Process {id} already exists"
            ))),
            Some(Input::Init(init)) => self.start(id, init).await,
            Some(Input::File(file)) => write(known.ok_or_else(missing)?, file).await,
            Some(Input::Resize(size)) => {
                let cells = |n: u32| u16::try_from(n).unwrap_or(u16::MAX);
                let control = &known.ok_or_else(missing)?.control;
                // one that has ended, or has no terminal, has no size
                drop(control.resize(cells(size.rows), cells(size.cols)).await);
                Ok(())
            }
            Some(Input::Signal(signal)) => {
                let control = &known.ok_or_else(missing)?.control;
                let unknown =
                    |_| Status::invalid_argument(format!("Unknown signal {}", signal.name));
                let number = engine::signal_number(&signal.name).map_err(unknown)?;
                // it may have ended
                drop(control.kill(number).await);
                Ok(())
            }
            Some(Input::Started(_) | Input::Exit(_) | Input::Done(_)) | None => Ok(()),
        }
    }

    async fn start(&mut self, id: String, init: InitMessage) -> std::result::Result<(), Status> {
        if self.known.len() >= MAX_PROCESSES {
            return Err(Status::resource_exhausted("too many processes of one call"));
        }
        let container = self.bridge.container(&init.container_id).map_err(|_| {
            let id = &init.container_id;
            Status::not_found(format!(
                "container {id:?} previously released or not created"
            ))
        })?;
        let fds = init.fds;
        let started = container.start(ProcessRequest {
            meta: init.meta.unwrap_or_default(),
            streams: StepStreams {
                stdin: fds.contains(&0),
                tty: init.tty,
            },
            security: init.security,
            secrets: init.secretenv,
        });
        let cancel = &self.bridge.job.cancel;
        let started = cancel.run(started).await.map_err(|error| failure(&error))?;
        let teller = Teller {
            id: id.clone(),
            sender: self.sender.clone(),
            fds,
        };
        match started {
            Ok(mut process) => {
                let input = process.input.take().map(|input| {
                    let (sender, pieces) = mpsc::channel(INPUT);
                    self.tasks.spawn(feed(input, pieces));
                    sender
                });
                let control = process.control.clone();
                self.known.insert(id, Known { control, input });
                self.tasks.spawn(teller.follow(container, process));
            }
            Err(end) => {
                self.tasks
                    .spawn(async move { teller.refused(end).await.unwrap_or_default() });
            }
        }
        Ok(())
    }
}

/// Hands on what a front end writes to a process.
async fn write(known: &mut Known, file: FdMessage) -> std::result::Result<(), Status> {
    let input = known.input.as_ref().filter(|_| file.fd == 0);
    let Some(input) = input else {
        let why = format!("fd {} unavailable to write", file.fd);
        return Err(Status::out_of_range(why));
    };
    if !file.data.is_empty() {
        // a process that does not read any more misses nothing
        drop(input.send(file.data).await);
    }
    if file.eof {
        known.input = None;
    }
    Ok(())
}

/// Writes to a process until there is no more, or it takes no more.
async fn feed(mut input: StepInput, mut pieces: mpsc::Receiver<Vec<u8>>) {
    while let Some(piece) = pieces.recv().await {
        if input.write_all(&piece).await.is_err() {
            return;
        }
    }
}

/// Tells a front end of one process.
struct Teller {
    id: String,
    sender: Outgoing,
    /// The outputs that it wants.
    fds: Vec<u32>,
}

impl Teller {
    /// Tells something, if there is still somebody to tell.
    async fn tell(&self, input: Input) -> Option<()> {
        let message = ExecMessage {
            process_id: self.id.clone(),
            input: Some(input),
        };
        self.sender.send(Ok(message)).await.ok()
    }

    /// Tells of a process from its start to its end.
    async fn follow(self, container: Arc<Container>, process: LiveProcess) {
        tokio::select! {
            () = container.closed() => {
                // killed with `process`, which is dropped
                let end = StepEnd { code: 137, out_of_memory: false, cancelled: true, refusal: None };
                self.over(&end).await.unwrap_or_default();
            }
            _ = self.told(process) => {}
        }
    }

    async fn told(&self, mut process: LiveProcess) -> Option<()> {
        self.tell(Input::Started(StartedMessage {})).await?;
        while let Some(piece) = process.output.recv().await {
            let fd = match piece.stream {
                StepStream::Stdout => 1,
                StepStream::Stderr => 2,
            };
            if self.fds.contains(&fd) {
                let (eof, data) = (false, piece.bytes);
                self.tell(Input::File(FdMessage { fd, eof, data })).await?;
            }
        }
        let end = (&mut process.end).await;
        let end = end
            .ok()
            .and_then(std::result::Result::ok)
            .unwrap_or(StepEnd {
                code: 137,
                out_of_memory: false,
                cancelled: false,
                refusal: None,
            });
        self.over(&end).await
    }

    /// Tells of a process that could not be started.
    async fn refused(self, end: StepEnd) -> Option<()> {
        self.tell(Input::Started(StartedMessage {})).await?;
        self.over(&end).await
    }

    /// Tells that a process is over.
    async fn over(&self, end: &StepEnd) -> Option<()> {
        for fd in self.fds.iter().copied().filter(|fd| *fd != 0) {
            let (eof, data) = (true, Vec::new());
            self.tell(Input::File(FdMessage { fd, eof, data })).await?;
        }
        self.tell(Input::Exit(exit(end))).await?;
        self.tell(Input::Done(DoneMessage {})).await
    }
}

/// How a process ended, as a front end learns it.
fn exit(end: &StepEnd) -> ExitMessage {
    let code = u32::try_from(end.code).unwrap_or(255);
    let error = (code != 0 || end.refusal.is_some()).then(|| {
        let (kind, message) = match &end.refusal {
            Some(refusal) => (Code::Unknown, refusal.clone()),
            None if end.cancelled => (Code::Cancelled, "context canceled".to_owned()),
            None => (Code::Unknown, format!("exit code: {code}")),
        };
        rpc::Status {
            code: kind.into(),
            message,
            details: Vec::new(),
        }
    });
    ExitMessage { code, error }
}
