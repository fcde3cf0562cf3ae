//! `docker container`, all but `create` and `run`.

use super::{Case, fails, leaves, ok, piped, prints, shows, sweep, typed, until};

pub(super) const CASES: &[Case] = &[
    ok(
        "container run -d --name box -l tier=web -p 8093:80/tcp --restart on-failure:3 busybox sh -c 'trap \"exit 4\" INT; echo out $N; echo err >&2; while :; do sleep 0.05; done'",
    ),
    ok("container create --name idle busybox"),
    // ls
    shows("container ls", &["box", "0.0.0.0:8093->80/tcp", "Up "]),
    prints(
        "container ls -a --format {{.Names}} --filter label=tier=web",
        "box",
    ),
    prints("container ls --all --format {{.Names}} -n 1", "idle"),
    prints("container ls --latest --format {{.Names}}", "idle"),
    prints(
        "container ls -a --last 2 --format '{{.Names}} {{.State}}'",
        "idle created\nbox running",
    ),
    shows(
        "container ls -s --no-trunc --format 'table {{.Command}}\\t{{.Size}}'",
        &["while :; do sleep 0.05; done", "(virtual "],
    ),
    shows(
        "container ls --format json --size",
        &["\"Names\":\"box\"", "\"LocalVolumes\":\"0\""],
    ),
    prints(
        "container ls -a --filter name=^/bo --filter status=running --filter ancestor=busybox --filter publish=80 --format {{.Names}}",
        "box",
    ),
    prints(
        "container ls -a --filter status=created --filter exited=0 --format {{.Names}}",
        "",
    ),
    prints(
        "container ls -a --filter since=box --format {{.Names}}",
        "idle",
    ),
    prints(
        "container ls -a --filter before=idle --filter network=bridge --filter is-task=false --filter health=none --format {{.Names}}",
        "box",
    ),
    fails(
        "container ls --filter nosuch=1",
        1,
        "invalid filter 'nosuch'",
    ),
    // inspect, port, top
    shows("container inspect -s -f {{.SizeRw}} idle", &[""]),
    prints(
        "container inspect --size --format '{{.Name}} {{.State.Status}}' box idle",
        "/box running\n/idle created",
    ),
    fails("container inspect nosuch", 1, "No such container: nosuch"),
    shows("container port box", &["80/tcp -> 0.0.0.0:8093"]),
    shows("container port box 80/tcp", &["0.0.0.0:8093"]),
    fails(
        "container port box 81",
        1,
        "No public port '81' published for box",
    ),
    shows("container top box", &["PID", "while :; do sleep 0.05"]),
    shows("container top box -eo pid,comm", &["PID", "COMMAND", "sh"]),
    fails("container top idle", 1, "is not running"),
    // exec
    prints("container exec box echo inside", "inside"),
    prints(
        "container exec -e A=1 --env-file {home}/env -u nobody -w /tmp box sh -c 'echo $A $FROM $(id -un) $(pwd)'",
        "1 file nobody /tmp",
    ),
    piped("container exec -i box cat", "through", "through"),
    fails(
        "container exec --privileged box sh -c 'grep -c CapEff.*00000000a80425fb /proc/self/status'",
        1,
        "0",
    ),
    ok("container exec -d box touch /made"),
    prints(
        "container exec box sh -c 'for i in $(seq 600); do test -e /made && break; sleep 0.1; done; ls /made'",
        "/made",
    ),
    typed(
        "container exec -it box sh",
        &[("# ", "stty size; exit 0\n")],
    ),
    leaves(
        "container exec -it --detach-keys ctrl-a,x box sh",
        1,
        &[("# ", "echo id is $PPID\n"), ("id is 0", "\x01x")],
    ),
    fails(
        "container exec box nosuch",
        127,
        "executable file not found in $PATH",
    ),
    fails("container exec idle true", 1, "is not running"),
    // pause, update, rename, stats
    prints("container pause box", "box"),
    prints(
        "container ls --filter status=paused --format {{.Names}}",
        "box",
    ),
    fails("container exec box true", 1, "is paused"),
    prints("container unpause box", "box"),
    fails("container unpause box", 1, "is not paused"),
    ok(
        "container update --blkio-weight 300 --cpu-period 50000 --cpu-quota 25000 -c 512 --cpuset-cpus 0 --cpuset-mems 0 -m 128m --memory-reservation 32m --memory-swap 256m --pids-limit 50 --restart no box",
    ),
    prints(
        "container inspect -f '{{with .HostConfig}}{{.CpuPeriod}} {{.CpuQuota}} {{.CpuShares}} {{.CpusetCpus}} {{.CpusetMems}} {{.Memory}} {{.MemoryReservation}} {{.MemorySwap}} {{.PidsLimit}} {{.RestartPolicy.Name}}{{end}}' box",
        "50000 25000 512 0 0 134217728 33554432 268435456 50 no",
    ),
    ok("container update --cpus 1.5 --cpu-rt-period 1000000 --cpu-rt-runtime 0 idle"),
    prints(
        "container inspect -f {{.HostConfig.NanoCpus}} idle",
        "1500000000",
    ),
    ok("container rename idle still"),
    fails(
        "container rename still box",
        1,
        "is already in use by container",
    ),
    shows(
        "container stats --no-stream box",
        &["box", "128MiB", "PIDS"],
    ),
    shows(
        "container stats -a --no-stream --no-trunc --format '{{.Name}} {{.MemUsage}}'",
        &["box ", "/ 128MiB", "still 0B"],
    ),
    shows(
        "container stats --all --no-stream --format json",
        &["\"Name\":\"still\"", "\"CPUPerc\":\"0.00%\""],
    ),
    // kill, stop, start, restart, wait
    fails("container kill -s NOSUCH box", 1, "invalid signal: NOSUCH"),
    ok("container restart -t 0 box"),
    ok("container restart --timeout 5 -s INT box"),
    until("container logs -f box", "out"),
    // its shell has set the trap
    ok(
        "container exec box sh -c 'for i in $(seq 600); do grep -q \"SigCgt:.*[1-9a-f]\" /proc/1/status && break; sleep 0.1; done'",
    ),
    ok("container stop -s INT -t 5 box"),
    prints("container inspect -f {{.State.ExitCode}} box", "4"),
    prints("container wait box", "4"),
    ok("container start box still"),
    prints("container wait still", "0"),
    ok("container kill --signal KILL box"),
    prints("container wait box", "137"),
    fails("container kill box", 1, "is not running"),
    ok("container stop --signal INT --timeout 1 still box"),
    ok("container restart --signal TERM still"),
    // rm and prune
    ok("container create --name linked --link box:db -v /anonymous busybox"),
    fails(
        "container rm --link linked",
        1,
        "cannot remove the default link name of the container",
    ),
    ok("container rm -v linked"),
    prints("volume ls -q", ""),
    ok("container run -d --name alive busybox sleep 1000"),
    fails(
        "container rm alive",
        1,
        "container is running: stop the container before removing or force remove",
    ),
    ok("container rm -f --volumes alive"),
    ok("container rm --force nosuch"),
    ok("container create --name old -l of=the-sweep busybox"),
    shows(
        "container prune -f --filter label=of=the-sweep",
        &["Deleted Containers:", "Total reclaimed space: "],
    ),
    shows(
        "container prune --force --filter until=24h",
        &["Total reclaimed space: 0B"],
    ),
    piped(
        "container prune --filter label!=tier",
        "n\n",
        "WARNING! This will remove all stopped containers.\nAre you sure you want to continue? [y/N]",
    ),
    shows("container prune --force", &["Deleted Containers:"]),
    prints("container ls -aq", ""),
];

