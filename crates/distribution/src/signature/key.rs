//! Keys of signatures: read from PEM, and used.
//!
//! ECDSA on P-256, Ed25519, and RSA from 2,048 bits on, which is what cosign makes and takes for
//! keys in files. The signature is over the SHA-256 sum (Ed25519: over the bytes themselves).

use ring::rand::SystemRandom;
use ring::signature::{
    ECDSA_P256_SHA256_ASN1, ECDSA_P256_SHA256_ASN1_SIGNING, ED25519, EcdsaKeyPair, Ed25519KeyPair,
    KeyPair as _, RSA_PKCS1_2048_8192_SHA256, RSA_PKCS1_SHA256, RsaKeyPair, UnparsedPublicKey,
    VerificationAlgorithm,
};
use rustls_pki_types::pem::PemObject as _;
use rustls_pki_types::{PrivatePkcs8KeyDer, SubjectPublicKeyInfoDer};
use sha2::{Digest as _, Sha256};

use super::der::{self, Spki};

/// A key in PEM is far shorter; what is longer is something else.
pub const KEY_MAX: usize = 64 << 10;

/// Why a text is no key that can be used.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum KeyError {
    /// There is no PEM block of the wanted kind.
    #[error("it has no PEM block \"BEGIN {wanted}\"{hint}")]
    Pem {
        /// The block's label.
        wanted: &'static str,
        /// What it is instead, and what to do, behind a separator.
        hint: &'static str,
    },
    /// The block does not hold what its label says.
    #[error("its {what} is damaged")]
    Damaged {
        /// What the block should hold.
        what: &'static str,
    },
    /// The key is of a kind that is not used for images.
    #[error(
        "keys of its kind ({kind}) are not supported: ECDSA on P-256, Ed25519 and RSA (2048 to 8192 bits) are"
    )]
    Unsupported {
        /// The kind, as far as it can be told.
        kind: String,
    },
    /// The text is longer than any key.
    #[error("it is longer than {KEY_MAX} bytes")]
    TooLong,
    /// The system gives no random numbers, or the key refuses.
    #[error("the key cannot sign")]
    Sign,
}

/// What a key is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    P256,
    Ed25519,
    Rsa,
}

impl Kind {
    fn algorithm(self) -> &'static dyn VerificationAlgorithm {
        match self {
            Self::P256 => &ECDSA_P256_SHA256_ASN1,
            Self::Ed25519 => &ED25519,
            Self::Rsa => &RSA_PKCS1_2048_8192_SHA256,
        }
    }
}

/// A public key.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PublicKey {
    kind: Kind,
    /// As the algorithm wants it: a point, 32 bytes, or an RSA key of PKCS #1.
    bytes: Vec<u8>,
    id: String,
}

impl PublicKey {
    /// Reads a public key in PEM (`BEGIN PUBLIC KEY`), as `cosign.pub` and `openssl pkey -pubout` have it.
    ///
    /// # Errors
    /// When the text is none, or of a kind that is not supported.
    pub fn from_pem(text: &[u8]) -> Result<Self, KeyError> {
        if text.len() > KEY_MAX {
            return Err(KeyError::TooLong);
        }
        let info = SubjectPublicKeyInfoDer::from_pem_slice(text).map_err(|_| KeyError::Pem {
            wanted: "PUBLIC KEY",
            hint: hint(text),
        })?;
        Self::from_spki(&info)
    }

    fn from_spki(info: &[u8]) -> Result<Self, KeyError> {
        let Spki {
            algorithm,
            curve,
            key,
        } = der::spki(info).ok_or(KeyError::Damaged { what: "public key" })?;
        let kind = match (algorithm, curve) {
            (der::EC_PUBLIC_KEY, Some(der::P256)) => Kind::P256,
            (der::ED25519, None) => Kind::Ed25519,
            (der::RSA_ENCRYPTION, None) => Kind::Rsa,
            _ => return Err(unsupported(algorithm, curve)),
        };
        check(kind, key)?;
        Ok(Self {
            kind,
            bytes: key.to_vec(),
            id: der::hex(&Sha256::digest(info)),
        })
    }

    /// The SHA-256 sum of the key's own form (DER), in hexadecimal digits.
    #[must_use]
    pub fn id(&self) -> &str {
        &self.id
    }

    /// Whether `signature` over `message` was made by this key's private half.
    #[must_use]
    pub fn verifies(&self, message: &[u8], signature: &[u8]) -> bool {
        UnparsedPublicKey::new(self.kind.algorithm(), &self.bytes)
            .verify(message, signature)
            .is_ok()
    }
}

/// Refuses a key that no signature could ever fit, so that a mistake shows when a policy is read.
fn check(kind: Kind, key: &[u8]) -> Result<(), KeyError> {
    let fits = match kind {
        Kind::P256 => key.len() == 65 && key[0] == 4,
        Kind::Ed25519 => key.len() == 32,
        Kind::Rsa => {
            let bits = der::modulus_bits(key).ok_or(KeyError::Damaged { what: "RSA key" })?;
            if !(2048..=8192).contains(&bits) {
                let kind = format!("RSA of {bits} bits");
                return Err(KeyError::Unsupported { kind });
            }
            true
        }
    };
    if fits {
        return Ok(());
    }
    Err(KeyError::Damaged { what: "public key" })
}

