//! Partial blobs: taken up where they were left, believed only when verified, bounded.

use std::io::Read as _;
use std::time::Duration;

use storage::ContentError;

use crate::support::{Fixture, sha256};

fn noise(length: u32) -> Vec<u8> {
    let byte = |n: u32| n.wrapping_mul(2_654_435_761).to_be_bytes()[1];
    (0..length).map(byte).collect()
}

const DAY: Duration = Duration::from_secs(24 * 3600);

#[test]
fn a_blob_comes_in_pieces_and_over_restarts() {
    let fixture = Fixture::new();
    let content = fixture.store.content();
    let bytes = noise(100_000);
    let (digest, size) = (sha256(&bytes), bytes.len() as u64);
    let mut ingest = content.ingest(&digest, size).unwrap();
    assert_eq!(ingest.gaps(), vec![0..size]);
    ingest.put(0, &bytes[..30_000]).unwrap();
    let mut reader = ingest.reader().unwrap();
    let mut start = vec![0; 30_000];
    reader.read_exact(&mut start).unwrap();
    assert!(start == bytes[..30_000]);
    drop(ingest);
    let mut ingest = content.ingest(&digest, size).unwrap();
    assert_eq!((ingest.front(), ingest.resumed()), (30_000, 30_000));
    // behind a gap, and again after a restart
    ingest.put(60_000, &bytes[60_000..70_000]).unwrap();
    assert_eq!((ingest.front(), ingest.received()), (30_000, 40_000));
    drop(ingest);
    let mut ingest = content.ingest(&digest, size).unwrap();
    assert_eq!(ingest.gaps(), vec![30_000..60_000, 70_000..size]);
    ingest.put(70_000, &bytes[70_000..]).unwrap();
    ingest.put(30_000, &bytes[30_000..60_000]).unwrap();
    assert_eq!(ingest.front(), size);
    let ready = ingest.finish().unwrap();
    assert!(!content.has(&digest));
    ready.place().unwrap();
    ready.place().unwrap();
    content.sync_names().unwrap();
    assert_eq!(content.read_small(&digest, size).unwrap(), bytes);
    assert!(content.partials().unwrap().is_empty());
    assert_eq!(fixture.leftovers(), Vec::<String>::new());
}

/// A kill leaves the file and the list as they are at that moment.
#[test]
fn a_kill_costs_a_mebibyte_at_most() {
    const PIECE: u64 = 100_000;
    let (fixture, killed) = (Fixture::new(), Fixture::new());
    let size = 64 * PIECE;
    let bytes = noise(u32::try_from(size).unwrap());
    let digest = sha256(&bytes);
    let path = |fixture: &Fixture| {
        fixture
            .store
            .root()
            .join("content/ingest")
            .join(digest.hex())
    };
    let mut ingest = fixture.store.content().ingest(&digest, size).unwrap();
    // three connections, each with a part of its own; the pieces of the first are where no gap is
    for number in 0..15 {
        for part in [0, 20, 40] {
            let at = (part + number) * PIECE;
            let (from, to) = (
                usize::try_from(at).unwrap(),
                usize::try_from(at + PIECE).unwrap(),
            );
            ingest.put(at, &bytes[from..to]).unwrap();
            for file in [path(&fixture), path(&fixture).with_extension("parts")] {
                if file.exists() {
                    let name = file.file_name().unwrap();
                    std::fs::copy(&file, path(&killed).with_file_name(name)).unwrap();
                }
            }
            let after = killed.store.content().ingest(&digest, size).unwrap();
            let lost = ingest.received() - after.received();
            assert!(lost <= 1 << 20, "{lost} of {}", ingest.received());
        }
    }
}

#[test]
fn what_is_wrong_does_not_stay() {
    let fixture = Fixture::new();
    let content = fixture.store.content();
    let bytes = noise(5_000);
    let (digest, size) = (sha256(&bytes), bytes.len() as u64);
    let mut ingest = content.ingest(&digest, size).unwrap();
    let mut wrong = bytes.clone();
    wrong[77] ^= 1;
    ingest.put(0, &wrong).unwrap();
    assert!(matches!(
        ingest.put(size, b"x"),
        Err(ContentError::SizeMismatch { .. })
    ));
    let error = ingest.finish().unwrap_err();
    assert!(
        matches!(error, ContentError::DigestMismatch { .. }),
        "{error}"
    );
    let mut ingest = content.ingest(&digest, size).unwrap();
    assert_eq!(ingest.received(), 0);
    // too little is told, and stays
    ingest.put(0, &bytes[..10]).unwrap();
    let error = ingest.finish().unwrap_err();
    assert!(
        matches!(error, ContentError::SizeMismatch { .. }),
        "{error}"
    );
    assert_eq!(content.ingest(&digest, size).unwrap().received(), 10);
}

