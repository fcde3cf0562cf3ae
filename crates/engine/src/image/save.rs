//! Saving images: an archive that is an OCI image layout and has Docker's `manifest.json` beside it.
//!
//! Nothing is copied: the archive's members are the blobs as they lie in the content store, so a
//! pulled image keeps its manifest's digest and its layers stay packed. The same images give the
//! same bytes.

use std::collections::{BTreeMap, BTreeSet};
use std::io::{self, Read as _, Write};
use std::sync::Arc;

use oci::image::{Descriptor, media_type};
use oci::{Digest, Platform, Reference};
use serde::Serialize;
use storage::BlobStore;
use tar::{Builder, EntryType, Header};

use super::blobs::Blobs;
use super::manifests::{Stored, layer_descriptors};
use super::parts::Whole;
use super::store::Lease;
use super::{Image, familiar};
use crate::engine::Engine;
use crate::error::{Error, Kind, Result, Step};

/// Bytes of a blob that are read at once.
const PIECE: usize = 512 << 10;
/// A tar's members begin at multiples of this.
const BLOCK: usize = 512;
/// Names of an archive at most: far more than a command line holds.
const NAMES_MAX: usize = 4096;

/// An archive of images that is ready to be written. Its blobs stay as long as it lives.
#[derive(Debug)]
pub struct ImageArchive {
    source: Blobs,
    blobs: BTreeSet<Digest>,
    /// The small members behind the blobs.
    documents: Vec<(&'static str, Vec<u8>)>,
    _lease: Lease,
}

/// An image with those of its names that are saved.
struct Chosen {
    image: Arc<Image>,
    tags: Vec<Reference>,
    /// The index that is saved in place of the image's own manifest.
    whole: Option<Whole>,
}

impl Chosen {
    /// The image, and those for other platforms.
    fn images(&self) -> impl Iterator<Item = &Arc<Image>> {
        let others = self.whole.iter().flat_map(|whole| &whole.others);
        std::iter::once(&self.image).chain(others)
    }
}

/// An image in `manifest.json`.
#[derive(Serialize)]
#[serde(rename_all = "PascalCase")]
struct Item {
    config: String,
    repo_tags: Option<Vec<String>>,
    layers: Vec<String>,
    /// The layers' descriptors by their diff ids.
    layer_sources: BTreeMap<String, Descriptor>,
}

/// `index.json`; Docker writes `null` where there are no images.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Layout {
    schema_version: u32,
    media_type: &'static str,
    manifests: Option<Vec<Descriptor>>,
}

/// What is written behind the blobs, as it grows image by image.
#[derive(Default)]
struct Documents {
    blobs: BTreeSet<Digest>,
    index: Vec<Descriptor>,
    items: Vec<Item>,
    /// Repository, tag, and the topmost layer's blob: what Docker 1.9 and older read.
    repositories: BTreeMap<String, BTreeMap<String, String>>,
}

impl Engine {
    /// Chooses images by name or id for an archive. A name without a tag means all its tags.
    ///
    /// # Errors
    /// When there is no such image, or none for the platform.
    pub async fn image_save(
        self: &Arc<Self>,
        names: &[String],
        platform: Option<&Platform>,
    ) -> Result<ImageArchive> {
        if names.len() > NAMES_MAX {
            return Err(Error::invalid(format!(
                "{} names are more than {NAMES_MAX}",
                names.len()
            )));
        }
        let mut chosen = Vec::new();
        for name in names {
            self.choose(name, platform, &mut chosen)?;
        }
        let blobs = chosen.iter().flat_map(Chosen::images);
        let blobs = blobs.flat_map(|image| image.content()).collect();
        let lease = self.images.leases.take_there(blobs).await;
        let images = chosen.iter().flat_map(Chosen::images);
        let layers = images.flat_map(|image| &image.record.layers);
        let source = Blobs::of(&self.store, layers);
        let reader = self.store.content().clone();
        let (chosen, documents) = self
            .blocking(move || {
                let mut documents = Documents::default();
                for one in &chosen {
                    documents.add(&reader, one)?;
                }
                Ok((chosen, documents))
            })
            .await?;
        for one in &chosen {
            let id = one.image.id.to_string();
            self.image_event("save", &id, &id);
        }
        Ok(ImageArchive {
            source,
            documents: documents.members()?,
            blobs: documents.blobs,
            _lease: lease,
        })
    }

