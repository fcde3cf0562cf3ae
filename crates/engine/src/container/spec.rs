//! From a container's record to the OCI configuration that its shim runs.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use api::host_config::HostConfig;
use oci::runtime::{
    BlockIo, Capabilities, ConsoleSize, Cpu, Linux, Memory, Mount as SpecMount, Namespace,
    NamespaceKind, Pids, Process, Resources, Rlimit, Root, Spec, ThrottleDevice, User,
};

use super::defaults;
use super::{Mount, MountKind, Record};
use crate::error::{Error, Result};
use crate::userns::{IdMaps, Users};

/// Namespaces of another process that the container joins, by what the client calls it.
#[derive(Debug, Default)]
pub(crate) struct Joined {
    /// The init whose pid namespace is joined.
    pub(crate) pid: Option<i32>,
    /// The init whose IPC namespace is joined.
    pub(crate) ipc: Option<i32>,
    /// The init whose network namespace is joined.
    pub(crate) net: Option<i32>,
}

impl Joined {
    /// All of them.
    pub(crate) fn donors(&self) -> Vec<i32> {
        [self.pid, self.ipc, self.net]
            .into_iter()
            .flatten()
            .collect()
    }
}

/// What the record alone does not tell.
#[derive(Debug)]
pub(crate) struct Context<'a> {
    pub(crate) record: &'a Record,
    pub(crate) cgroup: PathBuf,
    /// Files of the engine that are mounted over the image's: `/etc/hosts` and its like.
    pub(crate) files: Vec<(PathBuf, &'static str)>,
    pub(crate) joined: Joined,
    /// The container's users; absent where they are the host's.
    pub(crate) users: Option<Users>,
    /// Volumes that hold somebody else's files.
    pub(crate) foreign_volumes: Vec<String>,
}

/// Docker's default for `/dev/shm`, bytes.
pub(crate) const SHM_SIZE: i64 = 64 << 20;

/// Builds the configuration.
pub(crate) fn build(context: &Context<'_>) -> Result<Spec> {
    let record = context.record;
    let host = &record.host;
    Ok(Spec {
        oci_version: oci::runtime::VERSION.to_owned(),
        root: Root {
            path: PathBuf::from("rootfs"),
            readonly: host.readonly_rootfs,
        },
        process: process(context)?,
        hostname: hostname(record),
        domainname: Some(record.config.domainname.clone()).filter(|d| !d.is_empty()),
        mounts: mounts(context)?,
        annotations: host.annotations.clone(),
        linux: linux(context)?,
    })
}

fn hostname(record: &Record) -> Option<String> {
    let own = record.host.uts_mode != "host";
    own.then(|| record.config.hostname.clone())
        .filter(|h| !h.is_empty())
}

fn process(context: &Context<'_>) -> Result<Process> {
    let record = context.record;
    let host = &record.host;
    let capabilities = capabilities(host)?;
    Ok(Process {
        terminal: record.config.tty,
        console_size: console_size(host.console_size),
        user: User {
            username: Some(record.config.user.clone()),
            additional_groups: host.group_add.clone().unwrap_or_default(),
            ..User::default()
        },
        args: record.args(),
        env: environment(record),
        cwd: if record.config.working_dir.is_empty() {
            "/".into()
        } else {
            record.config.working_dir.clone()
        },
        capabilities: Some(Capabilities {
            bounding: capabilities.clone(),
            // execve(2) takes these two away from a user who is not root (capabilities(7))
            effective: capabilities.clone(),
            permitted: capabilities,
            ..Capabilities::default()
        }),
        rlimits: rlimits(host),
        no_new_privileges: no_new_privileges(host),
        oom_score_adj: i32::try_from(host.oom_score_adj).ok().filter(|n| *n != 0),
        apparmor_profile: None,
    })
}

/// A terminal's size as clients send it, `[height, width]`; none while both are zero.
pub(crate) fn console_size([height, width]: [u64; 2]) -> Option<ConsoleSize> {
    let cells = |n: u64| u16::try_from(n).unwrap_or(u16::MAX);
    (height > 0 && width > 0).then(|| ConsoleSize {
        height: cells(height),
        width: cells(width),
    })
}

