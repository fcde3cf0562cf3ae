//! The layers of a result as an image has them: in the engine's store, and packed where they travel.

use std::collections::HashMap;
use std::io::{Read, Write as _};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use bytes::Bytes;
use engine::{BuiltLayer, ContentLease, Engine};
use oci::Digest;
use oci::image::{Descriptor, media_type};
use serde::{Deserialize, Serialize};
use storage::{Compression, ContentError, Packing, Store, chain_id};
use tokio::sync::mpsc;

use super::config::LayerFacts;
use super::options::{Options, Packed};
use crate::builder::Builder;
use crate::db::{Db, Table};
use crate::error::{Error, Result, Step};
use crate::session::{Session, SessionError};
use crate::snapshot::{Layer, Snapshot, SnapshotError};

/// Pieces of a layer that wait for the client, and bytes of one.
const WAITING: usize = 4;
const PIECE: usize = 1 << 20;
/// What was packed before: `<diff id> <packing>` to the blob.
const PACKED: Table = Table("packed");

/// The layers of an image, and what keeps them.
#[derive(Debug)]
pub(crate) struct Layers {
    /// Lowest first.
    pub(crate) layers: Vec<BuiltLayer>,
    pub(super) facts: Vec<LayerFacts>,
    /// Holds everything that is named above.
    pub(crate) leases: Vec<ContentLease>,
}

/// A blob that was packed.
#[derive(Clone, Debug, Serialize, Deserialize)]
struct PackedBlob {
    digest: Digest,
    size: u64,
}

/// The layers that were packed before, so that none is packed twice in one way.
#[derive(Debug)]
pub struct PackedBlobs(Mutex<HashMap<String, PackedBlob>>);

/// Makes the layers of a result layers of the engine's store; they are moved there, not copied.
pub(crate) async fn adopt(builder: &Builder, snapshot: &Snapshot) -> Result<Layers> {
    if let Some(folder) = snapshot.folder() {
        return Err(Error::invalid(format!(
            "a local folder is no image: {} has no layers",
            folder.display()
        )));
    }
    snapshot.ready().await.map_err(failed)?;
    let layers = snapshot.layers();
    let diff_ids = layers.iter().map(|layer| layer.diff_id());
    let diff_ids = futures_util::future::try_join_all(diff_ids).await;
    let diff_ids = diff_ids.map_err(failed)?;
    let mut parent = None;
    let mut names = diff_ids.clone();
    for diff_id in &diff_ids {
        let chain = chain_id(parent.as_ref(), diff_id);
        names.push(chain.clone());
        parent = Some(chain);
    }
    let blobs = layers.iter().filter_map(|layer| layer.image()?.blob);
    names.extend(blobs.map(|blob| blob.digest));
    let mut found = Layers {
        layers: Vec::with_capacity(layers.len()),
        facts: Vec::with_capacity(layers.len()),
        leases: vec![builder.engine.keep_content(names).await],
    };
    for layer in layers {
        let below = found.layers.last().map(|below| below.chain.clone());
        let built = adopt_one(builder, layer, below.as_ref()).await?;
        found.facts.push(LayerFacts {
            diff_id: built.diff_id.clone(),
            created: layer.created_at(),
            description: layer.description().to_owned(),
        });
        found.layers.push(built);
    }
    Ok(found)
}

#[expect(clippy::needless_pass_by_value, reason = "it is what map_err gives")]
pub(super) fn failed(error: SnapshotError) -> Error {
    Error::system("use the layers of the result", &error)
}

async fn adopt_one(
    builder: &Builder,
    layer: &Arc<Layer>,
    parent: Option<&Digest>,
) -> Result<BuiltLayer> {
    let adopted = layer.adopt(parent).await.map_err(failed)?;
    let store = Arc::clone(builder.engine.store());
    let layer = Arc::clone(layer);
    let work = move || {
        let there = |blob: &Descriptor| store.content().has(&blob.digest);
        let blob = match adopted.blob.filter(there) {
            Some(blob) => blob,
            None => plain(&store, &layer, &adopted.chain, &adopted.diff_id)?,
        };
        Ok(BuiltLayer {
            blob,
            diff_id: adopted.diff_id,
            chain: adopted.chain,
            size: adopted.size,
        })
    };
    blocking(work).await
}

