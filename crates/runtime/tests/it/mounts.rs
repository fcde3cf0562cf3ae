//! Bind mounts, tmpfs and layers.

use std::fs;
use std::os::unix::fs::symlink;

use runtime::{Fds, Rootfs};

use super::Test;
use super::bed::{Bed, mount, spec, streams};

pub(crate) const TESTS: &[Test] = &[
    ("mounts::binds", binds),
    (
        "mounts::missing_destinations_are_made",
        missing_destinations_are_made,
    ),
    ("mounts::deep_and_readonly", deep_and_readonly),
    ("mounts::tmpfs", tmpfs),
    ("mounts::layers", layers),
    (
        "mounts::a_volatile_root_can_start_again",
        a_volatile_root_can_start_again,
    ),
    (
        "mounts::many_layers_with_long_names",
        many_layers_with_long_names,
    ),
    ("mounts::a_directory_as_root", a_directory_as_root),
    ("mounts::the_host_sees_nothing", the_host_sees_nothing),
    ("mounts::many_binds", many_binds),
    ("mounts::of_another_container", of_another_container),
    (
        "mounts::a_donor_cannot_lead_out_of_its_root",
        a_donor_cannot_lead_out_of_its_root,
    ),
];

fn binds() {
    let bed = Bed::new("binds");
    fs::create_dir(bed.path("data")).unwrap();
    fs::write(bed.path("data/file"), "words\n").unwrap();
    let mut spec = spec(&[
        "/bin/sh",
        "-c",
        "cat /data/file /etc/one; echo new > /data/new; (echo x > /etc/one) 2>&1; grep /data /proc/self/mountinfo",
    ]);
    let data = bed.path("data");
    let data = data.to_str().unwrap();
    spec.mounts.push(mount(
        "/data",
        "bind",
        data,
        &["rbind", "rprivate", "nosuid"],
    ));
    let file = format!("{data}/file");
    spec.mounts
        .push(mount("/etc/one", "bind", &file, &["bind", "ro"]));
    let output = bed.run(&spec);
    assert!(output.text.starts_with("words\nwords\n"), "{output:?}");
    assert!(output.text.contains("Read-only file system"), "{output:?}");
    assert!(output.text.contains("nosuid"), "{output:?}");
    assert_eq!(fs::read_to_string(bed.path("data/new")).unwrap(), "new\n");
}

fn missing_destinations_are_made() {
    let bed = Bed::new("missing");
    symlink("../run/resolve/stub.conf", bed.image("etc/resolv.conf")).unwrap();
    symlink("/elsewhere", bed.image("away")).unwrap();
    let resolv = bed.path("resolv.conf");
    fs::write(&resolv, "nameserver ::1\n").unwrap();
    let mut spec = spec(&["/bin/sh", "-c", "cat /etc/resolv.conf; ls /elsewhere /a/b"]);
    let source = resolv.to_str().unwrap();
    for destination in ["/etc/resolv.conf", "/away/file", "/a/b/c"] {
        spec.mounts
            .push(mount(destination, "bind", source, &["rbind"]));
    }
    let output = bed.run(&spec);
    let expect = "nameserver ::1\n/a/b:\nc\n\n/elsewhere:\nfile\n";
    assert_eq!(output.text, expect);
    assert!(bed.path("upper/run/resolve/stub.conf").exists());
}

/// A mount of the test's own mount namespace, which the runtime reads sources from.
fn own_mounts() {
    sys::process::unshare(rustix::thread::UnshareFlags::NEWNS).unwrap();
    let private = rustix::mount::MountPropagationFlags::PRIVATE;
    let flags = private | rustix::mount::MountPropagationFlags::REC;
    rustix::mount::mount_change("/", flags).unwrap();
}

fn deep_and_readonly() {
    let bed = Bed::new("deep");
    own_mounts();
    fs::create_dir_all(bed.path("data/sub")).unwrap();
    let command = "(touch /flat/a) 2>&1; (touch /flat/sub/a) 2>&1; (touch /deep/sub/b) 2>&1; ls /deep/sub /one/sub";
    let mut spec = spec(&["/bin/sh", "-c", command]);
    let data = bed.path("data");
    let data = data.to_str().unwrap();
    spec.mounts
        .push(mount("/flat", "bind", data, &["rbind", "ro"]));
    spec.mounts
        .push(mount("/deep", "bind", data, &["rbind", "rro"]));
    spec.mounts.push(mount("/one", "bind", data, &["bind"]));
    let prepared = bed.prepare(&spec);
    // mounted after the stage was prepared, and still seen
    let none = rustix::mount::MountFlags::empty();
    rustix::mount::mount("none", bed.path("data/sub"), "tmpfs", none, None).unwrap();
    let (reader, fds) = streams();
    let created = prepared.create(&bed.order(spec), fds).unwrap();
    let output = super::bed::Container::of(created.start().unwrap()).output(reader);
    let expect = "touch: /flat/a: Read-only file system\ntouch: /deep/sub/b: Read-only file system\n\
                  /deep/sub:\na\n\n/one/sub:\n";
    assert_eq!(output.text, expect);
    rustix::mount::unmount(bed.path("data/sub"), rustix::mount::UnmountFlags::DETACH).unwrap();
}

