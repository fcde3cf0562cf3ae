//! Compressions, and streams that end or go on where they should not.

use std::io::{self, Read};

use storage::{ApplyOptions, Compression};

use crate::support::{Fixture, Tar, chain_text, gzip, sha256};

fn sample() -> Vec<u8> {
    let noise: Vec<u8> = (0..3_000_000_u32)
        .map(|n| (n.wrapping_mul(2_654_435_761) >> 24) as u8)
        .collect();
    Tar::new().file("a", &noise).file("b", b"small").finish()
}

#[test]
fn every_compression_gives_the_same_layer() {
    let fixture = Fixture::new();
    let tar = sample();
    let (front, back) = tar.split_at(1_000_001);
    let members = [gzip(front), gzip(back)].concat();
    let frames = [
        zstd::encode_all(front, 3).unwrap(),
        vec![0x50, 0x2a, 0x4d, 0x18, 2, 0, 0, 0, 9, 9],
        zstd::encode_all(back, 3).unwrap(),
    ]
    .concat();
    for (bytes, compression) in [
        (tar.clone(), Compression::None),
        (gzip(&tar), Compression::Gzip),
        (members, Compression::Gzip),
        (frames, Compression::Zstd),
    ] {
        let staged = fixture.apply(&bytes).unwrap();
        let applied = staged.applied();
        assert_eq!(applied.diff_id, sha256(&tar), "{compression:?}");
        assert_eq!(applied.compression, compression);
        assert_eq!((applied.entries, applied.size), (2, 3_000_005));
        assert_eq!(applied.tar_size, tar.len() as u64);
    }
}

/// Gives one byte at a time.
struct Drip<'a>(&'a [u8]);

impl Read for Drip<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let count = buffer.len().min(1).min(self.0.len());
        self.0.read(&mut buffer[..count])
    }
}

#[test]
fn sources_may_give_single_bytes() {
    let fixture = Fixture::new();
    let tar = Tar::new().file("a", b"x").finish();
    for bytes in [gzip(&tar), tar.clone()] {
        let staged = fixture
            .store
            .layers()
            .apply(Drip(&bytes), &ApplyOptions::default());
        assert_eq!(staged.unwrap().applied().diff_id, sha256(&tar));
    }
}

#[test]
fn broken_streams_are_errors() {
    let fixture = Fixture::new();
    let tar = sample();
    let check = |bytes: &[u8], what: &str| {
        let error = fixture.apply(bytes).expect_err(what);
        assert!(!chain_text(&error).is_empty());
        assert!(fixture.leftovers().is_empty(), "{what}");
    };
    let packed = gzip(&tar);
    check(&packed[..packed.len() / 2], "half a gzip stream");
    check(
        &packed[..packed.len() - 4],
        "a gzip stream without its length",
    );
    check(
        &packed[..packed.len() - 9],
        "a gzip stream without its checksum",
    );
    let mut flipped = packed.clone();
    flipped[packed.len() / 2] ^= 0x10;
    check(&flipped, "a flipped bit");
    check(&[&packed[..], b"garbage"].concat(), "garbage behind gzip");
    let packed = zstd::encode_all(&tar[..], 3).unwrap();
    check(&packed[..packed.len() - 5], "a short zstd stream");
    check(&[&packed[..], b"garbage"].concat(), "garbage behind zstd");
    check(&tar[..2_000_000], "half a tar");
    check(b"BZh91AY&SY", "bzip2");
    check(b"\xfd7zXZ\0\0\0", "xz");
    check(b"<html>not a layer</html>", "a web page");
}

#[test]
fn a_failing_source_is_told() {
    struct Failing;
    impl Read for Failing {
        fn read(&mut self, _: &mut [u8]) -> io::Result<usize> {
            Err(io::Error::other("connection reset by the registry"))
        }
    }
    let fixture = Fixture::new();
    let error = fixture
        .store
        .layers()
        .apply(Failing, &ApplyOptions::default())
        .unwrap_err();
    assert!(chain_text(&error).contains("connection reset by the registry"));
}

