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

use std::fmt;
use std::io::{self, Read};
use std::os::fd::OwnedFd;
use std::path::Path;

use oci::Digest;

use crate::compression::Compression;
use crate::snapshotter::Snapshotter;
use crate::tar_stream::feed::{self, Feed};
use crate::tar_stream::{Archive, ArchiveError, Entry, Kind, shown};
use attributes::Owner;
pub(crate) use implicit::{complete as complete_implicit, lower_dir};
use tree::Tree;

/// What happens with device nodes in a layer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Devices {
    /// They are made; the device cgroup decides what a container can open.
    Allow,
    /// A layer that has one is refused.
    Refuse,
}

/// So many bytes of a layer may come out of however few.
///
/// gzip makes at most 1032 bytes of one, and files of zeros do; zstd makes a million.
pub const RATIO_FREE: u64 = 1 << 30;

/// How a layer is unpacked.
#[derive(Clone, Debug)]
pub struct ApplyOptions {
    /// The digest that the uncompressed tar must have.
    pub expected_diff_id: Option<Digest>,
    /// Longest uncompressed tar that is accepted, against decompression bombs.
    pub max_bytes: u64,
    /// How many times as long as the packed layer the tar may be, beyond the first
    /// [`RATIO_FREE`] bytes.
    pub max_ratio: u64,
    /// Most entries that are accepted.
    pub max_entries: u64,
    /// Most bytes of names and of directories' attributes, which an image keeps in memory until its
    /// end.
    pub max_memory: u64,
    /// What happens with device nodes.
    pub devices: Devices,
}

impl Default for ApplyOptions {
    fn default() -> Self {
        let limits = LayerLimits::default();
        Self {
            expected_diff_id: None,
            max_bytes: limits.bytes,
            max_ratio: limits.ratio,
            max_entries: limits.entries,
            max_memory: 256 << 20,
            devices: Devices::Allow,
        }
    }
}

/// What a layer of an image may be, against bombs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LayerLimits {
    /// Longest uncompressed tar, in bytes.
    pub bytes: u64,
    /// How many times as long as the packed layer that may be.
    pub ratio: u64,
    /// Most entries.
    pub entries: u64,
}