/// The container's environment: search path, host name and terminal, unless given (the runtime adds
/// HOME, which the container's own `/etc/passwd` tells).
pub(super) fn environment(record: &Record) -> Vec<String> {
    let given = record.config.env.clone().unwrap_or_default();
    let has = |name: &str| given.iter().any(|v| v.split('=').next() == Some(name));
    let mut env = Vec::with_capacity(given.len() + 4);
    if !has("PATH") {
        env.push(defaults::PATH.to_owned());
    }
    if !has("HOSTNAME") && !record.config.hostname.is_empty() {
        env.push(format!("HOSTNAME={}", record.config.hostname));
    }
    if record.config.tty && !has("TERM") {
        env.push("TERM=xterm".to_owned());
    }
    // a name without a value takes the variable away
    env.extend(given.into_iter().filter(|v| v.contains('=')));
    env
}

/// The capabilities that the container keeps.
pub(crate) fn capabilities(host: &HostConfig) -> Result<Vec<String>> {
    use runtime::capabilities::{Privileged, resolve};
    let list = |list: &Option<api::wire::StrSlice>| list.clone().unwrap_or_default().0;
    let privileged = if host.privileged {
        Privileged::Yes
    } else {
        Privileged::No
    };
    resolve(&list(&host.cap_add), &list(&host.cap_drop), privileged)
        .map_err(|e| Error::invalid(e.to_string()))
}

/// The value of a `--security-opt`, written `name=value`, `name:value` or `name`.
pub(crate) fn option<'a>(host: &'a HostConfig, name: &str) -> Option<&'a str> {
    let options = host.security_opt.as_deref().unwrap_or_default();
    options.iter().find_map(|option| {
        let rest = option.strip_prefix(name)?;
        if rest.is_empty() {
            Some("true")
        } else {
            rest.strip_prefix(['=', ':'])
        }
    })
}

/// Whether `--security-opt no-new-privileges` is given.
pub(super) fn no_new_privileges(host: &HostConfig) -> bool {
    option(host, "no-new-privileges").is_some_and(|value| super::boolean(value) != Some(false))
}

pub(super) fn rlimits(host: &HostConfig) -> Vec<Rlimit> {
    let limit = |n: i64| u64::try_from(n).unwrap_or(u64::MAX);
    let ulimits = host.resources.ulimits.as_deref().unwrap_or_default();
    ulimits
        .iter()
        .map(|u| Rlimit {
            kind: format!("RLIMIT_{}", u.name.to_ascii_uppercase()),
            hard: limit(u.hard),
            soft: limit(u.soft),
        })
        .collect()
}

fn mounts(context: &Context<'_>) -> Result<Vec<SpecMount>> {
    let record = context.record;
    let host = &record.host;
    let mut mounts = defaults::mounts(host.privileged);
    let shm = if host.shm_size > 0 {
        host.shm_size
    } else {
        SHM_SIZE
    };
    match (host.ipc_mode.as_str(), context.joined.ipc) {
        // a new mount of mqueue shows the queues of the IPC namespace that it is made in
        ("host", _) => mounts.push(bind("/dev/shm", "/dev/shm", &["rbind"])),
        (_, Some(pid)) => mounts.push(bind(
            "/dev/shm",
            "/dev/shm",
            &["rbind", &format!("{}={pid}", runtime::ROOT_OF)],
        )),
        ("none", None) => {}
        (_, None) => mounts.push(defaults::shm(shm)),
    }
    if context.users.is_some() && host.ipc_mode == "host" {
        // whose users have no right to mount the queues of the host
        mounts.retain(|mount| mount.kind.as_deref() != Some("mqueue"));
        if Path::new("/dev/mqueue").is_dir() {
            mounts.push(bind("/dev/mqueue", "/dev/mqueue", &["rbind"]));
        }
    }
    for (source, destination) in &context.files {
        let access = if host.readonly_rootfs { "ro" } else { "rw" };
        let mut mount = bind(
            &source.to_string_lossy(),
            destination,
            &["rbind", "rprivate", access],
        );
        show_owners(context, &mut mount);
        mounts.push(mount);
    }
    let mut own: Vec<SpecMount> = record
        .mounts
        .iter()
        .map(|mount| with_owners(context, mount))
        .collect();
    // a parent before what lies below it
    own.sort_by_key(|m| m.destination.components().count());
    for mount in &own {
        // a mount of the client replaces the default of the same place
        mounts.retain(|m| m.destination != mount.destination);
    }
    mounts.extend(own);
    Ok(mounts)
}

