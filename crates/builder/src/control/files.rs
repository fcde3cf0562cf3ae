//! Files of results, for front ends.

use std::fs::File;
use std::io::{Read, Seek, SeekFrom};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::Arc;

use bollard_buildkit_proto::fsutil::types::Stat;
use bollard_buildkit_proto::moby::buildkit::v1::frontend::{
    ReadDirRequest, ReadDirResponse, ReadFileRequest, ReadFileResponse, StatFileRequest,
    StatFileResponse,
};
use rustix::fs::{AtFlags, FileType, OFlags};
use rustix::io::Errno;

use crate::error::{Error, Result};
use crate::fsutil::to_go;
use crate::job::Ref;
use crate::ops::exec::container::Container;
use crate::snapshot::Snapshot;
use dockerfile::ignore::path_match;

/// Bytes of a file that are read at once; more does not go into a message.
const MAX_FILE: u64 = 15 << 20;
/// Entries of a directory that are listed.
const MAX_ENTRIES: usize = 100_000;

/// Whose files are meant.
#[derive(Debug)]
pub(super) enum Whose {
    /// Those of a result; absent for the file system that has nothing in it.
    Result(Option<Ref>),
    /// Those of a mount of a container.
    Container(Arc<Container>, i32),
}

/// Opens the root, and looks into it on a thread that may wait.
async fn within<T: Send + 'static>(
    whose: Whose,
    work: impl FnOnce(BorrowedFd<'_>) -> Result<T> + Send + 'static,
) -> Result<T> {
    let snapshot = match &whose {
        Whose::Result(Some(found)) => found.snapshot().await?,
        Whose::Result(None) | Whose::Container(..) => Snapshot::scratch(),
    };
    snapshot.ready().await?;
    let done = tokio::task::spawn_blocking(move || {
        let root = match whose {
            Whose::Result(_) => snapshot.open()?,
            Whose::Container(container, mount) => container.files(mount)?,
        };
        work(root.as_fd())
    });
    done.await
        .unwrap_or_else(|error| Err(Error::internal(error.to_string())))
}

/// Opens a path as processes of the result would find it.
fn open(root: BorrowedFd<'_>, path: &str, flags: OFlags, verb: &str) -> Result<OwnedFd> {
    let inside = std::path::Path::new(path);
    let inside = inside.strip_prefix("/").unwrap_or(inside);
    // openat2(2) takes neither an empty path nor O_NONBLOCK beside O_PATH
    let inside = match inside.as_os_str().is_empty() {
        true => std::path::Path::new("."),
        false => inside,
    };
    let flags = match flags.contains(OFlags::PATH) {
        true => flags,
        false => flags | OFlags::NONBLOCK,
    };
    let opened = sys::tree::open(root, inside, flags);
    opened.map_err(|error| refused(verb, path, &error))
}

/// An error in Go's words.
fn refused(verb: &str, path: &str, error: &std::io::Error) -> Error {
    let why = Errno::from_io_error(error).map_or_else(
        || error.to_string(),
        |errno| match errno {
            Errno::NOENT => "no such file or directory".to_owned(),
            Errno::NOTDIR => "not a directory".to_owned(),
            Errno::LOOP => "too many levels of symbolic links".to_owned(),
            other => other.to_string(),
        },
    );
    let message = format!("{verb} {path}: {why}");
    match Errno::from_io_error(error) {
        Some(Errno::NOENT) => Error::not_found(message),
        _ => Error::invalid(message),
    }
}

