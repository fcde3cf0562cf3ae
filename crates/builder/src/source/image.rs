//! Images that builds stand on (`docker-image://`).
//!
//! An image is found without its layers. What it is known by is what its layers hold, so that a base
//! that was only given another name or configuration leaves everything above it cached. The layers
//! come when a step first needs their files.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};

use api::image::Progress as PullProgress;
use api::registry::AuthConfig;
use bytes::Bytes;
use engine::{BaseImage, BaseMode, BaseRequest, BuiltLayer, Kind};
use jiff::Timestamp;
use oci::image::ImageConfig;
use oci::reference::DEFAULT_DOMAIN;
use oci::{Digest, Platform, Reference};
use tokio::sync::{OnceCell, mpsc};

use crate::error::{Error, Result};
use crate::job::Job;
use crate::llb::{digest_of, pb};
use crate::op::{CacheMap, OpContext, SessionIds};
use crate::progress::{Status, VertexProgress};
use crate::session;
use crate::snapshot::{Fetch, Fetching, ImageLayer, LayerFacts, Snapshot, Snapshots};

/// The scheme of images in registries and in the engine's store.
pub const SCHEME: &str = "docker-image://";
/// Images that a job has found, at most; more of them are found again.
const KNOWN_MAX: usize = 256;
/// The name by which clients know the credentials of Docker Hub.
const HUB: &str = "registry-1.docker.io";
/// Reports of a pull that wait to be told.
const REPORTS: usize = 64;

/// Which image is meant.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
struct Key {
    job: String,
    reference: String,
    platform: Platform,
    mode: &'static str,
}

/// The images that the jobs that go on have found, each once.
#[derive(Debug, Default)]
pub struct Bases(Mutex<HashMap<Key, Arc<OnceCell<BaseImage>>>>);

/// Which image's configuration a front end wants.
#[derive(Clone, Debug)]
pub struct ConfigRequest {
    /// The image's name.
    pub name: String,
    /// What it has to be for; this machine where absent.
    pub platform: Option<Platform>,
    /// Where it is looked for.
    pub mode: BaseMode,
    /// The name of the step that is told; none is told where it is empty.
    pub log_name: String,
}

/// An image's configuration.
#[derive(Clone, Debug)]
pub struct ResolvedConfig {
    /// The name that was asked for, complete.
    pub name: String,
    /// What the name means: the digest of an index or a manifest; an image of the engine's store
    /// has none.
    pub digest: Option<Digest>,
    /// The configuration as it is stored.
    pub config: Bytes,
}

/// An image as an operation names it.
struct Wanted {
    reference: Reference,
    platform: Platform,
    mode: BaseMode,
    /// Layers from the lowest; all where absent.
    limit: Option<usize>,
}

/// Reads the word for where an image is looked for.
///
/// # Errors
/// When it is none.
pub fn mode(word: &str) -> Result<BaseMode> {
    match word {
        "" | "default" | "local" | "prefer-local" => Ok(BaseMode::PreferLocal),
        "pull" | "remote" => Ok(BaseMode::Pull),
        _ => Err(Error::invalid(format!("invalid resolve mode {word:?}"))),
    }
}

/// The platform of an operation, or this machine's.
pub(crate) fn platform_of(platform: Option<&pb::Platform>) -> Platform {
    let some = |text: &str| Some(text.to_owned()).filter(|text| !text.is_empty());
    match platform {
        Some(own) if !own.os.is_empty() || !own.architecture.is_empty() => Platform {
            architecture: own.architecture.clone(),
            os: own.os.clone(),
            variant: some(&own.variant),
            os_version: some(&own.os_version),
        },
        _ => Platform::host(),
    }
}

impl Wanted {
    fn read(context: &OpContext, source: &pb::SourceOp) -> Result<Self> {
        let name = source.identifier.strip_prefix(SCHEME).unwrap_or_default();
        let attr = |key: &str| source.attrs.get(key).map(String::as_str);
        let limit = attr("image.layerlimit").map(|text| {
            let wrong = || Error::invalid(format!("invalid layer limit {text:?}"));
            text.parse::<usize>()
                .ok()
                .filter(|n| *n > 0)
                .ok_or_else(wrong)
        });
        Ok(Self {
            reference: parse(name)?,
            platform: platform_of(context.vertex.op.platform.as_ref()),
            mode: mode(attr("image.resolvemode").unwrap_or_default())?,
            limit: limit.transpose()?,
        })
    }

