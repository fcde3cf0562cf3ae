//! `docker volume`, `docker network` and `docker system`.

use super::{Case, fails, ok, piped, prints, shows, sweep, until};

pub(super) const VOLUMES: &[Case] = &[
    prints("volume create -d local --label tier=data data", "data"),
    prints(
        "volume create -o type=tmpfs -o device=tmpfs --opt o=size=1m small",
        "small",
    ),
    prints(
        "container run --rm -v small:/small busybox sh -c 'df -k /small | tail -1 | tr -s \" \" | cut -d\" \" -f2'",
        "1024",
    ),
    prints("volume rm small", "small"),
    prints("volume create --driver local plain", "plain"),
    ok("volume create"),
    fails(
        "volume create -d nosuch x",
        1,
        "error looking up volume plugin nosuch",
    ),
    prints(
        "volume inspect -f '{{.Name}} {{.Driver}} {{.Labels}} {{.Options}}' data",
        "data local map[tier:data] map[]",
    ),
    fails("volume inspect nosuch", 1, "get nosuch: no such volume"),
    shows("volume ls", &["DRIVER", "local     data"]),
    prints("volume ls -q --filter label=tier", "data"),
    prints("volume ls --filter name=plai --format {{.Name}}", "plain"),
    shows(
        "volume ls --quiet --filter dangling=true --filter driver=local",
        &["data", "plain"],
    ),
    ok("container create --name user -v plain:/plain busybox"),
    fails("volume rm plain", 1, "volume is in use"),
    shows("volume prune -f", &["Deleted Volumes:"]),
    shows(
        "volume prune --all --force --filter label!=tier",
        &["Total reclaimed space:"],
    ),
    piped(
        "volume prune -a",
        "n\n",
        "WARNING! This will remove all local volumes not used by at least one container.\nAre you sure you want to continue? [y/N]",
    ),
    prints("volume rm data", "data"),
    prints("volume rm -f nosuch", "nosuch"),
    fails("volume rm nosuch", 1, "get nosuch: no such volume"),
];

pub(super) const NETWORKS: &[Case] = &[
    ok(
        "network create -d bridge --attachable --label tier=net --subnet 10.92.0.0/24 --gateway 10.92.0.254 --ip-range 10.92.0.128/25 --aux-address host=10.92.0.130 --ipam-driver default --ipam-opt a=b -o com.docker.network.driver.mtu=1400 --scope local net",
    ),
    prints(
        "network inspect -f '{{.Driver}} {{.Scope}} {{.Attachable}} {{.Labels}} {{.Options}} {{index .IPAM.Config 0}}' net",
        "bridge local true map[tier:net] map[com.docker.network.driver.mtu:1400] {10.92.0.0/24 10.92.0.128/25 10.92.0.254 map[host:10.92.0.130]}",
    ),
    ok(
        "network create --internal --ipv6 --subnet fd92::/64 --opt com.docker.network.bridge.enable_icc=false six",
    ),
    prints(
        "network inspect --verbose --format '{{.Internal}} {{.EnableIPv6}} {{.EnableIPv4}}' six",
        "true true true",
    ),
    ok("network create --ipv4=false --ipv6 only-six"),
    ok("network create --config-only --subnet 10.93.0.0/24 settings"),
    ok("network create --config-from settings made"),
    prints(
        "network inspect -f '{{(index .IPAM.Config 0).Subnet}} {{.ConfigFrom.Network}}' made",
        "10.93.0.0/24 settings",
    ),
    fails(
        "network create --ingress x",
        1,
        "Ingress network can only be global scope network",
    ),
    fails(
        "network create --scope swarm x",
        1,
        "cannot create a swarm scoped network when swarm is not active",
    ),
    fails(
        "network create --driver nosuch x",
        1,
        "plugin \"nosuch\" not found",
    ),
    shows(
        "network ls",
        &["NETWORK ID", "bridge", "host", "none", "net"],
    ),
    prints(
        "network ls -q --filter name=^net$ --format {{.Name}}",
        "net",
    ),
    shows(
        "network ls --no-trunc --quiet --filter driver=bridge --filter type=custom --filter label=tier",
        &[""],
    ),
    prints(
        "network ls --filter dangling=true --filter scope=local --filter label=tier --format {{.Name}}",
        "net",
    ),
    ok("container run -d --name box busybox sleep 1000"),
    ok("container run -d --name other --network net busybox sleep 1000"),
    ok(
        "network connect --alias a --alias b --driver-opt com.docker.network.endpoint.sysctls=net.ipv4.conf.IFNAME.log_martians=1 --gw-priority 1 --ip 10.92.0.200 --link other:mate --link-local-ip 169.254.8.8 net box",
    ),
    ok("network connect --ip6 fd92::9 six box"),
    prints(
        "container inspect -f '{{with index .NetworkSettings.Networks \"net\"}}{{.IPAddress}} {{.GwPriority}} {{.Links}} {{index .Aliases 0}} {{index .Aliases 1}}{{end}} {{(index .NetworkSettings.Networks \"six\").GlobalIPv6Address}}' box",
        "10.92.0.200 1 [other:mate] a b fd92::9",
    ),
    shows(
        "container exec box ping -c 1 -W 30 mate",
        &["1 packets received"],
    ),
    fails("network rm net", 1, "has active endpoints"),
    ok("network disconnect net box"),
    ok("network disconnect --force six box"),
    fails("network disconnect net box", 1, "is not connected to"),
    ok("container rm -f box other"),
    piped(
        "network prune --filter label=nosuch",
        "n\n",
        "WARNING! This will remove all custom networks not used by at least one container.\nAre you sure you want to continue? [y/N]",
    ),
    shows(
        "network prune -f --filter label=tier --filter until=0s",
        &["Deleted Networks:", "net"],
    ),
    prints("network rm -f nosuch", ""),
    fails("network rm nosuch", 1, "network nosuch not found"),
    prints("network rm six", "six"),
    shows(
        "network prune --force",
        &["Deleted Networks:", "made", "only-six"],
    ),
    prints("network ls -q --filter type=custom", ""),
];

