//! Images that builds stand on: found by name, and pulled only when a step needs their files.

use std::sync::Arc;

use api::registry::AuthConfig;
use bytes::Bytes;
use distribution::{Repository, Resolved};
use oci::image::{Descriptor, ImageConfig};
use oci::{Digest, Platform, Reference};

use super::super::built::BuiltLayer;
use super::super::manifests::{CONFIG_MAX, Stored, parse_config};
use super::super::store::Lease;
use super::super::{Image, registry_error};
use super::plan::{Planned, plan};
use super::{ProgressSender, Way};
use crate::engine::Engine;
use crate::error::{Error, Kind, Result, Step};

/// Where an image for a build is looked for.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum BaseMode {
    /// Here, and in its registry if it is not here for the platform.
    #[default]
    PreferLocal,
    /// In its registry, even if it is here.
    Pull,
    /// Here alone.
    Local,
}

/// Which image a build wants.
#[derive(Clone, Debug)]
pub struct BaseRequest {
    /// Its name; without a tag and a digest it means `latest`.
    pub reference: Reference,
    /// What it has to be for.
    pub platform: Platform,
    /// Where it is looked for.
    pub mode: BaseMode,
    /// Who asks its registry.
    pub auth: Option<AuthConfig>,
}

/// An image that a build stands on. What it needs of the store stays there as long as a clone lives.
#[derive(Clone, Debug)]
pub struct BaseImage {
    base: Arc<Base>,
}

#[derive(Debug)]
pub(super) struct Base {
    pub(super) digest: Digest,
    pub(super) manifest: Descriptor,
    pub(super) config: Bytes,
    pub(super) parsed: ImageConfig,
    pub(super) layers: Vec<BuiltLayer>,
    /// Where the layers come from; nothing for an image that is here.
    pub(super) remote: Option<Remote>,
    pub(super) engine: Arc<Engine>,
    pub(super) lease: Arc<Lease>,
}

#[derive(Debug)]
pub(super) struct Remote {
    pub(super) repository: Repository,
    pub(super) plan: Vec<Planned>,
}

impl BaseImage {
    pub(super) fn new(base: Base) -> Self {
        let base = Arc::new(base);
        Self { base }
    }

    /// The digest that the name means: an index's where there is one. The image's id where it is here.
    #[must_use]
    pub fn digest(&self) -> &Digest {
        &self.base.digest
    }

    /// The manifest for the platform.
    #[must_use]
    pub fn manifest(&self) -> &Descriptor {
        &self.base.manifest
    }

    /// The configuration as it is stored.
    #[must_use]
    pub fn config(&self) -> &Bytes {
        &self.base.config
    }

    /// The platform that it is for.
    #[must_use]
    pub fn platform(&self) -> Platform {
        super::super::manifests::platform_of(&self.base.parsed)
    }

    /// Whether it was found here.
    #[must_use]
    pub fn is_local(&self) -> bool {
        self.base.remote.is_none()
    }

    /// The layers, lowest first, whether they are here or not.
    #[must_use]
    pub fn layers(&self) -> Vec<BuiltLayer> {
        let store = self.base.engine.store.layers();
        let sized = |layer: &BuiltLayer| BuiltLayer {
            size: store.size(&layer.chain).unwrap_or(layer.size),
            ..layer.clone()
        };
        self.base.layers.iter().map(sized).collect()
    }

    /// Whether all layers are here.
    #[must_use]
    pub fn is_here(&self) -> bool {
        let store = self.base.engine.store.layers();
        let mut layers = self.base.layers.iter();
        layers.all(|layer| store.exists(&layer.chain))
    }

    /// Brings the layers that are not here; those who want the same wait for one download.
    ///
    /// # Errors
    /// When the registry cannot be reached, refuses or lies, or the disk is full.
    pub async fn bring(&self, progress: &ProgressSender) -> Result<()> {
        let Base {
            engine,
            lease,
            remote: Some(remote),
            ..
        } = &*self.base
        else {
            return Ok(());
        };
        if self.is_here() {
            return Ok(());
        }
        let work = format!("build on {}", remote.repository.reference().familiar());
        engine.note_lease(lease, &work).await;
        let (_, ways) = engine
            .fetch_layers(&remote.repository, &remote.plan, lease, progress)
            .await?;
        let (held, store) = (Arc::clone(lease), Arc::clone(&engine.store));
        engine
            .blocking(move || {
                for blob in ways.iter().filter_map(Way::blob) {
                    blob.place()?;
                }
                let synced = store.content().sync_names();
                synced.step(|| "store the layers of an image")?;
                drop(held);
                Ok(())
            })
            .await
    }
}

