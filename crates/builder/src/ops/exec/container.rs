//! Containers that a front end or a client talks with: several processes in one, none of which is a step.
//!
//! What they write goes when they are released. What they may do goes by what the client of the build was
//! granted, as with a step (CVE-2024-23653).

use std::os::fd::{AsFd as _, OwnedFd};
use std::path::PathBuf;
use std::sync::Arc;

use engine::{LiveProcess, StepControl, StepEnd, StepGuard, StepMount, StepProcess, StepStreams};
use rustix::fs::{Mode, OFlags};
use tokio::sync::Mutex;

use super::mounts::{self, Place, Prepared};
use super::{Root, check, environment, request, secrets};
use crate::cancel::Cancel;
use crate::error::{Error, Result, Step as _};
use crate::job::Job;
use crate::llb::{Vertex, digest_of, pb};
use crate::op::OpContext;
use crate::progress::VertexProgress;
use crate::snapshot::Snapshot;

/// What a container is made of.
#[derive(Clone, Debug, Default)]
pub(crate) struct ContainerRequest {
    /// Its mounts; each names its input among `inputs`, or -1 for none.
    pub(crate) mounts: Vec<pb::Mount>,
    /// What is mounted.
    pub(crate) inputs: Vec<Snapshot>,
    /// Files beside, which exist in memory only: where, and what they hold.
    pub(crate) files: Vec<(String, Vec<u8>)>,
    /// Its network.
    pub(crate) network: i32,
    /// Its host name; empty for the usual.
    pub(crate) hostname: String,
    /// Lines for `/etc/hosts`.
    pub(crate) extra_hosts: Vec<pb::HostIp>,
}

/// A process that is wanted in a container.
#[derive(Clone, Debug, Default)]
pub(crate) struct ProcessRequest {
    /// Program, environment, folder and user.
    pub(crate) meta: pb::Meta,
    /// What it is talked with.
    pub(crate) streams: StepStreams,
    /// Which rights it has; those of the first process hold for all.
    pub(crate) security: i32,
    /// Variables whose values are secrets.
    pub(crate) secrets: Vec<pb::SecretEnv>,
}

/// A container.
pub(crate) struct Container {
    context: OpContext,
    /// What it was asked to be, without a process.
    op: pb::ExecOp,
    hosts: (String, Vec<pb::HostIp>),
    /// Everything that it has mounted; it stays until the container and its last process are gone.
    prepared: Arc<Held>,
    /// What its mounts are, for those who read their files.
    mounts: Vec<Option<OwnedFd>>,
    state: Mutex<State>,
    /// Raised when it is released.
    closed: Cancel,
}

/// Mounts that are let go where that may take a while.
struct Held(Option<Prepared>);

impl Drop for Held {
    fn drop(&mut self) {
        let Some(prepared) = self.0.take() else {
            return;
        };
        match tokio::runtime::Handle::try_current() {
            Ok(runtime) => drop(runtime.spawn_blocking(move || drop(prepared))),
            Err(_) => drop(prepared),
        }
    }
}

/// How far a container is.
enum State {
    /// Nothing runs yet.
    Ready(Root, Vec<StepMount>),
    /// Its first process was started.
    Started(StepControl),
    /// Its first process could not be started.
    Failed,
}

impl std::fmt::Debug for Container {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Container").finish_non_exhaustive()
    }
}

/// A vertex for what belongs to no graph.
fn context(job: &Arc<Job>, op: &pb::ExecOp) -> Result<OpContext> {
    use prost::Message as _;
    let op = pb::Op {
        op: Some(pb::op::Op::Exec(op.clone())),
        ..pb::Op::default()
    };
    let vertex = Vertex {
        digest: digest_of(&op.encode_to_vec()),
        op,
        inputs: Vec::new(),
        metadata: pb::OpMetadata::default(),
        name: "container".to_owned(),
        locations: Vec::new(),
    };
    Ok(OpContext {
        builder: job.builder()?,
        job: Arc::clone(job),
        vertex: Arc::new(vertex),
        progress: VertexProgress::default(),
        sessions: job.sessions.clone(),
        cancel: job.cancel.clone(),
    })
}

