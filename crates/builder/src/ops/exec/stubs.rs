//! Files and folders that exist only because something was mounted on them. BuildKit takes them out
//! of the layer again, and so do we: they are nobody's.
//!
//! Only names that were not there before, in the step's own folder, are looked at, by descriptors and
//! without following a link (CVE-2024-23652): what the step put there instead is left alone.

use std::io;
use std::os::fd::{AsFd as _, AsRawFd as _, BorrowedFd};
use std::path::{Path, PathBuf};

use rustix::fs::{AtFlags, FileType, Mode, OFlags, Timespec, Timestamps};
use rustix::io::Errno;

use crate::error::{Result, Step};

/// What is to be removed after a step.
#[derive(Debug, Default)]
pub(super) struct Stubs {
    upper: PathBuf,
    /// Paths below the root of what was not there, the deepest last.
    missing: Vec<PathBuf>,
}

impl Stubs {
    /// Looks which of the places are not there yet.
    pub(super) fn look(
        root: BorrowedFd<'_>,
        upper: PathBuf,
        places: &[String],
        recursive: bool,
    ) -> Self {
        let mut missing = Vec::new();
        for place in places {
            let place = crate::ops::copy::clean(place);
            let (existing, rest) = deepest(root, &place);
            let Some(existing) = existing else { continue };
            let mut path = existing;
            for (at, name) in rest.iter().enumerate() {
                path.push(name);
                if (recursive || at + 1 == rest.len()) && !missing.contains(&path) {
                    missing.push(path.clone());
                }
            }
        }
        Self { upper, missing }
    }

    /// Removes what is still empty.
    pub(super) fn remove(&self) -> Result<()> {
        if self.missing.is_empty() {
            return Ok(());
        }
        let step = || format!("open {}", self.upper.display());
        let upper = crate::ops::stage::open_folder(&self.upper).step(step)?;
        let mut missing = self.missing.clone();
        missing.sort_by_key(|path| std::cmp::Reverse(path.components().count()));
        for path in &missing {
            match remove_stub(upper.as_fd(), path) {
                Ok(()) => {}
                Err(error) => {
                    tracing::debug!(path = %path.display(), %error, "a place of a mount stays");
                }
            }
        }
        Ok(())
    }
}

/// The deepest part of a path that is there, by its real name, and the names that are missing.
fn deepest<'a>(root: BorrowedFd<'_>, place: &'a str) -> (Option<PathBuf>, Vec<&'a str>) {
    let names: Vec<&str> = place.split('/').filter(|name| !name.is_empty()).collect();
    for there in (0..=names.len()).rev() {
        let path = names[..there].join("/");
        let flags = OFlags::PATH;
        match sys::tree::open(root, Path::new(&format!("/{path}")), flags) {
            Ok(found) => {
                let link = format!("/proc/self/fd/{}", found.as_raw_fd());
                let real = std::fs::read_link(link).ok();
                let base = std::fs::read_link(format!("/proc/self/fd/{}", root.as_raw_fd())).ok();
                let real = real
                    .zip(base)
                    .and_then(|(real, base)| real.strip_prefix(base).ok().map(Path::to_owned));
                return (real, names[there..].to_vec());
            }
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            // a file on the way, or a link that leads nowhere: nothing can be made below
            Err(_) => return (None, Vec::new()),
        }
    }
    (None, Vec::new())
}

fn remove_stub(upper: BorrowedFd<'_>, path: &Path) -> io::Result<()> {
    let (Some(above), Some(name)) = (path.parent(), path.file_name()) else {
        return Ok(());
    };
    let flags = OFlags::RDONLY | OFlags::DIRECTORY;
    let above = match sys::tree::open_beneath(upper, above, flags) {
        // the step removed it, or put something else there
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
        other => other?,
    };
    let stat = match rustix::fs::statat(&above, name, AtFlags::SYMLINK_NOFOLLOW) {
        Err(Errno::NOENT) => return Ok(()),
        other => other?,
    };
    let before = rustix::fs::fstat(&above)?;
    match FileType::from_raw_mode(stat.st_mode) {
        FileType::RegularFile if stat.st_size == 0 => {
            rustix::fs::unlinkat(&above, name, AtFlags::empty())?;
        }
        FileType::Directory => match rustix::fs::unlinkat(&above, name, AtFlags::REMOVEDIR) {
            Ok(()) => {}
            // something was written in it
            Err(Errno::NOTEMPTY) => return Ok(()),
            Err(error) => return Err(error.into()),
        },
        _ => return Ok(()),
    }
    // as if nothing had ever been there
    let times = Timestamps {
        last_access: time(before.st_atime, before.st_atime_nsec),
        last_modification: time(before.st_mtime, before.st_mtime_nsec),
    };
    let again = rustix::fs::openat(
        &above,
        c".",
        OFlags::RDONLY | OFlags::CLOEXEC,
        Mode::empty(),
    )?;
    Ok(rustix::fs::futimens(again, &times)?)
}

#[expect(
    clippy::cast_possible_wrap,
    reason = "nanoseconds are below a thousand million"
)]
fn time(tv_sec: i64, nanoseconds: u64) -> Timespec {
    Timespec {
        tv_sec,
        tv_nsec: nanoseconds as _,
    }
}
