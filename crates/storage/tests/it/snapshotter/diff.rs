//! What a container changes, as a list and as a layer: through real overlay mounts.

use std::collections::HashSet;
use std::fs;
use std::io::Read as _;
use std::os::fd::{AsFd as _, AsRawFd as _, OwnedFd};
use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _, symlink};
use std::path::{Path, PathBuf};

use oci::{ContainerId, Digest};
use rustix::fs::{Mode, OFlags};
use storage::container::ContainerDir;
use storage::diff::{ChangeKind, Trees, changes, write_layer};
use storage::view::{self, Access, ViewMount};

use crate::support::{Fixture, Tar};

fn lower_layers() -> [Tar; 2] {
    let first = Tar::new()
        .dir("etc", 0o755)
        .file("etc/passwd", b"root")
        .dir("data", 0o755)
        .file("data/file", b"one")
        .file("data/gone", b"two")
        .dir("data/tree", 0o755)
        .file("data/tree/a", b"a")
        .file("data/tree/b", b"b")
        .dir("kept", 0o700)
        .file("becomes-dir", b"x")
        .dir("becomes-file", 0o755)
        .file("becomes-file/x", b"x");
    let second = Tar::new()
        .file("data/second", b"2")
        .file("data/.wh.gone-before", b"");
    [first, second]
}

struct Container {
    fixture: Fixture,
    top: Digest,
    lowers: Vec<PathBuf>,
    folder: ContainerDir,
}

impl Container {
    fn new(layers: &[Tar]) -> Self {
        let fixture = super::fixture();
        let top = fixture.image(layers);
        let lowers = fixture.store.layers().lowers(&top).unwrap();
        let id: ContainerId = "a".repeat(64).parse().unwrap();
        let folder = fixture
            .store
            .containers()
            .create(&id, Some(&lowers[0]))
            .unwrap();
        Self {
            fixture,
            top,
            lowers,
            folder,
        }
    }

    fn view(&self, access: Access, mounts: &[ViewMount]) -> (OwnedFd, PathBuf) {
        let view = view::stopped(&self.lowers, &self.folder, mounts, access).unwrap();
        let path = format!("/proc/self/fd/{}", view.root.as_raw_fd());
        (view.root, path.into())
    }

    fn trees(&self) -> Trees {
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
        Trees {
            upper: rustix::fs::open(self.folder.upper(), flags, Mode::empty()).unwrap(),
            lower: storage::overlay::mount_view(&self.lowers).unwrap(),
            places: HashSet::from([b"etc/hosts".to_vec(), b"proc".to_vec(), b"run/x".to_vec()]),
        }
    }

    fn changes(&self) -> Vec<String> {
        let letter = |kind| match kind {
            ChangeKind::Modified => 'C',
            ChangeKind::Added => 'A',
            ChangeKind::Deleted => 'D',
        };
        let all = changes(self.trees()).unwrap().into_iter();
        all.map(|change| {
            format!(
                "{} {}",
                letter(change.kind),
                String::from_utf8(change.path).unwrap()
            )
        })
        .collect()
    }
}

fn change(root: &Path) {
    let at = |name: &str| root.join(name);
    fs::write(at("etc/passwd"), "changed").unwrap();
    fs::remove_file(at("data/gone")).unwrap();
    fs::remove_dir_all(at("data/tree")).unwrap();
    fs::create_dir(at("data/tree")).unwrap();
    fs::write(at("data/tree/b"), "again").unwrap();
    fs::create_dir_all(at("new/deep")).unwrap();
    fs::write(at("new/deep/f"), vec![1; 70_000]).unwrap();
    fs::hard_link(at("new/deep/f"), at("new/same")).unwrap();
    symlink("/etc", at("new/link")).unwrap();
    fs::remove_file(at("becomes-dir")).unwrap();
    fs::create_dir(at("becomes-dir")).unwrap();
    fs::remove_dir_all(at("becomes-file")).unwrap();
    fs::write(at("becomes-file"), "file").unwrap();
    rustix::fs::chmod(at("kept"), Mode::from(0o711)).unwrap();
    // what a start makes to mount on
    fs::write(at("etc/hosts"), "").unwrap();
    fs::create_dir(at("proc")).unwrap();
    fs::create_dir(at("run")).unwrap();
    fs::write(at("run/x"), "").unwrap();
}

