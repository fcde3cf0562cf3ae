//! The mounts of a process: its root, its inputs, caches, memory, secrets and agents.

use std::os::fd::AsFd as _;

use engine::{StepGuard, StepMount};

use super::stubs::Stubs;
use super::{Root, bind, secrets};
use crate::error::{Error, Result};
use crate::llb::pb;
use crate::op::OpContext;
use crate::ops::cache_mount::{CacheMount, Sharing};
use crate::ops::copy::clean;
use crate::ops::stage::{Stage, open_folder};
use crate::session::SshSocket;
use crate::snapshot::{LayerFacts, Snapshot, Snapshots, Writable};

/// Where the root is mounted.
pub(super) const ROOT: &str = "/";

/// Everything that a process has mounted.
pub(super) struct Prepared {
    pub(super) mounts: Vec<StepMount>,
    root: Writable,
    root_readonly: bool,
    /// What becomes of each output.
    outputs: Vec<(usize, Output)>,
    /// Where each mount of the operation is found.
    places: Vec<Place>,
    stage: Option<Stage>,
    /// Given back at the end.
    _caches: Vec<CacheMount>,
    _agents: Vec<SshSocket>,
    /// Folders whose changes nobody keeps; they go at the end.
    scratch: Vec<Writable>,
}

/// Where a mount of an operation is found.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Place {
    /// It is the root.
    Root,
    /// It has this number among the mounts beside the root.
    Mount(usize),
    /// It may be missing, and is.
    Absent,
}

/// What becomes of an output.
enum Output {
    /// The root as the process left it.
    Root,
    /// A folder as the process left it.
    Written(Box<Writable>),
    /// What was mounted, which could not be written.
    Same(Snapshot),
}

/// Makes all mounts.
pub(super) async fn prepare(
    context: &OpContext,
    op: &pb::ExecOp,
    inputs: &[Snapshot],
) -> Result<Prepared> {
    let snapshots = context.builder.snapshots.clone();
    let found = op.mounts.iter().find(|mount| mount.dest == ROOT);
    let root = found.ok_or_else(|| Error::invalid("exec op without a mount of the root"))?;
    if root.mount_type() != pb::MountType::Bind {
        return Err(Error::invalid("the root of an exec op has to be an input"));
    }
    let below = crate::ops::input(inputs, root.input)?;
    let writable = writable(&snapshots, &below).await?;
    let mut outputs = Vec::new();
    if let Ok(index) = usize::try_from(root.output) {
        let output = if root.readonly {
            Output::Same(below)
        } else {
            Output::Root
        };
        outputs.push((index, output));
    }
    let mut prepared = Prepared {
        mounts: Vec::new(),
        root: writable,
        root_readonly: root.readonly,
        outputs,
        places: Vec::with_capacity(op.mounts.len()),
        stage: None,
        _caches: Vec::new(),
        _agents: Vec::new(),
        scratch: Vec::new(),
    };
    for mount in &op.mounts {
        if mount.dest == ROOT {
            prepared.places.push(Place::Root);
            continue;
        }
        let before = prepared.mounts.len();
        prepared.add(context, mount, inputs).await?;
        let place = match prepared.mounts.len() > before {
            true => Place::Mount(before),
            false => Place::Absent,
        };
        prepared.places.push(place);
    }
    Ok(prepared)
}

/// A writable folder on a snapshot; one of a client is copied first, for its files are no layer.
async fn writable(snapshots: &Snapshots, below: &Snapshot) -> Result<Writable> {
    let (snapshots, below) = (snapshots.clone(), below.clone());
    crate::ops::blocking(move || {
        let below = crate::ops::as_layers(&snapshots, &below)?;
        Ok(snapshots.prepare(&below)?)
    })
    .await
}

impl Prepared {
    async fn add(
        &mut self,
        context: &OpContext,
        mount: &pb::Mount,
        inputs: &[Snapshot],
    ) -> Result<()> {
        match mount.mount_type() {
            pb::MountType::Bind => self.add_input(context, mount, inputs).await,
            pb::MountType::Cache => self.add_cache(context, mount, inputs).await,
            pb::MountType::Tmpfs => {
                self.mounts.push(StepMount::Tmpfs {
                    destination: clean_place(&mount.dest),
                    size: mount.tmpfs_opt.map_or(0, |options| options.size),
                });
                Ok(())
            }
            pb::MountType::Secret => self.add_secret(context, mount).await,
            pb::MountType::Ssh => self.add_agent(context, mount).await,
        }
    }

