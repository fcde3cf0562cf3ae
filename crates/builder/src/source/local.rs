//! Folders of clients (`local://`).
//!
//! A client on this machine says where its folder lies, and it is read in place: what the build does not
//! want of it is hidden by an overlay, and nothing is copied. Everybody else's files are kept between
//! builds, so that only what changed is sent.

mod kept;

use std::collections::{BTreeSet, HashMap};
use std::fs::{self, File};
use std::os::fd::{AsFd, OwnedFd};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use oci::Digest;
use sha2::{Digest as _, Sha256};

use super::filter::Filter;
use super::view::{self, Views};
use crate::error::{Error, Result, Step as _};
use crate::fsutil::{Index, Look, Wanted, walk};
use crate::llb::pb;
use crate::op::{CacheMap, OpContext};
use crate::session::{Session, SyncRequest};
use crate::snapshot::Snapshot;

/// The scheme of clients' folders.
pub const SCHEME: &str = "local://";
/// The attribute of the largest file that is taken, in bytes: nobody may send a Dockerfile without an end.
pub(crate) const LARGEST_ATTR: &str = "local.gorae.largest";
/// How long a client may take to open its session.
const SESSION: Duration = Duration::from_secs(10);
/// Where folders are kept, below the builder's root.
const FOLDER: &str = "locals";
/// Folders of one client that are kept for builds at the same time.
const SLOTS: usize = 16;

/// The folders that are kept or made for builds.
#[derive(Debug)]
pub struct Locals {
    folder: PathBuf,
    /// Names of kept folders that a build uses.
    used: Mutex<BTreeSet<String>>,
    /// What the steps of jobs have found, until their snapshots are taken.
    found: Mutex<HashMap<(String, Digest), Snapshot>>,
    /// Folders of this machine of which builds want a part.
    views: Views,
}

impl Locals {
    /// The folders below the builder's root, without what builds of an engine that was killed have left.
    pub(crate) fn open(root: &Path) -> Self {
        let folder = root.join(FOLDER);
        view::clean(&folder);
        kept::clean(&folder);
        Self {
            folder,
            used: Mutex::default(),
            found: Mutex::default(),
            views: Views::default(),
        }
    }

    fn used(&self) -> MutexGuard<'_, BTreeSet<String>> {
        self.used.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A kept folder's name, for as long as a build uses it.
struct Slot {
    locals: Arc<Locals>,
    name: String,
}

impl Drop for Slot {
    fn drop(&mut self) {
        self.locals.used().remove(&self.name);
    }
}

/// What an operation wants of which folder.
#[derive(Debug, Default)]
struct Request {
    name: String,
    session: String,
    hint: String,
    include: Vec<String>,
    exclude: Vec<String>,
    follow: Vec<String>,
    largest: Option<u64>,
}

impl Request {
    fn read(source: &pb::SourceOp) -> Result<Self> {
        let attr = |name: &str| source.attrs.get(name).cloned().unwrap_or_default();
        let list = |name: &str| -> Result<Vec<String>> {
            match source.attrs.get(name).map(String::as_str) {
                None | Some("" | "null") => Ok(Vec::new()),
                Some(json) => serde_json::from_str(json).map_err(|error| {
                    Error::invalid(format!("invalid {name} of a folder: {error}"))
                }),
            }
        };
        let name = source.identifier.strip_prefix(SCHEME).unwrap_or_default();
        if name.is_empty() {
            return Err(Error::invalid("a folder of a client has no name"));
        }
        Ok(Self {
            name: name.to_owned(),
            session: attr("local.session"),
            hint: attr("local.sharedkeyhint"),
            include: list("local.includepattern")?,
            exclude: list("local.excludepatterns")?,
            follow: list("local.followpaths")?,
            largest: attr(LARGEST_ATTR).parse().ok(),
        })
    }

    fn filter(&self, folder: impl AsFd) -> Result<Filter> {
        Filter::new(folder, &self.include, &self.exclude, &self.follow)
            .map_err(|error| Error::invalid(error.to_string()))
    }