const CHANGED: [&str; 15] = [
    "C becomes-dir",
    "C becomes-file",
    "C data",
    "D data/gone",
    "C data/tree",
    "D data/tree/a",
    "C data/tree/b",
    "C etc",
    "C etc/passwd",
    "C kept",
    "A new",
    "A new/deep",
    "A new/deep/f",
    "A new/link",
    "A new/same",
];

/// The content of a tree without the places to mount on.
fn describe(top: &Path) -> Vec<String> {
    let mut all = Vec::new();
    let mut waiting = vec![top.to_owned()];
    while let Some(path) = waiting.pop() {
        let shown = path.strip_prefix(top).unwrap().display().to_string();
        if ["proc", "run", "run/x", "etc/hosts"].contains(&shown.as_str()) {
            continue;
        }
        let found = fs::symlink_metadata(&path).unwrap();
        let content = if found.is_file() {
            format!("{:?}", fs::read(&path).unwrap().len())
        } else {
            String::new()
        };
        let time = (found.mtime(), found.mtime_nsec());
        let time = if found.is_dir() { (0, 0) } else { time };
        all.push(format!(
            "{shown} {:o} {} {time:?} {content}",
            found.mode(),
            found.uid()
        ));
        if found.is_dir() && !found.is_symlink() {
            waiting.extend(
                fs::read_dir(&path)
                    .unwrap()
                    .map(|entry| entry.unwrap().path()),
            );
        }
    }
    all.sort();
    all
}

#[test]
fn a_layer_of_the_changes_gives_the_same_tree() {
    for layers in [&lower_layers()[..1], &lower_layers()[..]] {
        let container = Container::new(layers);
        assert!(container.changes().is_empty());
        let (view, path) = container.view(Access::Write, &[]);
        change(&path.join("."));
        drop(view);
        assert_eq!(container.changes(), CHANGED);
        let mut once = Vec::new();
        write_layer(container.trees(), &mut once).unwrap();
        let mut twice = Vec::new();
        write_layer(container.trees(), &mut twice).unwrap();
        assert!(once == twice, "the same tree gives the same layer");
        let made = container
            .fixture
            .store
            .commit_layer(container.trees())
            .unwrap();
        let (blob, _) = made.blob.commit().unwrap();
        let applied = made.staged.applied().clone();
        assert_eq!(applied.diff_id, crate::support::sha256(&once));
        let chain = made.staged.commit(Some(&container.top)).unwrap();
        // the blob holds the same layer
        let again = container.fixture.store.content().open(&blob).unwrap();
        let again = container
            .fixture
            .store
            .layers()
            .apply(again, &storage::ApplyOptions::default());
        assert_eq!(again.unwrap().applied().diff_id, applied.diff_id);
        check_made_again(container.fixture.store.layers(), &chain, &once);
        let lowers = container.fixture.store.layers().lowers(&chain).unwrap();
        let image = storage::overlay::mount_view(&lowers).unwrap();
        let (view, merged) = container.view(Access::Read, &[]);
        let image_path = PathBuf::from(format!("/proc/self/fd/{}/.", image.as_raw_fd()));
        assert_eq!(describe(&image_path), describe(&merged.join(".")));
        drop(view);
        assert!(container.fixture.leftovers().is_empty());
    }
}

