//! What an unpacked layer keeps: everything that the archive says, as GNU tar extracts it.

use std::os::unix::fs::{FileTypeExt as _, MetadataExt as _};
use std::path::{Path, PathBuf};
use std::process::Command;

use crate::support::{Head, Tar, read};

#[test]
fn owner_mode_times_and_special_bits() {
    let fixture = super::fixture();
    let mut su = Head::new(b'0', 0o6755);
    su.owner = (1000, 50);
    let mut sticky = Head::new(b'5', 0o3777);
    sticky.owner = (7, 8);
    let mut fifo = Head::new(b'6', 0o622);
    fifo.owner = (9, 9);
    let mut link = Head::new(b'2', 0o777);
    link.owner = (5, 6);
    link.link = b"/nowhere".to_vec();
    let layer = fixture.unpack(
        Tar::new()
            .raw(b"su", &su, b"x")
            .raw(b"dir", &sticky, b"")
            .raw(b"dir/fifo", &fifo, b"")
            .pax(&[("mtime", b"-1.25")])
            .raw(b"dir/link", &link, b""),
    );
    let of = |name: &str| std::fs::symlink_metadata(layer.join(name)).unwrap();
    let shown = |name: &str| (of(name).mode() & 0o7777, of(name).uid(), of(name).gid());
    assert_eq!(shown("su"), (0o6755, 1000, 50));
    assert_eq!(shown("dir"), (0o3777, 7, 8));
    assert_eq!(shown("dir/fifo"), (0o622, 9, 9));
    assert!(of("dir/fifo").file_type().is_fifo());
    assert_eq!((of("dir/link").uid(), of("dir/link").gid()), (5, 6));
    assert_eq!(
        (of("dir/link").mtime(), of("dir/link").mtime_nsec()),
        (-2, 750_000_000)
    );
    assert_eq!(
        (of("dir").mtime(), of("dir").mtime_nsec()),
        (1_600_000_000, 0)
    );
}

#[test]
fn extended_attributes_and_file_capabilities() {
    let fixture = super::fixture();
    // vfs_cap_data, version 2: CAP_NET_RAW (13) permitted and effective; it holds a line feed.
    let capability = [
        1, 0, 0, 2, 0, 0x20, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0,
    ];
    let layer = fixture.unpack(
        Tar::new()
            .pax(&[
                ("SCHILY.xattr.security.capability", &capability),
                ("SCHILY.xattr.user.note", b"line\nfeed=\0zero"),
                (
                    "SCHILY.xattr.security.selinux",
                    b"system_u:object_r:bin_t:s0",
                ),
            ])
            .raw(
                b"ping",
                &{
                    let mut head = Head::new(b'0', 0o755);
                    head.owner = (1, 1);
                    head
                },
                b"x",
            )
            .pax(&[("SCHILY.xattr.user.dir", b"d")])
            .dir("dir", 0o755)
            .pax(&[("SCHILY.xattr.user.link", b"ignored")])
            .symlink("link", "ping"),
    );
    let get = |path: &str, name: &str| {
        let mut value = [0; 64];
        let read = rustix::fs::lgetxattr(layer.join(path), name, &mut value[..]);
        read.map(|length| value[..length].to_vec())
    };
    assert_eq!(get("ping", "security.capability").unwrap(), capability);
    assert_eq!(get("ping", "user.note").unwrap(), b"line\nfeed=\0zero");
    assert_eq!(get("dir", "user.dir").unwrap(), b"d");
    assert_ne!(
        get("ping", "security.selinux").unwrap_or_default(),
        b"system_u:object_r:bin_t:s0"
    );
}

#[test]
fn a_later_entry_replaces_an_earlier_one() {
    let fixture = super::fixture();
    let outside = fixture.dir.path().join("outside");
    std::fs::write(&outside, b"safe").unwrap();
    let layer = fixture.unpack(
        Tar::new()
            .file("f", b"1")
            .file("f", b"2")
            .file("d-over-f", b"1")
            .dir("d-over-f", 0o755)
            .file("d-over-f/x", b"2")
            .dir("f-over-d", 0o755)
            .file("f-over-d/sub/x", b"1")
            .file("f-over-d", b"2")
            .symlink("f-over-l", outside.to_str().unwrap())
            .file("f-over-l", b"2")
            .symlink("d-over-l", "/f-over-d")
            .dir("d-over-l", 0o755)
            .file("d-over-l/x", b"2")
            .dir("same", 0o700)
            .file("same/x", b"1")
            .dir("same", 0o755)
            .dir("real", 0o755)
            .symlink("alias", "real")
            .file("alias/x", b"1")
            .dir("alias", 0o755)
            .file("alias/x", b"2"),
    );
    for name in [
        "f",
        "d-over-f/x",
        "f-over-d",
        "f-over-l",
        "d-over-l/x",
        "alias/x",
    ] {
        assert_eq!(read(&layer.join(name)), "2", "{name}");
    }
    assert_eq!(
        read(&layer.join("same/x")),
        "1",
        "a directory again keeps what it has"
    );
    assert_eq!(read(&layer.join("real/x")), "1");
    assert_eq!(
        std::fs::metadata(layer.join("same")).unwrap().mode() & 0o777,
        0o755
    );
    assert_eq!(read(&outside), "safe");
}