    /// A name for the same wish of the same client.
    fn key(&self, session: &Session) -> String {
        let mut hash = Sha256::new();
        let shared = if session.shared_key().is_empty() {
            session.id()
        } else {
            session.shared_key()
        };
        let lists = [&self.include, &self.exclude, &self.follow].map(|list| list.join("\n"));
        for text in [
            shared, &self.name, &self.hint, &lists[0], &lists[1], &lists[2],
        ] {
            hash.update((text.len() as u64).to_le_bytes());
            hash.update(text);
        }
        hex::encode(&hash.finalize()[..16])
    }
}

async fn session(context: &OpContext, wanted: &str) -> Result<Arc<Session>> {
    let mut ids = context.sessions.all();
    if !wanted.is_empty() {
        ids.insert(0, wanted.to_owned());
    }
    let mut last = Error::invalid("no active sessions: the client offers no files");
    for id in ids {
        match context.builder.sessions.get(&id, SESSION).await {
            Ok(session) => return Ok(session),
            Err(error) => last = Error::unavailable(error.to_string()),
        }
    }
    Err(last)
}

/// What the folder is known by: what can be told of its files without reading them.
pub(crate) async fn cache_map(context: &OpContext, source: &pb::SourceOp) -> Result<CacheMap> {
    let request = Request::read(source)?;
    let session = session(context, &request.session).await?;
    let (digest, snapshot) = match session.local_path(&request.name) {
        Some(path) => in_place(context, request, path.to_owned()).await?,
        None => transferred(context, request, &session).await?,
    };
    let locals = &context.builder.locals;
    let mut found = locals.found.lock().unwrap_or_else(PoisonError::into_inner);
    let key = (context.job.id.clone(), context.vertex.digest.clone());
    found.insert(key, snapshot);
    Ok(CacheMap {
        digest,
        inputs: Vec::new(),
    })
}

/// The folder that was found for the operation's key.
pub(crate) fn run(context: &OpContext) -> Result<Snapshot> {
    let locals = &context.builder.locals;
    let found = locals.found.lock().unwrap_or_else(PoisonError::into_inner);
    let key = (context.job.id.clone(), context.vertex.digest.clone());
    found
        .get(&key)
        .cloned()
        .ok_or_else(|| Error::internal("a folder of a client was not looked for"))
}

/// Forgets what a job has found.
pub(crate) fn forget(locals: &Locals, job: &str) {
    let mut found = locals.found.lock().unwrap_or_else(PoisonError::into_inner);
    found.retain(|(owner, _), _| owner != job);
}

fn digest_of(kind: &str, parts: &[&[u8]]) -> Digest {
    let mut hash = Sha256::new();
    hash.update(kind);
    for part in parts {
        hash.update((part.len() as u64).to_le_bytes());
        hash.update(part);
    }
    Digest::from_sha256(&hash.finalize().into())
}

/// A folder of this machine.
async fn in_place(
    context: &OpContext,
    request: Request,
    path: PathBuf,
) -> Result<(Digest, Snapshot)> {
    let place = context.builder.locals.folder.clone();
    let locals = Arc::clone(&context.builder.locals);
    let work = move || {
        let folder = File::open(&path).map_err(|error| {
            Error::not_found(format!("open context {}: {error}", path.display()))
        })?;
        let filter = request.filter(&folder)?;
        let look = Look {
            identity: true,
            links: false,
            xattrs: false,
        };
        if filter.is_all() {
            let index = walk(folder.as_fd(), look, |_, _| Wanted::Yes)
                .step(|| format!("look through context {}", path.display()))?;
            let digest = named(&path, &index);
            let snapshot = Snapshot::of_folder(digest.to_string(), path, Arc::new(()));
            return Ok((digest, snapshot));
        }
        let mut seen = Vec::new();
        let mut wanted = filter.into_wanted();
        let index = walk(folder.as_fd(), look, |entry, is_dir| {
            seen.push(entry.to_owned());
            wanted(entry, is_dir)
        })
        .step(|| format!("look through context {}", path.display()))?;
        let digest = named(&path, &index);
        let snapshot = locals
            .views
            .show(&place, &path, &index, &seen, digest.to_string())?;
        Ok((digest, snapshot))
    };
    tokio::task::spawn_blocking(work)
        .await
        .step(|| "look through a context")?
}

fn named(path: &Path, index: &Index) -> Digest {
    use std::os::unix::ffi::OsStrExt as _;
    digest_of(
        "local in place",
        &[path.as_os_str().as_bytes(), &index.digest()],
    )
}

/// A folder that the client sends, kept for its next build.
async fn transferred(
    context: &OpContext,
    request: Request,
    session: &Arc<Session>,
) -> Result<(Digest, Snapshot)> {
    let locals = Arc::clone(&context.builder.locals);
    let slot = take(&locals, &request.key(session))?;
    let place = locals.folder.join(&slot.name);
    let files = place.join("files");
    fs::create_dir_all(&files).step(|| format!("make folder {}", files.display()))?;
    let target = File::open(&files).step(|| format!("open folder {}", files.display()))?;
    slot.begin(&request.name)?;
    let name = request.name.clone();
    let progress = context.progress.clone();
    let mut part = progress.part(format!("transferring {name}:"));
    let told = Arc::new(std::sync::atomic::AtomicU64::new(0));
    let count = Arc::clone(&told);
    let received = session
        .sync(
            SyncRequest {
                name,
                include: request.include,
                exclude: request.exclude,
                follow: request.follow,
                largest: request.largest,
                target: OwnedFd::from(target),
                index: place.join("index"),
            },
            move |bytes| count.store(bytes, std::sync::atomic::Ordering::Relaxed),
        )
        .await
        .map_err(|error| Error::system("read the client's files", &error))?;
    part.update(told.load(std::sync::atomic::Ordering::Relaxed), 0);
    drop(part);
    slot.note(received.index.size())?;
    let digest = digest_of("local", &[&received.index.digest()]);
    let snapshot = Snapshot::of_folder(digest.to_string(), files, Arc::new(slot));
    Ok((digest, snapshot))
}

/// A place that no other build uses.
fn take(locals: &Arc<Locals>, key: &str) -> Result<Slot> {
    let mut used = locals.used();
    let mut names = (0..SLOTS).map(|number| format!("{key}-{number}"));
    let name = names.find(|name| !used.contains(name)).ok_or_else(|| {
        Error::unavailable(format!("{SLOTS} builds of the same folder are going on"))
    })?;
    used.insert(name.clone());
    Ok(Slot {
        locals: Arc::clone(locals),
        name,
    })
}