    fn choose(
        &self,
        name: &str,
        platform: Option<&Platform>,
        chosen: &mut Vec<Chosen>,
    ) -> Result<()> {
        if let Some(tagged) = self.all_tags(name) {
            for (image, tag) in tagged {
                // the platform is checked by name, for the message
                let image = match platform {
                    Some(_) => self.images.for_platform(&tag.familiar(), platform)?,
                    None => image,
                };
                self.put(chosen, image, Some(tag), platform)?;
            }
            return Ok(());
        }
        let image = self
            .images
            .for_platform(name, platform)
            .map_err(|error| unknown(name, error))?;
        let tag = name
            .parse::<Reference>()
            .ok()
            .filter(|reference| reference.digest().is_none())
            .map(Reference::or_latest)
            .filter(|reference| self.images.get(&reference.to_string(), None).is_ok());
        self.put(chosen, image, tag, platform)
    }

    fn put(
        &self,
        chosen: &mut Vec<Chosen>,
        image: Arc<Image>,
        tag: Option<Reference>,
        platform: Option<&Platform>,
    ) -> Result<()> {
        let known = chosen.iter_mut().find(|one| one.image.id == image.id);
        if let Some(one) = known {
            let new = tag.filter(|tag| !one.tags.contains(tag));
            one.tags.extend(new);
            return Ok(());
        }
        let whole = match platform {
            Some(_) => None,
            None => self.whole_index(&image)?,
        };
        chosen.push(Chosen {
            image,
            tags: tag.into_iter().collect(),
            whole,
        });
        Ok(())
    }

    /// All images of a repository by their tags; nothing where the name has a tag or a digest, or
    /// is no repository of ours.
    pub(super) fn all_tags(&self, name: &str) -> Option<Vec<(Arc<Image>, Reference)>> {
        let repository: Reference = name.parse().ok()?;
        if repository.tag().is_some() || repository.digest().is_some() {
            return None;
        }
        let mut found = Vec::new();
        for image in self.images.all() {
            for tag in &image.record.tags {
                if let Ok(tag) = tag.parse::<Reference>()
                    && tag.name() == repository.name()
                {
                    found.push((Arc::clone(&image), tag));
                }
            }
        }
        found.sort_by(|(_, a), (_, b)| a.tag().cmp(&b.tag()));
        Some(found).filter(|found| !found.is_empty())
    }
}

/// Docker names what was asked for as it was asked for.
fn unknown(name: &str, error: Error) -> Error {
    match error.kind() {
        Kind::NotFound if error.message().starts_with("No such image") => {
            Error::not_found(format!("No such image: {name}"))
        }
        _ => error,
    }
}

impl Documents {
    fn add(&mut self, content: &BlobStore, one: &Chosen) -> Result<()> {
        let record = &one.image.record;
        let stored = Stored::of(content, &one.image)?;
        let layers = layer_descriptors(&stored.manifest, &record.layers)?;
        self.blobs
            .extend([record.id.clone(), record.manifest.clone()]);
        self.blobs
            .extend(layers.iter().map(|layer| layer.digest.clone()));
        let plain = match &one.whole {
            Some(whole) => self.add_whole(content, whole)?,
            None => stored.descriptor(&record.manifest),
        };
        if one.tags.is_empty() {
            self.index.push(plain.clone());
        }
        for tag in &one.tags {
            self.index.push(named(&plain, tag));
            let top = record
                .layers
                .last()
                .map(|layer| layer.blob.hex().to_owned())
                .unwrap_or_default();
            self.repositories
                .entry(tag.familiar_name())
                .or_default()
                .insert(tag.tag().unwrap_or_default().to_owned(), top);
        }
        let tags: Vec<String> = one.tags.iter().map(ToString::to_string).collect();
        let sources = record.layers.iter().zip(&layers);
        self.items.push(Item {
            config: blob_path(&record.id),
            repo_tags: Some(familiar(&tags)).filter(|tags| !tags.is_empty()),
            layers: layers
                .iter()
                .map(|layer| blob_path(&layer.digest))
                .collect(),
            layer_sources: sources
                .map(|(layer, descriptor)| (layer.diff_id.to_string(), descriptor.clone()))
                .collect(),
        });
        Ok(())
    }

