//! Layers as EROFS images: one file a layer, which the kernel mounts as it is.
//!
//! A layer's content is written while its stream comes; an image is made without a file system in
//! between, without reading anything again, and with one file at the end, whatever is in the layer.

mod acl;
mod finish;
mod format;
pub(crate) mod mount;
mod output;
pub(crate) mod probe;
mod target;
mod tree;
mod xattrs;

use std::fs::File;
use std::io;
use std::path::Path;
use std::time::SystemTime;

use rustix::fs::{CWD, Mode, OFlags};

use crate::snapshotter::{Format, Snapshotter};
use crate::tar_stream::feed::Feed;
use crate::unpack::{self, Applied, ApplyOptions, Finish, UnpackError};

/// The name of an image in its layer's folder.
pub(crate) const IMAGE: &str = "layer.erofs";

/// Makes layers that are EROFS images.
#[derive(Debug)]
pub(crate) struct Erofs;

impl Snapshotter for Erofs {
    fn format(&self) -> Format {
        Format::Erofs
    }

    fn unpack(
        &self,
        folder: &Path,
        feed: Feed,
        options: &ApplyOptions,
    ) -> Result<(Applied, Box<dyn Finish>), UnpackError> {
        let path = folder.join(IMAGE);
        let file = create(&path).map_err(|source| UnpackError::Step {
            step: "create the image",
            entry: path.display().to_string(),
            source,
        })?;
        unpack::unpack(target::Writer::new(file, options, now()), feed, options)
    }
}

/// Whether a file is an image of ours that nobody has cut off. Its content is not looked at.
pub(crate) fn is_whole(path: &Path) -> bool {
    use std::os::unix::fs::FileExt as _;
    let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::CLOEXEC;
    let Ok(file) = rustix::fs::openat(CWD, path, flags, Mode::empty()) else {
        return false;
    };
    let file = File::from(file);
    let mut block = [0; format::BLOCK_LEN];
    let found = file.metadata();
    let length = found
        .ok()
        .filter(std::fs::Metadata::is_file)
        .map(|m| m.len());
    length.is_some_and(|length| {
        file.read_exact_at(&mut block, 0).is_ok() && format::is_sealed(&block, length)
    })
}

fn create(path: &Path) -> io::Result<File> {
    let flags = OFlags::RDWR | OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    Ok(rustix::fs::openat(CWD, path, flags, Mode::from(0o600))?.into())
}

/// The time of directories that a layer does not describe.
fn now() -> (i64, u32) {
    let since = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH);
    let since = since.unwrap_or_default();
    (
        i64::try_from(since.as_secs()).unwrap_or(i64::MAX),
        since.subsec_nanos(),
    )
}
