//! The engine itself: version, information, disk usage.

use std::collections::BTreeMap;

use serde_json::Value;

use crate::wire::wire;
use crate::{container, image, volume};

wire! {
    /// The answer of `GET /version`.
    #[derive(Eq)]
    pub struct Version {
        /// Platform.
        "Platform" => platform: Platform,
        /// Parts of the engine.
        "Components" [omitempty] => components: Vec<Component>,
        /// Version.
        "Version" => version: String,
        /// Newest API.
        "ApiVersion" => api_version: String,
        /// Oldest API.
        "MinAPIVersion" [omitempty] => min_api_version: String,
        /// Commit.
        "GitCommit" => git_commit: String,
        /// Toolchain; Docker's clients call it Go's.
        "GoVersion" => go_version: String,
        /// GOOS.
        "Os" => os: String,
        /// GOARCH.
        "Arch" => arch: String,
        /// Kernel.
        "KernelVersion" [omitempty] => kernel_version: String,
        /// Whether experimental features are on.
        "Experimental" [omitempty] => experimental: bool,
        /// Time of the build.
        "BuildTime" [omitempty] => build_time: String,
    }

    /// The product.
    #[derive(Eq)]
    pub struct Platform {
        /// Name.
        "Name" => name: String,
    }

    /// A part of the engine.
    #[derive(Eq)]
    pub struct Component {
        /// Name.
        "Name" => name: String,
        /// Version.
        "Version" => version: String,
        /// Details.
        "Details" [omitempty] => details: BTreeMap<String, String>,
    }

    /// The answer of `GET /info`.
    pub struct Info {
        /// The engine's id.
        "ID" => id: String,
        /// Containers.
        "Containers" => containers: i64,
        /// Running ones.
        "ContainersRunning" => containers_running: i64,
        /// Paused ones.
        "ContainersPaused" => containers_paused: i64,
        /// Stopped ones.
        "ContainersStopped" => containers_stopped: i64,
        /// Images.
        "Images" => images: i64,
        /// Storage driver.
        "Driver" => driver: String,
        /// Details of the storage.
        "DriverStatus" => driver_status: Option<Vec<(String, String)>>,
        /// Swarm standalone only.
        "SystemStatus" [omitempty] => system_status: Vec<(String, String)>,
        /// Drivers.
        "Plugins" => plugins: PluginsInfo,
        /// Whether memory can be limited.
        "MemoryLimit" => memory_limit: bool,
        /// Whether swap can be limited.
        "SwapLimit" => swap_limit: bool,
        /// For clients below 1.42.
        "KernelMemory" [omitempty] => kernel_memory: bool,
        /// Whether TCP buffers can be limited; cgroup v1 only.
        "KernelMemoryTCP" [omitempty] => kernel_memory_tcp: bool,
        /// Whether a CFS period can be set.
        "CpuCfsPeriod" => cpu_cfs_period: bool,
        /// Whether a CFS quota can be set.
        "CpuCfsQuota" => cpu_cfs_quota: bool,
        /// Whether CPU weights can be set.
        "CPUShares" => cpu_shares: bool,
        /// Whether CPUs can be chosen.
        "CPUSet" => cpu_set: bool,
        /// Whether processes can be limited.
        "PidsLimit" => pids_limit: bool,
        /// Whether the host forwards IPv4.
        "IPv4Forwarding" => ipv4_forwarding: bool,
        /// For clients below 1.50.
        "BridgeNfIptables" [omitempty] => bridge_nf_iptables: Option<bool>,
        /// For clients below 1.50.
        "BridgeNfIp6tables" [omitempty] => bridge_nf_ip6tables: Option<bool>,
        /// Whether the engine logs in detail.
        "Debug" => debug: bool,
        /// Open file descriptors of the engine.
        "NFd" => n_fd: i64,
        /// Whether the OOM killer can be turned off.
        "OomKillDisable" => oom_kill_disable: bool,
        /// Tasks of the engine; Docker's clients call them goroutines.
        "NGoroutines" => n_goroutines: i64,
        /// Time, RFC 3339.
        "SystemTime" => system_time: String,
        /// Default logging driver.
        "LoggingDriver" => logging_driver: String,
        /// `cgroupfs`, `systemd` or `none`.
        "CgroupDriver" => cgroup_driver: String,
        /// `1` or `2`.
        "CgroupVersion" [omitempty] => cgroup_version: String,
        /// Clients that listen for events.
        "NEventsListener" => n_events_listener: i64,
        /// Kernel.
        "KernelVersion" => kernel_version: String,
        /// Distribution.
        "OperatingSystem" => operating_system: String,
        /// Its version.
        "OSVersion" => os_version: String,
        /// `linux`.
        "OSType" => os_type: String,
        /// `uname -m`.
        "Architecture" => architecture: String,
        /// Default registry.
        "IndexServerAddress" => index_server_address: String,
        /// Registries.
        "RegistryConfig" => registry_config: Option<RegistryConfig>,
        /// CPUs.
        "NCPU" => n_cpu: i64,
        /// Bytes of memory.
        "MemTotal" => mem_total: i64,
        /// Swarm only.
        "GenericResources" => generic_resources: Option<Vec<Value>>,
        /// The engine's directory.
        "DockerRootDir" => docker_root_dir: String,
        /// Proxy for http.
        "HttpProxy" => http_proxy: String,
        /// Proxy for https.
        "HttpsProxy" => https_proxy: String,
        /// Hosts without proxy.
        "NoProxy" => no_proxy: String,
        /// Host name.
        "Name" => name: String,
        /// Labels of the engine.
        "Labels" => labels: Option<Vec<String>>,
        /// Whether experimental features are on.
        "ExperimentalBuild" => experimental_build: bool,
        /// Version.
        "ServerVersion" => server_version: String,
        /// Runtimes.
        "Runtimes" => runtimes: Option<BTreeMap<String, Runtime>>,
        /// Default runtime.
        "DefaultRuntime" => default_runtime: String,
        /// Swarm.
        "Swarm" => swarm: SwarmInfo,
        /// Whether containers outlive the engine.
        "LiveRestoreEnabled" => live_restore_enabled: bool,
        /// Windows only.
        "Isolation" => isolation: String,
        /// Program of `--init`.
        "InitBinary" => init_binary: String,
        /// Commit of containerd.
        "ContainerdCommit" => containerd_commit: Commit,
        /// Commit of runc.
        "RuncCommit" => runc_commit: Commit,
        /// Commit of the init.
        "InitCommit" => init_commit: Commit,
        /// Security features.
        "SecurityOptions" => security_options: Option<Vec<String>>,
        /// License.
        "ProductLicense" [omitempty] => product_license: String,
        /// Pools that networks get their subnets from.
        "DefaultAddressPools" [omitempty] => default_address_pools: Vec<AddressPool>,
        /// Firewall.
        "FirewallBackend" [omitempty] => firewall_backend: Option<FirewallInfo>,
        /// Directories of CDI specifications.
        "CDISpecDirs" => cdi_spec_dirs: Option<Vec<String>>,
        /// Devices that drivers found.
        "DiscoveredDevices" [omitempty] => discovered_devices: Vec<Value>,
        /// containerd.
        "Containerd" [omitempty] => containerd: Option<ContainerdInfo>,
        /// Warnings.
        "Warnings" => warnings: Option<Vec<String>>,
    }

    /// Drivers.
    #[derive(Eq)]
    pub struct PluginsInfo {
        /// Of volumes.
        "Volume" => volume: Option<Vec<String>>,
        /// Of networks.
        "Network" => network: Option<Vec<String>>,
        /// Of authorization.
        "Authorization" => authorization: Option<Vec<String>>,
        /// Of logs.
        "Log" => log: Option<Vec<String>>,
    }

    /// Registries.
    #[derive(Eq)]
    pub struct RegistryConfig {
        /// For clients below 1.49: always null.
        "AllowNondistributableArtifactsCIDRs" [omitempty] => allow_nondistributable_cidrs: Option<Value>,
        /// For clients below 1.49: always null.
        "AllowNondistributableArtifactsHostnames" [omitempty] => allow_nondistributable_names: Option<Value>,
        /// Addresses that may be asked without TLS.
        "InsecureRegistryCIDRs" => insecure_registry_cidrs: Option<Vec<String>>,
        /// Registries by name.
        "IndexConfigs" => index_configs: Option<BTreeMap<String, IndexInfo>>,
        /// Mirrors of the default registry.
        "Mirrors" => mirrors: Option<Vec<String>>,
    }

    /// A registry.
    #[derive(Eq)]
    pub struct IndexInfo {
        /// Mirrors.
        "Mirrors" => mirrors: Option<Vec<String>>,
        /// Name.
        "Name" => name: String,
        /// Whether it is the default registry.
        "Official" => official: bool,
        /// Whether it needs TLS.
        "Secure" => secure: bool,
    }

    /// A runtime.
    #[derive(Eq)]
    pub struct Runtime {
        /// Program.
        "path" [omitempty] => path: String,
        /// Arguments.
        "runtimeArgs" [omitempty] => runtime_args: Vec<String>,
        /// Shim.
        "runtimeType" [omitempty] => runtime_type: String,
        /// Options of the shim.
        "options" [omitempty] => options: BTreeMap<String, Value>,
        /// Details.
        "status" [omitempty] => status: BTreeMap<String, String>,
    }

    /// Swarm.
    pub struct SwarmInfo {
        /// Node.
        "NodeID" => node_id: String,
        /// Address.
        "NodeAddr" => node_addr: String,
        /// `inactive` here.
        "LocalNodeState" => local_node_state: String,
        /// Whether it is a manager.
        "ControlAvailable" => control_available: bool,
        /// Error.
        "Error" => error: String,
        /// Managers.
        "RemoteManagers" => remote_managers: Option<Vec<Value>>,
        /// Nodes.
        "Nodes" [omitempty] => nodes: i64,
        /// Managers.
        "Managers" [omitempty] => managers: i64,
        /// Cluster.
        "Cluster" [omitempty] => cluster: Option<Value>,
        /// Warnings.
        "Warnings" [omitempty] => warnings: Vec<String>,
    }

    /// A commit.
    #[derive(Eq)]
    pub struct Commit {
        /// Commit or version.
        "ID" => id: String,
        /// For clients below 1.49.
        "Expected" [omitempty] => expected: String,
    }

    /// A pool of subnets.
    #[derive(Eq)]
    pub struct AddressPool {
        /// Range.
        "Base" => base: String,
        /// Prefix length of the subnets.
        "Size" => size: i64,
    }

    /// Firewall.
    #[derive(Eq)]
    pub struct FirewallInfo {
        /// Driver.
        "Driver" => driver: String,
        /// Details.
        "Info" [omitempty] => info: Vec<(String, String)>,
    }

    /// containerd.
    #[derive(Eq)]
    pub struct ContainerdInfo {
        /// Socket.
        "Address" [omitempty] => address: String,
        /// Namespaces.
        "Namespaces" => namespaces: ContainerdNamespaces,
    }

    /// containerd's namespaces.
    #[derive(Eq)]
    pub struct ContainerdNamespaces {
        /// Of containers.
        "Containers" => containers: String,
        /// Of plugins.
        "Plugins" => plugins: String,
    }

    /// Where the bytes of the engine's folder are: allocated blocks, each once. All but `Total` and
    /// the details are its parts, and `Total` is their sum.
    #[derive(Eq)]
    pub struct Account {
        /// Blobs as they were pulled.
        "Blobs" => blobs: i64,
        /// Unpacked layers.
        "Snapshots" => snapshots: i64,
        /// Writable layers of containers.
        "Containers" => containers: i64,
        /// Logs of containers.
        "Logs" => logs: i64,
        /// Volumes, but for what is mounted in them.
        "Volumes" => volumes: i64,
        /// Build cache.
        "BuildCache" => build_cache: i64,
        /// The database, and the small files of each container.
        "Metadata" => metadata: i64,
        /// Work in progress, and what is not the engine's.
        "Other" => other: i64,
        /// All of it.
        "Total" => total: i64,
        /// The containers one by one.
        "ContainerDetails" => container_details: Option<Vec<ContainerAccount>>,
    }

    /// What a container takes on the disk.
    #[derive(Eq)]
    pub struct ContainerAccount {
        /// Id.
        "ID" => id: String,
        /// Name; empty for a folder of no container.
        "Name" => name: String,
        /// Writable layer.
        "Rw" => rw: i64,
        /// Logs.
        "Logs" => logs: i64,
        /// The small files beside.
        "Metadata" => metadata: i64,
    }

    /// The answer of `GET /system/df`.
    pub struct DiskUsage {
        /// Bytes of all layers.
        "LayersSize" => layers_size: i64,
        /// Images.
        "Images" => images: Option<Vec<image::Summary>>,
        /// Containers.
        "Containers" => containers: Option<Vec<container::Summary>>,
        /// Volumes.
        "Volumes" => volumes: Option<Vec<volume::Volume>>,
        /// Records of the build cache.
        "BuildCache" => build_cache: Option<Vec<Value>>,
        /// Gorae's own account of every byte below its folder, when everything is asked for.
        "Gorae" [omitempty] => gorae: Option<Account>,
        /// Bytes of the build cache, for clients below 1.42.
        "BuilderSize" [omitempty] => builder_size: Option<i64>,
    }
}