    fn stage(&mut self, context: &OpContext) -> Result<&mut Stage> {
        if self.stage.is_none() {
            self.stage = Some(Stage::new(&context.builder.engine.steps_folder())?);
        }
        let missing = || Error::internal("a step has no place for its mounts");
        self.stage.as_mut().ok_or_else(missing)
    }

    /// Mounts a file that exists in memory only.
    pub(super) fn add_file(
        &mut self,
        context: &OpContext,
        place: &str,
        data: &[u8],
        mode: u32,
    ) -> Result<()> {
        let source = self.stage(context)?.file(data, (0, 0), mode)?;
        self.mounts.push(bind(source, &clean_place(place), true));
        Ok(())
    }

    /// Where each mount of the operation is found.
    pub(super) fn places(&self) -> &[Place] {
        &self.places
    }

    /// The root's folders as they are for reading: what was written, and what lies below.
    pub(super) fn root_view(&self) -> Result<std::os::fd::OwnedFd> {
        let lowers = self.root.lowers()?;
        let mut paths = vec![self.root.upper()];
        paths.extend(lowers.paths.iter().cloned());
        storage::overlay::mount_view(&paths)
            .map_err(|error| Error::system("open the root of a container", &error))
    }

    /// Mounts an input, or an empty file system.
    async fn add_input(
        &mut self,
        context: &OpContext,
        mount: &pb::Mount,
        inputs: &[Snapshot],
    ) -> Result<()> {
        let snapshot = crate::ops::input(inputs, mount.input)?;
        let place = clean_place(&mount.dest);
        let missing = selector_error(&mount.selector);
        if mount.readonly {
            let stage = self.stage(context)?;
            let source = stage_snapshot(stage, &snapshot, &mount.selector).map_err(missing)?;
            self.mounts.push(bind(source, &place, true));
            if let Ok(index) = usize::try_from(mount.output) {
                self.outputs.push((index, Output::Same(snapshot)));
            }
            return Ok(());
        }
        let writable = writable(&context.builder.snapshots, &snapshot).await?;
        let mounted = writable.open()?;
        let stage = self.stage(context)?;
        let top = stage.attach(mounted.as_fd())?;
        let source = below(stage, &top, &mount.selector).map_err(missing)?;
        self.mounts.push(bind(source, &place, false));
        match usize::try_from(mount.output) {
            Ok(index) => self
                .outputs
                .push((index, Output::Written(Box::new(writable)))),
            Err(_) => self.scratch.push(writable),
        }
        Ok(())
    }

    async fn add_cache(
        &mut self,
        context: &OpContext,
        mount: &pb::Mount,
        inputs: &[Snapshot],
    ) -> Result<()> {
        let options = mount.cache_opt.clone().unwrap_or_default();
        let base = crate::ops::input(inputs, mount.input)?;
        let sharing = match options.sharing() {
            pb::CacheSharingOpt::Shared => Sharing::Shared,
            pb::CacheSharingOpt::Private => Sharing::Private,
            pb::CacheSharingOpt::Locked => Sharing::Locked,
        };
        let taken = context
            .builder
            .cache_mounts
            .take(&options.id, &base, sharing);
        let cache = context.cancel.run(taken).await?;
        let data = cache.data();
        let stage = self.stage(context)?;
        let missing = selector_error(&mount.selector);
        let root =
            open_folder(&data).map_err(|error| Error::system("open a cache mount", &error))?;
        let selector = clean(&mount.selector);
        // another step may be changing what is in it right now: all goes by descriptors
        let source = stage
            .attach_below(root.as_fd(), &selector)
            .map_err(missing)?;
        self.mounts
            .push(bind(source, &clean_place(&mount.dest), mount.readonly));
        self._caches.push(cache);
        Ok(())
    }

    async fn add_secret(&mut self, context: &OpContext, mount: &pb::Mount) -> Result<()> {
        let options = mount.secret_opt.clone().unwrap_or_default();
        let data = secrets::secret(context, &options.id, options.optional).await?;
        let Some(data) = data else { return Ok(()) };
        let stage = self.stage(context)?;
        let source = stage.file(&data, (options.uid, options.gid), options.mode)?;
        self.mounts
            .push(bind(source, &clean_place(&mount.dest), true));
        Ok(())
    }

    async fn add_agent(&mut self, context: &OpContext, mount: &pb::Mount) -> Result<()> {
        let options = mount.ssh_opt.clone().unwrap_or_default();
        let place = self.stage(context)?.name();
        let Some(socket) = secrets::agent(context, &options, place).await? else {
            return Ok(());
        };
        let source = socket.path().to_owned();
        self.mounts
            .push(bind(source, &clean_place(&mount.dest), false));
        self._agents.push(socket);
        Ok(())
    }

