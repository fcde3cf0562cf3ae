//! Images as archives: OCI image layouts, to which Docker's `manifest.json` is added for its `load`.

use std::collections::{BTreeMap, BTreeSet};
use std::io::{self, Read, Write};
use std::sync::Arc;

use bytes::Bytes;
use engine::{BuiltLayer, Engine};
use jiff::Timestamp;
use oci::image::{Descriptor, media_type};
use oci::{Digest, Reference};
use serde_json::{Value, json};
use storage::Packing;
use tar::{Builder as Tar, EntryType, Header};

use super::Export;
use super::assemble::{Release, Way, assemble};
use super::layers::send_layer;
use super::options::Packed;
use crate::error::{Error, Result, Step};

/// The name that clients give to the layout which takes a result.
const STORE: &str = "export";

/// A member of an archive.
enum Member {
    Bytes(Bytes),
    Layer(BuiltLayer),
}

/// What an archive holds, by the paths of its members.
struct Archive {
    engine: Arc<Engine>,
    members: BTreeMap<String, Member>,
    time: u64,
    /// Keeps the layers.
    _release: Arc<Release>,
}

/// Makes the images and sends their archive to the client.
pub(super) async fn export(export: &Export<'_>) -> Result<BTreeMap<String, String>> {
    let is_docker = export.request.kind == "docker";
    let names = names(export)?;
    let way = Way {
        packed: Packed::By(Packing::default()),
        oci: true,
        attests: !is_docker,
    };
    let release = Arc::new(assemble(export, way).await?);
    if is_docker && release.images.len() > 1 {
        tracing::debug!("an archive with several platforms, of which older engines load one");
    }
    let head = release.head();
    let head = head.ok_or_else(|| Error::internal("an image has no manifest"))?;
    let mut answer = BTreeMap::new();
    let digest = head.digest().to_string();
    answer.insert("containerimage.digest".to_owned(), digest);
    if let ([only], None) = (release.images.as_slice(), &release.index) {
        let digest = only.config.digest().to_string();
        answer.insert("containerimage.config.digest".to_owned(), digest);
    }
    let described = serde_json::to_vec(&head.descriptor).step(|| "write a descriptor")?;
    let described = super::image::encode(&described);
    answer.insert("containerimage.descriptor".to_owned(), described);
    if !names.is_empty() {
        let shown: Vec<String> = names.iter().map(ToString::to_string).collect();
        answer.insert("image.name".to_owned(), shown.join(","));
    }
    if !export.options.tar {
        folder(export, &release).await?;
        return Ok(answer);
    }
    let archive = archive(export, &release, &names, is_docker)?;
    super::stream::send(export, &answer, move |output| {
        archive.write(output).step(|| "write the archive")
    })
    .await?;
    Ok(answer)
}

/// Puts the blobs into an image layout of the client's, which writes the layout's index itself.
async fn folder(export: &Export<'_>, release: &Release) -> Result<()> {
    let session = export.client().await?;
    let engine = Arc::clone(&export.job.builder()?.engine);
    for layer in release.layers() {
        let _part = export
            .progress
            .part(format!("sending layer {}", layer.blob.digest));
        send_layer(&session, STORE, &engine, &layer).await?;
    }
    let failed = |error| Error::system("send an image to the client", &error);
    let documents = release.small().into_iter().chain(release.below());
    for one in documents.chain(release.head()) {
        let size = one.bytes.len() as u64;
        let blob = session.write_blob(STORE, one.digest(), size).await;
        if let Some(mut blob) = blob.map_err(failed)? {
            blob.write(one.bytes.clone()).await.map_err(failed)?;
            blob.finish().await.map_err(failed)?;
        }
    }
    Ok(())
}

fn names(export: &Export<'_>) -> Result<Vec<Reference>> {
    let read = |text: &String| -> Result<Reference> {
        let wrong = |error: oci::reference::ParseReferenceError| {
            Error::invalid(format!("invalid tag {text:?}: {error}"))
        };
        Ok(text.parse::<Reference>().map_err(wrong)?.or_latest())
    };
    export.options.names.iter().map(read).collect()
}

fn blob_path(digest: &Digest) -> String {
    format!("blobs/{}/{}", Digest::ALGORITHM, digest.hex())
}

