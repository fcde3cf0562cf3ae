//! Pulling an image: all layers at once, each hashed, stored and unpacked while it arrives.
//!
//! What several pulls want is fetched and unpacked once. A blob that has come lies beside the
//! store, verified, until its image is known: a pull that is given up leaves there what the next
//! one goes on with.

mod base;
mod base_layers;
mod blob;
mod flight;
mod layer;
mod partial;
mod parts;
mod plan;
mod told;

use std::io::{self, Read};
use std::sync::Arc;

use api::image::Progress;
use api::registry::AuthConfig;
use bytes::{Buf, Bytes};
use distribution::{Credentials, ErrorKind, RegistryError, Repository, Resolved, is_attached_tag};
use oci::image::ImageConfig;
use oci::reference::DEFAULT_DOMAIN;
use oci::{Digest, Platform, Reference};
use tokio::sync::mpsc;

use super::store::{Lease, Registered};
use super::{Layer, Record};
use crate::engine::Engine;
use crate::error::{Error, Kind, Result, Step};
pub use base::{BaseImage, BaseMode, BaseRequest};
pub use base_layers::RemotePlace;
pub(crate) use layer::Fetches;
use layer::Way;
use plan::{Planned, plan};
use told::Teller;

/// Where progress goes; a receiver that is gone cancels the pull.
pub type ProgressSender = mpsc::Sender<Progress>;

/// Chunks of a blob between the network and the unpacker: some 16 KiB to 64 KiB each.
pub(super) const CHUNKS: usize = 64;

impl Engine {
    /// Pulls an image by reference.
    ///
    /// # Errors
    /// When the reference is wrong, the registry refuses or lies, or the disk is full. What has
    /// come so far is kept for a while, so that the next pull goes on with it.
    pub async fn image_pull(
        self: &Arc<Self>,
        reference: &str,
        platform: Option<&str>,
        auth: Option<&AuthConfig>,
        progress: &ProgressSender,
    ) -> Result<()> {
        let reference: Reference = reference
            .parse()
            .map_err(|e: oci::reference::ParseReferenceError| Error::invalid(e.to_string()))?;
        let latest = reference.clone().or_latest();
        if self.load_builtin(&latest, progress).await? {
            return Ok(());
        }
        let platform = match platform.filter(|p| !p.is_empty()) {
            Some(text) => text
                .parse()
                .map_err(|e: oci::platform::ParsePlatformError| Error::invalid(e.to_string()))?,
            None => Platform::host(),
        };
        let mut what = "Image is up to date for";
        for one in self.meant(&reference, auth).await? {
            if self.pull_one(&one, &platform, auth, progress).await? == Registered::New {
                what = "Downloaded newer image for";
            }
        }
        let text = format!("Status: {what} {}", reference.familiar());
        tell(progress, Progress::status(text)).await
    }

    /// What a reference means: a bare name means all tags, as with Docker, whose clients add
    /// `latest` themselves.
    async fn meant(
        &self,
        reference: &Reference,
        auth: Option<&AuthConfig>,
    ) -> Result<Vec<Reference>> {
        if reference.tag().is_some() || reference.digest().is_some() {
            return Ok(vec![reference.clone()]);
        }
        let repository = self
            .registries()
            .repository(reference, auth.map(credentials));
        let tags = repository.tags().await.map_err(|e| registry_error(&e))?;
        // a registry's tags are only texts
        let images = tags.iter().filter(|tag| !is_attached_tag(tag));
        let tags = images.filter_map(|tag| reference.with_tag(tag).ok());
        Ok(tags.collect())
    }

    /// Pulls one image and tells all but the last line.
    async fn pull_one(
        self: &Arc<Self>,
        reference: &Reference,
        platform: &Platform,
        auth: Option<&AuthConfig>,
        progress: &ProgressSender,
    ) -> Result<Registered> {
        let sources = self.sources(reference, auth)?;
        self.make_room().await;
        let shown = reference.tag().map_or_else(
            || {
                reference
                    .digest()
                    .map(ToString::to_string)
                    .unwrap_or_default()
            },
            str::to_owned,
        );
        let from = Progress {
            id: shown,
            progress_detail: None,
            ..Progress::of("", format!("Pulling from {}", reference.path()))
        };
        let (registered, digest) = self
            .pull_from(reference, &sources, platform, from, progress)
            .await?;
        tell(progress, Progress::status(format!("Digest: {digest}"))).await?;
        self.image_event("pull", &reference.familiar(), &reference.familiar_name());
        Ok(registered)
    }

    /// Who is asked for an image, in this order: the mirrors that files about registries name, or
    /// else those of Docker Hub in the settings, and the registry itself.
    fn sources(&self, reference: &Reference, auth: Option<&AuthConfig>) -> Result<Vec<Repository>> {
        let client = self.registries();
        let settings = self.settings();
        let mut sources = client.mirrors(reference).map_err(|e| registry_error(&e))?;
        if sources.is_empty() && reference.domain() == DEFAULT_DOMAIN {
            let mirrors = settings.registry_mirrors.iter();
            sources.extend(mirrors.map(|mirror| client.mirrored(reference, mirror)));
        }
        sources.push(client.repository(reference, auth.map(credentials)));
        Ok(sources)
    }

