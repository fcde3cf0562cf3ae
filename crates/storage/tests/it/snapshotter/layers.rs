//! Layers on each other: whiteouts in a real overlay, identity, removal, power failure.

use std::os::fd::AsFd as _;
use std::os::unix::fs::MetadataExt as _;
use std::path::Path;

use storage::overlay::mount_view;
use storage::{LayerError, chain_id};

use crate::support::{Fixture, Head, Tar, sha256};

/// The names in a directory of a view, sorted.
fn names(view: impl std::os::fd::AsFd, path: &str) -> Vec<String> {
    let fd = sys::tree::open(
        view.as_fd(),
        Path::new(path),
        rustix::fs::OFlags::RDONLY | rustix::fs::OFlags::DIRECTORY,
    )
    .unwrap();
    let mut names: Vec<String> = rustix::fs::Dir::read_from(fd)
        .unwrap()
        .map(|entry| entry.unwrap().file_name().to_str().unwrap().to_owned())
        .filter(|name| name != "." && name != "..")
        .collect();
    names.sort();
    names
}

#[test]
fn whiteouts_hide_what_lies_below() {
    let fixture = super::fixture();
    let top = fixture.image(&[
        Tar::new()
            .file("gone", b"1")
            .file("kept", b"1")
            .dir("opaque", 0o755)
            .file("opaque/old", b"1")
            .file("dir/a", b"1")
            .file("dir/b", b"1")
            .file("anew/old", b"1")
            .file("later/old", b"1"),
        Tar::new()
            .file(".wh.gone", b"")
            .dir("opaque", 0o711)
            .file("opaque/.wh..wh..opq", b"")
            .file("opaque/new", b"2")
            .file("dir/.wh.a", b"")
            .file(".wh.anew", b"")
            .dir("anew", 0o755)
            .file("anew/new", b"2")
            .dir("later", 0o755)
            .file("later/new", b"2")
            .file(".wh.later", b"")
            .dir(".wh..wh.plnk", 0o755),
    ]);
    let view = mount_view(&fixture.store.layers().lowers(&top).unwrap()).unwrap();
    assert_eq!(
        names(&view, "/"),
        ["anew", "dir", "kept", "later", "opaque"]
    );
    assert_eq!(names(&view, "/opaque"), ["new"]);
    assert_eq!(names(&view, "/dir"), ["b"]);
    assert_eq!(names(&view, "/anew"), ["new"]);
    assert_eq!(names(&view, "/later"), ["new"]);
    let write = rustix::fs::openat(
        view.as_fd(),
        "x",
        rustix::fs::OFlags::CREATE | rustix::fs::OFlags::WRONLY,
        rustix::fs::Mode::from(0o600),
    );
    assert!(write.is_err(), "a view is read-only");
}

#[test]
fn an_opaque_root_hides_every_layer_below() {
    let fixture = super::fixture();
    let top = fixture.image(&[
        Tar::new().file("old", b"1"),
        Tar::new().file(".wh..wh..opq", b"").file("new", b"2"),
    ]);
    let lowers = fixture.store.layers().lowers(&top).unwrap();
    assert_eq!(lowers, [fixture.files(&top)]);
    assert_eq!(names(mount_view(&lowers).unwrap(), "/"), ["new"]);
}

#[test]
fn directories_that_only_lower_layers_describe_keep_their_attributes() {
    let fixture = super::fixture();
    let mut private = Head::new(b'5', 0o700);
    private.owner = (33, 44);
    let base = Tar::new()
        .dir("./", 0o751)
        .dir("tmp", 0o1777)
        .raw(b"srv", &private, b"")
        .raw(b"srv/deep", &private, b"")
        .dir("gone", 0o700);
    let top = fixture.image(&[
        base,
        Tar::new().file(".wh.gone", b"").file("other/x", b"1"),
        Tar::new()
            .file("tmp/x", b"2")
            .file("srv/deep/x", b"2")
            .file("gone/x", b"2"),
    ]);
    let layer = fixture.files(&top);
    let attributes = |path: &str| {
        let found = std::fs::symlink_metadata(layer.join(path)).unwrap();
        (found.mode() & 0o7777, found.uid(), found.gid())
    };
    assert_eq!(attributes(""), (0o751, 0, 0));
    assert_eq!(attributes("tmp"), (0o1777, 0, 0));
    assert_eq!(attributes("srv"), (0o700, 33, 44));
    assert_eq!(attributes("srv/deep"), (0o700, 33, 44));
    assert_eq!(attributes("gone"), (0o755, 0, 0), "a whiteout lies between");
}

