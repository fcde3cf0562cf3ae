//! Folders of this machine of which a build wants a part: the rest is hidden, and nothing is copied.
//!
//! A layer of overlayfs on top of the folder hides what is not wanted. It is kept for the next build, which
//! as a rule wants the same part, and costs it one mount. Where next to nothing is wanted, that is copied.

use std::collections::BTreeSet;
use std::fs;
use std::io;
use std::os::unix::ffi::OsStrExt as _;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};

use rustix::fs::{AtFlags, CWD, FileType, Gid, Mode, Timestamps, Uid};
use rustix::mount::{MoveMountFlags, UnmountFlags};
use sha2::{Digest as _, Sha256};

use crate::error::{Result, Step as _};
use crate::fsutil::Index;
use crate::snapshot::Snapshot;

/// Entries that are copied rather than all others hidden.
const FEW: usize = 64;
/// Bytes of them at most.
const SMALL: u64 = 4 << 20;
/// So many hidden entries for each that is wanted, and copying the wanted ones is less work.
const MANY: usize = 16;
/// Layers that hide are kept for so many folders.
const KEPT: usize = 16;
/// How the names of folders begin that were made for one build.
const VIEW: &str = "view-";
/// How the names of layers begin that hide.
const HIDING: &str = "hiding-";

/// The layers that hide what builds did not want of their folders, the one that was used last at the end.
#[derive(Debug, Default)]
pub(super) struct Views(Mutex<Vec<Arc<Hiding>>>);

/// A layer that hides, for as long as it is kept or mounted.
#[derive(Debug)]
struct Hiding {
    folder: PathBuf,
    /// What it hides of which folder.
    key: [u8; 32],
}

impl Drop for Hiding {
    fn drop(&mut self) {
        remove(std::mem::take(&mut self.folder));
    }
}

/// A folder that was made for one build, and what is mounted on it.
struct Made {
    folder: PathBuf,
    /// What hides things in it. It goes after the mount.
    hiding: Option<Arc<Hiding>>,
}

impl Drop for Made {
    fn drop(&mut self) {
        let folder = std::mem::take(&mut self.folder);
        if self.hiding.is_some() {
            unmount(&folder);
        }
        remove(folder);
    }
}

/// Removes a folder behind the back of a build, which has no use for it any more.
fn remove(folder: PathBuf) {
    match tokio::runtime::Handle::try_current() {
        Ok(runtime) => drop(runtime.spawn_blocking(move || take_away(&folder))),
        Err(_) => take_away(&folder),
    }
}

fn unmount(folder: &Path) {
    if let Err(error) = rustix::mount::unmount(folder, UnmountFlags::DETACH) {
        tracing::warn!(%error, path = %folder.display(), "a view of a context stays");
    }
}

fn take_away(folder: &Path) {
    if let Err(error) = fs::remove_dir_all(folder)
        && error.kind() != io::ErrorKind::NotFound
    {
        tracing::warn!(%error, path = %folder.display(), "a folder of a build stays");
    }
}

/// Removes what builds of an engine that was killed have left.
pub(super) fn clean(place: &Path) {
    for entry in fs::read_dir(place).into_iter().flatten().flatten() {
        let name = entry.file_name();
        let ours = |start: &str| name.as_bytes().starts_with(start.as_bytes());
        if ours(VIEW) {
            // it is a mount unless a few files were copied to it
            let _none = rustix::mount::unmount(entry.path(), UnmountFlags::DETACH);
        }
        if ours(VIEW) || ours(HIDING) {
            take_away(&entry.path());
        }
    }
}

impl Views {
    /// Shows of a folder what is in its index, and no more of what was seen in it. What has to be made for
    /// that is made in `place`.
    pub(super) fn show(
        &self,
        place: &Path,
        path: &Path,
        index: &Index,
        seen: &[String],
        id: String,
    ) -> Result<Snapshot> {
        let folder = place.join(format!("{VIEW}{}", crate::id::new()));
        fs::create_dir_all(&folder).step(|| "make a folder for a context")?;
        let mut made = Made {
            folder: folder.clone(),
            hiding: None,
        };
        let (few, hidden) = (index.entries.len(), seen.len());
        // a view of overlayfs ends where another file system is mounted
        let is_less = index.size() <= SMALL && (few <= FEW || hidden / MANY > few);
        let copied = is_less || index.spans_mounts;
        if !copied {
            let hidden = hidden_of(index, seen);
            let hiding = self
                .hiding(place, path, &hidden)
                .step(|| format!("hide what is ignored of context {}", path.display()))?;
            if mount(&hiding.folder, path, &folder) {
                made.hiding = Some(hiding);
                let device = fs::metadata(path).step(|| format!("look at {}", path.display()))?;
                let device = device.dev();
                return Ok(Snapshot::of_view(id, folder, device, Arc::new(made)));
            }
        }
        pick(path, &folder, index).step(|| format!("read context {}", path.display()))?;
        Ok(Snapshot::of_folder(id, folder, Arc::new(made)))
    }

