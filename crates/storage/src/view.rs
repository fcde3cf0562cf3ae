//! The whole tree of a container as a directory fd, mounted at no path of the host.
//!
//! A container that runs has its tree already: a copy of its mounts is taken out of its mount
//! namespace, so that it stays the same when the container ends or changes its mounts while the
//! copy is in use (CVE-2026-42306). For one that does not run the tree is put together in a mount
//! namespace of a thread of its own. Nothing is ever executed in either, and no device opened.

use std::collections::HashSet;
use std::io;
use std::os::fd::{AsFd as _, AsRawFd as _, BorrowedFd, OwnedFd};
use std::path::{Path, PathBuf};

use rustix::fs::{AtFlags, CWD, Mode, OFlags, StatxFlags};
use rustix::io::Errno;
use rustix::mount::{
    FsMountFlags, FsOpenFlags, MountAttrFlags, MountPropagationFlags, MoveMountFlags,
    OpenTreeFlags, fsconfig_create, fsconfig_set_flag, fsconfig_set_string, fsmount, fsopen,
    mount_change, move_mount, open_tree,
};
use rustix::thread::{LinkNameSpaceType, UnshareFlags, move_into_link_name_space};
use sys::mount::{Depth, MountChange};
use sys::tree::Leaf;

use crate::container::ContainerDir;
use crate::files::Identity;
use crate::overlay::ViewError;

/// What a view is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Access {
    /// Reading only.
    Read,
    /// Writing too.
    Write,
}

/// How much of a running container's tree is seen.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Extent {
    /// The root file system alone.
    Root,
    /// With all that is mounted in it.
    Mounts,
}

/// A directory or file of the host that a container has mounted.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ViewMount {
    /// Where in the container.
    pub destination: PathBuf,
    /// What of the host.
    pub source: PathBuf,
    /// Whether what is mounted below the source comes along.
    pub recursive: bool,
    /// Whether nothing may be written.
    pub read_only: bool,
}

/// The tree of a container.
#[derive(Debug)]
pub struct View {
    /// Its root. A path in it is to be opened by openat2(2) with `RESOLVE_IN_ROOT`.
    pub root: OwnedFd,
    /// The directories on which the kernel's own file systems are mounted.
    pub hidden: HashSet<Identity>,
}

/// Opens the tree of a running container by its first process.
///
/// `mark` is a text that the names of its cgroups have: the process may have ended, and its number
/// been given to another. `None` says so.
///
/// # Errors
///
/// A step that the kernel refuses.
pub fn running(
    pid: i32,
    mark: &str,
    extent: Extent,
    access: Access,
) -> Result<Option<View>, ViewError> {
    let place = PathBuf::from(format!("/proc/{pid}"));
    let process = match rustix::fs::open(&place, DIRECTORY, Mode::empty()) {
        Err(Errno::NOENT) => return Ok(None),
        other => other.map_err(ViewError::new("open", &place))?,
    };
    // From here on the process is meant, not the number.
    let gone = |error: &io::Error| {
        let number = error.raw_os_error();
        number == Some(Errno::SRCH.raw_os_error()) || number == Some(Errno::NOENT.raw_os_error())
    };
    match take(&process, &place, mark, extent, access) {
        Err(error) if gone(error.source_error()) => Ok(None),
        other => other,
    }
}

const DIRECTORY: OFlags = OFlags::PATH.union(OFlags::DIRECTORY).union(OFlags::CLOEXEC);

fn take(
    process: &OwnedFd,
    place: &Path,
    mark: &str,
    extent: Extent,
    access: Access,
) -> Result<Option<View>, ViewError> {
    let cgroups = sys::tree::read_bounded(process.as_fd(), Path::new("cgroup"), 1 << 20)
        .map_err(ViewError::new("read the cgroups of", place))?;
    if !String::from_utf8_lossy(&cgroups).contains(mark) {
        return Ok(None);
    }
    let root = rustix::fs::openat(process, c"root", DIRECTORY, Mode::empty())
        .map_err(ViewError::new("open the root of", place))?;
    let flags = OFlags::RDONLY | OFlags::CLOEXEC;
    let mounts = rustix::fs::openat(process, c"ns/mnt", flags, Mode::empty())
        .map_err(ViewError::new("open the mount namespace of", place))?;
    let depth = match extent {
        Extent::Root => Depth::One,
        Extent::Mounts => Depth::Tree,
    };
    let root = in_thread(place, || {
        // setns(2): the thread must not share its root and working directory with the others.
        sys::process::unshare(UnshareFlags::FS)
            .map_err(ViewError::new("leave the engine's root for", place))?;
        move_into_link_name_space(mounts.as_fd(), Some(LinkNameSpaceType::Mount))
            .map_err(ViewError::new("enter the mount namespace of", place))?;
        let copy =
            copy_tree(root.as_fd(), depth).map_err(ViewError::new("copy the mounts of", place))?;
        harden(copy.as_fd(), access).map_err(ViewError::new("restrict the mounts of", place))?;
        Ok(copy)
    })?;
    let hidden = kernels_places(root.as_fd());
    Ok(Some(View { root, hidden }))
}

