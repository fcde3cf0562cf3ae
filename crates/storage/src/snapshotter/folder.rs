//! Layers as folders of files.

use std::io;
use std::os::fd::OwnedFd;
use std::path::Path;
use std::sync::Arc;

use super::{Format, Snapshotter};
use crate::fsutil;
use crate::layers::FILES;
use crate::tar_stream::feed::Feed;
use crate::unpack::{self, Applied, ApplyOptions, Finish, UnpackError, complete_implicit};

/// Makes layers that are folders.
#[derive(Debug)]
pub(crate) struct Folder;

impl Snapshotter for Folder {
    fn format(&self) -> Format {
        Format::Folder
    }

    fn unpack(
        &self,
        folder: &Path,
        feed: Feed,
        options: &ApplyOptions,
    ) -> Result<(Applied, Box<dyn Finish>), UnpackError> {
        let files = folder.join(FILES);
        let made = fsutil::apart::make_apart(folder, FILES, 0o755);
        let made = made.and_then(|()| fsutil::open_dir(&files));
        let root = made.map_err(|source| UnpackError::Step {
            step: "make the folder of the layer",
            entry: files.display().to_string(),
            source,
        })?;
        unpack::unpack(unpack::folder(root), feed, options)
    }
}

/// A folder whose directories may still need what lies below.
#[derive(Debug)]
pub(crate) struct Unfinished {
    pub(crate) root: Arc<OwnedFd>,
    /// Directories that the layer has only as the parents of its entries, by their path, the
    /// root as the empty path; their owner and mode belong to the layers below.
    pub(crate) implicit: Vec<Vec<u8>>,
}

impl Finish for Unfinished {
    fn finish(self: Box<Self>, lowers: &[OwnedFd]) -> io::Result<()> {
        complete_implicit(&self.root, &self.implicit, lowers)
    }
}
