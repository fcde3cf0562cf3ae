//! Container logs on disk.
//!
//! Docker's two formats, json-file and local; the writer that splits a container's output into
//! records, rotates the file by size and compresses what it has rotated; and the reader that goes
//! through all of it, from the end or from a time on, and on while files are written, rotated and
//! compressed under it. This crate never knows a container, a driver or a client. It never waits
//! and has no thread: its caller says when to write, to read and to compress.
//!
//! # Files
//!
//! `path` is written to, by appending. `path.1` is the one before, and so on; the oldest goes when
//! there would be too many. A rotated file may be `path.N.gz` instead. `path.gz.tmp` and
//! `path.next` are on their way to be one of these, and nobody reads them.
//!
//! Every record has a time of its own: where the clock stands still or steps back a little, the
//! next nanosecond. So the first record of a file names the file for good ([`Position`]), and who
//! has read up to some time can go on behind it.
#![forbid(unsafe_code)]

mod chain;
mod compress;
mod escape;
mod format;
mod json;
mod local;
mod position;
mod reader;
mod record;
mod split;
mod tail;
pub mod timestamp;
mod writer;

pub use escape::escape;
pub use format::Format;
pub use position::Position;
pub use reader::Reader;
pub use record::{Partial, Record, Stream};
pub use split::{PIECE, Piece, Splitter};
pub use writer::{LogFile, Settings};
