//! What an archive's documents say: which images there are, and of which files each is made.
//!
//! `manifest.json` is Docker's list and counts where it is there. `index.json` is an image layout's;
//! beside the other it gives the images their own manifests back.

use std::collections::HashMap;
use std::io::Read as _;

use oci::image::{Descriptor, ImageConfig, Index, Manifest, media_type};
use oci::{Digest, Platform, Reference};
use serde::Deserialize;
use serde::de::IgnoredAny;
use storage::{BlobStore, Compression};

use super::super::manifests::{
    CONFIG_MAX, LAYERS_MAX, MANIFEST_MAX, descriptor, parse_config, parse_index, platform_of,
};
use super::super::parse_manifest;
use super::super::parts::here;
use super::files::{Files, INDEX, LAYOUT, MANIFEST, Stored};
use crate::error::{Error, Result, Step};

/// Images of one archive at most.
const IMAGES_MAX: usize = 4096;
/// How deep an index may name other indexes.
const NESTING_MAX: usize = 3;
/// The annotation by which containerd and Docker name an image.
const NAME: &str = "io.containerd.image.name";
/// The annotation of the image layout's specification; often it is a tag alone.
const SHORT_NAME: &str = "org.opencontainers.image.ref.name";

/// An image of an archive. Its layers' blobs are in the content store.
#[derive(Debug)]
pub(super) struct Planned {
    pub(super) names: Vec<Reference>,
    pub(super) config: Descriptor,
    pub(super) parsed: ImageConfig,
    pub(super) layers: Vec<Descriptor>,
    /// The manifest as it was in the archive.
    pub(super) manifest: Option<Vec<u8>>,
    /// The index that it stands in, where the archive has all of that.
    pub(super) whole: Option<Whole>,
}

/// An index with all that it names beside the image that was chosen of it.
#[derive(Debug)]
pub(super) struct Whole {
    pub(super) digest: Digest,
    /// The images for other platforms.
    pub(super) others: Vec<Planned>,
    /// Manifests of statements, and what those name.
    pub(super) beside: Vec<Digest>,
}

/// An image in `manifest.json`.
#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Item {
    config: String,
    #[serde(default)]
    repo_tags: Option<Vec<String>>,
    #[serde(default)]
    layers: Option<Vec<String>>,
}

/// Finds the images of an archive that are for the platform, or all.
pub(super) fn plan(
    content: &BlobStore,
    files: &Files,
    wanted: Option<&Platform>,
) -> Result<Vec<Planned>> {
    let reader = Reader {
        content,
        files,
        wanted,
    };
    if let Some(bytes) = files.document(MANIFEST) {
        return reader.list(bytes);
    }
    match files.document(INDEX) {
        Some(bytes) if files.document(LAYOUT).is_some() => reader.layout(bytes),
        _ => Err(Error::invalid(
            "the archive is neither one of docker save nor an OCI image layout: manifest.json, or index.json and oci-layout, are missing",
        )),
    }
}

#[derive(Clone, Copy)]
struct Reader<'a> {
    content: &'a BlobStore,
    files: &'a Files,
    wanted: Option<&'a Platform>,
}

