//! What a container has changed as a layer of an image: its blob, and the same unpacked.

use std::io::{self, Read, Write};

use crate::archive::TreeError;
use crate::diff::{self, DiffError, Trees};
use crate::{ApplyOptions, BlobWriter, ContentError, LayerError, StagedLayer, Store};

/// How hard the blob is packed: deflate's cheap levels give most of what there is to gain.
const LEVEL: u32 = 3;
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
    /// The layer cannot be packed.
    #[error("{0} the layer")]
    Pack(&'static str, #[source] io::Error),
    /// The thread that writes the layer ended without a result.
    #[error("the writing of the layer broke off")]
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
        let writer = self.content().writer(None)?;
        let (reader, pipe) = io::pipe().map_err(|error| CommitError::Pack("pass", error))?;
        std::thread::scope(|scope| {
            let packer = scope.spawn(move || pack(trees, writer, pipe));
            let staged = self.apply_plain(reader);
            let packed = packer.join().map_err(|_| CommitError::Broken)?;
            match (packed, staged) {
                (Ok(blob), Ok(staged)) => Ok(CommittedLayer { blob, staged }),
                // Each of the two ends when the other one does: what matters is which was first.
                (Err(error), Err(staged)) if error.is_of_the_output() => Err(staged),
                (Err(error), _) | (_, Err(error)) => Err(error),
            }
        })
    }

    fn apply_plain(&self, reader: impl Read + Send) -> Result<StagedLayer, CommitError> {
        Ok(self.layers().apply(reader, &ApplyOptions::default())?)
    }
}

/// Writes the layer to the blob and to whoever unpacks it.
fn pack(trees: Trees, writer: BlobWriter, pipe: impl Write) -> Result<BlobWriter, CommitError> {
    let fail = |step| move |error| CommitError::Pack(step, error);
    let packed = flate2::write::GzEncoder::new(writer, flate2::Compression::new(LEVEL));
    let mut both = io::BufWriter::with_capacity(PIECE, Both { packed, pipe });
    diff::write_layer(trees, &mut both)?;
    let Both { packed, .. } = both
        .into_inner()
        .map_err(|error| fail("write")(error.into_error()))?;
    packed.finish().map_err(fail("pack"))
}

struct Both<A, B> {
    packed: A,
    pipe: B,
}

impl<A: Write, B: Write> Write for Both<A, B> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.pipe.write_all(bytes)?;
        self.packed.write_all(bytes)?;
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        self.pipe.flush()
    }
}
