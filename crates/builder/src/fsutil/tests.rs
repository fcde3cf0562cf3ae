//! Transfers between two folders.

use std::fs;
use std::os::fd::OwnedFd;
use std::os::unix::fs::{MetadataExt, PermissionsExt, symlink};
use std::path::{Path, PathBuf};

use bollard_buildkit_proto::fsutil::types::packet::PacketType;
use bollard_buildkit_proto::fsutil::types::{Packet, Stat};
use futures_util::StreamExt;
use tempfile::TempDir;
use tokio::sync::mpsc;
use tokio_stream::wrappers::{ReceiverStream, UnboundedReceiverStream};

use super::*;
use crate::session::Received;

struct Place {
    folder: TempDir,
}

impl Place {
    fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        fs::create_dir(folder.path().join("tree")).unwrap();
        Self { folder }
    }

    fn tree(&self) -> PathBuf {
        self.folder.path().join("tree")
    }

    fn open(&self) -> OwnedFd {
        fs::File::open(self.tree()).unwrap().into()
    }

    fn target(&self) -> Target {
        Target {
            folder: self.open(),
            index: self.folder.path().join("index"),
            largest: None,
        }
    }
}

async fn transfer(from: &Path, to: &Place) -> Result<Received, FsutilError> {
    let (packets, sent) = mpsc::channel(8);
    let (requests, asked) = mpsc::unbounded_channel();
    let from: OwnedFd = fs::File::open(from).unwrap().into();
    let sending = tokio::spawn(send(
        UnboundedReceiverStream::new(asked).map(Ok),
        packets,
        from,
        |_| {},
    ));
    let received = receive(
        ReceiverStream::new(sent).map(Ok),
        requests,
        to.target(),
        |_| {},
    )
    .await;
    if received.is_ok() {
        sending.await.unwrap().unwrap();
    }
    received
}

/// A tree as text, one line an entry.
fn shown(root: &Path) -> Vec<String> {
    let folder: OwnedFd = fs::File::open(root).unwrap().into();
    let look = Look {
        links: true,
        xattrs: true,
        identity: false,
    };
    let index = walk(std::os::fd::AsFd::as_fd(&folder), look, |_, _| Wanted::Yes).unwrap();
    let line = |entry: &Entry| {
        // whoever opens a pipe waits for its other end
        let is_file = entry.kind() == rustix::fs::FileType::RegularFile;
        let content = is_file.then(|| fs::read(root.join(&entry.path)).unwrap().len());
        format!(
            "{} {:x} {} {:?} {:?} {}",
            entry.path,
            entry.mode,
            entry.modified,
            entry.link,
            entry.xattrs,
            content.unwrap_or(0)
        )
    };
    index.entries.iter().map(line).collect()
}

fn fill(root: &Path) {
    fs::create_dir_all(root.join("a/b")).unwrap();
    fs::write(root.join("a/b/large"), vec![7; 100_000]).unwrap();
    fs::write(root.join("a/empty"), "").unwrap();
    fs::write(root.join("a.txt"), "text").unwrap();
    fs::hard_link(root.join("a.txt"), root.join("b.txt")).unwrap();
    symlink("../outside", root.join("a/link")).unwrap();
    fs::set_permissions(root.join("a.txt"), fs::Permissions::from_mode(0o4755)).unwrap();
    rustix::fs::mknodat(
        rustix::fs::CWD,
        root.join("fifo"),
        rustix::fs::FileType::Fifo,
        rustix::fs::Mode::from_raw_mode(0o600),
        0,
    )
    .unwrap();
}

