//! `docker container run`: each flag is seen from inside the container.

use super::{Case, fails, ok, piped, prints, shows, sweep, typed, until};

pub(super) const CASES: &[Case] = &[
    // names, hosts and the resolver
    prints(
        "container run --rm -h box --domainname example.net --add-host db:10.1.2.3 busybox sh -c 'hostname -f; grep -c 10.1.2.3.db$ /etc/hosts'",
        "box.example.net\n1",
    ),
    prints(
        "container run --rm --dns 9.9.9.9 --dns-search example.org --dns-option ndots:3 busybox sh -c 'grep -v ^# /etc/resolv.conf | grep .'",
        "nameserver 9.9.9.9\nsearch example.org\noptions ndots:3",
    ),
    shows("container run --help", &["Create and run a new container"]),
    // what runs, as whom and where
    prints(
        "container run --rm -e A=1 --env B --env-file {home}/env busybox sh -c 'echo $A/${B-unset}/$FROM'",
        "1/unset/file",
    ),
    prints(
        "container run --rm --entrypoint echo -w /tmp -u 1000:2000 --group-add 7 busybox said",
        "said",
    ),
    prints(
        "container run --rm -w /tmp -u 1000:2000 --group-add 7 busybox sh -c 'id -u; id -G; pwd'",
        "1000\n2000 7\n/tmp",
    ),
    prints(
        "container run --rm --user nobody --workdir /home busybox sh -c 'id -un; pwd'",
        "nobody\n/home",
    ),
    prints(
        "container run --rm --init busybox sh -c 'test $$ -ne 1 && echo child'",
        "child",
    ),
    prints(
        "container run --rm -a stdout busybox sh -c 'echo out; echo err >&2'",
        "out",
    ),
    piped(
        "container run --rm -i --attach stdin --attach stdout busybox cat",
        "in and out",
        "in and out",
    ),
    shows(
        "container run --rm -t busybox sh -c 'test -t 0 && echo terminal'",
        &["terminal"],
    ),
    typed(
        "container run -it --name detached --detach-keys ctrl-a,x busybox sh",
        &[("# ", "echo I am $$\n"), ("I am 1", "\x01x")],
    ),
    prints("container inspect -f {{.State.Status}} detached", "running"),
    ok("container rm -f detached"),
    until(
        "container run --rm --sig-proxy=false --name signalled busybox sh -c 'echo up; sleep 1000'",
        "up",
    ),
    ok("container rm -f signalled"),
    // files
    prints(
        "container run --rm -v {home}:/mnt:ro busybox sh -c 'touch /mnt/x 2>/dev/null || echo refused'",
        "refused",
    ),
    prints(
        "container run --rm --volume data:/data --volume-driver local busybox sh -c 'echo kept > /data/x; cat /data/x'",
        "kept",
    ),
    prints(
        "container run --rm --mount type=volume,src=data,dst=/d,ro busybox cat /d/x",
        "kept",
    ),
    prints(
        "container run --rm --tmpfs /scratch:size=1m busybox sh -c 'df -k /scratch | tail -1 | tr -s \" \" | cut -d\" \" -f2'",
        "1024",
    ),
    prints(
        "container run --rm --read-only --shm-size 8m busybox sh -c 'touch /x 2>/dev/null || df -k /dev/shm | tail -1 | tr -s \" \" | cut -d\" \" -f2'",
        "8192",
    ),
    ok("container create --name source -v data:/from:ro busybox"),
    prints(
        "container run --rm --volumes-from source busybox cat /from/x",
        "kept",
    ),
    ok("container rm source"),
    fails(
        "container run --rm --use-api-socket busybox true",
        125,
        "bind source path does not exist: /var/run/docker.sock",
    ),
    // limits
    prints(
        "container run --rm --cpuset-cpus 0 --cpuset-mems 0 busybox nproc",
        "1",
    ),
    prints(
        "container run --rm --ulimit nofile=100:200 --sysctl net.ipv4.ip_forward=1 --oom-score-adj 500 busybox sh -c 'ulimit -Sn; ulimit -Hn; cat /proc/sys/net/ipv4/ip_forward /proc/self/oom_score_adj'",
        "100\n200\n1\n500",
    ),
    prints(
        "container run --rm --pids-limit 20 busybox sh -c 'cat /sys/fs/cgroup/pids/pids.max /sys/fs/cgroup/pids.max 2>/dev/null; true'",
        "20",
    ),
    ok(
        "container run --rm -m 64m --memory-swap 128m --memory-reservation 32m --kernel-memory 32m --cpu-shares 512 --cpus 0.5 busybox true",
    ),
    ok("container run --rm --cpu-period 50000 --cpu-quota 25000 -c 256 busybox true"),
    shows(
        "container run --rm --oom-kill-disable busybox echo ran",
        &["ran"],
    ),
    shows(
        "container run --rm -m 64m --memory-swappiness 10 busybox echo ran",
        &["ran"],
    ),
    shows(
        "container run --rm --blkio-weight 300 --blkio-weight-device /dev/null:300 busybox echo ran",
        &["ran"],
    ),
    fails(
        "container run --rm --cpu-rt-period 1000000 --cpu-rt-runtime 2000000 busybox true",
        125,
        "",
    ),
    // devices
    prints(
        "container run --rm --device /dev/zero:/dev/made:r --device-cgroup-rule 'c 1:5 r' busybox stat -c %t:%T /dev/made",
        "1:5",
    ),
    // namespaces and rights
    prints(
        "container run --rm --pid host --uts host --ipc host --cgroupns host busybox sh -c 'test $$ -ne 1 && echo shared'",
        "shared",
    ),
    ok(
        "container run -d --name lead --ipc shareable --cgroupns private --userns host busybox sleep 1000",
    ),
    prints(
        "container run --rm --pid container:lead --ipc container:lead --network container:lead busybox sh -c 'ps | grep -c \"[s]leep 1000\"'",
        "1",
    ),
    ok("container rm -f lead"),
    prints(
        "container run --rm --cap-drop ALL --cap-add NET_RAW --security-opt no-new-privileges busybox sh -c 'grep -E \"CapEff|NoNewPrivs\" /proc/self/status | tr -s \"\\t\" \" \"'",
        "CapEff: 0000000000002000\nNoNewPrivs: 1",
    ),
    prints(
        "container run --rm --privileged busybox sh -c 'grep Seccomp: /proc/self/status | cut -f2'",
        "0",
    ),
    ok(
        "container run --rm --isolation default --runtime runc --disable-content-trust busybox true",
    ),
    fails(
        "container run --rm --runtime nosuch busybox true",
        125,
        "unknown or invalid runtime name: nosuch",
    ),
    // networks
    ok("network create --subnet 10.90.0.0/24 --ipv6 --subnet fd90::/64 net"),
    ok("container run -d --name peer --network net --network-alias mate busybox sleep 1000"),
    shows(
        "container run --rm --network net --ip 10.90.0.77 --ip6 fd90::77 --mac-address 02:42:0a:5a:00:4d --link peer:other busybox sh -c 'ip addr show eth0; ping -c 1 -W 30 mate; ping -c 1 -W 30 other'",
        &[
            "10.90.0.77/24",
            "fd90::77/64",
            "02:42:0a:5a:00:4d",
            "1 packets received",
        ],
    ),
    ok("container run --rm --network net --link-local-ip 169.254.7.7 busybox true"),
    ok("container rm -f peer"),
    ok("container run -d --name ports --expose 81 -p 127.0.0.1:8091:80 -P busybox sleep 1000"),
    shows(
        "container port ports",
        &["80/tcp -> 127.0.0.1:8091", "81/tcp -> 0.0.0.0:"],
    ),
    ok("container rm -f ports"),
    // what is kept of it
    ok(
        "container run -d --quiet --pull never --platform linux/{arch} --cidfile {home}/cid --name kept --restart on-failure:2 --stop-signal INT --stop-timeout 1 -l a=1 --label-file {home}/env --annotation b=2 --log-driver json-file --log-opt max-size=1m busybox sh -c 'trap \"exit 3\" INT; echo up; while :; do sleep 0.05; done'",
    ),
    prints(
        "container inspect -f '{{.Config.StopSignal}} {{.Config.StopTimeout}} {{.HostConfig.RestartPolicy}} {{.Config.Labels}} {{.HostConfig.Annotations}} {{.HostConfig.LogConfig}}' kept",
        "INT 1 {on-failure 2} map[FROM:file a:1] map[b:2] {json-file map[max-size:1m]}",
    ),
    until("container logs -f kept", "up"),
    ok("container stop kept"),
    prints("container inspect -f {{.State.ExitCode}} kept", "3"),
    ok("container rm kept"),
    ok(
        "container run -d --name well --health-cmd 'test -e /tmp/well' --health-interval 100ms --health-timeout 2s --health-retries 3 --health-start-period 10s --health-start-interval 100ms busybox sh -c 'touch /tmp/well; sleep 1000'",
    ),
    prints(
        "container inspect -f '{{.Config.Healthcheck.Test}} {{.Config.Healthcheck.Retries}}' well",
        "[CMD-SHELL test -e /tmp/well] 3",
    ),
    until(
        "system events --since 1 --filter container=well --filter event=health_status",
        "health_status: healthy",
    ),
    ok("container rm -f well"),
    ok("container run --rm --no-healthcheck busybox true"),
    // input and output of devices
    ok(
        "container run --rm --device-read-bps {disk}:1mb --device-read-iops {disk}:100 --device-write-bps {disk}:1mb --device-write-iops {disk}:100 busybox true",
    ),
    ok("container run --rm --cgroup-parent /{cgroup} busybox true"),
    fails(
        "container run --rm --gpus all busybox true",
        125,
        "could not select device driver",
    ),
    fails(
        "container run --rm --storage-opt size=10G busybox true",
        125,
        "--storage-opt is supported only for",
    ),
    fails(
        "container run --rm --isolation process busybox true",
        125,
        "linux only supports 'default'",
    ),
];

#[test]
fn every_flag_of_run() {
    sweep(CASES);
}
