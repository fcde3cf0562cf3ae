//! What a container has changed as a layer of an image: its blob, and the same unpacked.
//!
//! The blob is a plain tar: nobody waits for it to be packed who may never push it.

use std::io::{self, Write as _};

use crate::diff::{self, DiffError, Trees};
use crate::files::TreeError;
use crate::import::Tee;
use crate::{ApplyOptions, BlobWriter, ContentError, LayerError, StagedLayer, Store};

/// Bytes that are handed on at once.
const PIECE: usize = 256 * 1024;

/// A layer cannot be made.
#[derive(Debug, thiserror::Error)]
pub enum CommitError {
    /// The files cannot be compared, read or written as a layer.
    #[error(transparent)]
    Diff(#[from] DiffError),
    /// The layer cannot be unpacked.
    #[error(transparent)]
    Layer(#[from] LayerError),
    /// The blob cannot be stored.
    #[error(transparent)]
    Content(#[from] ContentError),
    /// The layer cannot be handed on.
    #[error("hand the layer on")]
    Pass(#[source] io::Error),
    /// The thread that writes the layer ended without a result.
    #[error("the making of the layer broke off")]
    Broken,
}

impl CommitError {
    /// Whether the layer was not taken, rather than not made.
    fn is_of_the_output(&self) -> bool {
        matches!(
            self,
            Self::Pass(_) | Self::Diff(DiffError::Tree(TreeError::Write(_)))
        )
    }
}

/// A layer that nobody can see yet; dropped, it leaves nothing.
#[derive(Debug)]
pub struct CommittedLayer {
    /// The layer as a plain tar; [`BlobWriter::commit`] puts it into the content store.
    pub blob: BlobWriter,
    /// The same unpacked; [`StagedLayer::commit`] puts it on its parent.
    pub staged: StagedLayer,
}

impl Store {
    /// Makes a layer of what an upper tree changes: read once, stored and unpacked at once.
    ///
    /// # Errors
    ///
    /// A file that cannot be read or be part of a layer, or a disk that fails.
    pub fn commit_layer(&self, trees: Trees) -> Result<CommittedLayer, CommitError> {
        let (reader, output) = io::pipe().map_err(CommitError::Pass)?;
        let mut tee = Tee::new(reader, self.content().writer(None)?);
        std::thread::scope(|scope| {
            let writer = scope.spawn(move || write(trees, output));
            let staged = self.layers().apply(&mut tee, &ApplyOptions::default());
            let blob = tee.into_writer();
            match writer.join().map_err(|_| CommitError::Broken)? {
                Ok(()) => {}
                // Who does not take it says why.
                Err(error) if error.is_of_the_output() => {
                    staged?;
                    return Err(error);
                }
                Err(error) => return Err(error),
            }
            let staged = staged?;
            Ok(CommittedLayer { blob, staged })
        })
    }
}

fn write(trees: Trees, output: io::PipeWriter) -> Result<(), CommitError> {
    let mut output = io::BufWriter::with_capacity(PIECE, output);
    diff::write_layer(trees, &mut output)?;
    output.flush().map_err(CommitError::Pass)
}
