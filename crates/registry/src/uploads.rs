//! Uploads under way: files that grow, hashed as they do.
//!
//! An upload is two files, `<id>` with the bytes so far and `<id>.repository` with the name of whose
//! it is; a registry that starts again goes on with both. In memory there is the state of the hash,
//! for as many uploads as are worked on; of any other it is made again from the file.

use std::collections::HashMap;
use std::fs::File;
use std::io::{self, Read as _, Write as _};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant, SystemTime};

use bytes::Bytes;
use oci::Digest;
use sha2::{Digest as _, Sha256};
use tokio::sync::{Mutex as AsyncMutex, OwnedMutexGuard};

use crate::ident;
use crate::name::Name;

/// Uploads whose hash and file are kept open while nobody works on them.
const OPEN_MAX: usize = 256;
/// The buffer with which a file is hashed again.
const REHASH_BUFFER: usize = 256 << 10;
/// The longest name of a repository, in its file.
const NAME_MAX: u64 = 300;

/// The uploads of a registry.
#[derive(Debug)]
pub(crate) struct Uploads {
    folder: PathBuf,
    most: usize,
    state: Mutex<State>,
    /// How fast files take what is written.
    pub(crate) pace: Pace,
}

#[derive(Debug, Default)]
struct State {
    open: HashMap<String, Arc<AsyncMutex<Session>>>,
    /// All that there are, open or not.
    count: usize,
}

/// One upload, in the hands of one request.
pub(crate) type Held = OwnedMutexGuard<Session>;

/// The bytes of one upload so far.
#[derive(Debug)]
pub(crate) struct Session {
    pub(crate) id: String,
    pub(crate) repository: Name,
    path: PathBuf,
    file: Option<File>,
    hash: Sha256,
    written: u64,
}

/// Whether files take what is written at once, as they do until the kernel makes writers wait for the disk.
#[derive(Debug, Default)]
pub(crate) struct Pace(Mutex<Option<Instant>>);

/// A write that took longer has waited for something other than a busy processor.
const QUICK: Duration = Duration::from_millis(100);
/// How long writes are taken for slow after one was.
const SLOW_FOR: Duration = Duration::from_secs(1);

impl Pace {
    /// Whether the next write can be expected to be a copy in memory.
    pub(crate) fn is_quick(&self) -> bool {
        let mut slow_since = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        slow_since.take_if(|since| since.elapsed() >= SLOW_FOR);
        slow_since.is_none()
    }

    /// Notes what a write took.
    pub(crate) fn took(&self, time: Duration) {
        if time >= QUICK {
            let mut slow_since = self.0.lock().unwrap_or_else(PoisonError::into_inner);
            *slow_since = Some(Instant::now());
        }
    }
}

/// Why an upload does not begin.
#[derive(Debug, thiserror::Error)]
pub(crate) enum BeginError {
    #[error("there are {0} uploads already")]
    TooMany(usize),
    #[error("make the files of upload {id}")]
    Io {
        id: String,
        #[source]
        source: io::Error,
    },
}

