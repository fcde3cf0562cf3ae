//! Image references (`busybox`, `ghcr.io/o/r:tag@sha256:...`), normalised as Docker does.
//!
//! The grammar is that of CNCF distribution's `reference` package, with its messages, because
//! clients show them to people.

use std::fmt;
use std::str::FromStr;

use crate::Digest;

/// The registry that is meant when a name has no domain.
pub const DEFAULT_DOMAIN: &str = "docker.io";
const OFFICIAL_PREFIX: &str = "library/";
/// The tag that is meant when a name has neither tag nor digest.
pub const DEFAULT_TAG: &str = "latest";
const NAME_MAX: usize = 255;
const TAG_MAX: usize = 128;

/// A normalised image reference: domain, path, and a tag, a digest or both.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Reference {
    domain: String,
    path: String,
    tag: Option<String>,
    digest: Option<Digest>,
}

/// A text that is no image reference.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub enum ParseReferenceError {
    /// The text does not follow the grammar.
    #[error("invalid reference format")]
    Format,
    /// The repository's name has upper-case letters.
    #[error("invalid reference format: repository name ({name}) must be lowercase")]
    Uppercase {
        /// The repository's name.
        name: String,
    },
    /// The repository's name is longer than 255 characters.
    #[error("repository name must not be more than {NAME_MAX} characters")]
    TooLong,
    /// A tag that was given apart is none.
    #[error("invalid tag format")]
    Tag,
    /// The text is 64 hexadecimal digits, which is an image id.
    #[error("invalid repository name ({name}), cannot specify 64-byte hexadecimal strings")]
    IsId {
        /// The text as given.
        name: String,
    },
    /// The digest is not one.
    #[error("invalid reference format: {reason}")]
    Digest {
        /// What is wrong with it.
        reason: String,
    },
}

impl Reference {
    /// The registry, `docker.io` by default.
    #[must_use]
    pub fn domain(&self) -> &str {
        &self.domain
    }

    /// The repository in its registry, `library/busybox` for `busybox`.
    #[must_use]
    pub fn path(&self) -> &str {
        &self.path
    }

    /// The tag, if one is given.
    #[must_use]
    pub fn tag(&self) -> Option<&str> {
        self.tag.as_deref()
    }

    /// The digest, if one is given.
    #[must_use]
    pub fn digest(&self) -> Option<&Digest> {
        self.digest.as_ref()
    }

    /// `domain/path`, without tag and digest.
    #[must_use]
    pub fn name(&self) -> String {
        format!("{}/{}", self.domain, self.path)
    }

    /// The name as people write it: without `docker.io/` and `library/`.
    #[must_use]
    pub fn familiar_name(&self) -> String {
        if self.domain != DEFAULT_DOMAIN {
            return self.name();
        }
        let rest = self.path.strip_prefix(OFFICIAL_PREFIX);
        rest.filter(|rest| !rest.contains('/'))
            .unwrap_or(&self.path)
            .to_owned()
    }

    /// The whole reference as people write it.
    #[must_use]
    pub fn familiar(&self) -> String {
        self.with_suffix(self.familiar_name())
    }

    /// The same reference with `latest` where it has neither tag nor digest.
    #[must_use]
    pub fn or_latest(mut self) -> Self {
        if self.tag.is_none() && self.digest.is_none() {
            self.tag = Some(DEFAULT_TAG.to_owned());
        }
        self
    }

    /// The same repository with this tag and no digest.
    ///
    /// # Errors
    /// When `tag` is no valid tag.
    pub fn with_tag(&self, tag: &str) -> Result<Self, ParseReferenceError> {
        if !valid_tag(tag) {
            return Err(ParseReferenceError::Tag);
        }
        Ok(Self {
            tag: Some(tag.to_owned()),
            digest: None,
            ..self.clone()
        })
    }

    /// The same repository with this digest and no tag.
    #[must_use]
    pub fn with_digest(&self, digest: Digest) -> Self {
        Self {
            tag: None,
            digest: Some(digest),
            ..self.clone()
        }
    }

    fn with_suffix(&self, mut text: String) -> String {
        if let Some(tag) = &self.tag {
            text.push(':');
            text.push_str(tag);
        }
        if let Some(digest) = &self.digest {
            text.push('@');
            text.push_str(&digest.to_string());
        }
        text
    }
}

impl fmt::Display for Reference {
    /// The whole normalised reference, domain included.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.with_suffix(self.name()))
    }
}