#[test]
fn the_diff_id_is_verified() {
    let fixture = Fixture::new();
    let tar = Tar::new().file("a", b"x").finish();
    let options = |digest| ApplyOptions {
        expected_diff_id: Some(digest),
        ..ApplyOptions::default()
    };
    assert!(
        fixture
            .store
            .layers()
            .apply(&tar[..], &options(sha256(&tar)))
            .is_ok()
    );
    let error = fixture
        .store
        .layers()
        .apply(&tar[..], &options(sha256(b"else")))
        .unwrap_err();
    assert!(error.to_string().contains("expected diff id"), "{error}");
    assert!(fixture.leftovers().is_empty());
}

#[test]
fn an_empty_layer_and_one_without_an_end_mark_are_fine() {
    let fixture = Fixture::new();
    for bytes in [
        Vec::new(),
        vec![0; 1024],
        Tar::new().file("a", b"x").unfinished(),
    ] {
        assert!(fixture.apply(&bytes).is_ok());
    }
}

#[test]
fn an_imported_tarball_keeps_its_bytes() {
    let fixture = Fixture::new();
    let tar = sample();
    let packed = gzip(&tar);
    let options = ApplyOptions::default();
    let imported = fixture
        .store
        .add_layer_from_tar(&packed[..], &options)
        .unwrap();
    assert_eq!(imported.blob, sha256(&packed));
    assert_eq!(imported.blob_size, packed.len() as u64);
    assert_eq!(imported.media_type, oci::image::media_type::OCI_LAYER_GZIP);
    assert_eq!(imported.applied().diff_id, sha256(&tar));
    assert!(fixture.store.content().has(&imported.blob));
    let chain = imported.staged.commit(None).unwrap();
    assert!(fixture.store.layers().exists(&chain));
    assert!(
        fixture
            .store
            .add_layer_from_tar(&b"junk"[..], &options)
            .is_err()
    );
    assert!(fixture.leftovers().is_empty());
}

#[test]
fn a_full_disk_is_told_and_leaves_nothing() {
    use rustix::mount::{MountFlags, MountPropagationFlags, mount, mount_change};
    let dir = tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")).unwrap();
    // A mount namespace of this thread's own: the small disk goes with the thread.
    let thread = std::thread::scope(|scope| {
        let work = scope.spawn(|| {
            sys::process::unshare(rustix::thread::UnshareFlags::NEWNS).unwrap();
            let private = MountPropagationFlags::PRIVATE | MountPropagationFlags::REC;
            mount_change("/", private).unwrap();
            mount(
                "tmpfs",
                dir.path(),
                "tmpfs",
                MountFlags::empty(),
                c"size=2m",
            )
            .unwrap();
            let store =
                crate::support::open(&dir.path().join("root"), storage::SnapshotterChoice::Auto);
            let big = Tar::new().file("big", &vec![7; 4 << 20]).finish();
            let options = ApplyOptions::default();
            let error = store.layers().apply(&big[..], &options).unwrap_err();
            let text = chain_text(&error);
            assert!(
                text.contains("\"big\"") && text.contains("No space left"),
                "{text}"
            );
            let error = store.content().put_bytes(&big).unwrap_err();
            assert!(chain_text(&error).contains("No space left"), "{error}");
            let left = std::fs::read_dir(dir.path().join("root/tmp"))
                .unwrap()
                .count();
            assert_eq!(left, 0);
            let small = Tar::new().file("small", b"x").finish();
            // a process that another test starts just now holds the deleted file until its execve(2)
            let patience = std::time::Instant::now() + std::time::Duration::from_secs(30);
            while let Err(error) = store.add_layer_from_tar(&small[..], &options) {
                assert!(std::time::Instant::now() < patience, "{error:?}");
                std::thread::sleep(std::time::Duration::from_millis(20));
            }
        });
        work.join()
    });
    thread.unwrap();
}
