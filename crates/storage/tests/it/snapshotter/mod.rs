//! What every kind of layer must do: this file and those below are compiled once for each kind.

mod copy_up;
mod diff;
mod fidelity;
mod hostile;
mod layers;

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
