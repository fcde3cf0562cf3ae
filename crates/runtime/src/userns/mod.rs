//! A container whose users are not those of the host.
//!
//! Its init stage is born into a user namespace without a mapping, owns every other namespace of its
//! own by that, and has no power over anything else. What takes the host's power is made by the parent
//! and handed over by descriptor: the mapping, the root file system from mounts that show the layers'
//! owners as the container's, and the device nodes. No file on the disk changes its owner.

mod dev;
mod join;
mod root;

use std::io;
use std::os::fd::{AsFd as _, BorrowedFd, OwnedFd};
use std::path::PathBuf;

use oci::runtime::{IdMapping, Linux, Process};
use rustix::fs::{FileType, Gid, Mode, OFlags, Uid, fstat};
use rustix::io::Errno;

use crate::init::identity;
use crate::order::Order;
use crate::source::Place;

pub(crate) use dev::{is_dev, outside};
pub(crate) use join::clone_into;

/// The error of a step that is shared with containers without a user namespace.
type Cause = Box<dyn std::error::Error + Send + Sync>;

/// A user namespace that cannot be furnished.
#[derive(Debug, thiserror::Error)]
pub enum UsernsError {
    /// A mapping that has no root.
    #[error("the {file} has no range for id 0 of the container")]
    NoRoot {
        /// `uid_map` or `gid_map`.
        file: &'static str,
    },
    /// A mapping.
    #[error("write {text:?} to the {file} of process {pid}")]
    Map {
        /// `uid_map` or `gid_map`.
        file: &'static str,
        /// The process.
        pid: i32,
        /// The ranges.
        text: String,
        /// The kernel's answer; EINVAL for ranges that overlap, EPERM for a mapping that is there.
        #[source]
        source: io::Error,
    },
    /// The namespace's file.
    #[error("open the user namespace of process {pid}")]
    Open {
        /// The process.
        pid: i32,
        /// The kernel's answer.
        #[source]
        source: io::Error,
    },
    /// A mount namespace in between.
    #[error("make a mount namespace to put the root file system together in")]
    Apart(#[source] io::Error),
    /// The way back out of it: the caller cannot go on.
    #[error("come back to the own mount namespace")]
    Return(#[source] io::Error),
    /// A directory.
    #[error("copy the mount of {path:?}")]
    Copy {
        /// The directory.
        path: PathBuf,
        /// The kernel's answer.
        #[source]
        source: io::Error,
    },
    /// A directory whose owners cannot be shown as the container's.
    #[error(
        "show the owners of {path:?} as those of the container, by an idmapped mount (Linux 5.19, and a file system that can)"
    )]
    Idmap {
        /// The directory.
        path: PathBuf,
        /// The kernel's answer.
        #[source]
        source: io::Error,
    },
    /// A directory, in the mount namespace in between.
    #[error("attach the mount of {path:?}")]
    Attach {
        /// The directory.
        path: PathBuf,
        /// The kernel's answer.
        #[source]
        source: io::Error,
    },
    /// Upper and work directory are not beside each other.
    #[error("{upper:?} and {work:?} do not lie in one directory")]
    Apartness {
        /// The writable directory.
        upper: PathBuf,
        /// The kernel's own.
        work: PathBuf,
    },
    /// The ids that files are made with.
    #[error("make files as the container's root")]
    FileOwner(#[source] io::Error),
    /// The root file system.
    #[error("put the root file system together")]
    Overlay(#[source] Cause),
    /// The file system of `/dev`.
    #[error("make the file system of /dev")]
    Dev(#[source] Cause),
    /// No file system for `/dev`.
    #[error(
        "the configuration mounts no tmpfs on /dev, and the nodes of an image are of no use in a user namespace"
    )]
    NoDev,
    /// Device nodes.
    #[error("create device nodes")]
    Devices(#[source] Cause),
    /// A resource limit.
    #[error("raise rlimit {name:?}")]
    Rlimit {
        /// Its name.
        name: String,
        /// The kernel's answer.
        #[source]
        source: io::Error,
    },
    /// The out-of-memory score.
    #[error("set oom_score_adj to {value}")]
    OomScore {
        /// The value.
        value: i32,
        /// The kernel's answer.
        #[source]
        source: io::Error,
    },
    /// A standard stream.
    #[error("give a standard stream to the container's root")]
    Stdio(#[source] io::Error),
}

/// User and group of the host that a container's root is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct HostRoot {
    /// The user.
    pub uid: u32,
    /// The group.
    pub gid: u32,
}

impl HostRoot {
    /// Finds them in a configuration's mappings.
    ///
    /// # Errors
    ///
    /// [`UsernsError::NoRoot`] when a mapping has no id 0.
    pub fn of(linux: &Linux) -> Result<Self, UsernsError> {
        let find = |mappings, file| to_host(mappings, 0).ok_or(UsernsError::NoRoot { file });
        Ok(Self {
            uid: find(&linux.uid_mappings, "uid_map")?,
            gid: find(&linux.gid_mappings, "gid_map")?,
        })
    }
}

/// The host's id of one of the container's.
pub(crate) fn to_host(mappings: &[IdMapping], id: u32) -> Option<u32> {
    mappings.iter().find_map(|range| range.to_host(id))
}

/// What a stage of a user namespace gets ready.
#[derive(Debug, Default)]
pub(crate) struct Furniture {
    /// The root file system.
    pub(crate) root: Option<OwnedFd>,
    /// The file system of `/dev`, with its nodes.
    pub(crate) dev: Option<OwnedFd>,
    /// The nodes of [`outside`], each as a mount of its own.
    pub(crate) nodes: Vec<OwnedFd>,
}

/// The user namespace of a stage.
#[derive(Debug)]
pub(crate) struct UserNamespace {
    pub(crate) file: OwnedFd,
    pub(crate) root: HostRoot,
}

impl UserNamespace {
    /// Gives a new namespace its mapping.
    pub(crate) fn map(pid: i32, linux: &Linux) -> Result<(), UsernsError> {
        HostRoot::of(linux)?;
        write_map(pid, "gid_map", &linux.gid_mappings)?;
        write_map(pid, "uid_map", &linux.uid_mappings)
    }

    /// Opens the namespace of a stage.
    pub(crate) fn open(pid: i32, linux: &Linux) -> Result<Self, UsernsError> {
        let flags = OFlags::RDONLY | OFlags::CLOEXEC;
        let file = rustix::fs::open(format!("/proc/{pid}/ns/user"), flags, Mode::empty());
        Ok(Self {
            file: file.map_err(|error| UsernsError::Open {
                pid,
                source: error.into(),
            })?,
            root: HostRoot::of(linux)?,
        })
    }

    /// Makes what the stage cannot make.
    ///
    /// The caller must have one thread only: its mount namespace changes for a moment.
    pub(crate) fn furnish(&self, order: &Order) -> Result<Furniture, UsernsError> {
        let here = Place::current().map_err(UsernsError::Apart)?;
        sys::process::unshare(rustix::thread::UnshareFlags::NEWNS).map_err(UsernsError::Apart)?;
        let made = self.furnish_apart(order);
        here.come_back().map_err(UsernsError::Return)?;
        made
    }

    /// Works in a mount namespace that goes at the end, with all that was attached in it.
    fn furnish_apart(&self, order: &Order) -> Result<Furniture, UsernsError> {
        use rustix::mount::MountPropagationFlags as Propagation;
        rustix::mount::mount_change(c"/", Propagation::PRIVATE | Propagation::REC)
            .map_err(|error| UsernsError::Apart(error.into()))?;
        let root = Some(root::make(self, order)?);
        let spec = &order.spec;
        let (dev, nodes) = self.as_owner(|| dev::make(spec))??;
        Ok(Furniture { root, dev, nodes })
    }

    /// Does something while files are made as the container's root, with all permission bits.
    fn as_owner<T>(&self, work: impl FnOnce() -> T) -> Result<T, UsernsError> {
        let HostRoot { uid, gid } = self.root;
        let mask = rustix::process::umask(Mode::empty());
        let done = sys::userns::as_file_owner(uid, gid, work).map_err(UsernsError::FileOwner);
        rustix::process::umask(mask);
        done
    }
}

fn write_map(pid: i32, file: &'static str, mappings: &[IdMapping]) -> Result<(), UsernsError> {
    let line = |range: &IdMapping| {
        let IdMapping {
            container_id,
            host_id,
            size,
        } = range;
        format!("{container_id} {host_id} {size}\n")
    };
    let text: String = mappings.iter().map(line).collect();
    // user_namespaces(7): one write for all ranges, once in the life of a namespace
    std::fs::write(format!("/proc/{pid}/{file}"), &text).map_err(|source| UsernsError::Map {
        file,
        pid,
        text,
        source,
    })
}

/// Does to a stage what takes capabilities that it does not have on the host.
pub(crate) fn privilege(pid: i32, process: &Process) -> Result<(), UsernsError> {
    identity::raise(pid, &process.rlimits)
        .map_err(|(name, source)| UsernsError::Rlimit { name, source })?;
    let Some(value) = process.oom_score_adj else {
        return Ok(());
    };
    let written = std::fs::write(format!("/proc/{pid}/oom_score_adj"), value.to_string());
    match written {
        // a lower score than one's own takes CAP_SYS_RESOURCE, and without it stays
        Err(error) if error.kind() == io::ErrorKind::PermissionDenied => Ok(()),
        other => other.map_err(|source| UsernsError::OomScore { value, source }),
    }
}

/// Gives pipes and sockets to the container's root, who can open `/dev/stdout` anew only then, and may
/// give them to another user of the container.
pub(crate) fn give_streams<'fd>(
    streams: impl IntoIterator<Item = BorrowedFd<'fd>>,
    root: HostRoot,
) -> io::Result<()> {
    let (uid, gid) = (Uid::from_raw(root.uid), Gid::from_raw(root.gid));
    for stream in streams {
        let kind = FileType::from_raw_mode(fstat(stream)?.st_mode);
        if !matches!(kind, FileType::Fifo | FileType::Socket) {
            continue;
        }
        match rustix::fs::fchown(stream, Some(uid), Some(gid)) {
            Ok(()) | Err(Errno::INVAL | Errno::PERM | Errno::ROFS | Errno::NOSYS) => {}
            Err(error) => return Err(error.into()),
        }
    }
    Ok(())
}

/// Becomes the root of the user namespace that the process is in, whose ids it has none of yet.
pub(crate) fn become_root() -> io::Result<()> {
    use rustix::process::{Gid, Uid};
    rustix::thread::set_thread_groups(&[])?;
    let (gid, uid) = (Gid::ROOT, Uid::ROOT);
    rustix::thread::set_thread_res_gid(gid, gid, gid)?;
    Ok(rustix::thread::set_thread_res_uid(uid, uid, uid)?)
}

/// Shows a detached mount's owners as those of a user namespace.
pub(crate) fn idmap(
    mount: BorrowedFd<'_>,
    namespace: &UserNamespace,
    path: &std::path::Path,
    depth: sys::mount::Depth,
) -> Result<(), UsernsError> {
    sys::mount::idmap(mount, namespace.file.as_fd(), depth).map_err(|source| UsernsError::Idmap {
        path: path.to_owned(),
        source,
    })
}
