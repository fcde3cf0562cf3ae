//! Images in layouts of the client's (`oci-layout://`).
//!
//! What they are known by is what their layers hold, as with images of registries. The client sends the
//! documents at once, and layers when a step first needs their files; a folder of this machine is read in
//! place.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use bytes::Bytes;
use futures_util::{StreamExt as _, stream};
use oci::image::{Descriptor, ImageConfig, Manifest};
use oci::{Digest, Platform};
use rustix::fs::OFlags;
use serde::Deserialize;
use tokio::io::AsyncReadExt as _;

use super::blobs::{self, BlobSource, BlobStream, Opening};
use super::image::platform_of;
use crate::error::{Error, Result, Step as _};
use crate::job::Job;
use crate::llb::{digest_of, pb};
use crate::op::{CacheMap, OpContext, SessionIds};
use crate::session::{Session, Sessions};
use crate::snapshot::Snapshot;

/// The scheme of images in layouts.
pub(crate) const SCHEME: &str = "oci-layout://";
/// The longest manifest or index, and the longest configuration.
const MANIFEST_MAX: usize = 4 << 20;
const CONFIG_MAX: usize = 8 << 20;
/// Indexes in indexes.
const DEPTH: usize = 4;
/// Layers of one image.
const LAYERS_MAX: usize = 1000;
/// Bytes of a file that are read at once.
const PIECE: usize = 1 << 20;
/// How long a client may take to open its session.
const WAIT: std::time::Duration = std::time::Duration::from_secs(10);

/// A layout of the client's.
#[derive(Clone, Debug)]
pub(crate) enum Layout {
    /// One that the client sends from.
    Sent(Arc<Session>, String),
    /// One on this machine.
    Here(PathBuf),
}

/// An image of a layout.
#[derive(Clone, Debug)]
pub(crate) struct Found {
    /// The digest that was asked for.
    pub(crate) digest: Digest,
    /// Its configuration as it is stored.
    pub(crate) config: Bytes,
    layers: Vec<(Descriptor, Digest)>,
    layout: Layout,
}

/// Which image is meant.
#[derive(Clone, Debug)]
pub(crate) struct Wanted {
    /// The client's session; that of the build where empty.
    pub(crate) session: String,
    /// The layout's name.
    pub(crate) store: String,
    /// The digest of an index or a manifest.
    pub(crate) digest: Digest,
    /// What the image has to be for.
    pub(crate) platform: Platform,
}

#[derive(Deserialize)]
struct Index {
    #[serde(default)]
    manifests: Vec<Descriptor>,
}

impl Layout {
    /// Finds a layout by its name.
    async fn find(open: &Sessions, sessions: &SessionIds, wanted: &Wanted) -> Result<Self> {
        let mut ids = sessions.all();
        if !wanted.session.is_empty() {
            ids.insert(0, wanted.session.clone());
        }
        let mut last = Error::invalid("oci-layout: no active session");
        for id in ids {
            match open.get(&id, WAIT).await {
                Ok(session) => {
                    return Ok(match session.local_path(&wanted.store) {
                        Some(folder) => Self::Here(folder.to_owned()),
                        // so that clients tell such layouts from places for results
                        None => Self::Sent(session, format!("oci:{}", wanted.store)),
                    });
                }
                Err(error) => last = Error::unavailable(error.to_string()),
            }
        }
        Err(last)
    }

    /// A layout that a session's store is.
    pub(crate) fn of_store(session: &Arc<Session>, store: &str) -> Self {
        Self::Sent(Arc::clone(session), store.to_owned())
    }

    /// Reads a document.
    pub(crate) async fn document(&self, digest: &Digest, max: usize) -> Result<Bytes> {
        let failed = |error: &dyn std::fmt::Display| {
            Error::invalid(format!("read {digest} of an image layout: {error}"))
        };
        match self {
            Self::Sent(session, store) => {
                let read = session.small_blob(store, digest, max).await;
                read.map_err(|error| match error.is_not_found() {
                    true => Error::not_found(format!("{digest}: not found in the image layout")),
                    false => failed(&error),
                })
            }
            Self::Here(folder) => {
                let (folder, name) = (folder.clone(), place(digest));
                let read = tokio::task::spawn_blocking(move || {
                    let root = crate::ops::stage::open_folder(&folder)?;
                    sys::tree::read_bounded(std::os::fd::AsFd::as_fd(&root), &name, max)
                });
                let bytes = read.await.step(|| "read an image layout")?;
                let bytes = bytes.map_err(|error| match error.kind() {
                    std::io::ErrorKind::NotFound => {
                        Error::not_found(format!("{digest}: not found in the image layout"))
                    }
                    _ => failed(&error),
                })?;
                if storage::digest_of(&bytes) != *digest {
                    return Err(failed(&"its content is another"));
                }
                Ok(bytes.into())
            }
        }
    }
}

