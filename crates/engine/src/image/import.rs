//! Making an image of a tarball.

use std::collections::BTreeMap;
use std::io::Read;
use std::sync::Arc;

use jiff::Timestamp;
use oci::image::{
    ContainerDefaults, Descriptor, History, ImageConfig, Manifest, RootFs, media_type,
};
use oci::{Digest, Platform, Reference};
use storage::ApplyOptions;

use super::{Layer, Record, tag};
use crate::engine::Engine;
use crate::error::{Error, Result, Step};

/// What to make of a tarball.
#[derive(Clone, Debug, Default)]
pub struct ImportRequest {
    /// The image's name; it has none when empty.
    pub repository: String,
    /// Its tag.
    pub tag: String,
    /// The remark in its history.
    pub message: String,
    /// Dockerfile instructions to apply to its configuration.
    pub changes: Vec<String>,
    /// Its platform; the host's when empty.
    pub platform: String,
}

impl Engine {
    /// Imports a tarball, plain or packed, as an image of one layer; answers its id.
    ///
    /// # Errors
    /// When the tarball is hostile or damaged, or an instruction is wrong.
    pub async fn image_import(
        self: &Arc<Self>,
        request: ImportRequest,
        source: impl Read + Send + 'static,
    ) -> Result<Digest> {
        let name = match request.repository.as_str() {
            "" => None,
            repository => Some(tag::target(repository, &request.tag)?),
        };
        let platform = match request.platform.as_str() {
            "" => Platform::host(),
            text => text
                .parse()
                .map_err(|e: oci::platform::ParsePlatformError| Error::invalid(e.to_string()))?,
        };
        let mut defaults = ContainerDefaults::default();
        for change in &request.changes {
            apply_change(&mut defaults, change)?;
        }
        // what is imported is not an image's yet: nothing may be collected until it is
        let _quiet = self.images.leases.collector.lock().await;
        let engine = Arc::clone(self);
        let record = self
            .blocking(move || engine.import_layer(&request, platform, defaults, source))
            .await?;
        let id = record.id.clone();
        self.register_image(record, name.as_ref(), None).await?;
        let told = id.to_string();
        if let Some(name) = &name {
            self.image_event("tag", &told, &Reference::familiar(name));
        }
        self.image_event("import", &told, &told);
        Ok(id)
    }

    fn import_layer(
        &self,
        request: &ImportRequest,
        platform: Platform,
        defaults: ContainerDefaults,
        source: impl Read + Send,
    ) -> Result<Record> {
        let imported = self
            .store
            .add_layer_from_tar(source, &ApplyOptions::default())
            .map_err(|e| Error::invalid(crate::error::chain(&e)))?;
        let applied = imported.applied().clone();
        let (blob, blob_size, kind) = (imported.blob, imported.blob_size, imported.media_type);
        let chain = imported
            .staged
            .commit(None)
            .step(|| "add a layer to the store")?;
        let now = Timestamp::now().to_string();
        let config = ImageConfig {
            created: Some(now.clone()),
            architecture: platform.architecture,
            os: platform.os,
            variant: platform.variant,
            config: Some(defaults),
            rootfs: RootFs {
                diff_ids: vec![applied.diff_id.clone()],
                ..RootFs::default()
            },
            history: vec![History {
                created: Some(now),
                comment: Some(request.message.clone())
                    .filter(|m| !m.is_empty())
                    .or(Some("Imported from -".to_owned())),
                ..History::default()
            }],
            ..ImageConfig::default()
        };
        let layer = Descriptor {
            media_type: kind.to_owned(),
            digest: blob.clone(),
            size: blob_size,
            platform: None,
            annotations: BTreeMap::new(),
        };
        let (id, manifest) = self.put_image(&config, vec![layer])?;
        let layers = vec![Layer {
            blob,
            blob_size,
            diff_id: applied.diff_id,
            chain,
            size: applied.size,
        }];
        Ok(Record {
            id,
            manifest,
            index: None,
            tags: Vec::new(),
            digests: Vec::new(),
            layers,
            tagged: None,
            config,
        })
    }

