//! The little DER that public keys need (X.690; RFC 5280, 4.1; RFC 8410): read strictly, within bounds.

use std::fmt::Write as _;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;

/// `id-ecPublicKey`, 1.2.840.10045.2.1.
pub(super) const EC_PUBLIC_KEY: &[u8] = &[0x2a, 0x86, 0x48, 0xce, 0x3d, 0x02, 0x01];
/// `prime256v1`, 1.2.840.10045.3.1.7.
pub(super) const P256: &[u8] = &[0x2a, 0x86, 0x48, 0xce, 0x3d, 0x03, 0x01, 0x07];
/// `id-Ed25519`, 1.3.101.112.
pub(super) const ED25519: &[u8] = &[0x2b, 0x65, 0x70];
/// `rsaEncryption`, 1.2.840.113549.1.1.1.
pub(super) const RSA_ENCRYPTION: &[u8] = &[0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 0x01, 0x01, 0x01];

const INTEGER: u8 = 0x02;
const BIT_STRING: u8 = 0x03;
const NULL: u8 = 0x05;
const OBJECT: u8 = 0x06;
const SEQUENCE: u8 = 0x30;

/// A public key with its algorithm (`SubjectPublicKeyInfo`).
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Spki<'a> {
    pub(super) algorithm: &'a [u8],
    /// The curve, where the algorithm names one.
    pub(super) curve: Option<&'a [u8]>,
    pub(super) key: &'a [u8],
}

/// Reads a `SubjectPublicKeyInfo`, all of it.
pub(super) fn spki(bytes: &[u8]) -> Option<Spki<'_>> {
    let (whole, rest) = value(bytes, SEQUENCE)?;
    let (identifier, after) = value(whole, SEQUENCE)?;
    let (bits, end) = value(after, BIT_STRING)?;
    if !rest.is_empty() || !end.is_empty() {
        return None;
    }
    let (algorithm, parameters) = value(identifier, OBJECT)?;
    let curve = match parameters.first() {
        None => None,
        Some(&NULL) if parameters == [NULL, 0] => None,
        Some(_) => {
            let (curve, end) = value(parameters, OBJECT)?;
            end.is_empty().then_some(curve)?.into()
        }
    };
    let (&unused, key) = bits.split_first()?;
    (unused == 0).then_some(Spki {
        algorithm,
        curve,
        key,
    })
}

/// The length of an RSA key's modulus (RFC 8017, A.1.1).
pub(super) fn modulus_bits(key: &[u8]) -> Option<usize> {
    let (pair, rest) = value(key, SEQUENCE)?;
    let (modulus, after) = value(pair, INTEGER)?;
    let (_exponent, end) = value(after, INTEGER)?;
    if !rest.is_empty() || !end.is_empty() {
        return None;
    }
    let modulus = match modulus {
        [0, modulus @ ..] => modulus,
        modulus => modulus,
    };
    let first = modulus.first()?;
    let unused = usize::try_from(first.leading_zeros()).ok()?;
    modulus.len().checked_mul(8)?.checked_sub(unused)
}

/// Splits off a value with this tag: its content, and what stands behind it.
fn value(bytes: &[u8], tag: u8) -> Option<(&[u8], &[u8])> {
    let (&found, rest) = bytes.split_first()?;
    if found != tag {
        return None;
    }
    let (&first, rest) = rest.split_first()?;
    let (length, rest) = match first {
        0..=0x7f => (usize::from(first), rest),
        0x81 => {
            let (&length, rest) = rest.split_first()?;
            (usize::from(length), rest)
        }
        0x82 => {
            let (length, rest) = rest.split_first_chunk::<2>()?;
            (usize::from(u16::from_be_bytes(*length)), rest)
        }
        _ => return None,
    };
    (length <= rest.len()).then(|| rest.split_at(length))
}

/// Writes a `SubjectPublicKeyInfo`.
pub(super) fn encode_spki(algorithm: &[u8], curve: Option<&[u8]>, key: &[u8]) -> Vec<u8> {
    let mut identifier = encode(OBJECT, algorithm);
    match curve {
        Some(curve) => identifier.extend(encode(OBJECT, curve)),
        // RFC 3279, 2.3.1: the parameters of RSA are NULL; RFC 8410, 3: those of Ed25519 are absent
        None if algorithm == RSA_ENCRYPTION => identifier.extend([NULL, 0]),
        None => {}
    }
    let mut whole = encode(SEQUENCE, &identifier);
    let bits: Vec<u8> = std::iter::once(0).chain(key.iter().copied()).collect();
    whole.extend(encode(BIT_STRING, &bits));
    encode(SEQUENCE, &whole)
}

fn encode(tag: u8, content: &[u8]) -> Vec<u8> {
    let mut bytes = vec![tag];
    let length = content.len().to_be_bytes();
    let significant = &length[length.iter().take_while(|byte| **byte == 0).count()..];
    match significant {
        [] => bytes.push(0),
        [one] if *one < 0x80 => bytes.push(*one),
        more => {
            bytes.push(0x80 | u8::try_from(more.len()).unwrap_or(0));
            bytes.extend(more);
        }
    }
    bytes.extend(content);
    bytes
}

/// A PEM block (RFC 7468).
pub(super) fn pem(label: &str, der: &[u8]) -> String {
    let text = STANDARD.encode(der);
    let mut block = format!("-----BEGIN {label}-----\n");
    for line in text.as_bytes().chunks(64) {
        block.push_str(&String::from_utf8_lossy(line));
        block.push('\n');
    }
    block + "-----END " + label + "-----\n"
}

/// Hexadecimal digits.
pub(super) fn hex(bytes: &[u8]) -> String {
    bytes.iter().fold(String::new(), |mut text, byte| {
        // Writing to a String cannot fail.
        let _infallible = write!(text, "{byte:02x}");
        text
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_written_is_read() {
        for (algorithm, curve, length) in [
            (EC_PUBLIC_KEY, Some(P256), 65),
            (ED25519, None, 32),
            (RSA_ENCRYPTION, None, 526),
            (RSA_ENCRYPTION, None, 140),
        ] {
            let key = vec![7; length];
            let written = encode_spki(algorithm, curve, &key);
            let expect = Spki {
                algorithm,
                curve,
                key: &key,
            };
            assert_eq!(spki(&written), Some(expect));
            for end in 0..written.len() {
                assert_eq!(spki(&written[..end]), None, "{end}");
            }
            let longer: Vec<u8> = written.iter().copied().chain([0]).collect();
            assert_eq!(spki(&longer), None);
        }
    }

    #[test]
    fn lengths_beyond_the_input_are_refused() {
        for bytes in [
            &[0x30, 0x05, 1][..],
            &[0x30, 0x84, 0xff, 0xff, 0xff, 0xff],
            &[0x30, 0x82, 0xff, 0xff, 0],
            &[0x30, 0x80, 0, 0],
            &[0x31, 0],
            &[],
        ] {
            assert_eq!(spki(bytes), None);
            assert_eq!(modulus_bits(bytes), None);
        }
    }

    #[test]
    fn the_length_of_a_modulus() {
        let mut modulus = vec![0, 0x80];
        modulus.resize(257, 1);
        let pair = [encode(INTEGER, &modulus), encode(INTEGER, &[1, 0, 1])].concat();
        assert_eq!(modulus_bits(&encode(SEQUENCE, &pair)), Some(2048));
        let pair = [encode(INTEGER, &[3]), encode(INTEGER, &[3])].concat();
        assert_eq!(modulus_bits(&encode(SEQUENCE, &pair)), Some(2));
    }
}
