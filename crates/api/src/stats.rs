//! Figures of running containers (`GET /containers/{id}/stats`).

use std::collections::BTreeMap;

use crate::wire::wire;

wire! {
    /// One sample.
    #[derive(Eq)]
    pub struct Stats {
        /// Name with a leading slash.
        "name" [omitempty] => name: String,
        /// Id.
        "id" [omitempty] => id: String,
        /// Time of the sample, RFC 3339, or year 1.
        "read" => read: String,
        /// Time of the sample before, RFC 3339, or year 1.
        "preread" => preread: String,
        /// Processes.
        "pids_stats" => pids: PidsStats,
        /// Block I/O.
        "blkio_stats" => blkio: BlkioStats,
        /// Windows only.
        "num_procs" => num_procs: u32,
        /// Windows only.
        "storage_stats" => storage: StorageStats,
        /// CPU.
        "cpu_stats" => cpu: CpuStats,
        /// CPU of the sample before.
        "precpu_stats" => precpu: CpuStats,
        /// Memory.
        "memory_stats" => memory: MemoryStats,
        /// Network by interface.
        "networks" [omitempty] => networks: BTreeMap<String, NetworkStats>,
    }

    /// Processes.
    #[derive(Eq)]
    pub struct PidsStats {
        /// Now.
        "current" [omitempty] => current: u64,
        /// At most.
        "limit" [omitempty] => limit: u64,
    }

    /// Block I/O.
    #[derive(Eq)]
    pub struct BlkioStats {
        /// Bytes.
        "io_service_bytes_recursive" => io_service_bytes_recursive: Option<Vec<BlkioEntry>>,
        /// Operations.
        "io_serviced_recursive" => io_serviced_recursive: Option<Vec<BlkioEntry>>,
        /// Queued.
        "io_queue_recursive" => io_queue_recursive: Option<Vec<BlkioEntry>>,
        /// Service time.
        "io_service_time_recursive" => io_service_time_recursive: Option<Vec<BlkioEntry>>,
        /// Wait time.
        "io_wait_time_recursive" => io_wait_time_recursive: Option<Vec<BlkioEntry>>,
        /// Merged.
        "io_merged_recursive" => io_merged_recursive: Option<Vec<BlkioEntry>>,
        /// Time.
        "io_time_recursive" => io_time_recursive: Option<Vec<BlkioEntry>>,
        /// Sectors.
        "sectors_recursive" => sectors_recursive: Option<Vec<BlkioEntry>>,
    }

    /// A figure of a device.
    #[derive(Eq)]
    pub struct BlkioEntry {
        /// Major number.
        "major" => major: u64,
        /// Minor number.
        "minor" => minor: u64,
        /// Operation.
        "op" => op: String,
        /// Figure.
        "value" => value: u64,
    }

    /// Windows only.
    #[derive(Eq)]
    pub struct StorageStats {
        /// Reads.
        "read_count_normalized" [omitempty] => read_count_normalized: u64,
        /// Bytes read.
        "read_size_bytes" [omitempty] => read_size_bytes: u64,
        /// Writes.
        "write_count_normalized" [omitempty] => write_count_normalized: u64,
        /// Bytes written.
        "write_size_bytes" [omitempty] => write_size_bytes: u64,
    }

    /// CPU.
    #[derive(Eq)]
    pub struct CpuStats {
        /// Use.
        "cpu_usage" => usage: CpuUsage,
        /// The host's CPU time, ns.
        "system_cpu_usage" [omitempty] => system_usage: u64,
        /// CPUs.
        "online_cpus" [omitempty] => online_cpus: u32,
        /// Throttling.
        "throttling_data" => throttling: Throttling,
    }

    /// CPU time in ns.
    #[derive(Eq)]
    pub struct CpuUsage {
        /// All.
        "total_usage" => total: u64,
        /// By CPU; cgroup v1 only.
        "percpu_usage" [omitempty] => percpu: Vec<u64>,
        /// In the kernel.
        "usage_in_kernelmode" => kernel: u64,
        /// In user mode.
        "usage_in_usermode" => user: u64,
    }

    /// Throttling by the CPU quota.
    #[derive(Eq)]
    pub struct Throttling {
        /// Periods.
        "periods" => periods: u64,
        /// Throttled ones.
        "throttled_periods" => throttled_periods: u64,
        /// Time, ns.
        "throttled_time" => throttled_time: u64,
    }

    /// Memory in bytes.
    #[derive(Eq)]
    pub struct MemoryStats {
        /// Now.
        "usage" [omitempty] => usage: u64,
        /// Most; cgroup v1 only.
        "max_usage" [omitempty] => max_usage: u64,
        /// `memory.stat`.
        "stats" [omitempty] => stats: BTreeMap<String, u64>,
        /// Times that the limit was hit; cgroup v1 only.
        "failcnt" [omitempty] => failcnt: u64,
        /// Limit.
        "limit" [omitempty] => limit: u64,
        /// Windows only.
        "commitbytes" [omitempty] => commit: u64,
        /// Windows only.
        "commitpeakbytes" [omitempty] => commit_peak: u64,
        /// Windows only.
        "privateworkingset" [omitempty] => private_working_set: u64,
    }

    /// Network of an interface.
    #[derive(Eq)]
    pub struct NetworkStats {
        /// Bytes in.
        "rx_bytes" => rx_bytes: u64,
        /// Packets in.
        "rx_packets" => rx_packets: u64,
        /// Errors in.
        "rx_errors" => rx_errors: u64,
        /// Dropped in.
        "rx_dropped" => rx_dropped: u64,
        /// Bytes out.
        "tx_bytes" => tx_bytes: u64,
        /// Packets out.
        "tx_packets" => tx_packets: u64,
        /// Errors out.
        "tx_errors" => tx_errors: u64,
        /// Dropped out.
        "tx_dropped" => tx_dropped: u64,
        /// Windows only.
        "endpoint_id" [omitempty] => endpoint_id: String,
        /// Windows only.
        "instance_id" [omitempty] => instance_id: String,
        /// What the container may receive through it, in bits a second. An addition of Gorae.
        "rx_limit" [omitempty] => rx_limit: u64,
        /// What the container may send through it, in bits a second. An addition of Gorae.
        "tx_limit" [omitempty] => tx_limit: u64,
    }
}
