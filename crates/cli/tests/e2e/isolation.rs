//! What a container sees and may do by default.

use testkit::docker::Client;
use testkit::engine::Engine;

use crate::bench::engine;

/// Runs a shell script in a fresh container.
#[track_caller]
fn check(engine: &Engine, script: &str, expect: &str) {
    engine
        .docker(&format!("run --rm busybox sh -c '{script}'"))
        .prints(expect);
}

#[test]
fn proc_and_sys_are_masked_and_read_only() {
    let engine = engine();
    for path in [
        "/proc/kcore",
        "/proc/keys",
        "/proc/timer_list",
        "/proc/latency_stats",
        "/proc/sched_debug",
    ] {
        check(
            &engine,
            &format!("test ! -e {path} || wc -c < {path}"),
            if std::path::Path::new(path).exists() {
                "0"
            } else {
                ""
            },
        );
    }
    for path in [
        "/proc/acpi",
        "/proc/scsi",
        "/proc/asound",
        "/sys/firmware",
        "/sys/devices/virtual/powercap",
    ] {
        check(&engine, &format!("test ! -e {path} || ls -A {path}"), "");
    }
    for path in [
        "/proc/bus",
        "/proc/fs",
        "/proc/irq",
        "/proc/sys",
        "/proc/sysrq-trigger",
    ] {
        check(
            &engine,
            &format!("test ! -e {path} || grep -o \" {path} proc ro,\" /proc/mounts"),
            if std::path::Path::new(path).exists() {
                &*Box::leak(format!(" {path} proc ro,").into_boxed_str())
            } else {
                ""
            },
        );
    }
    check(
        &engine,
        "echo 1 > /proc/sys/kernel/panic || echo refused",
        "refused",
    );
    check(
        &engine,
        "echo b > /proc/sysrq-trigger || echo refused",
        "refused",
    );
    check(
        &engine,
        "mkdir /sys/x || echo refused; touch /sys/fs/cgroup/x || echo refused; mkdir /sys/fs/cgroup/pids/x || echo refused",
        "refused\nrefused\nrefused",
    );
    check(&engine, "grep -c \" /sys sysfs ro\" /proc/mounts", "1");
}

#[test]
fn devices_are_dockers_and_no_others() {
    let engine = engine();
    check(
        &engine,
        "ls /dev | tr \"\\n\" \" \"",
        "core fd full mqueue null ptmx pts random shm stderr stdin stdout tty urandom zero",
    );
    check(
        &engine,
        "mknod /d b 254 0 && cat /d || echo refused",
        "refused",
    );
    check(
        &engine,
        "mknod /k c 1 11 && cat /k || echo refused",
        "refused",
    );
    check(
        &engine,
        "mknod /n c 1 3 && echo x > /n && echo fine",
        "fine",
    );
    check(
        &engine,
        "readlink /dev/fd; readlink /dev/ptmx; stat -c %a /dev/shm",
        "/proc/self/fd\npts/ptmx\n1777",
    );
}

#[test]
fn the_system_call_filter_is_dockers() {
    let engine = engine();
    // mount, unshare, setns and the like need CAP_SYS_ADMIN in the default profile
    check(
        &engine,
        "mount -t tmpfs x /mnt 2>&1 || mkdir -p /m; mount -t tmpfs x /m 2>&1 | grep -c \"denied\\|permitted\"",
        "1",
    );
    check(
        &engine,
        "unshare -U true 2>&1 | grep -c \"not permitted\"; unshare -m true 2>&1 | grep -c \"not permitted\"",
        "1\n1",
    );
    engine.docker("run --rm --cap-add SYS_ADMIN busybox sh -c 'mkdir /m; mount -t tmpfs x /m && echo mounted'").prints("mounted");
    engine.docker("run --rm --security-opt seccomp=unconfined busybox sh -c 'unshare -U true && echo allowed'").prints("allowed");
}

#[test]
fn processes_of_the_host_and_of_others_are_not_seen() {
    let engine = engine();
    engine.docker("run -d --name other busybox sleep 4321").ok();
    for client in Client::BOTH {
        engine.run(client, "run --rm busybox sh -c 'ls /proc | grep -c \"^[0-9]\"; ps | grep -c \"[s]leep 4321\"; true'").prints("5\n0");
    }
    check(
        &engine,
        "cat /proc/self/cgroup | cut -d: -f3 | sort -u",
        "/",
    );
    check(
        &engine,
        "ls -l /proc/self/exe | grep -c busybox; ls -l /proc/1/exe | grep -c memfd; true",
        "1\n0",
    );
    check(&engine, "ls /proc/self/fd | wc -l", "4");
    check(&engine, "cat /proc/1/oom_score_adj", "0");
}

#[test]
fn the_root_is_pivoted_and_nothing_of_the_host_is_mounted() {
    let engine = engine();
    let folder = engine.root_folder().display().to_string();
    let mounts = engine.docker("run --rm busybox cat /proc/self/mountinfo");
    let tops: Vec<&str> = mounts
        .ok()
        .lines()
        .filter(|line| line.split(' ').nth(4) == Some("/"))
        .collect();
    assert_eq!(tops.len(), 1, "{mounts:?}");
    assert!(tops[0].contains(" overlay "), "{mounts:?}");
    for line in mounts.ok().lines() {
        let source = line.split(' ').nth(3).unwrap();
        let point = line.split(' ').nth(4).unwrap();
        let ours = ["/etc/resolv.conf", "/etc/hostname", "/etc/hosts"].contains(&point);
        assert!(ours || !source.contains(&folder), "{line}");
        assert!(!line.contains(" shared:"), "{line}");
    }
    engine
        .docker("run --rm --privileged busybox sh -c 'ls /../../.. | grep -c ^work$; true'")
        .prints("0");
}
