//! Names of repositories and tags, as the distribution specification spells them.

use std::fmt;
use std::sync::Arc;

/// The longest name of a repository: with a registry's host it still fits into a reference.
const NAME_MAX: usize = 255;
/// The longest tag.
const TAG_MAX: usize = 128;

/// A repository's name, such as `team/app`.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(crate) struct Name(Arc<str>);

impl Name {
    /// Takes a text that is a name.
    #[must_use]
    pub(crate) fn parse(text: &str) -> Option<Self> {
        let fits = !text.is_empty() && text.len() <= NAME_MAX;
        (fits && text.split('/').all(is_component)).then(|| Self(text.into()))
    }

    /// The name as text.
    #[must_use]
    pub(crate) fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for Name {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// `[a-z0-9]+((\.|_|__|-+)[a-z0-9]+)*`.
fn is_component(text: &str) -> bool {
    let is_word = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit();
    let bytes = text.as_bytes();
    let (Some(first), Some(last)) = (bytes.first(), bytes.last()) else {
        return false;
    };
    if !is_word(*first) || !is_word(*last) {
        return false;
    }
    let mut between = bytes.split(|byte| is_word(*byte));
    between.all(|gap| matches!(gap, b"" | b"." | b"_" | b"__") || gap.iter().all(|b| *b == b'-'))
}

/// A tag, such as `latest`.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(crate) struct Tag(Arc<str>);

impl Tag {
    /// Takes a text that is a tag.
    #[must_use]
    pub(crate) fn parse(text: &str) -> Option<Self> {
        let is_word = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'_';
        let bytes = text.as_bytes();
        let good = bytes.first().is_some_and(|byte| is_word(*byte))
            && bytes.len() <= TAG_MAX
            && bytes
                .iter()
                .all(|b| is_word(*b) || matches!(b, b'.' | b'-'));
        good.then(|| Self(text.into()))
    }

    /// The tag as text.
    #[must_use]
    pub(crate) fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for Tag {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names() {
        let long = "a/".repeat(127) + "a";
        for good in [
            "a",
            "library/busybox",
            "a.b",
            "a_b",
            "a__b",
            "a---b",
            "0/1/2/3",
            &long,
        ] {
            assert!(Name::parse(good).is_some(), "{good}");
        }
        let too_long = "a".repeat(256);
        for bad in [
            "", "A", "a/", "/a", "a//b", "a..b", "a___b", "a._b", "-a", "a-", ".", "..", "a/../b",
            "a b", "a\0", "é", &too_long,
        ] {
            assert!(Name::parse(bad).is_none(), "{bad}");
        }
    }

    #[test]
    fn tags() {
        let (long, too_long) = ("x".repeat(128), "x".repeat(129));
        for good in ["latest", "v1.2-rc", "_x", "A", &long] {
            assert!(Tag::parse(good).is_some(), "{good}");
        }
        for bad in ["", ".a", "-a", "a/b", "a:b", "a@b", &too_long] {
            assert!(Tag::parse(bad).is_none(), "{bad}");
        }
    }
}
