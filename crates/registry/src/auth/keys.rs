//! Public keys that tokens are verified with: PEM, certificates, JSON Web Key Sets.

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use ring::signature::{
    ECDSA_P256_SHA256_FIXED, ED25519, RSA_PKCS1_2048_8192_SHA256, RsaPublicKeyComponents,
    UnparsedPublicKey,
};
use rustls_pki_types::pem::PemObject as _;
use rustls_pki_types::{CertificateDer, SubjectPublicKeyInfoDer};
use serde::Deserialize;

/// The object identifiers of key types, as DER has them.
const RSA: &[u8] = &[0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 1, 1, 1];
const EC: &[u8] = &[0x2a, 0x86, 0x48, 0xce, 0x3d, 2, 1];
const P256: &[u8] = &[0x2a, 0x86, 0x48, 0xce, 0x3d, 3, 1, 7];
const EDWARDS: &[u8] = &[0x2b, 0x65, 0x70];

/// A public key.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Key {
    /// Its name in a key set.
    pub(crate) id: Option<String>,
    material: Material,
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum Material {
    /// PKCS #1.
    Rsa(Vec<u8>),
    RsaParts {
        n: Vec<u8>,
        e: Vec<u8>,
    },
    /// An uncompressed point.
    P256(Vec<u8>),
    Ed25519(Vec<u8>),
}

impl Key {
    pub(crate) fn ed25519(bytes: &[u8]) -> Self {
        Self {
            id: None,
            material: Material::Ed25519(bytes.to_vec()),
        }
    }

    /// Verifies a signature of a JSON Web Signature's algorithm. A key is good for its own one only.
    pub(crate) fn verifies(&self, algorithm: &str, message: &[u8], signature: &[u8]) -> bool {
        let result = match (&self.material, algorithm) {
            (Material::Rsa(key), "RS256") => {
                UnparsedPublicKey::new(&RSA_PKCS1_2048_8192_SHA256, key).verify(message, signature)
            }
            (Material::RsaParts { n, e }, "RS256") => RsaPublicKeyComponents { n, e }.verify(
                &RSA_PKCS1_2048_8192_SHA256,
                message,
                signature,
            ),
            (Material::P256(key), "ES256") => {
                UnparsedPublicKey::new(&ECDSA_P256_SHA256_FIXED, key).verify(message, signature)
            }
            (Material::Ed25519(key), "EdDSA") => {
                UnparsedPublicKey::new(&ED25519, key).verify(message, signature)
            }
            _ => return false,
        };
        result.is_ok()
    }
}

/// All keys of a file that can be used.
pub(crate) fn read(bytes: &[u8]) -> Vec<Key> {
    let trimmed = bytes.trim_ascii_start();
    if trimmed.starts_with(b"{") {
        return key_set(trimmed);
    }
    let public = SubjectPublicKeyInfoDer::pem_slice_iter(bytes).filter_map(Result::ok);
    let public = public.filter_map(|info| of_info(&info));
    let certificates = CertificateDer::pem_slice_iter(bytes).filter_map(Result::ok);
    let certified = certificates.filter_map(|der| of_info(info_of(&der)?));
    public.chain(certified).collect()
}

#[derive(Deserialize)]
struct KeySet {
    keys: Option<Vec<serde_json::Value>>,
}

#[derive(Deserialize)]
struct Jwk {
    kty: String,
    kid: Option<String>,
    crv: Option<String>,
    x: Option<String>,
    y: Option<String>,
    n: Option<String>,
    e: Option<String>,
}

fn key_set(bytes: &[u8]) -> Vec<Key> {
    let set: Option<KeySet> = serde_json::from_slice(bytes).ok();
    let all = match set.and_then(|set| set.keys) {
        Some(keys) => keys,
        None => serde_json::from_slice(bytes).into_iter().collect(),
    };
    // keys of other kinds are for others
    let all = all
        .into_iter()
        .filter_map(|key| serde_json::from_value(key).ok());
    all.filter_map(of_jwk).collect()
}

fn of_jwk(key: Jwk) -> Option<Key> {
    let part = |text: Option<String>| URL_SAFE_NO_PAD.decode(text?.trim_end_matches('=')).ok();
    let material = match (key.kty.as_str(), key.crv.as_deref()) {
        ("RSA", _) => Material::RsaParts {
            n: part(key.n)?,
            e: part(key.e)?,
        },
        ("EC", Some("P-256")) => {
            let mut point = vec![4];
            point.extend(part(key.x)?);
            point.extend(part(key.y)?);
            Material::P256(point)
        }
        ("OKP", Some("Ed25519")) => Material::Ed25519(part(key.x)?),
        _ => return None,
    };
    Some(Key {
        id: key.kid,
        material,
    })
}