impl Container {
    /// Mounts everything; nothing runs yet.
    pub(crate) async fn open(job: &Arc<Job>, wanted: ContainerRequest) -> Result<Self> {
        let op = pb::ExecOp {
            meta: Some(pb::Meta::default()),
            mounts: wanted.mounts,
            network: wanted.network,
            ..pb::ExecOp::default()
        };
        let context = context(job, &op)?;
        check_mounts(&context, &op)?;
        for snapshot in &wanted.inputs {
            let ready = async { Ok(snapshot.ready().await?) };
            context.cancel.run(ready).await?;
        }
        let mut prepared = mounts::prepare(&context, &op, &wanted.inputs).await?;
        let own = |mount: &StepMount| match mount {
            StepMount::Bind { source, .. } => Some(source.clone()),
            StepMount::Tmpfs { .. } => None,
        };
        let places = prepared.places().iter().map(|place| match place {
            Place::Mount(number) => prepared.mounts.get(*number).and_then(own),
            Place::Root | Place::Absent => None,
        });
        let mounts = places.map(opened).collect::<Result<Vec<_>>>()?;
        for (place, data) in &wanted.files {
            prepared.add_file(&context, place, data, 0o400)?;
        }
        let root = prepared.root()?;
        let all = std::mem::take(&mut prepared.mounts);
        Ok(Self {
            context,
            op,
            hosts: (wanted.hostname, wanted.extra_hosts),
            prepared: Arc::new(Held(Some(prepared))),
            mounts,
            state: Mutex::new(State::Ready(root, all)),
            closed: Cancel::default(),
        })
    }

    /// Starts a process; the first one is the container's own, with which all others end.
    pub(crate) async fn start(
        &self,
        wanted: ProcessRequest,
    ) -> Result<std::result::Result<LiveProcess, StepEnd>> {
        let op = pb::ExecOp {
            security: wanted.security,
            secretenv: wanted.secrets,
            ..self.op.clone()
        };
        let meta = pb::Meta {
            hostname: self.hosts.0.clone(),
            extra_hosts: self.hosts.1.clone(),
            ..wanted.meta
        };
        check(&self.context, &op, &meta)?;
        let mut env = environment(&meta);
        if wanted.streams.tty && !env.iter().any(|variable| variable.starts_with("TERM=")) {
            env.push("TERM=xterm".to_owned());
        }
        env.extend(secrets::environment(&self.context, &op).await?);
        let mut state = self.state.lock().await;
        match std::mem::replace(&mut *state, State::Failed) {
            State::Ready(root, mounts) => {
                let request = request(&op, &meta, env, (root, mounts));
                let held = StepGuard(vec![Box::new(Arc::clone(&self.prepared))]);
                let engine = &self.context.builder.engine;
                let started = engine.open_step(request, wanted.streams, held).await?;
                if let Ok(process) = &started {
                    *state = State::Started(process.control.clone());
                }
                Ok(started)
            }
            State::Started(control) => {
                let process = StepProcess {
                    args: meta.args,
                    env,
                    cwd: meta.cwd,
                    user: meta.user,
                    streams: wanted.streams,
                };
                let started = control.exec(process).await;
                *state = State::Started(control);
                Ok(started?)
            }
            State::Failed => Err(Error::conflict("the container does not run")),
        }
    }

    /// Releases it: what runs in it is to end.
    pub(crate) fn close(&self) {
        self.closed.cancel();
    }

    /// Returns when it was released.
    pub(crate) async fn closed(&self) {
        self.closed.canceled().await;
    }

    /// What a mount holds now, for reading. It blocks.
    pub(crate) fn files(&self, mount: i32) -> Result<OwnedFd> {
        let count = self.mounts.len();
        let place = usize::try_from(mount).ok().filter(|at| *at < count);
        let Some(place) = place else {
            let why = format!("mount index {mount} is out of bounds ({count} available)");
            return Err(Error::invalid(why));
        };
        if self
            .op
            .mounts
            .get(place)
            .is_some_and(|m| m.dest == mounts::ROOT)
        {
            let gone = || Error::conflict("the container was released");
            return self.prepared.0.as_ref().ok_or_else(gone)?.root_view();
        }
        let missing = || Error::not_found(format!("mountable {mount} not found"));
        let found = self.mounts.get(place).and_then(Option::as_ref);
        let found = found.ok_or_else(missing)?;
        found.as_fd().try_clone_to_owned().step(|| "open a mount")
    }
}

/// What is wrong with the mounts, or not granted.
fn check_mounts(context: &OpContext, op: &pb::ExecOp) -> Result<()> {
    let meta = pb::Meta {
        args: vec![String::new()],
        ..pb::Meta::default()
    };
    check(context, op, &meta)
}

/// Holds what is mounted, whatever becomes of its place.
fn opened(source: Option<PathBuf>) -> Result<Option<OwnedFd>> {
    let flags = OFlags::PATH | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let open = |path: PathBuf| {
        rustix::fs::open(&path, flags, Mode::empty()).step(|| format!("open {}", path.display()))
    };
    source.map(open).transpose()
}
