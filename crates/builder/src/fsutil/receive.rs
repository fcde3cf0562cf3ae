//! The receiver of a tree.

use std::collections::{HashMap, HashSet};
use std::fs::File;
use std::io::Write;
use std::iter::Peekable;
use std::os::fd::{AsFd, OwnedFd};
use std::path::PathBuf;
use std::vec::IntoIter;

use bollard_buildkit_proto::fsutil::types::packet::PacketType;
use bollard_buildkit_proto::fsutil::types::{Packet, Stat};
use futures_util::{Stream, StreamExt};
use prost::Message as _;
use rustix::fs::FileType;
use tokio::sync::mpsc;
use tonic::Status;

use super::tree::Tree;
use super::walk::MAX_ENTRIES;
use super::{Entry, FsutilError, Index, path};
use crate::session::Received;

/// Packets between the connection and the thread that works on the disk.
const QUEUE: usize = 256;
/// Files that come at once; senders have four.
const MAX_OPEN: usize = 512;
/// The longest message of the other side's error.
const MAX_MESSAGE: usize = 4096;

/// Where files go.
#[derive(Debug)]
pub struct Target {
    /// Folder.
    pub folder: OwnedFd,
    /// File beside it that says what it holds.
    pub index: PathBuf,
    /// Bytes of the largest file that is taken; any where absent.
    pub largest: Option<u64>,
}

/// Makes a folder equal to the sender's.
///
/// # Errors
/// When the sender breaks the protocol, fails or is gone, and when the disk fails.
pub async fn receive(
    mut incoming: impl Stream<Item = Result<Packet, Status>> + Send + Unpin,
    outgoing: mpsc::UnboundedSender<Packet>,
    target: Target,
    progress: impl Fn(u64) + Send + 'static,
) -> Result<Received, FsutilError> {
    let (feed, packets) = mpsc::channel(QUEUE);
    let work = tokio::task::spawn_blocking(move || {
        let mut receiver = Receiver::new(outgoing, target)?;
        receiver.run(packets, progress)
    });
    let mut broken = None;
    while let Some(packet) = incoming.next().await {
        match packet {
            Ok(packet) => {
                if feed.send(packet).await.is_err() {
                    break;
                }
            }
            Err(status) => {
                broken = Some(FsutilError::from(status));
                break;
            }
        }
    }
    drop(feed);
    let done = work.await.map_err(FsutilError::Thread)?;
    match (done, broken) {
        // the stream's own error says more than that it ended
        (Err(FsutilError::Ended), Some(broken)) => Err(broken),
        (done, _) => done,
    }
}

/// A file whose content is coming.
struct Coming {
    entry: Entry,
    file: Option<File>,
    /// Bytes that have come.
    length: u64,
}

struct Receiver {
    outgoing: mpsc::UnboundedSender<Packet>,
    tree: Tree,
    index: PathBuf,
    largest: u64,
    before: Peekable<IntoIter<Entry>>,
    generation: String,
    now: Vec<Entry>,
    /// Number of the next entry of the sender's list.
    next: u32,
    last: String,
    /// The directories that the last entry lies in, the outermost first.
    above: Vec<String>,
    coming: HashMap<u32, Coming>,
    open: usize,
    links: Vec<Entry>,
    /// Files and links that are new or changed.
    changed: HashSet<String>,
    /// Regular files of the sender, which may be linked to.
    files: HashSet<String>,
    /// Directories whose time is to be set.
    dated: HashSet<String>,
    /// Whether anything has changed on the disk.
    touched: bool,
    listed: bool,
    received: (u64, u64),
    /// Bytes of all packets, as BuildKit counts them.
    passed: u64,
}

impl Receiver {
    fn new(outgoing: mpsc::UnboundedSender<Packet>, target: Target) -> Result<Self, FsutilError> {
        let before = Index::of(target.folder.as_fd(), &target.index)?;
        let now = Vec::with_capacity(before.entries.len());
        Ok(Self {
            outgoing,
            tree: Tree::new(target.folder),
            index: target.index,
            largest: target.largest.unwrap_or(u64::MAX),
            before: before.entries.into_iter().peekable(),
            generation: before.generation,
            now,
            next: 0,
            last: String::new(),
            above: Vec::new(),
            coming: HashMap::new(),
            open: 0,
            links: Vec::new(),
            changed: HashSet::new(),
            files: HashSet::new(),
            dated: HashSet::new(),
            touched: false,
            listed: false,
            received: (0, 0),
            passed: 0,
        })
    }

