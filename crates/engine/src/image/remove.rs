//! Removing names of images, images, and what no image needs any more.

use std::collections::HashSet;
use std::sync::Arc;

use api::image::DeleteItem;
use api::query::ImageRemove;
use oci::{ContainerId, Digest, Platform, Reference};
use storage::failpoint::{self, Point};

use super::{Image, Record, Tables, familiar};
use crate::container::Container;
use crate::db::{Change, Table};
use crate::engine::Engine;
use crate::error::{Error, Result};

impl Engine {
    /// Removes a name, and with the last name the image.
    ///
    /// # Errors
    /// When there is no such image, or it is in use.
    pub async fn image_remove(
        self: &Arc<Self>,
        name: &str,
        options: ImageRemove,
        platforms: &[Platform],
    ) -> Result<Vec<DeleteItem>> {
        let image = self.for_one_platform(name, platforms)?;
        let named = named(name, &image);
        let mut items = Vec::new();
        let running = self.user_of(&image, true);
        let stopped = self.user_of(&image, false);
        if let Some(reference) = &named {
            let leaving = leaving(&image.record, reference);
            let last = leaving.len() == image.record.tags.len() + image.record.digests.len();
            if let Some(user) = running
                .as_ref()
                .or(stopped.as_ref())
                .filter(|_| last && !options.force)
            {
                return Err(Error::conflict(format!(
                    "conflict: unable to remove repository reference {:?} (must force) - container {} is using its referenced image {}",
                    name,
                    user.short(),
                    image.id.short()
                )));
            }
            // a running container keeps its image, only the name goes
            if !last || running.is_some() {
                self.untag(&image, &leaving, &mut items).await?;
                return Ok(items);
            }
        } else {
            check_deletable(&image, running.as_ref(), stopped.as_ref(), options.force)?;
        }
        self.delete_image(&image, &mut items).await?;
        self.collect().await;
        Ok(items)
    }

    /// The image of a name if it is for one of these platforms, or if none is given.
    fn for_one_platform(&self, name: &str, platforms: &[Platform]) -> Result<Arc<Image>> {
        let Some(first) = platforms.first() else {
            return self.images.get(name, None);
        };
        let mut found = platforms
            .iter()
            .map(|platform| self.images.for_platform(name, Some(platform)));
        match found.find(Result::is_ok) {
            Some(image) => image,
            None => self.images.for_platform(name, Some(first)),
        }
    }

    /// A container that uses the image and runs, or one that does not run.
    fn user_of(&self, image: &Image, running: bool) -> Option<ContainerId> {
        let uses = |c: &Arc<Container>| {
            let record = c.record();
            let own = record.image == image.id || self.images.lead(&record.image) == image.id;
            own && record.state.status.is_alive() == running
        };
        self.containers
            .all()
            .into_iter()
            .find(uses)
            .map(|c| c.id.clone())
    }

    /// Takes names from an image that keeps others, or its containers.
    async fn untag(
        &self,
        image: &Image,
        names: &[String],
        items: &mut Vec<DeleteItem>,
    ) -> Result<()> {
        let was_there = self
            .change_images(|tables| tables.untag(&image.id, names))
            .await?;
        if !was_there {
            return Ok(());
        }
        failpoint::reach(Point::ImageUntagged);
        let id = image.id.to_string();
        for name in familiar(names) {
            self.image_event("untag", &id, &id);
            items.push(DeleteItem {
                untagged: name,
                ..DeleteItem::default()
            });
        }
        Ok(())
    }

