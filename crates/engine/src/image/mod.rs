//! Images: their records, and a file for each verb.

mod attestations;
mod blobs;
mod built;
mod builtin;
mod change;
mod collect;
mod collector;
mod commit;
mod history;
mod import;
mod inspect;
mod lease;
mod list;
mod load;
mod manifests;
mod parts;
mod prune;
mod pull;
mod push;
mod remote;
mod remove;
mod save;
mod search;
mod signature;
mod store;
mod tag;
mod uses;

use std::collections::{BTreeMap, HashMap};
use std::sync::{Arc, RwLock};

use jiff::Timestamp;
use oci::image::{ImageConfig, Manifest};
use oci::{Digest, Platform, Reference};
use serde::{Deserialize, Serialize};

use crate::config::Config;
use crate::container::Record as ContainerRecord;
use crate::db::{Db, Table};
use crate::error::{Error, Result};

pub use attestations::AttestationRequest;
pub use built::{BuiltImage, BuiltLayer, BuiltRelease, ContentLease};
pub(crate) use collect::Needed;
pub use import::{ImportRequest, ImportSource};
pub(crate) use inspect::health;
pub use load::LoadRequest;
pub use pull::{BaseImage, BaseMode, BaseRequest, ProgressSender, RemotePlace};
pub(crate) use pull::{credentials, registry_error};
pub use push::{BuiltPush, PushRequest, PushTold};
pub use save::ImageArchive;
pub use signature::{Demand, SignaturePolicy, SignatureRule};
pub(crate) use store::Leases;

/// A layer of an image.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct Layer {
    /// The blob as it was pulled.
    pub(crate) blob: Digest,
    /// Its length, bytes.
    pub(crate) blob_size: u64,
    /// Digest of the uncompressed tar.
    pub(crate) diff_id: Digest,
    /// The snapshot: this layer on all below.
    pub(crate) chain: Digest,
    /// Bytes of file content.
    pub(crate) size: u64,
}

/// An image as the database keeps it.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct Record {
    /// Digest of the configuration.
    pub(crate) id: Digest,
    pub(crate) manifest: Digest,
    /// The index it was chosen from.
    pub(crate) index: Option<Digest>,
    /// Documents that the index names beside images, and that were made here with it.
    #[serde(default)]
    pub(crate) beside: Vec<Digest>,
    /// The image with whose index this one came for another platform, and with which it goes.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) part_of: Option<Digest>,
    /// Names with tags, normalised.
    pub(crate) tags: Vec<String>,
    /// Names with the digest that the registry knows them by, normalised.
    pub(crate) digests: Vec<String>,
    /// Lowest first.
    pub(crate) layers: Vec<Layer>,
    pub(crate) tagged: Option<Timestamp>,
    /// The configuration as it was pulled.
    pub(crate) config: ImageConfig,
}

/// An image.
#[derive(Clone, Debug)]
pub(crate) struct Image {
    pub(crate) record: Record,
    pub(crate) id: Digest,
    pub(crate) config: ImageConfig,
    /// Bytes of all layers' content.
    pub(crate) size: u64,
}

impl Image {
    fn new(record: Record) -> Self {
        let size = record.layers.iter().map(|layer| layer.size).sum();
        Self {
            id: record.id.clone(),
            config: record.config.clone(),
            size,
            record,
        }
    }

    /// Chain ids, lowest layer first.
    pub(crate) fn chain_ids(&self) -> Vec<Digest> {
        self.record
            .layers
            .iter()
            .map(|layer| layer.chain.clone())
            .collect()
    }

    fn platform(&self) -> Platform {
        Platform {
            architecture: self.config.architecture.clone(),
            os: self.config.os.clone(),
            variant: self.config.variant.clone(),
            os_version: None,
        }
    }

    /// All of its blobs and layers, for a lease.
    fn content(&self) -> impl Iterator<Item = Digest> {
        let layers = self.record.layers.iter();
        self.blobs()
            .cloned()
            .chain(layers.map(|layer| layer.chain.clone()))
    }