#[test]
fn long_names_of_gnu_and_pax() {
    let fixture = super::fixture();
    let long = format!("{}/{}", "d".repeat(150), "f".repeat(200));
    let target = "t".repeat(180);
    let gnu = |flag: u8, text: &str| {
        let mut data = text.as_bytes().to_vec();
        data.push(0);
        (Head::new(flag, 0o644), data)
    };
    let (name_head, name_data) = gnu(b'L', &long);
    let (link_head, link_data) = gnu(b'K', &target);
    let layer = fixture.unpack(
        Tar::new()
            .raw(b"././@LongLink", &name_head, &name_data)
            .file("cut", b"gnu")
            .raw(b"././@LongLink", &link_head, &link_data)
            .symlink("long-link", "cut")
            .pax(&[("linkpath", target.as_bytes()), ("path", b"pax-link")])
            .symlink("cut", "cut"),
    );
    assert_eq!(read(&layer.join(&long)), "gnu");
    for link in ["long-link", "pax-link"] {
        assert_eq!(
            std::fs::read_link(layer.join(link)).unwrap(),
            PathBuf::from(&target)
        );
    }
}

fn tar_command(args: &[&str], paths: &[&Path]) {
    let status = Command::new("tar").args(args).args(paths).status().unwrap();
    assert!(status.success(), "tar {args:?}");
}

/// Packs a tree with GNU tar, extracts it with both, and compares.
fn compare(tree: &Path, format: &[&str]) {
    let fixture = super::fixture();
    let archive = fixture.dir.path().join("archive.tar");
    let expected = fixture.dir.path().join("expected");
    std::fs::create_dir(&expected).unwrap();
    let args = [format, &["--numeric-owner", "-cf"]].concat();
    let status = Command::new("tar")
        .args(&args)
        .arg(&archive)
        .arg("-C")
        .arg(tree)
        .arg(".")
        .status()
        .unwrap();
    assert!(status.success());
    tar_command(
        &["--numeric-owner", "-xpf"],
        &[&archive, Path::new("-C"), &expected],
    );
    let staged = fixture.apply(&std::fs::read(&archive).unwrap()).unwrap();
    let chain = staged.commit(None).unwrap();
    let layer = fixture.files(&chain);
    let (ours, theirs) = (
        super::tree::describe(&layer),
        super::tree::describe(&expected),
    );
    assert!(!theirs.is_empty());
    for (path, what) in &theirs {
        assert_eq!(
            ours.get(path),
            Some(what),
            "{} in {format:?}",
            path.display()
        );
    }
    assert_eq!(ours.len(), theirs.len());
}

#[test]
fn real_files_come_out_as_gnu_tar_extracts_them() {
    let tree = tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")).unwrap();
    let root = tree.path();
    for sample in [
        "/usr/share/zoneinfo",
        "/usr/share/perl5",
        "/etc/alternatives",
        "/usr/lib/udev",
    ] {
        if Path::new(sample).exists() {
            let copied = Command::new("cp")
                .args(["-a", sample])
                .arg(root)
                .status()
                .unwrap();
            assert!(copied.success());
        }
    }
    std::fs::write(root.join("one"), b"linked").unwrap();
    std::fs::hard_link(root.join("one"), root.join("two")).unwrap();
    std::fs::create_dir_all(root.join("n".repeat(200)).join("m".repeat(200))).unwrap();
    std::fs::write(root.join("n".repeat(200)).join("한글 이름"), b"korean").unwrap();
    std::os::unix::fs::lchown(root.join("one"), Some(123_456), Some(3_000_000)).unwrap();
    for format in [
        &["--format=gnu"][..],
        &["--format=pax"],
        &["--format=oldgnu"],
    ] {
        compare(root, format);
    }
}

/// Bytes of a file that are not in holes.
fn data_of(path: &Path) -> u64 {
    use rustix::fs::SeekFrom;
    let file = std::fs::File::open(path).unwrap();
    let (mut at, mut data) = (0, 0);
    while let Ok(from) = rustix::fs::seek(&file, SeekFrom::Data(at)) {
        at = rustix::fs::seek(&file, SeekFrom::Hole(from)).unwrap();
        data += at - from;
    }
    data
}

#[test]
fn sparse_files_keep_content_and_holes() {
    let tree = tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")).unwrap();
    let path = tree.path().join("sparse");
    let file = std::fs::File::create(&path).unwrap();
    // More than four pieces, so that the old GNU format needs blocks behind its header.
    for piece in 0..40_u64 {
        std::os::unix::fs::FileExt::write_at(&file, &[1; 5000], piece << 20).unwrap();
    }
    file.set_len(64 << 20).unwrap();
    drop(file);
    std::fs::File::create(tree.path().join("hole"))
        .unwrap()
        .set_len(1 << 20)
        .unwrap();
    for format in [
        &["--sparse", "--format=gnu"][..],
        &["--sparse", "--format=pax", "--sparse-version=0.0"],
        &["--sparse", "--format=pax", "--sparse-version=0.1"],
        &["--sparse", "--format=pax", "--sparse-version=1.0"],
    ] {
        compare(tree.path(), format);
    }
    let fixture = super::fixture();
    let archive = fixture.dir.path().join("sparse.tar");
    tar_command(
        &["--sparse", "-cf"],
        &[&archive, Path::new("-C"), tree.path(), Path::new("sparse")],
    );
    let chain = fixture
        .apply(&std::fs::read(&archive).unwrap())
        .unwrap()
        .commit(None)
        .unwrap();
    let path = fixture.files(&chain).join("sparse");
    assert_eq!(std::fs::metadata(&path).unwrap().len(), 64 << 20);
    let data = data_of(&path);
    assert!(data < 2 << 20, "holes are kept: {data} bytes of data");
    let taken = fixture.taken(&chain);
    assert!(taken < 2 << 20, "holes take no room: {taken} bytes");
}