    /// The layer that hides this of a folder: one that is there, or a new one.
    fn hiding(&self, place: &Path, path: &Path, hidden: &Hidden<'_>) -> io::Result<Arc<Hiding>> {
        let key = hidden.key(path)?;
        if let Some(known) = self.find(&key) {
            return Ok(known);
        }
        let hiding = Hiding {
            folder: place.join(format!("{HIDING}{}", crate::id::new())),
            key,
        };
        fs::create_dir(&hiding.folder)?;
        hidden.hide(path, &hiding.folder)?;
        let hiding = Arc::new(hiding);
        let mut kept = self.kept();
        kept.push(Arc::clone(&hiding));
        let gone = (kept.len() > KEPT).then(|| kept.remove(0));
        drop(kept);
        drop(gone);
        Ok(hiding)
    }

    fn find(&self, key: &[u8; 32]) -> Option<Arc<Hiding>> {
        let mut kept = self.kept();
        let at = kept.iter().position(|hiding| hiding.key == *key)?;
        let found = kept.remove(at);
        kept.push(Arc::clone(&found));
        Some(found)
    }

    fn kept(&self) -> std::sync::MutexGuard<'_, Vec<Arc<Hiding>>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Mounts a folder below the layer that hides; `false` where the kernel cannot.
fn mount(hiding: &Path, path: &Path, target: &Path) -> bool {
    let view = match storage::overlay::mount_view(&[hiding.to_owned(), path.to_owned()]) {
        Ok(view) => view,
        Err(error) => {
            let error: &dyn std::error::Error = &error;
            tracing::debug!(error, "a context is copied, for it cannot be shown in part");
            return false;
        }
    };
    let flags = MoveMountFlags::MOVE_MOUNT_F_EMPTY_PATH;
    let moved = rustix::mount::move_mount(&view, "", CWD, target, flags);
    if let Err(error) = moved {
        // older kernels give a view that is mounted elsewhere
        tracing::debug!(%error, "a context is copied, for its view cannot be mounted");
    }
    moved.is_ok()
}

/// What is not wanted of a folder.
struct Hidden<'a> {
    /// Without what lies in a hidden folder.
    paths: Vec<&'a str>,
    /// The folders that they are in, below the one that is shown.
    folders: BTreeSet<&'a str>,
}

fn hidden_of<'a>(index: &'a Index, seen: &'a [String]) -> Hidden<'a> {
    let wanted: BTreeSet<&str> = index.entries.iter().map(|e| e.path.as_str()).collect();
    let mut hidden = Hidden {
        paths: Vec::new(),
        folders: BTreeSet::new(),
    };
    for path in seen.iter().filter(|path| !wanted.contains(path.as_str())) {
        let mut folder = above(path);
        if !folder.is_empty() && !wanted.contains(folder) {
            continue;
        }
        hidden.paths.push(path);
        while !folder.is_empty() && hidden.folders.insert(folder) {
            folder = above(folder);
        }
    }
    hidden
}

fn above(path: &str) -> &str {
    path.rsplit_once('/').map_or("", |(above, _)| above)
}