    fn run(
        &mut self,
        mut packets: mpsc::Receiver<Packet>,
        progress: impl Fn(u64),
    ) -> Result<Received, FsutilError> {
        let mut some = Vec::with_capacity(QUEUE);
        let mut finished = false;
        while packets.blocking_recv_many(&mut some, QUEUE) > 0 {
            for packet in some.drain(..) {
                if self.take(packet)? {
                    return self.result();
                }
            }
            if self.listed && self.coming.is_empty() && !finished {
                finished = true;
                self.finish()?;
                self.send(PacketType::PacketFin, 0)?;
            }
            progress(self.passed);
        }
        Err(FsutilError::Ended)
    }

    /// Handles a packet; true at the sender's end.
    fn take(&mut self, packet: Packet) -> Result<bool, FsutilError> {
        let protocol = |what| Err(FsutilError::Protocol { what });
        self.passed += packet.encoded_len() as u64;
        match packet.r#type() {
            PacketType::PacketStat if self.listed => return protocol("an entry after the last"),
            PacketType::PacketStat => match packet.stat {
                Some(stat) => self.stat(stat)?,
                None => self.end_of_list()?,
            },
            PacketType::PacketData => self.data(packet.id, &packet.data)?,
            PacketType::PacketFin if self.listed && self.coming.is_empty() => return Ok(true),
            PacketType::PacketFin => return protocol("an end before all files"),
            PacketType::PacketErr => {
                let message = String::from_utf8_lossy(&packet.data);
                let message = message.chars().take(MAX_MESSAGE).collect();
                return Err(FsutilError::Remote { message });
            }
            PacketType::PacketReq => return protocol("a request for a file"),
        }
        Ok(false)
    }

    fn send(&self, kind: PacketType, id: u32) -> Result<(), FsutilError> {
        let packet = Packet {
            r#type: kind.into(),
            id,
            ..Packet::default()
        };
        self.outgoing.send(packet).map_err(|_| FsutilError::Ended)
    }

    /// Takes the next entry of the sender's list.
    fn stat(&mut self, stat: Stat) -> Result<(), FsutilError> {
        let id = self.next;
        self.next += 1;
        if self.now.len() >= MAX_ENTRIES {
            let what = "more entries than one tree may have";
            return Err(FsutilError::Protocol { what });
        }
        path::check(&stat.path)?;
        let entry = Entry::of_stat(stat).map_err(|what| FsutilError::Protocol { what })?;
        self.in_order(&entry)?;
        self.skip_removed(&entry.path)?;
        let old = self.before.next_if(|old| old.path == entry.path);
        if !is_storable(&entry) {
            return old.map_or(Ok(()), |old| self.remove(&old));
        }
        let fresh = |entry: &Entry| entry.is_hard_link() && self.changed.contains(&entry.link);
        let unchanged = old.as_ref().is_some_and(|old| old.is_same(&entry)) && !fresh(&entry);
        if entry.kind() == FileType::RegularFile && !entry.is_hard_link() {
            self.files.insert(entry.path.clone());
        }
        if !unchanged {
            self.change(id, old.as_ref(), &entry)?;
        }
        self.now.push(entry);
        Ok(())
    }

    /// Checks that an entry comes after the last one, and in a directory that has come.
    fn in_order(&mut self, entry: &Entry) -> Result<(), FsutilError> {
        let wrong = |why| {
            let path = entry.path.clone();
            Err(FsutilError::Path { path, why })
        };
        if !self.last.is_empty() && path::compare(&self.last, &entry.path).is_ge() {
            return wrong("it does not come in order");
        }
        let (above, _) = path::split(&entry.path);
        while self.above.last().is_some_and(|last| last != above) {
            self.above.pop();
        }
        if !above.is_empty() && self.above.is_empty() {
            return wrong("its directory has not come before");
        }
        if entry.is_dir() {
            self.above.push(entry.path.clone());
        }
        self.last.clone_from(&entry.path);
        Ok(())
    }

    /// Removes what the folder holds before `path` and the sender has not.
    fn skip_removed(&mut self, path: &str) -> Result<(), FsutilError> {
        while let Some(old) = self
            .before
            .next_if(|old| path::compare(&old.path, path).is_lt())
        {
            self.remove(&old)?;
        }
        Ok(())
    }

    /// Removes an entry that the folder holds, with all that it holds.
    fn remove(&mut self, old: &Entry) -> Result<(), FsutilError> {
        self.touch(&old.path)?;
        self.tree.remove(&old.path)?;
        if old.is_dir() {
            while self
                .before
                .next_if(|next| path::is_below(&next.path, &old.path))
                .is_some()
            {}
        }
        Ok(())
    }

    /// Says that the folder is no longer what its index tells.
    fn touch(&mut self, path: &str) -> Result<(), FsutilError> {
        if !self.touched {
            Index::forget(&self.index)?;
            self.touched = true;
        }
        let (above, _) = path::split(path);
        self.dated.insert(above.to_owned());
        Ok(())
    }

    fn change(&mut self, id: u32, old: Option<&Entry>, entry: &Entry) -> Result<(), FsutilError> {
        self.touch(&entry.path)?;
        if let Some(old) = old
            && old.is_dir()
            && !entry.is_dir()
        {
            self.remove(old)?;
        }
        match entry.kind() {
            FileType::Directory => {
                if old.is_some_and(|old| !old.is_dir()) {
                    self.tree.remove(&entry.path)?;
                }
                self.tree.directory(entry)?;
                self.dated.insert(entry.path.clone());
            }
            FileType::RegularFile if entry.is_hard_link() => {
                if !self.files.contains(&entry.link) {
                    let what = "a link to a file that has not come before";
                    return Err(FsutilError::Protocol { what });
                }
                self.links.push(entry.clone());
            }
            FileType::RegularFile => {
                self.changed.insert(entry.path.clone());
                self.request(id, entry)?;
            }
            _ => self.tree.special(entry)?,
        }
        Ok(())
    }

    fn request(&mut self, id: u32, entry: &Entry) -> Result<(), FsutilError> {
        if entry.size == 0 {
            let file = self.tree.file(entry)?;
            return Tree::finish(&file, entry);
        }
        if entry.size > self.largest {
            return Err(too_large(entry, self.largest));
        }
        let coming = Coming {
            entry: entry.clone(),
            file: None,
            length: 0,
        };
        self.coming.insert(id, coming);
        self.send(PacketType::PacketReq, id)
    }

    /// Takes a piece of a file; an empty one is its end.
    fn data(&mut self, id: u32, data: &[u8]) -> Result<(), FsutilError> {
        let Some(coming) = self.coming.get_mut(&id) else {
            let what = "content that nobody asked for";
            return Err(FsutilError::Protocol { what });
        };
        let file = match &mut coming.file {
            Some(file) => file,
            none => {
                self.open += 1;
                if self.open > MAX_OPEN {
                    let what = "too many files at once";
                    return Err(FsutilError::Protocol { what });
                }
                none.insert(self.tree.file(&coming.entry)?)
            }
        };
        if !data.is_empty() {
            self.received.1 += data.len() as u64;
            coming.length += data.len() as u64;
            if coming.length > self.largest {
                return Err(too_large(&coming.entry, self.largest));
            }
            let written = file.write_all(data);
            return written.map_err(FsutilError::disk("write", &coming.entry.path));
        }
        Tree::finish(file, &coming.entry)?;
        self.coming.remove(&id);
        self.open -= 1;
        self.received.0 += 1;
        Ok(())
    }

    fn end_of_list(&mut self) -> Result<(), FsutilError> {
        self.listed = true;
        while let Some(old) = self.before.next() {
            self.remove(&old)?;
        }
        Ok(())
    }

    /// Does what has to wait for the files, and keeps the list.
    fn finish(&mut self) -> Result<(), FsutilError> {
        for entry in std::mem::take(&mut self.links) {
            self.tree.link(&entry)?;
        }
        if !self.touched {
            return Ok(());
        }
        // a directory's time changes with its entries', so the innermost come first
        let dated = self.now.iter().rev().filter(|entry| entry.is_dir());
        for entry in dated.filter(|entry| self.dated.contains(&entry.path)) {
            self.tree.date(entry)?;
        }
        Ok(())
    }

    fn result(&mut self) -> Result<Received, FsutilError> {
        let known = !self.touched && !self.generation.is_empty();
        let generation = std::mem::take(&mut self.generation);
        let index = Index {
            entries: std::mem::take(&mut self.now),
            generation: if known { generation } else { crate::id::new() },
            spans_mounts: false,
        };
        if !known {
            let saved = index.save(&self.index);
            saved.map_err(|source| FsutilError::Index {
                path: self.index.clone(),
                source,
            })?;
        }
        Ok(Received {
            index,
            files: self.received.0,
            bytes: self.received.1,
        })
    }
}

fn too_large(entry: &Entry, largest: u64) -> FsutilError {
    FsutilError::TooLarge {
        path: entry.path.clone(),
        largest,
    }
}

/// Tells whether a folder may hold it. A socket has no content; a character device of numbers
/// zero would hide what lies under it in an overlay.
fn is_storable(entry: &Entry) -> bool {
    match entry.kind() {
        FileType::Socket => false,
        FileType::CharacterDevice => entry.device != (0, 0),
        _ => true,
    }
}
