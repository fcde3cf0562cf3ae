//! What a container sees and may do by default.

use std::path::Path;

use testkit::docker::Client;
use testkit::engine::Engine;

use crate::bench::{Checks, engine};

/// Shell scripts, each run in a container of its own with default settings.
struct Inside {
    engine: Engine,
    checks: Checks,
}

fn inside() -> Inside {
    Inside {
        checks: Checks::default(),
        engine: engine(),
    }
}

impl Inside {
    fn prints(&mut self, script: &str, expect: &str) {
        let outcome = self
            .engine
            .docker(&format!("run --rm busybox sh -c '{script}'"));
        self.checks.prints(&outcome, expect);
    }
}

#[test]
fn proc_and_sys_are_masked_and_read_only() {
    let mut inside = inside();
    for path in [
        "/proc/kcore",
        "/proc/keys",
        "/proc/timer_list",
        "/proc/latency_stats",
        "/proc/sched_debug",
        "/proc/interrupts",
    ] {
        let expect = if Path::new(path).exists() { "0" } else { "" };
        inside.prints(&format!("test ! -e {path} || wc -c < {path}"), expect);
        inside.prints(
            &format!("test ! -e {path} || echo x 2>/dev/null >> {path}; wc -c < /dev/null"),
            "0",
        );
    }
    for path in [
        "/proc/acpi",
        "/proc/scsi",
        "/proc/asound",
        "/sys/firmware",
        "/sys/devices/virtual/powercap",
        "/sys/devices/system/cpu/cpu0/thermal_throttle",
    ] {
        inside.prints(
            &format!(
                "test ! -e {path} || ls -A {path}; touch {path}/x 2>/dev/null && echo made; true"
            ),
            "",
        );
    }
    for path in [
        "/proc/bus",
        "/proc/fs",
        "/proc/irq",
        "/proc/sys",
        "/proc/sysrq-trigger",
    ] {
        let expect = if Path::new(path).exists() { "1" } else { "" };
        inside.prints(
            &format!("test ! -e {path} || grep -c \" {path} proc ro,\" /proc/mounts"),
            expect,
        );
    }
    inside.prints(
        "echo 1 2>/dev/null > /proc/sys/kernel/panic || echo refused",
        "refused",
    );
    inside.prints("echo b > /proc/sysrq-trigger || echo refused", "refused");
    inside.prints(
        "mkdir /sys/x || echo refused; mkdir /sys/fs/cgroup/x || echo refused; mkdir /sys/fs/cgroup/pids/x || echo refused",
        "refused\nrefused\nrefused",
    );
    inside.prints("grep -c \" /sys sysfs ro\" /proc/mounts", "1");
}

#[test]
fn devices_are_dockers_and_no_others() {
    let mut inside = inside();
    let devices = "fd full mqueue null ptmx pts random shm stderr stdin stdout tty urandom zero";
    // kcore is a link that Docker makes only where the host's kernel has it
    inside.prints("ls /dev | grep -v core | xargs", devices);
    inside.prints("mknod /d b 254 0 && cat /d || echo refused", "refused");
    inside.prints("mknod /k c 1 11 && cat /k || echo refused", "refused");
    inside.prints("mknod /n c 1 3 && echo x > /n && echo fine", "fine");
    inside.prints(
        "readlink /dev/fd; readlink /dev/ptmx; stat -c %a /dev/shm",
        "/proc/self/fd\npts/ptmx\n1777",
    );
}

#[test]
fn the_system_call_filter_is_dockers() {
    let mut inside = inside();
    // mount, unshare, setns and the like need CAP_SYS_ADMIN in the default profile
    inside.prints(
        "mkdir /m; mount -t tmpfs x /m 2>&1 | grep -c \"denied\\|permitted\"",
        "1",
    );
    inside.prints("unshare -U true 2>&1 | grep -c \"not permitted\"", "1");
    inside.prints("unshare -m true 2>&1 | grep -c \"not permitted\"", "1");
    let run = |line: &str| inside.engine.docker(&format!("run --rm {line}"));
    run("--cap-add SYS_ADMIN busybox sh -c 'mkdir /m; mount -t tmpfs x /m && echo mounted'")
        .prints("mounted");
    run("--security-opt seccomp=unconfined busybox sh -c 'unshare -U true && echo allowed'")
        .prints("allowed");
}

#[test]
fn processes_of_the_host_and_of_others_are_not_seen() {
    let mut inside = inside();
    inside
        .engine
        .docker("run -d --name other busybox sleep 4321")
        .ok();
    for client in Client::BOTH {
        let outcome = inside.engine.run(
            client,
            "run --rm busybox sh -c 'for p in /proc/[0-9]*; do echo $p; done'",
        );
        inside.checks.prints(&outcome, "/proc/1");
    }
    inside.prints("cut -d: -f3 /proc/self/cgroup | sort -u", "/");
    inside.prints("readlink /proc/1/exe", "/bin/sh");
    inside.prints("ls /proc/self/fd | xargs", "0 1 2 3");
    inside.prints("cat /proc/1/oom_score_adj", "0");
    inside.prints("kill -0 2 2>/dev/null || echo nobody", "nobody");
}

#[test]
fn the_root_is_pivoted_and_nothing_of_the_host_is_mounted() {
    let inside = inside();
    let folder = inside.engine.root_folder().display().to_string();
    let mounts = inside
        .engine
        .docker("run --rm busybox cat /proc/self/mountinfo");
    let field = |line: &str, index: usize| line.split(' ').nth(index).unwrap().to_owned();
    let mut roots = mounts.ok().lines().filter(|line| field(line, 4) == "/");
    assert!(roots.next().unwrap().contains(" overlay "), "{mounts:?}");
    assert!(roots.next().is_none(), "{mounts:?}");
    for line in mounts.ok().lines() {
        let point = field(line, 4);
        let ours = ["/etc/resolv.conf", "/etc/hostname", "/etc/hosts"].contains(&point.as_str());
        assert!(ours || !field(line, 3).contains(&folder), "{line}");
        assert!(!line.contains(" shared:"), "{line}");
    }
    // the way up ends at the container's own root
    inside
        .engine
        .docker("run --rm --privileged busybox ls -d /../../../bin/busybox /../../var/tmp/ge-*")
        .fails(1);
}