impl Reader<'_> {
    fn list(&self, bytes: &[u8]) -> Result<Vec<Planned>> {
        let items: Option<Vec<Item>> = serde_json::from_slice(bytes)
            .map_err(|e| Error::invalid(format!("invalid {MANIFEST}: {e}")))?;
        let items = items.unwrap_or_default();
        check_count(items.len())?;
        let manifests = self.manifests_by_config()?;
        let mut planned = Vec::new();
        for item in &items {
            planned.extend(self.item(item, &manifests)?);
        }
        self.add_wholes(&mut planned);
        Ok(planned)
    }

    fn item(
        &self,
        item: &Item,
        manifests: &HashMap<Digest, Vec<Vec<u8>>>,
    ) -> Result<Option<Planned>> {
        let names = item.repo_tags.iter().flatten();
        let names: Vec<Reference> = names.map(|name| tagged(name)).collect::<Result<_>>()?;
        let stored = self.file(&item.config)?;
        let parsed = self.config(stored)?;
        if !self.is_wanted(&parsed)? {
            return Ok(None);
        }
        let config = descriptor(media_type::OCI_CONFIG, &stored.digest, stored.size);
        let paths = item.layers.as_deref().unwrap_or_default();
        let diff_ids = parsed.rootfs.diff_ids.len();
        if paths.len() != diff_ids {
            return Err(Error::invalid(format!(
                "invalid manifest, layers length mismatch: expected {}, got {diff_ids}",
                paths.len()
            )));
        }
        let layers = paths.iter().map(|path| self.layer(path));
        let layers: Vec<Descriptor> = layers.collect::<Result<_>>()?;
        let mut own = manifests.get(&stored.digest).into_iter().flatten();
        let manifest = own
            .find(|bytes| parse_manifest(bytes).is_ok_and(|m| same_layers(&m, &layers)))
            .cloned();
        Ok(Some(Planned {
            names,
            config,
            parsed,
            layers,
            manifest,
            whole: None,
        }))
    }

    /// Gives the images of the list the indexes that the layout has for them. One that cannot be read is
    /// left: the list says all that is needed.
    fn add_wholes(&self, planned: &mut Vec<Planned>) {
        let index = self.files.document(INDEX).map(layout);
        let Some(Ok(index)) = index else {
            return;
        };
        let indexes = index.manifests.iter();
        for entry in indexes.filter(|entry| is_index(&entry.media_type)) {
            let Ok(Some(found)) = self.entry(entry, NESTING_MAX) else {
                continue;
            };
            let Some(whole) = found.whole else {
                continue;
            };
            let mut listed = planned.iter_mut();
            if let Some(one) = listed.find(|one| one.config.digest == found.config.digest) {
                one.manifest = found.manifest;
                one.layers = found.layers;
                let is_part = |one: &Planned| {
                    let mut others = whole.others.iter();
                    one.names.is_empty() && others.any(|o| o.config.digest == one.config.digest)
                };
                planned.retain(|one| !is_part(one));
                let mut listed = planned.iter_mut();
                if let Some(one) = listed.find(|one| one.config.digest == found.config.digest) {
                    one.whole = Some(whole);
                }
            }
        }
    }

    fn file(&self, name: &str) -> Result<&Stored> {
        self.files.stored(name).ok_or_else(|| {
            Error::invalid(format!(
                "invalid {MANIFEST}: {name:?} is not in the archive"
            ))
        })
    }

    fn config(&self, stored: &Stored) -> Result<ImageConfig> {
        let bytes = self
            .content
            .read_small(&stored.digest, CONFIG_MAX)
            .map_err(|e| Error::invalid(crate::error::chain(&e)))?;
        parse_config(&stored.digest, &bytes)
    }

    /// Whether an image is for the platform that was asked for; what this system could never run is
    /// refused, as by Docker.
    fn is_wanted(&self, config: &ImageConfig) -> Result<bool> {
        let own = platform_of(config);
        if let Some(wanted) = self.wanted {
            return Ok(wanted.accepts(&own));
        }
        match own.os.as_str() {
            "" | "linux" => Ok(true),
            other => Err(Error::invalid(format!(
                "cannot load {other} image on linux"
            ))),
        }
    }

    /// A layer of `manifest.json`: its packing is seen from its first bytes.
    fn layer(&self, path: &str) -> Result<Descriptor> {
        let stored = self.file(path)?;
        let step = || format!("read layer {path:?}");
        let mut start = Vec::new();
        let blob = self.content.open(&stored.digest).step(step)?;
        blob.take(6).read_to_end(&mut start).step(step)?;
        let packing =
            Compression::detect(&start).map_err(|e| Error::invalid(format!("{}: {e}", step())))?;
        let kind = packing.media_type();
        Ok(descriptor(kind, &stored.digest, stored.size))
    }

    /// The manifests of the layout's index by the configurations that they name. An index that is
    /// missing or cannot be read gives none: `manifest.json` says all that is needed.
    fn manifests_by_config(&self) -> Result<HashMap<Digest, Vec<Vec<u8>>>> {
        let mut found: HashMap<Digest, Vec<Vec<u8>>> = HashMap::new();
        let Some(index) = self.files.document(INDEX) else {
            return Ok(found);
        };
        let Ok(index) = layout(index) else {
            return Ok(found);
        };
        check_count(index.manifests.len())?;
        for entry in &index.manifests {
            if let Ok(bytes) = self.document(entry)
                && let Ok(manifest) = unambiguous(&bytes)
            {
                found.entry(manifest.config.digest).or_default().push(bytes);
            }
        }
        Ok(found)
    }

    fn layout(&self, bytes: &[u8]) -> Result<Vec<Planned>> {
        let index = layout(bytes)?;
        check_count(index.manifests.len())?;
        let mut planned: Vec<Planned> = Vec::new();
        for entry in &index.manifests {
            let Some(image) = self.entry(entry, NESTING_MAX)? else {
                continue;
            };
            let known = planned
                .iter_mut()
                .find(|other| other.config.digest == image.config.digest);
            match known {
                // the same image under another name
                Some(known) => known.names.extend(image.names),
                None => planned.push(image),
            }
        }
        Ok(planned)
    }

    /// The image of an entry of the layout's index; nothing where it is none, or for another platform.
    fn entry(&self, entry: &Descriptor, nesting: usize) -> Result<Option<Planned>> {
        if is_attestation(entry) {
            return Ok(None);
        }
        let names: Vec<Reference> = name_of(entry).into_iter().collect();
        let bytes = self.document(entry)?;
        if is_index(&entry.media_type) {
            let list = parse_index(&bytes)?;
            let Some(image) = self.choose(&list, nesting)? else {
                return Ok(None);
            };
            let whole = self.whole(&entry.digest, &list, &image, nesting);
            return Ok(Some(Planned {
                names,
                whole,
                ..image
            }));
        }
        let manifest = unambiguous(&bytes)?;
        let config = self.blob(&manifest.config)?;
        let parsed = self.config(config)?;
        if !self.is_wanted(&parsed)? {
            return Ok(None);
        }
        for layer in &manifest.layers {
            self.blob(layer)?;
            if Compression::from_media_type(&layer.media_type).is_none() {
                return Err(Error::invalid(format!(
                    "layer {} has the unsupported media type {:?}",
                    layer.digest, layer.media_type
                )));
            }
        }
        Ok(Some(Planned {
            names,
            config: manifest.config,
            parsed,
            layers: manifest.layers,
            manifest: Some(bytes),
            whole: None,
        }))
    }

    /// All that an index names beside the image that was chosen of it; none where only one platform is
    /// wanted, or not all of it is in the archive.
    fn whole(
        &self,
        digest: &Digest,
        list: &Index,
        image: &Planned,
        nesting: usize,
    ) -> Option<Whole> {
        let nesting = nesting.checked_sub(1).filter(|_| self.wanted.is_none())?;
        let mut whole = Whole {
            digest: digest.clone(),
            others: Vec::new(),
            beside: Vec::new(),
        };
        for entry in &list.manifests {
            self.files.blob(&entry.digest)?;
            if is_attestation(entry) {
                whole.beside.extend(here(self.content, &entry.digest)?);
                continue;
            }
            let one = self.entry(entry, nesting).ok().flatten()?;
            if one.config.digest != image.config.digest {
                whole.others.push(one);
            }
        }
        Some(whole)
    }

    /// The entry of a nested index for the platform: the wanted one, or else this machine's, or else
    /// the first that is in the archive.
    fn choose(&self, list: &Index, nesting: usize) -> Result<Option<Planned>> {
        let Some(nesting) = nesting.checked_sub(1) else {
            return Err(Error::invalid(format!(
                "indexes are nested more than {NESTING_MAX} deep"
            )));
        };
        check_count(list.manifests.len())?;
        let host = Platform::host();
        let wanted = self.wanted.unwrap_or(&host);
        let there = |entry: &&Descriptor| {
            !is_attestation(entry) && self.files.blob(&entry.digest).is_some()
        };
        let fits = |entry: &&Descriptor| {
            let platform = entry.platform.as_ref();
            platform.is_some_and(|platform| wanted.accepts(platform))
        };
        let entries = || list.manifests.iter().filter(there);
        let any = || entries().next().filter(|_| self.wanted.is_none());
        match entries().find(fits).or_else(any) {
            Some(entry) => self.entry(entry, nesting),
            None => Ok(None),
        }
    }

    /// A manifest or an index of the layout.
    fn document(&self, entry: &Descriptor) -> Result<Vec<u8>> {
        let stored = self.blob(entry)?;
        self.content
            .read_small(&stored.digest, MANIFEST_MAX)
            .map_err(|e| Error::invalid(crate::error::chain(&e)))
    }

    /// A blob of the layout, which must be as long as its descriptor says.
    fn blob(&self, wanted: &Descriptor) -> Result<&Stored> {
        let missing = || Error::invalid(format!("blob {} is not in the archive", wanted.digest));
        let stored = self.files.blob(&wanted.digest).ok_or_else(missing)?;
        if stored.digest != wanted.digest || stored.size != wanted.size {
            return Err(Error::invalid(format!(
                "blob {} has {} bytes, its descriptor says {}",
                wanted.digest, stored.size, wanted.size
            )));
        }
        Ok(stored)
    }
}