impl Hidden<'_> {
    /// Tells whether a layer that is there hides the same, and shows the folders as they are.
    fn key(&self, path: &Path) -> io::Result<[u8; 32]> {
        let mut sum = Sha256::new();
        let mut add = |bytes: &[u8]| {
            sum.update((bytes.len() as u64).to_le_bytes());
            sum.update(bytes);
        };
        add(path.as_os_str().as_bytes());
        for hidden in &self.paths {
            add(hidden.as_bytes());
        }
        for folder in self.folders.iter().chain([&""]) {
            let looks = fs::symlink_metadata(path.join(folder))?;
            let numbers = [looks.mode(), looks.uid(), looks.gid()];
            add(folder.as_bytes());
            numbers.iter().for_each(|number| add(&number.to_le_bytes()));
            add(&looks.mtime().to_le_bytes());
            add(&looks.mtime_nsec().to_le_bytes());
        }
        Ok(sum.finalize().into())
    }

    /// Fills a layer of overlayfs that hides all that is not wanted: character devices 0/0
    /// (Documentation/filesystems/overlayfs.rst, "whiteouts and opaque directories").
    fn hide(&self, from: &Path, to: &Path) -> io::Result<()> {
        for folder in &self.folders {
            fs::create_dir_all(to.join(folder))?;
        }
        for path in &self.paths {
            let kind = FileType::CharacterDevice;
            rustix::fs::mknodat(CWD, to.join(path), kind, Mode::empty(), 0)?;
        }
        // a merged folder shows what its topmost layer says of it
        for folder in self.folders.iter().rev() {
            like(&from.join(folder), &to.join(folder))?;
        }
        like(from, to)
    }
}

/// Copies what is wanted.
fn pick(from: &Path, to: &Path, index: &Index) -> io::Result<()> {
    for entry in &index.entries {
        let (source, target) = (from.join(&entry.path), to.join(&entry.path));
        match entry.kind() {
            FileType::Directory => fs::create_dir(&target)?,
            FileType::RegularFile => drop(fs::copy(&source, &target)?),
            FileType::Symlink => std::os::unix::fs::symlink(fs::read_link(&source)?, &target)?,
            // what is neither is not part of a context, as clients that send theirs leave it out
            _ => continue,
        }
        like(&source, &target)?;
    }
    for entry in index.entries.iter().rev() {
        if entry.kind() == FileType::Directory {
            like(&from.join(&entry.path), &to.join(&entry.path))?;
        }
    }
    like(from, to)
}

