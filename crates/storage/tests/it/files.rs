//! Live trees as archives and archives in live trees: fidelity, hostile names, packed streams.

use std::collections::HashSet;
use std::fs;
use std::io::Write as _;
use std::os::fd::{AsFd as _, OwnedFd};
use std::os::unix::fs::{MetadataExt as _, symlink};
use std::path::Path;

use rustix::fs::{Mode, OFlags, XattrFlags};
use storage::files::{
    ExtractError, ExtractOptions, Owners, Ownership, TreeOptions, extract, find, write_entry,
};

use crate::support::{Fixture, Tar};

fn open(path: &Path) -> OwnedFd {
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
    rustix::fs::open(path, flags, Mode::empty()).unwrap()
}

fn options() -> ExtractOptions {
    ExtractOptions {
        ownership: Ownership::Archive,
        replace_kind: true,
        rename: None,
        owners: Owners::default(),
    }
}

fn archive_of(path: &Path, name: &str) -> Vec<u8> {
    let mut bytes = Vec::new();
    let root = open(path);
    let found = find(root.as_fd(), b"/").unwrap();
    let options = TreeOptions {
        name: name.into(),
        hidden: HashSet::new(),
        owners: Owners::default(),
    };
    write_entry(&found, options, &mut bytes).unwrap();
    bytes
}

