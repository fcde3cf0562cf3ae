//! The flags that `run`, `create` and `update` share.

use crate::args::Flag;

/// Limits that can be changed later too.
pub(crate) const LIMITS: &[Flag] = &[
    Flag::one(
        "blkio-weight",
        "uint16",
        "Block IO (relative weight), between 10 and 1000, or 0 to disable (default 0)",
    ),
    Flag::one(
        "cpu-period",
        "int",
        "Limit CPU CFS (Completely Fair Scheduler) period",
    ),
    Flag::one(
        "cpu-quota",
        "int",
        "Limit CPU CFS (Completely Fair Scheduler) quota",
    ),
    Flag::one(
        "cpu-rt-period",
        "int",
        "Limit CPU real-time period in microseconds",
    ),
    Flag::one(
        "cpu-rt-runtime",
        "int",
        "Limit CPU real-time runtime in microseconds",
    ),
    Flag::one("cpu-shares", "int", "CPU shares (relative weight)").short('c'),
    Flag::one("cpus", "decimal", "Number of CPUs"),
    Flag::one(
        "cpuset-cpus",
        "string",
        "CPUs in which to allow execution (0-3, 0,1)",
    ),
    Flag::one(
        "cpuset-mems",
        "string",
        "MEMs in which to allow execution (0-3, 0,1)",
    ),
    Flag::one("memory", "bytes", "Memory limit").short('m'),
    Flag::one("memory-reservation", "bytes", "Memory soft limit"),
    Flag::one(
        "memory-swap",
        "bytes",
        "Swap limit equal to memory plus swap: '-1' to enable unlimited swap",
    ),
    Flag::one(
        "net-egress",
        "rate",
        "Limit what the container sends, such as 5mbit",
    ),
    Flag::one(
        "net-ingress",
        "rate",
        "Limit what the container receives, such as 20mbit",
    ),
    Flag::one(
        "pids-limit",
        "int",
        "Tune container pids limit (set -1 for unlimited)",
    ),
];