    /// Forgets an image; its content is left to the collector.
    pub(super) async fn delete_image(
        &self,
        image: &Image,
        items: &mut Vec<DeleteItem>,
    ) -> Result<()> {
        let record = self
            .images
            .by_id(&image.id)
            .map_or_else(|| image.record.clone(), |i| i.record.clone());
        let id = image.id.to_string();
        for _ in record.tags.iter().chain(&record.digests) {
            // while the labels of the image are still known
            self.image_event("untag", &id, &id);
        }
        let parts = self.images.parts(&image.id);
        let gone = parts.iter().map(|part| &part.id).chain([&image.id]);
        let was_there = self
            .change_images(|tables| {
                let mut changes = Vec::new();
                for id in gone.clone() {
                    changes.extend(tables.delete(id).1);
                }
                Ok((!changes.is_empty(), changes))
            })
            .await?;
        for id in gone {
            self.images.uses.forget(id);
        }
        failpoint::reach(Point::ImageForgotten);
        if !was_there {
            return Ok(());
        }
        for name in familiar(&record.tags)
            .into_iter()
            .chain(familiar(&record.digests))
        {
            items.push(DeleteItem {
                untagged: name,
                ..DeleteItem::default()
            });
        }
        let records = parts.iter().map(|part| &part.record);
        for record in std::iter::once(&record).chain(records) {
            let layers = record.layers.iter().rev().map(|layer| &layer.chain);
            for deleted in std::iter::once(&record.id).chain(layers) {
                items.push(DeleteItem {
                    deleted: deleted.to_string(),
                    ..DeleteItem::default()
                });
            }
        }
        self.image_event("delete", &id, &id);
        Ok(())
    }
}

impl Tables {
    /// Takes names from an image; says whether it was there.
    fn untag(&mut self, id: &Digest, names: &[String]) -> Result<(bool, Vec<Change>)> {
        let Some(current) = self.by_id.get(id) else {
            return Ok((false, Vec::new()));
        };
        let mut record = current.record.clone();
        record.tags.retain(|tag| !names.contains(tag));
        record.digests.retain(|digest| !names.contains(digest));
        for name in names {
            // meanwhile it may have become another image's
            if self.by_name.get(name) == Some(id) {
                self.by_name.remove(name);
            }
        }
        let change = Change::put(Table::Images, &id.to_string(), &record)?;
        self.insert(Image::new(record));
        Ok((true, vec![change]))
    }

    /// Forgets an image with all its names; says whether it was there.
    fn delete(&mut self, id: &Digest) -> (bool, Vec<Change>) {
        if !self.by_id.contains_key(id) {
            return (false, Vec::new());
        }
        self.remove(id);
        let key = id.to_string();
        let changes = [Table::Images, Table::Uses].map(|table| Change::remove(table, &key));
        (true, changes.into())
    }
}

/// Refuses to delete an image by its id while it is needed.
fn check_deletable(
    image: &Image,
    running: Option<&ContainerId>,
    stopped: Option<&ContainerId>,
    force: bool,
) -> Result<()> {
    let id = image.id.short();
    let why = match (running, stopped) {
        (Some(user), _) => {
            format!(
                "(cannot be forced) - image is being used by running container {}",
                user.short()
            )
        }
        (None, _) if force => return Ok(()),
        (None, _) if !is_single(&image.record) => {
            "(must be forced) - image is referenced in multiple repositories".to_owned()
        }
        (None, Some(user)) => {
            format!(
                "(must be forced) - image is being used by stopped container {}",
                user.short()
            )
        }
        (None, None) => return Ok(()),
    };
    Err(Error::conflict(format!(
        "conflict: unable to delete {id} {why}"
    )))
}

/// The names that go with a name: with the last tag of a repository its digests.
fn leaving(record: &Record, reference: &Reference) -> Vec<String> {
    let mut names = vec![reference.to_string()];
    let of_repository = |name: &String| {
        name.parse::<Reference>()
            .is_ok_and(|other| other.name() == reference.name())
    };
    let others = record.tags.iter().filter(|tag| **tag != names[0]);
    if reference.digest().is_none() && !others.clone().any(of_repository) {
        names.extend(
            record
                .digests
                .iter()
                .filter(|name| of_repository(name))
                .cloned(),
        );
    }
    names
}

/// Whether an image has one name only, with or without the digest that it has in that repository.
fn is_single(record: &Record) -> bool {
    let repositories = |names: &[String]| -> HashSet<String> {
        let parsed = names
            .iter()
            .filter_map(|name| name.parse::<Reference>().ok());
        parsed.map(|name| name.name()).collect()
    };
    let all: Vec<String> = record.tags.iter().chain(&record.digests).cloned().collect();
    record.tags.len() <= 1 && repositories(&all).len() <= 1
}

/// The name among the image's that the text means; none when it is an id.
fn named(text: &str, image: &Image) -> Option<Reference> {
    let reference = text.parse::<Reference>().ok()?.or_latest();
    let full = reference.to_string();
    let known = image.record.tags.contains(&full) || image.record.digests.contains(&full);
    known.then_some(reference)
}
