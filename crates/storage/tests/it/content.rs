//! Blobs: verification, durability of nothing half-written, limits.

use std::io::Write as _;

use storage::{ContentError, Store};

use crate::support::{Fixture, sha256};

#[test]
fn a_blob_is_stored_under_its_digest() {
    let fixture = Fixture::new();
    let content = fixture.store.content();
    let digest = content.put_bytes(b"hello").unwrap();
    assert_eq!(digest, sha256(b"hello"));
    assert!(content.has(&digest));
    assert_eq!(content.size(&digest).unwrap(), 5);
    assert_eq!(content.read_small(&digest, 5).unwrap(), b"hello");
    assert_eq!(content.list().unwrap(), [(digest.clone(), 5)]);
    assert!(content.remove(&digest).unwrap());
    assert!(!content.remove(&digest).unwrap());
    assert!(matches!(
        content.open(&digest),
        Err(ContentError::Missing { .. })
    ));
    assert!(fixture.leftovers().is_empty());
}

#[test]
fn a_wrong_digest_or_length_leaves_nothing() {
    let fixture = Fixture::new();
    let content = fixture.store.content();
    let write = |expected, bytes: &[u8]| {
        let mut writer = content.writer(Some(expected)).unwrap();
        writer.write_all(bytes).map(|()| writer.commit())
    };
    let wrong = write((sha256(b"other"), 5), b"hello").unwrap();
    assert!(
        matches!(wrong, Err(ContentError::DigestMismatch { .. })),
        "{wrong:?}"
    );
    let short = write((sha256(b"hello!"), 6), b"hello").unwrap();
    assert!(
        matches!(short, Err(ContentError::SizeMismatch { .. })),
        "{short:?}"
    );
    assert!(
        write((sha256(b"hell"), 4), b"hello").is_err(),
        "a longer stream is stopped"
    );
    assert!(content.list().unwrap().is_empty());
    assert!(fixture.leftovers().is_empty());
}

#[test]
fn small_reads_are_bounded_and_verified() {
    let fixture = Fixture::new();
    let content = fixture.store.content();
    let digest = content.put_bytes(&[7; 100]).unwrap();
    assert!(matches!(
        content.read_small(&digest, 99),
        Err(ContentError::TooLarge {
            size: 100,
            max: 99,
            ..
        })
    ));
    std::fs::write(content.path(&digest), [8; 100]).unwrap();
    assert!(matches!(
        content.read_small(&digest, 100),
        Err(ContentError::DigestMismatch { .. })
    ));
}

#[test]
fn the_folder_is_an_oci_image_layout_of_one_engine() {
    let fixture = Fixture::new();
    let layout = std::fs::read_to_string(fixture.root().join("content/oci-layout")).unwrap();
    assert_eq!(layout, r#"{"imageLayoutVersion":"1.0.0"}"#);
    let busy = Store::open(
        &fixture.root(),
        crate::support::options(&fixture.root(), storage::SnapshotterChoice::Auto),
    )
    .unwrap_err();
    assert!(
        busy.to_string().contains("in use by another engine"),
        "{busy}"
    );
}

#[test]
fn opening_removes_what_a_crash_left() {
    let fixture = Fixture::new();
    let root = fixture.root();
    let mut writer = fixture.store.content().writer(None).unwrap();
    writer.write_all(b"half").unwrap();
    // As if the process had been killed: the destructor does not run.
    std::fs::create_dir_all(root.join("tmp/layer-x/fs/a/b")).unwrap();
    std::fs::write(root.join("tmp/blob-x"), b"half").unwrap();
    let Fixture { store, dir } = fixture;
    drop((store, writer));
    let store = crate::support::open(&root, storage::SnapshotterChoice::Auto);
    store.trash().wait();
    assert_eq!(std::fs::read_dir(root.join("tmp")).unwrap().count(), 0);
    drop((store, dir));
}