/// Puts a layer's blob into a store of the client's, unless it is there.
pub(crate) async fn send_layer(
    session: &Session,
    store: &str,
    engine: &Arc<Engine>,
    layer: &BuiltLayer,
) -> Result<()> {
    let failed = |error: SessionError| Error::system("send a layer to the client", &error);
    let blob = session.write_blob(store, &layer.blob.digest, layer.blob.size);
    let Some(mut blob) = blob.await.map_err(failed)? else {
        return Ok(());
    };
    let sent = read_layer(engine, layer, |mut pieces| async move {
        while let Some(piece) = pieces.recv().await {
            blob.write(piece).await.map_err(failed)?;
        }
        Ok(blob)
    });
    sent.await?.finish().await.map_err(failed)
}

/// Reads the blob of a layer, and gives it in pieces to somebody who may want no more.
pub(crate) async fn read_layer<T, F: Future<Output = Result<T>>>(
    engine: &Arc<Engine>,
    layer: &BuiltLayer,
    take: impl FnOnce(mpsc::Receiver<Bytes>) -> F,
) -> Result<T> {
    let (sender, pieces) = mpsc::channel::<Bytes>(WAITING);
    let (engine, layer) = (Arc::clone(engine), layer.clone());
    let reading = blocking(move || {
        let mut source = engine.open_built(&layer)?;
        loop {
            let mut piece = vec![0; PIECE];
            let read = source.read(&mut piece);
            let count = read.step(|| format!("read layer {}", layer.blob.digest))?;
            piece.truncate(count);
            // who takes no more says why
            if count == 0 || sender.blocking_send(piece.into()).is_err() {
                return Ok(());
            }
        }
    });
    let (read, taken) = tokio::join!(reading, take(pieces));
    let taken = taken?;
    read?;
    Ok(taken)
}

/// Runs disk work where it may block.
pub(crate) async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> Result<T> + Send + 'static,
) -> Result<T> {
    let done = tokio::task::spawn_blocking(work).await;
    done.unwrap_or_else(|error| {
        Err(Error::internal(format!(
            "a background step failed: {error}"
        )))
    })
}

/// The plain tar of a layer, which is stored only where it cannot be made again from the files.
fn plain(
    store: &Store,
    layer: &Arc<Layer>,
    chain: &Digest,
    diff_id: &Digest,
) -> Result<Descriptor> {
    let info = store.layers().info(chain).step(|| "look for a layer")?;
    let size = match store.content().size(diff_id) {
        Ok(size) => size,
        Err(ContentError::Missing { .. }) => match info.tar_size {
            Some(size) => size,
            None => keep_tar(store, layer, diff_id)?,
        },
        Err(error) => return Err(Error::system("look for the blob of a layer", &error)),
    };
    Ok(descriptor(media_type::OCI_LAYER, diff_id, size))
}

fn keep_tar(store: &Store, layer: &Arc<Layer>, diff_id: &Digest) -> Result<u64> {
    let step = || format!("store the tar of layer {diff_id}");
    let mut writer = store.content().writer(None).step(step)?;
    layer.write_archive(&mut writer).map_err(failed)?;
    writer.flush().step(step)?;
    if writer.digest() != *diff_id {
        return Err(Error::internal(format!(
            "layer {diff_id} gives another tar than before: {}",
            writer.digest()
        )));
    }
    let (_, size) = writer.commit().step(step)?;
    Ok(size)
}

/// A descriptor without platform and annotations.
pub(crate) fn descriptor(media_type: &str, digest: &Digest, size: u64) -> Descriptor {
    Descriptor {
        media_type: media_type.to_owned(),
        digest: digest.clone(),
        size,
        platform: None,
        annotations: std::collections::BTreeMap::new(),
    }
}

/// Packs the layers as an exporter wants them; `usual` is how it packs where nothing is said.
pub(crate) async fn pack(
    builder: &Arc<Builder>,
    layers: &mut Layers,
    packing: Packing,
    force: bool,
) -> Result<()> {
    let packs = layers.layers.iter().map(|layer| {
        let own = Compression::from_media_type(&layer.blob.media_type);
        let wanted =
            own == Some(Compression::None) || (force && own != Some(packing.compression()));
        pack_one(builder, layer, packing, wanted)
    });
    let packed = futures_util::future::try_join_all(packs).await?;
    for (layer, packed) in layers.layers.iter_mut().zip(packed) {
        if let Some((blob, lease)) = packed {
            layer.blob = blob;
            layers.leases.push(lease);
        }
    }
    Ok(())
}

