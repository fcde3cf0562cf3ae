//! The merged view of an image's layers as a directory fd, mounted at no path.

use std::io;
use std::os::fd::{AsRawFd as _, OwnedFd};
use std::path::{Path, PathBuf};

use rustix::fs::CWD;
use rustix::io::Errno;
use rustix::mount::{
    FsMountFlags, FsOpenFlags, MountAttrFlags, MountFlags, MountPropagationFlags, OpenTreeFlags,
    fsconfig_create, fsconfig_set_string, fsmount, fsopen, mount, mount_change, open_tree,
};

use rustix::thread::UnshareFlags;

use crate::fsutil;

/// A failed step on a view.
#[derive(Debug, thiserror::Error)]
#[error("{step} {}", path.display())]
pub struct ViewError {
    step: &'static str,
    path: PathBuf,
    #[source]
    source: io::Error,
}

impl ViewError {
    pub(crate) fn new<E: Into<io::Error>>(
        step: &'static str,
        path: &Path,
    ) -> impl FnOnce(E) -> Self {
        move |source| Self {
            step,
            path: path.to_owned(),
            source: source.into(),
        }
    }

    pub(crate) fn source_error(&self) -> &io::Error {
        &self.source
    }
}

/// Opens the merged, read-only view of layers, topmost first. It lives as long as the fd and is
/// visible in no mount table.
///
/// One layer needs no mount: its folder itself is opened, in which whiteouts are seen as
/// character devices 0/0.
///
/// # Errors
///
/// No layer is given, one is not there, or the kernel has no overlayfs.
pub fn mount_view(lower: &[PathBuf]) -> Result<OwnedFd, ViewError> {
    let Some(top) = lower.first() else {
        let none = io::Error::from(io::ErrorKind::InvalidInput);
        return Err(ViewError::new("view no layers at", Path::new(""))(none));
    };
    if lower.len() == 1 {
        return fsutil::open_dir(top).map_err(ViewError::new("open layer", top));
    }
    match mount_by_fd(lower) {
        // `lowerdir+` came with Linux 6.7; Debian 12 has 6.1.
        Err(error) if error.source.raw_os_error() == Some(Errno::INVAL.raw_os_error()) => {
            mount_in_private(lower)
        }
        other => other,
    }
}

/// Opens an empty, read-only root: what lies below the first layer of an image that stands on nothing.
///
/// # Errors
///
/// The kernel gives no file system in memory.
pub fn empty_view() -> Result<OwnedFd, ViewError> {
    let nothing = Path::new("");
    let context = fsopen("tmpfs", FsOpenFlags::FSOPEN_CLOEXEC)
        .map_err(ViewError::new("open an empty root", nothing))?;
    fsconfig_set_string(&context, "mode", "0755")
        .map_err(ViewError::new("set the mode of an empty root", nothing))?;
    fsconfig_create(&context).map_err(ViewError::new("create an empty root", nothing))?;
    fsmount(&context, FsMountFlags::FSMOUNT_CLOEXEC, ATTRIBUTES)
        .map_err(ViewError::new("mount an empty root", nothing))
}

/// No device of an image is opened through a view, and nothing of it is run.
const ATTRIBUTES: MountAttrFlags = MountAttrFlags::MOUNT_ATTR_RDONLY
    .union(MountAttrFlags::MOUNT_ATTR_NOSUID)
    .union(MountAttrFlags::MOUNT_ATTR_NODEV)
    .union(MountAttrFlags::MOUNT_ATTR_NOEXEC);

fn mount_by_fd(lower: &[PathBuf]) -> Result<OwnedFd, ViewError> {
    let top = lower.first().map_or(Path::new(""), PathBuf::as_path);
    let context = fsopen("overlay", FsOpenFlags::FSOPEN_CLOEXEC)
        .map_err(ViewError::new("open overlayfs for", top))?;
    for layer in lower {
        fsconfig_set_string(&context, "lowerdir+", layer)
            .map_err(ViewError::new("add the lower directory", layer))?;
    }
    fsconfig_create(&context).map_err(ViewError::new("create the overlay on", top))?;
    fsmount(&context, FsMountFlags::FSMOUNT_CLOEXEC, ATTRIBUTES)
        .map_err(ViewError::new("mount the overlay on", top))
}

