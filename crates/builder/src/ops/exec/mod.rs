//! Processes: the steps that run programs.

pub(crate) mod container;
mod key;
mod mounts;
mod secrets;
mod stubs;

use std::sync::Arc;

use api::host_config::Ulimit;
use engine::{StepEnd, StepMount, StepNetwork, StepOutput, StepRequest, StepStream};
use tokio::sync::mpsc;

pub(super) use key::cache_map;

use crate::error::{Error, Result};
use crate::llb::pb;
use crate::op::OpContext;
use crate::snapshot::Snapshot;

/// The host name of steps that name none, as BuildKit's is.
const HOSTNAME: &str = "buildkitsandbox";
/// The search path of steps that have none.
const PATH: &str = "PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";
/// Pieces of output that wait for their reader.
const WAITING: usize = 16;

/// Runs a process; one snapshot for each output.
pub(super) async fn run(
    context: &OpContext,
    op: &pb::ExecOp,
    inputs: &[Snapshot],
) -> Result<Vec<Snapshot>> {
    let meta = op
        .meta
        .as_ref()
        .ok_or_else(|| Error::invalid("exec op without meta"))?;
    check(context, op, meta)?;
    for snapshot in inputs {
        context
            .cancel
            .run(async { Ok(snapshot.ready().await?) })
            .await?;
    }
    let mut prepared = mounts::prepare(context, op, inputs).await?;
    let mut env = environment(meta);
    env.extend(secrets::environment(context, op).await?);
    let stubs = prepared.stubs(meta.remove_mount_stubs_recursive).await?;
    let (root, mounts) = (prepared.root()?, std::mem::take(&mut prepared.mounts));
    let request = request(op, meta, env, (root, mounts));
    let end = run_step(context, request).await?;
    let prepared = super::blocking(move || {
        stubs.remove()?;
        Ok(prepared)
    })
    .await?;
    judge(meta, &end, context)?;
    prepared.outputs(&context.vertex.name).await
}

/// Checks what an operation asks for against what its client was granted.
fn check(context: &OpContext, op: &pb::ExecOp, meta: &pb::Meta) -> Result<()> {
    let granted = &context.job.entitlements;
    let refuse = |what: &str| Err(Error::forbidden(format!("{what} is not allowed")));
    if op.network() == pb::NetMode::Host && !granted.network_host {
        return refuse("network.host");
    }
    if op.security() == pb::SecurityMode::Insecure && !granted.insecure {
        return refuse("security.insecure");
    }
    if let Some(device) = op.cdi_devices.iter().find(|device| !device.optional) {
        return Err(Error::not_implemented(format!(
            "CDI device {:?} is requested by the build, and CDI devices are not supported",
            device.name
        )));
    }
    if meta.args.is_empty() {
        return Err(Error::invalid("exec op without arguments"));
    }
    if !op.mounts.iter().any(|mount| mount.dest == mounts::ROOT) {
        return Err(Error::invalid("exec op without a mount of the root"));
    }
    Ok(())
}

/// The environment that the operation's definition gives.
fn environment(meta: &pb::Meta) -> Vec<String> {
    let mut env = meta.env.clone();
    if !env.iter().any(|variable| variable.starts_with("PATH=")) {
        env.insert(0, PATH.to_owned());
    }
    if let Some(proxy) = &meta.proxy_env {
        for (name, value) in [
            ("HTTP_PROXY", &proxy.http_proxy),
            ("HTTPS_PROXY", &proxy.https_proxy),
            ("FTP_PROXY", &proxy.ftp_proxy),
            ("NO_PROXY", &proxy.no_proxy),
            ("ALL_PROXY", &proxy.all_proxy),
        ] {
            if !value.is_empty() {
                env.push(format!("{name}={value}"));
                env.push(format!("{}={value}", name.to_ascii_lowercase()));
            }
        }
    }
    env
}