/// Where the runtime mounts what is no content of a container.
const KERNELS_PLACES: [&str; 3] = ["proc", "sys", "dev"];

fn kernels_places(root: BorrowedFd<'_>) -> HashSet<Identity> {
    let mount_of = |fd: BorrowedFd<'_>| {
        rustix::fs::statx(fd, c"", AtFlags::EMPTY_PATH, StatxFlags::MNT_ID)
            .map(|found| found.stx_mnt_id)
    };
    let Ok(own) = mount_of(root) else {
        return HashSet::new();
    };
    let identity = |name: &&str| {
        let path = OFlags::PATH | OFlags::DIRECTORY;
        let fd = sys::tree::open_beneath(root, Path::new(name), path).ok()?;
        if mount_of(fd.as_fd()).ok()? == own {
            return None;
        }
        let stat = rustix::fs::fstat(&fd).ok()?;
        Some((stat.st_dev, stat.st_ino))
    };
    KERNELS_PLACES.iter().filter_map(identity).collect()
}

/// Puts the tree of a container that does not run together: its layers, the topmost first, its own
/// one on top, and what it has mounted. The caller makes sure that it is not started meanwhile, if
/// it is to be written to.
///
/// A mount whose source is not there, or fits no place in the container, is left out.
///
/// # Errors
///
/// A step that the kernel refuses.
pub fn stopped(
    lower: &[PathBuf],
    container: &ContainerDir,
    mounts: &[ViewMount],
    access: Access,
) -> Result<View, ViewError> {
    let upper = container.upper();
    let root = in_thread(&upper, || {
        // The kernel unshares the root and working directory along with the mounts (unshare(2)).
        sys::process::unshare(UnshareFlags::NEWNS)
            .map_err(ViewError::new("leave the mount namespace for", &upper))?;
        let private = MountPropagationFlags::PRIVATE | MountPropagationFlags::REC;
        mount_change("/", private).map_err(ViewError::new("make mounts private for", &upper))?;
        let overlay = mount_overlay(lower, container, access)?;
        // Any place would do; all goes on by fd from here.
        let over = rustix::fs::open(c"/", DIRECTORY, Mode::empty())
            .map_err(ViewError::new("find a place for", &upper))?;
        attach(overlay.as_fd(), over.as_fd()).map_err(ViewError::new("attach", &upper))?;
        for mount in mounts {
            add(overlay.as_fd(), mount, access)?;
        }
        let tree = copy_tree(overlay.as_fd(), Depth::Tree)
            .map_err(ViewError::new("copy the mounts on", &upper))?;
        harden(tree.as_fd(), access).map_err(ViewError::new("restrict the mounts on", &upper))?;
        Ok(tree)
    })?;
    Ok(View {
        root,
        hidden: HashSet::new(),
    })
}

/// Whether all places that mounts need are there; a start makes those that are not.
#[must_use]
pub fn has_places(root: BorrowedFd<'_>, mounts: &[ViewMount]) -> bool {
    mounts
        .iter()
        .all(|mount| sys::tree::open(root, &mount.destination, OFlags::PATH).is_ok())
}

fn mount_overlay(
    lower: &[PathBuf],
    container: &ContainerDir,
    access: Access,
) -> Result<OwnedFd, ViewError> {
    let (upper, work) = (container.upper(), container.work());
    let at = || ViewError::new("mount the overlay on", &upper);
    match mount_by_parts(lower, &upper, &work, access, Sync::AtEnd) {
        // `lowerdir+` came with Linux 6.7; Debian 12 has 6.1.
        Err(Errno::INVAL) => mount_as_text(lower, &upper, &work, access).map_err(at()),
        other => other.map_err(at()),
    }
}

/// A directory as a text that fsconfig(2) takes: it ends at 256 bytes.
struct Name {
    text: String,
    /// Keeps the descriptor that the text names.
    _fd: OwnedFd,
}

