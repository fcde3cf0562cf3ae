//! Annotations of documents: `annotation[-level][[platform]].key=value` among the attributes.

use std::collections::BTreeMap;

use oci::Platform;

use crate::error::{Error, Result};

/// What is annotated.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Level {
    /// The manifest of an image.
    Manifest,
    /// What names that manifest.
    ManifestDescriptor,
    /// The index of all manifests.
    Index,
    /// What names that index.
    IndexDescriptor,
}

/// The annotations of an image's documents.
#[derive(Clone, Debug, Default)]
pub(super) struct Annotations(Vec<Annotation>);

#[derive(Clone, Debug, PartialEq, Eq)]
struct Annotation {
    level: Level,
    /// For the image of this platform alone.
    platform: Option<String>,
    key: String,
    value: String,
}

impl Annotations {
    /// Reads the annotations among attributes or metadata.
    pub(super) fn read(attrs: &BTreeMap<String, String>) -> Result<Self> {
        let mut all = Vec::new();
        for (name, value) in attrs {
            if let Some((level, platform, key)) = parse(name)? {
                all.push(Annotation {
                    level,
                    platform,
                    key,
                    value: value.clone(),
                });
            }
        }
        Ok(Self(all))
    }

    /// These and others, which win.
    pub(super) fn with(&self, others: &Self) -> Self {
        Self(self.0.iter().chain(&others.0).cloned().collect())
    }

    /// The annotations at a level, those of one platform after those of all.
    pub(super) fn at(&self, level: Level, platform: Option<&Platform>) -> BTreeMap<String, String> {
        let text = platform.map(ToString::to_string);
        let here = self.0.iter().filter(|one| one.level == level);
        let general = here.clone().filter(|one| one.platform.is_none());
        let special = here.filter(|one| one.platform.is_some() && one.platform == text);
        let pair = |one: &Annotation| (one.key.clone(), one.value.clone());
        general.chain(special).map(pair).collect()
    }

    /// Whether an index is annotated, which a single manifest has none of.
    pub(super) fn of_index(&self) -> bool {
        let index = [Level::Index, Level::IndexDescriptor];
        self.0.iter().any(|one| index.contains(&one.level))
    }

    pub(super) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

/// Reads `annotation-manifest[linux/amd64].key`; other names are none.
fn parse(name: &str) -> Result<Option<(Level, Option<String>, String)>> {
    let Some(rest) = name.strip_prefix("annotation") else {
        return Ok(None);
    };
    let Some(end) = rest.find(['.', '[']) else {
        return Ok(None);
    };
    let (level, rest) = rest.split_at(end);
    let level = match level {
        "" | "-manifest" => Level::Manifest,
        "-manifest-descriptor" => Level::ManifestDescriptor,
        "-index" => Level::Index,
        "-index-descriptor" => Level::IndexDescriptor,
        _ => return Ok(None),
    };
    let (platform, key) = match rest.strip_prefix('[') {
        Some(inner) => match inner.split_once("].") {
            Some((platform, key)) => (Some(platform), key),
            None => return Ok(None),
        },
        None => (None, rest.trim_start_matches('.')),
    };
    let wrong = |_| Error::invalid(format!("invalid platform of annotation {name:?}"));
    let platform = platform
        .map(|text| text.parse::<Platform>().map_err(wrong))
        .transpose()?;
    let text = platform.map(|platform| platform.to_string());
    Ok(Some((level, text, key.to_owned())))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_of_annotations() {
        for (name, expect) in [
            ("annotation.a.b", Some((Level::Manifest, None, "a.b"))),
            ("annotation-manifest.a", Some((Level::Manifest, None, "a"))),
            ("annotation-index.a", Some((Level::Index, None, "a"))),
            (
                "annotation-index-descriptor.a",
                Some((Level::IndexDescriptor, None, "a")),
            ),
            (
                "annotation-manifest-descriptor[linux/arm64].a.b",
                Some((Level::ManifestDescriptor, Some("linux/arm64"), "a.b")),
            ),
            ("annotations", None),
            ("annotation-other.a", None),
            ("name", None),
        ] {
            let found = parse(name).unwrap();
            let expect = expect
                .map(|(level, platform, key)| (level, platform.map(str::to_owned), key.to_owned()));
            assert_eq!(found, expect, "{name}");
        }
        assert!(parse("annotation[a/b/c/d].x").is_err());
    }

    #[test]
    fn a_platforms_own_win() {
        let attrs = [("annotation.a", "1"), ("annotation[linux/arm64].a", "2")];
        let attrs = attrs.map(|(key, value)| (key.to_owned(), value.to_owned()));
        let all = Annotations::read(&attrs.into()).unwrap();
        let arm = "linux/arm64".parse().unwrap();
        assert_eq!(all.at(Level::Manifest, Some(&arm))["a"], "2");
        assert_eq!(all.at(Level::Manifest, None)["a"], "1");
        assert!(all.at(Level::Index, None).is_empty() && !all.of_index());
    }
}
