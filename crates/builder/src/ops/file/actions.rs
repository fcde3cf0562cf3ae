//! The single actions, each on the root of a tree, by descriptors below it.

use std::fs::File;
use std::io::{self, Write as _};
use std::os::fd::{AsFd as _, OwnedFd};
use std::path::Path;

use dockerfile::ignore::Matcher;
use rustix::fs::{AtFlags, Mode, OFlags};
use rustix::io::Errno;

use super::{Work, direct, unpack};
use crate::error::{Error, Result};
use crate::llb::pb;
use crate::ops::copy::{
    self, ModeChange, Options, Source, Stamp, clean, finish_directory, make_directories,
    resolve_in, split, wildcards,
};
use crate::snapshot::Snapshot;

const DIRECTORY: OFlags = OFlags::PATH.union(OFlags::DIRECTORY).union(OFlags::CLOEXEC);

/// A time as an action gives it: -1 is none.
fn time(timestamp: i64) -> Option<i64> {
    (timestamp != -1).then_some(timestamp)
}

fn at(what: &'static str, path: &str) -> impl FnOnce(io::Error) -> Error {
    copy::failed(what, path)
}

/// Permission bits as an action gives them.
fn permissions(mode: i32, default: u32) -> u32 {
    u32::try_from(mode).map_or(default, |mode| mode & 0o7777)
}

pub(super) fn copy(
    work: &mut Work,
    source: &Snapshot,
    action: &pb::FileActionCopy,
    owner: Option<(u32, u32)>,
) -> Result<()> {
    let (from, to) = (clean(&action.src), clean(&action.dest));
    let source = Source::open(source)?;
    let options = options(action, owner)?;
    if !action.create_dest_path {
        let (above, _) = split(&to);
        resolve_in(work.root()?.as_fd(), above, DIRECTORY).map_err(at("lstat", above))?;
    }
    let matches = if action.allow_wildcard {
        wildcards(source.root.as_fd(), &from)?
    } else {
        vec![from.clone()]
    };
    if matches.is_empty() {
        if action.allow_empty_wildcard {
            return Ok(());
        }
        return Err(Error::not_found(format!("{from} not found")));
    }
    for path in &matches {
        let unpacks = action.attempt_unpack_docker_compatibility;
        if unpacks && unpack::is_archive(&source, path)? {
            unpack::unpack(&source, path, work.root()?, &to, &options)?;
        } else if matches.len() > 1 || !direct::copy(work, &source, path, &to, &options)? {
            copy::copy(&source, path, work.root()?, &to, &options)?;
        }
    }
    required(action, &source)
}

fn options(action: &pb::FileActionCopy, owner: Option<(u32, u32)>) -> Result<Options> {
    let matcher = |patterns: &[String]| {
        if patterns.is_empty() {
            return Ok(None);
        }
        let made = Matcher::new(patterns);
        let made = made.map_err(|error| Error::invalid(format!("invalid patterns: {error}")))?;
        Ok::<_, Error>(Some(made))
    };
    let mode = if !action.mode_str.is_empty() {
        let parsed = ModeChange::parse(&action.mode_str);
        let refuse = || Error::invalid(format!("invalid mode: {}", action.mode_str));
        Some(parsed.ok_or_else(refuse)?)
    } else {
        u32::try_from(action.mode).ok().map(ModeChange::Set)
    };
    Ok(Options {
        owner,
        mode,
        time: time(action.timestamp),
        contents_only: action.dir_copy_contents,
        follow: action.follow_symlink,
        replace: action.always_replace_existing_dest_paths,
        include: matcher(&action.include_patterns)?,
        exclude: matcher(&action.exclude_patterns)?,
    })
}

/// Refuses a copy without something that had to be in it. Such a path is one of the source's root.
fn required(action: &pb::FileActionCopy, source: &Source) -> Result<()> {
    for path in &action.required_paths {
        let wanted = clean(path);
        match resolve_in(source.root.as_fd(), &wanted, OFlags::PATH) {
            Ok(_) => {}
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                return Err(Error::not_found(format!("{path:?}: not found")));
            }
            Err(error) => return Err(at("lstat", &wanted)(error)),
        }
    }
    Ok(())
}

/// The directory of a path, which must be there, and the name in it.
fn parent<'a>(root: &OwnedFd, path: &'a str) -> Result<(OwnedFd, &'a str)> {
    let (above, name) = split(path);
    if name.is_empty() {
        return Err(Error::invalid(
            "the root cannot be made, replaced or removed",
        ));
    }
    let directory = resolve_in(root.as_fd(), above, DIRECTORY).map_err(at("open", above))?;
    Ok((directory, name))
}

