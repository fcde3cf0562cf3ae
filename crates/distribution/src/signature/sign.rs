//! Making a signature and putting it beside its image.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use oci::Digest;
use oci::image::{Descriptor, Manifest, media_type};
use serde_json::json;

use super::{
    ARTIFACT_TYPE, KeyError, PAYLOAD_TYPE, PrivateKey, SIGNATURE_ANNOTATION, payload, tag_of,
};
use crate::artifact::{Attachment, bytes_source, describe, empty_config};
use crate::client::Repository;
use crate::error::{ErrorKind, RegistryError};

/// Why an image was not signed.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum SignError {
    /// The key cannot sign.
    #[error("sign {digest}")]
    Key {
        /// The image.
        digest: Digest,
        /// Why.
        #[source]
        source: KeyError,
    },
    /// The signature cannot be stored.
    #[error("store the signature of {digest}")]
    Registry {
        /// The image.
        digest: Digest,
        /// Why.
        #[source]
        source: RegistryError,
    },
}

impl Repository {
    /// Signs an image by its digest and stores the signature at the tag `sha256-<digits>.sig`,
    /// beside those that are there, or as a referrer of the image. Gives the digest of its manifest.
    ///
    /// # Errors
    /// When the key cannot sign, or the registry refuses.
    pub async fn sign(
        &self,
        digest: &Digest,
        key: &PrivateKey,
        place: SignaturePlace,
    ) -> Result<Digest, SignError> {
        let failed = |source| SignError::Registry {
            digest: digest.clone(),
            source,
        };
        let document = payload::write(&self.reference, digest);
        let signature = key.sign(&document).map_err(|source| SignError::Key {
            digest: digest.clone(),
            source,
        })?;
        let mut layer = describe(PAYLOAD_TYPE, &document);
        layer
            .annotations
            .insert(SIGNATURE_ANNOTATION.to_owned(), STANDARD.encode(signature));
        let source = bytes_source(Bytes::from(document));
        self.push_blob(&layer, &[], &source).await.map_err(failed)?;
        match place {
            SignaturePlace::Tag => self.add_to_tag(digest, layer).await,
            SignaturePlace::Referrer => self.add_as_referrer(digest, layer).await,
        }
        .map_err(failed)
    }

    async fn add_to_tag(
        &self,
        digest: &Digest,
        layer: Descriptor,
    ) -> Result<Digest, RegistryError> {
        let tag = tag_of(digest);
        let there = match self.tagged(&tag)?.document().await {
            Ok(document) => serde_json::from_slice::<Manifest>(&document.bytes).ok(),
            Err(error) if error.kind() == ErrorKind::NotFound => None,
            Err(error) => return Err(error),
        };
        let mut layers = there.map(|manifest| manifest.layers).unwrap_or_default();
        // a signature that is there already is not repeated
        layers.retain(|other| other.annotations != layer.annotations);
        layers.push(layer);
        let sums: Vec<&Digest> = layers.iter().map(|layer| &layer.digest).collect();
        // as cosign has it: a configuration that claims to be an image's, of the documents alone
        let config = json!({
            "architecture": "", "os": "", "config": {},
            "rootfs": {"type": "layers", "diff_ids": sums},
        });
        let config = Bytes::from(config.to_string());
        let descriptor = describe(media_type::OCI_CONFIG, &config);
        self.push_blob(&descriptor, &[], &bytes_source(config))
            .await?;
        let manifest = json!({
            "schemaVersion": 2, "mediaType": media_type::OCI_MANIFEST,
            "config": descriptor, "layers": layers,
        });
        let bytes = Bytes::from(manifest.to_string());
        self.push_manifest(Some(&tag), media_type::OCI_MANIFEST, bytes)
            .await
    }

    async fn add_as_referrer(
        &self,
        digest: &Digest,
        layer: Descriptor,
    ) -> Result<Digest, RegistryError> {
        let subject = self.document_of(digest).await?.descriptor;
        let attachment = Attachment {
            artifact_type: ARTIFACT_TYPE.to_owned(),
            config: empty_config(),
            layers: vec![layer],
            annotations: std::collections::BTreeMap::new(),
            subject,
        };
        self.attach(&attachment).await.map(|found| found.digest)
    }
}

/// Where a signature is stored.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum SignaturePlace {
    /// At the tag, where every version of cosign looks.
    #[default]
    Tag,
    /// As a referrer of the image (OCI distribution 1.1).
    Referrer,
}