impl FromStr for Reference {
    type Err = ParseReferenceError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        if text.len() == 64
            && text
                .bytes()
                .all(|b| b.is_ascii_digit() || (b'a'..=b'f').contains(&b))
        {
            return Err(ParseReferenceError::IsId {
                name: text.to_owned(),
            });
        }
        let (rest, digest) = split_digest(text)?;
        let (name, tag) = split_tag(rest)?;
        let (domain, path) = split_domain(name);
        if path.chars().any(char::is_uppercase) {
            return Err(ParseReferenceError::Uppercase { name: path });
        }
        if !valid_domain(&domain) || !valid_path(&path) {
            return Err(ParseReferenceError::Format);
        }
        if domain.len() + 1 + path.len() > NAME_MAX {
            return Err(ParseReferenceError::TooLong);
        }
        Ok(Self {
            domain,
            path,
            tag,
            digest,
        })
    }
}

fn split_digest(text: &str) -> Result<(&str, Option<Digest>), ParseReferenceError> {
    let Some((rest, digest)) = text.split_once('@') else {
        return Ok((text, None));
    };
    let digest = digest
        .parse()
        .map_err(
            |e: crate::digest::ParseDigestError| ParseReferenceError::Digest {
                reason: e.to_string(),
            },
        )?;
    Ok((rest, Some(digest)))
}

/// The tag follows the last colon behind the last slash; an earlier colon belongs to the port.
fn split_tag(text: &str) -> Result<(&str, Option<String>), ParseReferenceError> {
    let last_part = text.rfind('/').map_or(0, |slash| slash + 1);
    let Some(colon) = text[last_part..].find(':') else {
        return Ok((text, None));
    };
    let (name, tag) = (&text[..last_part + colon], &text[last_part + colon + 1..]);
    if valid_tag(tag) {
        Ok((name, Some(tag.to_owned())))
    } else {
        Err(ParseReferenceError::Format)
    }
}

/// The first part is a domain if it could not be a path: it has a dot or a colon, is `localhost`,
/// or has upper-case letters.
fn split_domain(name: &str) -> (String, String) {
    let is_domain = |part: &str| {
        part.contains(['.', ':']) || part == "localhost" || part.chars().any(char::is_uppercase)
    };
    let (domain, path) = match name.split_once('/') {
        Some((first, rest)) if is_domain(first) => (first, rest),
        _ => (DEFAULT_DOMAIN, name),
    };
    let domain = if domain == "index.docker.io" {
        DEFAULT_DOMAIN
    } else {
        domain
    };
    if domain == DEFAULT_DOMAIN && !path.contains('/') {
        (domain.to_owned(), format!("{OFFICIAL_PREFIX}{path}"))
    } else {
        (domain.to_owned(), path.to_owned())
    }
}

fn valid_tag(tag: &str) -> bool {
    let word = |b: u8| b.is_ascii_alphanumeric() || b == b'_';
    let bytes = tag.as_bytes();
    bytes.len() <= TAG_MAX
        && bytes.first().is_some_and(|b| word(*b))
        && bytes.iter().all(|b| word(*b) || b".-".contains(b))
}

fn valid_domain(domain: &str) -> bool {
    let (host, port) = match domain.strip_prefix('[') {
        Some(rest) => match rest.split_once(']') {
            Some((address, "")) => (address, None),
            Some((address, port)) => (address, port.strip_prefix(':').or(Some(""))),
            None => return false,
        },
        None => match domain.split_once(':') {
            Some((host, port)) => (host, Some(port)),
            None => (domain, None),
        },
    };
    let host_ok = if domain.starts_with('[') {
        host.parse::<std::net::Ipv6Addr>().is_ok()
    } else {
        host.split('.').all(valid_label)
    };
    host_ok && port.is_none_or(|p| !p.is_empty() && p.bytes().all(|b| b.is_ascii_digit()))
}

fn valid_label(label: &str) -> bool {
    let inner = |b: u8| b.is_ascii_alphanumeric() || b == b'-';
    !label.is_empty()
        && !label.starts_with('-')
        && !label.ends_with('-')
        && label.bytes().all(inner)
}

fn valid_path(path: &str) -> bool {
    !path.is_empty() && path.split('/').all(valid_component)
}