    fn layers(&self, base: &BaseImage) -> Vec<BuiltLayer> {
        let mut layers = base.layers();
        layers.truncate(self.limit.unwrap_or(usize::MAX));
        layers
    }
}

fn parse(name: &str) -> Result<Reference> {
    let parsed: Result<Reference, _> = name.parse();
    let wrong = |error: oci::reference::ParseReferenceError| Error::invalid(error.to_string());
    Ok(parsed.map_err(wrong)?.or_latest())
}

/// What the result of the operation is known by: what the image's layers hold.
pub(crate) async fn cache_map(context: &OpContext, source: &pb::SourceOp) -> Result<CacheMap> {
    let wanted = Wanted::read(context, source)?;
    let base = find(context, &wanted).await?;
    let layers = wanted.layers(&base);
    let digest = match layers.last() {
        Some(top) => top.chain.clone(),
        None => digest_of(b"an image without layers"),
    };
    Ok(CacheMap {
        digest,
        inputs: Vec::new(),
    })
}

/// The image's layers as a snapshot; they are brought when they are needed.
pub(crate) async fn run(context: &OpContext, source: &pb::SourceOp) -> Result<Snapshot> {
    let wanted = Wanted::read(context, source)?;
    let base = find(context, &wanted).await?;
    let layers = wanted.layers(&base);
    let name = match wanted.reference.digest() {
        Some(_) => wanted.reference.to_string(),
        None => format!("{}@{}", wanted.reference, base.digest()),
    };
    drop(context.progress.part(format!("resolve {name}")));
    let description = format!("pulled from {}", wanted.reference);
    Ok(snapshot_of(
        &context.builder.snapshots,
        &base,
        &layers,
        &description,
        &context.progress,
    ))
}

/// The layers of an image as a snapshot.
pub(crate) fn snapshot_of(
    snapshots: &Snapshots,
    base: &BaseImage,
    layers: &[BuiltLayer],
    description: &str,
    progress: &VertexProgress,
) -> Snapshot {
    let created = created(base);
    let fetch: Arc<dyn Fetch> = Arc::new(Lazy {
        base: base.clone(),
        progress: progress.clone(),
    });
    let mut parent = None;
    let mut all = Vec::with_capacity(layers.len());
    for layer in layers {
        let facts = LayerFacts {
            description: description.to_owned(),
            created,
        };
        let image = ImageLayer {
            chain: layer.chain.clone(),
            parent: parent.replace(layer.chain.clone()),
            diff_id: layer.diff_id.clone(),
            // a plain tar is made from the files when somebody wants it
            blob: Some(layer.blob.clone()).filter(|blob| blob.digest != layer.diff_id),
        };
        let layer = snapshots.image_layer(image, facts);
        layer.set_fetch(Arc::clone(&fetch));
        all.push(layer);
    }
    Snapshot::of_layers(all)
}

/// When an image was made, by its own account; layers of a cache have none.
fn created(base: &BaseImage) -> Timestamp {
    let config = serde_json::from_slice::<ImageConfig>(base.config());
    let created = config.ok().and_then(|config| config.created?.parse().ok());
    created.unwrap_or(Timestamp::UNIX_EPOCH)
}

async fn find(context: &OpContext, wanted: &Wanted) -> Result<BaseImage> {
    let found = find_for(&context.job, &context.sessions, wanted, &context.progress);
    context.cancel.run(found).await
}

/// Finds an image, once for a job.
async fn find_for(
    job: &Arc<Job>,
    sessions: &SessionIds,
    wanted: &Wanted,
    progress: &VertexProgress,
) -> Result<BaseImage> {
    let builder = job.builder()?;
    let key = Key {
        job: job.id.clone(),
        reference: wanted.reference.to_string(),
        platform: wanted.platform.clone(),
        mode: match wanted.mode {
            BaseMode::PreferLocal => "default",
            BaseMode::Pull => "pull",
            BaseMode::Local => "local",
        },
    };
    let cell = builder.bases.cell(job, key);
    let find = || {
        look_up(
            &builder.engine,
            &builder.sessions,
            sessions,
            wanted,
            progress,
        )
    };
    let base = cell.get_or_try_init(find).await?;
    Ok(base.clone())
}

