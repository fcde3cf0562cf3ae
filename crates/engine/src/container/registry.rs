//! All containers by id and by name.

use std::collections::{HashMap, VecDeque};
use std::sync::{Arc, RwLock};
use std::time::{Duration, Instant};

use oci::ContainerId;

use super::Container;
use crate::error::{Error, Result};
use crate::names;

/// How long the end of a container that removed itself can still be asked for.
const REMEMBERED: Duration = Duration::from_secs(10);
/// So many of them are remembered at most.
const MOST_REMEMBERED: usize = 64;

/// The containers of an engine; a name is reserved before its container exists.
#[derive(Debug, Default)]
pub(crate) struct Containers(RwLock<Tables>);

#[derive(Debug, Default)]
struct Tables {
    by_id: HashMap<ContainerId, Arc<Container>>,
    by_name: HashMap<String, ContainerId>,
    /// Those that removed themselves at their end, oldest first.
    departed: VecDeque<(Instant, Arc<Container>)>,
}

impl Containers {
    fn tables(&self) -> std::sync::RwLockReadGuard<'_, Tables> {
        self.0
            .read()
            .unwrap_or_else(std::sync::PoisonError::into_inner)
    }

    fn tables_mut(&self) -> std::sync::RwLockWriteGuard<'_, Tables> {
        self.0
            .write()
            .unwrap_or_else(std::sync::PoisonError::into_inner)
    }

    /// Takes a name for a container to be, drawing one where none is given.
    pub(crate) fn reserve(&self, id: &ContainerId, name: Option<&str>) -> Result<String> {
        let mut tables = self.tables_mut();
        let name = match name {
            Some(name) => name.to_owned(),
            None => names::draw(|name| tables.by_name.contains_key(name))?,
        };
        if let Some(owner) = tables.by_name.get(&name) {
            return Err(Error::conflict(format!(
                "Conflict. The container name \"/{name}\" is already in use by container \"{owner}\". You have to remove (or rename) that container to be able to reuse that name."
            )));
        }
        tables.by_name.insert(name.clone(), id.clone());
        Ok(name)
    }

    /// Gives a container another name.
    pub(crate) fn rename(&self, container: &Container, new: &str) -> Result<String> {
        let new = self.reserve(&container.id, Some(new))?;
        let old = std::mem::replace(&mut container.record().name, new);
        self.tables_mut().by_name.remove(&old);
        Ok(old)
    }

    /// Forgets a container and its names.
    pub(crate) fn release(&self, id: &ContainerId) {
        let mut tables = self.tables_mut();
        tables.by_id.remove(id);
        tables.by_name.retain(|_, owner| owner != id);
    }

    /// Remembers a container that removes itself at its end (`--rm`), for those who ask for its exit code only
    /// after they have started it, as dockerode does: dockerd takes so long to remove it that they are in time.
    pub(crate) fn remember(&self, container: &Arc<Container>) {
        let mut tables = self.tables_mut();
        let now = Instant::now();
        tables
            .departed
            .retain(|(since, _)| now.duration_since(*since) < REMEMBERED);
        if tables.departed.len() >= MOST_REMEMBERED {
            tables.departed.pop_front();
        }
        tables.departed.push_back((now, Arc::clone(container)));
    }

    /// A container that removed itself a moment ago, by its whole id.
    pub(crate) fn departed(&self, id: &str) -> Option<Arc<Container>> {
        let tables = self.tables();
        let found = tables
            .departed
            .iter()
            .find(|(since, container)| container.id.as_str() == id && since.elapsed() < REMEMBERED);
        found.map(|(_, container)| Arc::clone(container))
    }

    pub(crate) fn insert(&self, container: &Arc<Container>) {
        let name = container.name();
        let mut tables = self.tables_mut();
        tables.by_name.insert(name, container.id.clone());
        tables
            .by_id
            .insert(container.id.clone(), Arc::clone(container));
    }

    /// Whether there is a container of this id, or one is about to be made.
    pub(crate) fn knows(&self, id: &ContainerId) -> bool {
        let tables = self.tables();
        tables.by_id.contains_key(id) || tables.by_name.values().any(|owner| owner == id)
    }

    /// All containers, newest first.
    pub(crate) fn all(&self) -> Vec<Arc<Container>> {
        let mut all: Vec<_> = self.tables().by_id.values().cloned().collect();
        all.sort_by_cached_key(|container| std::cmp::Reverse(container.record().created));
        all
    }

    /// The container of an id, a name, or an id's unique beginning.
    pub(crate) fn get(&self, name: &str) -> Result<Arc<Container>> {
        let missing = || Error::not_found(format!("No such container: {name}"));
        let bare = name.strip_prefix('/').unwrap_or(name);
        if bare.is_empty() {
            return Err(missing());
        }
        let tables = self.tables();
        let exact = bare
            .parse::<ContainerId>()
            .ok()
            .and_then(|id| tables.by_id.get(&id));
        let named = || tables.by_name.get(bare).and_then(|id| tables.by_id.get(id));
        if let Some(container) = exact.or_else(named) {
            return Ok(Arc::clone(container));
        }
        let mut matches = tables
            .by_id
            .iter()
            .filter(|(id, _)| id.as_str().starts_with(bare));
        match (matches.next(), matches.next()) {
            (Some((_, container)), None) => Ok(Arc::clone(container)),
            (None, _) => Err(missing()),
            (Some(_), Some(_)) => Err(Error::invalid(format!(
                "multiple IDs found with provided prefix: {bare}"
            ))),
        }
    }
}
