//! The unpacker: a layer's tar into a folder that overlayfs can take as a lower directory.
//!
//! An image is hostile input. The unpacker never uses a path of the archive with the host's root:
//! a parent directory is resolved by openat2(2) inside the layer's folder, as if that were the
//! root (`RESOLVE_IN_ROOT`), and the last component is created relative to the parent's fd and
//! never followed. A layer is unpacked without the layers below it, so that all layers of an
//! image unpack in parallel. Every refusal names the entry.

pub(crate) mod attributes;
mod implicit;
mod nodes;
pub(crate) mod path;
mod tree;

use std::io::{self, BufRead, Read};
use std::os::fd::OwnedFd;

use oci::Digest;

use crate::compression::Compression;
use crate::tar_stream::{Archive, ArchiveError, Entry, Kind, feed, shown};
pub(crate) use implicit::complete as complete_implicit;
use tree::Tree;

/// What happens with device nodes in a layer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Devices {
    /// They are made; the device cgroup decides what a container can open.
    Allow,
    /// A layer that has one is refused.
    Refuse,
}

/// How a layer is unpacked.
#[derive(Clone, Debug)]
pub struct ApplyOptions {
    /// The digest that the uncompressed tar must have.
    pub expected_diff_id: Option<Digest>,
    /// Longest uncompressed tar that is accepted, against decompression bombs.
    pub max_bytes: u64,
    /// Most entries that are accepted.
    pub max_entries: u64,
    /// What happens with device nodes.
    pub devices: Devices,
}

impl Default for ApplyOptions {
    fn default() -> Self {
        Self {
            expected_diff_id: None,
            max_bytes: 256 << 30,
            max_entries: 16 << 20,
            devices: Devices::Allow,
        }
    }
}

/// What was unpacked.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Applied {
    /// Digest of the uncompressed tar.
    pub diff_id: Digest,
    /// Bytes of file content in the layer (what `docker history` shows as size).
    pub size: u64,
    /// Length of the uncompressed tar.
    pub tar_size: u64,
    /// Number of entries.
    pub entries: u64,
    /// How the blob was packed.
    pub compression: Compression,
    /// Directories that the layer has only as the parents of its entries, by their path, the
    /// root as the empty path; their owner and mode belong to the layers below.
    pub(crate) implicit: Vec<Vec<u8>>,
    /// The layer hides everything below it.
    pub(crate) opaque_root: bool,
}