impl Bases {
    fn cell(&self, job: &Arc<Job>, key: Key) -> Arc<OnceCell<BaseImage>> {
        let mut known = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if known.len() >= KNOWN_MAX && !known.contains_key(&key) {
            return Arc::default();
        }
        let is_first = !known.keys().any(|other| other.job == key.job);
        let cell = Arc::clone(known.entry(key).or_default());
        if is_first {
            forget_with(job);
        }
        cell
    }

    /// What a name has meant in a job.
    pub(crate) fn digest(&self, job: &str, name: &str) -> Option<Digest> {
        let name = parse(name).ok()?.to_string();
        let known = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let mut own = known.iter();
        let found = own.find(|(key, _)| key.job == job && key.reference == name);
        let base = found?.1.get()?;
        (!base.is_local()).then(|| base.digest().clone())
    }

    fn forget(&self, job: &str) {
        let mut known = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        known.retain(|key, _| key.job != job);
    }
}

/// Lets a job's images go when it ends.
fn forget_with(job: &Arc<Job>) {
    let (cancel, id, weak) = (job.cancel.clone(), job.id.clone(), Arc::downgrade(job));
    tokio::spawn(async move {
        let builder = weak.upgrade().and_then(|job| job.builder().ok());
        drop(weak);
        let Some(builder) = builder.map(|builder| Arc::downgrade(&builder)) else {
            return;
        };
        cancel.canceled().await;
        if let Some(builder) = builder.upgrade() {
            builder.bases.forget(&id);
        }
    });
}

/// Looks for an image here and in its registry; the client is asked for credentials only for that.
async fn look_up(
    engine: &Arc<engine::Engine>,
    open: &session::Sessions,
    sessions: &SessionIds,
    wanted: &Wanted,
    progress: &VertexProgress,
) -> Result<BaseImage> {
    let mut request = BaseRequest {
        reference: wanted.reference.clone(),
        platform: wanted.platform.clone(),
        mode: BaseMode::Local,
        auth: None,
    };
    let (sender, _reports) = report(progress, Vec::new());
    if wanted.mode != BaseMode::Pull {
        match engine.image_for_build(&request, &sender).await {
            Err(error) if error.kind() == Kind::NotFound && wanted.mode != BaseMode::Local => {}
            found => return found.map_err(|error| named(&wanted.reference, error)),
        }
    }
    request.mode = BaseMode::Pull;
    request.auth = credentials(open, sessions, &wanted.reference).await;
    let found = engine.image_for_build(&request, &sender).await;
    found.map_err(|error| named(&wanted.reference, error))
}

/// An image that is not found, in the words of BuildKit's clients.
fn named(reference: &Reference, error: engine::Error) -> Error {
    let error = Error::from(error);
    match error.kind() {
        Kind::NotFound if !error.message().contains("no matching manifest") => Error::new(
            Kind::NotFound,
            format!("{reference}: not found: {}", error.message()),
        ),
        _ => error.context(format!("failed to resolve source metadata for {reference}")),
    }
}

/// The credentials for a registry that one of the clients has.
pub(crate) async fn credentials(
    open: &session::Sessions,
    sessions: &SessionIds,
    reference: &Reference,
) -> Option<AuthConfig> {
    let host = match reference.domain() {
        DEFAULT_DOMAIN => HUB,
        other => other,
    };
    for id in sessions.all() {
        let Ok(session) = open.get(&id, std::time::Duration::ZERO).await else {
            continue;
        };
        match session.credentials(host).await {
            Ok(Some(found)) if found.username.is_empty() => {
                return Some(AuthConfig {
                    identity_token: found.secret.to_string(),
                    ..AuthConfig::default()
                });
            }
            Ok(Some(found)) => {
                return Some(AuthConfig {
                    username: found.username,
                    password: found.secret.to_string(),
                    ..AuthConfig::default()
                });
            }
            Ok(None) => {}
            Err(error) => tracing::debug!(host, %error, "a client gives no credentials"),
        }
    }
    None
}

/// Finds an image's configuration for a front end, and tells so as a step of its own.
///
/// # Errors
/// When the name is none, there is no such image, or its registry cannot be reached or refuses.
pub async fn resolve_config(job: &Arc<Job>, request: &ConfigRequest) -> Result<ResolvedConfig> {
    let wanted = Wanted {
        reference: meant(job, parse(&request.name)?)?,
        platform: request.platform.clone().unwrap_or_else(Platform::host),
        mode: request.mode,
        limit: None,
    };
    let progress = if request.log_name.is_empty() {
        VertexProgress::default()
    } else {
        job.progress.internal(&request.log_name)
    };
    progress.started();
    let found = find_for(job, &job.sessions, &wanted, &progress);
    let found = job.cancel.run(found).await;
    progress.completed(found.as_ref().map(drop));
    let base = found?;
    Ok(ResolvedConfig {
        name: wanted.reference.to_string(),
        digest: (!base.is_local()).then(|| base.digest().clone()),
        config: base.config().clone(),
    })
}