pub(super) fn make_file(
    work: &mut Work,
    action: &pb::FileActionMkFile,
    owner: Option<(u32, u32)>,
) -> Result<()> {
    let path = clean(&action.path);
    let step = || at("create", &path);
    let root = work.root()?;
    let (directory, name) = parent(root, &path)?;
    // a link at the name leads to the file that is meant, as long as that is inside
    let there = resolve_in(
        root.as_fd(),
        &path,
        OFlags::WRONLY | OFlags::TRUNC | OFlags::NONBLOCK,
    );
    let file = match there {
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            let flags =
                OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW | OFlags::CLOEXEC;
            let made = rustix::fs::openat(&directory, name, flags, Mode::from_raw_mode(0o600));
            made.map_err(|error| step()(error.into()))?
        }
        other => other.map_err(step())?,
    };
    let mut file = File::from(file);
    file.write_all(&action.data).map_err(step())?;
    let stamp = Stamp {
        owner: owner.unwrap_or((0, 0)),
        mode: permissions(action.mode, 0o644),
        ..Stamp::made(owner, time(action.timestamp))
    };
    finish_directory(file.as_fd(), &stamp).map_err(step())
}

pub(super) fn make_directory(
    work: &mut Work,
    action: &pb::FileActionMkDir,
    owner: Option<(u32, u32)>,
) -> Result<()> {
    let path = clean(&action.path);
    let step = || at("mkdir", &path);
    let stamp = Stamp {
        mode: permissions(action.mode, 0o755),
        ..Stamp::made(owner, time(action.timestamp))
    };
    let root = work.root()?;
    if action.make_parents {
        return make_directories(root.as_fd(), &path, &stamp)
            .map(drop)
            .map_err(step());
    }
    if path == "/" {
        return Ok(());
    }
    let (directory, name) = parent(root, &path)?;
    match rustix::fs::mkdirat(&directory, name, Mode::from_raw_mode(0o700)) {
        Ok(()) => {}
        Err(Errno::EXIST) => {
            let there = resolve_in(root.as_fd(), &path, DIRECTORY);
            return there.map(drop).map_err(step());
        }
        Err(error) => return Err(step()(error.into())),
    }
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let made = rustix::fs::openat(&directory, name, flags, Mode::empty());
    let made = made.map_err(|error| step()(error.into()))?;
    finish_directory(made.as_fd(), &stamp).map_err(step())
}

pub(super) fn make_link(
    work: &mut Work,
    action: &pb::FileActionSymlink,
    owner: Option<(u32, u32)>,
) -> Result<()> {
    let path = clean(&action.newpath);
    let step = || at("symlink", &path);
    let (directory, name) = parent(work.root()?, &path)?;
    let made = rustix::fs::symlinkat(action.oldpath.as_str(), &directory, name);
    made.map_err(|error| step()(error.into()))?;
    let stamp = Stamp::made(owner, time(action.timestamp));
    let name = std::ffi::CString::new(name).map_err(|error| step()(error.into()))?;
    copy::finish_link(directory.as_fd(), &name, &stamp).map_err(step())
}

pub(super) fn remove(work: &mut Work, action: &pb::FileActionRm) -> Result<()> {
    let path = clean(&action.path);
    let root = work.root()?;
    let matches = if action.allow_wildcard {
        wildcards(root.as_fd(), &path)?
    } else {
        vec![path.clone()]
    };
    let mut removed = false;
    for path in &matches {
        removed |= remove_one(root, path)?;
    }
    if removed || action.allow_not_found {
        return Ok(());
    }
    Err(Error::not_found(format!(
        "rm {path}: no such file or directory"
    )))
}

/// Removes what is at a path; a link at its end goes itself. Tells whether anything was there.
fn remove_one(root: &OwnedFd, path: &str) -> Result<bool> {
    let (above, name) = split(path);
    if name.is_empty() {
        return Err(Error::invalid("the root cannot be removed"));
    }
    let step = || at("rm", path);
    let flags = OFlags::RDONLY | OFlags::DIRECTORY;
    let directory = match sys::tree::open(root.as_fd(), Path::new(above), flags) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(false),
        other => other.map_err(step())?,
    };
    match rustix::fs::statat(&directory, name, AtFlags::SYMLINK_NOFOLLOW) {
        Ok(_) => {}
        Err(Errno::NOENT) => return Ok(false),
        Err(error) => return Err(step()(error.into())),
    }
    let name = std::ffi::CString::new(name).map_err(|error| step()(error.into()))?;
    storage::trees::remove_at(directory.as_fd(), &name).map_err(step())?;
    Ok(true)
}
