//! Images whose files try to lead the runtime astray.

use std::fs;
use std::os::unix::fs::symlink;

use oci::runtime::Spec;
use runtime::{CreateError, Fds};

use super::Test;
use super::bed::{Bed, args, mount, spec};

pub(crate) const TESTS: &[Test] = &[
    (
        "hostile::links_in_place_of_kernel_directories",
        links_in_place_of_kernel_directories,
    ),
    ("hostile::links_out_of_the_root", links_out_of_the_root),
    ("hostile::links_into_proc", links_into_proc),
    ("hostile::a_false_null_device", a_false_null_device),
    (
        "hostile::a_working_directory_outside",
        a_working_directory_outside,
    ),
    ("hostile::a_false_terminal", a_false_terminal),
    (
        "hostile::a_huge_or_blocking_passwd",
        a_huge_or_blocking_passwd,
    ),
    (
        "hostile::a_false_capability_limit",
        a_false_capability_limit,
    ),
];

/// The message that the container's creation ends with.
fn refusal(bed: &Bed, spec: &Spec) -> String {
    match bed.create(spec, Fds::default()) {
        Err(CreateError::Stage(failure)) => failure.message,
        Err(other) => panic!("{other:?}"),
        Ok(_) => panic!("it was created"),
    }
}

/// CVE-2019-19921, CVE-2023-27561, CVE-2026-41579.
fn links_in_place_of_kernel_directories() {
    for name in ["proc", "sys", "dev"] {
        let bed = Bed::new(&format!("link-{name}"));
        symlink("/etc", bed.image(name)).unwrap();
        let message = refusal(&bed, &spec(&["true"]));
        assert!(message.contains(&format!("\"/{name}\"")), "{message}");
        assert!(message.contains("symbolic links"), "{message}");
        assert!(bed.leftovers().is_empty());
    }
}

/// CVE-2021-30465, CVE-2024-45310: nothing is made or mounted outside.
fn links_out_of_the_root() {
    let bed = Bed::new("escape");
    let outside = bed.path("outside");
    fs::create_dir(&outside).unwrap();
    symlink(&outside, bed.image("a")).unwrap();
    symlink("../../../../../..", bed.image("b")).unwrap();
    symlink("/proc/1/root", bed.image("c")).unwrap();
    fs::write(bed.path("file"), "").unwrap();
    let mut spec = spec(&["true"]);
    let source = bed.path("file");
    for destination in ["/a/file", "/b/file", "/../../file2"] {
        spec.mounts.push(mount(
            destination,
            "bind",
            source.to_str().unwrap(),
            &["bind"],
        ));
    }
    assert_eq!(bed.run(&spec).code, 0);
    assert_eq!(fs::read_dir(&outside).unwrap().count(), 0);
    assert!(bed.path("upper/file").exists() && bed.path("upper/file2").exists());
    spec.mounts.push(mount(
        "/c/file",
        "bind",
        source.to_str().unwrap(),
        &["bind"],
    ));
    refusal(&bed, &spec);
}

/// CVE-2019-16884: a mount over procfs would hide what is written there.
fn links_into_proc() {
    let bed = Bed::new("in-proc");
    symlink("/proc/self", bed.image("data")).unwrap();
    fs::create_dir(bed.path("empty")).unwrap();
    let source = bed.path("empty");
    for destination in ["/data/attr", "/proc/sys"] {
        let mut spec = spec(&["true"]);
        spec.mounts.push(mount(
            destination,
            "bind",
            source.to_str().unwrap(),
            &["bind"],
        ));
        let message = refusal(&bed, &spec);
        assert!(message.contains("is inside /proc"), "{message}");
    }
}