    /// A source as it may be asked: one that is not trusted with tags is asked for the digest that
    /// another one gives.
    async fn askable(
        reference: &Reference,
        source: &Repository,
        sources: &[Repository],
    ) -> Result<Repository> {
        if source.resolves() || reference.digest().is_some() {
            return Ok(source.clone());
        }
        let mut failure = Error::internal("no registry may be asked for the tag");
        for other in sources.iter().filter(|other| other.resolves()) {
            match other.head_manifest().await {
                Ok(Some(found)) => return Ok(source.at(&found.digest)),
                Ok(None) => failure = Error::internal("the registry does not tell its digests"),
                Err(error) => failure = registry_error(&error),
            }
        }
        Err(failure)
    }

    /// Pulls from the first of the sources that has the image.
    async fn pull_from(
        self: &Arc<Self>,
        reference: &Reference,
        sources: &[Repository],
        platform: &Platform,
        from: Progress,
        progress: &ProgressSender,
    ) -> Result<(Registered, Digest)> {
        let mut left = sources.len();
        let mut failure = Error::internal("no registry was asked");
        for source in sources {
            left -= 1;
            let pulling = async {
                let source = &Self::askable(reference, source, sources).await?;
                let resolved = source.resolve(platform).await;
                let resolved = resolved.map_err(|e| registry_error(&e))?;
                tell(progress, from.clone()).await?;
                self.verify_signature(reference, source, &resolved, progress)
                    .await?;
                let registered = self.fetch(reference, source, &resolved, progress).await?;
                Ok((registered, resolved.digest().clone()))
            };
            let pulled = tokio::select! {
                pulled = pulling => pulled,
                () = progress.closed() => return Err(Error::new(Kind::System, "pull cancelled: the client has gone")),
            };
            match pulled {
                Ok(pulled) => return Ok(pulled),
                Err(error) => failure = error,
            }
            if left > 0 {
                let image = reference.familiar();
                tracing::warn!(image, error = %failure, "a mirror did not give the image");
            }
        }
        Err(failure)
    }

    async fn fetch(
        self: &Arc<Self>,
        reference: &Reference,
        repository: &Repository,
        resolved: &Resolved,
        progress: &ProgressSender,
    ) -> Result<Registered> {
        let manifest = &resolved.manifest;
        let config_bytes = repository
            .fetch_config(&manifest.config)
            .await
            .map_err(|e| registry_error(&e))?;
        let config: ImageConfig = serde_json::from_slice(&config_bytes).map_err(|e| {
            Error::invalid(format!(
                "invalid image configuration {}: {e}",
                manifest.config.digest
            ))
        })?;
        let plan = plan(&manifest.layers, &config)?;
        let mut leased: Vec<Digest> = plan
            .iter()
            .flat_map(|l| [l.descriptor.digest.clone(), l.chain.clone()])
            .collect();
        leased.extend([
            manifest.config.digest.clone(),
            resolved.manifest_descriptor.digest.clone(),
        ]);
        let index = resolved
            .index
            .as_ref()
            .map(|(descriptor, _)| descriptor.digest.clone());
        leased.extend(index.clone());
        // shared with what goes on when this is cancelled
        let lease = Arc::new(self.images.leases.take(leased).await);
        let work = format!("pull {}", reference.familiar());
        self.note_lease(&lease, &work).await;
        let result = self.fetch_layers(repository, &plan, &lease, progress).await;
        let (layers, ways) = match result {
            Ok(fetched) => fetched,
            Err(error) => {
                drop(lease);
                self.collect().await;
                self.trim_partials().await;
                return Err(error);
            }
        };
        let held = Arc::clone(&lease);
        let (store, resolved_documents) =
            (Arc::clone(&self.store), documents(resolved, &config_bytes));
        self.blocking(move || {
            for blob in ways.iter().filter_map(Way::blob) {
                blob.place()?;
            }
            store
                .content()
                .sync_names()
                .step(|| "store the layers of an image")?;
            for document in resolved_documents {
                store
                    .content()
                    .put_bytes(&document)
                    .step(|| "store a manifest")?;
            }
            drop(held);
            Ok(())
        })
        .await?;
        let record = Record {
            id: manifest.config.digest.clone(),
            manifest: resolved.manifest_descriptor.digest.clone(),
            index,
            beside: Vec::new(),
            part_of: None,
            tags: Vec::new(),
            digests: Vec::new(),
            layers,
            tagged: None,
            config,
        };
        let by_digest = reference.with_digest(resolved.digest().clone());
        let tag = reference.digest().is_none().then_some(reference);
        self.register_image(record, tag, Some(&by_digest)).await
    }

