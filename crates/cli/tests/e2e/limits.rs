//! Limits, as the kernel has them.

use testkit::docker::Client;

use crate::bench::{Checks, cgroup_file, engine, eventually};

#[test]
fn limits_are_in_the_cgroup() {
    let engine = engine();
    for client in Client::BOTH {
        let flags = "-m 64m --memory-swap 96m --cpus 0.5 --cpu-shares 512 --cpuset-cpus 0 --pids-limit 50 --memory-reservation 32m";
        engine
            .run(
                client,
                &format!("run -d --name box {flags} busybox sleep 1000"),
            )
            .ok();
        let pid = engine.inspect("box", "{{.State.Pid}}");
        let read = |v1: (&str, &str), v2: &str| cgroup_file(&pid, v1, v2);
        assert_eq!(
            read(("memory", "memory.limit_in_bytes"), "memory.max"),
            "67108864"
        );
        assert_eq!(
            read(("memory", "memory.soft_limit_in_bytes"), "memory.low"),
            "33554432"
        );
        assert_eq!(read(("pids", "pids.max"), "pids.max"), "50");
        assert_eq!(read(("cpuset", "cpuset.cpus"), "cpuset.cpus"), "0");
        let quota = read(("cpu", "cpu.cfs_quota_us"), "cpu.max");
        assert!(quota == "50000" || quota == "50000 100000", "{quota}");
        let shares = read(("cpu", "cpu.shares"), "cpu.weight");
        assert!(shares == "512" || shares == "20", "{shares}");
        engine
            .run(
                client,
                "exec box sh -c 'for i in $(seq 60); do sleep 5 & done' 2>&1",
            )
            .ok_or_fork_failure();
        engine.run(client, "rm -f box").ok();
    }
}

/// A process limit is met either way.
trait ForkFailure {
    fn ok_or_fork_failure(&self);
}

impl ForkFailure for testkit::docker::Outcome {
    fn ok_or_fork_failure(&self) {
        assert!(
            self.stderr.contains("fork") || self.stdout.contains("fork"),
            "{self:?}"
        );
    }
}

#[test]
fn update_changes_the_cgroup_of_a_running_container() {
    let engine = engine();
    engine
        .docker("run -d --name box -m 64m busybox sleep 1000")
        .ok();
    let pid = engine.inspect("box", "{{.State.Pid}}");
    for (client, megabytes) in [(Client::Docker, 80_u64), (Client::Gorae, 96)] {
        engine
            .run(
                client,
                &format!("update -m {megabytes}m --memory-swap 200m --pids-limit 33 --cpus 1 box"),
            )
            .ok();
        let read = |v1: (&str, &str), v2: &str| cgroup_file(&pid, v1, v2);
        assert_eq!(
            read(("memory", "memory.limit_in_bytes"), "memory.max"),
            (megabytes << 20).to_string()
        );
        assert_eq!(read(("pids", "pids.max"), "pids.max"), "33");
    }
}

#[test]
fn too_much_memory_ends_in_137_and_is_told() {
    let engine = engine();
    for client in Client::BOTH {
        engine
            .run(
                client,
                "run --name box -m 16m --memory-swap 16m busybox sh -c 'tail /dev/zero; exit $?'",
            )
            .fails(137);
        assert_eq!(engine.inspect("box", "{{.State.OOMKilled}}"), "true");
        engine.run(client, "rm box").ok();
    }
}

#[test]
fn limits_below_the_minimum_are_refused() {
    let engine = engine();
    let mut checks = Checks::default();
    for client in Client::BOTH {
        let mut check = |flags: &str, text: &str| {
            let outcome = engine.run(client, &format!("run --rm {flags} busybox true"));
            checks.complains(&outcome, 125, text);
        };
        check("-m 1m", "Minimum memory limit allowed is 6MB");
        check(
            "-m 32m --memory-swap 16m",
            "Minimum memoryswap limit should be larger than memory limit, see usage",
        );
        check(
            "--memory-swap 16m",
            "You should always set the Memory limit when using Memoryswap limit, see usage",
        );
        check("--cpus 1000", "range of CPUs is from 0.01 to");
        check(
            "--cpuset-cpus 900",
            "Requested CPUs are not available - requested 900, available: 0-",
        );
        check("--cpuset-cpus x", "Invalid value x for cpuset cpus");
        check(
            "--memory-reservation 64m -m 32m",
            "Minimum memory limit can not be less than memory reservation limit, see usage",
        );
        check(
            "-m 10x",
            "invalid argument \"10x\" for \"-m, --memory\" flag: invalid suffix: 'x'",
        );
        check("--ulimit nosuch=1", "invalid ulimit type: nosuch");
        check(
            "--ulimit nofile=3:2",
            "ulimit soft limit must be less than or equal to hard limit: 3 > 2",
        );
    }
}

#[test]
fn restart_policies_start_it_again() {
    let engine = engine();
    for client in Client::BOTH {
        engine
            .run(
                client,
                "run -d --name thrice --restart on-failure:2 busybox sh -c 'echo again; exit 1'",
            )
            .ok();
        engine
            .run(
                client,
                "run -d --name fine --restart on-failure busybox sh -c 'echo once'",
            )
            .ok();
        engine
            .run(
                client,
                "run -d --name ever --restart always busybox sh -c 'echo again; sleep 0.1'",
            )
            .ok();
        eventually("it gave up", || {
            engine.inspect("thrice", "{{.State.Status}} {{.RestartCount}}") == "exited 2"
        });
        assert_eq!(
            engine.run(client, "logs thrice").ok(),
            "again\nagain\nagain"
        );
        eventually("what went well has ended", || {
            engine.inspect("fine", "{{.State.Status}} {{.RestartCount}}") == "exited 0"
        });
        eventually("it comes back", || {
            engine
                .inspect("ever", "{{.RestartCount}}")
                .parse::<u32>()
                .unwrap()
                >= 2
        });
        engine.run(client, "stop -t 0 ever").ok();
        assert_eq!(engine.inspect("ever", "{{.State.Status}}"), "exited");
        engine.run(client, "rm -f thrice fine ever").ok();
        engine
            .run(client, "run --rm --restart always busybox true")
            .complains(125, "--restart");
        engine
            .run(client, "run --restart sometimes busybox true")
            .complains(125, "invalid restart policy");
    }
}
