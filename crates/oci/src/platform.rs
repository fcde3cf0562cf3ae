//! Platforms (`linux/arm64/v8`) and the choice of one from an index.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

/// Operating system, architecture and variant of an image.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Platform {
    /// GOARCH of the image.
    pub architecture: String,
    /// GOOS of the image.
    pub os: String,
    /// CPU variant, `v7` or `v8` on arm.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub variant: Option<String>,
    /// Operating system version, used by Windows images.
    #[serde(
        default,
        rename = "os.version",
        skip_serializing_if = "Option::is_none"
    )]
    pub os_version: Option<String>,
}

/// A text that names no platform.
#[derive(Debug, thiserror::Error)]
#[error("invalid platform {text:?}: expected os/architecture[/variant], for example linux/amd64")]
pub struct ParsePlatformError {
    /// The text as given.
    pub text: String,
}

impl Platform {
    /// The platform that this build of Gorae runs on.
    #[must_use]
    pub fn host() -> Self {
        let (architecture, variant) = normalize(std::env::consts::ARCH, None);
        Self {
            architecture,
            os: "linux".into(),
            variant,
            os_version: None,
        }
    }

    /// Whether an image of platform `other` satisfies a request for this platform.
    ///
    /// Variants are compared after normalisation: `arm64` and `arm64/v8` are the same.
    #[must_use]
    pub fn accepts(&self, other: &Self) -> bool {
        let wanted = normalize(&self.architecture, self.variant.as_deref());
        let offered = normalize(&other.architecture, other.variant.as_deref());
        self.os == other.os && wanted == offered
    }
}

/// Brings an architecture's and a variant's spellings to GOARCH's, as containerd's `platforms` does.
fn normalize(architecture: &str, variant: Option<&str>) -> (String, Option<String>) {
    let architecture = match architecture {
        "x86_64" | "x86-64" | "amd64" => "amd64",
        "aarch64" | "arm64" => "arm64",
        "x86" | "i386" | "i486" | "i586" | "i686" | "386" => "386",
        "armhf" => "arm",
        "powerpc64" | "ppc64el" => "ppc64le",
        other => other,
    };
    let variant = match (architecture, variant.filter(|v| !v.is_empty())) {
        ("arm64", None | Some("8" | "v8")) | ("amd64", Some("v1")) => None,
        ("arm", None | Some("7")) => Some("v7".to_owned()),
        (_, variant) => variant.map(str::to_owned),
    };
    (architecture.to_owned(), variant)
}

impl FromStr for Platform {
    type Err = ParsePlatformError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let error = || ParsePlatformError {
            text: text.chars().take(120).collect(),
        };
        let word = |w: &str| {
            !w.is_empty()
                && w.bytes()
                    .all(|b| b.is_ascii_alphanumeric() || b"._-".contains(&b))
        };
        let lower = text.to_ascii_lowercase();
        let parts: Vec<&str> = lower.split('/').collect();
        if parts.len() > 3 || !parts.iter().all(|p| word(p)) {
            return Err(error());
        }
        let (os, architecture, variant) = match *parts.as_slice() {
            ["linux"] => ("linux", std::env::consts::ARCH, None),
            [architecture] => ("linux", architecture, None),
            [os, architecture] => (os, architecture, None),
            [os, architecture, variant] => (os, architecture, Some(variant)),
            _ => return Err(error()),
        };
        let (architecture, variant) = normalize(architecture, variant);
        Ok(Self {
            architecture,
            os: os.to_owned(),
            variant,
            os_version: None,
        })
    }
}

impl fmt::Display for Platform {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.os, self.architecture)?;
        match &self.variant {
            Some(variant) => write!(f, "/{variant}"),
            None => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(text: &str, shown: &str) {
        assert_eq!(
            text.parse::<Platform>().unwrap().to_string(),
            shown,
            "{text}"
        );
    }

    #[test]
    fn normalises_spellings() {
        check("linux/x86_64", "linux/amd64");
        check("aarch64", "linux/arm64");
        check("linux/arm64/v8", "linux/arm64");
        check("linux/arm", "linux/arm/v7");
        check("Linux/AMD64", "linux/amd64");
        assert!("linux/".parse::<Platform>().is_err());
        assert!("a/b/c/d".parse::<Platform>().is_err());
    }

    #[test]
    fn matches_variants() {
        let wanted: Platform = "linux/arm64".parse().unwrap();
        assert!(wanted.accepts(&"linux/arm64/v8".parse().unwrap()));
        assert!(!wanted.accepts(&"linux/arm/v7".parse().unwrap()));
    }
}
