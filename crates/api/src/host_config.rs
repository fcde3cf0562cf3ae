//! What a container asks of its host.

use std::collections::BTreeMap;

use crate::wire::{StrSlice, wire};

/// The host's side of published ports, by container port (`80/tcp`); a `null` list is common.
pub type PortMap = BTreeMap<String, Option<Vec<PortBinding>>>;

wire! {
    /// The non-portable half of a container's configuration.
    pub struct HostConfig {
        /// Bind mounts and named volumes, `source:target[:options]`.
        "Binds" => binds: Option<Vec<String>>,
        /// The client's file for the container's id; the engine does not use it.
        "ContainerIDFile" => container_id_file: String,
        /// Where the output goes.
        "LogConfig" => log_config: LogConfig,
        /// `bridge`, `none`, `host`, `container:<id>`, `default` or a network's name.
        "NetworkMode" => network_mode: String,
        /// Published ports.
        "PortBindings" => port_bindings: Option<PortMap>,
        /// What happens when the container ends.
        "RestartPolicy" => restart_policy: RestartPolicy,
        /// Whether the container is removed when it ends.
        "AutoRemove" => auto_remove: bool,
        /// Driver of the volumes that `Binds` makes.
        "VolumeDriver" => volume_driver: String,
        /// Containers whose volumes are mounted too.
        "VolumesFrom" => volumes_from: Option<Vec<String>>,
        /// Initial height and width of the terminal.
        "ConsoleSize" => console_size: [u64; 2],
        /// Annotations that are given to the runtime.
        "Annotations" [omitempty] => annotations: BTreeMap<String, String>,
        /// Capabilities to add.
        "CapAdd" => cap_add: Option<StrSlice>,
        /// Capabilities to drop.
        "CapDrop" => cap_drop: Option<StrSlice>,
        /// `private`, `host` or empty for the engine's default.
        "CgroupnsMode" => cgroupns_mode: String,
        /// Name servers.
        "Dns" => dns: Option<Vec<String>>,
        /// Options of `resolv.conf`.
        "DnsOptions" => dns_options: Option<Vec<String>>,
        /// Search domains.
        "DnsSearch" => dns_search: Option<Vec<String>>,
        /// Lines for `/etc/hosts`, `name:address`.
        "ExtraHosts" => extra_hosts: Option<Vec<String>>,
        /// Additional groups of the process.
        "GroupAdd" => group_add: Option<Vec<String>>,
        /// `private`, `shareable`, `host`, `none`, `container:<id>` or empty.
        "IpcMode" => ipc_mode: String,
        /// Cgroup of another container, `container:<id>`.
        "Cgroup" => cgroup: String,
        /// Legacy links, `name:alias`.
        "Links" => links: Option<Vec<String>>,
        /// Adjustment of the badness for the OOM killer.
        "OomScoreAdj" => oom_score_adj: i64,
        /// Empty, `host` or `container:<id>`.
        "PidMode" => pid_mode: String,
        /// Whether the container gets the host's powers.
        "Privileged" => privileged: bool,
        /// Whether all exposed ports are published on free host ports.
        "PublishAllPorts" => publish_all_ports: bool,
        /// Whether the root file system is read-only.
        "ReadonlyRootfs" => readonly_rootfs: bool,
        /// Security options, such as `no-new-privileges` or `seccomp=...`.
        "SecurityOpt" => security_opt: Option<Vec<String>>,
        /// Options of the storage driver.
        "StorageOpt" [omitempty] => storage_opt: BTreeMap<String, String>,
        /// Tmpfs mounts, target to options.
        "Tmpfs" [omitempty] => tmpfs: BTreeMap<String, String>,
        /// Empty or `host`.
        "UTSMode" => uts_mode: String,
        /// Empty or `host`.
        "UsernsMode" => userns_mode: String,
        /// Size of `/dev/shm` in bytes; 0 for the default.
        "ShmSize" => shm_size: i64,
        /// Kernel parameters of the container's namespaces.
        "Sysctls" [omitempty] => sysctls: BTreeMap<String, String>,
        /// Name of the runtime.
        "Runtime" [omitempty] => runtime: String,
        /// Isolation technology; Windows only.
        "Isolation" => isolation: String,
        /// Mounts in the long form.
        "Mounts" [omitempty] => mounts: Vec<Mount>,
        /// Paths to hide; `null` for the default.
        "MaskedPaths" => masked_paths: Option<Vec<String>>,
        /// Paths to make read-only; `null` for the default.
        "ReadonlyPaths" => readonly_paths: Option<Vec<String>>,
        /// Whether an init process runs as pid 1; `None` for the engine's default.
        "Init" [omitempty] => init: Option<bool>,
    }
    flatten {
        /// Limits and devices.
        resources: Resources,
    }

    /// Limits and devices of a container.
    pub struct Resources {
        /// Relative CPU weight; 0 for the default.
        "CpuShares" => cpu_shares: i64,
        /// Memory limit in bytes; 0 for none.
        "Memory" => memory: i64,
        /// CPU quota in billionths of a CPU.
        "NanoCpus" => nano_cpus: i64,
        /// Parent cgroup.
        "CgroupParent" => cgroup_parent: String,
        /// Relative block I/O weight, 10 to 1000; 0 for the default.
        "BlkioWeight" => blkio_weight: u16,
        /// Weights of single devices.
        "BlkioWeightDevice" => blkio_weight_device: Option<Vec<WeightDevice>>,
        /// Read limits of devices, bytes a second.
        "BlkioDeviceReadBps" => blkio_device_read_bps: Option<Vec<ThrottleDevice>>,
        /// Write limits of devices, bytes a second.
        "BlkioDeviceWriteBps" => blkio_device_write_bps: Option<Vec<ThrottleDevice>>,
        /// Read limits of devices, operations a second.
        "BlkioDeviceReadIOps" => blkio_device_read_iops: Option<Vec<ThrottleDevice>>,
        /// Write limits of devices, operations a second.
        "BlkioDeviceWriteIOps" => blkio_device_write_iops: Option<Vec<ThrottleDevice>>,
        /// CFS period in microseconds.
        "CpuPeriod" => cpu_period: i64,
        /// CFS quota in microseconds a period.
        "CpuQuota" => cpu_quota: i64,
        /// Real-time period in microseconds.
        "CpuRealtimePeriod" => cpu_realtime_period: i64,
        /// Real-time run time in microseconds a period.
        "CpuRealtimeRuntime" => cpu_realtime_runtime: i64,
        /// CPUs that may be used, such as `0-2,4`.
        "CpusetCpus" => cpuset_cpus: String,
        /// Memory nodes that may be used.
        "CpusetMems" => cpuset_mems: String,
        /// Devices to pass through.
        "Devices" => devices: Option<Vec<DeviceMapping>>,
        /// Rules for the device cgroup.
        "DeviceCgroupRules" => device_cgroup_rules: Option<Vec<String>>,
        /// Devices asked of device drivers (GPUs, CDI).
        "DeviceRequests" => device_requests: Option<Vec<DeviceRequest>>,
        /// Limit of kernel memory; older clients send it.
        "KernelMemory" [omitempty] => kernel_memory: i64,
        /// Limit of TCP buffer memory.
        "KernelMemoryTCP" [omitempty] => kernel_memory_tcp: i64,
        /// Soft memory limit in bytes.
        "MemoryReservation" => memory_reservation: i64,
        /// Memory and swap together in bytes; -1 for unlimited swap.
        "MemorySwap" => memory_swap: i64,
        /// Tendency to swap, 0 to 100.
        "MemorySwappiness" => memory_swappiness: Option<i64>,
        /// Whether the OOM killer leaves the container alone.
        "OomKillDisable" => oom_kill_disable: Option<bool>,
        /// Most processes; 0 or -1 for unlimited.
        "PidsLimit" => pids_limit: Option<i64>,
        /// Resource limits of processes.
        "Ulimits" => ulimits: Option<Vec<Ulimit>>,
        /// Windows only.
        "CpuCount" => cpu_count: i64,
        /// Windows only.
        "CpuPercent" => cpu_percent: i64,
        /// Windows only.
        "IOMaximumIOps" => io_maximum_iops: u64,
        /// Windows only.
        "IOMaximumBandwidth" => io_maximum_bandwidth: u64,
        /// What the container may receive, in bits a second; 0 for no limit. An addition of Gorae.
        "NetworkIngressRate" [omitempty] => network_ingress_rate: i64,
        /// What the container may send, in bits a second; 0 for no limit. An addition of Gorae.
        "NetworkEgressRate" [omitempty] => network_egress_rate: i64,
    }

    /// An address and port of the host for a container's port.
    #[derive(Eq)]
    pub struct PortBinding {
        /// Address; empty for all.
        "HostIp" => host_ip: String,
        /// Port or range; empty for a free one.
        "HostPort" => host_port: String,
    }

    /// The logging driver and its options.
    #[derive(Eq)]
    pub struct LogConfig {
        /// Driver; empty for the engine's default.
        "Type" => kind: String,
        /// Options.
        "Config" => config: Option<BTreeMap<String, String>>,
    }

    /// What happens when a container ends.
    #[derive(Eq)]
    pub struct RestartPolicy {
        /// `no`, `always`, `on-failure`, `unless-stopped` or empty.
        "Name" => name: String,
        /// Most restarts of `on-failure`; 0 for no bound.
        "MaximumRetryCount" => maximum_retry_count: i64,
    }

    /// Block I/O weight of a device.
    #[derive(Eq)]
    pub struct WeightDevice {
        /// Device path.
        "Path" => path: String,
        /// Weight.
        "Weight" => weight: u16,
    }

    /// Block I/O limit of a device.
    #[derive(Eq)]
    pub struct ThrottleDevice {
        /// Device path.
        "Path" => path: String,
        /// Bytes or operations a second.
        "Rate" => rate: u64,
    }

    /// A device of the host in the container.
    #[derive(Eq)]
    pub struct DeviceMapping {
        /// Path on the host.
        "PathOnHost" => path_on_host: String,
        /// Path in the container.
        "PathInContainer" => path_in_container: String,
        /// Some of `r`, `w`, `m`.
        "CgroupPermissions" => cgroup_permissions: String,
    }

    /// Devices asked of a device driver.
    #[derive(Eq)]
    pub struct DeviceRequest {
        /// Driver, such as `nvidia` or `cdi`.
        "Driver" => driver: String,
        /// How many; -1 for all.
        "Count" => count: i64,
        /// Device ids.
        "DeviceIDs" => device_ids: Option<Vec<String>>,
        /// Alternatives of sets of capabilities.
        "Capabilities" => capabilities: Option<Vec<Vec<String>>>,
        /// Options of the driver.
        "Options" => options: Option<BTreeMap<String, String>>,
    }

    /// A resource limit of a process.
    #[derive(Eq)]
    pub struct Ulimit {
        /// Name without `RLIMIT_`, in lower case.
        "Name" => name: String,
        /// Hard limit; -1 for unlimited.
        "Hard" => hard: i64,
        /// Soft limit; -1 for unlimited.
        "Soft" => soft: i64,
    }

    /// A mount in the long form.
    #[derive(Eq)]
    pub struct Mount {
        /// `bind`, `volume`, `tmpfs`, `image`, `npipe` or `cluster`.
        "Type" [omitempty] => kind: String,
        /// Host path, volume or image.
        "Source" [omitempty] => source: String,
        /// Path in the container.
        "Target" [omitempty] => target: String,
        /// Whether the mount is read-only.
        "ReadOnly" [omitempty] => read_only: bool,
        /// Consistency; only macOS used it.
        "Consistency" [omitempty] => consistency: String,
        /// Options of a bind mount.
        "BindOptions" [omitempty] => bind_options: Option<BindOptions>,
        /// Options of a volume.
        "VolumeOptions" [omitempty] => volume_options: Option<VolumeOptions>,
        /// Options of an image mount.
        "ImageOptions" [omitempty] => image_options: Option<ImageOptions>,
        /// Options of a tmpfs.
        "TmpfsOptions" [omitempty] => tmpfs_options: Option<TmpfsOptions>,
    }

    /// Options of a bind mount.
    #[derive(Eq)]
    pub struct BindOptions {
        /// `private`, `rprivate`, `shared`, `rshared`, `slave` or `rslave`.
        "Propagation" [omitempty] => propagation: String,
        /// Whether submounts stay out.
        "NonRecursive" [omitempty] => non_recursive: bool,
        /// Whether a missing source is made.
        "CreateMountpoint" [omitempty] => create_mountpoint: bool,
        /// Whether submounts stay writable under `ReadOnly`.
        "ReadOnlyNonRecursive" [omitempty] => read_only_non_recursive: bool,
        /// Whether it is an error when submounts cannot be read-only.
        "ReadOnlyForceRecursive" [omitempty] => read_only_force_recursive: bool,
    }

    /// Options of a volume mount.
    #[derive(Eq)]
    pub struct VolumeOptions {
        /// Whether the image's content is not copied into a new volume.
        "NoCopy" [omitempty] => no_copy: bool,
        /// Labels of a new volume.
        "Labels" [omitempty] => labels: BTreeMap<String, String>,
        /// Path inside the volume.
        "Subpath" [omitempty] => subpath: String,
        /// Driver of a new volume.
        "DriverConfig" [omitempty] => driver_config: Option<VolumeDriver>,
    }

    /// Driver of a volume.
    #[derive(Eq)]
    pub struct VolumeDriver {
        /// Name.
        "Name" [omitempty] => name: String,
        /// Options.
        "Options" [omitempty] => options: BTreeMap<String, String>,
    }

    /// Options of an image mount.
    #[derive(Eq)]
    pub struct ImageOptions {
        /// Path inside the image.
        "Subpath" [omitempty] => subpath: String,
    }

    /// Options of a tmpfs.
    #[derive(Eq)]
    pub struct TmpfsOptions {
        /// Size in bytes; 0 for the kernel's default.
        "SizeBytes" [omitempty] => size_bytes: i64,
        /// Mode of the root.
        "Mode" [omitempty] => mode: u32,
        /// Further options: `[flag]` or `[name, value]`.
        "Options" [omitempty] => options: Vec<Vec<String>>,
    }
}