/// Mounts by mount(2) in a mount namespace of a thread of its own, and takes a detached copy out.
fn mount_in_private(lower: &[PathBuf]) -> Result<OwnedFd, ViewError> {
    let top = lower.first().map_or(Path::new(""), PathBuf::as_path);
    std::thread::scope(|scope| {
        let thread = scope.spawn(|| mount_in_this_thread(lower, top));
        let broken = |_| io::Error::other("the mounting thread broke off");
        let joined = thread.join().map_err(broken);
        joined.map_err(ViewError::new("mount the overlay on", top))?
    })
}

fn mount_in_this_thread(lower: &[PathBuf], top: &Path) -> Result<OwnedFd, ViewError> {
    // The kernel unshares the root and working directory along with the mounts (unshare(2)).
    sys::process::unshare(UnshareFlags::NEWNS)
        .map_err(ViewError::new("leave the mount namespace for", top))?;
    let private = MountPropagationFlags::PRIVATE | MountPropagationFlags::REC;
    mount_change("/", private).map_err(ViewError::new("make mounts private for", top))?;
    // Opened here, because overlayfs takes no directory of another mount namespace.
    let open =
        |layer: &PathBuf| fsutil::open_dir(layer).map_err(ViewError::new("open layer", layer));
    let layers = lower.iter().map(open).collect::<Result<Vec<_>, _>>()?;
    // Mount options end at one page; fd numbers leave room for more layers than paths would.
    let name = |fd: &OwnedFd| format!("/proc/self/fd/{}", fd.as_raw_fd());
    let names: Vec<String> = layers.iter().map(name).collect();
    let options = std::ffi::CString::new(format!("lowerdir={}", names.join(":")))
        .map_err(ViewError::new("name the layers below", top))?;
    let flags = MountFlags::RDONLY | MountFlags::NOSUID | MountFlags::NODEV | MountFlags::NOEXEC;
    mount("overlay", top, "overlay", flags, options.as_c_str())
        .map_err(ViewError::new("mount the overlay on", top))?;
    let clone = OpenTreeFlags::OPEN_TREE_CLONE | OpenTreeFlags::OPEN_TREE_CLOEXEC;
    open_tree(CWD, top, clone).map_err(ViewError::new("take the overlay from", top))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Both ways to mount must show the same, whichever the running kernel takes.
    #[test]
    fn both_ways_merge_layers() {
        let dir = tempfile::tempdir().unwrap();
        let layer = |number: usize| dir.path().join(format!("{number:0>64}"));
        let count = 100;
        let lower: Vec<PathBuf> = (0..count).map(layer).collect();
        for (number, path) in lower.iter().enumerate() {
            std::fs::create_dir(path).unwrap();
            std::fs::write(path.join(format!("f{number}")), b"x").unwrap();
            std::fs::write(path.join("shared"), number.to_string()).unwrap();
        }
        for mount in [mount_by_fd, mount_in_private] {
            let view = mount(&lower).unwrap();
            let names = crate::fsutil::remove::list(std::os::fd::AsFd::as_fd(&view));
            // An O_PATH mount fd is no directory that can be listed.
            let names = names.or_else(|_| {
                let dir = rustix::fs::openat(
                    &view,
                    ".",
                    rustix::fs::OFlags::RDONLY | rustix::fs::OFlags::DIRECTORY,
                    rustix::fs::Mode::empty(),
                )?;
                crate::fsutil::remove::list(std::os::fd::AsFd::as_fd(&dir))
            });
            assert_eq!(names.unwrap().len(), count + 1);
            let shared = format!("/proc/self/fd/{}/shared", view.as_raw_fd());
            assert_eq!(
                std::fs::read_to_string(shared).unwrap(),
                "0",
                "the topmost is first"
            );
            let write = format!("/proc/self/fd/{}/new", view.as_raw_fd());
            assert!(std::fs::write(write, b"x").is_err(), "a view is read-only");
        }
        let table = std::fs::read_to_string("/proc/self/mountinfo").unwrap();
        assert!(
            !table.contains(dir.path().to_str().unwrap()),
            "nothing is mounted at a path"
        );
    }
}
