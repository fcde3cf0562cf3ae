//! What an image's manifest and configuration say together about its layers.

use oci::Digest;
use oci::image::{Descriptor, ImageConfig};
use storage::chain_id;

use crate::error::{Error, Result};

/// A layer to get.
#[derive(Clone, Debug)]
pub(super) struct Planned {
    pub(super) descriptor: Descriptor,
    pub(super) diff_id: Digest,
    pub(super) chain: Digest,
    pub(super) parent: Option<Digest>,
}

/// Joins the manifest's layers with the configuration's diff ids.
pub(super) fn plan(layers: &[Descriptor], config: &ImageConfig) -> Result<Vec<Planned>> {
    let diff_ids = &config.rootfs.diff_ids;
    if layers.len() != diff_ids.len() {
        return Err(Error::invalid(format!(
            "invalid image: the manifest has {} layers and the configuration {}",
            layers.len(),
            diff_ids.len()
        )));
    }
    let mut parent: Option<Digest> = None;
    let mut plan = Vec::with_capacity(layers.len());
    for (descriptor, diff_id) in layers.iter().zip(diff_ids) {
        if storage::Compression::from_media_type(&descriptor.media_type).is_none() {
            return Err(Error::invalid(format!(
                "layer {} has the unsupported media type {:?}",
                descriptor.digest, descriptor.media_type
            )));
        }
        let chain = chain_id(parent.as_ref(), diff_id);
        plan.push(Planned {
            descriptor: descriptor.clone(),
            diff_id: diff_id.clone(),
            chain: chain.clone(),
            parent,
        });
        parent = Some(chain);
    }
    Ok(plan)
}