impl Uploads {
    pub(crate) fn open(folder: PathBuf, most: usize) -> io::Result<Self> {
        match std::fs::create_dir(&folder) {
            Ok(()) => {}
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {}
            Err(error) => return Err(error),
        }
        let count = list(&folder)?.len();
        Ok(Self {
            folder,
            most,
            state: Mutex::new(State {
                open: HashMap::new(),
                count,
            }),
            pace: Pace::default(),
        })
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// How many there are.
    pub(crate) fn count(&self) -> usize {
        self.lock().count
    }

    /// Begins an upload. This blocks, shortly.
    pub(crate) fn begin(&self, repository: &Name) -> Result<Held, BeginError> {
        {
            let mut state = self.lock();
            if state.count >= self.most {
                return Err(BeginError::TooMany(state.count));
            }
            state.count += 1;
        }
        let made = self.make(repository);
        if made.is_err() {
            self.lock().count -= 1;
        }
        made
    }

    fn make(&self, repository: &Name) -> Result<Held, BeginError> {
        let failed = |id: &str| {
            let id = id.to_owned();
            move |source| BeginError::Io { id, source }
        };
        let id = ident::uuid().map_err(failed(""))?;
        let path = self.folder.join(&id);
        let owner = owner_file(&path);
        std::fs::write(&owner, repository.as_str()).map_err(failed(&id))?;
        let file = File::options()
            .write(true)
            .create_new(true)
            .mode(0o600)
            .open(&path)
            .map_err(failed(&id))?;
        let session = Session {
            id,
            repository: repository.clone(),
            path,
            file: Some(file),
            hash: Sha256::new(),
            written: 0,
        };
        let id = session.id.clone();
        let held = self.keep(session).try_lock_owned();
        held.map_err(|_| failed(&id)(io::ErrorKind::ResourceBusy.into()))
    }

    /// Keeps a session open; where another request was faster, its session it is.
    fn keep(&self, session: Session) -> Arc<AsyncMutex<Session>> {
        let id = session.id.clone();
        let mut state = self.lock();
        if state.open.len() >= OPEN_MAX {
            // those that a request has in hand are held twice
            state.open.retain(|_, held| Arc::strong_count(held) > 1);
        }
        let held = state.open.entry(id);
        let held = held.or_insert_with(|| Arc::new(AsyncMutex::new(session)));
        Arc::clone(held)
    }

    /// Takes an upload of a repository in hand, waiting for another request that has it. `None` where
    /// there is none.
    pub(crate) async fn take(
        self: &Arc<Self>,
        id: &str,
        repository: &Name,
    ) -> io::Result<Option<Held>> {
        if !ident::is_uuid(id) {
            return Ok(None);
        }
        let open = self.lock().open.get(id).cloned();
        let open = match open {
            Some(open) => Some(open),
            None => {
                let (own, id, name) = (Arc::clone(self), id.to_owned(), repository.clone());
                let opened = tokio::task::spawn_blocking(move || own.reopen(&id, &name));
                opened.await.map_err(io::Error::other)??
            }
        };
        let Some(open) = open else {
            return Ok(None);
        };
        let held = open.lock_owned().await;
        let usable = held.file.is_some() && held.repository == *repository;
        Ok(usable.then_some(held))
    }

    /// Opens an upload that is not in memory, and hashes what it has so far.
    fn reopen(&self, id: &str, repository: &Name) -> io::Result<Option<Arc<AsyncMutex<Session>>>> {
        let path = self.folder.join(id);
        let owner = match read_owner(&path) {
            Ok(owner) => owner,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(error),
        };
        if owner.as_deref() != Some(repository.as_str()) {
            return Ok(None);
        }
        let mut file = match File::options().read(true).write(true).open(&path) {
            Ok(file) => file,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(error),
        };
        let (hash, written) = rehash(&mut file)?;
        Ok(Some(self.keep(Session {
            id: id.to_owned(),
            repository: repository.clone(),
            path,
            file: Some(file),
            hash,
            written,
        })))
    }

    /// Removes an upload's files. This blocks, shortly.
    pub(crate) fn cancel(&self, mut held: Held) {
        held.file = None;
        let path = held.path.clone();
        self.forget(&held.id);
        remove(&path);
    }

    /// Drops an upload of which the file was taken over.
    fn finished(&self, held: &Held) {
        self.forget(&held.id);
        let _gone = std::fs::remove_file(owner_file(&held.path));
    }

    fn forget(&self, id: &str) {
        let mut state = self.lock();
        state.open.remove(id);
        state.count = state.count.saturating_sub(1);
    }

    /// Leaves an upload to the next request; what is in memory may be wrong after a failed write, so it
    /// is made anew from the file.
    pub(crate) fn set_back(&self, held: Held) {
        self.lock().open.remove(&held.id);
        drop(held);
    }

    /// Verifies an upload and gives its file away, on the disk unless the content is `known` and the file
    /// will not be needed; `Err` gives the digest that it has.
    pub(crate) fn finish(
        &self,
        mut held: Held,
        expected: &Digest,
        known: bool,
    ) -> io::Result<Result<Finished, Digest>> {
        let sum = std::mem::take(&mut held.hash).finalize();
        let actual = Digest::from_sha256(&sum.into());
        if actual != *expected {
            self.cancel(held);
            return Ok(Err(actual));
        }
        if let Some(file) = held.file.take()
            && !known
            && let Err(error) = file.sync_data()
        {
            // what did not reach the disk cannot be told from what did
            self.cancel(held);
            return Err(error);
        }
        let done = Finished {
            path: held.path.clone(),
            size: held.written,
        };
        self.finished(&held);
        Ok(Ok(done))
    }

    /// Removes uploads that nobody has worked on for a while; tells how many.
    pub(crate) fn expire(&self, age: Duration) -> io::Result<usize> {
        let mut removed = 0;
        for path in list(&self.folder)? {
            let Some(id) = path.file_name().and_then(|name| name.to_str()) else {
                continue;
            };
            let modified = std::fs::metadata(&path).and_then(|found| found.modified());
            let rests = modified
                .is_ok_and(|at| SystemTime::now().duration_since(at).unwrap_or_default() >= age);
            if !rests {
                continue;
            }
            let open = self.lock().open.get(id).cloned();
            match open.map(AsyncMutex::try_lock_owned) {
                None => {
                    self.forget(id);
                    remove(&path);
                }
                Some(Ok(held)) => self.cancel(held),
                // a request has it in hand
                Some(Err(_)) => continue,
            }
            removed += 1;
        }
        self.drop_orphans()?;
        Ok(removed)
    }

    /// Removes names of repositories whose upload is gone.
    fn drop_orphans(&self) -> io::Result<()> {
        for entry in std::fs::read_dir(&self.folder)? {
            let path = entry?.path();
            let is_owner = path.extension().is_some_and(|end| end == "repository");
            let old = std::fs::metadata(&path)
                .and_then(|found| found.modified())
                .is_ok_and(|at| at.elapsed().unwrap_or_default() > Duration::from_secs(60));
            if is_owner && old && !path.with_extension("").exists() {
                let _gone = std::fs::remove_file(&path);
            }
        }
        Ok(())
    }
}

/// The file of an upload that is verified.
#[derive(Debug)]
pub(crate) struct Finished {
    pub(crate) path: PathBuf,
    pub(crate) size: u64,
}

impl Session {
    /// How many bytes there are.
    pub(crate) fn written(&self) -> u64 {
        self.written
    }

