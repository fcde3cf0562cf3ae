//! `docker container create`: each flag arrives as Docker's engine shows it.

use super::{Case, fails, ok, prints, shows, sweep};

pub(super) const CASES: &[Case] = &[
    shows("container create --help", &["Create a new container"]),
    ok(
        "container create --name texts --add-host db:10.1.2.3 --annotation a=b --attach stdout --cgroupns private -h box --domainname example.net --entrypoint cat -e A=1 --label b=2 -i -t -u 7 -w /tmp --stop-signal INT --stop-timeout 5 --expose 81/udp --pull missing -q busybox more words",
    ),
    prints(
        "container inspect -f '{{json .Config.Cmd}} {{json .Config.Entrypoint}} {{.Config.Hostname}} {{.Config.Domainname}} {{.Config.User}} {{.Config.WorkingDir}} {{.Config.StopSignal}} {{.Config.StopTimeout}} {{.Config.Tty}} {{.Config.OpenStdin}} {{.Config.AttachStdout}} {{.Config.AttachStderr}}' texts",
        "[\"more\",\"words\"] [\"cat\"] box example.net 7 /tmp INT 5 true true true false",
    ),
    prints(
        "container inspect -f '{{.HostConfig.ExtraHosts}} {{.HostConfig.Annotations}} {{.HostConfig.CgroupnsMode}} {{.Config.Labels}} {{.Config.ExposedPorts}} {{index .Config.Env 0}}' texts",
        "[db:10.1.2.3] map[a:b] private map[b:2] map[81/udp:{}] A=1",
    ),
    ok(
        "container create --name limits --blkio-weight 300 --blkio-weight-device /dev/null:400 --cpu-period 50000 --cpu-quota 25000 --cpu-shares 512 --cpuset-cpus 0 --cpuset-mems 0 -m 64m --memory-reservation 32m --memory-swap 128m --memory-swappiness 10 --oom-score-adj 400 --pids-limit 20 --shm-size 8m --ulimit nofile=100:200 --device-read-bps /dev/null:1mb --device-read-iops /dev/null:10 --device-write-bps /dev/null:2mb --device-write-iops /dev/null:20 --cpu-rt-period 1000000 --kernel-memory 32m busybox",
    ),
    prints(
        "container inspect -f '{{with .HostConfig}}{{.CpuPeriod}} {{.CpuQuota}} {{.CpuShares}} {{.CpusetCpus}} {{.CpusetMems}} {{.Memory}} {{.MemoryReservation}} {{.MemorySwap}} {{.MemorySwappiness}} {{.OomScoreAdj}} {{.PidsLimit}} {{.ShmSize}} {{json .Ulimits}}{{end}}' limits",
        "50000 25000 512 0 0 67108864 33554432 134217728 10 400 20 8388608 [{\"Hard\":200,\"Name\":\"nofile\",\"Soft\":100}]",
    ),
    ok(
        "container create --name rates --cpus 1.5 --oom-kill-disable -m 64m --cpu-rt-runtime 0 busybox",
    ),
    prints(
        "container inspect -f '{{.HostConfig.NanoCpus}} {{.HostConfig.OomKillDisable}}' rates",
        "1500000000 true",
    ),
    ok(
        "container create --name files -v data:/data:ro --mount type=bind,src={home},dst=/mnt --tmpfs /scratch:size=1m --volume-driver local --read-only --device /dev/zero:/dev/made --device-cgroup-rule 'c 1:5 r' --cidfile {home}/created busybox",
    ),
    prints(
        "container inspect -f '{{with .HostConfig}}{{.Binds}} {{len .Mounts}} {{.Tmpfs}} {{.VolumeDriver}} {{.ReadonlyRootfs}} {{(index .Devices 0).PathInContainer}} {{.DeviceCgroupRules}}{{end}}' files",
        "[data:/data:ro] 1 map[/scratch:size=1m] local true /dev/made [c 1:5 r]",
    ),
    ok("container create --name others --volumes-from files:ro busybox"),
    prints(
        "container inspect -f '{{.HostConfig.VolumesFrom}}' others",
        "[files:ro]",
    ),
    ok("network create --subnet 10.91.0.0/24 --subnet fd91::/64 --ipv6 net"),
    ok(
        "container create --name netted --network net --network-alias mate --ip 10.91.0.7 --ip6 fd91::7 --mac-address 02:42:0a:5b:00:07 --link-local-ip 169.254.7.7 --link files:f --dns 9.9.9.9 --dns-option ndots:3 --dns-search example.org -p 8092:80 -P busybox",
    ),
    prints(
        "container inspect -f '{{with index .NetworkSettings.Networks \"net\"}}{{.IPAMConfig.IPv4Address}} {{.IPAMConfig.IPv6Address}} {{.IPAMConfig.LinkLocalIPs}} {{.Links}} {{index .Aliases 0}} {{.MacAddress}}{{end}} {{with .HostConfig}}{{.Dns}} {{.DnsOptions}} {{.DnsSearch}} {{.PublishAllPorts}} {{.PortBindings}}{{end}}' netted",
        "10.91.0.7 fd91::7 [169.254.7.7] [files:f] mate 02:42:0a:5b:00:07 [9.9.9.9] [ndots:3] [example.org] true map[80/tcp:[map[HostIp: HostPort:8092]]]",
    ),
    ok(
        "container create --name rights --cap-add NET_ADMIN --cap-drop MKNOD --privileged --security-opt label=disable --group-add 7 --init --ipc shareable --pid host --uts host --userns host --sysctl net.ipv4.ip_forward=1 --cgroup-parent /{cgroup}/below --isolation default --disable-content-trust --log-driver json-file --log-opt max-file=2 --restart unless-stopped busybox",
    ),
    prints(
        "container inspect -f '{{with .HostConfig}}{{.CapAdd}} {{.CapDrop}} {{.Privileged}} {{.GroupAdd}} {{.Init}} {{.IpcMode}} {{.PidMode}} {{.UTSMode}} {{.UsernsMode}} {{.Sysctls}} {{.CgroupParent}} {{.LogConfig}} {{.RestartPolicy.Name}}{{end}}' rights",
        "[CAP_NET_ADMIN] [CAP_MKNOD] true [7] true shareable host host host map[net.ipv4.ip_forward:1] /{cgroup}/below {json-file map[max-file:2]} unless-stopped",
    ),
    ok(
        "container create --name health --health-cmd true --health-interval 1s --health-timeout 2s --health-retries 3 --health-start-period 4s --health-start-interval 5s busybox",
    ),
    prints(
        "container inspect -f '{{json .Config.Healthcheck}}' health",
        "{\"Test\":[\"CMD-SHELL\",\"true\"],\"Interval\":1000000000,\"Timeout\":2000000000,\"StartPeriod\":4000000000,\"StartInterval\":5000000000,\"Retries\":3}",
    ),
    ok(
        "container create --name unwatched --no-healthcheck --rm --platform linux/{arch} --runtime runc busybox",
    ),
    prints(
        "container inspect -f '{{.Config.Healthcheck.Test}} {{.HostConfig.AutoRemove}}' unwatched",
        "[NONE] true",
    ),
    ok("container create --name filed --env-file {home}/env --label-file {home}/env busybox"),
    prints(
        "container inspect -f '{{.Config.Labels}} {{index .Config.Env 0}}' filed",
        "map[FROM:file] FROM=file",
    ),
    fails(
        "container create --gpus all busybox",
        1,
        "could not select device driver \"\" with capabilities: [[gpu]]",
    ),
    fails(
        "container create --storage-opt size=10G busybox",
        1,
        "--storage-opt is supported only for",
    ),
    fails(
        "container create --use-api-socket busybox",
        1,
        "bind source path does not exist",
    ),
    fails(
        "container create --name texts busybox",
        1,
        "is already in use by container",
    ),
];

#[test]
fn every_flag_of_create() {
    sweep(CASES);
}
