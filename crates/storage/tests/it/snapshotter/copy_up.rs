//! Volumes, and their first content.

use std::os::fd::AsFd as _;
use std::os::unix::fs::MetadataExt as _;
use std::path::Path;

use storage::copy_up::{CopyUp, copy_up};
use storage::overlay::mount_view;
use storage::volume::VolumeError;

use crate::support::{Head, Tar, read};

#[test]
fn names_follow_docker_s_rule() {
    let fixture = super::fixture();
    let volumes = fixture.store.volumes();
    let error = volumes.create("x y").unwrap_err();
    assert_eq!(
        error.to_string(),
        "\"x y\" includes invalid characters for a local volume name, only \
         \"[a-zA-Z0-9][a-zA-Z0-9_.-]\" are allowed. If you intended to pass a host directory, \
         use absolute path"
    );
    for bad in ["", "../x", ".hidden", "a/b", "-x", &"x".repeat(256)] {
        assert!(volumes.create(bad).is_err(), "{bad:?}");
        assert!(matches!(volumes.get(bad), Err(VolumeError::Missing { .. })));
    }
    assert!(matches!(
        volumes.create("x"),
        Err(VolumeError::NameTooShort)
    ));
}

#[test]
fn a_volume_s_life() {
    let fixture = super::fixture();
    let volumes = fixture.store.volumes();
    let (volume, fresh) = volumes.create("data_1.x").unwrap();
    assert!(fresh);
    assert!(!volumes.create("data_1.x").unwrap().1);
    assert_eq!(
        std::fs::metadata(volume.data()).unwrap().mode() & 0o7777,
        0o755
    );
    std::fs::write(volume.data().join("file"), vec![0; 10_000]).unwrap();
    assert_eq!(
        volume.usage(&storage::Cancel::default()).unwrap().apparent,
        10_000
    );
    volumes.create("alpha").unwrap();
    let names: Vec<_> = volumes
        .list()
        .unwrap()
        .iter()
        .map(|v| v.name().to_owned())
        .collect();
    assert_eq!(names, ["alpha", "data_1.x"]);
    assert!(volumes.remove("data_1.x").unwrap());
    assert!(!volumes.remove("data_1.x").unwrap());
    assert!(fixture.leftovers().is_empty());
}

fn image() -> [Tar; 2] {
    let mut owned = Head::new(b'5', 0o2750);
    owned.owner = (101, 102);
    let mut file = Head::new(b'0', 0o4711);
    file.owner = (103, 104);
    [
        Tar::new()
            .raw(b"var/data", &owned, b"")
            .pax(&[("SCHILY.xattr.user.note", b"kept")])
            .raw(b"var/data/file", &file, b"one")
            .hard_link("var/data/sub/linked", "var/data/file")
            .symlink("var/data/link", "../../etc/passwd")
            .file("var/data/gone", b"x")
            .raw(b"var/data/fifo", &Head::new(b'6', 0o600), b"")
            .symlink("alias", "/var/data")
            .symlink("escape", "../../../../..")
            .file("plain", b"x"),
        Tar::new()
            .file("var/data/.wh.gone", b"")
            .file("var/data/top", b"two"),
    ]
}

#[test]
fn the_image_s_content_is_copied_once() {
    let fixture = super::fixture();
    let top = fixture.image(&image());
    let view = mount_view(&fixture.store.layers().lowers(&top).unwrap()).unwrap();
    let (volume, _) = fixture.store.volumes().create("first").unwrap();
    let copy = |path: &str| copy_up(view.as_fd(), Path::new(path), &volume).unwrap();
    assert_eq!(copy("/nothing/here"), CopyUp::NoSource);
    assert_eq!(copy("/plain"), CopyUp::NotADirectory);
    assert_eq!(
        copy("/alias"),
        CopyUp::Copied,
        "resolved in the image's root"
    );
    assert_eq!(copy("/var/data"), CopyUp::NotEmpty);

    let data = volume.data();
    let of = |name: &str| std::fs::symlink_metadata(data.join(name)).unwrap();
    let shown = |name: &str| (of(name).mode() & 0o7777, of(name).uid(), of(name).gid());
    assert_eq!(shown(""), (0o2750, 101, 102));
    assert_eq!(shown("file"), (0o4711, 103, 104));
    assert_eq!(of("file").ino(), of("sub/linked").ino());
    assert_eq!(of("file").mtime(), 1_600_000_000);
    assert_eq!(of("").mtime(), 1_600_000_000);
    assert_eq!(read(&data.join("top")), "two");
    assert!(!data.join("gone").exists());
    assert_eq!(
        std::fs::read_link(data.join("link")).unwrap(),
        Path::new("../../etc/passwd")
    );
    let mut value = [0; 16];
    let length = rustix::fs::getxattr(data.join("file"), "user.note", &mut value[..]).unwrap();
    assert_eq!(&value[..length], b"kept");
}

#[test]
fn a_copy_that_broke_off_is_begun_anew() {
    let fixture = super::fixture();
    let top = fixture.image(&image());
    let view = mount_view(&fixture.store.layers().lowers(&top).unwrap()).unwrap();
    let (volume, _) = fixture.store.volumes().create("second").unwrap();
    let mark = fixture.root().join("volumes/second/copying");
    std::fs::write(&mark, b"").unwrap();
    std::fs::write(volume.data().join("half"), b"half").unwrap();
    let copied = copy_up(view.as_fd(), Path::new("/var/data"), &volume).unwrap();
    assert_eq!(copied, CopyUp::Copied);
    assert!(!volume.data().join("half").exists());
    assert!(!mark.exists());
    let again = copy_up(view.as_fd(), Path::new("/var/data"), &volume).unwrap();
    assert_eq!(again, CopyUp::NotEmpty);
}

#[test]
fn a_path_of_the_image_never_reaches_the_host() {
    let fixture = super::fixture();
    let top = fixture.image(&image());
    let view = mount_view(&fixture.store.layers().lowers(&top).unwrap()).unwrap();
    let (volume, _) = fixture.store.volumes().create("third").unwrap();
    for path in ["/escape/etc", "/../../../etc", "/escape/proc/self/root/etc"] {
        let copied = copy_up(view.as_fd(), Path::new(path), &volume).unwrap();
        assert_eq!(copied, CopyUp::NoSource, "{path}");
    }
}
