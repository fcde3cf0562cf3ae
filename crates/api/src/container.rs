//! Containers.

use std::collections::BTreeMap;

use crate::host_config::{HostConfig, PortMap, Resources, RestartPolicy};
use crate::image::Descriptor;
use crate::network::{Address, Endpoints, NetworkingConfig};
use crate::wire::{EmptyObject, StrSlice, wire};

wire! {
    /// The portable half of a container's configuration.
    pub struct Config {
        /// Host name in the container.
        "Hostname" => hostname: String,
        /// Domain name in the container.
        "Domainname" => domainname: String,
        /// `user`, `uid`, `user:group` or `uid:gid`.
        "User" => user: String,
        /// Whether the client attaches to stdin.
        "AttachStdin" => attach_stdin: bool,
        /// Whether the client attaches to stdout.
        "AttachStdout" => attach_stdout: bool,
        /// Whether the client attaches to stderr.
        "AttachStderr" => attach_stderr: bool,
        /// Ports that the container listens on, as `80/tcp`.
        "ExposedPorts" [omitempty] => exposed_ports: BTreeMap<String, EmptyObject>,
        /// Whether the process has a terminal.
        "Tty" => tty: bool,
        /// Whether stdin stays open without a client.
        "OpenStdin" => open_stdin: bool,
        /// Whether stdin is closed after the first client.
        "StdinOnce" => stdin_once: bool,
        /// `NAME=value`; a bare `NAME` removes the image's.
        "Env" => env: Option<Vec<String>>,
        /// Command, or arguments of the entry point.
        "Cmd" => cmd: Option<StrSlice>,
        /// Health check; `None` inherits the image's.
        "Healthcheck" [omitempty] => healthcheck: Option<HealthConfig>,
        /// Windows only.
        "ArgsEscaped" [omitempty] => args_escaped: bool,
        /// Image, as the client wrote it.
        "Image" => image: String,
        /// Anonymous volumes, by path.
        "Volumes" => volumes: Option<BTreeMap<String, EmptyObject>>,
        /// Working directory.
        "WorkingDir" => working_dir: String,
        /// Words in front of the command.
        "Entrypoint" => entrypoint: Option<StrSlice>,
        /// Whether the container has no network.
        "NetworkDisabled" [omitempty] => network_disabled: bool,
        /// MAC address; replaced by the endpoint's since 1.44.
        "MacAddress" [omitempty] => mac_address: String,
        /// Triggers for child builds.
        "OnBuild" => on_build: Option<Vec<String>>,
        /// Labels.
        "Labels" => labels: Option<BTreeMap<String, String>>,
        /// Stop signal, by name or number.
        "StopSignal" [omitempty] => stop_signal: String,
        /// Seconds between stop signal and SIGKILL.
        "StopTimeout" [omitempty] => stop_timeout: Option<i64>,
        /// Shell of the shell form.
        "Shell" [omitempty] => shell: Vec<String>,
    }

    /// A health check; times are nanoseconds and zero inherits.
    #[derive(Eq)]
    pub struct HealthConfig {
        /// `[]`, `["NONE"]`, `["CMD", ...]` or `["CMD-SHELL", text]`.
        "Test" [omitempty] => test: Vec<String>,
        /// Time between checks.
        "Interval" [omitempty] => interval: i64,
        /// Time a check may take.
        "Timeout" [omitempty] => timeout: i64,
        /// Time in which failures do not count.
        "StartPeriod" [omitempty] => start_period: i64,
        /// Time between checks in the start period.
        "StartInterval" [omitempty] => start_interval: i64,
        /// Failures in a row that make a container unhealthy.
        "Retries" [omitempty] => retries: i64,
    }

    /// The body of `POST /containers/create`.
    pub struct CreateRequest {
        /// What the host does for the container.
        "HostConfig" => host_config: Option<HostConfig>,
        /// Networks to connect to.
        "NetworkingConfig" => networking_config: Option<NetworkingConfig>,
    }
    flatten {
        /// What runs.
        config: Config,
    }

    /// The answer of `POST /containers/create`.
    #[derive(Eq)]
    pub struct CreateResponse {
        /// Id.
        "Id" => id: String,
        /// Warnings.
        "Warnings" => warnings: Vec<String>,
    }

    /// A line of `GET /containers/json`.
    pub struct Summary {
        /// Id.
        "Id" => id: String,
        /// Names, each with a leading slash.
        "Names" => names: Option<Vec<String>>,
        /// Image, as the client wrote it, or its id when the name has moved.
        "Image" => image: String,
        /// Image id.
        "ImageID" => image_id: String,
        /// Platform-specific manifest of the image.
        "ImageManifestDescriptor" [omitempty] => image_manifest_descriptor: Option<Descriptor>,
        /// Command line.
        "Command" => command: String,
        /// Time of creation, Unix seconds.
        "Created" => created: i64,
        /// Ports.
        "Ports" => ports: Option<Vec<Port>>,
        /// Bytes in the writable layer.
        "SizeRw" [omitempty] => size_rw: i64,
        /// Bytes of the root file system.
        "SizeRootFs" [omitempty] => size_root_fs: i64,
        /// Labels.
        "Labels" => labels: Option<BTreeMap<String, String>>,
        /// `created`, `running`, `paused`, `restarting`, `removing`, `exited` or `dead`.
        "State" => state: String,
        /// State in words.
        "Status" => status: String,
        /// Host configuration in short.
        "HostConfig" => host_config: SummaryHostConfig,
        /// Networks.
        "NetworkSettings" => network_settings: Option<SummaryNetworkSettings>,
        /// Mounts.
        "Mounts" => mounts: Option<Vec<MountPoint>>,
        /// Health; Docker lists it since 1.52.
        "Health" [omitempty] => health: Option<HealthSummary>,
    }

    /// Health of a container in a list.
    #[derive(Eq)]
    pub struct HealthSummary {
        /// `none`, `starting`, `healthy` or `unhealthy`.
        "Status" => status: String,
        /// Failures in a row.
        "FailingStreak" => failing_streak: i64,
    }

    /// Host configuration in a list.
    #[derive(Eq)]
    pub struct SummaryHostConfig {
        /// Network mode.
        "NetworkMode" [omitempty] => network_mode: String,
        /// Annotations.
        "Annotations" [omitempty] => annotations: BTreeMap<String, String>,
    }

    /// Networks of a container in a list.
    pub struct SummaryNetworkSettings {
        /// Endpoints by network name.
        "Networks" => networks: Option<Endpoints>,
    }

    /// A port of a container in a list.
    #[derive(Eq)]
    pub struct Port {
        /// Host address.
        "IP" [omitempty] => ip: String,
        /// Container port.
        "PrivatePort" => private_port: u16,
        /// Host port.
        "PublicPort" [omitempty] => public_port: u16,
        /// `tcp`, `udp` or `sctp`.
        "Type" => kind: String,
    }

    /// A mount as containers show it.
    #[derive(Eq)]
    pub struct MountPoint {
        /// `bind`, `volume`, `tmpfs` or `image`.
        "Type" [omitempty] => kind: String,
        /// Volume.
        "Name" [omitempty] => name: String,
        /// Path on the host.
        "Source" => source: String,
        /// Path in the container.
        "Destination" => destination: String,
        /// Volume driver.
        "Driver" [omitempty] => driver: String,
        /// Options, as the client wrote them.
        "Mode" => mode: String,
        /// Whether it is writable.
        "RW" => rw: bool,
        /// Propagation.
        "Propagation" => propagation: String,
    }

    /// The answer of `GET /containers/{id}/json`.
    pub struct Inspect {
        /// Id.
        "Id" => id: String,
        /// Time of creation, RFC 3339.
        "Created" => created: String,
        /// Program.
        "Path" => path: String,
        /// Arguments.
        "Args" => args: Option<Vec<String>>,
        /// State.
        "State" => state: Option<State>,
        /// Image id.
        "Image" => image: String,
        /// Host path of `/etc/resolv.conf`.
        "ResolvConfPath" => resolv_conf_path: String,
        /// Host path of `/etc/hostname`.
        "HostnamePath" => hostname_path: String,
        /// Host path of `/etc/hosts`.
        "HostsPath" => hosts_path: String,
        /// Host path of the log.
        "LogPath" => log_path: String,
        /// Name with a leading slash.
        "Name" => name: String,
        /// Restarts by policy.
        "RestartCount" => restart_count: i64,
        /// Storage driver.
        "Driver" => driver: String,
        /// Operating system.
        "Platform" => platform: String,
        /// Platform-specific manifest of the image.
        "ImageManifestDescriptor" [omitempty] => image_manifest_descriptor: Option<Descriptor>,
        /// SELinux label of mounts.
        "MountLabel" => mount_label: String,
        /// SELinux label of the process.
        "ProcessLabel" => process_label: String,
        /// AppArmor profile.
        "AppArmorProfile" => app_armor_profile: String,
        /// Running execs.
        "ExecIDs" => exec_ids: Option<Vec<String>>,
        /// Host configuration.
        "HostConfig" => host_config: Option<HostConfig>,
        /// Storage.
        "GraphDriver" => graph_driver: GraphDriver,
        /// Bytes in the writable layer, when asked for.
        "SizeRw" [omitempty] => size_rw: Option<i64>,
        /// Bytes of the root file system, when asked for.
        "SizeRootFs" [omitempty] => size_root_fs: Option<i64>,
        /// Mounts.
        "Mounts" => mounts: Option<Vec<MountPoint>>,
        /// Configuration.
        "Config" => config: Option<Config>,
        /// Network state.
        "NetworkSettings" => network_settings: Option<NetworkSettings>,
    }

    /// State of a container.
    #[derive(Eq)]
    pub struct State {
        /// `created`, `running`, `paused`, `restarting`, `removing`, `exited` or `dead`.
        "Status" => status: String,
        /// Whether it runs; true when paused or restarting.
        "Running" => running: bool,
        /// Whether it is paused.
        "Paused" => paused: bool,
        /// Whether it waits for its restart.
        "Restarting" => restarting: bool,
        /// Whether the OOM killer ended it.
        "OOMKilled" => oom_killed: bool,
        /// Whether its removal failed.
        "Dead" => dead: bool,
        /// Host pid of its init; 0 when not running.
        "Pid" => pid: i64,
        /// Last exit code.
        "ExitCode" => exit_code: i64,
        /// Error of the last start.
        "Error" => error: String,
        /// Last start, RFC 3339, or year 1.
        "StartedAt" => started_at: String,
        /// Last end, RFC 3339, or year 1.
        "FinishedAt" => finished_at: String,
        /// Health, where there is a check.
        "Health" [omitempty] => health: Option<Health>,
    }

    /// Health of a container.
    #[derive(Eq)]
    pub struct Health {
        /// `starting`, `healthy`, `unhealthy` or `none`.
        "Status" => status: String,
        /// Failures in a row.
        "FailingStreak" => failing_streak: i64,
        /// The last checks.
        "Log" => log: Option<Vec<HealthcheckResult>>,
    }

    /// A health check that ran.
    #[derive(Eq)]
    pub struct HealthcheckResult {
        /// Start, RFC 3339.
        "Start" => start: String,
        /// End, RFC 3339.
        "End" => end: String,
        /// Exit code.
        "ExitCode" => exit_code: i64,
        /// Output.
        "Output" => output: String,
    }

    /// Storage of a container or image.
    #[derive(Eq)]
    pub struct GraphDriver {
        /// Details by the driver.
        "Data" => data: Option<BTreeMap<String, String>>,
        /// Driver.
        "Name" => name: String,
    }

    /// Network state of a container.
    pub struct NetworkSettings {
        /// Bridge.
        "Bridge" => bridge: String,
        /// Sandbox.
        "SandboxID" => sandbox_id: String,
        /// Path of the network namespace.
        "SandboxKey" => sandbox_key: String,
        /// Published ports.
        "Ports" => ports: Option<PortMap>,
        /// Never set.
        "HairpinMode" => hairpin_mode: bool,
        /// Never set.
        "LinkLocalIPv6Address" => link_local_ipv6_address: String,
        /// Never set.
        "LinkLocalIPv6PrefixLen" => link_local_ipv6_prefix_len: i64,
        /// Never set.
        "SecondaryIPAddresses" => secondary_ip_addresses: Option<Vec<Address>>,
        /// Never set.
        "SecondaryIPv6Addresses" => secondary_ipv6_addresses: Option<Vec<Address>>,
        /// Endpoint in the default bridge.
        "EndpointID" => endpoint_id: String,
        /// Gateway in the default bridge.
        "Gateway" => gateway: String,
        /// IPv6 address in the default bridge.
        "GlobalIPv6Address" => global_ipv6_address: String,
        /// Its prefix length.
        "GlobalIPv6PrefixLen" => global_ipv6_prefix_len: i64,
        /// IPv4 address in the default bridge.
        "IPAddress" => ip_address: String,
        /// Its prefix length.
        "IPPrefixLen" => ip_prefix_len: i64,
        /// IPv6 gateway in the default bridge.
        "IPv6Gateway" => ipv6_gateway: String,
        /// MAC address in the default bridge.
        "MacAddress" => mac_address: String,
        /// Endpoints by network name.
        "Networks" => networks: Option<Endpoints>,
    }

    /// The answer of `GET /containers/{id}/top`.
    #[derive(Eq)]
    pub struct TopResponse {
        /// A row a process.
        "Processes" => processes: Option<Vec<Vec<String>>>,
        /// Column titles.
        "Titles" => titles: Option<Vec<String>>,
    }

    /// The answer of `POST /containers/{id}/wait`.
    #[derive(Eq)]
    pub struct WaitResponse {
        /// What went wrong.
        "Error" [omitempty] => error: Option<WaitError>,
        /// Exit code.
        "StatusCode" => status_code: i64,
    }

    /// What went wrong while a container was waited for.
    #[derive(Eq)]
    pub struct WaitError {
        /// Text.
        "Message" [omitempty] => message: String,
    }

    /// The body of `POST /containers/{id}/update`.
    pub struct UpdateRequest {
        /// New policy; an empty name keeps the old one.
        "RestartPolicy" => restart_policy: RestartPolicy,
        /// The ports to publish from now on; absent keeps the old ones. An addition of Gorae's.
        "PortBindings" [omitempty] => port_bindings: Option<PortMap>,
    }
    flatten {
        /// New limits; zero keeps the old value.
        resources: Resources,
    }

    /// The answer of `POST /containers/{id}/update`.
    #[derive(Eq)]
    pub struct UpdateResponse {
        /// Warnings.
        "Warnings" => warnings: Option<Vec<String>>,
    }

    /// The answer of `POST /containers/prune`.
    #[derive(Eq)]
    pub struct PruneReport {
        /// Ids.
        "ContainersDeleted" => containers_deleted: Option<Vec<String>>,
        /// Bytes.
        "SpaceReclaimed" => space_reclaimed: u64,
    }

    /// A change of the root file system (`GET /containers/{id}/changes`).
    #[derive(Eq)]
    pub struct FilesystemChange {
        /// Path.
        "Path" => path: String,
        /// 0 modified, 1 added, 2 deleted.
        "Kind" => kind: u8,
    }

    /// A file's description in the header `X-Docker-Container-Path-Stat`.
    #[derive(Eq)]
    pub struct PathStat {
        /// Base name.
        "name" => name: String,
        /// Bytes.
        "size" => size: i64,
        /// Go's `os.FileMode`.
        "mode" => mode: u32,
        /// Modification time, RFC 3339.
        "mtime" => mtime: String,
        /// Target of a symbolic link.
        "linkTarget" => link_target: String,
    }
}
