//! What a layer keeps, at the edges of what an image of a file system can hold.

use std::os::unix::fs::MetadataExt as _;

use storage::overlay::mount_view;

use super::tree::bytes;
use crate::support::{Head, Tar, chain_text, read};

/// Content that no other length has.
fn content(length: usize) -> Vec<u8> {
    (0..length)
        .map(|at| u8::try_from((at * 7 + length) % 253).unwrap())
        .collect()
}

#[test]
fn files_of_every_length_around_a_block() {
    let fixture = super::fixture();
    let lengths: Vec<usize> = (0..3)
        .flat_map(|blocks: usize| {
            (0..140).map(move |more| (blocks * 4096 + more).saturating_sub(70))
        })
        .collect();
    let mut tar = Tar::new();
    for length in &lengths {
        tar = tar.file(&format!("f{length}"), &content(*length));
    }
    let layer = fixture.unpack(tar);
    for length in lengths {
        let found = std::fs::read(layer.join(format!("f{length}"))).unwrap();
        assert!(found == content(length), "{length}");
    }
    super::check_images(&fixture);
}

#[test]
fn links_of_every_length() {
    let fixture = super::fixture();
    let lengths = [1, 59, 60, 61, 4030, 4031, 4032, 4033, 4094, 4095];
    let mut tar = Tar::new();
    let target = |length: usize| "t/".repeat(length)[..length].to_owned();
    for length in lengths {
        let (name, text) = (format!("l{length}"), target(length));
        tar = tar
            .pax(&[("path", name.as_bytes()), ("linkpath", text.as_bytes())])
            .symlink("x", "x");
    }
    let layer = fixture.unpack(tar);
    for length in lengths {
        let found = std::fs::read_link(layer.join(format!("l{length}"))).unwrap();
        assert_eq!(found.to_str().unwrap(), target(length));
    }
    super::check_images(&fixture);
    for text in [String::new(), target(4096)] {
        let tar = Tar::new().pax(&[("linkpath", text.as_bytes())]);
        let refused = fixture.apply(&tar.symlink("l", "").finish()).unwrap_err();
        assert!(
            chain_text(&refused).contains("make symbolic link"),
            "{refused}"
        );
    }
}

#[test]
fn links_through_links_are_the_layers_own() {
    let fixture = super::fixture();
    let long = "./".repeat(2030);
    let far = format!("{long}real");
    let layer = fixture.unpack(
        Tar::new()
            .dir("real", 0o755)
            .symlink("one", "real")
            .symlink("dir", ".")
            .symlink("up", "dir/../../../one")
            .pax(&[("linkpath", far.as_bytes())])
            .symlink("far", "x")
            .file("up/a", b"a")
            .file("far/b", b"b")
            .file("dir/dir/one/c", b"c")
            .hard_link("dir/linked", "up/a"),
    );
    assert_eq!(read(&layer.join("real/a")), "a");
    assert_eq!(read(&layer.join("real/b")), "b");
    assert_eq!(read(&layer.join("real/c")), "c");
    assert_eq!(read(&layer.join("linked")), "a");
    let tar = Tar::new().symlink("a", "b").symlink("b", "a");
    let refused = fixture.apply(&tar.file("a/x", b"").finish()).unwrap_err();
    assert!(chain_text(&refused).contains("not a directory of this layer"));
}

#[test]
fn hard_links_count_and_outlive_what_they_were_made_of() {
    let fixture = super::fixture();
    let layer = fixture.unpack(
        Tar::new()
            .file("a", b"1")
            .hard_link("b", "a")
            .hard_link("d/c", "b")
            .file("a", b"2")
            .symlink("s", "nowhere")
            .hard_link("s2", "s")
            .hard_link("d/c", "b")
            .file("x/y/z", b"3")
            .hard_link("kept", "x/y/z")
            .file("x", b"4"),
    );
    let links = |name: &str| std::fs::symlink_metadata(layer.join(name)).unwrap().nlink();
    assert_eq!([links("a"), links("b"), links("d/c")], [1, 2, 2]);
    assert_eq!([links("s"), links("s2"), links("kept")], [2, 2, 1]);
    assert_eq!(
        [read(&layer.join("a")), read(&layer.join("d/c"))],
        ["2", "1"]
    );
    assert_eq!(
        [read(&layer.join("kept")), read(&layer.join("x"))],
        ["3", "4"]
    );
    super::check_images(&fixture);
    for tar in [
        Tar::new().dir("d", 0o755).hard_link("l", "d"),
        Tar::new().file("d/f", b"").hard_link("d", "d/f"),
    ] {
        let refused = fixture.apply(&tar.finish()).unwrap_err();
        assert!(chain_text(&refused).contains("make hard link"), "{refused}");
    }
}

