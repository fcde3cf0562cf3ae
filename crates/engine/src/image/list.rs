//! Listing images.

use std::collections::HashMap;
use std::sync::Arc;

use api::Filters;
use api::image::Summary;
use api::query::ImageList;
use jiff::Timestamp;

use super::{Image, familiar};
use crate::engine::Engine;
use crate::error::Result;
use crate::filter;

const FILTERS: [&str; 8] = [
    "before",
    "dangling",
    "intermediate",
    "label",
    "label!",
    "reference",
    "since",
    "until",
];

impl Engine {
    /// Lists images, newest first.
    ///
    /// # Errors
    /// When a filter is unknown or malformed.
    pub fn image_list(&self, options: &ImageList) -> Result<Vec<Summary>> {
        let filters = &options.filters;
        filters.validate(&FILTERS)?;
        let created = |key: &str| match filters.get(key).next() {
            Some(name) => self
                .images
                .get(name, None)
                .map(|image| Some(image.created())),
            None => Ok(None),
        };
        let (before, since, until) = (
            created("before")?,
            created("since")?,
            filter::until(filters)?,
        );
        let dangling = filters.bool_or("dangling", false)?;
        let mut images = self.images.all();
        images.retain(|image| {
            let time = image.created();
            (!filters.contains("dangling") || image.record.tags.is_empty() == dangling)
                && filter::labels(
                    filters,
                    image.config.config.as_ref().and_then(|c| c.labels.as_ref()),
                )
                && before.is_none_or(|before| time < before)
                && since.is_none_or(|since| time > since)
                && until.is_none_or(|until| time < until)
                && named(filters, image)
        });
        images.sort_by_cached_key(|image| (std::cmp::Reverse(image.created()), image.id.clone()));
        let users = self.image_users();
        let shown = |image: &Arc<Image>| {
            let mut summary = summary(image, users.get(&image.id).copied().unwrap_or(0));
            if let Some(tags) = &mut summary.repo_tags {
                tags.retain(|tag| matches_reference(filters, tag));
            }
            summary
        };
        Ok(images.iter().map(shown).collect())
    }

    /// How many containers each image has.
    pub(super) fn image_users(&self) -> HashMap<oci::Digest, i64> {
        let mut users = HashMap::new();
        for container in self.containers.all() {
            *users.entry(container.record().image.clone()).or_insert(0) += 1;
        }
        users
    }
}

impl Image {
    /// When the image was made, by its own account.
    pub(crate) fn created(&self) -> Timestamp {
        self.config
            .created
            .as_ref()
            .and_then(|text| text.parse().ok())
            .unwrap_or(Timestamp::UNIX_EPOCH)
    }
}

fn summary(image: &Arc<Image>, containers: i64) -> Summary {
    let labels = image.config.config.as_ref().and_then(|c| c.labels.clone());
    Summary {
        containers,
        created: image.created().as_second(),
        id: image.id.to_string(),
        labels,
        repo_digests: Some(familiar(&image.record.digests)),
        repo_tags: Some(familiar(&image.record.tags)),
        shared_size: -1,
        size: i64::try_from(image.size).unwrap_or(i64::MAX),
        ..Summary::default()
    }
}

fn named(filters: &Filters, image: &Image) -> bool {
    !filters.contains("reference")
        || familiar(&image.record.tags)
            .iter()
            .any(|tag| matches_reference(filters, tag))
}

/// Whether a name with its tag is among those that the filter `reference` asks for.
fn matches_reference(filters: &Filters, name: &str) -> bool {
    let repository = name
        .rsplit_once(':')
        .map_or(name, |(repository, _)| repository);
    !filters.contains("reference")
        || filters
            .get("reference")
            .any(|pattern| glob(pattern, name) || glob(pattern, repository))
}

/// Whether `text` matches a pattern with `*` and `?`, neither of which crosses a slash (`path.Match`).
fn glob(pattern: &str, text: &str) -> bool {
    fn matches(pattern: &[u8], text: &[u8]) -> bool {
        match (pattern.first(), text.first()) {
            (None, None) => true,
            (Some(b'*'), _) => {
                let longest = text.iter().position(|b| *b == b'/').unwrap_or(text.len());
                (0..=longest).any(|n| matches(&pattern[1..], &text[n..]))
            }
            (Some(b'?'), Some(b)) if *b != b'/' => matches(&pattern[1..], &text[1..]),
            (Some(p), Some(t)) if p == t => matches(&pattern[1..], &text[1..]),
            _ => false,
        }
    }
    // a pattern of many stars would try every split of the text
    let stars = pattern.bytes().filter(|b| *b == b'*').count();
    stars <= 8 && matches(pattern.as_bytes(), text.as_bytes())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn patterns_match_as_paths() {
        for (pattern, text, expect) in [
            ("busybox", "busybox", true),
            ("busy*", "busybox", true),
            ("*", "a/b", false),
            ("*/*", "a/b", true),
            ("bus?box", "busybox", true),
            ("busybox:*", "busybox:latest", true),
            ("x*", "busybox", false),
        ] {
            assert_eq!(glob(pattern, text), expect, "{pattern} {text}");
        }
    }
}
