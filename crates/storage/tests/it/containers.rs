//! Folders of containers: attributes, removal of difficult trees, disk usage.

use std::os::fd::OwnedFd;
use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _};

use oci::ContainerId;
use rustix::fs::{IFlags, Mode, OFlags};

use crate::support::Fixture;

fn id(digit: char) -> ContainerId {
    digit.to_string().repeat(64).parse().unwrap()
}

#[test]
fn the_upper_directory_looks_like_the_image_root() {
    let fixture = Fixture::new();
    let image = fixture.dir.path().join("image");
    std::fs::create_dir(&image).unwrap();
    std::os::unix::fs::chown(&image, Some(12), Some(34)).unwrap();
    std::fs::set_permissions(&image, std::fs::Permissions::from_mode(0o711)).unwrap();
    let containers = fixture.store.containers();
    let dir = containers.create(&id('a'), Some(&image)).unwrap();
    let found = std::fs::metadata(dir.upper()).unwrap();
    assert_eq!(
        (found.mode() & 0o7777, found.uid(), found.gid()),
        (0o711, 12, 34)
    );
    let plain = containers.create(&id('b'), None).unwrap();
    assert_eq!(
        std::fs::metadata(plain.upper()).unwrap().mode() & 0o7777,
        0o755
    );
    assert!(plain.work().is_dir());
    assert!(
        containers.create(&id('a'), None).is_err(),
        "the id is taken"
    );
    assert_eq!(containers.list().unwrap().len(), 2);
    containers.remove(&id('a')).unwrap();
    containers.remove(&id('a')).unwrap();
    assert_eq!(containers.list().unwrap(), [id('b')]);
    assert!(fixture.leftovers().is_empty());
}

/// Makes a chain of directories deeper than paths and open files allow.
fn deep(start: &std::path::Path, levels: usize) {
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
    let mut dir: OwnedFd = rustix::fs::open(start, flags, Mode::empty()).unwrap();
    for _ in 0..levels {
        rustix::fs::mkdirat(&dir, "deep", Mode::from(0o755)).unwrap();
        let file = OFlags::CREATE | OFlags::WRONLY | OFlags::CLOEXEC;
        rustix::fs::openat(&dir, "file", file, Mode::from(0o644)).unwrap();
        dir = rustix::fs::openat(&dir, "deep", flags, Mode::empty()).unwrap();
    }
}

#[test]
fn deep_immutable_and_linked_trees_are_measured_and_removed() {
    let fixture = Fixture::new();
    let containers = fixture.store.containers();
    let dir = containers.create(&id('c'), None).unwrap();
    deep(&dir.upper(), 3000);
    let outside = fixture.dir.path().join("outside");
    std::fs::create_dir(&outside).unwrap();
    std::fs::write(outside.join("safe"), b"safe").unwrap();
    std::os::unix::fs::symlink(&outside, dir.upper().join("link")).unwrap();
    let fixed = dir.upper().join("fixed");
    std::fs::create_dir(&fixed).unwrap();
    let file = std::fs::File::create(fixed.join("file")).unwrap();
    let mark = |fd: &std::fs::File| rustix::fs::ioctl_setflags(fd, IFlags::IMMUTABLE);
    let marked = mark(&file).is_ok() && mark(&std::fs::File::open(&fixed).unwrap()).is_ok();
    assert!(
        marked || !rustix::process::geteuid().is_root(),
        "chattr +i works on this disk"
    );

    let usage = dir.usage(&storage::Cancel::default()).unwrap();
    assert_eq!(usage.inodes, 1 + 3000 * 2 + 3);
    containers.remove(&id('c')).unwrap();
    assert!(!dir.path().exists());
    assert!(
        outside.join("safe").exists(),
        "a symbolic link is not followed"
    );
    assert!(fixture.leftovers().is_empty());
}

#[test]
fn usage_counts_a_file_with_two_links_once() {
    let fixture = Fixture::new();
    let dir = fixture.store.containers().create(&id('d'), None).unwrap();
    std::fs::write(dir.upper().join("one"), vec![1; 100_000]).unwrap();
    std::fs::hard_link(dir.upper().join("one"), dir.upper().join("two")).unwrap();
    let sparse = std::fs::File::create(dir.upper().join("sparse")).unwrap();
    sparse.set_len(1 << 30).unwrap();
    let usage = dir.usage(&storage::Cancel::default()).unwrap();
    assert_eq!(usage.apparent, 100_000 + (1 << 30));
    assert_eq!(usage.inodes, 3);
    assert!(usage.allocated < 1 << 20, "{usage:?}");
}