#[test]
fn names_of_odd_bytes_and_full_directories() {
    let fixture = super::fixture();
    let odd: Vec<Vec<u8>> = (1..=255_u8)
        .filter(|byte| *byte != b'/' && *byte != b'.')
        .map(|byte| vec![byte])
        .chain([b"...".to_vec(), b"!..".to_vec(), vec![0xff; 255]])
        .collect();
    let mut tar = Tar::new();
    for name in &odd {
        let path = [b"odd/", &name[..]].concat();
        tar = tar.pax(&[("path", &path)]).file("x", name);
    }
    for number in 0..3000 {
        tar = tar.file(&format!("many/{number:0>50}"), b"");
    }
    let layer = fixture.unpack(tar);
    for name in &odd {
        assert_eq!(
            std::fs::read(layer.join("odd").join(bytes(name))).unwrap(),
            *name
        );
    }
    assert_eq!(
        std::fs::read_dir(layer.join("odd")).unwrap().count(),
        odd.len()
    );
    assert_eq!(std::fs::read_dir(layer.join("many")).unwrap().count(), 3000);
    assert!(layer.join(format!("many/{:0>50}", 2999)).exists());
    assert!(!layer.join(format!("many/{:0>50}", 3000)).exists());
    super::check_images(&fixture);
}

#[test]
fn an_empty_layer_and_one_of_nothing_but_an_end() {
    let fixture = super::fixture();
    for tar in [Vec::new(), Tar::new().finish()] {
        let chain = fixture.apply(&tar).unwrap().commit(None).unwrap();
        assert_eq!(std::fs::read_dir(fixture.files(&chain)).unwrap().count(), 0);
    }
    super::check_images(&fixture);
}

#[test]
fn devices_and_pipes_keep_their_numbers() {
    let fixture = super::fixture();
    let numbers = [(1, 3), (8, 255), (259, 70_000)];
    let mut tar = Tar::new();
    for (at, device) in numbers.into_iter().enumerate() {
        for flag in [b'3', b'4'] {
            let mut head = Head::new(flag, 0o640);
            head.device = device;
            let name = format!("{}{at}", char::from(flag));
            tar = tar.raw(name.as_bytes(), &head, b"");
        }
    }
    let layer = fixture.unpack(tar.raw(b"pipe", &Head::new(b'6', 0o600), b""));
    for (at, (major, minor)) in numbers.into_iter().enumerate() {
        for (flag, kind) in [("3", 0o020_640), ("4", 0o060_640)] {
            let found = std::fs::symlink_metadata(layer.join(format!("{flag}{at}"))).unwrap();
            assert_eq!(found.rdev(), rustix::fs::makedev(major, minor));
            assert_eq!(found.mode(), kind);
        }
    }
    super::check_images(&fixture);
}

#[test]
fn attributes_that_the_kernel_would_refuse_are_refused() {
    let fixture = super::fixture();
    let check = |name: &str, value: &[u8], why: &str| {
        let tar = Tar::new().pax(&[(name, value)]).file("f", b"");
        let refused = fixture.apply(&tar.finish()).unwrap_err();
        assert!(chain_text(&refused).contains(why), "{name}: {refused}");
    };
    check(
        "SCHILY.xattr.security.capability",
        b"odd",
        "set an extended",
    );
    check(
        "SCHILY.xattr.system.posix_acl_access",
        b"\x02\0\0\0odd",
        "set an extended",
    );
    check("SCHILY.xattr.trusted.overlay.redirect", b"x", "not allowed");
    check("SCHILY.xattr.odd", b"x", "not allowed");
}

#[test]
fn nothing_takes_the_group_of_its_directory() {
    let fixture = super::fixture();
    let mut staff = Head::new(b'5', 0o2775);
    staff.owner = (0, 50);
    let layer = fixture.unpack(
        Tar::new()
            .raw(b"d", &staff, b"")
            .file("d/file", b"")
            .dir("d/dir", 0o755)
            .file("d/made/file", b"")
            .symlink("d/link", "x")
            .raw(b"d/pipe", &Head::new(b'6', 0o644), b""),
    );
    for name in ["file", "dir", "made", "made/file", "link", "pipe"] {
        let found = std::fs::symlink_metadata(layer.join("d").join(name)).unwrap();
        assert_eq!((found.gid(), found.mode() & 0o2000), (0, 0), "{name}");
    }
}