/// A mount whose source is in the root of another process.
fn mount_of(pid: &str, source: &str, destination: &str) -> oci::runtime::Mount {
    let option = format!("{}={pid}", runtime::ROOT_OF);
    mount(destination, "bind", source, &["rbind", &option])
}

fn of_another_container() {
    let donors = Bed::new("donor");
    let donor = donors.sleeper(&spec(&[]));
    donor.shell("echo shared > /dev/shm/word");
    let bed = Bed::new("receiver");
    let command = "cat /dev/shm/word; echo back > /dev/shm/back; grep -c ' /dev/shm .*nosuid.* - tmpfs ' /proc/self/mountinfo; cat /after";
    let mut spec = spec(&["/bin/sh", "-c", command]);
    spec.mounts
        .retain(|m| m.destination.as_os_str() != "/dev/shm");
    let pid = donor.running().pid.to_string();
    spec.mounts.push(mount_of(&pid, "/dev/shm", "/dev/shm"));
    // a relative source of the caller's own comes after it
    std::env::set_current_dir(bed.path(".")).unwrap();
    fs::write(bed.path("after"), "after\n").unwrap();
    spec.mounts
        .push(mount("/after", "bind", "after", &["bind"]));
    let mounts = fs::read_link("/proc/self/ns/mnt").unwrap();
    let output = bed.run(&spec);
    assert_eq!(output.text, "shared\n1\nafter\n");
    assert_eq!(donor.shell("cat /dev/shm/back").text, "back\n");
    assert_eq!(fs::read_link("/proc/self/ns/mnt").unwrap(), mounts);
}

fn a_donor_cannot_lead_out_of_its_root() {
    let bed = Bed::new("leads-out");
    let donor = bed.sleeper(&spec(&[]));
    donor.shell(
        "mkdir /here; echo own > /here/word; ln -s /../../here /link; ln -s /proc/self/root /magic",
    );
    let pid = donor.running().pid.to_string();
    let receivers = Bed::new("not-out");
    let with = |pid: &str, source: &str| {
        let mut spec = spec(&["/bin/sh", "-c", "cat /got/word"]);
        spec.mounts.push(mount_of(pid, source, "/got"));
        spec
    };
    assert_eq!(receivers.run(&with(&pid, "/link")).text, "own\n");
    let nobody = i32::MAX.to_string();
    for (pid, source) in [
        (pid.as_str(), "/magic/etc"),
        (&pid, "/nosuch"),
        (&nobody, "/"),
        ("self", "/"),
        ("", "/"),
    ] {
        let error = receivers.create(&with(pid, source), Fds::default());
        let error = error.unwrap_err();
        assert!(
            matches!(error, runtime::CreateError::Foreign { .. }),
            "{error:?}"
        );
    }
}

fn tmpfs() {
    let bed = Bed::new("tmpfs");
    fs::create_dir_all(bed.image("run")).unwrap();
    fs::create_dir_all(bed.image("var")).unwrap();
    symlink("/run", bed.image("var/run")).unwrap();
    let command = "stat -c '%a' /run /new /set; grep ' /run ' /proc/self/mountinfo";
    let mut spec = spec(&["/bin/sh", "-c", command]);
    let options = ["nosuid", "nodev", "noexec", "size=64k"];
    spec.mounts
        .push(mount("/var/run", "tmpfs", "tmpfs", &options));
    spec.mounts.push(mount("/new", "tmpfs", "tmpfs", &[]));
    spec.mounts
        .push(mount("/set", "tmpfs", "tmpfs", &["mode=1770"]));
    let output = bed.run(&spec);
    assert!(output.text.starts_with("755\n1777\n1770\n"), "{output:?}");
    assert!(output.text.contains("size=64k"), "{output:?}");
}

