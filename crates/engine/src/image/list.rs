//! Listing images.

use std::collections::HashMap;
use std::sync::Arc;

use api::Filters;
use api::image::Summary;
use api::query::ImageList;
use jiff::Timestamp;

use super::{Image, familiar};
use crate::engine::Engine;
use crate::error::{Error, Result};
use crate::filter;
use crate::glob::Pattern;

const FILTERS: [&str; 6] = ["before", "dangling", "label", "reference", "since", "until"];

/// The filters of a list, read.
struct Wanted<'a> {
    filters: &'a Filters,
    before: Option<Timestamp>,
    since: Option<Timestamp>,
    until: Option<Timestamp>,
    dangling: Option<bool>,
    references: Vec<Pattern>,
}

impl Engine {
    /// Lists images, newest first.
    ///
    /// # Errors
    /// When a filter is unknown or malformed.
    pub fn image_list(&self, options: &ImageList) -> Result<Vec<Summary>> {
        let wanted = self.wanted(&options.filters)?;
        let shared = options.shared_size;
        let shared = shared.then(|| users_of_layers(&self.images.all()));
        let mut images = self.images.listed();
        images.retain(|image| wanted.accepts(image));
        images.sort_by_cached_key(|image| (std::cmp::Reverse(image.created()), image.id.clone()));
        let users = self.image_users();
        let shown = |image: &Arc<Image>| {
            let mut summary = summary(image, users.get(&image.id).copied().unwrap_or(0));
            for names in [&mut summary.repo_tags, &mut summary.repo_digests] {
                names
                    .get_or_insert_default()
                    .retain(|name| wanted.names(name));
            }
            if let Some(shared) = &shared {
                summary.shared_size = shared_size(image, shared);
            }
            if options.manifests {
                (summary.descriptor, summary.manifests) = self.image_manifests(image)?;
            }
            Ok(summary)
        };
        images.iter().map(shown).collect()
    }

    fn wanted<'a>(&self, filters: &'a Filters) -> Result<Wanted<'a>> {
        filters.validate(&FILTERS)?;
        let created = |key: &str| -> Result<Vec<Timestamp>> {
            let images = filters.get(key).map(|name| self.images.get(name, None));
            images.map(|image| Ok(image?.created())).collect()
        };
        let references = filters.get("reference").map(Pattern::new);
        Ok(Wanted {
            filters,
            // all of several have to be true
            before: created("before")?.into_iter().min(),
            since: created("since")?.into_iter().max(),
            until: until(filters)?,
            dangling: filters
                .contains("dangling")
                .then(|| filters.bool_or("dangling", false))
                .transpose()?,
            references: references.collect::<Result<_>>()?,
        })
    }

    /// How many containers each image has; those of its parts count as its own.
    pub(super) fn image_users(&self) -> HashMap<oci::Digest, i64> {
        let mut users = HashMap::new();
        for container in self.containers.all() {
            let lead = self.images.lead(&container.record().image);
            *users.entry(lead).or_insert(0) += 1;
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

impl Wanted<'_> {
    fn accepts(&self, image: &Image) -> bool {
        let time = image.created();
        let labels = image.config.config.as_ref().and_then(|c| c.labels.as_ref());
        let record = &image.record;
        let dangling = match self.dangling {
            None => true,
            Some(true) => record.tags.is_empty(),
            Some(false) => !record.tags.is_empty() || !record.digests.is_empty(),
        };
        let named = || {
            let names = record.tags.iter().chain(&record.digests).cloned();
            familiar(&names.collect::<Vec<_>>())
                .iter()
                .any(|name| self.names(name))
        };
        dangling
            && filter::labels(self.filters, labels)
            && self.before.is_none_or(|before| time < before)
            && self.since.is_none_or(|since| time > since)
            && self.until.is_none_or(|until| time < until)
            && (self.references.is_empty() || named())
    }

    /// Whether a name with its tag or digest is among those that the filter `reference` asks for.
    fn names(&self, name: &str) -> bool {
        let repository = match name.split_once('@') {
            Some((repository, _)) => repository,
            None => name
                .rsplit_once(':')
                .map_or(name, |(repository, _)| repository),
        };
        self.references.is_empty()
            || self
                .references
                .iter()
                .any(|pattern| pattern.matches(name) || pattern.matches(repository))
    }
}

/// The time before which an image has to be made; of several the earliest.
pub(super) fn until(filters: &Filters) -> Result<Option<Timestamp>> {
    let mut earliest: Option<Timestamp> = None;
    for text in filters.get("until") {
        let mut one = Filters::default();
        one.add("until", text);
        let time = filter::until(&one).map_err(|_| {
            let text = format!("failed to parse value as time or duration: {text:?}");
            Error::invalid(text)
        })?;
        earliest = earliest.min(time).or(time);
    }
    Ok(earliest)
}

/// How many images have each layer.
fn users_of_layers(images: &[Arc<Image>]) -> HashMap<oci::Digest, usize> {
    let mut users = HashMap::new();
    for image in images {
        for layer in &image.record.layers {
            *users.entry(layer.chain.clone()).or_insert(0) += 1;
        }
    }
    users
}

/// Bytes of the layers that other images have, too.
fn shared_size(image: &Image, users: &HashMap<oci::Digest, usize>) -> i64 {
    let layers = image.record.layers.iter();
    let shared = layers.filter(|layer| users.get(&layer.chain).is_some_and(|count| *count > 1));
    let size: u64 = shared.map(|layer| layer.size).sum();
    i64::try_from(size).unwrap_or(i64::MAX)
}