impl Name {
    fn new(path: &Path) -> Result<Self, Errno> {
        let fd = rustix::fs::open(path, DIRECTORY | OFlags::NOFOLLOW, Mode::empty())?;
        let text = format!("/proc/self/fd/{}", fd.as_raw_fd());
        Ok(Self { text, _fd: fd })
    }
}

/// Opens layers, the topmost first, with a writable folder on top, for files that are made in it by
/// descriptors. It is mounted at no path, and nothing of it is ever waited for to be on the disk: the
/// end of a mount would flush the whole file system (`ovl_sync_fs`).
///
/// # Errors
///
/// A step that the kernel refuses.
pub fn writable(lower: &[PathBuf], upper: &Path, work: &Path) -> Result<OwnedFd, ViewError> {
    let at = || ViewError::new("mount the overlay on", upper);
    let root = match mount_by_parts(lower, upper, work, Access::Write, Sync::Never) {
        // `lowerdir+` came with Linux 6.7
        Err(Errno::INVAL) => in_thread(upper, || {
            sys::process::unshare(UnshareFlags::NEWNS)
                .map_err(ViewError::new("leave the mount namespace for", upper))?;
            let private = MountPropagationFlags::PRIVATE | MountPropagationFlags::REC;
            mount_change("/", private).map_err(ViewError::new("make mounts private for", upper))?;
            mount_as_text(lower, upper, work, Access::Write).map_err(at())
        })?,
        other => other.map_err(at())?,
    };
    harden(root.as_fd(), Access::Write)
        .map_err(ViewError::new("restrict the overlay on", upper))?;
    Ok(root)
}

/// Whether what was written to an overlay is brought to the disk at its end.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Sync {
    AtEnd,
    Never,
}

fn mount_by_parts(
    lower: &[PathBuf],
    upper: &Path,
    work: &Path,
    access: Access,
    sync: Sync,
) -> Result<OwnedFd, Errno> {
    let context = fsopen("overlay", FsOpenFlags::FSOPEN_CLOEXEC)?;
    let upper = Name::new(upper)?;
    if access == Access::Read {
        fsconfig_set_string(&context, "lowerdir+", upper.text.as_str())?;
    }
    for layer in lower {
        fsconfig_set_string(&context, "lowerdir+", Name::new(layer)?.text.as_str())?;
    }
    if access == Access::Write {
        unmark(work);
        fsconfig_set_string(&context, "upperdir", upper.text.as_str())?;
        fsconfig_set_string(&context, "workdir", Name::new(work)?.text.as_str())?;
        // What a container changes is read from its upper directory alone.
        fsconfig_set_string(&context, "redirect_dir", "off")?;
        fsconfig_set_string(&context, "metacopy", "off")?;
    }
    // With an index the kernel refuses directories that another overlay has used.
    fsconfig_set_string(&context, "index", "off")?;
    if sync == Sync::Never {
        fsconfig_set_flag(&context, "volatile")?;
    }
    fsconfig_create(&context)?;
    fsmount(
        &context,
        FsMountFlags::FSMOUNT_CLOEXEC,
        MountAttrFlags::empty(),
    )
}

/// Takes the mark away that a run without syncing has left, for which the kernel would refuse to
/// mount (Documentation/filesystems/overlayfs.rst, "Volatile mount").
fn unmark(work: &Path) {
    let mark = work.join("work/incompat/volatile");
    let _none = rustix::fs::unlinkat(CWD, mark.join("dirty"), AtFlags::empty());
    let _none = rustix::fs::unlinkat(CWD, mark, AtFlags::REMOVEDIR);
}

/// Mounts with one text of options; descriptors keep it within its page.
fn mount_as_text(
    lower: &[PathBuf],
    upper: &Path,
    work: &Path,
    access: Access,
) -> Result<OwnedFd, Errno> {
    let lower = lower.iter().map(|path| Name::new(path));
    let lower = lower.collect::<Result<Vec<_>, _>>()?;
    let (upper, work) = (Name::new(upper)?, Name::new(work)?);
    let mut layers: Vec<&str> = lower.iter().map(|name| name.text.as_str()).collect();
    let options = match access {
        Access::Read => {
            layers.insert(0, &upper.text);
            format!("index=off,lowerdir={}", layers.join(":"))
        }
        Access::Write => {
            let (layers, upper, work) = (layers.join(":"), &upper.text, &work.text);
            format!(
                "index=off,redirect_dir=off,metacopy=off,lowerdir={layers},upperdir={upper},workdir={work}"
            )
        }
    };
    let options = std::ffi::CString::new(options).map_err(|_| Errno::INVAL)?;
    let flags = rustix::mount::MountFlags::empty();
    rustix::mount::mount(c"overlay", c"/", c"overlay", flags, options.as_c_str())?;
    // `/..` crosses into the topmost mount on the root.
    let mounted = rustix::fs::open(c"/..", DIRECTORY, Mode::empty())?;
    let copy = copy_tree(mounted.as_fd(), Depth::One)?;
    drop(mounted);
    rustix::mount::unmount("/..", rustix::mount::UnmountFlags::DETACH)?;
    Ok(copy)
}

