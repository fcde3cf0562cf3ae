//! Content store, layers, container directories and volumes on disk.
//!
//! Everything is synchronous and is called from threads that may block. The folder is one
//! [`Store`]; its parts are cheap to clone and safe to use from several threads:
//!
//! - [`content`]: blobs by digest, an OCI image layout that other tools can read;
//! - [`image_archive`] and [`gzip`]: archives of images as they come, and layers packed for a registry;
//! - [`layers`]: one folder or EROFS image a layer, made visible by one rename;
//! - [`trash`]: what is removed, while its space is given back;
//! - [`unpack`]: the unpacker, which reaches the file system by directory fds only;
//! - [`overlay`]: the merged view of an image by fd, mounted nowhere;
//! - [`container`]: the writable layer of containers;
//! - [`view`]: the whole tree of a container, running or not, by fd;
//! - [`files`]: files of such a tree as a tar stream, and back;
//! - [`diff`]: what a container has changed, as a list and as a layer;
//! - [`volume`] and [`copy_up`]: named volumes and their first content.
//!
//! Nothing here talks to a registry, knows an image's name or reads the metadata database.
#![forbid(unsafe_code)]

pub mod account;
pub mod commit;
pub mod compression;
pub mod container;
pub mod content;
pub mod copy_up;
pub mod diff;
mod erofs;
pub mod failpoint;
pub mod files;
mod fsutil;
pub mod gzip;
pub mod image_archive;
pub mod import;
pub mod layers;
pub mod overlay;
pub mod packing;
mod snapshotter;
mod store;
mod tar_stream;
pub mod trash;
pub mod unpack;
pub mod view;
pub mod volume;

pub use compression::Compression;
pub use content::{BlobStore, BlobWriter, ContentError, DetachedBlob, digest_of, digest_of_reader};
pub use fsutil::trees;
pub use fsutil::usage::{Cancel, Usage};
pub use layers::{
    Damage, DetachedLayer, ErofsUnusable, FolderLayer, LayerError, LayerStore, LayerTar,
    LayerTarError, StagedLayer, chain_id,
};
pub use packing::Packing;
pub use snapshotter::{Format, SnapshotterChoice};
pub use store::{OpenError, Store, StoreOptions};
pub use tar_stream::ArchiveError;
pub use trash::{Trash, Waste};
pub use unpack::{Applied, ApplyOptions, Devices, LayerLimits, Refusal, UnpackError};
