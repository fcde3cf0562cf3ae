//! From a step to the order that its shim gets.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use api::container::Config;
use api::host_config::HostConfig;
use api::wire::StrSlice;
use jiff::Timestamp;
use network::files::HostEntry;
use oci::runtime::Spec;
use runtime::Rootfs;
use shim::{LogSink, RunOrder};

use super::{StepMount, StepNetwork, StepRequest, StepStreams};
use crate::container::spec::{self, Context, Joined};
use crate::container::{Mount, MountKind, Record, State, files};
use crate::engine::Engine;
use crate::error::{Result, Step};
use crate::network::Connection;

impl Engine {
    /// A step as a container's record, which nobody ever stores: what is decided by it is decided
    /// for a step as for a container.
    pub(super) fn step_record(
        &self,
        request: &StepRequest,
        streams: StepStreams,
    ) -> Result<Record> {
        let id = crate::names::draw_id()?;
        let mode = match request.network {
            StepNetwork::Sandbox => "bridge",
            StepNetwork::Host => "host",
            StepNetwork::None => "none",
        };
        let mut host = HostConfig {
            network_mode: mode.to_owned(),
            privileged: request.insecure,
            readonly_rootfs: request.readonly_root,
            extra_hosts: Some(request.extra_hosts.clone()),
            shm_size: request.shm_size,
            auto_remove: true,
            ..HostConfig::default()
        };
        host.resources.ulimits = Some(request.ulimits.clone());
        host.resources
            .cgroup_parent
            .clone_from(&request.cgroup_parent);
        crate::live::fill(&self.settings(), &mut host);
        // a step is its own first process, and nothing of another container is joined
        host.init = None;
        host.ipc_mode = "private".to_owned();
        // inputs, caches and secrets are mounted as they lie: their owners are the host's
        host.userns_mode = "host".to_owned();
        let endpoint = (mode == "bridge").then(|| (mode.to_owned(), None));
        Ok(Record {
            name: id.as_str().to_owned(),
            id,
            created: Timestamp::now(),
            image: oci::Digest::from_sha256(&[0; 32]),
            layers: Vec::new(),
            platform: String::new(),
            config: Config {
                hostname: request.hostname.clone(),
                tty: streams.tty,
                user: request.user.clone(),
                working_dir: request.cwd.clone(),
                cmd: Some(StrSlice(request.args.clone())),
                ..Config::default()
            },
            host,
            endpoints: endpoint.into_iter().collect::<BTreeMap<_, _>>(),
            mounts: request.mounts.iter().map(mount).collect(),
            attached: None,
            userns: None,
            state: State::default(),
        })
    }

    /// The order, without descriptors.
    pub(super) fn step_order(
        self: &Arc<Self>,
        request: &StepRequest,
        streams: StepStreams,
        record: &Record,
        connection: Option<&Connection>,
    ) -> Result<RunOrder> {
        let dir = self.run_dir(&record.id);
        crate::container::start::clear(&dir)?;
        crate::container::networks::note(&dir, connection)?;
        let view = self.network_view(record, connection)?;
        let context = Context {
            record,
            cgroup: self.cgroup(record),
            files: Vec::new(),
            joined: Joined::default(),
            users: None,
            foreign_volumes: Vec::new(),
        };
        let mut spec = spec::build(&context)?;
        spec.process.env.clone_from(&request.env);
        own_files(&mut spec, write_files(&dir, record, &view)?);
        Ok(RunOrder {
            order: runtime::Order {
                id: record.id.clone(),
                spec,
                rootfs: Rootfs::VolatileOverlay {
                    lower: request.lowers.clone(),
                    upper: request.upper.clone(),
                    work: request.work.clone(),
                },
                own_devices: request.own_devices,
                init: false,
            },
            dir,
            open_stdin: streams.stdin,
            stdin_once: streams.stdin,
            log: LogSink::None,
            init: false,
            fds: Vec::new(),
        })
    }
}

fn mount(mount: &StepMount) -> Mount {
    let (kind, source, destination, read_only, options) = match mount {
        StepMount::Bind {
            source,
            destination,
            read_only,
        } => (
            MountKind::Bind,
            source.to_string_lossy().into_owned(),
            destination,
            *read_only,
            Vec::new(),
        ),
        StepMount::Tmpfs { destination, size } => {
            let mut options = vec!["exec".to_owned()];
            if *size > 0 {
                options.push(format!("size={size}"));
            }
            (MountKind::Tmpfs, String::new(), destination, false, options)
        }
    };
    Mount {
        kind,
        name: String::new(),
        source,
        destination: destination.clone(),
        mode: String::new(),
        read_only,
        propagation: String::new(),
        options,
    }
}

/// Writes `/etc/hosts` and `/etc/resolv.conf` of a step as BuildKit does.
fn write_files(
    dir: &Path,
    record: &Record,
    view: &files::View,
) -> Result<[(PathBuf, &'static str); 2]> {
    let mut hosts = format!(
        "127.0.0.1\tlocalhost {}\n::1\tlocalhost ip6-localhost ip6-loopback\n",
        one_line(&record.config.hostname)
    );
    for HostEntry { address, name } in files::extra_hosts(record, view)? {
        hosts.push_str(&format!("{address}\t{}\n", one_line(&name)));
    }
    let written = [
        (
            dir.join("resolv.conf"),
            "/etc/resolv.conf",
            files::resolv_conf(record, view)?,
        ),
        (dir.join("hosts"), "/etc/hosts", hosts),
    ];
    for (path, _, text) in &written {
        std::fs::write(path, text).step(|| format!("write {}", path.display()))?;
    }
    Ok(written.map(|(path, place, _)| (path, place)))
}

/// Leaves out what would begin a line of its own or a comment.
fn one_line(name: &str) -> String {
    let fits = |c: &char| !c.is_control() && *c != '#';
    name.chars().filter(fits).collect()
}

/// Mounts the files, read-only, in front of what the step itself asked for.
fn own_files(spec: &mut Spec, files: [(PathBuf, &'static str); 2]) {
    let first_own = spec.mounts.iter().position(|mount| {
        !mount.destination.starts_with("/proc")
            && !mount.destination.starts_with("/dev")
            && !mount.destination.starts_with("/sys")
    });
    let at = first_own.unwrap_or(spec.mounts.len());
    for (source, place) in files {
        if spec
            .mounts
            .iter()
            .any(|mount| mount.destination == Path::new(place))
        {
            continue;
        }
        spec.mounts.insert(
            at,
            oci::runtime::Mount {
                destination: place.into(),
                kind: Some("bind".into()),
                source: Some(source),
                options: ["rbind", "rprivate", "ro", "nosuid", "noexec", "nodev"]
                    .map(str::to_owned)
                    .to_vec(),
            },
        );
    }
}