/// Where a blob lies in a layout.
fn place(digest: &Digest) -> PathBuf {
    Path::new("blobs")
        .join(Digest::ALGORITHM)
        .join(digest.hex())
}

impl BlobSource for Layout {
    fn open<'a>(&'a self, blob: &'a Descriptor) -> Opening<'a> {
        Box::pin(async move {
            match self {
                Self::Sent(session, store) => {
                    let digest = &blob.digest;
                    let failed = |error: crate::session::SessionError| {
                        Error::system("read a layer of an image layout", &error)
                    };
                    let stream = session.read_blob(store, digest).await.map_err(failed)?;
                    let stream = stream.map(move |piece| piece.map_err(failed));
                    Ok(Box::pin(stream) as BlobStream)
                }
                Self::Here(folder) => read_file(folder.clone(), place(&blob.digest)).await,
            }
        })
    }
}

/// Reads a file below a folder of the client's.
async fn read_file(folder: PathBuf, name: PathBuf) -> Result<BlobStream> {
    let opened = tokio::task::spawn_blocking(move || {
        let root = crate::ops::stage::open_folder(&folder)?;
        let flags = OFlags::RDONLY | OFlags::NONBLOCK;
        let file = sys::tree::open(std::os::fd::AsFd::as_fd(&root), &name, flags)?;
        let file = std::fs::File::from(file);
        match file.metadata()?.is_file() {
            true => Ok(file),
            false => Err(std::io::Error::other("it is no regular file")),
        }
    });
    let opened = opened.await.step(|| "open a layer of an image layout")?;
    let file = opened.step(|| "open a layer of an image layout")?;
    let file = tokio::fs::File::from_std(file);
    let stream = stream::try_unfold(file, |mut file| async move {
        let mut piece = vec![0; PIECE];
        let read = file.read(&mut piece).await;
        let count = read.step(|| "read a layer of an image layout")?;
        piece.truncate(count);
        Ok((count > 0).then(|| (Bytes::from(piece), file)))
    });
    Ok(Box::pin(stream))
}

/// Finds an image of a layout.
pub(crate) async fn find(job: &Arc<Job>, sessions: &SessionIds, wanted: &Wanted) -> Result<Found> {
    let builder = job.builder()?;
    let layout = Layout::find(&builder.sessions, sessions, wanted).await?;
    let mut digest = wanted.digest.clone();
    for _ in 0..DEPTH {
        let bytes = layout.document(&digest, MANIFEST_MAX).await?;
        let wrong = |error| Error::invalid(format!("invalid manifest {digest}: {error}"));
        let value: serde_json::Value = serde_json::from_slice(&bytes).map_err(wrong)?;
        if value.get("manifests").is_some() {
            let index: Index = serde_json::from_value(value).map_err(wrong)?;
            let next = choose(index, &wanted.platform)?;
            digest = next;
            continue;
        }
        let manifest: Manifest = serde_json::from_value(value).map_err(wrong)?;
        let config = layout.document(&manifest.config.digest, CONFIG_MAX).await?;
        let layers = layers(&manifest, &config)?;
        return Ok(Found {
            digest: wanted.digest.clone(),
            config,
            layers,
            layout,
        });
    }
    Err(Error::invalid(format!(
        "{}: indexes within indexes",
        wanted.digest
    )))
}

fn choose(index: Index, platform: &Platform) -> Result<Digest> {
    let only = index.manifests.len() == 1;
    let fits = |entry: &Descriptor| match &entry.platform {
        Some(own) => platform.accepts(own),
        None => only,
    };
    let found = index.manifests.into_iter().find(fits);
    let none = || {
        Error::not_found(format!(
            "no match for platform {platform} in the image layout"
        ))
    };
    Ok(found.ok_or_else(none)?.digest)
}

fn layers(manifest: &Manifest, config: &[u8]) -> Result<Vec<(Descriptor, Digest)>> {
    let wrong = |error| Error::invalid(format!("invalid configuration of an image: {error}"));
    let config: ImageConfig = serde_json::from_slice(config).map_err(wrong)?;
    let diff_ids = config.rootfs.diff_ids;
    if diff_ids.len() != manifest.layers.len() || diff_ids.len() > LAYERS_MAX {
        return Err(Error::invalid(format!(
            "invalid image: {} layers and {} diff ids",
            manifest.layers.len(),
            diff_ids.len()
        )));
    }
    let pairs = manifest.layers.iter().cloned().zip(diff_ids);
    Ok(pairs.collect())
}

