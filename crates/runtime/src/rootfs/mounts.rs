//! The mounts of a configuration, made inside the new root.
//!
//! A destination is resolved once, by descriptor, and the mount goes onto that descriptor, so that a
//! link that changes meanwhile moves nothing (CVE-2021-30465).

use std::collections::{BTreeMap, VecDeque};
use std::io;
use std::os::fd::{AsFd as _, BorrowedFd, OwnedFd};
use std::path::{Path, PathBuf};

use oci::runtime::Mount;
use rustix::fs::{FileType, Mode, OFlags, PROC_SUPER_MAGIC};
use rustix::mount::{MountAttrFlags, MountPropagationFlags};
use sys::mount::{Depth, MountChange};
use sys::tree::Leaf;

use super::cgroupfs::{self, CgroupfsError, Hierarchy};
use super::filesystem::{Filesystem, FilesystemError};
use super::options::{self, Options};

/// Files of procfs that may be covered by others: what lxcfs fakes, as in runc.
const PROC_FILES: [&str; 11] = [
    "/proc/cpuinfo",
    "/proc/diskstats",
    "/proc/meminfo",
    "/proc/stat",
    "/proc/swaps",
    "/proc/uptime",
    "/proc/loadavg",
    "/proc/slabinfo",
    "/proc/net/dev",
    "/proc/sys/kernel/ns_last_pid",
    "/proc/sys/crypto/fips_enabled",
];

/// A mount that cannot be made.
#[derive(Debug, thiserror::Error)]
pub(crate) enum MountError {
    /// The place.
    #[error("make the mount point {destination:?}")]
    Destination {
        /// The mount's destination.
        destination: PathBuf,
        /// The kernel's answer; ELOOP for a symbolic link where none may be.
        #[source]
        source: io::Error,
    },
    /// A place that would fake the kernel's word.
    #[error("{destination:?} cannot be mounted because it is inside /proc")]
    InsideProc {
        /// The mount's destination.
        destination: PathBuf,
    },
    /// The source of a bind mount did not come along.
    #[error("no source was sent for the bind mount {destination:?}")]
    NoSource {
        /// The mount's destination.
        destination: PathBuf,
    },
    /// The file system.
    #[error("mount {destination:?}")]
    Filesystem {
        /// The mount's destination.
        destination: PathBuf,
        /// The step.
        #[source]
        source: Box<FilesystemError>,
    },
    /// cgroup v1 and its many mounts.
    #[error("mount {destination:?}")]
    Cgroup {
        /// The mount's destination.
        destination: PathBuf,
        /// The step.
        #[source]
        source: Box<CgroupfsError>,
    },
    /// Options of a mount.
    #[error("change the mount options of {destination:?}")]
    Options {
        /// The mount's destination.
        destination: PathBuf,
        /// The kernel's answer.
        #[source]
        source: io::Error,
    },
    /// Putting it in place.
    #[error("attach the mount {destination:?}")]
    Attach {
        /// The mount's destination.
        destination: PathBuf,
        /// The kernel's answer; ENOTDIR for a directory on a file or the reverse.
        #[source]
        source: io::Error,
    },
}

/// The mounts that later steps need.
#[derive(Debug, Default)]
pub(crate) struct Mounted {
    /// The procfs.
    pub(crate) proc: Option<OwnedFd>,
    /// The devpts on `/dev/pts`.
    pub(crate) devpts: Option<OwnedFd>,
    /// A `/dev` that becomes read-only once it is filled.
    pub(crate) readonly_dev: Option<OwnedFd>,
    /// Whether `/dev` is a directory from outside, which is not ours to fill.
    pub(crate) foreign_dev: bool,
}

/// File systems that are made before the root is entered, by their mount's place in the configuration.
pub(crate) type Premade = BTreeMap<usize, OwnedFd>;

/// Makes what a user namespace may not make any more once it has left the host's mounts: procfs and
/// sysfs, of which the kernel wants to see whole ones there (`mount_too_revealing` in fs/namespace.c).
pub(crate) fn premake(mounts: &[Mount]) -> Result<Premade, MountError> {
    let mut premade = Premade::new();
    for (index, mount) in mounts.iter().enumerate() {
        let Some(kind @ ("proc" | "sysfs")) = mount.kind.as_deref() else {
            continue;
        };
        let options = options::parse(&mount.options);
        let attributes = options.change.set | options.deep.set;
        let made = make(mount, kind, &options, None, attributes);
        premade.insert(
            index,
            made.map_err(|source| filesystem_error(mount, source))?,
        );
    }
    Ok(premade)
}

