//! The tar of a layer that lies here as a folder, made again from its files.
//!
//! A layer that was made here needs no blob beside its files: what its folder says over the layers
//! below it, in the order of names, are the bytes that its diff id is the digest of.

use std::io::{self, PipeReader, Read, Write};
use std::thread::JoinHandle;

use oci::Digest;
use sha2::{Digest as _, Sha256};

use super::{FILES, LayerError, LayerStore, missing};
use crate::diff::{self, DiffError, Trees};
use crate::overlay::ViewError;
use crate::snapshotter::Format;

/// The tar of a layer cannot be made.
#[derive(Debug, thiserror::Error)]
pub enum LayerTarError {
    /// The layer, or one below it, is not there.
    #[error(transparent)]
    Layer(#[from] LayerError),
    /// The layer lies here in a form that does not keep all that its tar had.
    #[error("layer {chain} is no folder, so its tar cannot be made again")]
    NoFolder {
        /// Its chain id.
        chain: Digest,
    },
    /// The layers cannot be opened.
    #[error(transparent)]
    View(#[from] ViewError),
    /// The files cannot be read, or the output takes no more.
    #[error(transparent)]
    Diff(#[from] DiffError),
    /// The tar cannot be handed on.
    #[error("hand the tar of the layer on")]
    Pass(#[source] io::Error),
}

/// Bytes that are written at once.
const PIECE: usize = 256 * 1024;

/// The tar of a layer while it is made. Its end is reported only if the whole has the right digest.
#[derive(Debug)]
pub struct LayerTar {
    pipe: PipeReader,
    writer: Option<JoinHandle<Result<(), LayerTarError>>>,
    hash: Sha256,
    expected: Digest,
}

impl Read for LayerTar {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let count = self.pipe.read(buffer)?;
        self.hash.update(&buffer[..count]);
        if count == 0 && !buffer.is_empty() {
            self.finish()?;
        }
        Ok(count)
    }
}

impl LayerTar {
    fn finish(&mut self) -> io::Result<()> {
        let Some(writer) = self.writer.take() else {
            return Ok(());
        };
        let broken = |_| io::Error::other("the making of the layer broke off");
        let written = writer.join().map_err(broken)?;
        written.map_err(io::Error::other)?;
        let actual = Digest::from_sha256(&std::mem::take(&mut self.hash).finalize().into());
        if actual == self.expected {
            return Ok(());
        }
        let text = format!(
            "the files of the layer have changed: it was {} and is {actual}",
            self.expected
        );
        Err(io::Error::new(io::ErrorKind::InvalidData, text))
    }
}

impl LayerStore {
    /// Reads the tar of a layer that is a folder, by its diff id, while a thread makes it.
    ///
    /// # Errors
    ///
    /// No pipe or thread can be had; what goes wrong later is told by the reads.
    pub fn read_tar(&self, chain: &Digest, diff_id: &Digest) -> io::Result<LayerTar> {
        let (pipe, output) = io::pipe()?;
        let (layers, chain) = (self.clone(), chain.clone());
        let thread = std::thread::Builder::new().name("layer-tar".into());
        let writer = thread.spawn(move || {
            let mut output = io::BufWriter::with_capacity(PIECE, output);
            layers.write_tar(&chain, &mut output)?;
            output.flush().map_err(LayerTarError::Pass)
        })?;
        Ok(LayerTar {
            pipe,
            writer: Some(writer),
            hash: Sha256::new(),
            expected: diff_id.clone(),
        })
    }

    /// Writes the tar of a layer that is a folder. It has the digest that the layer is known by only
    /// if it was made here from that folder.
    ///
    /// # Errors
    ///
    /// The layer is not there or no folder, or the output takes no more.
    pub fn write_tar(&self, chain: &Digest, output: impl Write) -> Result<(), LayerTarError> {
        diff::write_layer(self.trees(chain)?, output)?;
        Ok(())
    }

    /// The same, in which files that are younger than a second of Unix time are of that second.
    ///
    /// # Errors
    ///
    /// As [`Self::write_tar`].
    pub fn write_tar_until(
        &self,
        chain: &Digest,
        latest: i64,
        output: impl Write,
    ) -> Result<(), LayerTarError> {
        diff::write_layer_until(self.trees(chain)?, latest, output)?;
        Ok(())
    }

    fn trees(&self, chain: &Digest) -> Result<Trees, LayerTarError> {
        let info = self.info(chain)?;
        if info.format != Format::Folder {
            let chain = chain.clone();
            return Err(LayerTarError::NoFolder { chain });
        }
        let lowers = match &info.parent {
            Some(parent) if self.exists(parent) => self.lowers(parent)?,
            Some(parent) => return Err(missing(parent).into()),
            None => Vec::new(),
        };
        let upper = self.shared.folder(chain).join(FILES);
        Ok(Trees::over(&upper, &lowers)?)
    }
}