/// The tar of a folder is made again from it, and nobody takes one that has become another.
fn check_made_again(layers: &storage::LayerStore, chain: &Digest, tar: &[u8]) {
    let read = |diff_id: &Digest| {
        let mut bytes = Vec::new();
        let mut source = layers.read_tar(chain, diff_id).unwrap();
        source.read_to_end(&mut bytes).map(|_| bytes)
    };
    let diff_id = crate::support::sha256(tar);
    if !layers.is_folder(chain) {
        let error = read(&diff_id).unwrap_err().to_string();
        assert!(error.contains("is no folder"), "{error}");
        return;
    }
    assert!(read(&diff_id).unwrap() == tar);
    let error = read(&Digest::from_sha256(&[1; 32])).unwrap_err();
    assert!(error.to_string().contains("have changed"), "{error}");
    // a reader that goes away ends the thread
    let mut source = layers.read_tar(chain, &diff_id).unwrap();
    source.read_exact(&mut [0; 10]).unwrap();
}

#[test]
fn a_first_layer_lies_on_nothing() {
    let container = Container::new(&lower_layers());
    let upper = container.fixture.dir.path().join("first");
    fs::create_dir(&upper).unwrap();
    fs::set_permissions(&upper, fs::Permissions::from_mode(0o755)).unwrap();
    let tar = |upper: &Path| {
        let mut bytes = Vec::new();
        write_layer(Trees::over(upper, &[]).unwrap(), &mut bytes).unwrap();
        bytes
    };
    // nothing but the end of an archive
    assert_eq!(tar(&upper), [0; 1024]);
    fs::write(upper.join("file"), "x").unwrap();
    assert!(tar(&upper) == tar(&upper));
    assert!(tar(&upper).len() > 1024);
}

#[test]
fn names_of_whiteouts_cannot_be_in_a_layer() {
    let container = Container::new(&lower_layers());
    fs::write(container.folder.upper().join(".wh.x"), "").unwrap();
    assert_eq!(container.changes(), ["A .wh.x"]);
    let error = container
        .fixture
        .store
        .commit_layer(container.trees())
        .unwrap_err();
    assert!(error.to_string().contains("begin with .wh."), "{error}");
    assert!(container.fixture.leftovers().is_empty());
}

#[test]
fn views_show_mounts_and_refuse_what_is_read_only() {
    let container = Container::new(&lower_layers());
    let host = container.fixture.dir.path().join("host");
    fs::create_dir(&host).unwrap();
    fs::write(host.join("file"), "host").unwrap();
    let mount = |destination: &str, source: &Path, read_only| ViewMount {
        destination: destination.into(),
        source: source.to_owned(),
        recursive: true,
        read_only,
    };
    let mounts = [
        mount("/kept", &host, false),
        mount("/etc/passwd", &host.join("file"), false),
        mount("/made/here", &host, true),
        mount("/not", &host.join("nothing"), false),
    ];
    let (view, path) = container.view(Access::Read, &mounts);
    assert!(!view::has_places(view.as_fd(), &mounts));
    assert_eq!(fs::read_to_string(path.join("kept/file")).unwrap(), "host");
    assert_eq!(fs::read_to_string(path.join("etc/passwd")).unwrap(), "host");
    for name in ["kept/new", "new"] {
        assert!(fs::write(path.join(name), "x").is_err(), "{name}");
    }
    drop(view);
    let (view, path) = container.view(Access::Write, &mounts);
    fs::write(path.join("kept/new"), "x").unwrap();
    fs::write(path.join("new"), "x").unwrap();
    assert!(fs::write(path.join("made/here/new"), "x").is_err());
    drop(view);
    assert!(host.join("new").exists());
    assert!(container.folder.upper().join("new").exists());
    let table = fs::read_to_string("/proc/self/mountinfo").unwrap();
    let name = container.fixture.dir.path().to_str().unwrap().to_owned();
    let mounts = container.fixture.root().with_extension("mounts");
    let mounts = mounts.to_str().unwrap().to_owned();
    let mut ours = table.lines().filter(|line| line.contains(&name));
    assert!(
        ours.all(|line| line.contains(&mounts)),
        "nothing but layers is mounted at a path"
    );
}