fn archive(
    export: &Export<'_>,
    release: &Arc<Release>,
    names: &[Reference],
    is_docker: bool,
) -> Result<Archive> {
    let mut members = BTreeMap::new();
    for layer in release.layers() {
        members.insert(blob_path(&layer.blob.digest), Member::Layer(layer));
    }
    let documents = release.small().into_iter().chain(release.below());
    for one in documents.chain(release.head()) {
        members.insert(blob_path(one.digest()), Member::Bytes(one.bytes.clone()));
    }
    let head = release.head();
    let head = head.ok_or_else(|| Error::internal("an image has no manifest"))?;
    let epoch = export.options.epoch;
    let entries = entries(
        &head.descriptor,
        names,
        epoch.unwrap_or_else(Timestamp::now),
    );
    let index = json!({
        "schemaVersion": 2,
        "mediaType": media_type::OCI_INDEX,
        "manifests": entries,
    });
    let mut put = |name: &str, value: &Value| -> Result<()> {
        let bytes = serde_json::to_vec(value).step(|| format!("write {name}"))?;
        members.insert(name.to_owned(), Member::Bytes(bytes.into()));
        Ok(())
    };
    put("index.json", &index)?;
    put("oci-layout", &json!({"imageLayoutVersion": "1.0.0"}))?;
    if is_docker {
        put("manifest.json", &loadable(release, names))?;
    }
    let time = epoch.map_or(0, |epoch| u64::try_from(epoch.as_second()).unwrap_or(0));
    Ok(Archive {
        engine: Arc::clone(&export.job.builder()?.engine),
        members,
        time,
        _release: Arc::clone(release),
    })
}

/// The entries of the layout's index: one a name, by which containerd and OCI's tools know it.
fn entries(head: &Descriptor, names: &[Reference], created: Timestamp) -> Vec<Descriptor> {
    let mut plain = head.clone();
    let seconds = Timestamp::from_second(created.as_second()).unwrap_or(created);
    let created = "org.opencontainers.image.created".to_owned();
    plain
        .annotations
        .entry(created)
        .or_insert_with(|| seconds.to_string());
    if names.is_empty() {
        return vec![plain];
    }
    let named = names.iter().map(|name| {
        let mut entry = plain.clone();
        let tag = name.tag().unwrap_or_default().to_owned();
        for (key, value) in [
            ("io.containerd.image.name", name.to_string()),
            ("org.opencontainers.image.ref.name", tag),
        ] {
            entry.annotations.insert(key.to_owned(), value);
        }
        entry
    });
    named.collect()
}

/// What Docker's `load` reads.
fn loadable(release: &Release, names: &[Reference]) -> Value {
    let tags: Vec<String> = names.iter().map(Reference::familiar).collect();
    let tags = Some(tags).filter(|tags| !tags.is_empty());
    let items = release.images.iter().enumerate().map(|(number, image)| {
        let layers = image.layers.layers.iter();
        let layers: Vec<String> = layers.map(|layer| blob_path(&layer.blob.digest)).collect();
        json!({
            "Config": blob_path(image.config.digest()),
            "RepoTags": if number == 0 { tags.clone() } else { None },
            "Layers": layers,
        })
    });
    items.collect()
}

impl Archive {
    fn write(self, output: impl Write) -> io::Result<()> {
        let mut tar = Tar::new(output);
        let mut folders = BTreeSet::new();
        for name in ["blobs/", "blobs/sha256/"] {
            folders.insert(name);
        }
        for name in folders {
            let mut header = self.header(name, EntryType::Directory, 0)?;
            header.set_mode(0o755);
            header.set_cksum();
            tar.append(&header, io::empty())?;
        }
        for (name, member) in &self.members {
            match member {
                Member::Bytes(bytes) => {
                    let header = self.header(name, EntryType::Regular, bytes.len() as u64)?;
                    tar.append(&header, bytes.as_ref())?;
                }
                Member::Layer(layer) => {
                    let header = self.header(name, EntryType::Regular, layer.blob.size)?;
                    let mut source = self.engine.open_built(layer).map_err(io::Error::other)?;
                    tar.append(&header, source.by_ref().take(layer.blob.size))?;
                    // a layer that is made meanwhile is checked at its end
                    if source.read(&mut [0])? > 0 {
                        return Err(io::Error::other(
                            "a layer is longer than its descriptor says",
                        ));
                    }
                }
            }
        }
        tar.into_inner()?.flush()
    }

    /// A header that says nothing of who has written it.
    fn header(&self, name: &str, kind: EntryType, size: u64) -> io::Result<Header> {
        let mut header = Header::new_gnu();
        header.set_path(name)?;
        header.set_entry_type(kind);
        header.set_mode(0o644);
        header.set_uid(0);
        header.set_gid(0);
        header.set_mtime(self.time);
        header.set_size(size);
        header.set_cksum();
        Ok(header)
    }
}
