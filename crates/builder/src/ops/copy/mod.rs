//! Copies of files and trees from one file system to another, by descriptors.
//!
//! Both trees were written by somebody else. Paths are resolved as if the tree's root were `/`, names
//! below are opened one by one and never followed, so that nothing is read or written outside
//! (CVE-2024-23652 and its like). The rules of what goes where are BuildKit's (`fsutil/copy`).

mod attributes;
mod path;
mod tree;

use std::io;
use std::os::fd::{AsFd as _, OwnedFd};
use std::path::Path;

use dockerfile::ignore::Matcher;

pub(super) use attributes::{ModeChange, Stamp, finish_directory};
pub(crate) use path::{clean, split, wildcards};
pub(super) use path::{make_directories, resolve_in};
pub(super) use tree::Single;

use crate::error::{Error, Result, Step};
use crate::snapshot::Snapshot;

/// Where a copy reads.
#[derive(Debug)]
pub(super) struct Source {
    /// The root of its tree.
    pub(super) root: OwnedFd,
    /// Whether all of it counts as root's: files of a client's folder have owners of that machine.
    pub(super) of_client: bool,
}

impl Source {
    /// Opens a snapshot for reading. It blocks.
    pub(super) fn open(snapshot: &Snapshot) -> Result<Self> {
        Ok(Self {
            root: snapshot.open()?,
            of_client: snapshot.folder().is_some(),
        })
    }
}

/// How a copy is made.
#[derive(Debug, Default)]
pub(super) struct Options {
    /// The owner of all that is made; the source's where absent.
    pub(super) owner: Option<(u32, u32)>,
    /// What is done to modes.
    pub(super) mode: Option<ModeChange>,
    /// The time of all that is made, in nanoseconds; the source's where absent.
    pub(super) time: Option<i64>,
    /// Whether of a folder only what is in it is copied.
    pub(super) contents_only: bool,
    /// Whether a link as the source is followed.
    pub(super) follow: bool,
    /// Whether something of another kind at the target is replaced.
    pub(super) replace: bool,
    /// What of the source's tree is copied; all where absent.
    pub(super) include: Option<Matcher>,
    /// What of it is not.
    pub(super) exclude: Option<Matcher>,
}

/// Copies what is at a path, without wildcards, to a path.
pub(super) fn copy(
    source: &Source,
    from: &str,
    target: &OwnedFd,
    to: &str,
    options: &Options,
) -> Result<()> {
    let found = path::find_source(source, from, options.follow)?;
    let place = path::place_of(&found, from, target, to, options)?;
    tree::copy(source, &found, &place, options)
}

/// Gives a link its owner and times.
pub(super) fn finish_link(
    directory: std::os::fd::BorrowedFd<'_>,
    name: &std::ffi::CStr,
    stamp: &Stamp,
) -> io::Result<()> {
    attributes::finish_name(directory, name, stamp, true)
}

/// Copies a whole snapshot into an empty folder of ours.
pub(super) fn copy_all(snapshot: &Snapshot, folder: &Path) -> Result<()> {
    let source = Source::open(snapshot)?;
    let root = super::stage::open_folder(folder).step(|| format!("open {}", folder.display()))?;
    let options = Options {
        contents_only: true,
        ..Options::default()
    };
    copy(&source, "/", &root, "/", &options)?;
    // the root's own attributes go along, for it is what a step sees
    let stat = rustix::fs::fstat(source.root.as_fd()).step(|| "look at the root of a snapshot")?;
    let owner = if source.of_client {
        (0, 0)
    } else {
        (stat.st_uid, stat.st_gid)
    };
    let stamp = Stamp {
        owner,
        mode: stat.st_mode & 0o7777,
        times: attributes::times_of(&stat),
    };
    let open = rustix::fs::openat(
        &root,
        c".",
        rustix::fs::OFlags::RDONLY | rustix::fs::OFlags::DIRECTORY | rustix::fs::OFlags::CLOEXEC,
        rustix::fs::Mode::empty(),
    );
    let open = open.step(|| format!("open {}", folder.display()))?;
    finish_directory(open.as_fd(), &stamp).step(|| format!("set the owner of {}", folder.display()))
}

/// An error at a path, in the words that clients know.
pub(super) fn failed(what: &'static str, path: &str) -> impl FnOnce(io::Error) -> Error {
    move |source| {
        let kind = match source.kind() {
            io::ErrorKind::NotFound => crate::Kind::NotFound,
            _ => crate::Kind::System,
        };
        let text = Error::system(format!("{what} {path}"), &source);
        Error::new(kind, text.message())
    }
}