#[test]
fn layers_unpack_in_parallel_and_the_same_one_twice() {
    let fixture = super::fixture();
    let tar = Tar::new().file("a", b"x").finish();
    let staged: Vec<_> = std::thread::scope(|scope| {
        let threads: Vec<_> = (0..4)
            .map(|_| scope.spawn(|| fixture.apply(&tar).unwrap()))
            .collect();
        threads
            .into_iter()
            .map(|thread| thread.join().unwrap())
            .collect()
    });
    for layer in staged {
        assert_eq!(layer.commit(None).unwrap(), sha256(&tar));
    }
    assert_eq!(fixture.store.layers().list().len(), 1);
    assert!(fixture.leftovers().is_empty());
}

#[test]
fn identity_and_removal_follow_the_chain() {
    let fixture = super::fixture();
    let layers = fixture.store.layers();
    let (one, two) = (Tar::new().file("a", b"1"), Tar::new().file("a", b"2"));
    let bottom = fixture.image(std::slice::from_ref(&one));
    let top = fixture.image(&[one, two.clone()]);
    assert_eq!(top, chain_id(Some(&bottom), &sha256(&two.clone().finish())));
    assert_eq!(layers.info(&top).unwrap().parent.as_ref(), Some(&bottom));
    assert_eq!(layers.size(&top).unwrap(), 1);
    assert!(matches!(
        layers.remove(&bottom),
        Err(LayerError::HasChild { .. })
    ));
    layers.remove(&top).unwrap();
    layers.remove(&top).unwrap();
    layers.remove(&bottom).unwrap();
    assert!(layers.list().is_empty());
    let orphan = fixture.apply(&two.finish()).unwrap().commit(Some(&bottom));
    assert!(matches!(orphan, Err(LayerError::MissingParent { .. })));
    assert!(fixture.leftovers().is_empty());
}

#[test]
fn a_reopened_store_knows_its_layers_and_drops_those_a_power_failure_may_have_damaged() {
    let fixture = super::fixture();
    let (a, b, c) = (
        Tar::new().file("a", b"1"),
        Tar::new().file("b", b"1"),
        Tar::new().file("c", b"1"),
    );
    let kept = fixture.image(std::slice::from_ref(&a));
    let lost = fixture.image(&[a, b.clone()]);
    let orphan = fixture.image(&[Tar::new().file("a", b"1"), b, c]);
    let root = fixture.root();
    let Fixture { store, dir } = fixture;
    drop(store);
    let store = super::open(&root);
    assert_eq!(
        store.layers().list().len(),
        3,
        "the same boot loses nothing"
    );
    drop(store);

    // As after a power failure: unpacked before the boot, and never flushed.
    let folder = root.join("snapshots").join(lost.hex());
    let text = std::fs::read_to_string(folder.join("layer.json")).unwrap();
    let boot = std::fs::read_to_string("/proc/sys/kernel/random/boot_id").unwrap();
    std::fs::write(
        folder.join("layer.json"),
        text.replace(boot.trim(), "another-boot"),
    )
    .unwrap();
    let store = super::open(&root);
    let mut gone = store.layers().lost().to_vec();
    gone.sort();
    let mut expected = vec![lost, orphan];
    expected.sort();
    assert_eq!(gone, expected);
    assert!(store.layers().exists(&kept));
    drop(dir);
}

#[test]
fn layers_become_durable_by_themselves() {
    let fixture = super::fixture();
    let chain = fixture.image(&[Tar::new().file("a", b"1")]);
    let mark = fixture
        .root()
        .join("snapshots")
        .join(chain.hex())
        .join("durable");
    let deadline = std::time::Instant::now() + std::time::Duration::from_secs(60);
    while !mark.exists() {
        assert!(
            std::time::Instant::now() < deadline,
            "no flush within a minute"
        );
        std::thread::sleep(std::time::Duration::from_millis(100));
    }
}