fn bind(source: &str, destination: &str, options: &[&str]) -> SpecMount {
    SpecMount {
        destination: destination.into(),
        kind: Some("bind".into()),
        source: Some(source.into()),
        options: options.iter().map(|&o| o.to_owned()).collect(),
    }
}

/// Has a mount show its files as if they were the container's, if its users are not the host's.
fn show_owners(context: &Context<'_>, mount: &mut SpecMount) {
    if context.users.is_some() {
        mount.options.push("idmap".to_owned());
    }
}

/// A mount of the record. The files of volumes are the container's own; those of the host stay the
/// host's, unless told otherwise.
fn with_owners(context: &Context<'_>, mount: &Mount) -> SpecMount {
    let mut made = of_mount(mount);
    let own = match mount.kind {
        MountKind::Volume => !context.foreign_volumes.contains(&mount.name),
        MountKind::Bind => mount.options.iter().any(|option| option == "idmap"),
        MountKind::Tmpfs => false,
    };
    if own {
        show_owners(context, &mut made);
    }
    made
}

fn of_mount(mount: &Mount) -> SpecMount {
    if mount.kind == MountKind::Tmpfs {
        let mut options: Vec<String> = ["noexec", "nosuid", "nodev"]
            .into_iter()
            .filter(|o| {
                !mount
                    .options
                    .iter()
                    .any(|given| given == o || Some(given.as_str()) == o.strip_prefix("no"))
            })
            .map(str::to_owned)
            .collect();
        options.extend(mount.options.iter().cloned());
        return SpecMount {
            destination: mount.destination.clone().into(),
            kind: Some("tmpfs".into()),
            source: Some("tmpfs".into()),
            options,
        };
    }
    let mut options = vec![
        if mount.options.iter().any(|o| o == "bind") {
            "bind"
        } else {
            "rbind"
        }
        .to_owned(),
    ];
    options.push(if mount.propagation.is_empty() {
        "rprivate".to_owned()
    } else {
        mount.propagation.clone()
    });
    if mount.read_only {
        options.push("ro".to_owned());
    }
    SpecMount {
        destination: mount.destination.clone().into(),
        kind: Some("bind".into()),
        source: Some(mount.source.clone().into()),
        options,
    }
}

fn linux(context: &Context<'_>) -> Result<Linux> {
    let host = &context.record.host;
    let hide = !host.privileged;
    let own = |list: &Option<Vec<String>>, default: Vec<String>| match list {
        Some(paths) => paths.clone(),
        None if hide => default,
        None => Vec::new(),
    };
    let masked = defaults::MASKED_PATHS
        .iter()
        .chain([&defaults::MASKED_POWER])
        .map(|&p| p.to_owned())
        .collect();
    let readonly = defaults::READONLY_PATHS
        .iter()
        .map(|&p| p.to_owned())
        .collect();
    let devices = super::device::of_host(host)?;
    let maps = context.users.as_ref().map(|users| users.maps.clone());
    let IdMaps { uids, gids } = maps.unwrap_or_default();
    Ok(Linux {
        namespaces: namespaces(context),
        uid_mappings: uids,
        gid_mappings: gids,
        cgroups_path: Some(context.cgroup.clone()),
        resources: resources(host, &devices)?,
        devices: devices.into_iter().map(|d| d.node).collect(),
        rootfs_propagation: Some("rprivate".into()),
        // the compiled filter goes to the shim as a file of its own
        seccomp: None,
        sysctl: host.sysctls.clone(),
        masked_paths: own(&host.masked_paths, masked),
        readonly_paths: own(&host.readonly_paths, readonly),
        mount_label: None,
    })
}

