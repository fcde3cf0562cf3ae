//! What a container sees of itself.

use std::fs;

use oci::runtime::{Device, NamespaceKind};

use super::Test;
use super::bed::{Bed, args, spec};

pub(crate) const TESTS: &[Test] = &[
    ("inside::says_hello", says_hello),
    ("inside::namespaces_are_new", namespaces_are_new),
    ("inside::host_namespaces_are_kept", host_namespaces_are_kept),
    ("inside::the_host_is_gone", the_host_is_gone),
    ("inside::devices_are_dockers", devices_are_dockers),
    (
        "inside::masked_and_readonly_paths",
        masked_and_readonly_paths,
    ),
    ("inside::a_readonly_root", a_readonly_root),
    ("inside::kernel_parameters", kernel_parameters),
    ("inside::descriptors_are_three", descriptors_are_three),
];

fn says_hello() {
    let bed = Bed::new("hello");
    let output = bed.shell("echo $$ $(hostname) $(pwd) $HOME; exit 7");
    assert_eq!(output.text, "1 whale / /root\n");
    assert_eq!(output.code, 7);
    assert!(bed.leftovers().is_empty());
}

const LINKS: &str = "for n in pid net ipc uts mnt cgroup; do readlink /proc/self/ns/$n; done";

fn own_links() -> Vec<String> {
    ["pid", "net", "ipc", "uts", "mnt", "cgroup"]
        .map(|name| fs::read_link(format!("/proc/self/ns/{name}")).unwrap())
        .map(|link| link.to_str().unwrap().to_owned())
        .into()
}

fn namespaces_are_new() {
    let bed = Bed::new("ns");
    let output = bed.shell(LINKS);
    let theirs: Vec<_> = output.text.lines().collect();
    assert_eq!(theirs.len(), 6, "{output:?}");
    for own in own_links() {
        assert!(!theirs.contains(&&*own), "{own} is shared");
    }
}

fn host_namespaces_are_kept() {
    let bed = Bed::new("host-ns");
    let mut spec = spec(&["/bin/sh", "-c", LINKS]);
    let keep = |kind| matches!(kind, NamespaceKind::Mount);
    spec.linux
        .namespaces
        .retain(|namespace| keep(namespace.kind));
    spec.hostname = None;
    let output = bed.run(&spec);
    let theirs: Vec<_> = output.text.lines().collect();
    let own = own_links();
    for at in [0, 1, 2, 3, 5] {
        assert_eq!(theirs[at], own[at]);
    }
    assert_ne!(theirs[4], own[4]);
}

fn the_host_is_gone() {
    let bed = Bed::new("pivot");
    let output = bed.shell("cat /proc/self/mountinfo; ls /; ls -a /proc/1/root/");
    // the kernel lists mounts by their age
    let root = output.text.lines().find(|line| line.contains(" / / "));
    assert!(root.unwrap().contains("overlay"), "{output:?}");
    for line in output.text.lines().filter(|line| line.contains(" - ")) {
        let place = line.split(' ').nth(4).unwrap();
        let known = ["/proc", "/dev", "/sys"];
        let ours = place == "/" || known.iter().any(|prefix| place.starts_with(prefix));
        assert!(ours, "{line}");
        assert!(
            !line.contains("shared:") && !line.contains("master:"),
            "{line}"
        );
    }
    assert!(!output.text.contains("\nhome\n"));
}

fn devices_are_dockers() {
    let bed = Bed::new("dev");
    let mut spec = spec(&[
        "/bin/sh",
        "-c",
        "ls /dev | sort; stat -c '%n %t:%T %a %u' /dev/null /dev/full /dev/tty /dev/own; \
         for l in ptmx fd stdout core; do readlink /dev/$l; done; echo x > /dev/null; head -c 4 /dev/zero | wc -c; \
         touch /dev/shm/a /dev/b; stat -c %a /dev/shm",
    ]);
    spec.linux.devices = vec![Device {
        kind: "c".to_owned(),
        path: "/dev/own".into(),
        major: 1,
        minor: 3,
        file_mode: Some(0o640),
        uid: Some(12),
        gid: None,
    }];
    let output = bed.run(&spec);
    let expect = "core\nfd\nfull\nmqueue\nnull\nown\nptmx\npts\nrandom\nshm\nstderr\nstdin\nstdout\n\
                  tty\nurandom\nzero\n/dev/null 1:3 666 0\n/dev/full 1:7 666 0\n/dev/tty 5:0 666 0\n\
                  /dev/own 1:3 640 12\npts/ptmx\n/proc/self/fd\n/proc/self/fd/1\n/proc/kcore\n4\n1777\n";
    assert_eq!(output.text, expect);
}

fn masked_and_readonly_paths() {
    let bed = Bed::new("mask");
    let output = bed.shell(
        "wc -c < /proc/interrupts; wc -c < /proc/keys; ls -a /sys/firmware | wc -l; \
         (echo 1 > /proc/irq/default_smp_affinity) 2>&1; (echo 1 > /proc/sys/kernel/panic) 2>&1; \
         (touch /sys/firmware/x) 2>&1; (touch /sys/x) 2>&1; (echo x > /proc/keys) && echo written",
    );
    let lines: Vec<_> = output.text.lines().collect();
    assert_eq!(lines[..3], ["0", "0", "2"], "{output:?}");
    assert!(lines[3].contains("Read-only file system"), "{output:?}");
    assert!(lines[4].contains("Read-only file system"), "{output:?}");
    assert!(lines[5].contains("Read-only file system"), "{output:?}");
    assert!(lines[6].contains("Read-only file system"), "{output:?}");
    assert_eq!(lines[7], "written", "the null device takes everything");
}

fn a_readonly_root() {
    let bed = Bed::new("ro");
    let mut spec = spec(&["/bin/sh", "-c", "touch /x 2>&1; touch /dev/shm/x && pwd"]);
    spec.root.readonly = true;
    spec.process.cwd = "/made/here".to_owned();
    let output = bed.run(&spec);
    let expect = "touch: /x: Read-only file system\n/made/here\n";
    assert_eq!(output.text, expect);
}

fn kernel_parameters() {
    let bed = Bed::new("sysctl");
    let read = "cat /proc/sys/net/ipv4/ip_unprivileged_port_start /proc/sys/kernel/domainname";
    let mut spec = spec(&["/bin/sh", "-c", read]);
    let value = ("net.ipv4.ip_unprivileged_port_start", "77");
    let other = ("kernel.domainname", "sea");
    for (name, value) in [value, other] {
        spec.linux.sysctl.insert(name.to_owned(), value.to_owned());
    }
    assert_eq!(bed.run(&spec).text, "77\nsea\n");
    // and without a procfs in the container
    spec.mounts
        .retain(|mount| mount.kind.as_deref() != Some("proc"));
    spec.process.args = args(&["/bin/true"]);
    assert_eq!(bed.run(&spec).code, 0);
}

fn descriptors_are_three() {
    let bed = Bed::new("fds");
    // ls itself opens the directory
    let output = bed.shell("ls /proc/self/fd | wc -l; ls -l /proc/1/fd | grep -v pipe");
    assert!(output.text.starts_with("4\n"), "{output:?}");
    assert!(!output.text.contains("socket"), "{output:?}");
}
