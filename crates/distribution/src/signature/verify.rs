//! Finding the signatures of an image and telling whether one of them fits a key.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use oci::Digest;
use oci::image::{Descriptor, Manifest};

use super::payload::{self, Identity};
use super::{ARTIFACT_TYPE, PAYLOAD_TYPE, PublicKey, SIGNATURE_ANNOTATION, tag_of};
use crate::artifact::RemoteDocument;
use crate::client::Repository;
use crate::error::{ErrorKind, RegistryError};

/// Signatures that are looked at; more are an attempt to keep us busy.
const SIGNATURES_MAX: usize = 64;
/// Manifests of signatures that are read.
const MANIFESTS_MAX: usize = 16;
/// The longest signed document; it names an image and has a few annotations.
const PAYLOAD_MAX: u64 = 128 << 10;
/// The longest signature; one of an RSA key of 8,192 bits is 1,024 bytes.
const SIGNATURE_MAX: usize = 4096;
/// Reasons that are told.
const REASONS_MAX: usize = 3;

/// A signature that fits.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Verified {
    /// The signed digest.
    pub digest: Digest,
    /// The key that it fits, by its place among those that were given.
    pub key: usize,
}

/// Why an image counts as not signed.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum VerifyError {
    /// There is no signature at all.
    #[error("{name} has no signature of {digest}")]
    None {
        /// The repository as people write it.
        name: String,
        /// The image.
        digest: Digest,
    },
    /// No signature fits.
    #[error("no signature of {digest} in {name} fits: {reasons}")]
    Unfit {
        /// The repository as people write it.
        name: String,
        /// The image.
        digest: Digest,
        /// Why the first ones do not.
        reasons: String,
    },
    /// The signatures cannot be read.
    #[error("read the signatures of {digest}")]
    Registry {
        /// The image.
        digest: Digest,
        /// Why.
        #[source]
        source: RegistryError,
    },
}

impl Repository {
    /// Finds a signature of an image that one of the keys made.
    ///
    /// # Errors
    /// When there is none, none fits, or the registry cannot be asked.
    pub async fn verify(
        &self,
        digest: &Digest,
        keys: &[PublicKey],
        identity: &Identity,
    ) -> Result<Verified, VerifyError> {
        let failed = |source| VerifyError::Registry {
            digest: digest.clone(),
            source,
        };
        let mut unfit = Vec::new();
        let mut left = SIGNATURES_MAX;
        // the usual place first; who signs by referrers alone is asked for after it
        if let Some(manifest) = self.tagged_signatures(digest).await.map_err(failed)? {
            let found = self.try_all(&manifest, digest, keys, identity, &mut left);
            match found.await.map_err(failed)? {
                Ok(key) => return Ok(verified(digest, key)),
                Err(reasons) => unfit.extend(reasons),
            }
        }
        let referrers = self.referrers(digest, Some(ARTIFACT_TYPE)).await;
        for referrer in referrers.map_err(failed)?.iter().take(MANIFESTS_MAX) {
            let document = self.document_of(&referrer.digest).await.map_err(failed)?;
            let Some(manifest) = manifest_of(&document) else {
                unfit.push(format!("{} is no manifest of signatures", referrer.digest));
                continue;
            };
            let found = self.try_all(&manifest, digest, keys, identity, &mut left);
            match found.await.map_err(failed)? {
                Ok(key) => return Ok(verified(digest, key)),
                Err(reasons) => unfit.extend(reasons),
            }
        }
        Err(self.unfit(digest, unfit))
    }

    fn unfit(&self, digest: &Digest, mut reasons: Vec<String>) -> VerifyError {
        let (name, digest) = (self.reference.familiar_name(), digest.clone());
        if reasons.is_empty() {
            return VerifyError::None { name, digest };
        }
        reasons.dedup();
        let more = reasons.len().saturating_sub(REASONS_MAX);
        reasons.truncate(REASONS_MAX);
        let mut reasons = reasons.join("; ");
        if more > 0 {
            reasons = format!("{reasons}; and {more} more");
        }
        VerifyError::Unfit {
            name,
            digest,
            reasons,
        }
    }

    /// The manifest at the signatures' tag.
    async fn tagged_signatures(&self, digest: &Digest) -> Result<Option<Manifest>, RegistryError> {
        match self.tagged(&tag_of(digest))?.document().await {
            Ok(document) => Ok(manifest_of(&document)),
            Err(error) if error.kind() == ErrorKind::NotFound => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// Tries the signatures of a manifest: the key that fits, or why none does.
    async fn try_all(
        &self,
        manifest: &Manifest,
        digest: &Digest,
        keys: &[PublicKey],
        identity: &Identity,
        left: &mut usize,
    ) -> Result<Result<usize, Vec<String>>, RegistryError> {
        let mut reasons = Vec::new();
        for layer in &manifest.layers {
            if *left == 0 {
                reasons.push(format!("more than {SIGNATURES_MAX} signatures"));
                break;
            }
            *left -= 1;
            let signature = match signature_of(layer) {
                Ok(signature) => signature,
                Err(reason) => {
                    reasons.push(reason);
                    continue;
                }
            };
            let payload = self.payload(layer).await?;
            let Some(key) = keys
                .iter()
                .position(|key| key.verifies(&payload, &signature))
            else {
                reasons.push("a signature was made by another key".to_owned());
                continue;
            };
            match payload::check(&payload, &self.reference, digest, identity) {
                Ok(()) => return Ok(Ok(key)),
                Err(error) => reasons.push(error.to_string()),
            }
        }
        Ok(Err(reasons))
    }

    async fn payload(&self, layer: &Descriptor) -> Result<Bytes, RegistryError> {
        let mut stream = self.open_blob(layer, "signed document").await?;
        let mut all = bytes::BytesMut::new();
        while let Some(chunk) = stream.chunk().await? {
            all.extend_from_slice(&chunk);
        }
        Ok(all.freeze())
    }
}

fn verified(digest: &Digest, key: usize) -> Verified {
    Verified {
        digest: digest.clone(),
        key,
    }
}

fn manifest_of(document: &RemoteDocument) -> Option<Manifest> {
    serde_json::from_slice(&document.bytes)
        .ok()
        .filter(|_| !document.is_index)
}

/// The signature of a layer, if the layer is a signed document of a length that is read.
fn signature_of(layer: &Descriptor) -> Result<Vec<u8>, String> {
    if layer.media_type != PAYLOAD_TYPE {
        let kind = crate::answer::printable(&layer.media_type);
        return Err(format!(
            "a layer of the type {kind:?} is no signed document"
        ));
    }
    if layer.size > PAYLOAD_MAX {
        return Err(format!(
            "a signed document is longer than {PAYLOAD_MAX} bytes"
        ));
    }
    let Some(text) = layer.annotations.get(SIGNATURE_ANNOTATION) else {
        return Err("a signed document has no signature beside it".to_owned());
    };
    let damaged = || "a signature is not in base64, or too long".to_owned();
    if text.len() > SIGNATURE_MAX {
        return Err(damaged());
    }
    STANDARD.decode(text).map_err(|_| damaged())
}
