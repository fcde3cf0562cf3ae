//! Layers whose files are no younger than `SOURCE_DATE_EPOCH`, so that two machines make the same image.

use std::io::{self, Write as _};

use engine::BuiltLayer;
use jiff::Timestamp;
use oci::Digest;
use oci::image::media_type;
use storage::{Compression, Store};

use super::layers::{Layers, blocking, descriptor};
use crate::builder::Builder;
use crate::error::{Error, Result, Step};

/// Bytes that are handed on at once.
const PIECE: usize = 256 << 10;

/// Writes the layers that were made here anew, with files no younger than `epoch`, and puts all that
/// lie above them onto these. Layers that came from a registry stay as they are.
pub(super) async fn rewrite(
    builder: &Builder,
    layers: &mut Layers,
    epoch: Timestamp,
) -> Result<()> {
    let mut parent: Option<Digest> = None;
    let mut changed = false;
    for (layer, facts) in layers.layers.iter_mut().zip(&mut layers.facts) {
        let is_plain = layer.blob.digest == layer.diff_id;
        if is_plain || changed {
            let (store, own, below) = (
                builder.engine.store().clone(),
                layer.clone(),
                parent.clone(),
            );
            let handle = tokio::runtime::Handle::current();
            let engine = builder.engine.clone();
            let (new, lease) = blocking(move || {
                let keep = |digests| handle.block_on(engine.keep_content(digests));
                anew(
                    &store,
                    &own,
                    below.as_ref(),
                    is_plain.then_some(epoch),
                    keep,
                )
            })
            .await?;
            changed |= new.chain != layer.chain;
            facts.diff_id = new.diff_id.clone();
            *layer = new;
            layers.leases.push(lease);
        }
        if facts.created > epoch {
            facts.created = epoch;
        }
        parent = Some(layer.chain.clone());
    }
    Ok(())
}

/// Unpacks a layer once more onto another parent, and stores what it was unpacked from.
fn anew(
    store: &Store,
    layer: &BuiltLayer,
    parent: Option<&Digest>,
    epoch: Option<Timestamp>,
    keep: impl Fn(Vec<Digest>) -> engine::ContentLease,
) -> Result<(BuiltLayer, engine::ContentLease)> {
    let step = || format!("rewrite layer {}", layer.diff_id);
    let options = storage::ApplyOptions::default();
    let imported = match epoch {
        None => {
            let source = store.content().open(&layer.blob.digest).step(step)?;
            store.add_layer_from_tar(source, &options).step(step)?
        }
        Some(epoch) => std::thread::scope(|scope| {
            let (reader, writer) = io::pipe().step(step)?;
            let writing = scope.spawn(move || {
                let mut output = io::BufWriter::with_capacity(PIECE, writer);
                let latest = epoch.as_second();
                let written = store
                    .layers()
                    .write_tar_until(&layer.chain, latest, &mut output);
                written.step(step)?;
                output.flush().step(step)
            });
            let imported = store.add_layer_from_tar(reader, &options);
            let broken = |_| Error::internal("the rewriting of a layer broke off");
            let written = writing.join().map_err(broken)?;
            let imported = imported.step(step)?;
            written?;
            Ok::<_, Error>(imported)
        })?,
    };
    let applied = imported.applied().clone();
    let chain = storage::chain_id(parent, &applied.diff_id);
    let lease = keep(vec![chain, imported.blob.clone()]);
    let kind = match applied.compression {
        Compression::None => media_type::OCI_LAYER,
        other => other.media_type(),
    };
    let built = BuiltLayer {
        blob: descriptor(kind, &imported.blob, imported.blob_size),
        diff_id: applied.diff_id,
        chain: imported.staged.commit(parent).step(step)?,
        size: applied.size,
    };
    Ok((built, lease))
}