/// A layer that cannot be unpacked.
#[derive(Debug, thiserror::Error)]
pub enum UnpackError {
    /// The stream cannot be read.
    #[error(transparent)]
    Archive(#[from] ArchiveError),
    /// The stream cannot be read behind its last entry.
    #[error("read the end of the layer")]
    Tail(#[source] io::Error),
    /// An entry does what an image may not.
    #[error("refused entry {entry:?}: {reason}")]
    Refused {
        /// The entry's name.
        entry: String,
        /// Why it is refused.
        reason: Refusal,
    },
    /// The file system does not take an entry.
    #[error("{step} {entry:?}")]
    Step {
        /// What was done.
        step: &'static str,
        /// For which entry.
        entry: String,
        /// Why it failed.
        #[source]
        source: io::Error,
    },
    /// The uncompressed tar has another digest than the image's configuration says.
    #[error("layer verification failed: expected diff id {expected}, the content is {actual}")]
    DiffId {
        /// The digest in the image's configuration.
        expected: Digest,
        /// The digest of what came.
        actual: Digest,
    },
    /// The decompressing thread ended without a result.
    #[error("the decompression of the layer broke off")]
    Broken,
}

/// Why an entry is refused.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Refusal {
    /// `..` climbs out of the layer.
    #[error("its path leaves the layer")]
    Escapes,
    /// The path has a NUL byte.
    #[error("its path has a NUL byte")]
    Nul,
    /// The path is longer than the kernel takes.
    #[error("its path is too long")]
    TooLong,
    /// The name is empty where one is needed.
    #[error("it has no name")]
    NoName,
    /// Something other than a directory as the root.
    #[error("the root of a layer must be a directory")]
    RootNotDir,
    /// A parent of the entry is no directory.
    #[error("its parent {parent:?} is not a directory of this layer")]
    Parent {
        /// The parent.
        parent: String,
    },
    /// The target of a hard link climbs out, or has a NUL byte, or is too long.
    #[error("the target {target:?} of the hard link is not a path of this layer")]
    LinkPath {
        /// The target.
        target: String,
    },
    /// The target of a hard link is not there.
    #[error("the target {target:?} of the hard link is not in this layer")]
    LinkMissing {
        /// The target.
        target: String,
    },
    /// A whiteout of nothing, `.` or `..`.
    #[error("it is not a valid whiteout")]
    Whiteout,
    /// A device where none is allowed.
    #[error("device nodes are not allowed here")]
    Device,
    /// A user or group id that the kernel does not have.
    #[error("its {what} id {id} is out of range")]
    Id {
        /// `user` or `group`.
        what: &'static str,
        /// The id.
        id: u64,
    },
    /// An extended attribute that is the host's matter.
    #[error("extended attribute {name:?} is not allowed in an image")]
    Xattr {
        /// The attribute.
        name: String,
    },
    /// The archive has too many entries.
    #[error("the layer has more than {max} entries")]
    TooMany {
        /// The limit.
        max: u64,
    },
}

/// Unpacks a layer, packed in any known way, into an empty directory.
pub(crate) fn apply<R: Read + Send>(
    root: OwnedFd,
    source: R,
    options: &ApplyOptions,
) -> Result<Applied, UnpackError> {
    let (pump, feed) = feed::channel(options.max_bytes);
    std::thread::scope(|scope| {
        let decoder = scope.spawn(move || pump.run(source));
        let unpacked = unpack(root, feed, options);
        let compression = decoder.join().map_err(|_| UnpackError::Broken)?;
        let mut applied = unpacked?;
        applied.compression = compression.ok_or(UnpackError::Broken)?;
        Ok(applied)
    })
}

fn unpack(root: OwnedFd, feed: feed::Feed, options: &ApplyOptions) -> Result<Applied, UnpackError> {
    let mut archive = Archive::new(feed);
    let mut unpacker = Unpacker {
        tree: Tree::new(root),
        devices: options.devices,
        umask: attributes::current_umask(),
        size: 0,
    };
    let mut entries = 0_u64;
    while let Some(entry) = archive.next()? {
        entries += 1;
        if entries > options.max_entries {
            let max = options.max_entries;
            return Err(refuse(&entry.name, Refusal::TooMany { max }));
        }
        unpacker.entry(&entry, &mut archive)?;
    }
    let (sum, tar_size) = archive.into_inner().finish().map_err(UnpackError::Tail)?;
    let actual = Digest::from_sha256(&sum);
    if let Some(expected) = options.expected_diff_id.clone()
        && expected != actual
    {
        return Err(UnpackError::DiffId { expected, actual });
    }
    unpacker.tree.set_dir_times()?;
    let (implicit, opaque_root) = unpacker.tree.into_report();
    Ok(Applied {
        diff_id: actual,
        size: unpacker.size,
        tar_size,
        entries,
        compression: Compression::None,
        implicit,
        opaque_root,
    })
}

/// The state of one layer's unpacking.
struct Unpacker {
    tree: Tree,
    devices: Devices,
    /// Mode bits that the process takes from new files.
    umask: u32,
    size: u64,
}

impl Unpacker {
    fn entry<R: BufRead>(
        &mut self,
        entry: &Entry,
        archive: &mut Archive<R>,
    ) -> Result<(), UnpackError> {
        let target = path::normalise(&entry.name).map_err(|why| refuse(&entry.name, why))?;
        let Some((dir, name)) = path::split(&target) else {
            return self.root(entry);
        };
        if let Some(hidden) = name.strip_prefix(b".wh.") {
            return self.whiteout(entry, dir, hidden);
        }
        let owner = attributes::Owner::of(entry).map_err(|why| refuse(&entry.name, why))?;
        attributes::check_xattrs(&entry.xattrs).map_err(|why| refuse(&entry.name, why))?;
        let at = nodes::Place {
            path: &target,
            parent: self.tree.parent(dir, &entry.name)?,
            name: path::c_name(name),
        };
        match entry.kind {
            Kind::File => self.file(entry, archive, &at, owner),
            Kind::Dir => self.dir(entry, &at, owner),
            Kind::Symlink => self.symlink(entry, &at, owner),
            Kind::HardLink => self.hard_link(entry, &at),
            Kind::CharDevice | Kind::BlockDevice | Kind::Fifo => self.node(entry, &at, owner),
        }
    }
}

fn refuse(name: &[u8], reason: Refusal) -> UnpackError {
    let entry = shown(name);
    UnpackError::Refused { entry, reason }
}

/// Names the step and the entry of a failed system call.
fn step<E: Into<io::Error>>(step: &'static str, name: &[u8]) -> impl FnOnce(E) -> UnpackError {
    move |source| UnpackError::Step {
        step,
        entry: shown(name),
        source: source.into(),
    }
}