/// Mounts something of the host in the tree.
fn add(root: BorrowedFd<'_>, mount: &ViewMount, access: Access) -> Result<(), ViewError> {
    let source = match open_source(mount) {
        Err(Errno::NOENT) => return Ok(()),
        other => other.map_err(ViewError::new("open mount source", &mount.source))?,
    };
    if mount.read_only {
        let change = MountChange::setting(MountAttrFlags::MOUNT_ATTR_RDONLY);
        sys::mount::set_attributes(source.as_fd(), &change, Depth::Tree)
            .map_err(ViewError::new("restrict mount source", &mount.source))?;
    }
    let target = match access {
        Access::Write => {
            let stat = rustix::fs::fstat(&source)
                .map_err(ViewError::new("look at mount source", &mount.source))?;
            let kind = rustix::fs::FileType::from_raw_mode(stat.st_mode);
            let leaf = if kind == rustix::fs::FileType::Directory {
                Leaf::Directory
            } else {
                Leaf::File
            };
            sys::tree::open_or_make(root, &mount.destination, leaf)
        }
        Access::Read => sys::tree::open(root, &mount.destination, OFlags::PATH),
    };
    let attached = target.and_then(|target| Ok(attach(source.as_fd(), target.as_fd())?));
    if let Err(error) = attached {
        let place = mount.destination.display();
        tracing::debug!(%place, %error, "a mount is left out of a container's tree");
    }
    Ok(())
}

fn open_source(mount: &ViewMount) -> Result<OwnedFd, Errno> {
    let mut flags = OpenTreeFlags::OPEN_TREE_CLONE | OpenTreeFlags::OPEN_TREE_CLOEXEC;
    if mount.recursive {
        flags |= OpenTreeFlags::AT_RECURSIVE;
    }
    open_tree(CWD, &mount.source, flags)
}

fn attach(mount: BorrowedFd<'_>, place: BorrowedFd<'_>) -> Result<(), Errno> {
    let flags = MoveMountFlags::MOVE_MOUNT_F_EMPTY_PATH | MoveMountFlags::MOVE_MOUNT_T_EMPTY_PATH;
    move_mount(mount, c"", place, c"", flags)
}

fn copy_tree(fd: BorrowedFd<'_>, depth: Depth) -> Result<OwnedFd, Errno> {
    let mut flags = OpenTreeFlags::OPEN_TREE_CLONE
        | OpenTreeFlags::OPEN_TREE_CLOEXEC
        | OpenTreeFlags::AT_EMPTY_PATH;
    if depth == Depth::Tree {
        flags |= OpenTreeFlags::AT_RECURSIVE;
    }
    open_tree(fd, c"", flags)
}

/// No device of a container is opened by us, nothing of it is run, and no mount of it reaches back.
fn harden(tree: BorrowedFd<'_>, access: Access) -> io::Result<()> {
    let mut set = MountAttrFlags::MOUNT_ATTR_NOSUID
        | MountAttrFlags::MOUNT_ATTR_NODEV
        | MountAttrFlags::MOUNT_ATTR_NOEXEC;
    if access == Access::Read {
        set |= MountAttrFlags::MOUNT_ATTR_RDONLY;
    }
    let change = MountChange {
        propagation: Some(MountPropagationFlags::PRIVATE),
        ..MountChange::setting(set)
    };
    sys::mount::set_attributes(tree, &change, Depth::Tree)
}

/// Runs steps in a thread that ends with them, because they change what the thread sees.
fn in_thread(
    place: &Path,
    work: impl FnOnce() -> Result<OwnedFd, ViewError> + Send,
) -> Result<OwnedFd, ViewError> {
    std::thread::scope(|scope| {
        let broken = |_| io::Error::other("the mounting thread broke off");
        let thread = std::thread::Builder::new()
            .name("view".to_owned())
            .spawn_scoped(scope, work)
            .map_err(ViewError::new("start a thread to mount for", place))?;
        let joined = thread.join().map_err(broken);
        joined.map_err(ViewError::new("mount for", place))?
    })
}
