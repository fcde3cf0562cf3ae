//! What the writable layer of a container changes: as a list, and as a layer's tar.
//!
//! The upper directory of overlayfs has whatever was written, a character device 0/0 for a name
//! that was removed, and a mark on a directory that hides what lies below it
//! (Documentation/filesystems/overlayfs.rst, "whiteouts and opaque directories"). In a layer the
//! same is said by names that begin with `.wh.` (OCI image specification, layer.md). Both are
//! read in one walk in the order of names, so that the same tree gives the same layer.

mod layer;
mod list;
mod walk;

use std::collections::HashSet;
use std::io::{self, Write};
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};

use crate::files::TreeError;
use crate::fsutil;
use crate::overlay::{self, ViewError};
use crate::tar_stream::shown;

/// What became of a path.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ChangeKind {
    /// It was there before and is another now, or something in it is.
    Modified,
    /// It is new.
    Added,
    /// It is gone.
    Deleted,
}

/// A path that is not as it is below.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Change {
    /// The path from the root, without a slash in front.
    pub path: Vec<u8>,
    /// What became of it.
    pub kind: ChangeKind,
}

/// Two trees that cannot be compared.
#[derive(Debug, thiserror::Error)]
pub enum DiffError {
    /// A file cannot be read, or the layer not written.
    #[error(transparent)]
    Tree(#[from] TreeError),
    /// A directory cannot be read.
    #[error("compare {path:?}")]
    Compare {
        /// The path.
        path: String,
        /// Why it failed.
        #[source]
        source: io::Error,
    },
    /// A name that means something else in a layer.
    #[error("{path:?} cannot be part of a layer: names that begin with .wh. mean removed files")]
    Reserved {
        /// The path.
        path: String,
    },
}

impl DiffError {
    fn compare<E: Into<io::Error>>(path: &[u8]) -> impl FnOnce(E) -> Self {
        move |source| Self::Compare {
            path: shown(path),
            source: source.into(),
        }
    }
}

/// The two trees of a comparison.
#[derive(Debug)]
pub struct Trees {
    /// The upper directory itself.
    pub upper: OwnedFd,
    /// The merged view of all below it.
    pub lower: OwnedFd,
    /// Paths of empty files and directories that nobody but the engine has made, to mount on them.
    pub places: HashSet<Vec<u8>>,
}

impl Trees {
    /// The trees of a layer that was made here: its folder, and the view of those below it, topmost
    /// first; none for a layer that lies on nothing. The same folders give the same layer.
    ///
    /// # Errors
    ///
    /// A folder that cannot be opened, or a kernel without overlayfs.
    pub fn over(upper: &Path, lowers: &[PathBuf]) -> Result<Self, ViewError> {
        let lower = match lowers {
            [] => overlay::empty_view()?,
            lowers => overlay::mount_view(lowers)?,
        };
        Ok(Self {
            upper: fsutil::open_dir(upper).map_err(ViewError::new("open layer", upper))?,
            lower,
            places: HashSet::new(),
        })
    }
}

/// Lists what the upper tree changes, a directory in front of what is in it, names in order.
///
/// # Errors
///
/// A directory that cannot be read.
pub fn changes(trees: Trees) -> Result<Vec<Change>, DiffError> {
    let mut list = list::List::default();
    walk::walk(trees, &mut list)?;
    Ok(list.changes)
}

/// Writes what the upper tree changes as a layer.
///
/// # Errors
///
/// A file that cannot be read or be part of a layer, or an output that takes no more.
pub fn write_layer(trees: Trees, output: impl Write) -> Result<(), DiffError> {
    let mut layer = layer::Layer::new(output);
    walk::walk(trees, &mut layer)?;
    Ok(layer.finish()?)
}

/// The same, in which files that are younger than a second of Unix time are of that second.
///
/// # Errors
///
/// As [`write_layer`].
pub fn write_layer_until(trees: Trees, latest: i64, output: impl Write) -> Result<(), DiffError> {
    let mut layer = layer::Layer::new(output);
    layer.clamp(latest);
    walk::walk(trees, &mut layer)?;
    Ok(layer.finish()?)
}