/// Files of containers, and what is made of them.
pub(super) const FILES: &[Case] = &[
    ok("container run -d --name box busybox sleep 1000"),
    ok("container cp {home}/env box:/copied"),
    ok("container cp -q {home}/env box:/tmp/"),
    prints(
        "container exec box cat /copied /tmp/env",
        "FROM=file\nFROM=file",
    ),
    ok("container exec box sh -c 'ln -s /copied /link; chown 7:8 /copied; rm /etc/group'"),
    shows(
        "container cp box:/copied -",
        &["copied", "FROM=file", "ustar"],
    ),
    ok("container cp --archive --follow-link --quiet box:/link {home}/back"),
    ok("container cp -a {home}/back box:/again"),
    ok("container cp -L box:/link {home}/followed"),
    fails(
        "container cp box:/nosuch {home}/x",
        1,
        "Could not find the file /nosuch in container box",
    ),
    fails(
        "container cp {home}/nosuch box:/",
        1,
        "no such file or directory",
    ),
    shows(
        "container diff box",
        &["A /copied", "A /link", "C /etc", "D /etc/group"],
    ),
    fails("container diff nosuch", 1, "No such container: nosuch"),
    ok("container export -o {home}/box.tar box"),
    shows("container export --output {home}/again.tar box", &[""]),
    shows(
        "container commit -a me -m why -c 'ENV A=b' --change 'CMD [\"cat\", \"/copied\"]' --pause=false box made:v1",
        &["sha256:"],
    ),
    prints(
        "image inspect -f '{{.Author}} {{.Comment}} {{json .Config.Cmd}}' made:v1",
        "me why [\"cat\",\"/copied\"]",
    ),
    prints("container run --rm made:v1", "FROM=file"),
    ok("container commit --author me --message why -p box"),
    shows(
        "image import -c 'CMD [\"cat\", \"/copied\"]' -m flat --platform linux/{arch} {home}/box.tar flat:v1",
        &["sha256:"],
    ),
    prints("container run --rm flat:v1", "FROM=file"),
    prints("image inspect -f {{.Comment}} flat:v1", "flat"),
    shows(
        "image import --change 'ENV A=b' --message again {home}/box.tar",
        &["sha256:"],
    ),
    fails(
        "image import {home}/nosuch.tar",
        1,
        "no such file or directory",
    ),
];

