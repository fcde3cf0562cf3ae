//! Containers whose users are not those of the host.

use std::fs;
use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _};
use std::path::PathBuf;

use oci::runtime::{Device, IdMapping, NamespaceKind, Rlimit, Spec};
use runtime::{ExecTarget, HostRoot};
use rustix::process::getpid;

use super::Test;
use super::bed::{Bed, Container, args, exec_in, mount, namespace, process, spec, streams};

pub(crate) const TESTS: &[Test] = &[
    (
        "users::root_is_somebody_else_outside",
        root_is_somebody_else_outside,
    ),
    (
        "users::files_keep_their_owners_on_the_disk",
        files_keep_their_owners_on_the_disk,
    ),
    (
        "users::a_directory_may_be_the_root",
        a_directory_may_be_the_root,
    ),
    (
        "users::the_hosts_things_stay_out_of_reach",
        the_hosts_things_stay_out_of_reach,
    ),
    (
        "users::devices_work_and_cannot_be_made",
        devices_work_and_cannot_be_made,
    ),
    (
        "users::mounts_may_show_the_containers_owners",
        mounts_may_show_the_containers_owners,
    ),
    (
        "users::execs_come_into_the_same_users",
        execs_come_into_the_same_users,
    ),
    (
        "users::limits_above_the_parents_are_reached",
        limits_above_the_parents_are_reached,
    ),
    (
        "users::namespaces_of_another_are_joined",
        namespaces_of_another_are_joined,
    ),
    ("users::a_mapping_needs_a_root", a_mapping_needs_a_root),
    (
        "users::a_file_system_that_cannot_is_named",
        a_file_system_that_cannot_is_named,
    ),
];

const UID: u32 = 1_700_000_000;
const GID: u32 = 1_800_000_000;

fn range(host_id: u32) -> Vec<IdMapping> {
    vec![IdMapping {
        container_id: 0,
        host_id,
        size: 65536,
    }]
}

/// A configuration with a user namespace of its own.
fn mapped(words: &[&str]) -> Spec {
    let mut spec = spec(words);
    spec.linux.namespaces.push(namespace(NamespaceKind::User));
    spec.linux.uid_mappings = range(UID);
    spec.linux.gid_mappings = range(GID);
    spec
}

fn shell(bed: &Bed, command: &str) -> super::bed::Output {
    bed.run(&mapped(&["/bin/sh", "-c", command]))
}

fn root_is_somebody_else_outside() {
    let bed = Bed::new("users-root");
    let output = shell(
        &bed,
        "id -u; id -g; cat /proc/self/uid_map /proc/self/gid_map; hostname; echo $HOME; stat -c %u:%g / /dev /dev/null ; echo x > /dev/stdout",
    );
    let words: Vec<_> = output.text.split_whitespace().collect();
    let expect = format!("0 0 0 {UID} 65536 0 {GID} 65536 whale /root 0:0 0:0 0:0 x");
    assert_eq!(words.join(" "), expect, "{output:?}");
    let container = bed.sleeper(&mapped(&[]));
    let found = fs::metadata(format!("/proc/{}", container.running().pid)).unwrap();
    assert_eq!((found.uid(), found.gid()), (UID, GID));
}

fn files_keep_their_owners_on_the_disk() {
    let bed = Bed::new("users-files");
    let output = shell(
        &bed,
        "echo a > /new; chown 5:6 /new; mkdir /dir; chmod 700 /bin/busybox; stat -c %u:%g /new /dir /bin/busybox; rm -r /etc; mkdir /etc",
    );
    assert_eq!(output.text, "5:6\n0:0\n0:0\n", "{output:?}");
    let owner = |name: &str| {
        let found = fs::symlink_metadata(bed.path("upper").join(name)).unwrap();
        (found.uid(), found.gid())
    };
    assert_eq!(owner("new"), (5, 6));
    assert_eq!(owner("dir"), (0, 0));
    assert_eq!(owner("bin/busybox"), (0, 0));
    // the same upper directory without a user namespace
    assert_eq!(bed.shell("stat -c %u:%g /new; ls /etc").text, "5:6\n");
}

