//! A layer shown with the owners of a user namespace, as containers with users of their own see it.

use std::os::fd::{AsFd as _, OwnedFd};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use rustix::fs::{AtFlags, CWD, Mode, OFlags, statat};
use rustix::mount::{OpenTreeFlags, open_tree};
use sys::mount::Depth;

use crate::support::{Head, Tar};

const UID: u32 = 1_700_000_000;
const GID: u32 = 1_800_000_000;

/// A process in a user namespace of its own, which ends with the test.
struct Holder(Child);

impl Holder {
    fn new() -> Self {
        let child = Command::new("unshare")
            .args(["--user", "sleep", "1000"])
            .stdin(Stdio::null())
            .spawn()
            .unwrap();
        let holder = Self(child);
        let own = std::fs::read_link("/proc/self/ns/user").unwrap();
        let begun = Instant::now();
        while std::fs::read_link(holder.file("ns/user")).unwrap() == own {
            assert!(begun.elapsed() < Duration::from_secs(60), "unshare --user");
            std::thread::sleep(Duration::from_millis(2));
        }
        std::fs::write(holder.file("uid_map"), format!("0 {UID} 1001")).unwrap();
        std::fs::write(holder.file("gid_map"), format!("0 {GID} 65536")).unwrap();
        holder
    }

    fn file(&self, name: &str) -> String {
        format!("/proc/{}/{name}", self.0.id())
    }

    fn namespace(&self) -> OwnedFd {
        let flags = OFlags::RDONLY | OFlags::CLOEXEC;
        rustix::fs::open(self.file("ns/user"), flags, Mode::empty()).unwrap()
    }
}

impl Drop for Holder {
    fn drop(&mut self) {
        let _gone = self.0.kill();
        let _reaped = self.0.wait();
    }
}

/// Everything that the disk says of the files of a layer and of the image that they may lie in.
fn state(layer: &Path, store: &Path) -> Vec<String> {
    let names = ["", "su", "dir", "dir/link", "far"];
    let mut all: Vec<String> = names
        .iter()
        .map(|name| {
            let stat = rustix::fs::lstat(layer.join(name)).unwrap();
            format!(
                "{name} {} {} {} {}",
                stat.st_uid, stat.st_gid, stat.st_ctime, stat.st_ctime_nsec
            )
        })
        .collect();
    for layer in std::fs::read_dir(store.join("snapshots")).unwrap() {
        let image = layer.unwrap().path().join("layer.erofs");
        if let Ok(bytes) = std::fs::read(image) {
            all.push(crate::support::sha256(&bytes).to_string());
        }
    }
    all
}

#[test]
fn owners_are_shown_as_others_and_stay_on_the_disk() {
    let fixture = super::fixture();
    let owned = |flag, mode, owner| {
        let mut head = Head::new(flag, mode);
        head.owner = owner;
        head
    };
    let mut link = owned(b'2', 0o777, (5, 6));
    link.link = b"/nowhere".to_vec();
    let layer = fixture.unpack(
        Tar::new()
            .raw(b"su", &owned(b'0', 0o6755, (0, 50)), b"x")
            .raw(b"dir", &owned(b'5', 0o755, (1000, 8)), b"")
            .raw(b"dir/link", &link, b"")
            .raw(b"far", &owned(b'0', 0o644, (3_000_000, 0)), b""),
    );
    let before = state(&layer, &fixture.root());
    let holder = Holder::new();
    let flags = OpenTreeFlags::OPEN_TREE_CLONE | OpenTreeFlags::OPEN_TREE_CLOEXEC;
    let view = open_tree(CWD, &layer, flags).unwrap();
    sys::mount::idmap(view.as_fd(), holder.namespace().as_fd(), Depth::One).unwrap();
    for (name, owner, mode) in [
        ("su", (UID, GID + 50), 0o6755),
        ("dir", (UID + 1000, GID + 8), 0o755),
        ("dir/link", (UID + 5, GID + 6), 0o777),
        // nobody in the namespace
        ("far", (65534, GID), 0o644),
    ] {
        let stat = statat(&view, name, AtFlags::SYMLINK_NOFOLLOW).unwrap();
        assert_eq!(
            ((stat.st_uid, stat.st_gid), stat.st_mode & 0o7777),
            (owner, mode),
            "{name}"
        );
    }
    assert_eq!(state(&layer, &fixture.root()), before);
    // a mapping is for good
    let again = sys::mount::idmap(view.as_fd(), holder.namespace().as_fd(), Depth::One);
    assert!(again.is_err());
    drop(view);
    super::check_images(&fixture);
}