    /// Everything in the content store that the image needs.
    fn blobs(&self) -> impl Iterator<Item = &Digest> {
        let documents = [&self.record.id, &self.record.manifest].into_iter();
        documents
            .chain(self.record.index.as_ref())
            .chain(&self.record.beside)
            .chain(self.record.layers.iter().map(|layer| &layer.blob))
    }
}

/// The length of an image's id with its algorithm; what is longer can be a name alone.
const ID_MAX: usize = "sha256:".len() + 64;

/// The images by id and by name.
#[derive(Debug, Default)]
pub(crate) struct Images {
    tables: RwLock<Tables>,
    pub(crate) leases: Leases,
    /// Held over a change in memory and in the database, so that both see changes in one order.
    order: tokio::sync::Mutex<()>,
    uses: uses::Uses,
    fetches: pull::Fetches,
}

#[derive(Clone, Debug, Default)]
struct Tables {
    by_id: HashMap<Digest, Arc<Image>>,
    /// Normalised names with tag or digest.
    by_name: BTreeMap<String, Digest>,
}

impl Tables {
    fn insert(&mut self, image: Image) -> Arc<Image> {
        let image = Arc::new(image);
        for name in image.record.tags.iter().chain(&image.record.digests) {
            self.by_name.insert(name.clone(), image.id.clone());
        }
        self.by_id.insert(image.id.clone(), Arc::clone(&image));
        image
    }

    fn remove(&mut self, id: &Digest) {
        self.by_id.remove(id);
        self.by_name.retain(|_, owner| owner != id);
    }
}

impl Images {
    pub(crate) fn load(db: &Db) -> Result<Self> {
        let mut tables = Tables::default();
        for (_, record) in db.load::<Record>(Table::Images)? {
            tables.insert(Image::new(record));
        }
        Ok(Self {
            tables: RwLock::new(tables),
            leases: Leases::load(db)?,
            order: tokio::sync::Mutex::default(),
            uses: uses::Uses::load(db)?,
            fetches: pull::Fetches::default(),
        })
    }

    fn read(&self) -> std::sync::RwLockReadGuard<'_, Tables> {
        self.tables
            .read()
            .unwrap_or_else(std::sync::PoisonError::into_inner)
    }

    fn write(&self) -> std::sync::RwLockWriteGuard<'_, Tables> {
        self.tables
            .write()
            .unwrap_or_else(std::sync::PoisonError::into_inner)
    }

    /// Keeps images from being changed as long as it is held.
    pub(crate) async fn order(&self) -> tokio::sync::MutexGuard<'_, ()> {
        self.order.lock().await
    }

    pub(crate) fn all(&self) -> Vec<Arc<Image>> {
        self.read().by_id.values().cloned().collect()
    }

    pub(crate) fn by_id(&self, id: &Digest) -> Option<Arc<Image>> {
        self.read().by_id.get(id).cloned()
    }

    /// The image of a name, an id, or an id's unique beginning, for a platform if one is asked for.
    pub(crate) fn get(&self, name: &str, platform: Option<&str>) -> Result<Arc<Image>> {
        let wanted: Option<Platform> = platform
            .filter(|p| !p.is_empty())
            .map(str::parse)
            .transpose()
            .map_err(|e: oci::platform::ParsePlatformError| Error::invalid(e.to_string()))?;
        self.for_platform(name, wanted.as_ref())
    }

    /// The same, with a platform that is known to be one.
    pub(crate) fn for_platform(&self, name: &str, wanted: Option<&Platform>) -> Result<Arc<Image>> {
        let image = self.find(name)?;
        let own = image.platform();
        let Some(wanted) = wanted.filter(|wanted| !wanted.accepts(&own)) else {
            return Ok(image);
        };
        self.beside(&image, wanted).ok_or_else(|| {
            Error::not_found(format!(
                "image with reference {name} was found but its platform ({own}) does not match the specified platform ({wanted})"
            ))
        })
    }

    fn find(&self, name: &str) -> Result<Arc<Image>> {
        let tables = self.read();
        let by_digest = name
            .parse::<Digest>()
            .ok()
            .or_else(|| format!("sha256:{name}").parse().ok());
        if let Some(digest) = &by_digest {
            let image = tables.by_id.get(digest).cloned();
            if let Some(image) = image.or_else(|| tables.by_document(digest)) {
                return Ok(image);
            }
        }
        let reference = match name.parse::<Reference>() {
            Ok(reference) => Some(reference.or_latest()),
            Err(error) if name.len() > ID_MAX || (name.len() < 64 && !is_hex(name)) => {
                return Err(Error::invalid(
                    format!("invalid reference format: {error}")
                        .replace("format: invalid reference format", "format"),
                ));
            }
            Err(_) => None,
        };
        if let Some(reference) = &reference
            && let Some(image) = tables.named(reference)
        {
            return Ok(image);
        }
        tables.by_prefix(name)?.ok_or_else(|| {
            let shown = reference.map_or_else(|| name.to_owned(), |r| r.familiar());
            Error::not_found(format!("No such image: {shown}"))
        })
    }

    /// What `ps` shows as the image: the name used, unless it has moved to another image since.
    pub(crate) fn shown_name(&self, name: &str, id: &Digest) -> String {
        match self.find(name) {
            Ok(image) if image.id == *id => name.to_owned(),
            _ => id.to_string(),
        }
    }

    /// Whether a container's image is the named one or stands on it.
    pub(crate) fn is_ancestor(&self, name: &str, container: &ContainerRecord) -> bool {
        let Ok(image) = self.find(name) else {
            return false;
        };
        let chains = image.chain_ids();
        image.id == container.image
            || (!chains.is_empty()
                && container.layers.starts_with(&chains)
                && container.layers.len() > chains.len())
    }
}