/// Gives packed layers as the plain tars that they were.
pub(crate) async fn unpack(builder: &Arc<Builder>, layers: &mut Layers) -> Result<()> {
    for layer in &mut layers.layers {
        if layer.blob.digest == layer.diff_id {
            continue;
        }
        let (store, wanted) = (Arc::clone(builder.engine.store()), layer.clone());
        let work = move || {
            let step = || format!("unpack layer {}", wanted.blob.digest);
            let source = store.content().open(&wanted.blob.digest).step(step)?;
            let mut source = Compression::reader(source).step(step)?;
            let mut writer = store.content().writer(None).step(step)?;
            std::io::copy(&mut source, &mut writer).step(step)?;
            if writer.digest() != wanted.diff_id {
                return Err(Error::invalid(format!(
                    "layer {} is not what its image says",
                    wanted.blob.digest
                )));
            }
            let (digest, size) = writer.commit().step(step)?;
            Ok(descriptor(media_type::OCI_LAYER, &digest, size))
        };
        layer.blob = blocking(work).await?;
    }
    Ok(())
}

async fn pack_one(
    builder: &Arc<Builder>,
    layer: &BuiltLayer,
    packing: Packing,
    wanted: bool,
) -> Result<Option<(Descriptor, ContentLease)>> {
    if !wanted {
        return Ok(None);
    }
    let key = format!("{} {packing}", layer.diff_id);
    let engine = &builder.engine;
    let known = builder.packed.get(&key);
    if let Some(known) = known {
        let lease = engine.keep_content(vec![known.digest.clone()]).await;
        if engine.store().content().size(&known.digest).ok() == Some(known.size) {
            let kind = packing.compression().media_type();
            return Ok(Some((descriptor(kind, &known.digest, known.size), lease)));
        }
    }
    let (owner, layer) = (Arc::clone(builder), layer.clone());
    let handle = tokio::runtime::Handle::current();
    blocking(move || {
        let store = owner.engine.store();
        let step = || format!("compress layer {}", layer.diff_id);
        let source = open_plain(store, &layer)?;
        let mut writer = store.content().writer(None).step(step)?;
        storage::gzip::pack_as(packing, source, &mut writer).step(step)?;
        let digest = writer.digest();
        // before it is in its place, where it could be collected
        let lease = handle.block_on(owner.engine.keep_content(vec![digest]));
        let (digest, size) = writer.commit().step(step)?;
        let blob = PackedBlob {
            digest: digest.clone(),
            size,
        };
        owner.packed.note(&owner.db, &key, blob);
        let kind = packing.compression().media_type();
        Ok(Some((descriptor(kind, &digest, size), lease)))
    })
    .await
}

/// Opens the plain tar of a layer, whatever its blob is.
pub(crate) fn open_plain(store: &Store, layer: &BuiltLayer) -> Result<Box<dyn Read + Send>> {
    let step = || format!("read layer {}", layer.diff_id);
    if let Ok(file) = store.content().open(&layer.diff_id) {
        return Ok(Box::new(file));
    }
    if layer.blob.digest != layer.diff_id {
        let packed = store.content().open(&layer.blob.digest).step(step)?;
        return Ok(Box::new(Compression::reader(packed).step(step)?));
    }
    let tar = store.layers().read_tar(&layer.chain, &layer.diff_id);
    Ok(Box::new(tar.step(step)?))
}

/// Packs or unpacks as the options say.
pub(super) async fn form(
    builder: &Arc<Builder>,
    layers: &mut Layers,
    options: &Options,
    usual: Packed,
) -> Result<()> {
    let wanted = match options.packed {
        Packed::AsIs => usual,
        given => given,
    };
    match wanted {
        Packed::AsIs => Ok(()),
        Packed::Plain if options.force => unpack(builder, layers).await,
        Packed::Plain => Ok(()),
        Packed::By(packing) => pack(builder, layers, packing, options.force).await,
    }
}

impl PackedBlobs {
    /// Reads what was noted.
    pub(crate) fn load(db: &Db) -> Result<Self> {
        let known = db.load(PACKED)?;
        Ok(Self(Mutex::new(known.into_iter().collect())))
    }

    fn known(&self) -> MutexGuard<'_, HashMap<String, PackedBlob>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn get(&self, key: &str) -> Option<PackedBlob> {
        self.known().get(key).cloned()
    }

    fn note(&self, db: &Db, key: &str, blob: PackedBlob) {
        db.put(PACKED, key, &blob);
        self.known().insert(key.to_owned(), blob);
    }
}
