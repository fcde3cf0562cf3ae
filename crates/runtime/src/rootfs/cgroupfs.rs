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
    /// The container's directory of the host; without it the hierarchy is mounted anew.
    directory: Option<OwnedFd>,
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
        copy_directory(&format!("{HOST}/{name}{path}")).ok()
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
        directory,
    })
}

fn copy_directory(path: &str) -> io::Result<OwnedFd> {
    let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
    let directory = rustix::fs::open(path, flags, Mode::empty())?;
    super::copy_tree(directory.as_fd(), Depth::One)
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
    let opened;
    let mount = if let Some(directory) = &hierarchy.directory {
        let change = MountChange {
            set: attributes,
            propagation: Some(MountPropagationFlags::PRIVATE),
            ..MountChange::NONE
        };
        let directory = directory.as_fd();
        sys::mount::set_attributes(directory, &change, Depth::One).map_err(place_of(name))?;
        directory
    } else {
        opened = open_v1(hierarchy, attributes).map_err(filesystem_of(name))?;
        opened.as_fd()
    };
    put(tmpfs, name, mount).map_err(place_of(name))
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

/// Makes the directory of a hierarchy, mounts onto it, and links each controller's name to it.
fn put(tmpfs: BorrowedFd<'_>, name: &str, mount: BorrowedFd<'_>) -> io::Result<()> {
    mkdirat(tmpfs, name, Mode::from(0o755))?;
    let place = sys::tree::open_beneath(tmpfs, Path::new(name), OFlags::PATH | OFlags::DIRECTORY)?;
    super::attach(mount, place.as_fd())?;
    if name.contains(',') {
        for controller in name.split(',') {
            symlinkat(name, tmpfs, controller)?;
        }
    }
    Ok(())
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
