//! Contents of files, hashed by several threads and remembered.

use std::collections::HashMap;
use std::fs::File;
use std::io::{self, Read as _};
use std::os::fd::{AsFd as _, AsRawFd as _};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Mutex, PoisonError};

use rustix::fs::{Mode, OFlags, Stat};
use sha2::{Digest as _, Sha256};

use super::field;
use super::walk::{Entry, FileEntry};

/// Files that are remembered; each takes about 100 bytes.
const KEPT: usize = 200_000;
/// Threads that hash one tree.
const THREADS_MAX: usize = 4;
/// So many files are worth a thread.
const WORTH: usize = 16;
/// Bytes that are read at once.
const PIECE: usize = 128 * 1024;

/// A file's identity, and what changes when its content does.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
struct Identity {
    device: u64,
    inode: u64,
    size: i64,
    modified: (i64, u64),
    changed: (i64, u64),
}

impl Identity {
    fn of(stat: &Stat, device: Option<u64>) -> Self {
        Self {
            device: device.unwrap_or(stat.st_dev),
            inode: stat.st_ino,
            size: stat.st_size,
            modified: (stat.st_mtime, stat.st_mtime_nsec),
            changed: (stat.st_ctime, stat.st_ctime_nsec),
        }
    }

    /// Whether it may still change within the same tick of the clock that it shows.
    fn is_fresh(&self) -> bool {
        let now = rustix::time::clock_gettime(rustix::time::ClockId::Realtime);
        now.tv_sec.saturating_sub(self.changed.0) < 2
    }
}

/// Contents that were hashed before.
#[derive(Debug, Default)]
pub(super) struct FileHashes(Mutex<HashMap<Identity, [u8; 32]>>);

impl FileHashes {
    fn get(&self, identity: &Identity) -> Option<[u8; 32]> {
        let known = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        known.get(identity).copied()
    }

    pub(super) fn len(&self) -> usize {
        let known = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        known.len()
    }

    fn keep(&self, identity: Identity, hash: [u8; 32]) {
        if identity.is_fresh() {
            return;
        }
        let mut known = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if known.len() >= KEPT {
            known.clear();
        }
        known.insert(identity, hash);
    }
}

/// What is known of the files of one tree.
#[derive(Clone, Copy, Debug)]
pub(super) struct Known<'a> {
    pub(super) hashes: &'a FileHashes,
    /// The device that the files count as those of, where the tree is but a view of it.
    pub(super) device: Option<u64>,
}

impl Known<'_> {
    fn of(&self, file: &FileEntry, buffer: &mut [u8]) -> io::Result<[u8; 32]> {
        let identity = Identity::of(&file.stat, self.device);
        if let Some(known) = self.hashes.get(&identity) {
            return Ok(known);
        }
        let hash = hash(file, buffer)?;
        self.hashes.keep(identity, hash);
        Ok(hash)
    }
}

/// One sum of all entries in their order.
pub(super) fn sum(known: Option<Known<'_>>, entries: &[Entry]) -> io::Result<[u8; 32]> {
    let hashes = hash_all(known, entries)?;
    let mut sum = Sha256::new();
    for (entry, content) in entries.iter().zip(hashes) {
        sum.update(entry.head);
        if entry.file.is_some() {
            sum.update(content);
        }
    }
    Ok(sum.finalize().into())
}

fn hash_all(known: Option<Known<'_>>, entries: &[Entry]) -> io::Result<Vec<[u8; 32]>> {
    let files = entries.iter().filter(|entry| entry.file.is_some()).count();
    let threads = std::thread::available_parallelism().map_or(1, usize::from);
    let threads = threads.min(THREADS_MAX).min(files / WORTH).max(1);
    let next = AtomicUsize::new(0);
    let work = || -> io::Result<Vec<(usize, [u8; 32])>> {
        let mut buffer = vec![0; PIECE];
        let mut done = Vec::new();
        loop {
            let at = next.fetch_add(1, Ordering::Relaxed);
            let Some(entry) = entries.get(at) else {
                return Ok(done);
            };
            if let Some(file) = &entry.file {
                let content = match known {
                    Some(known) => known.of(file, &mut buffer)?,
                    None => hash(file, &mut buffer)?,
                };
                done.push((at, content));
            }
        }
    };
    let mut hashes = vec![[0; 32]; entries.len()];
    let parts = if threads == 1 {
        vec![work()]
    } else {
        std::thread::scope(|scope| {
            let spawned: Vec<_> = (0..threads).map(|_| scope.spawn(work)).collect();
            let broken = |_| Err(io::Error::other("a hashing thread broke off"));
            spawned
                .into_iter()
                .map(|thread| thread.join().unwrap_or_else(broken))
                .collect()
        })
    };
    for part in parts {
        for (at, hash) in part? {
            hashes[at] = hash;
        }
    }
    Ok(hashes)
}

/// Hashes a file: its attributes and its bytes.
fn hash(file: &FileEntry, buffer: &mut [u8]) -> io::Result<[u8; 32]> {
    let flags = OFlags::RDONLY | OFlags::NONBLOCK | OFlags::NOCTTY | OFlags::CLOEXEC;
    let opened = if file.name.is_empty() {
        let path = format!("/proc/self/fd/{}", file.directory.as_raw_fd());
        rustix::fs::open(path, flags, Mode::empty())?
    } else {
        let flags = flags | OFlags::NOFOLLOW;
        rustix::fs::openat(&*file.directory, &*file.name, flags, Mode::empty())?
    };
    let mut opened = File::from(opened);
    let mut sum = Sha256::new();
    for (name, value) in storage::trees::xattrs(opened.as_fd())? {
        field(&mut sum, &name);
        field(&mut sum, &value);
    }
    sum.update([0]);
    loop {
        let count = opened.read(buffer)?;
        if count == 0 {
            return Ok(sum.finalize().into());
        }
        sum.update(&buffer[..count]);
    }
}
