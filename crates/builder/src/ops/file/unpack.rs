//! Archives that `ADD` unpacks where they land.

use std::fs::File;
use std::os::fd::{AsFd as _, OwnedFd};

use rustix::fs::{FileType, OFlags};
use storage::files::{ExtractOptions, Ownership};

use crate::error::{Error, Result};
use crate::ops::copy::{Options, Source, Stamp, failed, make_directories, resolve_in};

/// Whether a file is an archive.
pub(super) fn is_archive(source: &Source, from: &str) -> Result<bool> {
    let step = || failed("open", from);
    let found = resolve_in(source.root.as_fd(), from, OFlags::PATH).map_err(step())?;
    let stat = rustix::fs::fstat(&found).map_err(|error| step()(error.into()))?;
    let is_file = FileType::from_raw_mode(stat.st_mode) == FileType::RegularFile;
    Ok(is_file && storage::files::is_archive(open(source, from)?))
}

fn open(source: &Source, from: &str) -> Result<File> {
    let flags = OFlags::RDONLY | OFlags::NONBLOCK | OFlags::NOCTTY;
    let opened = resolve_in(source.root.as_fd(), from, flags);
    opened.map(File::from).map_err(failed("open", from))
}

/// Unpacks an archive into a folder, which is made when it is not there.
pub(super) fn unpack(
    source: &Source,
    from: &str,
    root: &OwnedFd,
    to: &str,
    options: &Options,
) -> Result<()> {
    let stamp = Stamp::made(options.owner, options.time);
    let made = make_directories(root.as_fd(), to, &stamp).map_err(failed("create", to))?;
    drop(made);
    let start = resolve_in(root.as_fd(), to, OFlags::RDONLY | OFlags::DIRECTORY);
    let start = start.map_err(failed("open", to))?;
    let ownership = match options.owner {
        Some((uid, gid)) => Ownership::Fixed { uid, gid },
        None => Ownership::Archive,
    };
    let extract = ExtractOptions {
        ownership,
        replace_kind: true,
        rename: None,
        owners: storage::files::Owners::default(),
    };
    storage::files::extract(start, open(source, from)?, &extract)
        .map_err(|error| Error::system(format!("unpack {from}"), &error))
}