#[tokio::test]
async fn only_what_changed() {
    let (from, to) = (Place::new(), Place::new());
    let root = from.tree();
    fill(&root);
    let first = transfer(&root, &to).await.unwrap();
    assert_eq!((first.files, first.bytes), (2, 100_004));
    assert_eq!(shown(&root), shown(&to.tree()));
    assert_eq!(
        fs::metadata(to.tree().join("a.txt")).unwrap().ino(),
        fs::metadata(to.tree().join("b.txt")).unwrap().ino()
    );
    let again = transfer(&root, &to).await.unwrap();
    assert_eq!(
        (again.files, again.index.digest()),
        (0, first.index.digest())
    );

    fs::remove_dir_all(root.join("a/b")).unwrap();
    fs::write(root.join("a/b"), "now a file").unwrap();
    fs::remove_file(root.join("a/link")).unwrap();
    fs::create_dir(root.join("a/link")).unwrap();
    fs::write(root.join("a/link/in"), "x").unwrap();
    fs::write(root.join("a.txt"), "other").unwrap();
    let changed = transfer(&root, &to).await.unwrap();
    assert_eq!(changed.files, 3);
    assert_eq!(shown(&root), shown(&to.tree()));
    // the link goes with the file that it names
    assert_eq!(
        fs::read_to_string(to.tree().join("b.txt")).unwrap(),
        "other"
    );

    // without its list the folder itself is compared
    fs::remove_file(to.folder.path().join("index")).unwrap();
    fs::write(to.tree().join("stranger"), "x").unwrap();
    fs::write(to.tree().join("a/b"), "spoilt").unwrap();
    let walked = transfer(&root, &to).await.unwrap();
    assert_eq!(walked.files, 1);
    assert_eq!(shown(&root), shown(&to.tree()));
}

#[tokio::test]
async fn deep_trees() {
    let (from, to) = (Place::new(), Place::new());
    let mut here: OwnedFd = from.open();
    let name = "d".repeat(60);
    for _ in 0..300 {
        rustix::fs::mkdirat(&here, &*name, rustix::fs::Mode::from_raw_mode(0o755)).unwrap();
        let flags = rustix::fs::OFlags::DIRECTORY;
        here = rustix::fs::openat(&here, &*name, flags, rustix::fs::Mode::empty()).unwrap();
    }
    let received = transfer(&from.tree(), &to).await.unwrap();
    assert_eq!(received.index.entries.len(), 300);
    let empty = Place::new();
    assert_eq!(
        transfer(&empty.tree(), &to)
            .await
            .unwrap()
            .index
            .entries
            .len(),
        0
    );
    assert_eq!(fs::read_dir(to.tree()).unwrap().count(), 0);
}

fn stat(path: &str, mode: u32, link: &str) -> Packet {
    Packet {
        stat: Some(Stat {
            path: path.to_owned(),
            mode,
            linkname: link.to_owned(),
            size: 1,
            ..Stat::default()
        }),
        ..Packet::default()
    }
}

fn data(id: u32, bytes: &[u8]) -> Packet {
    Packet {
        r#type: PacketType::PacketData.into(),
        id,
        data: bytes.to_vec(),
        ..Packet::default()
    }
}

/// What a receiver says to these packets, and then to the end of the stream.
async fn told(packets: Vec<Packet>) -> String {
    let to = Place::new();
    let outside = to.folder.path().join("outside");
    fs::create_dir(&outside).unwrap();
    let (requests, _asked) = mpsc::unbounded_channel();
    let incoming = tokio_stream::iter(packets.into_iter().map(Ok));
    let result = receive(incoming, requests, to.target(), |_| {}).await;
    assert_eq!(
        fs::read_dir(&outside).unwrap().count(),
        0,
        "something got out"
    );
    result.map_or_else(|error| error.to_string(), |_| "received".to_owned())
}

