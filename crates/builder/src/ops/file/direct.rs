//! Copies that only add to a tree go straight into the folder of the new layer: an overlay, which has to
//! look into every layer for each name, is not mounted for them.
//!
//! That is the case where the target, in the layers below, is missing or an empty folder. The folders on
//! the way to it are made as overlayfs makes them, with what belongs to those below.

use std::ffi::CString;
use std::io;
use std::os::fd::{AsFd as _, AsRawFd as _, BorrowedFd, OwnedFd};
use std::path::{Path, PathBuf};

use rustix::fs::{AtFlags, FileType, Mode, OFlags};
use rustix::io::Errno;

use super::Work;
use crate::error::Result;
use crate::ops::copy::{self, Options, Source, failed, split};
use crate::ops::transfer::Transfer;

const DIRECTORY: OFlags = OFlags::RDONLY.union(OFlags::DIRECTORY);

/// Copies, if that only adds; tells whether it did.
pub(super) fn copy(
    work: &mut Work,
    source: &Source,
    from: &str,
    to: &str,
    options: &Options,
) -> Result<bool> {
    if work.is_written() {
        return Ok(false);
    }
    let step = || failed("copy", to);
    let is_directory = {
        let found = copy::resolve_in(source.root.as_fd(), from, OFlags::PATH);
        let stat = found
            .and_then(|fd| Ok(rustix::fs::fstat(fd)?))
            .map_err(failed("lstat", from))?;
        FileType::from_raw_mode(stat.st_mode) == FileType::Directory
    };
    if is_directory && !options.contents_only || !is_directory && !options.follow {
        return Ok(false);
    }
    let below = work.parent().open()?;
    let Some(place) = place(below.as_fd(), from, to, is_directory).map_err(step())? else {
        return Ok(false);
    };
    work.set_written();
    let upper = crate::ops::stage::open_folder(&work.upper()).map_err(step())?;
    make_way(below.as_fd(), &upper, &place.existing).map_err(step())?;
    copy::copy(source, from, &upper, &place.path, options)?;
    Ok(true)
}

/// Where a copy goes.
struct Place {
    /// The folder that is there already, without a link in it.
    existing: PathBuf,
    /// The same with what is still missing, and the mark of a folder.
    path: String,
}

/// Finds the place of a copy, if nothing is there that it would have to be merged with.
fn place(
    below: BorrowedFd<'_>,
    from: &str,
    to: &str,
    is_directory: bool,
) -> io::Result<Option<Place>> {
    let names: Vec<&str> = to
        .split('/')
        .filter(|name| !name.is_empty() && *name != ".")
        .collect();
    let mut there = names.len();
    let folder = loop {
        let path = format!("/{}", names[..there].join("/"));
        match sys::tree::open(below, Path::new(&path), DIRECTORY) {
            Ok(folder) => break folder,
            Err(error) if error.kind() == io::ErrorKind::NotFound && there > 0 => there -= 1,
            // something else than a folder is in the way
            Err(_) => return Ok(None),
        }
    };
    let rest = &names[there..];
    let next = match rest.first() {
        Some(name) => Some(*name),
        None if is_directory => None,
        None => Some(split(from).1),
    };
    let is_free = match next {
        // a link that leads nowhere is found here
        Some(name) => {
            look(&folder, name)?.is_none_or(|kind| rest.is_empty() && kind == FileType::RegularFile)
        }
        None => storage::trees::list(folder.as_fd())?.is_empty(),
    };
    if !is_free {
        return Ok(None);
    }
    let Some(existing) = real_path(below, &folder) else {
        return Ok(None);
    };
    let Some(text) = existing.to_str() else {
        return Ok(None);
    };
    let mut path = format!("/{text}/{}", rest.join("/"));
    if rest.is_empty() || to.ends_with('/') || to.ends_with("/.") {
        path.push('/');
    }
    Ok(Some(Place {
        path: copy::clean(&path),
        existing,
    }))
}

fn look(folder: &OwnedFd, name: &str) -> io::Result<Option<FileType>> {
    match rustix::fs::statat(folder, name, AtFlags::SYMLINK_NOFOLLOW) {
        Ok(stat) => Ok(Some(FileType::from_raw_mode(stat.st_mode))),
        Err(Errno::NOENT) => Ok(None),
        Err(error) => Err(error.into()),
    }
}

/// The path of a folder below its root, as the kernel tells it.
fn real_path(root: BorrowedFd<'_>, folder: &OwnedFd) -> Option<PathBuf> {
    let path = |fd: i32| std::fs::read_link(format!("/proc/self/fd/{fd}")).ok();
    let (root, folder) = (path(root.as_raw_fd())?, path(folder.as_raw_fd())?);
    Some(folder.strip_prefix(root).ok()?.to_owned())
}

/// Makes the folders on the way in the new layer, with what belongs to those below.
fn make_way(below: BorrowedFd<'_>, upper: &OwnedFd, path: &Path) -> io::Result<()> {
    let transfer = Transfer::new(false);
    let mut made = Vec::new();
    let mut above = rustix::fs::openat(upper, c".", DIRECTORY | OFlags::CLOEXEC, Mode::empty())?;
    for (count, part) in path.components().enumerate() {
        let name = CString::new(std::os::unix::ffi::OsStrExt::as_bytes(part.as_os_str()))?;
        rustix::fs::mkdirat(&above, &name, Mode::from_raw_mode(0o700))?;
        let flags = DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let own = rustix::fs::openat(&above, &name, flags, Mode::empty())?;
        let part: PathBuf = path.components().take(count + 1).collect();
        made.push((
            own.try_clone()?,
            sys::tree::open_beneath(below, &part, DIRECTORY)?,
        ));
        above = own;
    }
    // what is made in a folder changes its time, so all are made first
    for (own, below) in made {
        let stat = rustix::fs::fstat(&below)?;
        transfer.directory(below.as_fd(), &stat, own.as_fd())?;
    }
    Ok(())
}