/// `[a-z0-9]+` runs joined by `.`, `_`, `__` or any number of `-`.
fn valid_component(component: &str) -> bool {
    let bytes = component.as_bytes();
    let alnum = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit();
    let ends_ok =
        bytes.first().is_some_and(|b| alnum(*b)) && bytes.last().is_some_and(|b| alnum(*b));
    let separators_ok = component
        .split(|c: char| c.is_ascii_lowercase() || c.is_ascii_digit())
        .all(|s| matches!(s, "" | "." | "_" | "__") || s.bytes().all(|b| b == b'-'));
    ends_ok && separators_ok
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// Pieces of which names are made, good ones and bad ones.
    const PIECES: &[&str] = &[
        "a",
        "busybox",
        "library",
        "docker.io",
        "index.docker.io",
        "localhost",
        "[::1]",
        "/",
        ":",
        "@",
        "5000",
        "sha256:",
        "sha512:",
        "0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef",
        ".",
        "..",
        "-",
        "_",
        "__",
        "A",
        "é",
        "\0",
        " ",
        "%2f",
    ];

    proptest! {
        #[test]
        fn what_is_read_is_written_and_read_alike(
            text in prop_oneof![
                prop::collection::vec(prop::sample::select(PIECES), 0..12).prop_map(|some| some.concat()),
                any::<String>(),
                "([a-z0-9.]{1,9}(:[0-9]{1,5})?/)?[a-z0-9]{1,4}([._-][a-z]{1,3})?(/[a-z]{1,4})?(:[A-Za-z0-9_.-]{1,9})?",
            ]
        ) {
            if let Ok(reference) = text.parse::<Reference>() {
                for again in [reference.to_string(), reference.familiar()] {
                    prop_assert_eq!(again.parse::<Reference>(), Ok(reference.clone()), "{}", again);
                }
                // a path of the store and of a request is made of it
                let parts = reference.path().split('/');
                for part in parts.chain([reference.domain()]).chain(reference.tag()) {
                    prop_assert!(!part.is_empty() && part != "." && part != "..", "{}", part);
                    prop_assert!(part.is_ascii() && !part.contains(['/', '\0', '%', ' ', '@']), "{}", part);
                }
                prop_assert!(reference.name().len() <= NAME_MAX);
            }
        }
    }

    #[track_caller]
    fn check(text: &str, normal: &str, familiar: &str) {
        let reference: Reference = text.parse().unwrap();
        assert_eq!(reference.to_string(), normal, "{text}");
        assert_eq!(reference.familiar(), familiar, "{text}");
    }

    #[test]
    fn normalises_as_docker_does() {
        check("busybox", "docker.io/library/busybox", "busybox");
        check(
            "busybox:1.36",
            "docker.io/library/busybox:1.36",
            "busybox:1.36",
        );
        check("gorae/hello", "docker.io/gorae/hello", "gorae/hello");
        check("localhost/a", "localhost/a", "localhost/a");
        check(
            "localhost:5000/a/b:t",
            "localhost:5000/a/b:t",
            "localhost:5000/a/b:t",
        );
        check("127.0.0.1:5055/x", "127.0.0.1:5055/x", "127.0.0.1:5055/x");
        check("index.docker.io/a", "docker.io/library/a", "a");
        check("[::1]:5000/a", "[::1]:5000/a", "[::1]:5000/a");
        check("a__b/c--d.e", "docker.io/a__b/c--d.e", "a__b/c--d.e");
        let digest = format!("sha256:{}", "a".repeat(64));
        check(
            &format!("x:t@{digest}"),
            &format!("docker.io/library/x:t@{digest}"),
            &format!("x:t@{digest}"),
        );
    }

    #[test]
    fn refuses_with_dockers_words() {
        let refuse = |text: &str| text.parse::<Reference>().unwrap_err().to_string();
        for text in [
            "",
            ":",
            "a:",
            "-a",
            "a//b",
            "a_-b",
            "a:b:c",
            "a@sha256:12",
            "a b",
            "../a",
            "a/../b",
        ] {
            assert!(
                refuse(text).starts_with("invalid reference format"),
                "{text}"
            );
        }
        assert_eq!(
            refuse("Busybox"),
            "invalid reference format: repository name (library/Busybox) must be lowercase"
        );
        assert!(refuse(&"a".repeat(64)).contains("cannot specify 64-byte hexadecimal strings"));
        assert!(refuse(&"g/".repeat(140)).starts_with("invalid reference format"));
    }

    #[test]
    fn latest_only_where_nothing_is_given() {
        let latest = |text: &str| text.parse::<Reference>().unwrap().or_latest().familiar();
        assert_eq!(latest("a"), "a:latest");
        assert_eq!(latest("a:b"), "a:b");
    }
}