fn layers() {
    let bed = Bed::new("layers");
    for (layer, text) in [("one", "1"), ("two", "2")] {
        fs::create_dir_all(bed.path(layer)).unwrap();
        fs::write(bed.path(layer).join("same"), text).unwrap();
        fs::write(bed.path(layer).join(layer), text).unwrap();
    }
    let spec = spec(&[
        "/bin/sh",
        "-c",
        "cat /same /one /two; rm /one; echo x > /two",
    ]);
    let mut order = bed.order(spec.clone());
    let Rootfs::Overlay { lower, .. } = &mut order.rootfs else {
        panic!("the bed's root is an overlay");
    };
    lower.splice(0..0, [bed.path("two"), bed.path("one")]);
    let (reader, fds) = streams();
    let created = bed.prepare(&spec).create(&order, fds).unwrap();
    let output = super::bed::Container::of(created.start().unwrap()).output(reader);
    assert_eq!(output.text, "212");
    assert_eq!(fs::read_to_string(bed.path("two/two")).unwrap(), "2");
}

fn a_volatile_root_can_start_again() {
    let bed = Bed::new("volatile");
    let mut spec = spec(&[
        "/bin/sh",
        "-c",
        "cat /was; echo yes > /was; grep -c volatile /proc/1/mountinfo",
    ]);
    spec.linux.masked_paths.clear();
    for expect in [
        "cat: can't open '/was': No such file or directory\n1\n",
        "yes\n1\n",
    ] {
        let mut order = bed.order(spec.clone());
        let Rootfs::Overlay { lower, upper, work } = order.rootfs else {
            panic!("the bed's root is an overlay");
        };
        order.rootfs = Rootfs::VolatileOverlay { lower, upper, work };
        let (reader, fds) = streams();
        let created = bed.prepare(&spec).create(&order, fds).unwrap();
        let output = super::bed::Container::of(created.start().unwrap()).output(reader);
        assert_eq!(output.text, expect);
    }
}

fn many_layers_with_long_names() {
    let bed = Bed::new("long");
    let spec = spec(&["/bin/sh", "-c", "ls / | grep -c layer"]);
    let mut order = bed.order(spec.clone());
    let Rootfs::Overlay { lower, .. } = &mut order.rootfs else {
        panic!("the bed's root is an overlay");
    };
    for at in 0..120 {
        let path = bed.path(&format!("{}/{}:{at},", "x".repeat(200), "y".repeat(100)));
        fs::create_dir_all(path.join(format!("layer{at}"))).unwrap();
        lower.insert(0, path);
    }
    let (reader, fds) = streams();
    let created = bed.prepare(&spec).create(&order, fds).unwrap();
    let output = super::bed::Container::of(created.start().unwrap()).output(reader);
    assert_eq!(output.text, "120\n");
}

fn a_directory_as_root() {
    let bed = Bed::new("plain");
    let spec = spec(&["/bin/sh", "-c", "ls -d /bin/sh && touch /written"]);
    let mut order = bed.order(spec.clone());
    order.rootfs = Rootfs::Path(bed.path("lower"));
    let (reader, fds) = streams();
    let created = bed.prepare(&spec).create(&order, fds).unwrap();
    let output = super::bed::Container::of(created.start().unwrap()).output(reader);
    assert_eq!((output.code, &*output.text), (0, "/bin/sh\n"));
    assert!(bed.image("written").exists());
}

fn the_host_sees_nothing() {
    let bed = Bed::new("quiet");
    let before = fs::read_to_string("/proc/self/mountinfo").unwrap();
    let container = bed.start(&spec(&["/bin/sleep", "600"]), Fds::default());
    let during = fs::read_to_string("/proc/self/mountinfo").unwrap();
    drop(container);
    // tests of other crates may mount things of their own meanwhile: ours would name the bed
    let own = bed.path("");
    let own = own.to_str().unwrap();
    assert!(!before.contains(own) && !during.contains(own));
}

fn many_binds() {
    let bed = Bed::new("many");
    fs::write(bed.path("file"), "x").unwrap();
    let source = bed.path("file");
    let mut spec = spec(&["/bin/sh", "-c", "ls /m | wc -l; cat /m/299"]);
    for at in 0..300 {
        let destination = format!("/m/{at}");
        spec.mounts.push(mount(
            &destination,
            "bind",
            source.to_str().unwrap(),
            &["bind"],
        ));
    }
    assert_eq!(bed.run(&spec).text, "300\nx");
}