/// Gives a file the owner, mode and time of another.
fn like(source: &Path, target: &Path) -> io::Result<()> {
    let stat = rustix::fs::statat(CWD, source, AtFlags::SYMLINK_NOFOLLOW)?;
    let (uid, gid) = (Uid::from_raw(stat.st_uid), Gid::from_raw(stat.st_gid));
    rustix::fs::chownat(CWD, target, Some(uid), Some(gid), AtFlags::SYMLINK_NOFOLLOW)?;
    if FileType::from_raw_mode(stat.st_mode) != FileType::Symlink {
        rustix::fs::chmodat(
            CWD,
            target,
            Mode::from_raw_mode(stat.st_mode),
            AtFlags::empty(),
        )?;
    }
    let modified = rustix::fs::Timespec {
        tv_sec: stat.st_mtime,
        tv_nsec: i64::try_from(stat.st_mtime_nsec).unwrap_or(0),
    };
    let times = Timestamps {
        last_access: modified,
        last_modification: modified,
    };
    rustix::fs::utimensat(CWD, target, &times, AtFlags::SYMLINK_NOFOLLOW)?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::os::fd::AsFd as _;
    use std::time::{Duration, Instant};

    use super::*;
    use crate::content_hash::ContentHashes;
    use crate::fsutil::{Look, Wanted, walk};

    /// Everything in a folder but what lies in `hidden`, or is one of the files `x`.
    fn shown(views: &Views, place: &Path, path: &Path, id: &str) -> Snapshot {
        let folder = fs::File::open(path).unwrap();
        let mut seen = Vec::new();
        let look = Look {
            identity: true,
            ..Look::default()
        };
        let index = walk(folder.as_fd(), look, |entry, _| {
            seen.push(entry.to_owned());
            match entry == "hidden" || entry.ends_with("/x") {
                true => Wanted::No,
                false => Wanted::Yes,
            }
        });
        let (index, id) = (index.unwrap(), id.to_owned());
        views.show(place, path, &index, &seen, id).unwrap()
    }

    fn fill(path: &Path, files: usize) {
        for folder in ["a", "a/b", "hidden"] {
            fs::create_dir_all(path.join(folder)).unwrap();
            fs::write(path.join(folder).join("x"), "not wanted").unwrap();
            for number in 0..files {
                fs::write(path.join(format!("{folder}/{number}")), "wanted").unwrap();
            }
        }
        std::os::unix::fs::symlink("a/0", path.join("link")).unwrap();
    }

    fn names(folder: &Path) -> Vec<String> {
        let entries = fs::read_dir(folder).unwrap().map(Result::unwrap);
        let names = entries.map(|entry| entry.file_name().into_string().unwrap());
        let mut names: Vec<String> = names.collect();
        names.sort();
        names
    }

    fn check(snapshot: &Snapshot, files: usize) {
        let folder = snapshot.folder().unwrap();
        assert_eq!(names(folder), ["a", "link"]);
        // with the folder `b`, and without `x`
        assert_eq!(names(&folder.join("a")).len(), files + 1);
        assert_eq!(names(&folder.join("a/b")).len(), files);
        let text = fs::read_to_string(folder.join("link")).unwrap();
        assert_eq!(text, "wanted");
    }

    #[test]
    fn few_files_are_copied() {
        let scratch = tempfile::tempdir_in("/var/tmp").unwrap();
        let (place, path) = (scratch.path().join("place"), scratch.path().join("path"));
        fill(&path, 5);
        let views = Views::default();
        let snapshot = shown(&views, &place, &path, "1");
        check(&snapshot, 5);
        assert_eq!(snapshot.shows(), None);
        drop(snapshot);
        assert!(names(&place).is_empty());
    }

    #[test]
    fn what_hides_is_made_once() {
        let scratch = tempfile::tempdir_in("/var/tmp").unwrap();
        let (place, path) = (scratch.path().join("place"), scratch.path().join("path"));
        fill(&path, 100);
        let views = Views::default();
        let first = shown(&views, &place, &path, "1");
        check(&first, 100);
        let hiding = |place: &Path| -> Vec<String> {
            let all = names(place).into_iter();
            all.filter(|name| name.starts_with(HIDING)).collect()
        };
        let made = hiding(&place);
        assert_eq!(made.len(), 1);
        fs::write(path.join("a/7"), "changed").unwrap();
        let second = shown(&views, &place, &path, "2");
        check(&second, 100);
        let text = fs::read_to_string(second.folder().unwrap().join("a/7"));
        assert_eq!(text.unwrap(), "changed");
        assert_eq!(hiding(&place), made);
        // another file to hide is another layer
        fs::write(path.join("a/b/c"), "").unwrap();
        fs::rename(path.join("a/b/c"), path.join("hidden/c")).unwrap();
        fs::create_dir(path.join("a/c")).unwrap();
        fs::write(path.join("a/c/x"), "").unwrap();
        let third = shown(&views, &place, &path, "3");
        assert!(names(&third.folder().unwrap().join("a/c")).is_empty());
        assert_eq!(hiding(&place).len(), 2);
        drop((first, second, third));
        assert_eq!(names(&place), hiding(&place));
        drop(views);
        assert!(names(&place).is_empty());
    }

    #[test]
    fn what_was_hashed_in_one_view_is_known_in_the_next() {
        let scratch = tempfile::tempdir_in("/var/tmp").unwrap();
        let (place, path) = (scratch.path().join("place"), scratch.path().join("path"));
        fill(&path, 50);
        let (views, hashes) = (Views::default(), ContentHashes::default());
        let files = 2 * 50;
        let deadline = Instant::now() + Duration::from_secs(60);
        let mut round = 0;
        // files that have just changed are not trusted yet
        while hashes.files() < files {
            assert!(Instant::now() < deadline, "{} files", hashes.files());
            std::thread::sleep(Duration::from_millis(200));
            round += 1;
            let snapshot = shown(&views, &place, &path, &round.to_string());
            assert!(snapshot.shows().is_some());
            hashes.digest(&snapshot, &[]).unwrap();
        }
        let first = shown(&views, &place, &path, "one");
        let second = shown(&views, &place, &path, "another");
        let (one, other) = (hashes.digest(&first, &[]), hashes.digest(&second, &[]));
        assert_eq!(one.unwrap(), other.unwrap());
        assert_eq!(
            hashes.files(),
            files,
            "a view's files have numbers of their own"
        );
    }

    #[test]
    #[expect(
        clippy::mem_forget,
        reason = "an engine that is killed lets go of nothing"
    )]
    fn what_a_dead_engine_left_is_removed() {
        let scratch = tempfile::tempdir_in("/var/tmp").unwrap();
        let (place, path) = (scratch.path().join("place"), scratch.path().join("path"));
        fill(&path, 100);
        let views = Views::default();
        std::mem::forget(shown(&views, &place, &path, "1"));
        std::mem::forget(views);
        fs::create_dir(place.join("kept")).unwrap();
        assert_eq!(names(&place).len(), 3);
        clean(&place);
        assert_eq!(names(&place), ["kept"]);
    }
}
