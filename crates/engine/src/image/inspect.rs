//! Everything about one image.

use api::container::{GraphDriver, HealthConfig};
use api::image::{ImageConfig, Inspect, Metadata, RootFs};
use api::wire::EmptyObject;
use oci::Platform;
use oci::image::{ContainerDefaults, Healthcheck};

use super::{Image, familiar};
use crate::container::ZERO_TIME;
use crate::engine::Engine;
use crate::error::{Error, Result};

impl Engine {
    /// Tells everything about an image.
    ///
    /// # Errors
    /// When there is no such image, or it is for another platform.
    pub fn image_inspect(
        &self,
        name: &str,
        platform: Option<&Platform>,
        manifests: bool,
    ) -> Result<Inspect> {
        if platform.is_some() && manifests {
            return Err(Error::invalid(
                "conflicting options: manifests and platform options cannot both be set",
            ));
        }
        let image = self.images.for_platform(name, platform)?;
        let record = &image.record;
        // an image whose manifest is damaged can still be looked at
        let (descriptor, entries) = self.image_manifests(&image).unwrap_or_else(|error| {
            tracing::warn!(image = %image.id, %error, "the manifest of an image cannot be read");
            (None, Vec::new())
        });
        let config = &image.config;
        Ok(Inspect {
            id: image.id.to_string(),
            repo_tags: Some(familiar(&record.tags)),
            repo_digests: Some(familiar(&record.digests)),
            comment: config
                .history
                .last()
                .and_then(|h| h.comment.clone())
                .unwrap_or_default(),
            created: config.created.clone().unwrap_or_default(),
            author: config.author.clone().unwrap_or_default(),
            config: Some(defaults(config.config.as_ref())),
            architecture: config.architecture.clone(),
            variant: config.variant.clone().unwrap_or_default(),
            os: config.os.clone(),
            size: i64::try_from(image.size).unwrap_or(i64::MAX),
            graph_driver: self.image_graph_driver(&image),
            root_fs: RootFs {
                kind: config.rootfs.kind.clone(),
                layers: config
                    .rootfs
                    .diff_ids
                    .iter()
                    .map(ToString::to_string)
                    .collect(),
            },
            metadata: Metadata {
                last_tag_time: record
                    .tagged
                    .map_or_else(|| ZERO_TIME.to_owned(), |t| t.to_string()),
            },
            descriptor,
            manifests: if manifests { entries } else { Vec::new() },
            ..Inspect::default()
        })
    }

    fn image_graph_driver(&self, image: &Image) -> GraphDriver {
        let mut paths = image.chain_ids().into_iter().rev().map(|chain| {
            self.store
                .layers()
                .path(&chain)
                .to_string_lossy()
                .into_owned()
        });
        let upper = paths.next().unwrap_or_default();
        let lower: Vec<String> = paths.collect();
        let mut data = std::collections::BTreeMap::from([("UpperDir".to_owned(), upper)]);
        if !lower.is_empty() {
            data.insert("LowerDir".to_owned(), lower.join(":"));
        }
        GraphDriver {
            name: "overlay2".to_owned(),
            data: Some(data),
        }
    }
}

/// The image's defaults as clients see them.
fn defaults(config: Option<&ContainerDefaults>) -> ImageConfig {
    let Some(config) = config else {
        return ImageConfig::default();
    };
    let set = |map: &Option<std::collections::BTreeMap<String, serde_json::Value>>| {
        map.as_ref().map(|map| {
            map.keys()
                .map(|key| (key.clone(), EmptyObject {}))
                .collect()
        })
    };
    ImageConfig {
        user: config.user.clone(),
        exposed_ports: set(&config.exposed_ports).unwrap_or_default(),
        env: config.env.clone(),
        cmd: config.cmd.clone(),
        healthcheck: config.healthcheck.as_ref().map(health),
        args_escaped: config.args_escaped,
        volumes: set(&config.volumes),
        working_dir: config.working_dir.clone(),
        entrypoint: config.entrypoint.clone(),
        on_build: config.on_build.clone(),
        labels: config.labels.clone(),
        stop_signal: config.stop_signal.clone().unwrap_or_default(),
        stop_timeout: config.stop_timeout,
        shell: config.shell.clone().unwrap_or_default(),
        ..ImageConfig::default()
    }
}

pub(crate) fn health(check: &Healthcheck) -> HealthConfig {
    HealthConfig {
        test: check.test.clone().unwrap_or_default(),
        interval: check.interval,
        timeout: check.timeout,
        start_period: check.start_period,
        start_interval: check.start_interval,
        retries: check.retries,
    }
}