pub(super) const SYSTEM: &[Case] = &[
    ok("container run --name done -l of=the-sweep busybox true"),
    ok("container run -d --name box busybox sleep 1000"),
    ok("volume create left"),
    ok("network create left"),
    shows(
        "system df",
        &["Images", "Containers", "Local Volumes", "Build Cache"],
    ),
    shows(
        "system df -v",
        &[
            "Images space usage:",
            "Containers space usage:",
            "Local Volumes space usage:",
            "box",
            "left",
        ],
    ),
    shows("system df --verbose --format json", &["\"Names\":\"box\""]),
    shows(
        "system df --format '{{.Type}}: {{.TotalCount}} {{.Active}}'",
        &["Containers: 2 1", "Local Volumes: 1 0"],
    ),
    shows(
        "system info",
        &[
            "Server:",
            "Containers: 2",
            "Cgroup Driver: cgroupfs",
            "Docker Root Dir:",
        ],
    ),
    prints(
        "system info -f '{{.ContainersRunning}} {{.OSType}} {{.Swarm.LocalNodeState}}'",
        "1 linux inactive",
    ),
    shows("system info --format json", &["\"ServerVersion\":"]),
    shows(
        "system events --since 10m --until -1s --format '{{.Type}} {{.Action}}'",
        &[
            "container create",
            "container die",
            "volume create",
            "network create",
        ],
    ),
    shows(
        "system events --since 10m --until -1s --filter type=container --filter event=die --filter container=done --filter label=of=the-sweep --filter image=busybox",
        &["container die", "exitCode=0", "name=done"],
    ),
    until(
        "system events -f event=start --since 10m",
        "container start",
    ),
    shows(
        "system events --since 10m --until -1s --format json -f network=left",
        &["\"Type\":\"network\""],
    ),
    piped(
        "system prune",
        "n\n",
        "WARNING! This will remove:\n  - all stopped containers\n  - all networks not used by at least one container\n  - all dangling images\n  - unused build cache\n\nAre you sure you want to continue? [y/N]",
    ),
    shows(
        "system prune -f --filter label=of=the-sweep",
        &["Deleted Containers:"],
    ),
    prints("container ls -aq --filter name=done", ""),
    shows(
        "system prune --force -a --volumes",
        &["Deleted Networks:", "left", "Total reclaimed space:"],
    ),
    prints("container ls --format {{.Names}}", "box"),
];

#[test]
fn every_command_of_volume() {
    sweep(VOLUMES);
}

#[test]
fn every_command_of_network() {
    sweep(NETWORKS);
}

#[test]
fn every_command_of_system() {
    sweep(SYSTEM);
}