/// What is about streams: logs and attached terminals.
pub(super) const STREAMS: &[Case] = &[
    ok(
        "container run --name told -l tier=web -e N=1 --log-opt labels=tier --log-opt env=N busybox sh -c 'for i in 1 2 3; do echo line $i; done; echo err >&2'",
    ),
    prints("container logs told", "line 1\nline 2\nline 3"),
    prints("container logs -n 1 --since 1h --until 1s told", ""),
    shows(
        "container logs --tail 2 -t told",
        &["T", "Z line 3", "Z err"],
    ),
    prints("container logs --tail 0 told", ""),
    shows(
        "container logs --details --timestamps told",
        &["N=1,tier=web line 1"],
    ),
    prints(
        "container logs --follow --since 2020-01-01T00:00:00Z told",
        "line 1\nline 2\nline 3",
    ),
    prints("container logs -f --until 2020-01-01 told", ""),
    fails("container logs nosuch", 1, "No such container: nosuch"),
    prints("container start -a told", "line 1\nline 2\nline 3"),
    ok("container create -i --name echo busybox sh -c 'read line; echo got $line; exit 6'"),
    START,
    ok("container create -it --name shell busybox sh"),
    typed(
        "container start --attach --interactive --detach-keys ctrl-a,x shell",
        &[("# ", "echo id is $$\n"), ("id is 1", "\x01x")],
    ),
    leaves(
        "container attach --detach-keys ctrl-b shell",
        1,
        &[("", "echo again $$\n"), ("again 1", "\x02")],
    ),
    leaves("container attach shell", 7, &[("", "exit 7\n")]),
    ok("container run -d --name chatter busybox sh -c 'while :; do echo chat; sleep 0.1; done'"),
    until(
        "container attach --no-stdin --sig-proxy=false chatter",
        "chat",
    ),
    fails(
        "container attach told",
        1,
        "cannot attach to a stopped container",
    ),
];

const START: Case = super::case(
    "container start -ai echo",
    super::Input::Pipe("words\n"),
    super::Expect::Fails(6, "got words"),
);

#[test]
fn every_other_command_of_container() {
    sweep(CASES);
}

#[test]
fn files_of_containers_and_images_made_of_them() {
    sweep(FILES);
}

#[test]
fn logs_and_attached_terminals() {
    sweep(STREAMS);
}
