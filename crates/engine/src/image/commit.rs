//! Making an image of a container: its image's layers, and one of what it has changed.

use std::collections::BTreeMap;
use std::sync::Arc;

use api::archive::Commit;
use api::container::Config;
use jiff::Timestamp;
use oci::image::{ContainerDefaults, Descriptor, Healthcheck, History, ImageConfig};
use oci::{Digest, Platform, Reference};
use storage::commit::CommittedLayer;

use super::{Image, Layer, Record, change, parse_manifest, tag};
use crate::container::archive::threaded;
use crate::container::{Container, Record as ContainerRecord, Status};
use crate::engine::Engine;
use crate::error::{Error, Result, Step};

/// The longest manifest that is read.
const MAX_MANIFEST: u64 = 8 << 20;

impl Engine {
    /// Makes an image of a container and answers its id.
    ///
    /// # Errors
    /// When there is no such container, an instruction is wrong, or its files cannot be a layer.
    pub async fn container_commit(
        self: &Arc<Self>,
        wanted: Commit,
        config: Option<Config>,
    ) -> Result<Digest> {
        if wanted.container.is_empty() {
            return Err(Error::invalid("invalid name or ID supplied: \"\""));
        }
        let container = self.containers.get(&wanted.container)?;
        let name = match wanted.repo.as_str() {
            "" => None,
            repository => Some(tag::target(repository, &wanted.tag)?),
        };
        let record = container.record().clone();
        if matches!(record.state.status, Status::Removing | Status::Dead) {
            return Err(Error::conflict(format!(
                "You cannot commit container {} which is {}",
                record.id,
                record.state.status.word()
            )));
        }
        let defaults = defaults(&record, config, &wanted.changes)?;
        self.make_room().await;
        let pause = wanted.pause && record.state.status == Status::Running;
        if pause {
            self.container_pause(record.id.as_str()).await?;
        }
        let made = self
            .commit_as(&record, &wanted, defaults, name.as_ref())
            .await;
        if let Ok(id) = &made {
            self.tell_commit(&container, &wanted, id, name.as_ref());
        }
        if pause && let Err(error) = self.container_unpause(record.id.as_str()).await {
            // it may have been stopped, or resumed by somebody else
            tracing::debug!(id = %record.id, %error, "a committed container was not resumed");
        }
        made
    }

    async fn commit_as(
        self: &Arc<Self>,
        record: &ContainerRecord,
        wanted: &Commit,
        defaults: ContainerDefaults,
        name: Option<&Reference>,
    ) -> Result<Digest> {
        let (engine, owned) = (Arc::clone(self), record.clone());
        let layer = threaded(move || {
            let trees = engine.trees(&owned)?;
            engine.store.commit_layer(trees).map_err(|error| {
                let message = format!("commit container {}", owned.id);
                match error {
                    storage::commit::CommitError::Diff(storage::diff::DiffError::Reserved {
                        ..
                    }) => Error::invalid(format!("{message}: {}", crate::error::chain(&error))),
                    _ => Error::system(message, &error),
                }
            })
        })
        .await?;
        // from here on nothing may be collected until the image is known
        let _quiet = self.images.leases.collector.lock().await;
        let image = self.images.by_id(&record.image).ok_or_else(|| {
            Error::conflict(format!(
                "cannot commit container {}: its image {} was removed",
                record.id, record.image
            ))
        })?;
        let (engine, owned, wanted) = (Arc::clone(self), record.clone(), wanted.clone());
        let made = self
            .blocking(move || engine.put_commit(&owned, &image, layer, &wanted, defaults))
            .await?;
        let id = made.id.clone();
        self.register_image(made, name, None).await?;
        Ok(id)
    }

    fn put_commit(
        &self,
        container: &ContainerRecord,
        image: &Image,
        layer: CommittedLayer,
        wanted: &Commit,
        defaults: ContainerDefaults,
    ) -> Result<Record> {
        let mut descriptors = self.descriptors(image)?;
        let mut layers = image.record.layers.clone();
        let added = self.put_layer(layer, container.layers.last())?;
        descriptors.push(Descriptor {
            media_type: oci::image::media_type::OCI_LAYER.to_owned(),
            digest: added.blob.clone(),
            size: added.blob_size,
            platform: None,
            annotations: BTreeMap::new(),
        });
        let config = config_on(image, container, &added, wanted, defaults);
        layers.push(added);
        let (id, manifest) = self.put_image(&config, descriptors)?;
        Ok(Record {
            id,
            manifest,
            index: None,
            beside: Vec::new(),
            part_of: None,
            tags: Vec::new(),
            digests: Vec::new(),
            layers,
            tagged: None,
            config,
        })
    }

    fn put_layer(&self, layer: CommittedLayer, parent: Option<&Digest>) -> Result<Layer> {
        let step = || "add a layer to the store";
        let applied = layer.staged.applied().clone();
        let (blob, blob_size) = layer.blob.commit().step(step)?;
        let chain = layer.staged.commit(parent).step(step)?;
        Ok(Layer {
            blob,
            blob_size,
            diff_id: applied.diff_id,
            chain,
            size: applied.size,
        })
    }

    /// The layers of an image as an OCI manifest names them.
    fn descriptors(&self, image: &Image) -> Result<Vec<Descriptor>> {
        let bytes = self
            .store
            .content()
            .read_small(&image.record.manifest, MAX_MANIFEST)
            .step(|| format!("read the manifest of image {}", image.id))?;
        let mut layers = parse_manifest(&bytes)?.layers;
        for layer in &mut layers {
            if let Some(kind) = storage::Compression::from_media_type(&layer.media_type) {
                kind.media_type().clone_into(&mut layer.media_type);
            }
        }
        Ok(layers)
    }

