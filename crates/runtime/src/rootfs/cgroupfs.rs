//! The container's view of its cgroup, on v1, hybrid and v2.
//!
//! On v1 a tmpfs holds a directory for each hierarchy, as on the host. Each is the container's own
//! directory of the host, copied before the host's mounts are gone; a cgroup namespace shows its path
//! as the root. A new mount of the hierarchy, whose root the namespace moves, would be the same and
//! takes the kernel longer with every cgroup there is (`cgroup_lock_and_drain_offline` in
//! `cgroup1_get_tree` visits all), so that is for namespaces whose hosts mount elsewhere.

use std::io;
use std::os::fd::{AsFd as _, BorrowedFd, OwnedFd};
use std::path::Path;

use rustix::fs::{Mode, OFlags, mkdirat, symlinkat};
use rustix::mount::{MountAttrFlags, MountPropagationFlags};
use sys::mount::{Depth, MountChange};

use super::filesystem::{Filesystem, FilesystemError};
use super::options::Options;

/// Where hosts keep their hierarchies.
const HOST: &str = "/sys/fs/cgroup";

/// A view that cannot be made.
#[derive(Debug, thiserror::Error)]
pub(crate) enum CgroupfsError {
    /// The list of hierarchies.
    #[error("read the process's cgroups")]
    List(#[source] io::Error),
    /// A file system.
    #[error("mount the hierarchy {name:?}")]
    Filesystem {
        /// The hierarchy.
        name: String,
        /// The step.
        #[source]
        source: FilesystemError,
    },
    /// A directory, a link, a mount.
    #[error("place the hierarchy {name:?}")]
    Place {
        /// The hierarchy.
        name: String,
        /// The kernel's answer.
        #[source]
        source: io::Error,
    },
}

/// A v1 hierarchy.
#[derive(Debug)]
pub(crate) struct Hierarchy {
    /// Its directory's name: `cpu,cpuacct`, `systemd`.
    name: String,
    /// Whether it has a name in place of controllers.
    named: bool,
    /// The path of the container's cgroup in it.
    path: String,
    view: View,
    /// The container's directory of the host; without it the hierarchy is mounted anew.
    directory: Option<Directory>,
}

/// A directory of the host's cgroup mounts.
#[derive(Debug)]
struct Directory {
    host: OwnedFd,
    /// Its mount, copied.
    copy: OwnedFd,
}

impl Directory {
    fn open(path: &str) -> io::Result<Self> {
        let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
        let host = rustix::fs::open(path, flags, Mode::empty())?;
        let copy = super::copy_tree(host.as_fd(), Depth::One)?;
        Ok(Self { host, copy })
    }

    /// Copies the mount again, after its directory was looked up by its name.
    fn again(&self, path: &str) -> io::Result<OwnedFd> {
        let name = path.rsplit('/').next().unwrap_or_default();
        let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC | OFlags::NOFOLLOW;
        let host = rustix::fs::openat(&self.host, format!("../{name}"), flags, Mode::empty())?;
        super::copy_tree(host.as_fd(), Depth::One)
    }
}

/// Whose cgroups a container sees.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum View {
    /// Those of its own namespace.
    Namespace,
    /// Those of the host, its own directory only.
    Host,
}

/// Lists the v1 hierarchies that the calling process is in, before it leaves the host's root.
///
/// The list is empty where v2 alone is in use.
pub(crate) fn hierarchies(view: View) -> Result<Vec<Hierarchy>, CgroupfsError> {
    let text = std::fs::read_to_string("/proc/self/cgroup").map_err(CgroupfsError::List)?;
    let absolute = view == View::Host || in_first_namespace();
    Ok(text
        .lines()
        .filter_map(|line| hierarchy(line, view, absolute))
        .collect())
}

/// Whether the paths of `/proc/self/cgroup` begin at the roots of the hierarchies.
fn in_first_namespace() -> bool {
    /// `PROC_CGROUP_INIT_INO` of include/uapi/linux/nsfs.h.
    const FIRST: &str = "cgroup:[4026531835]";
    std::fs::read_link("/proc/self/ns/cgroup").is_ok_and(|link| link == Path::new(FIRST))
}

/// Reads a line `number:controllers:path`; the v2 line, which has no controllers, gives nothing.
fn hierarchy(line: &str, view: View, absolute: bool) -> Option<Hierarchy> {
    let mut fields = line.splitn(3, ':').skip(1);
    let controllers = fields.next()?;
    let path = fields.next()?;
    let (name, named) = match controllers.strip_prefix("name=") {
        Some(name) => (name, true),
        None => (controllers, false),
    };
    if name.is_empty() {
        return None;
    }
    let directory = if absolute {
        Directory::open(&format!("{HOST}/{name}{path}")).ok()
    } else {
        None
    };
    if view == View::Host && directory.is_none() {
        // one that the host did not mount cannot be shown
        return None;
    }
    Some(Hierarchy {
        name: name.to_owned(),
        named,
        path: path.to_owned(),
        view,
        directory,
    })
}