impl Tables {
    /// A digest names exactly; where there is a tag beside it, the digest decides.
    fn named(&self, reference: &Reference) -> Option<Arc<Image>> {
        let name = match reference.digest() {
            Some(digest) => reference.with_digest(digest.clone()).to_string(),
            None => reference.to_string(),
        };
        self.by_name
            .get(&name)
            .and_then(|id| self.by_id.get(id))
            .cloned()
    }

    fn by_prefix(&self, text: &str) -> Result<Option<Arc<Image>>> {
        let hex = text.strip_prefix("sha256:").unwrap_or(text);
        if !is_hex(hex) {
            return Ok(None);
        }
        let mut matches = self
            .by_id
            .values()
            .filter(|image| image.id.hex().starts_with(hex));
        match (matches.next(), matches.next()) {
            (found, None) => Ok(found.cloned()),
            (_, Some(_)) => Err(Error::invalid(format!(
                "ambiguous reference: {text} is the beginning of several image ids"
            ))),
        }
    }
}

fn is_hex(text: &str) -> bool {
    !text.is_empty()
        && text
            .bytes()
            .all(|b| b.is_ascii_digit() || (b'a'..=b'f').contains(&b))
}

/// Normalised names in the form people write.
fn familiar(names: &[String]) -> Vec<String> {
    names
        .iter()
        .map(|name| {
            name.parse::<Reference>()
                .map_or_else(|_| name.clone(), |r| r.familiar())
        })
        .collect()
}

/// The registry client of an engine.
pub(crate) fn client(config: &Config) -> Result<distribution::Client> {
    let mut settings = distribution::ClientConfig {
        insecure_registries: config.insecure_registries.clone(),
        user_agent: format!("gorae/{}", env!("CARGO_PKG_VERSION")),
        max_connections_per_host: config.max_concurrent_downloads,
        ..distribution::ClientConfig::from_env()
    };
    settings.retry.attempts = config.max_download_attempts;
    settings.hosts.own = vec![config.registries.clone()];
    let proxies = [
        (&mut settings.proxy.http, &config.http_proxy),
        (&mut settings.proxy.https, &config.https_proxy),
        (&mut settings.proxy.no_proxy, &config.no_proxy),
    ];
    for (place, value) in proxies {
        if let Some(value) = value {
            place.clone_from(value);
        }
    }
    Ok(distribution::Client::new(settings))
}

/// Reads a manifest and refuses one that is also an index (GHSA-5j5w-g665-5m35).
fn parse_manifest(bytes: &[u8]) -> Result<Manifest> {
    serde_json::from_slice(bytes).map_err(|e| Error::invalid(format!("invalid manifest: {e}")))
}