    fn tell_commit(
        &self,
        container: &Container,
        wanted: &Commit,
        id: &Digest,
        name: Option<&Reference>,
    ) {
        let id = id.to_string();
        let name = name.map(Reference::familiar).unwrap_or_default();
        self.image_event("create", &id, &id);
        if !name.is_empty() {
            self.image_event("tag", &id, &name);
        }
        let extra = [
            ("comment", wanted.comment.as_str()),
            ("imageID", id.as_str()),
            ("imageRef", name.as_str()),
        ];
        self.container_event("commit", container, &extra);
    }
}

/// The image's configuration: that of the container's image, with the container's own settings and
/// one more step of history.
fn config_on(
    image: &Image,
    container: &ContainerRecord,
    layer: &Layer,
    wanted: &Commit,
    defaults: ContainerDefaults,
) -> ImageConfig {
    let now = Some(Timestamp::now().to_string());
    let given = |text: &str| Some(text.to_owned()).filter(|text| !text.is_empty());
    let host = Platform::host();
    let own = |text: &str, host: String| {
        if text.is_empty() {
            host
        } else {
            text.to_owned()
        }
    };
    let mut config = image.config.clone();
    config.architecture = own(&config.architecture, host.architecture);
    config.os = own(&config.os, host.os);
    config.created.clone_from(&now);
    config.author = given(&wanted.author);
    config.config = Some(defaults);
    config.rootfs.diff_ids.push(layer.diff_id.clone());
    config.history.push(History {
        created: now,
        created_by: given(&container.args().join(" ")),
        author: given(&wanted.author),
        comment: given(&wanted.comment),
        empty_layer: false,
    });
    config
}

/// The image's defaults: the client's or the container's, changed, and completed by the container's.
fn defaults(
    record: &ContainerRecord,
    config: Option<Config>,
    changes: &[String],
) -> Result<ContainerDefaults> {
    let own = of_config(record.config.clone());
    let mut defaults = config.map_or_else(|| own.clone(), of_config);
    change::apply(&mut defaults, changes)?;
    complete(&mut defaults, own);
    Ok(defaults)
}

/// What of a container's configuration an image has.
fn of_config(config: Config) -> ContainerDefaults {
    let objects = |keys: Vec<String>| {
        let all: BTreeMap<_, _> = keys
            .into_iter()
            .map(|key| (key, serde_json::json!({})))
            .collect();
        Some(all).filter(|all| !all.is_empty())
    };
    ContainerDefaults {
        user: config.user,
        exposed_ports: objects(config.exposed_ports.into_keys().collect()),
        env: config.env.filter(|env| !env.is_empty()),
        entrypoint: config.entrypoint.map(|words| words.0),
        cmd: config.cmd.map(|words| words.0),
        volumes: objects(config.volumes.unwrap_or_default().into_keys().collect()),
        working_dir: config.working_dir,
        labels: config.labels.filter(|labels| !labels.is_empty()),
        stop_signal: Some(config.stop_signal).filter(|signal| !signal.is_empty()),
        stop_timeout: config.stop_timeout,
        shell: Some(config.shell).filter(|shell| !shell.is_empty()),
        healthcheck: config.healthcheck.map(|check| Healthcheck {
            test: Some(check.test).filter(|test| !test.is_empty()),
            interval: check.interval,
            timeout: check.timeout,
            start_period: check.start_period,
            start_interval: check.start_interval,
            retries: check.retries,
        }),
        on_build: config.on_build.filter(|triggers| !triggers.is_empty()),
        args_escaped: config.args_escaped,
    }
}

/// Fills what is not set from the container's settings, by the rules of a container's creation.
fn complete(defaults: &mut ContainerDefaults, own: ContainerDefaults) {
    if defaults.user.is_empty() {
        defaults.user = own.user;
    }
    if let Some(ports) = own.exposed_ports {
        let all = defaults.exposed_ports.get_or_insert_default();
        ports.into_iter().for_each(|(key, value)| {
            all.entry(key).or_insert(value);
        });
    }
    for variable in own.env.into_iter().flatten() {
        let name = variable.split('=').next();
        let env = defaults.env.get_or_insert_default();
        if !env.iter().any(|other| other.split('=').next() == name) {
            env.push(variable);
        }
    }
    if let Some(labels) = own.labels {
        let all = defaults.labels.get_or_insert_default();
        labels.into_iter().for_each(|(key, value)| {
            all.entry(key).or_insert(value);
        });
    }
    let none = |words: &Option<Vec<String>>| words.as_ref().is_none_or(Vec::is_empty);
    if none(&defaults.entrypoint) {
        if none(&defaults.cmd) {
            defaults.cmd = own.cmd;
        }
        if defaults.entrypoint.is_none() {
            defaults.entrypoint = own.entrypoint;
        }
    }
    if let Some(volumes) = own.volumes {
        let all = defaults.volumes.get_or_insert_default();
        volumes.into_iter().for_each(|(key, value)| {
            all.entry(key).or_insert(value);
        });
    }
    if defaults.working_dir.is_empty() {
        defaults.working_dir = own.working_dir;
    }
    defaults.healthcheck = defaults.healthcheck.take().or(own.healthcheck);
    defaults.stop_signal = defaults.stop_signal.take().or(own.stop_signal);
    defaults.stop_timeout = defaults.stop_timeout.or(own.stop_timeout);
    defaults.shell = defaults.shell.take().or(own.shell);
}