fn a_directory_may_be_the_root() {
    let bed = Bed::new("users-path");
    for place in ["proc", "dev", "sys"] {
        fs::create_dir(bed.image(place)).unwrap();
    }
    let mut order = bed.order(mapped(&[
        "/bin/sh",
        "-c",
        "id -u; stat -c %u /bin; echo x > /new",
    ]));
    order.rootfs = runtime::Rootfs::Path(bed.path("lower"));
    let (reader, fds) = streams();
    let created = bed.prepare(&order.spec).create(&order, fds);
    let container = Container::of(created.unwrap().start().unwrap());
    let output = container.output(reader);
    // the host's root is nobody in the container, which may not write to what is root's
    assert!(output.text.starts_with("0\n65534\n"), "{output:?}");
    assert!(!bed.path("lower/new").exists());
}

fn the_hosts_things_stay_out_of_reach() {
    let bed = Bed::new("users-escape");
    let folder = bed.path("host");
    fs::create_dir(&folder).unwrap();
    fs::write(folder.join("secret"), "x").unwrap();
    fs::set_permissions(folder.join("secret"), fs::Permissions::from_mode(0o600)).unwrap();
    let command = "try() { \"$@\" 2> /dev/null && echo \"$@\"; }
        try cat /host/secret
        try touch /host/new
        try chown 0:0 /host
        try mount -t proc proc /tmp -o remount
        try umount -l /proc/kcore
        try mount -o remount,rw /sys
        try mknod /tmp/sda b 8 0
        try mknod /tmp/kmsg c 1 11
        echo 1 2> /dev/null > /proc/sys/kernel/panic && echo panic
        echo c 2> /dev/null > /proc/sysrq-trigger && echo sysrq
        cat /proc/self/oom_score_adj
        true";
    let mut spec = mapped(&["/bin/sh", "-c", command]);
    let options = ["rbind", "rprivate"];
    spec.mounts
        .push(mount("/host", "bind", folder.to_str().unwrap(), &options));
    spec.process.oom_score_adj = Some(300);
    // as much as a container may have
    let all: Vec<String> = (0..=40).map(|n| format!("CAP_{n}")).collect();
    let all: Vec<String> = all
        .into_iter()
        .chain(runtime::capabilities::default_set())
        .chain(args(&[
            "CAP_SYS_ADMIN",
            "CAP_MKNOD",
            "CAP_SYS_RESOURCE",
            "CAP_DAC_READ_SEARCH",
        ]))
        .collect();
    let sets = spec.process.capabilities.as_mut().unwrap();
    (sets.bounding, sets.effective, sets.permitted) = (all.clone(), all.clone(), all);
    let output = bed.run(&spec);
    assert_eq!(output.text, "300\n", "{output:?}");
    assert_eq!(fs::metadata(&folder).unwrap().uid(), 0);
}

fn devices_work_and_cannot_be_made() {
    let bed = Bed::new("users-dev");
    let command = "echo x > /dev/null && dd if=/dev/zero bs=3 count=1 2> /dev/null | wc -c
        stat -c '%F %t %T %u %g %a' /dev/null /dev/tty /dev/own/null /elsewhere
        echo x > /elsewhere && echo written
        readlink /dev/fd; ls /dev/pts; stat -c %F /dev/ptmx; mknod /dev/x c 1 3 2> /dev/null || echo refused";
    let mut spec = mapped(&["/bin/sh", "-c", command]);
    let device = |path: &str, uid| Device {
        kind: "c".to_owned(),
        path: path.into(),
        major: 1,
        minor: 3,
        file_mode: Some(0o622),
        uid: Some(uid),
        gid: None,
    };
    spec.linux.devices = vec![device("/dev/own/null", 7), device("/elsewhere", 8)];
    let output = bed.run(&spec);
    let special = "character special file";
    let expect = format!(
        "3\n{special} 1 3 0 0 666\n{special} 5 0 0 0 666\n{special} 1 3 7 0 622\n{special} 1 3 8 0 622\nwritten\n/proc/self/fd\nptmx\nsymbolic link\nrefused\n"
    );
    assert_eq!(output.text, expect, "{output:?}");
    assert!(bed.leftovers().is_empty());
}

