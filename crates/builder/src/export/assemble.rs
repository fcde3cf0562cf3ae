//! Putting images together: layers, configurations, manifests, statements and an index.

use bytes::Bytes;
use engine::{BuiltImage, BuiltLayer, BuiltRelease};
use oci::image::{Descriptor, media_type};
use oci::{Digest, Platform, Reference};

use super::annotations::{Annotations, Level};
use super::layers::{self, Layers};
use super::manifest::{self, Document, StatementBlob};
use super::options::Packed;
use super::{Export, Part, config, retime};
use crate::attest;
use crate::error::Result;

/// How an exporter makes images where the client says nothing.
#[derive(Clone, Copy, Debug)]
pub(super) struct Way {
    pub(super) packed: Packed,
    pub(super) oci: bool,
    /// Whether statements are attached that nobody has asked for by themselves.
    pub(super) attests: bool,
}

/// Images with all of their documents, none of which is stored yet.
#[derive(Debug)]
pub(super) struct Release {
    pub(super) images: Vec<Image>,
    pub(super) index: Option<Document>,
    /// Statements, and the manifests and configurations that name them.
    pub(super) beside: Vec<Document>,
}

/// An image for one platform.
#[derive(Debug)]
pub(super) struct Image {
    pub(super) config: Document,
    pub(super) manifest: Document,
    pub(super) layers: Layers,
}

impl Release {
    /// What a name leads to: the index, or the only manifest.
    pub(super) fn head(&self) -> Option<&Document> {
        let only = self.images.first().map(|image| &image.manifest);
        self.index.as_ref().or(only)
    }

    /// All documents but the head, those that are named before those that name them.
    pub(super) fn below(&self) -> Vec<&Document> {
        let statements = self.beside.iter();
        let manifests = self.images.iter().map(|image| &image.manifest);
        let manifests = manifests.filter(|_| self.index.is_some());
        statements
            .filter(|one| one.descriptor.media_type == media_type::OCI_MANIFEST)
            .chain(manifests)
            .collect()
    }

    /// All blobs that manifests name and that are no layers.
    pub(super) fn small(&self) -> Vec<&Document> {
        let statements = self.beside.iter();
        let configs = self.images.iter().map(|image| &image.config);
        statements
            .filter(|one| one.descriptor.media_type != media_type::OCI_MANIFEST)
            .chain(configs)
            .collect()
    }

    /// The layers of all images.
    pub(super) fn layers(&self) -> Vec<BuiltLayer> {
        let layers = self.images.iter().flat_map(|image| &image.layers.layers);
        layers.cloned().collect()
    }

    /// The same for the engine's store.
    pub(super) fn built(&self, names: Vec<Reference>) -> BuiltRelease {
        let bytes = |document: &Document| document.bytes.clone();
        BuiltRelease {
            images: self.images.iter().map(Image::built).collect(),
            index: self.index.as_ref().map(bytes),
            beside: self.beside.iter().map(bytes).collect(),
            names,
        }
    }
}

impl Image {
    fn built(&self) -> BuiltImage {
        BuiltImage {
            config: self.config.bytes.clone(),
            manifest: self.manifest.bytes.clone(),
            layers: self.layers.layers.clone(),
        }
    }
}