/// Mounts the view onto `place`.
pub(super) fn mount(
    place: BorrowedFd<'_>,
    options: &Options<'_>,
    hierarchies: &[Hierarchy],
) -> Result<(), CgroupfsError> {
    let attributes = options.change.set | options.deep.set;
    if hierarchies.is_empty() {
        return mount_v2(place, attributes);
    }
    let tmpfs = mount_tmpfs(place, attributes)?;
    for hierarchy in hierarchies {
        mount_v1(tmpfs.as_fd(), hierarchy, attributes)?;
    }
    if attributes.contains(MountAttrFlags::MOUNT_ATTR_RDONLY) {
        let readonly = MountChange::setting(MountAttrFlags::MOUNT_ATTR_RDONLY);
        sys::mount::set_attributes(tmpfs.as_fd(), &readonly, Depth::One)
            .map_err(place_of("tmpfs"))?;
    }
    Ok(())
}

fn place_of(name: &str) -> impl Fn(io::Error) -> CgroupfsError {
    move |source| CgroupfsError::Place {
        name: name.to_owned(),
        source,
    }
}

fn filesystem_of(name: &str) -> impl Fn(FilesystemError) -> CgroupfsError {
    move |source| CgroupfsError::Filesystem {
        name: name.to_owned(),
        source,
    }
}

fn mount_v2(place: BorrowedFd<'_>, attributes: MountAttrFlags) -> Result<(), CgroupfsError> {
    let name = "cgroup2";
    let make = || Filesystem::open(name)?.mount(attributes);
    let mount = make().map_err(filesystem_of(name))?;
    super::attach(mount.as_fd(), place).map_err(place_of(name))
}

fn mount_tmpfs(
    place: BorrowedFd<'_>,
    attributes: MountAttrFlags,
) -> Result<OwnedFd, CgroupfsError> {
    let make = || {
        let tmpfs = Filesystem::open("tmpfs")?;
        tmpfs.set("mode", Some("755"))?;
        tmpfs.mount(attributes - MountAttrFlags::MOUNT_ATTR_RDONLY)
    };
    let tmpfs = make().map_err(filesystem_of("tmpfs"))?;
    super::attach(tmpfs.as_fd(), place).map_err(place_of("tmpfs"))?;
    Ok(tmpfs)
}

fn mount_v1(
    tmpfs: BorrowedFd<'_>,
    hierarchy: &Hierarchy,
    attributes: MountAttrFlags,
) -> Result<(), CgroupfsError> {
    let name = &hierarchy.name;
    let place = make_place(tmpfs, name).map_err(place_of(name))?;
    let anew = || {
        let opened = open_v1(hierarchy, attributes).map_err(filesystem_of(name))?;
        super::attach(opened.as_fd(), place.as_fd()).map_err(place_of(name))
    };
    let Some(directory) = &hierarchy.directory else {
        return anew();
    };
    let change = MountChange {
        set: attributes,
        propagation: Some(MountPropagationFlags::PRIVATE),
        ..MountChange::NONE
    };
    let bind = |copy: BorrowedFd<'_>| {
        sys::mount::set_attributes(copy, &change, Depth::One)?;
        super::attach(copy, place.as_fd())
    };
    match bind(directory.copy.as_fd()) {
        // A directory that has no name cannot be attached (get_mountpoint in fs/namespace.c). It is gone, where the
        // process was moved from there to a cgroup with another parent after the list was made: the
        // namespace, which was made after that, knows where it is now.
        Err(error) if is_missing(&error) && hierarchy.view == View::Namespace => anew(),
        // Or it was renamed, and who looked up the old name at that moment made kernfs drop the entry from the cache
        // (kernfs_dop_revalidate). A lookup by the new name puts it back.
        Err(error) if is_missing(&error) => {
            let again = directory.again(&hierarchy.path);
            again
                .and_then(|copy| bind(copy.as_fd()))
                .map_err(place_of(name))
        }
        bound => bound.map_err(place_of(name)),
    }
}

fn is_missing(error: &io::Error) -> bool {
    error.kind() == io::ErrorKind::NotFound
}

fn open_v1(hierarchy: &Hierarchy, attributes: MountAttrFlags) -> Result<OwnedFd, FilesystemError> {
    let fs = Filesystem::open("cgroup")?;
    if hierarchy.named {
        fs.set("none", None)?;
        fs.set("name", Some(&hierarchy.name))?;
    } else {
        for controller in hierarchy.name.split(',') {
            fs.set(controller, None)?;
        }
    }
    fs.mount(attributes)
}

/// Makes the directory of a hierarchy, and links each controller's name to it.
fn make_place(tmpfs: BorrowedFd<'_>, name: &str) -> io::Result<OwnedFd> {
    mkdirat(tmpfs, name, Mode::from(0o755))?;
    if name.contains(',') {
        for controller in name.split(',') {
            symlinkat(name, tmpfs, controller)?;
        }
    }
    sys::tree::open_beneath(tmpfs, Path::new(name), OFlags::PATH | OFlags::DIRECTORY)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_the_list_of_a_process() {
        let of = |line| hierarchy(line, View::Namespace, false).map(|h| (h.name, h.named));
        assert_eq!(of("4:cpu,cpuacct:/x"), Some(("cpu,cpuacct".into(), false)));
        assert_eq!(of("1:name=systemd:/x:y"), Some(("systemd".into(), true)));
        assert_eq!(of("0::/user.slice"), None);
        assert_eq!(of(""), None);
    }
}