    /// Adds an index with all that it names but the image itself; older engines, which know no index,
    /// find only that in the archive's list.
    fn add_whole(&mut self, content: &BlobStore, whole: &Whole) -> Result<Descriptor> {
        self.blobs.insert(whole.descriptor.digest.clone());
        self.blobs.extend(whole.beside.iter().cloned());
        for other in &whole.others {
            let stored = Stored::of(content, other)?;
            let layers = layer_descriptors(&stored.manifest, &other.record.layers)?;
            let own = [other.record.id.clone(), other.record.manifest.clone()];
            self.blobs.extend(own);
            self.blobs
                .extend(layers.into_iter().map(|layer| layer.digest));
        }
        Ok(whole.descriptor.clone())
    }

    fn members(&self) -> Result<Vec<(&'static str, Vec<u8>)>> {
        let index = Layout {
            schema_version: 2,
            media_type: media_type::OCI_INDEX,
            manifests: Some(self.index.clone()).filter(|index| !index.is_empty()),
        };
        let items = Some(&self.items).filter(|items| !items.is_empty());
        let mut members = vec![
            ("index.json", json(&index)?),
            ("manifest.json", json(&items)?),
            ("oci-layout", br#"{"imageLayoutVersion": "1.0.0"}"#.to_vec()),
        ];
        if !self.repositories.is_empty() {
            members.push(("repositories", json(&self.repositories)?));
        }
        Ok(members)
    }
}

/// An entry of the index with the annotations by which containerd and OCI tools know its name.
fn named(plain: &Descriptor, tag: &Reference) -> Descriptor {
    let mut entry = plain.clone();
    let name = ("io.containerd.image.name", tag.to_string());
    let short = (
        "org.opencontainers.image.ref.name",
        tag.tag().unwrap_or_default().to_owned(),
    );
    for (key, value) in [name, short] {
        entry.annotations.insert(key.to_owned(), value);
    }
    entry
}

fn json(value: &impl Serialize) -> Result<Vec<u8>> {
    serde_json::to_vec(value).step(|| "write the archive's documents")
}

fn blob_path(digest: &Digest) -> String {
    format!("blobs/{}/{}", Digest::ALGORITHM, digest.hex())
}

impl ImageArchive {
    /// Writes the archive as a tar; blocks.
    ///
    /// # Errors
    /// When the target takes no more, or a blob cannot be read.
    pub fn write(&self, target: impl Write) -> io::Result<()> {
        let mut builder = Builder::new(target);
        if !self.blobs.is_empty() {
            for folder in ["blobs/", "blobs/sha256/"] {
                let mut header = header(folder, EntryType::Directory, 0)?;
                header.set_mode(0o755);
                header.set_cksum();
                builder.append(&header, io::empty())?;
            }
        }
        for digest in &self.blobs {
            self.write_blob(&mut builder, digest)?;
        }
        for (name, bytes) in &self.documents {
            let header = header(name, EntryType::Regular, bytes.len() as u64)?;
            builder.append(&header, bytes.as_slice())?;
        }
        builder.into_inner()?.flush()
    }

    fn write_blob(&self, builder: &mut Builder<impl Write>, digest: &Digest) -> io::Result<()> {
        let size = self.source.size(digest)?;
        let mut file = self.source.open(digest, 0)?;
        let header = header(&blob_path(digest), EntryType::Regular, size)?;
        // pieces as large as those that are sent are not gathered on the way
        let target = builder.get_mut();
        target.write_all(header.as_bytes())?;
        let mut piece = vec![0; PIECE];
        let mut left = size;
        while left > 0 {
            let most = usize::try_from(left).unwrap_or(PIECE).min(PIECE);
            let count = file.read(&mut piece[..most])?;
            // a shorter member than its header says would shift all that follows
            if count == 0 {
                return Err(io::ErrorKind::UnexpectedEof.into());
            }
            target.write_all(&piece[..count])?;
            left -= count as u64;
        }
        // a layer that is made meanwhile is checked at its end
        if file.read(&mut piece)? > 0 {
            return Err(io::Error::other(format!(
                "blob {digest} is longer than {size} bytes"
            )));
        }
        let rest = usize::try_from(size % BLOCK as u64).unwrap_or(0);
        if rest > 0 {
            target.write_all(&[0; BLOCK][rest..])?;
        }
        Ok(())
    }
}

/// A header that says nothing of when and by whom it was written.
fn header(name: &str, kind: EntryType, size: u64) -> io::Result<Header> {
    let mut header = Header::new_gnu();
    header.set_path(name)?;
    header.set_entry_type(kind);
    header.set_mode(0o644);
    header.set_uid(0);
    header.set_gid(0);
    header.set_mtime(0);
    header.set_size(size);
    header.set_cksum();
    Ok(header)
}