fn check_count(count: usize) -> Result<()> {
    if count > IMAGES_MAX {
        return Err(Error::invalid(format!(
            "the archive names {count} images, more than {IMAGES_MAX}"
        )));
    }
    Ok(())
}

/// Reads `index.json`, where Docker writes `null` for no images.
fn layout(bytes: &[u8]) -> Result<Index> {
    #[derive(Deserialize)]
    struct Layout {
        manifests: Option<Vec<Descriptor>>,
    }
    let layout: Layout = serde_json::from_slice(bytes)
        .map_err(|e| Error::invalid(format!("invalid {INDEX}: {e}")))?;
    Ok(Index {
        schema_version: 2,
        media_type: None,
        manifests: layout.manifests.unwrap_or_default(),
    })
}

/// Reads a manifest and refuses one that can be read as an index, too (GHSA-5j5w-g665-5m35).
fn unambiguous(bytes: &[u8]) -> Result<Manifest> {
    #[derive(Deserialize)]
    struct Probe {
        manifests: Option<IgnoredAny>,
    }
    let manifest = parse_manifest(bytes)?;
    let probe: Probe = serde_json::from_slice(bytes).step(|| "read a manifest")?;
    if probe.manifests.is_some() {
        return Err(Error::invalid(
            "ambiguous document: it has both manifests and layers",
        ));
    }
    if manifest.layers.len() > LAYERS_MAX {
        return Err(Error::invalid(format!(
            "{} layers are more than the limit of {LAYERS_MAX}",
            manifest.layers.len()
        )));
    }
    Ok(manifest)
}