/// What only a new container is told.
pub(crate) const FLAGS: &[Flag] = &[
    Flag::many(
        "add-host",
        "list",
        "Add a custom host-to-IP mapping (host:ip)",
    ),
    Flag::many(
        "annotation",
        "map",
        "Add an annotation to the container (passed through to the OCI runtime)",
    ),
    Flag::many("attach", "list", "Attach to STDIN, STDOUT or STDERR").short('a'),
    Flag::many(
        "blkio-weight-device",
        "list",
        "Block IO weight (relative device weight)",
    ),
    Flag::many("cap-add", "list", "Add Linux capabilities"),
    Flag::many("cap-drop", "list", "Drop Linux capabilities"),
    Flag::one(
        "cgroup-parent",
        "string",
        "Optional parent cgroup for the container",
    ),
    Flag::one(
        "cgroupns",
        "string",
        "Cgroup namespace to use (host|private)",
    ),
    Flag::one("cidfile", "string", "Write the container ID to the file"),
    Flag::many("device", "list", "Add a host device to the container"),
    Flag::many(
        "device-cgroup-rule",
        "list",
        "Add a rule to the cgroup allowed devices list",
    ),
    Flag::many(
        "device-read-bps",
        "list",
        "Limit read rate (bytes per second) from a device",
    ),
    Flag::many(
        "device-read-iops",
        "list",
        "Limit read rate (IO per second) from a device",
    ),
    Flag::many(
        "device-write-bps",
        "list",
        "Limit write rate (bytes per second) to a device",
    ),
    Flag::many(
        "device-write-iops",
        "list",
        "Limit write rate (IO per second) to a device",
    ),
    Flag::switch_on(
        "disable-content-trust",
        "Skip image verification (default true)",
    )
    .hidden(),
    Flag::many("dns", "list", "Set custom DNS servers"),
    Flag::many("dns-opt", "list", "Set DNS options").hidden(),
    Flag::many("dns-option", "list", "Set DNS options"),
    Flag::many("dns-search", "list", "Set custom DNS search domains"),
    Flag::one("domainname", "string", "Container NIS domain name"),
    Flag::one(
        "entrypoint",
        "string",
        "Overwrite the default ENTRYPOINT of the image",
    ),
    Flag::many("env", "list", "Set environment variables").short('e'),
    Flag::many(
        "env-file",
        "list",
        "Read in a file of environment variables",
    ),
    Flag::many("expose", "list", "Expose a port or a range of ports"),
    Flag::many("group-add", "list", "Add additional groups to join"),
    Flag::one("health-cmd", "string", "Command to run to check health"),
    Flag::one(
        "health-interval",
        "duration",
        "Time between running the check (ms|s|m|h) (default 0s)",
    ),
    Flag::one(
        "health-retries",
        "int",
        "Consecutive failures needed to report unhealthy",
    ),
    Flag::one(
        "health-start-interval",
        "duration",
        "Time between running the check during the start period (ms|s|m|h) (default 0s)",
    ),
    Flag::one(
        "health-start-period",
        "duration",
        "Start period for the container to initialize before starting health-retries countdown (ms|s|m|h) (default 0s)",
    ),
    Flag::one(
        "health-timeout",
        "duration",
        "Maximum time to allow one check to run (ms|s|m|h) (default 0s)",
    ),
    Flag::one("hostname", "string", "Container host name").short('h'),
    Flag::switch(
        "init",
        "Run an init inside the container that forwards signals and reaps processes",
    ),
    Flag::switch("interactive", "Keep STDIN open even if not attached").short('i'),
    Flag::one("ip", "string", "IPv4 address (e.g., 172.30.100.104)"),
    Flag::one("ip6", "string", "IPv6 address (e.g., 2001:db8::33)"),
    Flag::one("ipc", "string", "IPC mode to use"),
    Flag::one("isolation", "string", "Container isolation technology"),
    Flag::one("kernel-memory", "bytes", "Kernel memory limit").hidden(),
    Flag::many("label", "list", "Set meta data on a container").short('l'),
    Flag::many(
        "label-file",
        "list",
        "Read in a line delimited file of labels",
    ),
    Flag::many("link", "list", "Add link to another container"),
    Flag::many(
        "link-local-ip",
        "list",
        "Container IPv4/IPv6 link-local addresses",
    ),
    Flag::one("log-driver", "string", "Logging driver for the container"),
    Flag::many("log-opt", "list", "Log driver options"),
    Flag::one(
        "mac-address",
        "string",
        "Container MAC address (e.g., 92:d0:c6:0a:29:33)",
    ),
    Flag::one(
        "memory-swappiness",
        "int",
        "Tune container memory swappiness (0 to 100) (default -1)",
    ),
    Flag::many(
        "mount",
        "mount",
        "Attach a filesystem mount to the container",
    ),
    Flag::one("name", "string", "Assign a name to the container"),
    Flag::many("net", "network", "Connect a container to a network").hidden(),
    Flag::many(
        "net-alias",
        "list",
        "Add network-scoped alias for the container",
    )
    .hidden(),
    Flag::many("network", "network", "Connect a container to a network"),
    Flag::many(
        "network-alias",
        "list",
        "Add network-scoped alias for the container",
    ),
    Flag::switch(
        "no-healthcheck",
        "Disable any container-specified HEALTHCHECK",
    ),
    Flag::switch("oom-kill-disable", "Disable OOM Killer"),
    Flag::one(
        "oom-score-adj",
        "int",
        "Tune host's OOM preferences (-1000 to 1000)",
    ),
    Flag::one("pid", "string", "PID namespace to use"),
    Flag::one(
        "platform",
        "string",
        "Set platform if server is multi-platform capable",
    ),
    Flag::switch("privileged", "Give extended privileges to this container"),
    Flag::many(
        "publish",
        "list",
        "Publish a container's port(s) to the host",
    )
    .short('p'),
    Flag::switch("publish-all", "Publish all exposed ports to random ports").short('P'),
    Flag::one(
        "pull",
        "string",
        "Pull image before running (\"always\", \"missing\", \"never\") (default \"missing\")",
    ),
    Flag::switch("quiet", "Suppress the pull output").short('q'),
    Flag::switch(
        "read-only",
        "Mount the container's root filesystem as read only",
    ),
    Flag::one(
        "restart",
        "string",
        "Restart policy to apply when a container exits (default \"no\"): also on-unhealthy[:max], for one whose health check fails",
    ),
    Flag::switch(
        "rm",
        "Automatically remove the container and its associated anonymous volumes when it exits",
    ),
    Flag::one("runtime", "string", "Runtime to use for this container"),
    Flag::many("security-opt", "list", "Security Options"),
    Flag::one("shm-size", "bytes", "Size of /dev/shm"),
    Flag::one("stop-signal", "string", "Signal to stop the container"),
    Flag::one(
        "stop-timeout",
        "int",
        "Timeout (in seconds) to stop a container",
    ),
    Flag::many(
        "storage-opt",
        "list",
        "Storage driver options for the container",
    ),
    Flag::many("sysctl", "map", "Sysctl options"),
    Flag::many("tmpfs", "list", "Mount a tmpfs directory"),
    Flag::switch("tty", "Allocate a pseudo-TTY").short('t'),
    Flag::many("ulimit", "ulimit", "Ulimit options"),
    Flag::one(
        "user",
        "string",
        "Username or UID (format: <name|uid>[:<group|gid>])",
    )
    .short('u'),
    Flag::one(
        "userns",
        "string",
        "User namespace to use (\"auto\", \"host\")",
    ),
    Flag::one("uts", "string", "UTS namespace to use"),
    Flag::many("volume", "list", "Bind mount a volume").short('v'),
    Flag::one(
        "volume-driver",
        "string",
        "Optional volume driver for the container",
    ),
    Flag::many(
        "volumes-from",
        "list",
        "Mount volumes from the specified container(s)",
    ),
    Flag::one(
        "workdir",
        "string",
        "Working directory inside the container",
    )
    .short('w'),
];
