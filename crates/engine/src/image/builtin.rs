//! The image that the engine carries, as an OCI layout in a tar archive (image-layout.md).

use std::collections::HashMap;
use std::io::Read;
use std::sync::Arc;

use api::image::Progress;
use oci::image::{ImageConfig, Index};
use oci::{Digest, Reference};
use storage::chain_id;

use super::pull::{ProgressSender, tell};
use super::store::Registered;
use super::{Layer, Record, parse_manifest};
use crate::engine::Engine;
use crate::error::{Error, Result, Step};

/// The name of the carried image.
const NAME: &str = "docker.io/gorae/hello:latest";

impl Engine {
    /// Loads the carried image if that is what is asked for; needs no registry.
    pub(super) async fn load_builtin(
        self: &Arc<Self>,
        reference: &Reference,
        progress: &ProgressSender,
    ) -> Result<bool> {
        let Some(archive) = self
            .config
            .builtin_image
            .filter(|_| reference.to_string() == NAME)
        else {
            return Ok(false);
        };
        tell(
            progress,
            Progress {
                id: "latest".to_owned(),
                progress_detail: None,
                ..Progress::of("", "Loading gorae/hello from this program")
            },
        )
        .await?;
        let _quiet = self.images.leases.collector.lock().await;
        let engine = Arc::clone(self);
        let (record, digest) = self
            .blocking(move || engine.unpack_builtin(archive))
            .await?;
        let by_digest = reference.with_digest(digest.clone());
        let registered = self
            .register_image(record, Some(reference), Some(&by_digest))
            .await?;
        tell(progress, Progress::status(format!("Digest: {digest}"))).await?;
        let what = if registered == Registered::New {
            "Downloaded newer image for"
        } else {
            "Image is up to date for"
        };
        tell(
            progress,
            Progress::status(format!("Status: {what} {}", reference.familiar())),
        )
        .await?;
        self.image_event("pull", &reference.familiar(), &reference.familiar_name());
        Ok(true)
    }

    fn unpack_builtin(&self, archive: &'static [u8]) -> Result<(Record, Digest)> {
        let files = files(archive)?;
        let file = |name: &str| {
            files
                .get(name)
                .ok_or_else(|| Error::internal(format!("the carried image lacks {name}")))
        };
        let blob = |digest: &Digest| file(&format!("blobs/sha256/{}", digest.hex()));
        let index: Index = serde_json::from_slice(file("index.json")?)
            .step(|| "read the carried image's index")?;
        let first = index
            .manifests
            .first()
            .ok_or_else(|| Error::internal("the carried image has no manifest"))?;
        let manifest = parse_manifest(blob(&first.digest)?)?;
        let config: ImageConfig = serde_json::from_slice(blob(&manifest.config.digest)?)
            .step(|| "read the carried image's configuration")?;
        let content = self.store.content();
        for digest in [&first.digest, &manifest.config.digest] {
            content
                .put_bytes(blob(digest)?)
                .step(|| "store the carried image")?;
        }
        let mut layers: Vec<Layer> = Vec::new();
        for (descriptor, diff_id) in manifest.layers.iter().zip(&config.rootfs.diff_ids) {
            let bytes = blob(&descriptor.digest)?;
            content
                .put_bytes(bytes)
                .step(|| "store the carried image")?;
            let parent = layers.last().map(|layer| layer.chain.clone());
            let options = self.store.layers().options(Some(diff_id.clone()));
            if !self
                .store
                .layers()
                .exists(&chain_id(parent.as_ref(), diff_id))
            {
                let staged = self
                    .store
                    .layers()
                    .apply(bytes.as_slice(), &options)
                    .step(|| "unpack the carried image")?;
                staged
                    .commit(parent.as_ref())
                    .step(|| "unpack the carried image")?;
            }
            let chain = chain_id(parent.as_ref(), diff_id);
            let size = self
                .store
                .layers()
                .size(&chain)
                .step(|| "measure a layer")?;
            layers.push(Layer {
                blob: descriptor.digest.clone(),
                blob_size: descriptor.size,
                diff_id: diff_id.clone(),
                chain,
                size,
            });
        }
        let record = Record {
            id: manifest.config.digest,
            manifest: first.digest.clone(),
            index: None,
            beside: Vec::new(),
            part_of: None,
            tags: Vec::new(),
            digests: Vec::new(),
            layers,
            tagged: None,
            config,
        };
        Ok((record, first.digest.clone()))
    }
}

fn files(archive: &[u8]) -> Result<HashMap<String, Vec<u8>>> {
    let mut files = HashMap::new();
    let step = || "read the carried image";
    for entry in tar::Archive::new(archive).entries().step(step)? {
        let mut entry = entry.step(step)?;
        let name = entry.path().step(step)?.to_string_lossy().into_owned();
        let mut bytes = Vec::new();
        entry.read_to_end(&mut bytes).step(step)?;
        files.insert(name, bytes);
    }
    Ok(files)
}