#[test]
fn access_lists_are_kept() {
    let fixture = super::fixture();
    let entry = |tag: u8, rights: u8, id: u32| {
        let mut entry = vec![tag, 0, rights, 0];
        entry.extend_from_slice(&id.to_le_bytes());
        entry
    };
    // user::rw- user:7:r-- group::r-- mask::r-- other::---
    let list = [
        vec![2, 0, 0, 0],
        entry(1, 6, u32::MAX),
        entry(2, 4, 7),
        entry(4, 4, u32::MAX),
        entry(16, 4, u32::MAX),
        entry(32, 0, u32::MAX),
    ]
    .concat();
    let short = [&list[..12], &list[20..28], &list[36..]].concat();
    let (access, default) = ("system.posix_acl_access", "system.posix_acl_default");
    let layer = fixture.unpack(
        Tar::new()
            .pax(&[("SCHILY.xattr.system.posix_acl_access", &list)])
            .raw(b"f", &Head::new(b'0', 0o640), b"")
            .pax(&[("SCHILY.xattr.system.posix_acl_access", &list[..4])])
            .file("none", b"")
            .pax(&[("SCHILY.xattr.system.posix_acl_access", &short)])
            .raw(b"bits", &Head::new(b'0', 0o4777), b"")
            .pax(&[("SCHILY.xattr.system.posix_acl_default", &list)])
            .dir("d", 0o755),
    );
    for (path, name) in [("f", access), ("d", default)] {
        let mut value = [0; 100];
        let length = rustix::fs::lgetxattr(layer.join(path), name, &mut value[..]).unwrap();
        assert_eq!(value[..length], list, "{path}");
    }
    let mode = |name: &str| std::fs::metadata(layer.join(name)).unwrap().mode() & 0o7777;
    assert_eq!(
        [mode("f"), mode("none"), mode("bits")],
        [0o640, 0o644, 0o4640]
    );
}

#[test]
fn three_hundred_layers_are_one_view() {
    let fixture = super::fixture();
    let layers: Vec<Tar> = (0..300)
        .map(|number| {
            let number = number.to_string();
            Tar::new()
                .file("same", number.as_bytes())
                .file(&format!("dir/own{number}"), b"")
        })
        .collect();
    let top = fixture.image(&layers);
    let lowers = fixture.store.layers().lowers(&top).unwrap();
    assert_eq!(lowers.len(), 300);
    let view = mount_view(&lowers).unwrap();
    let path = format!("/proc/self/fd/{}", std::os::fd::AsRawFd::as_raw_fd(&view));
    let path = std::path::Path::new(&path);
    assert_eq!(read(&path.join("same")), "299");
    assert_eq!(std::fs::read_dir(path.join("dir")).unwrap().count(), 300);
}

#[test]
fn a_layer_of_the_other_kind_may_lie_below() {
    use storage::SnapshotterChoice::{Erofs, Overlayfs};
    let fixture = super::fixture();
    let root = fixture.root();
    let top = fixture.image(&[Tar::new().dir("d", 0o711).file("d/a", b"1").file("b", b"1")]);
    let crate::support::Fixture { store, dir } = fixture;
    drop(store);
    let other = if super::kind() == Erofs {
        Overlayfs
    } else {
        Erofs
    };
    let store = crate::support::open(&root, other);
    if store.layers().format().is_err() {
        eprintln!("SKIPPED: no layers of another kind here");
        return;
    }
    let fixture = crate::support::Fixture { store, dir };
    let tar = Tar::new().file("d/c", b"2").file(".wh.b", b"").finish();
    let top = fixture.apply(&tar).unwrap().commit(Some(&top)).unwrap();
    let lowers = fixture.store.layers().lowers(&top).unwrap();
    let view = mount_view(&lowers).unwrap();
    let path = format!("/proc/self/fd/{}", std::os::fd::AsRawFd::as_raw_fd(&view));
    let path = std::path::Path::new(&path);
    assert_eq!(std::fs::read_dir(path).unwrap().count(), 1);
    assert_eq!(std::fs::read_dir(path.join("d")).unwrap().count(), 2);
    assert_eq!(
        std::fs::metadata(path.join("d")).unwrap().mode() & 0o777,
        0o711
    );
    let info = fixture.store.layers().info(&top).unwrap();
    fixture.store.layers().remove(&info.chain).unwrap();
}