fn same_layers(manifest: &Manifest, layers: &[Descriptor]) -> bool {
    let digests = |list: &[Descriptor]| -> Vec<Digest> {
        list.iter().map(|layer| layer.digest.clone()).collect()
    };
    digests(&manifest.layers) == digests(layers)
        && manifest
            .layers
            .iter()
            .all(|layer| Compression::from_media_type(&layer.media_type).is_some())
}

fn is_index(media_type: &str) -> bool {
    matches!(media_type, media_type::OCI_INDEX | media_type::DOCKER_LIST)
}

/// Attestations lie in an index beside the images that they are about.
fn is_attestation(entry: &Descriptor) -> bool {
    entry.annotations.contains_key("vnd.docker.reference.type")
}

/// A name of `manifest.json`, which has to have a tag.
fn tagged(name: &str) -> Result<Reference> {
    let reference: Reference = name
        .parse()
        .map_err(|e: oci::reference::ParseReferenceError| Error::invalid(e.to_string()))?;
    if reference.tag().is_none() || reference.digest().is_some() {
        return Err(Error::invalid(format!("invalid tag {name:?}")));
    }
    Ok(reference)
}

/// The name in an entry's annotations, if it has a repository and a tag.
fn name_of(entry: &Descriptor) -> Option<Reference> {
    [NAME, SHORT_NAME]
        .iter()
        .filter_map(|key| entry.annotations.get(*key))
        .find_map(|name| tagged(name).ok())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn entry(annotations: &[(&str, &str)]) -> Descriptor {
        let mut entry = descriptor(media_type::OCI_MANIFEST, &Digest::from_sha256(&[1; 32]), 1);
        for (key, value) in annotations {
            entry
                .annotations
                .insert((*key).to_owned(), (*value).to_owned());
        }
        entry
    }

    #[test]
    fn entries_are_named_by_their_annotations() {
        for (annotations, expect) in [
            (vec![], None),
            (vec![(NAME, "docker.io/tr/b:latest")], Some("tr/b:latest")),
            (vec![(SHORT_NAME, "latest")], None),
            (vec![(SHORT_NAME, "r:5000/b:1")], Some("r:5000/b:1")),
            (
                vec![(NAME, "docker.io/a/b:1"), (SHORT_NAME, "1")],
                Some("a/b:1"),
            ),
            (vec![(NAME, "UPPER x")], None),
        ] {
            let name = name_of(&entry(&annotations)).map(|name| name.familiar());
            assert_eq!(name.as_deref(), expect, "{annotations:?}");
        }
    }

    #[test]
    fn names_need_a_tag() {
        let refused = |name: &str| tagged(name).unwrap_err().message().to_owned();
        assert_eq!(refused("tr/bad"), "invalid tag \"tr/bad\"");
        let with_digest = format!("a:1@sha256:{}", "a".repeat(64));
        assert_eq!(
            refused(&with_digest),
            format!("invalid tag {with_digest:?}")
        );
        assert!(refused("a/B:1").contains("must be lowercase"));
    }

    #[test]
    fn a_manifest_is_no_index_too() {
        let manifest = |extra: &str| {
            let digest = Digest::from_sha256(&[1; 32]);
            format!(
                r#"{{"schemaVersion":2,"config":{{"mediaType":"x","digest":"{digest}","size":1}},"layers":[]{extra}}}"#
            )
        };
        assert!(unambiguous(manifest("").as_bytes()).is_ok());
        let error = unambiguous(manifest(r#","manifests":[]"#).as_bytes()).unwrap_err();
        assert!(error.message().contains("ambiguous"));
    }
}
