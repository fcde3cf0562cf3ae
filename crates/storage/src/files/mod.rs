//! Files of a live tree as a tar stream, and a tar stream as files of a live tree.
//!
//! The tree belongs to somebody who may change it at any moment: a container that runs. So each
//! file is reached by directory fds, the last name is never followed, and what is set on a file
//! is set by its own fd (CVE-2018-15664). The root is a detached mount ([`crate::view`]), in which
//! `..` at the top stays there; absolute links are followed inside of it only.

mod extract;
mod find;
mod owners;
mod place;
mod tree;
mod writer;
mod xattrs;

pub use extract::{ExtractError, ExtractOptions, Ownership, Rename, extract, is_archive};
pub use find::{Found, find, find_target, resolve};
pub use owners::Owners;
pub use tree::{TreeError, TreeOptions, write_entry, write_tree};
pub(crate) use tree::{Walker, describe};
pub(crate) use writer::Description;
pub(crate) use xattrs::read as read_xattrs;

/// A file's identity on its file system: device and inode.
pub type Identity = (u64, u64);