    /// Stores a configuration and a manifest of it; answers their digests.
    fn put_image(&self, config: &ImageConfig, layers: Vec<Descriptor>) -> Result<(Digest, Digest)> {
        let config = serde_json::to_vec(config).step(|| "write an image configuration")?;
        let id = self
            .store
            .content()
            .put_bytes(&config)
            .step(|| "store an image configuration")?;
        let manifest = Manifest {
            schema_version: 2,
            media_type: Some(media_type::OCI_MANIFEST.to_owned()),
            config: Descriptor {
                media_type: media_type::OCI_CONFIG.to_owned(),
                digest: id.clone(),
                size: config.len() as u64,
                platform: None,
                annotations: BTreeMap::new(),
            },
            layers,
            annotations: BTreeMap::new(),
        };
        let bytes = serde_json::to_vec(&manifest).step(|| "write a manifest")?;
        let manifest = self
            .store
            .content()
            .put_bytes(&bytes)
            .step(|| "store a manifest")?;
        Ok((id, manifest))
    }
}

/// Applies one of the Dockerfile instructions that `--change` takes.
fn apply_change(config: &mut ContainerDefaults, change: &str) -> Result<()> {
    let invalid = || {
        Error::invalid(format!(
            "invalid change {change:?}: expected CMD, ENTRYPOINT, ENV, EXPOSE, LABEL, STOPSIGNAL, USER, VOLUME or WORKDIR and its operand"
        ))
    };
    let (word, rest) = change
        .trim()
        .split_once(char::is_whitespace)
        .ok_or_else(invalid)?;
    let rest = rest.trim();
    let pairs = || {
        let (key, value) = rest
            .split_once('=')
            .or_else(|| rest.split_once(' '))
            .ok_or_else(invalid)?;
        Ok::<_, Error>((key.to_owned(), value.trim_matches('"').to_owned()))
    };
    match word.to_ascii_uppercase().as_str() {
        "CMD" => config.cmd = Some(command(rest)),
        "ENTRYPOINT" => config.entrypoint = Some(command(rest)),
        "ENV" => {
            let (key, value) = pairs()?;
            config
                .env
                .get_or_insert_default()
                .push(format!("{key}={value}"));
        }
        "LABEL" => {
            let (key, value) = pairs()?;
            config.labels.get_or_insert_default().insert(key, value);
        }
        "EXPOSE" => {
            let port = if rest.contains('/') {
                rest.to_owned()
            } else {
                format!("{rest}/tcp")
            };
            config
                .exposed_ports
                .get_or_insert_default()
                .insert(port, serde_json::json!({}));
        }
        "VOLUME" => {
            for path in list(rest).unwrap_or_else(|| vec![rest.to_owned()]) {
                config
                    .volumes
                    .get_or_insert_default()
                    .insert(path, serde_json::json!({}));
            }
        }
        "STOPSIGNAL" => config.stop_signal = Some(rest.to_owned()),
        "USER" => config.user = rest.to_owned(),
        "WORKDIR" => config.working_dir = rest.to_owned(),
        _ => return Err(invalid()),
    }
    Ok(())
}

/// A command in exec form, or else in shell form.
fn command(text: &str) -> Vec<String> {
    list(text).unwrap_or_else(|| vec!["/bin/sh".to_owned(), "-c".to_owned(), text.to_owned()])
}

fn list(text: &str) -> Option<Vec<String>> {
    serde_json::from_str(text).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn changes_are_applied() {
        let mut config = ContainerDefaults::default();
        for change in [
            r#"CMD ["a","b"]"#,
            "ENTRYPOINT run it",
            "ENV A=b c",
            "expose 80",
            "LABEL x=y",
            "USER 7",
            "WORKDIR /w",
        ] {
            apply_change(&mut config, change).unwrap();
        }
        assert_eq!(config.cmd.unwrap(), ["a", "b"]);
        assert_eq!(config.entrypoint.unwrap(), ["/bin/sh", "-c", "run it"]);
        assert_eq!(config.env.unwrap(), ["A=b c"]);
        assert!(config.exposed_ports.unwrap().contains_key("80/tcp"));
        assert!(apply_change(&mut ContainerDefaults::default(), "RUN x").is_err());
    }
}