#[test]
fn damaged_files_are_begun_again() {
    let fixture = Fixture::new();
    let content = fixture.store.content();
    let bytes = noise(1_000);
    let (digest, size) = (sha256(&bytes), 1_000);
    let folder = fixture.store.root().join("content/ingest");
    let file = folder.join(digest.hex());
    let list = file.with_extension("parts");
    for (length, parts, received) in [
        (2_000, None, 0),
        (400, None, 400),
        (1_000, Some("0 10\n50 900\n"), 860),
        (1_000, Some("0 10\n50 9"), 0),
        (1_000, Some("0 10\n50 9000\n"), 0),
        (100, Some("0 10\n50 900\n"), 0),
        (1_000, Some("nonsense"), 0),
    ] {
        std::fs::write(&file, vec![0; length]).unwrap();
        match parts {
            Some(text) => std::fs::write(&list, text).unwrap(),
            None => drop(std::fs::remove_file(&list)),
        }
        let ingest = content.ingest(&digest, size).unwrap();
        assert_eq!(ingest.received(), received, "{length} {parts:?}");
    }
    let mut ingest = content.ingest(&digest, size).unwrap();
    ingest.put(0, &bytes).unwrap();
    ingest.finish().unwrap().place().unwrap();
    assert!(!list.exists());
}

#[test]
fn partial_blobs_are_bounded_in_age_and_size() {
    let fixture = Fixture::new();
    let content = fixture.store.content();
    let mut digests = Vec::new();
    for number in 0..4_u8 {
        let bytes = vec![number; 8192];
        let digest = sha256(&bytes);
        let mut ingest = content.ingest(&digest, 9_000).unwrap();
        ingest.put(0, &bytes).unwrap();
        if number == 3 {
            ingest.put(8_500, b"behind a gap").unwrap();
        }
        drop(ingest);
        let path = fixture
            .store
            .root()
            .join("content/ingest")
            .join(digest.hex());
        let file = std::fs::File::options().write(true).open(path).unwrap();
        let age = Duration::from_secs(3600 * (4 - u64::from(number)));
        file.set_modified(std::time::SystemTime::now() - age)
            .unwrap();
        digests.push(digest);
    }
    let left = || content.partials().unwrap().len();
    assert_eq!(content.trim_partials(DAY, 1 << 30).unwrap(), 0);
    // the oldest goes first, and what is in use stays
    let used = content.ingest(&digests[0], 9_000).unwrap();
    assert!(!content.remove_partial(&digests[0]).unwrap());
    let most = content.partials().unwrap()[0].allocated * 7 / 2;
    assert!(content.trim_partials(DAY, most).unwrap() > 0);
    assert_eq!(left(), 3);
    assert_eq!(content.ingest(&digests[1], 9_000).unwrap().received(), 0);
    drop(used);
    assert!(
        content
            .trim_partials(Duration::from_secs(9_000), 1 << 30)
            .unwrap()
            > 0
    );
    content.trim_partials(Duration::ZERO, 0).unwrap();
    let folder = fixture.store.root().join("content/ingest");
    assert_eq!(std::fs::read_dir(folder).unwrap().count(), 0);
}

#[test]
fn one_user_follows_the_other() {
    let fixture = Fixture::new();
    let content = fixture.store.content();
    let bytes = noise(3_000);
    let digest = sha256(&bytes);
    let mut first = content.ingest(&digest, 3_000).unwrap();
    first.put(0, &bytes[..1_000]).unwrap();
    std::thread::scope(|scope| {
        let second = scope.spawn(|| content.ingest(&digest, 3_000).unwrap().received());
        std::thread::sleep(Duration::from_millis(50));
        first.put(1_000, &bytes[1_000..2_000]).unwrap();
        drop(first);
        assert_eq!(second.join().unwrap(), 2_000);
    });
}