#[tokio::test]
async fn hostile_senders() {
    const DIR: u32 = 0x8000_0000 | 0o755;
    const LINK: u32 = 0x0800_0000 | 0o777;
    let fin = || Packet {
        r#type: PacketType::PacketFin.into(),
        ..Packet::default()
    };
    let end = Packet::default;
    for (packets, expect) in [
        (vec![stat("../outside/x", 0o644, "")], "does not go down"),
        (vec![stat("/x", 0o644, "")], "empty name"),
        (
            vec![stat("a/x", 0o644, "")],
            "its directory has not come before",
        ),
        (
            vec![stat("b", 0o644, ""), stat("a", 0o644, "")],
            "does not come in order",
        ),
        (
            vec![stat("a", 0o644, ""), stat("a", 0o644, "")],
            "does not come in order",
        ),
        (
            vec![stat("a", LINK, "../outside"), stat("a/x", 0o644, "")],
            "its directory has not come",
        ),
        (
            vec![stat("a", 0o644, ""), stat("a/x", 0o644, "")],
            "its directory has not come",
        ),
        (
            vec![stat("a", 0o644, "../outside/x")],
            "a link to a file that has not come",
        ),
        (
            vec![stat("a", LINK, "/etc/passwd"), stat("b", 0o644, "a")],
            "a link to a file",
        ),
        (vec![data(3, b"x")], "content that nobody asked for"),
        (
            vec![stat("a", DIR, ""), data(0, b"x")],
            "content that nobody asked for",
        ),
        (
            vec![stat("a", 0o644, ""), end(), fin()],
            "an end before all files",
        ),
        (vec![end(), stat("a", 0o644, "")], "an entry after the last"),
        (vec![stat("a", 0o644, "")], "the stream ended too early"),
        (vec![end(), fin()], "received"),
        (
            vec![
                stat("a", 0o644, ""),
                end(),
                data(0, b"x"),
                data(0, b""),
                fin(),
            ],
            "received",
        ),
        (
            vec![stat("a", 0o644, ""), end(), data(0, b""), data(0, b"")],
            "nobody asked for",
        ),
    ] {
        let described = format!("{packets:?}");
        let told = told(packets).await;
        assert!(told.contains(expect), "{described}: {told}");
    }
}

#[tokio::test]
async fn what_overlays_would_read() {
    let to = Place::new();
    let mut file = stat("a", 0o644, "");
    if let Some(stat) = &mut file.stat {
        stat.xattrs
            .insert("trusted.overlay.redirect".to_owned(), b"/etc".to_vec());
        stat.xattrs.insert("user.kept".to_owned(), b"1".to_vec());
        stat.size = 0;
    }
    let packets = vec![file, stat("whiteout", 0x0420_0000, ""), Packet::default()];
    let (requests, mut asked) = mpsc::unbounded_channel();
    let (sender, incoming) = mpsc::channel(8);
    for packet in packets {
        sender.send(Ok(packet)).await.unwrap();
    }
    let target = to.target();
    let receiving = receive(ReceiverStream::new(incoming), requests, target, |_| {});
    // the stream ends with its sender
    let ending = async move {
        // the receiver says that it has all
        assert_eq!(asked.recv().await.unwrap().r#type(), PacketType::PacketFin);
        let fin = Packet {
            r#type: PacketType::PacketFin.into(),
            ..Packet::default()
        };
        sender.send(Ok(fin)).await.unwrap();
    };
    let (received, ()) = tokio::join!(receiving, ending);
    let entries = received.unwrap().index.entries;
    assert_eq!(entries.len(), 1);
    assert_eq!(entries[0].xattrs.keys().collect::<Vec<_>>(), ["user.kept"]);
    assert!(!to.tree().join("whiteout").exists());
}

#[tokio::test]
async fn files_larger_than_wanted() {
    let file = |size: i64| Packet {
        stat: Some(Stat {
            path: "Dockerfile".to_owned(),
            mode: 0o644,
            size,
            ..Stat::default()
        }),
        ..Packet::default()
    };
    // one says so, the other does not
    let honest = vec![file(11)];
    let other = vec![
        file(3),
        Packet::default(),
        data(0, &[0; 7]),
        data(0, &[0; 7]),
    ];
    for packets in [honest, other] {
        let to = Place::new();
        let target = Target {
            largest: Some(10),
            ..to.target()
        };
        let (requests, _asked) = mpsc::unbounded_channel();
        let incoming = tokio_stream::iter(packets.into_iter().map(Ok));
        let error = receive(incoming, requests, target, |_| {})
            .await
            .unwrap_err();
        assert_eq!(error.to_string(), "Dockerfile has more than 10 bytes");
    }
}