/// Everything that a copy has to keep, in the order of names.
fn describe(top: &Path) -> Vec<String> {
    let mut all = Vec::new();
    let mut waiting = vec![top.to_owned()];
    while let Some(path) = waiting.pop() {
        let found = fs::symlink_metadata(&path).unwrap();
        let shown = path.strip_prefix(top).unwrap().display().to_string();
        let content = if found.is_file() {
            fs::read(&path).unwrap().len().to_string()
        } else if found.is_symlink() {
            fs::read_link(&path).unwrap().display().to_string()
        } else {
            format!("{:x}", found.rdev())
        };
        let (mode, owner) = (found.mode(), (found.uid(), found.gid()));
        let time = (found.mtime(), found.mtime_nsec());
        let links = if found.is_dir() { 0 } else { found.nlink() };
        all.push(format!(
            "{shown} {mode:o} {owner:?} {time:?} {links} {content}"
        ));
        if found.is_dir() {
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
fn a_tree_comes_back_as_it_was() {
    let fixture = Fixture::new();
    let (from, to) = (
        fixture.dir.path().join("from"),
        fixture.dir.path().join("to"),
    );
    let long = "long name ".repeat(20);
    fs::create_dir_all(from.join(&long).join("deep")).unwrap();
    fs::write(from.join(&long).join("deep/file"), vec![7; 100_000]).unwrap();
    fs::write(from.join("set-user-id"), "x").unwrap();
    rustix::fs::chmod(from.join("set-user-id"), Mode::from(0o4751)).unwrap();
    rustix::fs::setxattr(
        from.join("set-user-id"),
        c"user.k",
        b"a\nb\0c",
        XattrFlags::empty(),
    )
    .unwrap();
    fs::hard_link(from.join("set-user-id"), from.join("zz")).unwrap();
    symlink("x".repeat(300), from.join("link")).unwrap();
    std::os::unix::fs::lchown(from.join("link"), Some(3_000_000), Some(4)).unwrap();
    let root = open(&from);
    rustix::fs::mknodat(
        &root,
        "fifo",
        rustix::fs::FileType::Fifo,
        Mode::from(0o640),
        0,
    )
    .unwrap();
    let device = rustix::fs::makedev(1, 3);
    rustix::fs::mknodat(
        &root,
        "null",
        rustix::fs::FileType::CharacterDevice,
        Mode::from(0o666),
        device,
    )
    .unwrap();
    let socket = std::os::unix::net::UnixListener::bind(from.join("socket")).unwrap();
    let old = rustix::fs::Timespec {
        tv_sec: -1000,
        tv_nsec: 123_456_789,
    };
    let times = rustix::fs::Timestamps {
        last_access: old,
        last_modification: old,
    };
    for name in [long.as_str(), "set-user-id"] {
        rustix::fs::utimensat(&root, name, &times, rustix::fs::AtFlags::empty()).unwrap();
    }
    let archive = archive_of(&from, ".");
    fs::create_dir(&to).unwrap();
    extract(open(&to), archive.as_slice(), &options()).unwrap();
    drop(socket);
    fs::remove_file(from.join("socket")).unwrap();
    let (before, after) = (describe(&from), describe(&to));
    assert_eq!(before[1..], after[1..]);
    let mut value = [0; 16];
    let length = rustix::fs::getxattr(to.join("zz"), c"user.k", &mut value[..]).unwrap();
    assert_eq!(&value[..length], b"a\nb\0c");
    assert_eq!(
        archive_of(&from, "."),
        archive_of(&from, "."),
        "the order does not change"
    );
    // once more over what is there
    extract(open(&to), archive.as_slice(), &options()).unwrap();
    assert_eq!(describe(&to)[1..], after[1..]);
}

#[test]
fn entries_stay_below_the_start() {
    let fixture = Fixture::new();
    let (to, outside) = (
        fixture.dir.path().join("to"),
        fixture.dir.path().join("outside"),
    );
    fs::create_dir(&outside).unwrap();
    fs::write(outside.join("kept"), "kept").unwrap();
    let target = outside.to_str().unwrap();
    let cases: [(&str, Tar, bool); 8] = [
        ("climbing", Tar::new().file("../evil", b"x"), false),
        ("absolute", Tar::new().file("/evil", b"x"), true),
        (
            "absolute link",
            Tar::new().symlink("l", target).file("l/evil", b"x"),
            false,
        ),
        (
            "climbing link",
            Tar::new().symlink("l", "../outside").file("l/evil", b"x"),
            false,
        ),
        (
            "link replaced",
            Tar::new().symlink("l", target).dir("l", 0o755),
            true,
        ),
        (
            "hard link out",
            Tar::new().hard_link("h", "../outside/kept"),
            false,
        ),
        (
            "hard link through",
            Tar::new().symlink("l", target).hard_link("h", "l/kept"),
            false,
        ),
        ("itself", Tar::new().hard_link("h", "h"), false),
    ];
    for (what, tar, fits) in cases {
        if to.exists() {
            fs::remove_dir_all(&to).unwrap();
        }
        fs::create_dir(&to).unwrap();
        let result = extract(open(&to), tar.finish().as_slice(), &options());
        assert_eq!(result.is_ok(), fits, "{what}: {result:?}");
        assert_eq!(fs::read_dir(&outside).unwrap().count(), 1, "{what}");
    }
}

#[test]
fn kinds_take_each_others_place_on_demand() {
    let fixture = Fixture::new();
    let to = fixture.dir.path().join("to");
    fs::create_dir_all(to.join("dir/full")).unwrap();
    fs::write(to.join("file"), "x").unwrap();
    let (dir, file) = (
        Tar::new().dir("file", 0o755).finish(),
        Tar::new().file("dir", b"y").finish(),
    );
    let strict = ExtractOptions {
        replace_kind: false,
        ..options()
    };
    let error = extract(open(&to), dir.as_slice(), &strict).unwrap_err();
    assert!(
        matches!(error, ExtractError::DirectoryOver { .. }),
        "{error:?}"
    );
    let error = extract(open(&to), file.as_slice(), &strict).unwrap_err();
    assert!(
        matches!(error, ExtractError::OverDirectory { .. }),
        "{error:?}"
    );
    extract(open(&to), dir.as_slice(), &options()).unwrap();
    extract(open(&to), file.as_slice(), &options()).unwrap();
    assert!(to.join("file").is_dir() && to.join("dir").is_file());
}

#[test]
fn packed_and_damaged_streams() {
    let fixture = Fixture::new();
    let to = fixture.dir.path().join("to");
    fs::create_dir(&to).unwrap();
    let plain = Tar::new().file("f", b"content").finish();
    for program in ["gzip", "bzip2", "xz", "zstd"] {
        let mut child = std::process::Command::new(program)
            .arg("-c")
            .stdin(std::process::Stdio::piped())
            .stdout(std::process::Stdio::piped())
            .spawn()
            .unwrap();
        child.stdin.take().unwrap().write_all(&plain).unwrap();
        let packed = child.wait_with_output().unwrap().stdout;
        extract(open(&to), packed.as_slice(), &options()).unwrap();
        fs::remove_file(to.join("f")).unwrap();
        let cut = &packed[..packed.len() / 2];
        extract(open(&to), cut, &options()).unwrap_err();
    }
    extract(open(&to), &[][..], &options()).unwrap();
    extract(open(&to), &[b'x'; 700][..], &options()).unwrap_err();
    extract(open(Path::new("/proc/self")), plain.as_slice(), &options()).unwrap_err();
}
