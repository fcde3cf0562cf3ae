//! Where the blobs of images are read: from the content store, or, for the plain layers that a build
//! has made, out of the layers' own files, so that nothing is on the disk twice.

use std::collections::HashMap;
use std::io::{self, Read, Seek as _, SeekFrom};
use std::sync::Arc;

use oci::Digest;
use storage::{ContentError, Store};

use super::Layer;

/// Thrown away at once on the way to an offset.
const SKIP: usize = 64 * 1024;

/// The blobs of some images.
#[derive(Clone, Debug)]
pub(crate) struct Blobs {
    store: Arc<Store>,
    /// Layers whose blob is made when it is read: by the blob's digest, which is their diff id.
    made: Arc<HashMap<Digest, Made>>,
}

/// A layer whose blob is not in the store.
#[derive(Clone, Debug)]
struct Made {
    chain: Digest,
    size: u64,
}

impl Blobs {
    /// The blobs of images with these layers.
    pub(crate) fn of<'l>(store: &Arc<Store>, layers: impl Iterator<Item = &'l Layer>) -> Self {
        let made = layers.filter(|layer| layer.is_made(store)).map(|layer| {
            let made = Made {
                chain: layer.chain.clone(),
                size: layer.blob_size,
            };
            (layer.blob.clone(), made)
        });
        Self {
            made: Arc::new(made.collect()),
            store: Arc::clone(store),
        }
    }

    /// A blob's length.
    pub(crate) fn size(&self, digest: &Digest) -> io::Result<u64> {
        match (self.store.content().size(digest), self.made.get(digest)) {
            (Err(ContentError::Missing { .. }), Some(made)) => Ok(made.size),
            (size, _) => size.map_err(io::Error::other),
        }
    }

    /// Opens a blob for reading from an offset.
    pub(crate) fn open(&self, digest: &Digest, offset: u64) -> io::Result<Box<dyn Read + Send>> {
        match (self.store.content().open(digest), self.made.get(digest)) {
            (Err(ContentError::Missing { .. }), Some(made)) => {
                let mut tar = self.store.layers().read_tar(&made.chain, digest)?;
                skip(&mut tar, offset)?;
                Ok(Box::new(tar))
            }
            (file, _) => {
                let mut file = file.map_err(io::Error::other)?;
                file.seek(SeekFrom::Start(offset))?;
                Ok(Box::new(file))
            }
        }
    }
}

fn skip(source: &mut impl Read, mut count: u64) -> io::Result<()> {
    let mut buffer = vec![0; SKIP];
    while count > 0 {
        let most = usize::try_from(count).unwrap_or(SKIP).min(SKIP);
        match source.read(&mut buffer[..most])? {
            0 => return Err(io::ErrorKind::UnexpectedEof.into()),
            read => count -= read as u64,
        }
    }
    Ok(())
}

impl Layer {
    /// Whether the layer's blob is not in the store, and can be made from its files.
    pub(crate) fn is_made(&self, store: &Store) -> bool {
        self.blob == self.diff_id
            && !store.content().has(&self.blob)
            && store
                .layers()
                .info(&self.chain)
                .is_ok_and(|info| info.tar_size == Some(self.blob_size))
    }
}
