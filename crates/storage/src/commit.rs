//! What a container has changed as a layer of an image: its blob, and the same unpacked.

use std::io::{self, Write};

use crate::diff::{self, DiffError, Trees};
use crate::files::TreeError;
use crate::{ApplyOptions, BlobWriter, ContentError, LayerError, StagedLayer, Store, gzip};

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
    /// The layer cannot be handed on or packed.
    #[error("{0} the layer")]
    Pack(&'static str, #[source] io::Error),
    /// A thread ended without a result.
    #[error("the making of the layer broke off")]
    Broken,
}

impl CommitError {
    /// Whether the layer was not taken, rather than not made.
    fn is_of_the_output(&self) -> bool {
        matches!(
            self,
            Self::Pack(..) | Self::Diff(DiffError::Tree(TreeError::Write(_)))
        )
    }
}

/// A layer that nobody can see yet; dropped, it leaves nothing.
#[derive(Debug)]
pub struct CommittedLayer {
    /// The layer packed by gzip; [`BlobWriter::commit`] puts it into the content store.
    pub blob: BlobWriter,
    /// The same unpacked; [`StagedLayer::commit`] puts it on its parent.
    pub staged: StagedLayer,
}

impl Store {
    /// Makes a layer of what an upper tree changes: read once, packed and unpacked at once.
    ///
    /// # Errors
    ///
    /// A file that cannot be read or be part of a layer, or a disk that fails.
    pub fn commit_layer(&self, trees: Trees) -> Result<CommittedLayer, CommitError> {
        let pipe = || io::pipe().map_err(|error| CommitError::Pack("hand on", error));
        let mut blob = self.content().writer(None)?;
        let (plain, to_unpack) = pipe()?;
        let (to_pack, packing) = pipe()?;
        std::thread::scope(|scope| {
            let writer = scope.spawn(move || write(trees, to_unpack, packing));
            let packer = scope.spawn(move || {
                let packed = gzip::pack(to_pack, &mut blob);
                let failed = |error| CommitError::Pack("pack", error);
                packed.map(|()| blob).map_err(failed)
            });
            let staged = self.layers().apply(plain, &ApplyOptions::default());
            let written = writer.join().map_err(|_| CommitError::Broken)?;
            let blob = packer.join().map_err(|_| CommitError::Broken)?;
            match written {
                // Who does not take it says why.
                Err(error) if error.is_of_the_output() => {
                    staged?;
                    blob?;
                    Err(error)
                }
                Err(error) => Err(error),
                Ok(()) => Ok(CommittedLayer {
                    staged: staged?,
                    blob: blob?,
                }),
            }
        })
    }
}

/// Writes the layer to both who take it.
fn write(trees: Trees, first: impl Write, second: impl Write) -> Result<(), CommitError> {
    let mut both = io::BufWriter::with_capacity(PIECE, Both(first, second));
    diff::write_layer(trees, &mut both)?;
    both.flush()
        .map_err(|error| CommitError::Pack("hand on", error))
}

struct Both<A, B>(A, B);

impl<A: Write, B: Write> Write for Both<A, B> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.write_all(bytes)?;
        self.1.write_all(bytes)?;
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}