/// Makes the tmpfs of `/dev`, which is still written to.
pub(crate) fn make_dev(mount: &Mount) -> Result<OwnedFd, FilesystemError> {
    let options = options::parse(&mount.options);
    let attributes = options.change.set | options.deep.set;
    let attributes = attributes - MountAttrFlags::MOUNT_ATTR_RDONLY;
    make(mount, "tmpfs", &options, None, attributes)
}

/// Makes a tmpfs for files that are mounted one by one.
pub(crate) fn make_hidden() -> Result<OwnedFd, FilesystemError> {
    let attributes = MountAttrFlags::MOUNT_ATTR_NOSUID | MountAttrFlags::MOUNT_ATTR_NOEXEC;
    Filesystem::open("tmpfs")?.mount(attributes)
}

/// Makes all mounts in their order; `sources` are those of the bind mounts.
pub(crate) fn mount_all(
    root: BorrowedFd<'_>,
    mounts: &[Mount],
    sources: &mut VecDeque<OwnedFd>,
    hierarchies: &[Hierarchy],
    mut premade: Premade,
) -> Result<Mounted, MountError> {
    let mut mounted = Mounted::default();
    for (index, mount) in mounts.iter().enumerate() {
        let options = options::parse(&mount.options);
        let kind = mount.kind.as_deref().unwrap_or("bind");
        if is_bind(mount, &options) {
            bind(root, mount, &options, sources.pop_front())?;
            mounted.foreign_dev |= mount.destination == Path::new("/dev");
        } else if kind == "cgroup" || kind == "cgroup2" {
            let place = place_for(root, mount, kind)?;
            cgroupfs::mount(place.as_fd(), &options, hierarchies).map_err(|source| {
                MountError::Cgroup {
                    destination: mount.destination.clone(),
                    source: Box::new(source),
                }
            })?;
        } else {
            let ready = premade.remove(&index);
            filesystem(root, (mount, kind, &options), ready, &mut mounted)?;
        }
    }
    Ok(mounted)
}

/// Whether a mount shows a directory or file of the host.
pub(crate) fn is_bind(mount: &Mount, options: &Options<'_>) -> bool {
    options.bind.is_some() || mount.kind.as_deref().is_none_or(|kind| kind == "bind")
}

fn bind(
    root: BorrowedFd<'_>,
    mount: &Mount,
    options: &Options<'_>,
    source: Option<OwnedFd>,
) -> Result<(), MountError> {
    let source = source.ok_or_else(|| MountError::NoSource {
        destination: mount.destination.clone(),
    })?;
    change(source.as_fd(), mount, options)?;
    let leaf = leaf_of(source.as_fd()).map_err(|source| MountError::Destination {
        destination: mount.destination.clone(),
        source,
    })?;
    let place = open_place(root, mount, leaf)?;
    refuse_proc(place.as_fd(), &mount.destination)?;
    attach(source.as_fd(), place.as_fd(), mount)
}

/// Gives a bind mount its attributes while nobody can see it yet.
fn change(source: BorrowedFd<'_>, mount: &Mount, options: &Options<'_>) -> Result<(), MountError> {
    // a copy of a shared mount of the host is shared with it, unless it is told otherwise
    let private = (MountPropagationFlags::PRIVATE, Depth::Tree);
    let (propagation, depth) = options.propagation.unwrap_or(private);
    let fail = |source| MountError::Options {
        destination: mount.destination.clone(),
        source,
    };
    let set = |change: &MountChange, depth| {
        sys::mount::set_attributes(source, change, depth).map_err(fail)
    };
    set(&MountChange::propagating(propagation), depth)?;
    if options.changes_tree() {
        set(&options.deep, Depth::Tree)?;
    }
    if options.changes_mount() {
        set(&options.change, Depth::One)?;
    }
    Ok(())
}

fn leaf_of(source: BorrowedFd<'_>) -> io::Result<Leaf> {
    let stat = rustix::fs::fstat(source)?;
    match FileType::from_raw_mode(stat.st_mode) {
        FileType::Directory => Ok(Leaf::Directory),
        _ => Ok(Leaf::File),
    }
}

fn filesystem_error(mount: &Mount, source: FilesystemError) -> MountError {
    MountError::Filesystem {
        destination: mount.destination.clone(),
        source: Box::new(source),
    }
}

