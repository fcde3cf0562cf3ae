//! Every byte of a folder is in one part of its account, and in one alone.

use std::fs;
use std::os::unix::fs::symlink;
use std::path::Path;
use std::process::Command;

use storage::Cancel;
use storage::account::account;

/// What `du` counts, bytes.
fn du(path: &Path) -> u64 {
    let output = Command::new("du")
        .args(["-s", "-B1"])
        .arg(path)
        .output()
        .unwrap();
    let text = String::from_utf8(output.stdout).unwrap();
    text.split_whitespace().next().unwrap().parse().unwrap()
}

fn write(path: &Path, length: usize) {
    fs::create_dir_all(path.parent().unwrap()).unwrap();
    fs::write(path, vec![b'x'; length]).unwrap();
}

#[test]
fn the_parts_are_the_whole() {
    let folder = tempfile::tempdir_in("/var/tmp").unwrap();
    let root = folder.path().join("root");
    let _store = crate::support::open(&root, storage::SnapshotterChoice::Auto);
    write(&root.join("gorae.db"), 100_000);
    write(&root.join("content/blobs/sha256/aa"), 70_000);
    write(&root.join("snapshots/bb/fs/bin/sh"), 50_000);
    write(&root.join("volumes/one/_data/file"), 30_000);
    write(&root.join("containers/c1/upper/etc/x"), 20_000);
    fs::create_dir_all(root.join("containers/c1/work")).unwrap();
    write(&root.join("containers/c1/c1-json.log"), 10_000);
    write(&root.join("containers/c1/c1-json.log.1.gz"), 10_000);
    write(&root.join("containers/c1/hostname"), 10);
    write(&root.join("tmp/left"), 5_000);
    // several names, a hole, and links to elsewhere
    fs::hard_link(
        root.join("containers/c1/upper/etc/x"),
        root.join("containers/c1/upper/etc/y"),
    )
    .unwrap();
    let sparse = fs::File::create(root.join("volumes/one/_data/hole")).unwrap();
    sparse.set_len(1 << 30).unwrap();
    symlink("/", root.join("volumes/one/_data/elsewhere")).unwrap();
    symlink("/usr", root.join("outside")).unwrap();

    let found = account(&root, &Cancel::default()).unwrap();
    assert_eq!(found.total, du(&root));
    assert_eq!(found.blobs, du(&root.join("content")));
    assert_eq!(found.snapshots, du(&root.join("snapshots")));
    assert_eq!(found.volumes, du(&root.join("volumes")));
    assert!(found.volumes < 1 << 20, "a hole takes nothing: {found:?}");
    let log = |name: &str| du(&root.join("containers/c1").join(name));
    let logs = log("c1-json.log") + log("c1-json.log.1.gz");
    assert_eq!(found.logs, logs);
    assert_eq!(
        found.writable,
        du(&root.join("containers/c1/upper")) + du(&root.join("containers/c1/work"))
    );
    let one = &found.containers[..];
    assert_eq!(one.len(), 1);
    assert_eq!((one[0].id.as_str(), one[0].logs), ("c1", logs));
    assert_eq!(
        one[0].writable + one[0].logs + one[0].metadata,
        du(&root.join("containers/c1"))
    );
    assert!(
        found.metadata >= 100_000 && found.other >= 5_000,
        "{found:?}"
    );
}

#[test]
#[expect(
    deprecated,
    reason = "the safe form suffices: the thread holds no path of its own across the call"
)]
fn what_is_mounted_is_not_counted() {
    use rustix::mount::{MountFlags, UnmountFlags, mount, mount_bind, unmount};
    let folder = tempfile::tempdir_in("/var/tmp").unwrap();
    let root = folder.path().join("root");
    let volumes = root.join("volumes");
    for name in ["memory/_data", "bound/_data"] {
        fs::create_dir_all(volumes.join(name)).unwrap();
    }
    let before = account(&root, &Cancel::default()).unwrap().total;
    let big = folder.path().join("big");
    write(&big.join("file"), 1 << 20);
    let inside = volumes.join("memory/_data");
    let worker = std::thread::spawn(move || {
        // the mounts are in a mount namespace of this thread alone, so the host never sees them
        rustix::thread::unshare(rustix::thread::UnshareFlags::NEWNS).unwrap();
        rustix::mount::mount_change(
            "/",
            rustix::mount::MountPropagationFlags::PRIVATE
                | rustix::mount::MountPropagationFlags::REC,
        )
        .unwrap();
        mount("tmpfs", &inside, "tmpfs", MountFlags::empty(), None).unwrap();
        write(&inside.join("file"), 1 << 20);
        // the same file system as the folder, and yet not of it
        let bound = volumes.join("bound/_data");
        mount_bind(&big, &bound).unwrap();
        let found = account(&root, &Cancel::default()).unwrap();
        unmount(&bound, UnmountFlags::DETACH).unwrap();
        unmount(&inside, UnmountFlags::DETACH).unwrap();
        found
    });
    let found = worker.join().unwrap();
    assert!(found.total <= before, "{found:?} for {before}");
    assert!(found.total + 2 * 4096 >= before, "{found:?} for {before}");
}

#[test]
fn a_measurement_can_be_ended() {
    let folder = tempfile::tempdir().unwrap();
    write(&folder.path().join("volumes/x"), 1);
    let cancel = Cancel::default();
    cancel.cancel();
    let error = account(folder.path(), &cancel).unwrap_err();
    assert!(error.to_string().starts_with("measure "), "{error}");
}