    /// Looks which places of mounts are not there yet.
    pub(super) async fn stubs(&self, recursive: bool) -> Result<Stubs> {
        let mut places = vec!["/etc/resolv.conf".to_owned(), "/etc/hosts".to_owned()];
        places.extend(self.mounts.iter().map(|mount| match mount {
            StepMount::Bind { destination, .. } | StepMount::Tmpfs { destination, .. } => {
                destination.clone()
            }
        }));
        let (parent, upper) = (self.root.parent().clone(), self.root.upper());
        crate::ops::blocking(move || {
            let root = parent.open()?;
            Ok(Stubs::look(root.as_fd(), upper, &places, recursive))
        })
        .await
    }

    /// The root, and what has to stay until all is mounted.
    pub(super) fn root(&mut self) -> Result<Root> {
        let lowers = self.root.lowers()?;
        let paths = lowers.paths.clone();
        let own_devices = self
            .root
            .parent()
            .layers()
            .iter()
            .any(|layer| layer.is_own_device());
        let mut guard = StepGuard::default();
        guard.0.push(Box::new(lowers));
        if let Some(stage) = self.stage.take() {
            guard.0.push(Box::new(stage));
        }
        Ok(Root {
            lowers: paths,
            own_devices,
            upper: self.root.upper(),
            work: self.root.work(),
            readonly: self.root_readonly,
            guard,
        })
    }

    /// Makes the outputs of what was written.
    pub(super) async fn outputs(self, name: &str) -> Result<Vec<Snapshot>> {
        let facts = LayerFacts::new(name);
        let Self {
            root,
            mut outputs,
            scratch,
            ..
        } = self;
        outputs.sort_by_key(|(index, _)| *index);
        crate::ops::blocking(move || {
            let mut root = Some(root);
            let mut made = Vec::with_capacity(outputs.len());
            for (index, output) in outputs {
                if index != made.len() {
                    return Err(Error::invalid(format!(
                        "exec op without output {}",
                        made.len()
                    )));
                }
                made.push(match output {
                    Output::Root => match root.take() {
                        Some(root) => root.commit(facts.clone())?,
                        None => return Err(Error::invalid("exec op with two roots")),
                    },
                    Output::Written(writable) => writable.commit(facts.clone())?,
                    Output::Same(snapshot) => snapshot,
                });
            }
            drop(scratch);
            Ok(made)
        })
        .await
    }
}

/// A mount's place: absolute, with nothing that leads upwards.
fn clean_place(place: &str) -> String {
    clean(place).trim_end_matches(['/', '.']).to_owned()
}

fn selector_error(selector: &str) -> impl FnOnce(std::io::Error) -> Error {
    let selector = selector.to_owned();
    move |error| {
        let text = Error::system(
            format!(
                "failed to calculate checksum of ref: {}",
                crate::ops::go::quote(&selector)
            ),
            &error,
        );
        match error.kind() {
            std::io::ErrorKind::NotFound => {
                Error::not_found(format!("{}: not found", crate::ops::go::quote(&selector)))
            }
            _ => text,
        }
    }
}

/// Attaches a snapshot, or a path in it, for reading.
fn stage_snapshot(
    stage: &mut Stage,
    snapshot: &Snapshot,
    selector: &str,
) -> std::io::Result<std::path::PathBuf> {
    let other = |error: &dyn std::error::Error| std::io::Error::other(error.to_string());
    if let Some(folder) = snapshot.folder() {
        let root = open_folder(folder)?;
        return stage.attach_below(root.as_fd(), &clean(selector));
    }
    let view = storage_view(snapshot).map_err(|error| other(&error))?;
    let top = stage.attach(view.as_fd()).map_err(|error| other(&error))?;
    below(stage, &top, selector)
}

/// A view that is a mount of its own, so that it can be attached.
fn storage_view(snapshot: &Snapshot) -> Result<std::os::fd::OwnedFd> {
    Ok(snapshot.open_mount()?)
}

/// What is at a path in something that is attached.
fn below(
    stage: &mut Stage,
    top: &std::path::Path,
    selector: &str,
) -> std::io::Result<std::path::PathBuf> {
    let selector = clean(selector);
    if selector == "/" {
        return Ok(top.to_owned());
    }
    let root = open_folder(top)?;
    stage.attach_below(root.as_fd(), &selector)
}
