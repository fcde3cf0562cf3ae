//! The folders of containers: `containers/<id>/{upper,work}` and what the engine puts beside.

use std::io;
use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use oci::ContainerId;

use crate::fsutil::usage::{Cancel, Usage, measure};
use crate::fsutil::{self, ensure_dir};

/// A failed step on a container's folder.
#[derive(Debug, thiserror::Error)]
#[error("{step} {}", path.display())]
pub struct ContainerDirError {
    step: &'static str,
    path: PathBuf,
    #[source]
    source: io::Error,
}

impl ContainerDirError {
    fn new(step: &'static str, path: &Path) -> impl FnOnce(io::Error) -> Self {
        move |source| Self {
            step,
            path: path.to_owned(),
            source,
        }
    }
}

/// The folder of one container.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ContainerDir {
    path: PathBuf,
}

impl ContainerDir {
    /// The folder: log and state files go here.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// overlayfs' `upperdir`.
    #[must_use]
    pub fn upper(&self) -> PathBuf {
        self.path.join("upper")
    }

    /// overlayfs' `workdir`.
    #[must_use]
    pub fn work(&self) -> PathBuf {
        self.path.join("work")
    }

    /// What the container has written, as `docker ps --size` tells it.
    ///
    /// # Errors
    ///
    /// The folder cannot be read.
    pub fn usage(&self, cancel: &Cancel) -> Result<Usage, ContainerDirError> {
        let upper = self.upper();
        let failed = || ContainerDirError::new("measure folder", &upper);
        let fd = fsutil::open_dir(&upper).map_err(failed())?;
        measure(fd, cancel).map_err(failed())
    }
}

/// The folders of all containers.
#[derive(Clone, Debug)]
pub struct ContainerStore {
    folders: Arc<(PathBuf, PathBuf)>,
}

impl ContainerStore {
    pub(crate) fn new(root: PathBuf, temporary: PathBuf) -> Self {
        Self {
            folders: Arc::new((root, temporary)),
        }
    }

    /// Where a container's folder is, or would be.
    #[must_use]
    pub fn get(&self, id: &ContainerId) -> ContainerDir {
        ContainerDir {
            path: self.folders.0.join(id.as_str()),
        }
    }

    /// Makes a container's folder.
    ///
    /// The upper directory is the root that the container sees, so it takes mode and owner of
    /// `image_root`, the topmost layer's folder; without one it is 0755 and root's.
    ///
    /// # Errors
    ///
    /// The id is taken, or the disk fails; nothing is left then.
    pub fn create(
        &self,
        id: &ContainerId,
        image_root: Option<&Path>,
    ) -> Result<ContainerDir, ContainerDirError> {
        let dir = self.get(id);
        let (_, temporary) = &*self.folders;
        let failed = || ContainerDirError::new("make container folder", &dir.path);
        let staged = fsutil::temp::TempDir::new(temporary, "container").map_err(failed())?;
        ensure_dir(&staged.path().join("work"), 0o700).map_err(failed())?;
        let upper = staged.path().join("upper");
        ensure_dir(&upper, 0o755).map_err(failed())?;
        if let Some(root) = image_root {
            copy_attributes(root, &upper)
                .map_err(ContainerDirError::new("copy the attributes of", root))?;
        }
        if dir.path.exists() {
            return Err(failed()(io::ErrorKind::AlreadyExists.into()));
        }
        staged.persist(&dir.path).map_err(failed())?;
        Ok(dir)
    }

    /// Makes again what is missing of a container's folder, empty.
    ///
    /// # Errors
    ///
    /// The disk fails.
    pub fn restore(
        &self,
        id: &ContainerId,
        image_root: Option<&Path>,
    ) -> Result<(), ContainerDirError> {
        let dir = self.get(id);
        let failed = || ContainerDirError::new("make container folder", &dir.path);
        ensure_dir(&dir.path, 0o700).map_err(failed())?;
        let upper = dir.upper();
        // the work folder of another upper directory is refused by overlayfs
        discard(&dir.work(), &self.folders.1).map_err(failed())?;
        ensure_dir(&dir.work(), 0o700).map_err(failed())?;
        if upper.symlink_metadata().is_ok_and(|found| found.is_dir()) {
            return Ok(());
        }
        discard(&upper, &self.folders.1).map_err(failed())?;
        ensure_dir(&upper, 0o755).map_err(failed())?;
        if let Some(root) = image_root {
            copy_attributes(root, &upper)
                .map_err(ContainerDirError::new("copy the attributes of", root))?;
        }
        Ok(())
    }

    /// Removes a container's folder with everything in it; nothing there is no error.
    ///
    /// It vanishes at once by a rename; a crash while it is emptied leaves the rest to
    /// [`crate::Store::open`].
    ///
    /// # Errors
    ///
    /// Something in it cannot be removed, for example because it is a mount point.
    pub fn remove(&self, id: &ContainerId) -> Result<(), ContainerDirError> {
        let dir = self.get(id);
        let failed = || ContainerDirError::new("remove container folder", &dir.path);
        discard(&dir.path, &self.folders.1).map_err(failed())
    }

    /// The ids that have a folder.
    ///
    /// # Errors
    ///
    /// The folder of folders cannot be read.
    pub fn list(&self) -> Result<Vec<ContainerId>, ContainerDirError> {
        let root = &self.folders.0;
        let failed = || ContainerDirError::new("list containers in", root);
        let mut ids = Vec::new();
        for entry in std::fs::read_dir(root).map_err(failed())? {
            let name = entry.map_err(failed())?.file_name();
            ids.extend(name.to_str().and_then(|name| name.parse().ok()));
        }
        Ok(ids)
    }
}

/// Moves a tree away in one step and removes it.
pub(crate) fn discard(path: &Path, temporary: &Path) -> io::Result<()> {
    let away = temporary.join(fsutil::temp::unique_name("removed")?);
    match std::fs::rename(path, &away) {
        Ok(()) => fsutil::remove::remove_path(&away),
        Err(error) if fsutil::is_missing(&error) => Ok(()),
        Err(error) => Err(error),
    }
}

fn copy_attributes(from: &Path, to: &Path) -> io::Result<()> {
    let found = std::fs::symlink_metadata(from)?;
    std::os::unix::fs::lchown(to, Some(found.uid()), Some(found.gid()))?;
    std::fs::set_permissions(to, std::fs::Permissions::from_mode(found.mode() & 0o7777))
}
