//! How an unpacked layer lies on the disk: as a folder of files, or as one image.
//!
//! Both say the same of a layer; one suite of tests holds them to it. Layers of both kinds may lie
//! in one store, and in one stack.

mod folder;

use std::fmt;
use std::path::Path;

use serde::{Deserialize, Serialize};

use crate::tar_stream::feed::Feed;
use crate::unpack::{Applied, ApplyOptions, Finish, UnpackError};
pub(crate) use folder::{Folder, Unfinished as FolderUnfinished};

/// What an unpacked layer is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Format {
    /// A folder with its files.
    #[default]
    Folder,
    /// An EROFS image.
    Erofs,
}

/// Which kind new layers are made of.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum SnapshotterChoice {
    /// EROFS where the kernel mounts an image from a file, otherwise folders.
    #[default]
    Auto,
    /// Folders of files.
    Overlayfs,
    /// EROFS images.
    Erofs,
}

impl SnapshotterChoice {
    /// All choices.
    pub const ALL: [Self; 3] = [Self::Auto, Self::Overlayfs, Self::Erofs];

    /// The name that people give it.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Auto => "auto",
            Self::Overlayfs => "overlayfs",
            Self::Erofs => "erofs",
        }
    }
}

impl fmt::Display for SnapshotterChoice {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// Makes layers of one kind.
pub(crate) trait Snapshotter: fmt::Debug + Send + Sync {
    /// What it makes.
    fn format(&self) -> Format;

    /// Unpacks a layer in a private folder, without the layers below it. What is given must be
    /// finished when those are known.
    fn unpack(
        &self,
        folder: &Path,
        feed: Feed,
        options: &ApplyOptions,
    ) -> Result<(Applied, Box<dyn Finish>), UnpackError>;
}
