//! What every kind of layer must do: this file and those below are compiled once for each kind.

mod contract;
mod copy_up;
mod corpus;
mod diff;
mod fidelity;
mod hostile;
mod idmap;
mod layers;
mod random;
mod tree;

use std::path::Path;

use storage::{SnapshotterChoice, Store};

use crate::support::Fixture;

/// The kind, by the name under which this file was taken in.
fn kind() -> SnapshotterChoice {
    let name = module_path!().rsplit("::").next();
    let all = SnapshotterChoice::ALL.into_iter();
    let mut named = all.filter(|choice| Some(choice.name()) == name);
    named.next().unwrap()
}

/// A store whose layers are of the kind.
fn fixture() -> Fixture {
    let fixture = Fixture::of(kind());
    if let Err(error) = fixture.store.layers().format() {
        eprintln!("SKIPPED for {}, run with folders: {error}", kind());
        return Fixture::of(SnapshotterChoice::Overlayfs);
    }
    fixture
}

fn open(root: &Path) -> Store {
    crate::support::open(root, kind())
}

/// Has the images of a store checked by the program of those who made the format.
fn check_images(fixture: &Fixture) {
    for layer in std::fs::read_dir(fixture.root().join("snapshots")).unwrap() {
        let image = layer.unwrap().path().join("layer.erofs");
        if !image.exists() {
            continue;
        }
        let mut fsck = std::process::Command::new("fsck.erofs");
        match fsck.arg("-d3").arg(&image).output() {
            Ok(output) => assert!(
                output.status.success(),
                "{}{}",
                String::from_utf8_lossy(&output.stdout),
                String::from_utf8_lossy(&output.stderr)
            ),
            Err(error) => eprintln!("SKIPPED: fsck.erofs: {error}"),
        }
    }
}