    /// Gets all layers at once; each goes onto its parent when that is there.
    async fn fetch_layers(
        self: &Arc<Self>,
        repository: &Repository,
        plan: &[Planned],
        lease: &Arc<Lease>,
        progress: &ProgressSender,
    ) -> Result<(Vec<Layer>, Vec<Way>)> {
        for layer in plan {
            tell(
                progress,
                Progress::of(layer.descriptor.digest.short(), "Pulling fs layer"),
            )
            .await?;
        }
        let fetches = plan
            .iter()
            .map(|layer| self.fetch_layer(repository, layer, progress));
        let mut fetches = std::pin::pin!(futures_util::stream::FuturesOrdered::from_iter(fetches));
        let mut layers = Vec::with_capacity(plan.len());
        let mut ways = Vec::with_capacity(plan.len());
        for layer in plan {
            let way = futures_util::StreamExt::next(&mut fetches)
                .await
                .ok_or_else(|| Error::internal("a layer's fetch has vanished"))??;
            self.commit_layer(layer, &way, lease, progress).await?;
            layers.push(Layer {
                blob: layer.descriptor.digest.clone(),
                blob_size: layer.descriptor.size,
                diff_id: layer.diff_id.clone(),
                chain: layer.chain.clone(),
                size: self
                    .store
                    .layers()
                    .size(&layer.chain)
                    .step(|| "measure a layer")?,
            });
            ways.push(way);
        }
        Ok((layers, ways))
    }

    /// Gets one layer, alone or with other pulls, and tells how far it is.
    async fn fetch_layer(
        self: &Arc<Self>,
        repository: &Repository,
        layer: &Planned,
        progress: &ProgressSender,
    ) -> Result<Way> {
        let mut teller = Teller::new(layer, progress);
        loop {
            let (way, own) = self.get_layer(repository, layer);
            if matches!(way, Way::There) {
                let id = layer.descriptor.digest.short();
                tell(progress, Progress::of(id, "Already exists")).await?;
                return Ok(way);
            }
            match teller.follow(&way).await {
                // another pull has failed: its registry or its credentials need not be ours
                Err(_) if !own && !progress.is_closed() => {}
                // what an earlier pull has left was wrong, and is gone
                Err(_) if way.was_stale() => {}
                other => return other.map(|()| way),
            }
        }
    }

    /// Puts a layer that has come onto its parent.
    async fn commit_layer(
        self: &Arc<Self>,
        layer: &Planned,
        way: &Way,
        lease: &Arc<Lease>,
        progress: &ProgressSender,
    ) -> Result<()> {
        if matches!(way, Way::There) {
            return Ok(());
        }
        if let Way::Layer(flight) = way {
            let (store, fetched, layer) = (
                Arc::clone(&self.store),
                Arc::clone(&flight.cargo),
                layer.clone(),
            );
            let held = Arc::clone(lease);
            let commit = move || {
                let done = fetched.commit(&store, &layer);
                drop(held);
                done
            };
            self.blocking(commit).await?;
        }
        let id = layer.descriptor.digest.short();
        tell(progress, Progress::of(id, "Pull complete")).await
    }
}

/// The chunks of a download as a reader, for the thread that unpacks them.
pub(super) struct ChunkReader {
    source: mpsc::Receiver<io::Result<Bytes>>,
    rest: Bytes,
}

impl ChunkReader {
    pub(super) fn new(source: mpsc::Receiver<io::Result<Bytes>>) -> Self {
        Self {
            source,
            rest: Bytes::new(),
        }
    }
}

impl Read for ChunkReader {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        while self.rest.is_empty() {
            match self.source.blocking_recv() {
                Some(chunk) => self.rest = chunk?,
                None => return Ok(0),
            }
        }
        let n = self.rest.len().min(buffer.len());
        self.rest.copy_to_slice(&mut buffer[..n]);
        Ok(n)
    }
}

fn documents(resolved: &Resolved, config: &Bytes) -> Vec<Bytes> {
    let mut documents = vec![config.clone(), resolved.manifest_bytes.clone()];
    documents.extend(resolved.index.as_ref().map(|(_, bytes)| bytes.clone()));
    documents
}

pub(super) async fn tell(progress: &ProgressSender, message: Progress) -> Result<()> {
    let gone = |_| Error::new(Kind::System, "pull cancelled: the client has gone");
    progress.send(message).await.map_err(gone)
}

pub(crate) fn credentials(auth: &AuthConfig) -> Credentials {
    Credentials {
        username: auth.username.clone(),
        password: auth.password.clone(),
        identity_token: auth.identity_token.clone(),
        registry_token: auth.registry_token.clone(),
    }
}

pub(crate) fn registry_error(error: &RegistryError) -> Error {
    let kind = match error.kind() {
        ErrorKind::NotFound => Kind::NotFound,
        ErrorKind::Unauthorized => Kind::Unauthorized,
        ErrorKind::InvalidInput => Kind::InvalidParameter,
        _ => Kind::System,
    };
    Error::new(kind, error.message())
}