    /// Appends bytes. This blocks. After a failure the file may hold more than the hash knows.
    pub(crate) fn append(&mut self, pieces: &[Bytes]) -> io::Result<()> {
        let Some(file) = &mut self.file else {
            return Err(io::ErrorKind::NotFound.into());
        };
        for piece in pieces {
            file.write_all(piece)?;
            self.hash.update(piece);
            self.written += piece.len() as u64;
        }
        Ok(())
    }
}

fn owner_file(path: &Path) -> PathBuf {
    path.with_extension("repository")
}

fn read_owner(path: &Path) -> io::Result<Option<String>> {
    let mut text = String::new();
    let file = File::open(owner_file(path))?;
    file.take(NAME_MAX).read_to_string(&mut text)?;
    Ok((!text.is_empty()).then_some(text))
}

fn rehash(file: &mut File) -> io::Result<(Sha256, u64)> {
    let mut hash = Sha256::new();
    let mut written = 0;
    let mut buffer = vec![0; REHASH_BUFFER];
    loop {
        let count = file.read(&mut buffer)?;
        let Some(piece) = buffer.get(..count).filter(|piece| !piece.is_empty()) else {
            return Ok((hash, written));
        };
        hash.update(piece);
        written += count as u64;
    }
}

fn remove(path: &Path) {
    for file in [path.to_owned(), owner_file(path)] {
        if let Err(error) = std::fs::remove_file(&file)
            && error.kind() != io::ErrorKind::NotFound
        {
            tracing::warn!(path = %file.display(), %error, "the file of an upload stays");
        }
    }
}

/// The data files in a folder.
fn list(folder: &Path) -> io::Result<Vec<PathBuf>> {
    let mut found = Vec::new();
    for entry in std::fs::read_dir(folder)? {
        let entry = entry?;
        if entry.file_name().to_str().is_some_and(ident::is_uuid) {
            found.push(entry.path());
        }
    }
    Ok(found)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn an_upload_goes_on_after_a_restart() {
        let folder = tempfile::tempdir().unwrap();
        let name = Name::parse("a/b").unwrap();
        let open = || Arc::new(Uploads::open(folder.path().join("u"), 2).unwrap());
        let uploads = open();
        let mut held = uploads.begin(&name).unwrap();
        let id = held.id.clone();
        held.append(&[Bytes::from_static(b"hello ")]).unwrap();
        drop(held);
        let uploads = open();
        assert_eq!(uploads.count(), 1);
        let other = Name::parse("a/c").unwrap();
        assert!(
            uploads.take(&id, &other).await.unwrap().is_none(),
            "another's"
        );
        let mut held = uploads.take(&id, &name).await.unwrap().unwrap();
        assert_eq!(held.written(), 6);
        held.append(&[Bytes::from_static(b"world")]).unwrap();
        let digest = storage::digest_of(b"hello world");
        let done = uploads.finish(held, &digest, false).unwrap().unwrap();
        assert_eq!(std::fs::read(&done.path).unwrap(), b"hello world");
        assert_eq!(uploads.count(), 0);
        assert!(uploads.take(&id, &name).await.unwrap().is_none());
    }

    #[test]
    fn slow_writes_make_the_next_ones_wait_elsewhere() {
        let pace = Pace::default();
        pace.took(QUICK / 2);
        assert!(pace.is_quick());
        pace.took(QUICK);
        assert!(pace.0.lock().unwrap().is_some());
        *pace.0.lock().unwrap() = Instant::now().checked_sub(SLOW_FOR);
        assert!(pace.is_quick());
    }

    #[tokio::test]
    async fn what_is_wrong_or_old_goes() {
        let folder = tempfile::tempdir().unwrap();
        let name = Name::parse("a").unwrap();
        let uploads = Arc::new(Uploads::open(folder.path().join("u"), 2).unwrap());
        let mut held = uploads.begin(&name).unwrap();
        held.append(&[Bytes::from_static(b"x")]).unwrap();
        let actual = uploads
            .finish(held, &storage::digest_of(b"y"), false)
            .unwrap();
        assert_eq!(actual.unwrap_err(), storage::digest_of(b"x"));
        let busy = uploads.begin(&name).unwrap();
        drop(uploads.begin(&name).unwrap());
        assert!(uploads.begin(&name).is_err(), "too many");
        assert_eq!(uploads.expire(Duration::ZERO).unwrap(), 1);
        drop(busy);
        assert_eq!(uploads.expire(Duration::ZERO).unwrap(), 1);
        assert_eq!(uploads.count(), 0);
        assert_eq!(
            std::fs::read_dir(folder.path().join("u")).unwrap().count(),
            0
        );
    }
}