/// Puts together what a client wants of a result.
pub(super) async fn assemble(export: &Export<'_>, way: Way) -> Result<Release> {
    let options = &export.options;
    let parts = export.solved.parts()?;
    let own = export.solved.metadata.iter();
    let own = own.filter_map(|(key, value)| {
        let text = String::from_utf8(value.clone()).ok()?;
        key.starts_with("annotation").then(|| (key.clone(), text))
    });
    let annotations = Annotations::read(&own.collect())?.with(&options.annotations);
    let mut all = Vec::with_capacity(parts.len());
    {
        let _exporting = export.progress.part("exporting layers");
        for part in &parts {
            all.push(layers_of(export, part, way).await?);
        }
    }
    let has_statements = parts
        .iter()
        .any(|part| !statements_of(export, part, way).is_empty());
    // only OCI's own documents have a place for statements and annotations
    let oci = options.oci_types.unwrap_or(way.oci) || has_statements || !annotations.is_empty();
    let is_list = parts.len() > 1 || has_statements || annotations.of_index();
    let mut release = Release {
        images: Vec::new(),
        index: None,
        beside: Vec::new(),
    };
    let (mut entries, mut about) = (Vec::new(), Vec::new());
    for (part, layers) in parts.iter().zip(all) {
        let image = image_of(export, part, layers, oci, &annotations)?;
        let mut entry = image.manifest.descriptor.clone();
        entry.platform = Some(part.platform.clone());
        let said = annotations.at(Level::ManifestDescriptor, Some(&part.platform));
        entry.annotations.extend(said);
        entries.push(entry);
        let statements = statements_of(export, part, way);
        if !statements.is_empty() {
            let named = state(
                export,
                part,
                statements,
                image.manifest.digest(),
                &mut release,
            )?;
            about.push(named);
        }
        release.images.push(image);
    }
    if is_list {
        entries.extend(about);
        let said = annotations.at(Level::Index, None);
        let mut index = manifest::index(&entries, oci, said)?;
        let said = annotations.at(Level::IndexDescriptor, None);
        index.descriptor.annotations.extend(said);
        let part = format!("exporting manifest list {}", index.digest());
        drop(export.progress.part(part));
        release.index = Some(index);
    }
    Ok(release)
}

async fn layers_of(export: &Export<'_>, part: &Part, way: Way) -> Result<Layers> {
    let builder = export.job.builder()?;
    let options = &export.options;
    let mut layers = layers::adopt(&builder, &part.snapshot).await?;
    if let Some(epoch) = options.epoch.filter(|_| options.rewrite_timestamp) {
        retime::rewrite(&builder, &mut layers, epoch).await?;
    }
    layers::form(&builder, &mut layers, options, way.packed).await?;
    Ok(layers)
}

fn image_of(
    export: &Export<'_>,
    part: &Part,
    layers: Layers,
    oci: bool,
    annotations: &Annotations,
) -> Result<Image> {
    let own = export.solved.config(part)?;
    let cache = export.solved.inline_caches.get(&part.id);
    let bytes = config::complete(&own, &layers.facts, cache, export.options.epoch)?;
    let config = manifest::config(bytes, oci);
    let said = annotations.at(Level::Manifest, Some(&part.platform));
    let manifest = manifest::manifest(&config, &layers.layers, oci, said)?;
    Ok(Image {
        config,
        manifest,
        layers,
    })
}

/// The statements about a result that this exporter attaches.
fn statements_of<'a>(export: &'a Export<'_>, part: &Part, way: Way) -> Vec<&'a super::Attestation> {
    let attests = way.attests || export.options.inline_attestations;
    let all = export.solved.attestations.get(&part.id);
    let all = all.into_iter().flatten();
    all.filter(|one| attests || !one.inline_only).collect()
}

/// Writes statements about a manifest, and answers what names them in the index.
fn state(
    export: &Export<'_>,
    part: &Part,
    statements: Vec<&super::Attestation>,
    about: &Digest,
    release: &mut Release,
) -> Result<Descriptor> {
    let names = &export.options.names;
    let blobs = statements.into_iter().map(|one| {
        let bytes = attest::statement(one, names, Some(&part.platform), about)?;
        Ok(StatementBlob {
            predicate: one.predicate_type.clone(),
            bytes: Bytes::from(bytes),
        })
    });
    let blobs: Vec<StatementBlob> = blobs.collect::<Result<_>>()?;
    let (config, manifest) = manifest::attestation(&blobs, about)?;
    let text = format!("exporting attestation manifest {}", manifest.digest());
    drop(export.progress.part(text));
    let descriptor = manifest.descriptor.clone();
    let blobs = blobs.into_iter();
    let blobs = blobs.map(|blob| Document::of("application/vnd.in-toto+json", blob.bytes));
    release.beside.extend(blobs.chain([config, manifest]));
    Ok(descriptor)
}

/// A platform as it stands in names of files: `linux_amd64`.
pub(super) fn file_name(platform: &Platform) -> String {
    platform.to_string().replace('/', "_")
}
