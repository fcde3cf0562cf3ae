//! The sender of a tree.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::Read;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::Arc;

use bollard_buildkit_proto::fsutil::types::packet::PacketType;
use bollard_buildkit_proto::fsutil::types::{Packet, Stat};
use futures_util::{Stream, StreamExt};
use rustix::fs::{FileType, OFlags};
use tokio::sync::mpsc;
use tonic::Status;

use super::tree::open_below;
use super::walk::{Look, Wanted, walk};
use super::{Entry, FsutilError, Index};

/// Bytes of one packet, as BuildKit's own senders have it.
const PIECE: usize = 32 << 10;

/// Sends what a folder holds, until the receiver has all it wants.
///
/// # Errors
/// When the receiver breaks the protocol, fails or is gone, and when the disk fails.
pub async fn send(
    incoming: impl Stream<Item = Result<Packet, Status>> + Send + Unpin,
    outgoing: mpsc::Sender<Packet>,
    folder: OwnedFd,
    progress: impl Fn(u64) + Send + 'static,
) -> Result<(), FsutilError> {
    send_where(incoming, outgoing, folder, |_, _| Wanted::Yes, progress).await
}

/// The same for what is wanted of a folder; `wanted` is asked as by [`walk`].
///
/// # Errors
/// As [`send`].
pub async fn send_where(
    mut incoming: impl Stream<Item = Result<Packet, Status>> + Send + Unpin,
    outgoing: mpsc::Sender<Packet>,
    folder: OwnedFd,
    wanted: impl FnMut(&str, bool) -> Wanted + Send + 'static,
    progress: impl Fn(u64) + Send + 'static,
) -> Result<(), FsutilError> {
    let folder = Arc::new(folder);
    let listed = Arc::clone(&folder);
    let look = Look {
        identity: false,
        links: true,
        xattrs: true,
    };
    let list = tokio::task::spawn_blocking(move || walk(listed.as_fd(), look, wanted));
    let list = Arc::new(list.await.map_err(FsutilError::Thread)??);
    let (ask, asked) = mpsc::unbounded_channel();
    let (listed, files) = (Arc::clone(&list), outgoing.clone());
    let mut reading = tokio::task::spawn_blocking(move || {
        answer(asked, &listed, folder.as_fd(), &files, progress)
    });
    let listing = async {
        for entry in &list.entries {
            give(&outgoing, stat(entry)).await?;
        }
        give(&outgoing, packet(PacketType::PacketStat, 0)).await
    };
    let hearing = async {
        while let Some(packet) = incoming.next().await {
            let packet = packet?;
            match packet.r#type() {
                PacketType::PacketReq => drop(ask.send(packet.id)),
                PacketType::PacketFin => return Ok(()),
                PacketType::PacketErr => {
                    let message = String::from_utf8_lossy(&packet.data).into_owned();
                    return Err(FsutilError::Remote { message });
                }
                PacketType::PacketStat | PacketType::PacketData => {
                    let what = "files where it was to receive";
                    return Err(FsutilError::Protocol { what });
                }
            }
        }
        Err(FsutilError::Ended)
    };
    let talk = async {
        let (listed, heard) = tokio::join!(listing, hearing);
        heard?;
        listed
    };
    tokio::select! {
        result = talk => result?,
        // it ends by itself only where it fails
        result = &mut reading => result.map_err(FsutilError::Thread)??,
    }
    drop(ask);
    give(&outgoing, packet(PacketType::PacketFin, 0)).await?;
    drop(outgoing);
    // the receiver's own end says whether it kept what it got
    while let Some(packet) = incoming.next().await {
        packet?;
    }
    Ok(())
}

async fn give(outgoing: &mpsc::Sender<Packet>, packet: Packet) -> Result<(), FsutilError> {
    outgoing.send(packet).await.map_err(|_| FsutilError::Ended)
}

fn packet(kind: PacketType, id: u32) -> Packet {
    Packet {
        r#type: kind.into(),
        id,
        ..Packet::default()
    }
}

fn stat(entry: &Entry) -> Packet {
    let xattrs = BTreeMap::clone(&entry.xattrs);
    Packet {
        stat: Some(Stat {
            path: entry.path.clone(),
            mode: entry.mode,
            uid: entry.uid,
            gid: entry.gid,
            size: i64::try_from(entry.size).unwrap_or(i64::MAX),
            mod_time: entry.modified,
            linkname: entry.link.clone(),
            devmajor: entry.device.0.into(),
            devminor: entry.device.1.into(),
            xattrs: xattrs.into_iter().collect(),
        }),
        ..packet(PacketType::PacketStat, 0)
    }
}

/// Reads the files that the receiver asks for, one after another.
fn answer(
    mut asked: mpsc::UnboundedReceiver<u32>,
    list: &Index,
    folder: BorrowedFd<'_>,
    outgoing: &mpsc::Sender<Packet>,
    progress: impl Fn(u64),
) -> Result<(), FsutilError> {
    let mut sent = 0;
    while let Some(id) = asked.blocking_recv() {
        let found = usize::try_from(id).ok().and_then(|id| list.entries.get(id));
        let entry = found.filter(|entry| entry.kind() == FileType::RegularFile);
        let entry = entry.ok_or(FsutilError::Protocol {
            what: "a request for what is no file",
        })?;
        sent = file(entry, id, folder, outgoing, sent, &progress)?;
    }
    Ok(())
}

/// Sends one file, and an empty piece as its end.
fn file(
    entry: &Entry,
    id: u32,
    folder: BorrowedFd<'_>,
    outgoing: &mpsc::Sender<Packet>,
    mut sent: u64,
    progress: &impl Fn(u64),
) -> Result<u64, FsutilError> {
    let failed = |error| FsutilError::disk("read", &entry.path)(error);
    let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::CLOEXEC;
    let opened = open_below(folder, &entry.path, flags);
    let mut opened = File::from(opened.map_err(FsutilError::disk("open", &entry.path))?);
    let mut buffer = vec![0; PIECE];
    loop {
        let count = opened.read(&mut buffer).map_err(failed)?;
        let piece = Packet {
            data: buffer[..count].to_vec(),
            ..packet(PacketType::PacketData, id)
        };
        outgoing
            .blocking_send(piece)
            .map_err(|_| FsutilError::Ended)?;
        if count == 0 {
            return Ok(sent);
        }
        sent += count as u64;
        progress(sent);
    }
}