fn wanted(context: &OpContext, source: &pb::SourceOp) -> Result<(Wanted, usize)> {
    let attr = |key: &str| {
        source
            .attrs
            .get(key)
            .map(String::as_str)
            .unwrap_or_default()
    };
    let limit = match attr("oci.layerlimit") {
        "" => usize::MAX,
        text => text
            .parse()
            .map_err(|_| Error::invalid(format!("invalid layer limit {text:?}")))?,
    };
    let platform = platform_of(context.vertex.op.platform.as_ref());
    let mut wanted = of_identifier(&source.identifier, platform)?;
    wanted.session = attr("oci.session").to_owned();
    if !attr("oci.store").is_empty() {
        wanted.store = attr("oci.store").to_owned();
    }
    Ok((wanted, limit))
}

/// Reads `oci-layout://name@sha256:…`; without another the name is the layout's.
pub(crate) fn of_identifier(identifier: &str, platform: Platform) -> Result<Wanted> {
    let name = identifier.strip_prefix(SCHEME).unwrap_or(identifier);
    let (name, digest) = name
        .split_once('@')
        .ok_or_else(|| Error::invalid(format!("oci-layout reference {name:?} has no digest")))?;
    let wrong = |_| Error::invalid(format!("invalid digest {digest:?} of an image layout"));
    Ok(Wanted {
        session: String::new(),
        store: name.to_owned(),
        digest: digest.parse().map_err(wrong)?,
        platform,
    })
}

/// What the result of the operation is known by: what the image's layers hold.
pub(crate) async fn cache_map(context: &OpContext, source: &pb::SourceOp) -> Result<CacheMap> {
    let (wanted, limit) = wanted(context, source)?;
    let finding = find(&context.job, &context.sessions, &wanted);
    let found = context.cancel.run(finding).await?;
    let mut chain = None;
    for (_, diff_id) in found.layers.iter().take(limit) {
        chain = Some(storage::chain_id(chain.as_ref(), diff_id));
    }
    Ok(CacheMap {
        digest: chain.unwrap_or_else(|| digest_of(b"an image without layers")),
        inputs: Vec::new(),
    })
}

/// The image's layers as a snapshot; they are brought when they are needed.
pub(crate) async fn run(context: &OpContext, source: &pb::SourceOp) -> Result<Snapshot> {
    let (wanted, limit) = wanted(context, source)?;
    let finding = find(&context.job, &context.sessions, &wanted);
    let mut found = context.cancel.run(finding).await?;
    found.layers.truncate(limit);
    let description = format!("from the image layout {}", wanted.store);
    blobs::snapshot(
        &context.builder,
        Arc::new(found.layout),
        &found.layers,
        &description,
        &context.progress,
    )
    .await
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_of_images_in_layouts() {
        let host = Platform::host;
        let digest = Digest::from_sha256(&[7; 32]);
        let wanted = of_identifier(&format!("oci-layout://some/name@{digest}"), host()).unwrap();
        assert_eq!(
            (wanted.store.as_str(), wanted.digest),
            ("some/name", digest)
        );
        for wrong in [
            "oci-layout://name",
            "oci-layout://name:tag",
            "oci-layout://a@sha256:1",
        ] {
            assert!(of_identifier(wrong, host()).is_err(), "{wrong}");
        }
    }

    #[tokio::test]
    async fn a_folder_of_this_machine_is_left_by_no_link() {
        let outside = tempfile::tempdir().unwrap();
        std::fs::write(outside.path().join("secret"), "x").unwrap();
        let layout = tempfile::tempdir().unwrap();
        let blobs = layout.path().join("blobs/sha256");
        std::fs::create_dir_all(&blobs).unwrap();
        let digest = storage::digest_of(b"x");
        let link = blobs.join(digest.hex());
        std::os::unix::fs::symlink(outside.path().join("secret"), &link).unwrap();
        let here = Layout::Here(layout.path().to_owned());
        here.document(&digest, 100).await.unwrap_err();
        std::fs::remove_file(&link).unwrap();
        std::fs::write(&link, "x").unwrap();
        assert_eq!(here.document(&digest, 100).await.unwrap(), "x");
        here.document(&digest, 0).await.unwrap_err();
        std::fs::write(&link, "y").unwrap();
        here.document(&digest, 100).await.unwrap_err();
    }
}