/// `SubjectPublicKeyInfo` (RFC 5280, 4.1).
fn of_info(der: &[u8]) -> Option<Key> {
    let (content, _) = element(der, 0x30)?;
    let (algorithm, rest) = element(content, 0x30)?;
    let (kind, parameters) = element(algorithm, 0x06)?;
    let (bits, _) = element(rest, 0x03)?;
    // a bit string begins with the number of bits that it lacks
    let key = bits.strip_prefix(&[0])?.to_vec();
    let material = match kind {
        RSA => Material::Rsa(key),
        EC if element(parameters, 0x06)?.0 == P256 => Material::P256(key),
        EDWARDS => Material::Ed25519(key),
        _ => return None,
    };
    Some(Key { id: None, material })
}

/// The public key of a certificate: behind version, serial, algorithm, issuer, validity and subject.
fn info_of(der: &[u8]) -> Option<&[u8]> {
    let (certificate, _) = element(der, 0x30)?;
    let (mut rest, _) = element(certificate, 0x30)?;
    if let Some((_, behind)) = element(rest, 0xa0) {
        rest = behind;
    }
    for tag in [0x02, 0x30, 0x30, 0x30, 0x30] {
        (_, rest) = element(rest, tag)?;
    }
    let (_, behind) = element(rest, 0x30)?;
    rest.get(..rest.len() - behind.len())
}

/// The content of the first element, if it has this tag, and what is behind it.
fn element(der: &[u8], tag: u8) -> Option<(&[u8], &[u8])> {
    let (first, rest) = der.split_first()?;
    let (short, rest) = rest.split_first()?;
    let (length, rest) = match *short {
        short @ 0..=0x7f => (usize::from(short), rest),
        long @ 0x81..=0x83 => {
            let (bytes, rest) = rest.split_at_checked(usize::from(long & 0x7f))?;
            let length = bytes
                .iter()
                .fold(0, |sum, byte| sum << 8 | usize::from(*byte));
            (length, rest)
        }
        _ => return None,
    };
    (*first == tag).then_some(())?;
    rest.split_at_checked(length)
}

#[cfg(test)]
mod tests {
    use super::*;
    use rcgen::{KeyPair, PKCS_ECDSA_P256_SHA256, PKCS_ED25519};
    use ring::rand::SystemRandom;
    use ring::signature::{ECDSA_P256_SHA256_FIXED_SIGNING, EcdsaKeyPair, KeyPair as _};

    #[test]
    fn keys_of_files() {
        let pair = KeyPair::generate_for(&PKCS_ECDSA_P256_SHA256).unwrap();
        let certificate = rcgen::CertificateParams::new(vec!["x".to_owned()]).unwrap();
        let certificate = certificate.self_signed(&pair).unwrap();
        let random = SystemRandom::new();
        let signer = EcdsaKeyPair::from_pkcs8(
            &ECDSA_P256_SHA256_FIXED_SIGNING,
            &pair.serialize_der(),
            &random,
        )
        .unwrap();
        let signature = signer.sign(&random, b"message").unwrap();
        let part = |bytes: &[u8]| URL_SAFE_NO_PAD.encode(bytes);
        let point = signer.public_key().as_ref();
        let set = format!(
            r#"{{"keys":[{{"kty":"oct","k":"AA"}},{{"kty":"EC","crv":"P-256","kid":"one","x":"{}","y":"{}"}}]}}"#,
            part(&point[1..33]),
            part(&point[33..])
        );
        for text in [pair.public_key_pem(), certificate.pem(), set] {
            let keys = read(text.as_bytes());
            assert_eq!(keys.len(), 1, "{text}");
            assert!(keys[0].verifies("ES256", b"message", signature.as_ref()));
            assert!(!keys[0].verifies("ES256", b"other", signature.as_ref()));
            for other in ["RS256", "EdDSA", "HS256", "none", ""] {
                assert!(!keys[0].verifies(other, b"message", signature.as_ref()));
            }
        }
        let pair = KeyPair::generate_for(&PKCS_ED25519).unwrap();
        assert_eq!(read(pair.public_key_pem().as_bytes()).len(), 1);
        assert!(read(b"nothing").is_empty() && read(b"{}").is_empty());
    }
}
