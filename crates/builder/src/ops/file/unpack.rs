//! Archives that `ADD` unpacks where they land.

use std::fs::File;
use std::os::fd::{AsFd as _, OwnedFd};

use rustix::fs::{FileType, OFlags};
use storage::files::{ExtractOptions, Ownership};

use crate::error::{Error, Result};
use crate::ops::copy::{Options, Source, Stamp, failed, make_directories, resolve_in};

/// Unpacks a file if it is an archive; tells whether it was one.
pub(super) fn unpack(
    source: &Source,
    from: &str,
    root: &OwnedFd,
    to: &str,
    options: &Options,
) -> Result<bool> {
    let step = || failed("open", from);
    let found = resolve_in(source.root.as_fd(), from, OFlags::PATH).map_err(step())?;
    let stat = rustix::fs::fstat(&found).map_err(|error| step()(error.into()))?;
    if FileType::from_raw_mode(stat.st_mode) != FileType::RegularFile {
        return Ok(false);
    }
    let open = || {
        let flags = OFlags::RDONLY | OFlags::NONBLOCK | OFlags::NOCTTY;
        resolve_in(source.root.as_fd(), from, flags)
            .map(File::from)
            .map_err(step())
    };
    if !storage::files::is_archive(open()?) {
        return Ok(false);
    }
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
    storage::files::extract(start, open()?, &extract)
        .map_err(|error| Error::system(format!("unpack {from}"), &error))?;
    Ok(true)
}