/// CVE-2025-31133: a masked file would become writable through a link at `/dev/null`.
fn a_false_null_device() {
    let bed = Bed::new("null");
    fs::create_dir(bed.image("dev")).unwrap();
    fs::write(bed.path("file"), "").unwrap();
    let mut spec = spec(&["true"]);
    let source = bed.path("file");
    spec.mounts
        .retain(|mount| !mount.destination.starts_with("/dev"));
    symlink("/proc/sysrq-trigger", bed.image("dev/null")).unwrap();
    let message = refusal(&bed, &spec);
    assert!(message.contains("/dev/null"), "{message}");
    // and when the whole directory comes from outside
    spec.mounts.push(mount(
        "/dev/null",
        "bind",
        source.to_str().unwrap(),
        &["bind"],
    ));
    let message = refusal(&bed, &spec);
    assert!(message.contains("/dev/null"), "{message}");
}

/// CVE-2024-21626: a descriptor of the host as working directory.
fn a_working_directory_outside() {
    let bed = Bed::new("cwd");
    for number in 3..20 {
        for at in ["/proc/self/fd", "/proc/1/fd"] {
            let mut spec = spec(&["/bin/sh", "-c", "pwd; ls"]);
            spec.process.cwd = format!("{at}/{number}");
            match bed.create(&spec, Fds::default()) {
                Err(CreateError::Stage(failure)) => {
                    let known = failure.step == "cwd";
                    assert!(known, "{failure:?}");
                }
                other => panic!("{other:?}"),
            }
        }
    }
}

/// CVE-2025-52565: links at the terminal's places.
fn a_false_terminal() {
    let bed = Bed::new("false-tty");
    fs::create_dir(bed.image("dev")).unwrap();
    symlink("/proc/sysrq-trigger", bed.image("dev/console")).unwrap();
    symlink("/proc", bed.image("dev/pts")).unwrap();
    let mut spec = spec(&["true"]);
    spec.process.terminal = true;
    spec.mounts
        .retain(|mount| mount.destination != std::path::Path::new("/dev"));
    let message = refusal(&bed, &spec);
    assert!(message.contains("/dev/pts"), "{message}");
    spec.mounts
        .retain(|mount| !mount.destination.starts_with("/dev/pts"));
    let message = refusal(&bed, &spec);
    assert!(message.contains("terminal"), "{message}");
}

/// CVE-2026-47262, CVE-2024-9676.
fn a_huge_or_blocking_passwd() {
    let bed = Bed::new("passwd");
    fs::remove_file(bed.image("etc/passwd")).unwrap();
    let mode = rustix::fs::Mode::from(0o644);
    let fifo = rustix::fs::FileType::Fifo;
    rustix::fs::mknodat(rustix::fs::CWD, bed.image("etc/passwd"), fifo, mode, 0).unwrap();
    assert_eq!(bed.shell("echo $HOME").text, "/\n");
    fs::remove_file(bed.image("etc/passwd")).unwrap();
    let file = fs::File::create(bed.image("etc/passwd")).unwrap();
    file.set_len(1 << 40).unwrap();
    assert_eq!(bed.shell("echo $HOME").text, "/\n");
}

/// Without a procfs of its own a container cannot make believe that there are few capabilities.
fn a_false_capability_limit() {
    let bed = Bed::new("cap-last");
    fs::create_dir_all(bed.image("proc/sys/kernel")).unwrap();
    fs::write(bed.image("proc/sys/kernel/cap_last_cap"), "0\n").unwrap();
    let mut spec = spec(&["/bin/sleep", "600"]);
    spec.mounts
        .retain(|mount| mount.kind.as_deref() != Some("proc"));
    spec.linux.masked_paths.clear();
    spec.linux.readonly_paths.clear();
    let container = bed.start(&spec, Fds::default());
    let status = format!("/proc/{}/status", container.running().pid);
    let status = fs::read_to_string(status).unwrap();
    assert!(status.contains("CapBnd:\t00000000a80425fb"), "{status}");
    let mut process = spec.process.clone();
    process.args = args(&["/bin/sleep", "600"]);
    let child = runtime::exec(&container.target(), &process, Fds::default()).unwrap();
    let status = fs::read_to_string(format!("/proc/{}/status", child.pid)).unwrap();
    assert!(status.contains("CapBnd:\t00000000a80425fb"), "{status}");
}