fn mounts_may_show_the_containers_owners() {
    let bed = Bed::new("users-binds");
    let folder = bed.path("volume");
    fs::create_dir(&folder).unwrap();
    fs::write(folder.join("old"), "").unwrap();
    let command = "stat -c %u /plain /shown/old; echo x > /shown/new && chown 9:9 /shown/new; touch /plain/no 2> /dev/null || echo refused";
    let mut spec = mapped(&["/bin/sh", "-c", command]);
    let source = folder.to_str().unwrap();
    let options = ["rbind", "rprivate"];
    spec.mounts.push(mount("/plain", "bind", source, &options));
    spec.mounts.push(mount(
        "/shown",
        "bind",
        source,
        &["bind", "rprivate", "idmap"],
    ));
    let output = bed.run(&spec);
    assert_eq!(output.text, "65534\n0\nrefused\n", "{output:?}");
    let new = fs::metadata(folder.join("new")).unwrap();
    assert_eq!((new.uid(), new.gid()), (9, 9));
}

fn exec_target(container: &Container) -> ExecTarget<'_> {
    ExecTarget {
        user: Some(HostRoot { uid: UID, gid: GID }),
        ..container.target()
    }
}

fn execs_come_into_the_same_users() {
    let bed = Bed::new("users-exec");
    let container = bed.sleeper(&mapped(&[]));
    let mut wanted = process(&[
        "/bin/sh",
        "-c",
        "id -u; grep CapBnd /proc/self/status; readlink /proc/self/ns/user; ls /proc/self/fd | wc -l; echo y > /dev/stderr; cat /proc/self/limits | grep core",
    ]);
    let own = rustix::process::getrlimit(rustix::process::Resource::Core);
    wanted.rlimits = vec![Rlimit {
        kind: "RLIMIT_CORE".to_owned(),
        hard: own.maximum.unwrap_or(4096),
        soft: 4096,
    }];
    let output = exec_in(&exec_target(&container), &wanted).unwrap();
    let pid = container.running().pid;
    let namespace = fs::read_link(format!("/proc/{pid}/ns/user")).unwrap();
    let lines: Vec<_> = output.text.lines().collect();
    assert_eq!(lines[0], "0", "{output:?}");
    // Docker's set, and not the whole one that comes with a user namespace
    assert_eq!(lines[1], "CapBnd:\t00000000a80425fb");
    assert_eq!(lines[2], namespace.to_str().unwrap());
    assert_ne!(fs::read_link("/proc/self/ns/user").unwrap(), namespace);
    assert_eq!(lines[4], "y", "{output:?}");
    assert!(lines[5].contains("4096"), "{output:?}");
    let mut web = process(&["/bin/sh", "-c", "id -u; id -g; echo x > /dev/stdout"]);
    web.user.username = Some("web".to_owned());
    let output = exec_in(&exec_target(&container), &web).unwrap();
    assert_eq!(output.text, "33\n44\nx\n");
}

fn limits_above_the_parents_are_reached() {
    let bed = Bed::new("users-limits");
    // what this process may not raise again without CAP_SYS_RESOURCE, the container may not either
    let mut spec = mapped(&["/bin/sh", "-c", "ulimit -c; ulimit -Hc"]);
    spec.process.rlimits = vec![Rlimit {
        kind: "RLIMIT_CORE".to_owned(),
        hard: 1 << 20,
        soft: 1 << 19,
    }];
    assert_eq!(bed.run(&spec).text, "1024\n2048\n");
}

