//! Images that are mounted: kept for the next to open a store, or gone with it.

use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};

use storage::overlay::mount_view;
use storage::{Format, SnapshotterChoice};

use crate::support::{Fixture, Tar, open, read};

/// What is mounted below a folder, the folder itself included.
fn mounted(below: &Path) -> Vec<PathBuf> {
    let table = std::fs::read_to_string("/proc/thread-self/mountinfo").unwrap();
    let places = table.lines().filter_map(|line| line.split(' ').nth(4));
    let ours = places.map(PathBuf::from);
    ours.filter(|place| place.starts_with(below)).collect()
}

/// A store of images, if the kernel takes them.
fn images() -> Option<(Fixture, PathBuf)> {
    let fixture = Fixture::new();
    if fixture.store.layers().format().unwrap() == Format::Folder {
        eprintln!("SKIPPED: the kernel takes no images");
        return None;
    }
    let mounts = fixture.root().with_extension("mounts");
    Some((fixture, mounts))
}

#[test]
fn layers_are_mounted_when_needed_and_gone_with_the_store() {
    let Some((fixture, mounts)) = images() else {
        return;
    };
    let chain = fixture.image(&[Tar::new().file("a", b"1")]);
    let place = fixture.store.layers().path(&chain);
    assert_eq!(
        mounted(&mounts),
        std::slice::from_ref(&mounts),
        "nobody has looked into it"
    );
    assert_eq!(fixture.files(&chain), place);
    assert_eq!(read(&place.join("a")), "1");
    assert_eq!(mounted(&mounts), [mounts.clone(), place.clone()]);
    let top = fixture.image(&[Tar::new().file("b", b"2")]);
    let view = mount_view(&[fixture.files(&top), place.clone()]).unwrap();
    fixture.store.layers().remove(&top).unwrap();
    assert_eq!(mounted(&mounts), [mounts.clone(), place]);
    let Fixture { store, dir } = fixture;
    drop(store);
    assert!(mounted(dir.path()).is_empty());
    assert!(!mounts.exists());
    let file = format!("/proc/self/fd/{}/b", std::os::fd::AsRawFd::as_raw_fd(&view));
    assert_eq!(
        read(Path::new(&file)),
        "2",
        "a view keeps what it stands on"
    );
}

#[test]
fn what_an_earlier_process_has_mounted_is_taken_over_or_unmounted() {
    let Some((fixture, mounts)) = images() else {
        return;
    };
    let kept = fixture.image(&[Tar::new().file("a", b"1")]);
    let lost = fixture.image(&[Tar::new().file("b", b"1")]);
    let moved = fixture.image(&[Tar::new().file("c", b"1")]);
    let chains = [&kept, &lost, &moved];
    let device = |place: &Path| std::fs::metadata(place).unwrap().dev();
    let places = chains.map(|chain| fixture.files(chain));
    let before = device(&places[0]);
    let root = fixture.root();
    let Fixture { store, dir } = fixture;
    store.keep_mounts();
    drop(store);
    assert_eq!(mounted(&mounts).len(), 4);
    std::fs::remove_dir_all(root.join("snapshots").join(lost.hex())).unwrap();
    rustix::mount::mount_bind(&places[0], &places[2]).unwrap();

    let store = open(&root, SnapshotterChoice::Overlayfs);
    assert_eq!(
        mounted(&mounts).len(),
        3,
        "the lost one and the strange one are gone"
    );
    assert_eq!(device(&store.layers().mounted(&kept).unwrap()), before);
    let again = store.layers().mounted(&moved).unwrap();
    assert_eq!(read(&again.join("c")), "1");
    store.layers().unmount().unwrap();
    assert!(mounted(dir.path()).is_empty());
    let again = store.layers().mounted(&moved).unwrap();
    assert_eq!(read(&again.join("c")), "1", "and whoever asks has it again");
    drop(store);
    assert!(mounted(dir.path()).is_empty());
}

#[test]
fn a_damaged_image_is_an_error_and_not_a_layer() {
    let Some((fixture, mounts)) = images() else {
        return;
    };
    let chain = fixture.image(&[Tar::new().file("a", b"1")]);
    let image = fixture
        .root()
        .join("snapshots")
        .join(chain.hex())
        .join("layer.erofs");
    let bytes = std::fs::read(&image).unwrap();
    for length in [0, 1000, 1100] {
        std::fs::write(&image, &bytes[..length]).unwrap();
        let error = fixture.store.layers().mounted(&chain).unwrap_err();
        assert!(error.to_string().starts_with("mount layer "), "{error}");
    }
    assert_eq!(mounted(&mounts), [mounts]);
}