fn filesystem(
    root: BorrowedFd<'_>,
    (mount, kind, options): (&Mount, &str, &Options<'_>),
    ready: Option<OwnedFd>,
    mounted: &mut Mounted,
) -> Result<(), MountError> {
    let is_dev = kind == "tmpfs" && mount.destination == Path::new("/dev");
    let inherited = inherited_mode(root, mount, kind);
    let place = place_for(root, mount, kind)?;
    let mut attributes = options.change.set | options.deep.set;
    // device nodes are still to be made in it
    let later = is_dev && attributes.contains(MountAttrFlags::MOUNT_ATTR_RDONLY);
    if later {
        attributes.remove(MountAttrFlags::MOUNT_ATTR_RDONLY);
    }
    let made = match ready {
        Some(fd) => Ok(fd),
        None => make(mount, kind, options, inherited.as_deref(), attributes),
    };
    let fd = made.map_err(|source| filesystem_error(mount, source))?;
    attach(fd.as_fd(), place.as_fd(), mount)?;
    if let Some((propagation, depth)) = options.propagation {
        let change = MountChange::propagating(propagation);
        sys::mount::set_attributes(fd.as_fd(), &change, depth).map_err(|source| {
            MountError::Options {
                destination: mount.destination.clone(),
                source,
            }
        })?;
    }
    match kind {
        "proc" => mounted.proc = Some(fd),
        "devpts" if mount.destination == Path::new("/dev/pts") => mounted.devpts = Some(fd),
        _ if later => mounted.readonly_dev = Some(fd),
        _ => {}
    }
    Ok(())
}

fn make(
    mount: &Mount,
    kind: &str,
    options: &Options<'_>,
    mode: Option<&str>,
    attributes: MountAttrFlags,
) -> Result<OwnedFd, FilesystemError> {
    let fs = Filesystem::open(kind)?;
    if let Some(source) = mount.source.as_deref().and_then(Path::to_str) {
        fs.set("source", Some(source))?;
    }
    if let Some(mode) = mode {
        fs.set("mode", Some(mode))?;
    }
    for (key, value) in &options.data {
        fs.set(key, *value)?;
    }
    fs.mount(attributes)
}

/// The mode that a tmpfs takes over from the directory it covers, as in runc.
fn inherited_mode(root: BorrowedFd<'_>, mount: &Mount, kind: &str) -> Option<String> {
    if kind != "tmpfs" {
        return None;
    }
    let flags = OFlags::PATH | OFlags::DIRECTORY;
    let covered = sys::tree::open(root, &mount.destination, flags).ok()?;
    let mode = Mode::from_raw_mode(rustix::fs::fstat(covered).ok()?.st_mode);
    Some(format!("{:o}", mode.bits() & 0o7777))
}

/// Opens the directory that a file system of the kernel goes onto.
///
/// Links are followed for a user's tmpfs alone (`/var/run` is one in many images): where the kernel's
/// own interfaces are expected, a link of the image would move them elsewhere (CVE-2019-19921,
/// CVE-2026-41579).
fn place_for(root: BorrowedFd<'_>, mount: &Mount, kind: &str) -> Result<OwnedFd, MountError> {
    let is_kernels = matches!(
        kind,
        "proc" | "sysfs" | "devpts" | "mqueue" | "cgroup" | "cgroup2"
    );
    if is_kernels || is_below_dev(&mount.destination) {
        return sys::tree::open_or_make_plain(root, &mount.destination).map_err(|source| {
            MountError::Destination {
                destination: mount.destination.clone(),
                source,
            }
        });
    }
    let place = open_place(root, mount, Leaf::Directory)?;
    refuse_proc(place.as_fd(), &mount.destination)?;
    Ok(place)
}

fn is_below_dev(destination: &Path) -> bool {
    destination.starts_with("/dev")
}

fn open_place(root: BorrowedFd<'_>, mount: &Mount, leaf: Leaf) -> Result<OwnedFd, MountError> {
    sys::tree::open_or_make(root, &mount.destination, leaf).map_err(|source| {
        MountError::Destination {
            destination: mount.destination.clone(),
            source,
        }
    })
}

/// Refuses to cover the kernel's files in procfs, wherever links have led (CVE-2019-16884).
fn refuse_proc(place: BorrowedFd<'_>, destination: &Path) -> Result<(), MountError> {
    let allowed = destination == Path::new("/proc")
        || PROC_FILES.iter().any(|file| destination == Path::new(file));
    let on_proc = || rustix::fs::fstatfs(place).is_ok_and(|fs| fs.f_type == PROC_SUPER_MAGIC);
    if allowed || !on_proc() {
        return Ok(());
    }
    Err(MountError::InsideProc {
        destination: destination.to_owned(),
    })
}

fn attach(fd: BorrowedFd<'_>, place: BorrowedFd<'_>, mount: &Mount) -> Result<(), MountError> {
    super::attach(fd, place).map_err(|source| MountError::Attach {
        destination: mount.destination.clone(),
        source,
    })
}