fn namespaces_of_another_are_joined() {
    let bed = Bed::new("users-join");
    let donor = bed.sleeper(&mapped(&[]));
    let pid = donor.running().pid;
    let other = Bed::new("users-joiner");
    let command = "readlink /proc/self/ns/user; readlink /proc/self/ns/pid; readlink /proc/self/ns/net; readlink /proc/self/ns/ipc; id -u; cat /proc/1/comm; stat -c %u /bin";
    let mut spec = mapped(&["/bin/sh", "-c", command]);
    for namespace in &mut spec.linux.namespaces {
        let name = match namespace.kind {
            NamespaceKind::User => "user",
            NamespaceKind::Pid => "pid",
            NamespaceKind::Network => "net",
            NamespaceKind::Ipc => "ipc",
            _ => continue,
        };
        namespace.path = Some(PathBuf::from(format!("/proc/{pid}/ns/{name}")));
    }
    let output = other.run(&spec);
    let link = |name: &str| fs::read_link(format!("/proc/{pid}/ns/{name}")).unwrap();
    let lines: Vec<_> = output.text.lines().collect();
    for (line, name) in lines.iter().zip(["user", "pid", "net", "ipc"]) {
        assert_eq!(*line, link(name).to_str().unwrap(), "{output:?}");
    }
    assert_eq!(lines[4..], ["0", "sleep", "0"], "{output:?}");
    drop(donor);
    assert!(bed.leftovers().is_empty() && other.leftovers().is_empty());
}

fn a_mapping_needs_a_root() {
    let bed = Bed::new("users-rootless");
    let mut spec = mapped(&["/bin/true"]);
    spec.linux.gid_mappings[0].container_id = 1;
    let error = bed.create(&spec, runtime::Fds::default()).unwrap_err();
    assert_eq!(
        chain(&error),
        "set up the user namespace: the gid_map has no range for id 0 of the container"
    );
    assert!(bed.leftovers().is_empty());
    // and nothing of the stage is left
    let children = format!("/proc/self/task/{}/children", getpid().as_raw_nonzero());
    assert_eq!(fs::read_to_string(children).unwrap_or_default(), "");
}

/// An error with all of its sources.
fn chain(error: &dyn std::error::Error) -> String {
    let own = error.to_string();
    match error.source() {
        Some(source) => format!("{own}: {}", chain(source)),
        None => own,
    }
}

fn a_file_system_that_cannot_is_named() {
    use rustix::mount::{MountFlags, MountPropagationFlags, mount, mount_change};
    let bed = Bed::new("users-ramfs");
    // in a mount namespace of this test's process, with which it ends
    sys::process::unshare(rustix::thread::UnshareFlags::NEWNS).unwrap();
    let private = MountPropagationFlags::PRIVATE | MountPropagationFlags::REC;
    mount_change("/", private).unwrap();
    let place = bed.path("ramfs");
    fs::create_dir(&place).unwrap();
    mount("ramfs", &place, "ramfs", MountFlags::empty(), None).unwrap();
    let mut order = bed.order(mapped(&["/bin/true"]));
    let runtime::Rootfs::Overlay { lower, .. } = &mut order.rootfs else {
        unreachable!("a bed has an overlay");
    };
    lower.push(place.clone());
    let prepared = bed.prepare(&order.spec);
    let error = prepared
        .create(&order, runtime::Fds::default())
        .unwrap_err();
    let text = chain(&error);
    let expect = format!(
        "set up the user namespace: show the owners of {place:?} as those of the container"
    );
    assert!(
        text.starts_with(&expect) && text.contains("Invalid argument"),
        "{text}"
    );
    rustix::mount::unmount(&place, rustix::mount::UnmountFlags::DETACH).unwrap();
    assert!(bed.leftovers().is_empty());
}