fn namespaces(context: &Context<'_>) -> Vec<Namespace> {
    let host = &context.record.host;
    let new = |kind| Namespace { kind, path: None };
    let of = |kind, pid: i32, name: &str| Namespace {
        kind,
        path: Some(format!("/proc/{pid}/ns/{name}").into()),
    };
    let mut list = vec![new(NamespaceKind::Mount)];
    match context.users.as_ref().map(|users| users.join) {
        Some(Some(pid)) => list.push(of(NamespaceKind::User, pid, "user")),
        Some(None) => list.push(new(NamespaceKind::User)),
        None => {}
    }
    match context.joined.pid {
        Some(pid) => list.push(of(NamespaceKind::Pid, pid, "pid")),
        None if host.pid_mode == "host" => {}
        None => list.push(new(NamespaceKind::Pid)),
    }
    match context.joined.ipc {
        Some(pid) => list.push(of(NamespaceKind::Ipc, pid, "ipc")),
        None if host.ipc_mode == "host" => {}
        None => list.push(new(NamespaceKind::Ipc)),
    }
    if host.uts_mode != "host" {
        list.push(new(NamespaceKind::Uts));
    }
    if host.network_mode != "host" {
        list.push(new(NamespaceKind::Network));
    }
    if host.cgroupns_mode == "private" {
        list.push(new(NamespaceKind::Cgroup));
    }
    list
}

/// Limits, with the wordings of the client's units already resolved to the kernel's.
pub(super) fn resources(
    host: &HostConfig,
    devices: &[super::device::HostDevice],
) -> Result<Resources> {
    let mut rules = if host.privileged {
        vec![defaults::rule("a", None, None, "rwm")]
    } else {
        defaults::device_rules()
    };
    if !host.privileged {
        rules.extend(devices.iter().map(|d| d.rule.clone()));
        rules.extend(super::device::rules_of(host)?);
    }
    Ok(Resources {
        devices: rules,
        memory: memory(host),
        cpu: cpu(host),
        pids: host
            .resources
            .pids_limit
            .filter(|n| *n != 0)
            .map(|limit| Pids { limit }),
        block_io: block_io(host)?,
        unified: BTreeMap::new(),
    })
}

fn memory(host: &HostConfig) -> Option<Memory> {
    let set = |n: i64| Some(n).filter(|n| *n != 0);
    let memory = Memory {
        limit: set(host.resources.memory),
        reservation: set(host.resources.memory_reservation),
        // Docker: as much swap again as memory, unless told otherwise
        swap: set(host.resources.memory_swap)
            .or_else(|| set(host.resources.memory.saturating_mul(2))),
        swappiness: host
            .resources
            .memory_swappiness
            .and_then(|n| u64::try_from(n).ok()),
        disable_oom_killer: host.resources.oom_kill_disable.filter(|disable| *disable),
    };
    (memory != Memory::default()).then_some(memory)
}

fn cpu(host: &HostConfig) -> Option<Cpu> {
    const PERIOD: i64 = 100_000;
    let positive = |n: i64| u64::try_from(n).ok().filter(|n| *n > 0);
    let text = |text: &str| Some(text.to_owned()).filter(|t| !t.is_empty());
    let (quota, period) = if host.resources.nano_cpus > 0 {
        (
            Some(host.resources.nano_cpus / 10_000),
            Some(PERIOD.unsigned_abs()),
        )
    } else {
        (
            Some(host.resources.cpu_quota).filter(|q| *q != 0),
            positive(host.resources.cpu_period),
        )
    };
    let cpu = Cpu {
        shares: positive(host.resources.cpu_shares),
        quota,
        period,
        realtime_runtime: Some(host.resources.cpu_realtime_runtime).filter(|n| *n != 0),
        realtime_period: positive(host.resources.cpu_realtime_period),
        cpus: text(&host.resources.cpuset_cpus),
        mems: text(&host.resources.cpuset_mems),
    };
    (cpu != Cpu::default()).then_some(cpu)
}

fn block_io(host: &HostConfig) -> Result<Option<BlockIo>> {
    let throttle = |list: &Option<Vec<api::host_config::ThrottleDevice>>| {
        let list = list.as_deref().unwrap_or_default().iter();
        list.map(|t| {
            let (major, minor) = super::device::numbers(&t.path)?;
            Ok(ThrottleDevice {
                major,
                minor,
                rate: t.rate,
            })
        })
        .collect::<Result<Vec<_>>>()
    };
    let block_io = BlockIo {
        weight: Some(host.resources.blkio_weight).filter(|w| *w != 0),
        throttle_read_bps_device: throttle(&host.resources.blkio_device_read_bps)?,
        throttle_write_bps_device: throttle(&host.resources.blkio_device_write_bps)?,
        throttle_read_iops_device: throttle(&host.resources.blkio_device_read_iops)?,
        throttle_write_iops_device: throttle(&host.resources.blkio_device_write_iops)?,
    };
    Ok((block_io != BlockIo::default()).then_some(block_io))
}