/// The image that stands in for another by the policies of the build.
fn meant(job: &Arc<Job>, reference: Reference) -> Result<Reference> {
    if job.policies.is_empty() {
        return Ok(reference);
    }
    let mut source = pb::SourceOp {
        identifier: format!("{SCHEME}{reference}"),
        ..pb::SourceOp::default()
    };
    if !job.policies.apply(&mut source)? {
        return Ok(reference);
    }
    match source.identifier.strip_prefix(SCHEME) {
        Some(name) => parse(name),
        None => Err(Error::invalid(format!(
            "{reference} is replaced by {}, which is no image",
            source.identifier
        ))),
    }
}

/// Brings an image's layers when a step needs them.
struct Lazy {
    base: BaseImage,
    progress: VertexProgress,
}

impl Fetch for Lazy {
    fn fetch<'a>(&'a self, _chain: &'a Digest) -> Fetching<'a> {
        Box::pin(async {
            let blobs = self
                .base
                .layers()
                .into_iter()
                .map(|layer| layer.blob.digest);
            let (sender, reports) = report(&self.progress, blobs.collect());
            let brought = self.base.bring(&sender).await;
            drop(sender);
            // everything is told before the step that waits goes on
            reports.await.ok();
            Ok(brought?)
        })
    }
}

/// Tells the reports of a pull as parts of a step.
fn report(
    progress: &VertexProgress,
    blobs: Vec<Digest>,
) -> (mpsc::Sender<PullProgress>, tokio::task::JoinHandle<()>) {
    let (sender, mut reports) = mpsc::channel::<PullProgress>(REPORTS);
    let progress = progress.clone();
    let task = tokio::spawn(async move {
        while let Some(report) = reports.recv().await {
            let blob = blobs.iter().find(|blob| blob.short() == report.id);
            if let Some(status) = blob.and_then(|blob| status_of(blob, &report)) {
                progress.status(status);
            }
        }
    });
    (sender, task)
}

/// A report of a pull in BuildKit's terms.
fn status_of(blob: &Digest, report: &PullProgress) -> Option<Status> {
    let (current, total) = report
        .progress_detail
        .as_ref()
        .map_or((0, 0), |detail| (detail.current, detail.total));
    let (id, name, completed) = match report.status.as_str() {
        "Downloading" => (blob.to_string(), "downloading", false),
        "Download complete" => (blob.to_string(), "done", true),
        "Extracting" => (format!("extracting {blob}"), "extract", false),
        "Pull complete" => (format!("extracting {blob}"), "extract", true),
        _ => return None,
    };
    Some(Status {
        id,
        name: name.to_owned(),
        current,
        total,
        completed,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_for_where_an_image_is_looked_for() {
        for (word, expect) in [
            ("", Some(BaseMode::PreferLocal)),
            ("default", Some(BaseMode::PreferLocal)),
            ("local", Some(BaseMode::PreferLocal)),
            ("pull", Some(BaseMode::Pull)),
            ("else", None),
        ] {
            assert_eq!(mode(word).ok(), expect, "{word}");
        }
    }

    #[test]
    fn reports_become_parts() {
        let blob = Digest::from_sha256(&[7; 32]);
        let told = |status: &str| status_of(&blob, &PullProgress::of(blob.short(), status));
        assert_eq!(told("Downloading").unwrap().id, blob.to_string());
        assert!(told("Download complete").unwrap().completed);
        let extracting = format!("extracting {blob}");
        assert_eq!(told("Extracting").unwrap().id, extracting);
        assert!(told("Pull complete").unwrap().completed);
        assert!(told("Already exists").is_none());
    }

    #[test]
    fn platforms_of_operations() {
        assert_eq!(platform_of(None), Platform::host());
        let arm = pb::Platform {
            os: "linux".into(),
            architecture: "arm".into(),
            variant: "v7".into(),
            ..pb::Platform::default()
        };
        assert_eq!(platform_of(Some(&arm)).to_string(), "linux/arm/v7");
    }
}
