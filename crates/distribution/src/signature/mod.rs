//! Signatures of images as cosign makes them with keys.
//!
//! A signature is over a small document (the "simple signing" payload) that names the image by its
//! digest and by its repository. The documents are the layers of a manifest beside the image: at the
//! tag `sha256-<digits>.sig` of its repository, or among the referrers of the image. The signature
//! itself stands in an annotation of the layer. Bundles of sigstore, certificates and transparency
//! logs are not read: a key decides.

mod der;
mod key;
mod payload;
mod sign;
mod verify;

pub use key::{KEY_MAX, KeyError, PrivateKey, PublicKey};
pub use payload::{Identity, PayloadError};
pub use sign::{SignError, SignaturePlace};
pub use verify::{Verified, VerifyError};

/// The media type of the signed document.
pub const PAYLOAD_TYPE: &str = "application/vnd.dev.cosign.simplesigning.v1+json";
/// The annotation that holds a signature, in base64.
pub const SIGNATURE_ANNOTATION: &str = "dev.cosignproject.cosign/signature";
/// What a signature's manifest says that it is, where it refers to its image.
pub const ARTIFACT_TYPE: &str = "application/vnd.dev.cosign.artifact.sig.v1+json";

/// The tag at which an image's signatures are.
fn tag_of(digest: &oci::Digest) -> String {
    format!("sha256-{}.sig", digest.hex())
}
