//! Digests of what snapshots hold at paths: what a copy depends on, whatever made it.
//!
//! A file counts by its kind, mode, owner, extended attributes and content, a link by its text, and
//! each by its name below the path; times do not count. What was hashed once is remembered by the
//! file's identity, so that of a large tree only what has changed is read again.

mod files;
mod walk;

use std::collections::HashMap;
use std::io;
use std::os::fd::{AsFd as _, OwnedFd};
use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError};

use dockerfile::ignore::Matcher;
use oci::Digest;
use rustix::fs::{AtFlags, Mode, OFlags};
use sha2::{Digest as _, Sha256};

use self::files::{FileHashes, Known};
use crate::builder::Builder;
use crate::error::{Error, Result};
use crate::op::Selector;
use crate::ops::paths;
use crate::snapshot::Snapshot;

/// Answers that are remembered.
const KEPT: usize = 4096;

/// What was computed before. Copies share it.
#[derive(Clone, Debug, Default)]
pub struct ContentHashes(Arc<Inner>);

#[derive(Debug, Default)]
struct Inner {
    /// By snapshot and selectors.
    known: Mutex<HashMap<(String, Digest), Digest>>,
    files: FileHashes,
}

/// The digest of what a snapshot, which is ready, holds at paths.
///
/// # Errors
/// When nothing is at a path, or it cannot be read.
pub async fn digest(
    builder: &Builder,
    snapshot: &Snapshot,
    selectors: &[Selector],
) -> Result<Digest> {
    let hashes = builder.content_hashes.clone();
    let (snapshot, selectors) = (snapshot.clone(), selectors.to_vec());
    let done = tokio::task::spawn_blocking(move || hashes.digest(&snapshot, &selectors)).await;
    done.unwrap_or_else(|error| {
        Err(Error::internal(format!(
            "a background step failed: {error}"
        )))
    })
}

impl ContentHashes {
    /// As [`digest`]; it blocks.
    ///
    /// # Errors
    /// When nothing is at a path, or it cannot be read.
    pub fn digest(&self, snapshot: &Snapshot, selectors: &[Selector]) -> Result<Digest> {
        let wanted = key(selectors);
        // a folder of a client has a name of its own for each of its states
        let key = (snapshot.id().to_owned(), wanted);
        if let Some(known) = self.known().get(&key) {
            return Ok(known.clone());
        }
        let tree = Tree {
            root: snapshot.open()?,
            of_client: snapshot.folder().is_some(),
            shows: snapshot.shows(),
            name: snapshot.id().to_owned(),
        };
        let whole = [Selector {
            path: "/".to_owned(),
            ..Selector::default()
        }];
        let selectors = if selectors.is_empty() {
            &whole[..]
        } else {
            selectors
        };
        let mut all = Sha256::new();
        for selector in selectors {
            all.update(self.selected(&tree, selector)?);
        }
        let digest = Digest::from_sha256(&all.finalize().into());
        let mut known = self.known();
        if known.len() >= KEPT {
            known.clear();
        }
        known.insert(key, digest.clone());
        Ok(digest)
    }

    /// Files of clients whose contents need not be read again.
    #[must_use]
    pub fn files(&self) -> usize {
        self.0.files.len()
    }

    fn known(&self) -> std::sync::MutexGuard<'_, HashMap<(String, Digest), Digest>> {
        self.0.known.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn selected(&self, tree: &Tree, selector: &Selector) -> Result<[u8; 32]> {
        let path = paths::clean(&selector.path);
        let matches = if selector.wildcard {
            paths::wildcards(tree.root.as_fd(), &path)?
        } else {
            vec![path]
        };
        let filter = walk::Filter {
            include: matcher(&selector.include)?,
            exclude: matcher(&selector.exclude)?,
        };
        let mut sum = Sha256::new();
        for path in &matches {
            if selector.wildcard {
                // several matches go where they go by their names
                field(&mut sum, paths::split(path).1.as_bytes());
            }
            let found = tree.find(path, selector.follow_links)?;
            let step = |error: io::Error| tree.failed(path, &error);
            let entries = walk::entries(&found, tree.of_client, &filter).map_err(&step)?;
            // the view of layers numbers its inodes anew with each mount, and image builders give
            // files times of their own: nothing there says that a file is the one of before
            let known = tree.of_client.then_some(Known {
                hashes: &self.0.files,
                device: tree.shows,
            });
            let hashed = files::sum(known, &entries).map_err(&step)?;
            sum.update(hashed);
        }
        Ok(sum.finalize().into())
    }
}

/// A tree that is looked into.
struct Tree {
    root: OwnedFd,
    of_client: bool,
    shows: Option<u64>,
    name: String,
}

impl Tree {
    fn find(&self, path: &str, follow: bool) -> Result<OwnedFd> {
        let plain = path.strip_suffix("/.").unwrap_or(path);
        let open = || -> io::Result<OwnedFd> {
            let (above, name) = paths::split(plain);
            if follow || name.is_empty() || path.ends_with('/') {
                return sys::tree::open(self.root.as_fd(), Path::new(plain), OFlags::PATH);
            }
            let flags = OFlags::PATH | OFlags::DIRECTORY;
            let above = sys::tree::open(self.root.as_fd(), Path::new(above), flags)?;
            let flags = OFlags::PATH | OFlags::NOFOLLOW | OFlags::CLOEXEC;
            Ok(rustix::fs::openat(above, name, flags, Mode::empty())?)
        };
        open().map_err(|error| self.failed(plain, &error))
    }

    fn failed(&self, path: &str, error: &io::Error) -> Error {
        let quoted = crate::ops::quoted(path);
        let what = format!("failed to calculate checksum of ref {}", self.name);
        if error.kind() == io::ErrorKind::NotFound {
            return Error::not_found(format!("{what}: {quoted}: not found"));
        }
        Error::system(format!("{what}: {quoted}"), error)
    }
}

fn matcher(patterns: &[String]) -> Result<Option<Matcher>> {
    if patterns.is_empty() {
        return Ok(None);
    }
    let made = Matcher::new(patterns);
    let made = made.map_err(|error| Error::invalid(format!("invalid patterns: {error}")))?;
    Ok(Some(made))
}

/// Adds a text so that none can be taken for another.
fn field(sum: &mut Sha256, bytes: &[u8]) {
    sum.update((bytes.len() as u64).to_le_bytes());
    sum.update(bytes);
}

/// What selectors are known by.
fn key(selectors: &[Selector]) -> Digest {
    let mut sum = Sha256::new();
    for selector in selectors {
        field(&mut sum, selector.path.as_bytes());
        sum.update([u8::from(selector.wildcard), u8::from(selector.follow_links)]);
        for patterns in [&selector.include, &selector.exclude] {
            sum.update((patterns.len() as u64).to_le_bytes());
            patterns.iter().for_each(|p| field(&mut sum, p.as_bytes()));
        }
    }
    Digest::from_sha256(&sum.finalize().into())
}

/// The status of what a descriptor stands for.
fn stat_of(fd: &OwnedFd) -> io::Result<rustix::fs::Stat> {
    Ok(rustix::fs::statat(fd, c"", AtFlags::EMPTY_PATH)?)
}