fn unsupported(algorithm: &[u8], curve: Option<&[u8]>) -> KeyError {
    let kind = match (algorithm, curve) {
        (der::EC_PUBLIC_KEY, _) => "ECDSA on another curve".to_owned(),
        (other, _) => format!("object identifier {}", der::hex(other)),
    };
    KeyError::Unsupported { kind }
}

/// What a text without the wanted block is, as far as it is known.
fn hint(text: &[u8]) -> &'static str {
    let holds = |label: &str| memchr_find(text, label.as_bytes());
    if holds("BEGIN ENCRYPTED") {
        ": it is encrypted, and Gorae reads plain keys only (openssl pkcs8 -topk8 -nocrypt)"
    } else if holds("BEGIN EC PRIVATE KEY") || holds("BEGIN RSA PRIVATE KEY") {
        ": convert it by \"openssl pkcs8 -topk8 -nocrypt\""
    } else if holds("BEGIN PRIVATE KEY") {
        ": it is a private key"
    } else if holds("BEGIN PUBLIC KEY") {
        ": it is a public key, or damaged"
    } else if holds("BEGIN CERTIFICATE") {
        ": it is a certificate, and Gorae verifies by keys"
    } else {
        ""
    }
}

fn memchr_find(text: &[u8], wanted: &[u8]) -> bool {
    text.windows(wanted.len()).any(|window| window == wanted)
}

/// A private key.
pub struct PrivateKey {
    pair: Pair,
    public: PublicKey,
}

enum Pair {
    P256(EcdsaKeyPair),
    Ed25519(Ed25519KeyPair),
    Rsa(Box<RsaKeyPair>),
}

impl std::fmt::Debug for PrivateKey {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("PrivateKey")
            .field("public", &self.public)
            .finish_non_exhaustive()
    }
}

impl PrivateKey {
    /// Reads a private key in plain PEM (`BEGIN PRIVATE KEY`, PKCS #8).
    ///
    /// # Errors
    /// When the text is none, is encrypted, or of a kind that is not supported.
    pub fn from_pem(text: &[u8]) -> Result<Self, KeyError> {
        if text.len() > KEY_MAX {
            return Err(KeyError::TooLong);
        }
        let der = PrivatePkcs8KeyDer::from_pem_slice(text).map_err(|_| KeyError::Pem {
            wanted: "PRIVATE KEY",
            hint: hint(text),
        })?;
        Self::from_pkcs8(der.secret_pkcs8_der())
    }

    fn from_pkcs8(der: &[u8]) -> Result<Self, KeyError> {
        let random = SystemRandom::new();
        let p256 = EcdsaKeyPair::from_pkcs8(&ECDSA_P256_SHA256_ASN1_SIGNING, der, &random);
        let pair = if let Ok(pair) = p256 {
            Pair::P256(pair)
        // openssl writes the form without the public key, which ring takes by this name
        } else if let Ok(pair) = Ed25519KeyPair::from_pkcs8_maybe_unchecked(der) {
            Pair::Ed25519(pair)
        } else if let Ok(pair) = RsaKeyPair::from_pkcs8(der) {
            Pair::Rsa(Box::new(pair))
        } else {
            let kind = "another algorithm, curve or length, or damaged".to_owned();
            return Err(KeyError::Unsupported { kind });
        };
        let public = PublicKey::from_spki(&spki_of(&pair))?;
        Ok(Self { pair, public })
    }

    /// Makes a new key on P-256, and its form in PEM.
    ///
    /// # Errors
    /// When the system gives no random numbers.
    pub fn generate() -> Result<(Self, String), KeyError> {
        let random = SystemRandom::new();
        let document = EcdsaKeyPair::generate_pkcs8(&ECDSA_P256_SHA256_ASN1_SIGNING, &random)
            .map_err(|_| KeyError::Sign)?;
        let key = Self::from_pkcs8(document.as_ref())?;
        Ok((key, der::pem("PRIVATE KEY", document.as_ref())))
    }

    /// The public half.
    #[must_use]
    pub fn public(&self) -> &PublicKey {
        &self.public
    }

    /// The public half in PEM.
    #[must_use]
    pub fn public_pem(&self) -> String {
        der::pem("PUBLIC KEY", &spki_of(&self.pair))
    }

    /// Signs a message.
    ///
    /// # Errors
    /// When the system gives no random numbers.
    pub fn sign(&self, message: &[u8]) -> Result<Vec<u8>, KeyError> {
        let random = SystemRandom::new();
        match &self.pair {
            Pair::P256(pair) => pair
                .sign(&random, message)
                .map(|signature| signature.as_ref().to_vec())
                .map_err(|_| KeyError::Sign),
            Pair::Ed25519(pair) => Ok(pair.sign(message).as_ref().to_vec()),
            Pair::Rsa(pair) => {
                let mut signature = vec![0; pair.public().modulus_len()];
                pair.sign(&RSA_PKCS1_SHA256, &random, message, &mut signature)
                    .map_err(|_| KeyError::Sign)?;
                Ok(signature)
            }
        }
    }
}

fn spki_of(pair: &Pair) -> Vec<u8> {
    match pair {
        Pair::P256(pair) => der::encode_spki(
            der::EC_PUBLIC_KEY,
            Some(der::P256),
            pair.public_key().as_ref(),
        ),
        Pair::Ed25519(pair) => der::encode_spki(der::ED25519, None, pair.public_key().as_ref()),
        Pair::Rsa(pair) => der::encode_spki(der::RSA_ENCRYPTION, None, pair.public_key().as_ref()),
    }
}
