//! A tarball as a layer: its bytes as a blob, and its content unpacked, in one pass.

use std::io::{self, Read, Write as _};

use oci::Digest;

use crate::{Applied, ApplyOptions, BlobWriter, ContentError, LayerError, StagedLayer, Store};

/// A tarball cannot be stored as a layer.
#[derive(Debug, thiserror::Error)]
pub enum ImportError {
    /// The content is refused.
    #[error(transparent)]
    Layer(#[from] LayerError),
    /// The blob cannot be stored.
    #[error(transparent)]
    Content(#[from] ContentError),
}

/// A layer that came from a tarball: blob stored, content unpacked, not yet on a parent.
#[derive(Debug)]
pub struct ImportedLayer {
    /// Digest of the bytes as they came, packed or not.
    pub blob: Digest,
    /// Their length.
    pub blob_size: u64,
    /// Media type of the blob.
    pub media_type: &'static str,
    /// The unpacked layer; [`StagedLayer::commit`] puts it on its parent.
    pub staged: StagedLayer,
}

impl ImportedLayer {
    /// What was unpacked.
    #[must_use]
    pub fn applied(&self) -> &Applied {
        self.staged.applied()
    }
}

impl Store {
    /// Stores a tarball, plain or packed, as a layer.
    ///
    /// # Errors
    ///
    /// An entry that is refused, a damaged stream, a full disk; nothing is left then.
    pub fn add_layer_from_tar<R: Read + Send>(
        &self,
        source: R,
        options: &ApplyOptions,
    ) -> Result<ImportedLayer, ImportError> {
        let mut tee = Tee::new(source, self.content().writer(None)?);
        let staged = self.layers().apply(&mut tee, options)?;
        let (blob, blob_size) = tee.into_writer().commit()?;
        Ok(ImportedLayer {
            blob,
            blob_size,
            media_type: staged.applied().compression.media_type(),
            staged,
        })
    }
}

/// Gives the bytes of a source on, and writes them to a blob.
///
/// With it a layer is stored and unpacked while it is downloaded.
#[derive(Debug)]
pub struct Tee<R> {
    source: R,
    writer: BlobWriter,
}

impl<R: Read> Tee<R> {
    /// Starts with nothing read.
    pub fn new(source: R, writer: BlobWriter) -> Self {
        Self { source, writer }
    }

    /// The blob, to be committed when the source is at its end.
    pub fn into_writer(self) -> BlobWriter {
        self.writer
    }
}

impl<R: Read> Read for Tee<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let count = self.source.read(buffer)?;
        self.writer.write_all(&buffer[..count])?;
        Ok(count)
    }
}