impl Default for LayerLimits {
    fn default() -> Self {
        Self {
            bytes: 256 << 30,
            ratio: 2048,
            entries: 4 << 20,
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
    /// Some of its directories are as the layers below show them.
    pub(crate) wants_lower: bool,
    /// The layer hides everything below it.
    pub(crate) opaque_root: bool,
}

/// What takes the entries of a layer, in the order of the stream. Their names are cleaned and their
/// owners and attributes allowed.
pub(crate) trait Target {
    /// The layer's own root directory.
    fn root(&mut self, entry: &Entry, owner: Owner) -> Result<(), UnpackError>;

    /// Anything else, at its path below the root.
    fn entry(
        &mut self,
        entry: &Entry,
        path: &[u8],
        owner: Owner,
        archive: &mut Archive<Feed>,
    ) -> Result<(), UnpackError>;

    /// Hides what the layers below have under a name of a directory.
    fn whiteout(&mut self, entry: &Entry, dir: &[u8], hidden: &[u8]) -> Result<(), UnpackError>;

    /// Hides all that the layers below have in a directory.
    fn opaque(&mut self, entry: &Entry, dir: &[u8]) -> Result<(), UnpackError>;

    /// Hides all that the layers below have.
    fn opaque_root(&mut self);

    /// Ends it, behind the last entry.
    fn unpacked(self) -> Result<Unpacked, UnpackError>;
}

/// What became of the entries.
pub(crate) struct Unpacked {
    pub(crate) size: u64,
    pub(crate) opaque_root: bool,
    pub(crate) wants_lower: bool,
    pub(crate) layer: Box<dyn Finish>,
}

/// A layer whose place in a stack is not known yet.
pub(crate) trait Finish: fmt::Debug + Send {
    /// Gives directories that the layer does not describe the attributes that `lowers` show, the
    /// topmost first, and completes the layer.
    fn finish(self: Box<Self>, lowers: &[OwnedFd]) -> io::Result<()>;
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
    /// Names and attributes would fill the memory.
    #[error("the names of the layer take more than {max} bytes")]
    Names {
        /// The limit.
        max: u64,
    },
    /// The archive has too many entries.
    #[error("the layer has more than {max} entries")]
    TooMany {
        /// The limit.
        max: u64,
    },
}

/// Unpacks a layer, packed in any known way, in an empty private folder.
pub(crate) fn apply<R: Read + Send>(
    snapshotter: &dyn Snapshotter,
    folder: &Path,
    source: R,
    options: &ApplyOptions,
) -> Result<(Applied, Box<dyn Finish>), UnpackError> {
    let (pump, hasher, feed) = feed::channel(feed::Limits {
        bytes: options.max_bytes,
        ratio: options.max_ratio,
        free: RATIO_FREE,
    });
    std::thread::scope(|scope| {
        let decoder = scope.spawn(move || pump.run(source));
        scope.spawn(move || hasher.run());
        let unpacked = snapshotter.unpack(folder, feed, options);
        let compression = decoder.join().map_err(|_| UnpackError::Broken)?;
        let (mut applied, layer) = unpacked?;
        applied.compression = compression.ok_or(UnpackError::Broken)?;
        Ok((applied, layer))
    })
}

/// A folder that takes the entries of a layer.
pub(crate) fn folder(root: OwnedFd) -> impl Target {
    Unpacker {
        tree: Tree::new(root),
        umask: attributes::current_umask(),
        size: 0,
    }
}

/// Gives a target all entries of a layer.
pub(crate) fn unpack(
    mut target: impl Target,
    feed: Feed,
    options: &ApplyOptions,
) -> Result<(Applied, Box<dyn Finish>), UnpackError> {
    let mut archive = Archive::new(feed);
    let mut entries = 0_u64;
    while let Some(entry) = archive.next()? {
        entries += 1;
        if entries > options.max_entries {
            let max = options.max_entries;
            return Err(refuse(&entry.name, Refusal::TooMany { max }));
        }
        give(&mut target, &entry, &mut archive, options)?;
    }
    let (sum, tar_size) = archive.into_inner().finish().map_err(UnpackError::Tail)?;
    let actual = Digest::from_sha256(&sum);
    if let Some(expected) = options.expected_diff_id.clone()
        && expected != actual
    {
        return Err(UnpackError::DiffId { expected, actual });
    }
    let unpacked = target.unpacked()?;
    let applied = Applied {
        diff_id: actual,
        size: unpacked.size,
        tar_size,
        entries,
        compression: Compression::None,
        wants_lower: unpacked.wants_lower,
        opaque_root: unpacked.opaque_root,
    };
    Ok((applied, unpacked.layer))
}

/// Gives one entry on, if an image may have it.
fn give(
    target: &mut impl Target,
    entry: &Entry,
    archive: &mut Archive<Feed>,
    options: &ApplyOptions,
) -> Result<(), UnpackError> {
    let path = path::normalise(&entry.name).map_err(|why| refuse(&entry.name, why))?;
    let parts = path::split(&path);
    if let Some((dir, name)) = parts
        && let Some(hidden) = name.strip_prefix(b".wh.")
    {
        return hide(target, entry, dir, hidden);
    }
    if parts.is_none() && entry.kind != Kind::Dir {
        return Err(refuse(&entry.name, Refusal::RootNotDir));
    }
    let owner = attributes::Owner::of(entry).map_err(|why| refuse(&entry.name, why))?;
    attributes::check_xattrs(&entry.xattrs).map_err(|why| refuse(&entry.name, why))?;
    let is_device = matches!(entry.kind, Kind::CharDevice | Kind::BlockDevice);
    if is_device && options.devices == Devices::Refuse {
        return Err(refuse(&entry.name, Refusal::Device));
    }
    if parts.is_none() {
        return target.root(entry, owner);
    }
    target.entry(entry, &path, owner, archive)
}

/// `.wh.name` hides what lower layers have under the name; `.wh..wh..opq` hides all they have
/// in the directory (OCI image specification, layer.md, "Whiteouts").
fn hide(
    target: &mut impl Target,
    entry: &Entry,
    dir: &[u8],
    hidden: &[u8],
) -> Result<(), UnpackError> {
    match hidden {
        b"" | b"." | b".." => Err(refuse(&entry.name, Refusal::Whiteout)),
        b".wh..opq" if dir.is_empty() => {
            target.opaque_root();
            Ok(())
        }
        b".wh..opq" => target.opaque(entry, dir),
        // AUFS kept its own files under such names; they mean nothing here, as in Docker.
        _ if hidden.starts_with(b".wh.") => Ok(()),
        _ => target.whiteout(entry, dir, hidden),
    }
}

/// The state of one layer's unpacking into a folder.
struct Unpacker {
    tree: Tree,
    /// Mode bits that the process takes from new files.
    umask: u32,
    size: u64,
}

impl Target for Unpacker {
    fn root(&mut self, entry: &Entry, owner: Owner) -> Result<(), UnpackError> {
        self.describe_root(entry, owner)
    }

    fn entry(
        &mut self,
        entry: &Entry,
        path: &[u8],
        owner: Owner,
        archive: &mut Archive<Feed>,
    ) -> Result<(), UnpackError> {
        let (dir, name) = path::split(path).unwrap_or_default();
        let at = nodes::Place {
            path,
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

    fn whiteout(&mut self, entry: &Entry, dir: &[u8], hidden: &[u8]) -> Result<(), UnpackError> {
        self.make_whiteout(entry, dir, hidden)
    }

    fn opaque(&mut self, entry: &Entry, dir: &[u8]) -> Result<(), UnpackError> {
        self.make_opaque(entry, dir)
    }

    fn opaque_root(&mut self) {
        self.tree.set_opaque_root();
    }

    fn unpacked(mut self) -> Result<Unpacked, UnpackError> {
        self.tree.set_dir_times()?;
        let (root, implicit, opaque_root) = self.tree.into_report();
        Ok(Unpacked {
            size: self.size,
            opaque_root,
            wants_lower: !implicit.is_empty(),
            layer: Box::new(crate::snapshotter::FolderUnfinished { root, implicit }),
        })
    }
}

pub(crate) fn refuse(name: &[u8], reason: Refusal) -> UnpackError {
    let entry = shown(name);
    UnpackError::Refused { entry, reason }
}

/// Names the step and the entry of a failed system call.
pub(crate) fn step<E: Into<io::Error>>(
    step: &'static str,
    name: &[u8],
) -> impl FnOnce(E) -> UnpackError {
    move |source| UnpackError::Step {
        step,
        entry: shown(name),
        source: source.into(),
    }
}
