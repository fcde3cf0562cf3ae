//! Identifiers of containers, networks and execs: 64 hexadecimal digits.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

/// A container's id: 64 lower-case hexadecimal digits, safe as a file and cgroup name.
#[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct ContainerId(Box<str>);

/// A text that is no id.
#[derive(Debug, thiserror::Error)]
#[error("invalid container id {text:?}: 64 hexadecimal digits are expected")]
pub struct ParseIdError {
    /// The text as given.
    pub text: String,
}

impl ContainerId {
    /// An id from 32 random bytes.
    ///
    /// Docker draws again when the first 12 digits are all decimal, because such a short id is
    /// taken for a number by some hosts' name rules; the caller gets `None` in that case.
    #[must_use]
    pub fn from_random(bytes: &[u8; 32]) -> Option<Self> {
        let digest = crate::Digest::from_sha256(bytes);
        let all_decimal = digest.short().bytes().all(|b| b.is_ascii_digit());
        (!all_decimal).then(|| Self(digest.hex().into()))
    }

    /// The whole id.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// The first 12 digits: the default host name, and what lists show.
    #[must_use]
    pub fn short(&self) -> &str {
        &self.0[..12]
    }
}

impl FromStr for ContainerId {
    type Err = ParseIdError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let lower_hex = |b: u8| b.is_ascii_digit() || (b'a'..=b'f').contains(&b);
        if text.len() == 64 && text.bytes().all(lower_hex) {
            Ok(Self(text.into()))
        } else {
            Err(ParseIdError {
                text: text.chars().take(120).collect(),
            })
        }
    }
}

impl TryFrom<String> for ContainerId {
    type Error = ParseIdError;

    fn try_from(text: String) -> Result<Self, Self::Error> {
        text.parse()
    }
}

impl From<ContainerId> for String {
    fn from(id: ContainerId) -> Self {
        id.0.into()
    }
}

impl fmt::Display for ContainerId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl fmt::Debug for ContainerId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn refuses_what_could_leave_a_folder() {
        assert!("../x".parse::<ContainerId>().is_err());
        assert!("g".repeat(64).parse::<ContainerId>().is_err());
        assert!("a".repeat(64).parse::<ContainerId>().is_ok());
    }

    #[test]
    fn draws_again_when_the_short_id_is_a_number() {
        assert!(ContainerId::from_random(&[0x11; 32]).is_none());
        assert_eq!(
            ContainerId::from_random(&[0xab; 32]).unwrap().short(),
            "abababababab"
        );
    }
}