impl BuiltLayer {
    /// A layer that is still to be fetched.
    pub(super) fn of_plan(layer: &Planned) -> Self {
        Self {
            blob: layer.descriptor.clone(),
            diff_id: layer.diff_id.clone(),
            chain: layer.chain.clone(),
            size: layer.descriptor.size,
        }
    }
}

impl Engine {
    /// Finds an image for a build, without its layers.
    ///
    /// # Errors
    /// When there is no such image for the platform, or its registry cannot be reached or refuses.
    pub async fn image_for_build(
        self: &Arc<Self>,
        request: &BaseRequest,
        progress: &ProgressSender,
    ) -> Result<BaseImage> {
        let reference = request.reference.clone().or_latest();
        let is_builtin =
            request.mode != BaseMode::Local && self.load_builtin(&reference, progress).await?;
        if is_builtin || request.mode != BaseMode::Pull {
            let name = reference.to_string();
            let found = self.images.for_platform(&name, Some(&request.platform));
            match found {
                Ok(image) => return self.local_base(image).await,
                Err(error) if request.mode == BaseMode::Local => return Err(error),
                Err(_) => {}
            }
        }
        let remote = self.remote_base(&reference, request, progress);
        tokio::select! {
            found = remote => found,
            () = progress.closed() => Err(Error::new(Kind::System, "context canceled: the client has gone")),
        }
    }

    /// An image that is here.
    async fn local_base(self: &Arc<Self>, image: Arc<Image>) -> Result<BaseImage> {
        let lease = self
            .images
            .leases
            .take_there(image.content().collect())
            .await;
        let engine = Arc::clone(self);
        let base = self.blocking(move || {
            let content = engine.store.content();
            let stored = Stored::of(content, &image)?;
            let config = content.read_small(&image.id, CONFIG_MAX);
            let config = config.step(|| format!("read the configuration of image {}", image.id))?;
            Ok(Base {
                digest: image.id.clone(),
                manifest: stored.descriptor(&image.record.manifest),
                config: config.into(),
                parsed: image.config.clone(),
                layers: image.built_layers(&stored.manifest)?,
                remote: None,
                engine: Arc::clone(&engine),
                lease: Arc::new(lease),
            })
        });
        let base = Arc::new(base.await?);
        Ok(BaseImage { base })
    }

    /// An image of the first of its registry and its mirrors that has it.
    async fn remote_base(
        self: &Arc<Self>,
        reference: &Reference,
        request: &BaseRequest,
        progress: &ProgressSender,
    ) -> Result<BaseImage> {
        let sources = self.sources(reference, request.auth.as_ref())?;
        let mut failure = Error::internal("no registry was asked");
        for source in &sources {
            let resolving = async {
                let source = Self::askable(reference, source, &sources).await?;
                let resolved = source.resolve(&request.platform).await;
                let resolved = resolved.map_err(|e| registry_error(&e))?;
                self.verify_signature(reference, &source, &resolved, progress)
                    .await?;
                self.base_of(source, resolved).await
            };
            match resolving.await {
                Ok(base) => return Ok(base),
                Err(error) => failure = error,
            }
        }
        Err(failure)
    }

    async fn base_of(
        self: &Arc<Self>,
        repository: Repository,
        resolved: Resolved,
    ) -> Result<BaseImage> {
        let digest = &resolved.manifest.config.digest;
        let known = self.images.by_id(digest);
        let config = match known.and_then(|_| {
            // a document that is here need not be fetched
            let content = self.store.content();
            content.read_small(digest, CONFIG_MAX).ok()
        }) {
            Some(bytes) => Bytes::from(bytes),
            None => {
                let fetched = repository.fetch_config(&resolved.manifest.config).await;
                fetched.map_err(|e| registry_error(&e))?
            }
        };
        let parsed = parse_config(digest, &config)?;
        let plan = plan(&resolved.manifest.layers, &parsed)?;
        let leased = plan
            .iter()
            .flat_map(|layer| [layer.descriptor.digest.clone(), layer.chain.clone()]);
        let lease = self.images.leases.take(leased.collect()).await;
        let base = Arc::new(Base {
            digest: resolved.digest().clone(),
            manifest: resolved.manifest_descriptor.clone(),
            config,
            parsed,
            layers: plan.iter().map(BuiltLayer::of_plan).collect(),
            remote: Some(Remote { repository, plan }),
            engine: Arc::clone(self),
            lease: Arc::new(lease),
        });
        Ok(BaseImage { base })
    }
}
