//! Trees of files over a stream of packets, as BuildKit's clients speak it.
//!
//! The sender lists what it has, in order; the receiver asks for the content of what it does not
//! have, by the number of the entry in the list; both end with FIN. Whoever is on the other side is hostile: names are checked,
//! and nothing is made or opened but by a descriptor of the directory above it.

mod entry;
mod error;
mod index;
mod mode;
mod path;
mod receive;
mod send;
#[cfg(test)]
mod tests;
mod tree;
mod walk;

pub use entry::Entry;
pub use error::FsutilError;
pub use index::Index;
pub use mode::{from_go, to_go};
pub use receive::{Target, receive};
pub use send::{send, send_where};
pub use walk::{Look, Wanted, walk};