fn request(
    op: &pb::ExecOp,
    meta: &pb::Meta,
    env: Vec<String>,
    (root, mounts): (Root, Vec<StepMount>),
) -> StepRequest {
    let text = |given: &str, default: &str| {
        if given.is_empty() {
            default.to_owned()
        } else {
            given.to_owned()
        }
    };
    StepRequest {
        args: meta.args.clone(),
        env,
        cwd: text(&meta.cwd, "/"),
        user: meta.user.clone(),
        hostname: text(&meta.hostname, HOSTNAME),
        lowers: root.lowers,
        own_devices: root.own_devices,
        upper: root.upper,
        work: root.work,
        readonly_root: root.readonly,
        mounts,
        network: match op.network() {
            pb::NetMode::Unset => StepNetwork::Sandbox,
            pb::NetMode::Host => StepNetwork::Host,
            pb::NetMode::None => StepNetwork::None,
        },
        insecure: op.security() == pb::SecurityMode::Insecure,
        extra_hosts: meta
            .extra_hosts
            .iter()
            .map(|entry| format!("{}:{}", entry.host, entry.ip))
            .collect(),
        ulimits: meta
            .ulimit
            .iter()
            .map(|limit| Ulimit {
                name: limit.name.clone(),
                soft: limit.soft,
                hard: limit.hard,
            })
            .collect(),
        cgroup_parent: meta.cgroup_parent.clone(),
        shm_size: 0,
        guard: root.guard,
    }
}

async fn run_step(context: &OpContext, request: StepRequest) -> Result<StepEnd> {
    let (sender, mut pieces) = mpsc::channel::<StepOutput>(WAITING);
    let cancel = context.cancel.clone();
    let wanted = async move { cancel.canceled().await };
    let step = context.builder.engine.run_step(request, sender, wanted);
    let tell = async {
        while let Some(piece) = pieces.recv().await {
            let stream = match piece.stream {
                StepStream::Stdout => 1,
                StepStream::Stderr => 2,
            };
            context.progress.log(stream, &piece.bytes);
        }
    };
    let (end, ()) = tokio::join!(step, tell);
    Ok(end?)
}

/// Whether a process ended as it should, in BuildKit's words.
fn judge(meta: &pb::Meta, end: &StepEnd, context: &OpContext) -> Result<()> {
    if end.cancelled {
        return Err(Error::canceled());
    }
    let valid = &meta.valid_exit_codes;
    let is_valid = if valid.is_empty() {
        end.code == 0
    } else {
        valid.contains(&end.code)
    };
    if is_valid && end.refusal.is_none() {
        return Ok(());
    }
    if let Some(refusal) = &end.refusal {
        context.progress.log(2, format!("{refusal}\n").as_bytes());
    }
    let process = super::go::quote(&meta.args.join(" "));
    let why = if end.out_of_memory {
        "cannot allocate memory".to_owned()
    } else {
        format!("exit code: {}{}", end.code, foreign(context))
    };
    let error = Error::new(
        crate::Kind::System,
        format!("process {process} did not complete successfully: {why}"),
    );
    Err(error
        .with_exit_code(end.code)
        .with_output(context.progress.tail()))
}

/// What to add to the failure of a step that is for another machine than this one: it may be why.
fn foreign(context: &OpContext) -> String {
    let wanted = context.vertex.op.platform.as_ref();
    let platform = wanted.map(|_| crate::source::image::platform_of(wanted));
    match platform.filter(|platform| !crate::platforms::runs(platform)) {
        Some(platform) => format!(
            " (the step is for {platform}, and no emulator for it is registered with this kernel, see binfmt_misc)"
        ),
        None => String::new(),
    }
}

/// Something that a step's request needs beside its mounts.
#[derive(Debug)]
pub(super) struct Root {
    lowers: Vec<std::path::PathBuf>,
    own_devices: bool,
    upper: std::path::PathBuf,
    work: std::path::PathBuf,
    readonly: bool,
    guard: engine::StepGuard,
}

/// A mount as the engine takes it.
fn bind(source: std::path::PathBuf, destination: &str, read_only: bool) -> StepMount {
    StepMount::Bind {
        source,
        destination: destination.to_owned(),
        read_only,
    }
}

/// The session of a client that waits for the step, for its secrets and its agent.
async fn sessions(context: &OpContext) -> Vec<Arc<crate::session::Session>> {
    let mut found = Vec::new();
    for id in context.sessions.all() {
        let wait = std::time::Duration::from_secs(5);
        if let Ok(session) = context.builder.sessions.get(&id, wait).await {
            found.push(session);
        }
    }
    found
}
