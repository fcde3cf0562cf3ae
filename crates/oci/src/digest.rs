//! Content digests (`sha256:...`), OCI image specification, "Digests".

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

/// The content address of a blob: always SHA-256, the only algorithm that registries in use require.
///
/// The value is checked at construction, so a digest is safe to use as a file name.
#[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Digest {
    hex: Box<str>,
}

/// A text that is no digest that Gorae accepts.
#[derive(Debug, thiserror::Error)]
pub enum ParseDigestError {
    /// The text has another shape than `algorithm:hex`.
    #[error("invalid checksum digest format: {text:?}")]
    Format {
        /// The text as given, cut to a printable length.
        text: String,
    },
    /// The algorithm is not `sha256`.
    #[error("unsupported digest algorithm in {text:?}: only sha256 is supported")]
    Algorithm {
        /// The text as given, cut to a printable length.
        text: String,
    },
}

impl Digest {
    /// The hash's name as it stands in front of the colon.
    pub const ALGORITHM: &'static str = "sha256";

    /// A digest from the 32 bytes of a SHA-256 sum.
    #[must_use]
    pub fn from_sha256(sum: &[u8; 32]) -> Self {
        const DIGITS: &[u8; 16] = b"0123456789abcdef";
        let mut hex = String::with_capacity(64);
        for byte in sum {
            hex.push(char::from(DIGITS[usize::from(byte >> 4)]));
            hex.push(char::from(DIGITS[usize::from(byte & 15)]));
        }
        Self { hex: hex.into() }
    }

    /// The 64 lower-case hexadecimal digits, without the algorithm.
    #[must_use]
    pub fn hex(&self) -> &str {
        &self.hex
    }

    /// The first 12 digits, as lists show them.
    #[must_use]
    pub fn short(&self) -> &str {
        &self.hex[..12]
    }
}

impl FromStr for Digest {
    type Err = ParseDigestError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let shown = || text.chars().take(120).collect::<String>();
        let Some((algorithm, hex)) = text.split_once(':') else {
            return Err(ParseDigestError::Format { text: shown() });
        };
        if algorithm != Self::ALGORITHM {
            return Err(ParseDigestError::Algorithm { text: shown() });
        }
        let lower_hex = |b: u8| b.is_ascii_digit() || (b'a'..=b'f').contains(&b);
        if hex.len() != 64 || !hex.bytes().all(lower_hex) {
            return Err(ParseDigestError::Format { text: shown() });
        }
        Ok(Self { hex: hex.into() })
    }
}

impl TryFrom<String> for Digest {
    type Error = ParseDigestError;

    fn try_from(text: String) -> Result<Self, Self::Error> {
        text.parse()
    }
}

impl From<Digest> for String {
    fn from(digest: Digest) -> Self {
        digest.to_string()
    }
}

impl fmt::Display for Digest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}", Self::ALGORITHM, self.hex)
    }
}

impl fmt::Debug for Digest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(text: &str, valid: bool) {
        assert_eq!(text.parse::<Digest>().is_ok(), valid, "{text}");
    }

    #[test]
    fn accepts_only_lower_case_sha256() {
        let hex = "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855";
        check(&format!("sha256:{hex}"), true);
        check(&format!("sha256:{}", hex.to_uppercase()), false);
        check(&format!("sha512:{hex}"), false);
        check(hex, false);
        check("sha256:../../etc/passwd", false);
        check("sha256:", false);
        check(&format!("sha256:{}/", &hex[..63]), false);
    }

    #[test]
    fn round_trips_bytes_and_text() {
        let digest = Digest::from_sha256(&[0xab; 32]);
        assert_eq!(digest.to_string(), format!("sha256:{}", "ab".repeat(32)));
        assert_eq!(digest.to_string().parse::<Digest>().unwrap(), digest);
    }
}