/// Reads a file, or a part of it.
pub(super) async fn read(whose: Whose, request: ReadFileRequest) -> Result<ReadFileResponse> {
    within(whose, move |root| {
        let path = &request.file_path;
        let failed = |error: std::io::Error| refused("read", path, &error);
        let mut file = File::from(open(root, path, OFlags::RDONLY, "open")?);
        let metadata = file.metadata().map_err(failed)?;
        if metadata.is_dir() {
            return Err(Error::invalid(format!("read {path}: is a directory")));
        }
        if !metadata.is_file() {
            return Err(Error::invalid(format!("read {path}: not a regular file")));
        }
        let mut length = MAX_FILE + 1;
        if let Some(range) = request.range {
            let offset = u64::try_from(range.offset).unwrap_or(0);
            file.seek(SeekFrom::Start(offset)).map_err(failed)?;
            if let Ok(wanted @ 1..) = u64::try_from(range.length) {
                length = length.min(wanted);
            }
        }
        let mut data = Vec::new();
        file.take(length).read_to_end(&mut data).map_err(failed)?;
        if data.len() as u64 > MAX_FILE {
            return Err(Error::invalid(format!(
                "read {path}: longer than {MAX_FILE} bytes"
            )));
        }
        Ok(ReadFileResponse { data })
    })
    .await
}

/// Lists a directory.
pub(super) async fn list(whose: Whose, request: ReadDirRequest) -> Result<ReadDirResponse> {
    within(whose, move |root| {
        let path = &request.dir_path;
        let flags = OFlags::RDONLY | OFlags::DIRECTORY;
        let folder = open(root, path, flags, "open")?;
        let names = storage::trees::list(folder.as_fd());
        let mut names = names.map_err(|error| refused("read", path, &error))?;
        names.sort_unstable_by(|left, right| left.0.cmp(&right.0));
        let mut entries = Vec::new();
        for (name, _) in names {
            let name = name.to_string_lossy().into_owned();
            let pattern = &request.include_pattern;
            if !pattern.is_empty() && !path_match(pattern, &name).unwrap_or(false) {
                continue;
            }
            if entries.len() >= MAX_ENTRIES {
                return Err(Error::invalid(format!("read {path}: too many entries")));
            }
            entries.push(describe(folder.as_fd(), &name, path)?);
        }
        Ok(ReadDirResponse { entries })
    })
    .await
}

/// Describes a file; a symbolic link is described itself.
pub(super) async fn stat(whose: Whose, request: StatFileRequest) -> Result<StatFileResponse> {
    within(whose, move |root| {
        let path = request.path.trim_end_matches('/');
        let (above, name) = path.rsplit_once('/').unwrap_or(("", path));
        let flags = OFlags::PATH | OFlags::DIRECTORY;
        let stat = if matches!(name, "" | "." | "..") {
            let folder = open(root, path, flags, "lstat")?;
            describe(folder.as_fd(), ".", path)
        } else {
            let folder = open(root, above, flags, "lstat")?;
            describe(folder.as_fd(), name, path)
        };
        stat.map(|stat| StatFileResponse { stat: Some(stat) })
    })
    .await
}

fn describe(folder: BorrowedFd<'_>, name: &str, path: &str) -> Result<Stat> {
    let failed = |error: Errno| refused("lstat", path, &error.into());
    let stat = rustix::fs::statat(folder, name, AtFlags::SYMLINK_NOFOLLOW).map_err(failed)?;
    let kind = FileType::from_raw_mode(stat.st_mode);
    let mut linkname = String::new();
    if kind == FileType::Symlink {
        let text = rustix::fs::readlinkat(folder, name, Vec::new()).map_err(failed)?;
        linkname = text.to_string_lossy().into_owned();
    }
    let nanoseconds = i64::try_from(stat.st_mtime_nsec).unwrap_or(0);
    let device = stat.st_rdev;
    Ok(Stat {
        path: name.to_owned(),
        mode: to_go(stat.st_mode),
        uid: stat.st_uid,
        gid: stat.st_gid,
        size: if kind == FileType::Directory {
            0
        } else {
            stat.st_size
        },
        mod_time: stat
            .st_mtime
            .saturating_mul(1_000_000_000)
            .saturating_add(nanoseconds),
        linkname,
        devmajor: rustix::fs::major(device).into(),
        devminor: rustix::fs::minor(device).into(),
        ..Stat::default()
    })
}
