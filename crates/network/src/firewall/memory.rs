//! What should be in the sets and maps.

use std::collections::BTreeMap;
use std::net::IpAddr;

use super::elements::version_of;
use super::ruleset::Which;
use crate::netlink::text;
use crate::nft::{Element, Family, Transaction};
use crate::route::octets;

/// How long a link's name is in a key.
const NAME: usize = 16;

/// The elements of each set, by key.
#[derive(Debug, Default)]
pub(super) struct Memory {
    sets: BTreeMap<Which, BTreeMap<Vec<u8>, Element>>,
}

/// A change of the sets, and how to take it back.
#[derive(Debug, Default)]
pub(super) struct Change {
    gone: Vec<(Which, Element)>,
    new: Vec<(Which, Element)>,
}

impl Memory {
    /// Tells what adding these elements changes: those that lead elsewhere are replaced.
    pub(super) fn adding(&self, elements: Vec<(Which, Element)>) -> Change {
        let mut change = Change::default();
        for (which, element) in elements {
            match self.get(which, &element.key) {
                Some(present) if *present == element => {}
                Some(present) => {
                    change.gone.push((which, present.clone()));
                    change.new.push((which, element));
                }
                None => change.new.push((which, element)),
            }
        }
        // the kernel refuses a key that comes twice; the last one is meant
        let mut seen = BTreeMap::new();
        change.new.reverse();
        change
            .new
            .retain(|(which, element)| seen.insert((*which, element.key.clone()), ()).is_none());
        change.new.reverse();
        change.gone.sort();
        change.gone.dedup();
        change
    }

    /// Tells what removing these elements changes: those that lead elsewhere stay.
    pub(super) fn removing(&self, elements: Vec<(Which, Element)>) -> Change {
        let mut gone: Vec<_> = elements
            .into_iter()
            .filter(|(which, element)| self.get(*which, &element.key) == Some(element))
            .collect();
        gone.sort();
        gone.dedup();
        Change {
            gone,
            new: Vec::new(),
        }
    }

    pub(super) fn apply(&mut self, change: &Change) {
        for (which, element) in &change.gone {
            self.sets.entry(*which).or_default().remove(&element.key);
        }
        for (which, element) in &change.new {
            let set = self.sets.entry(*which).or_default();
            set.insert(element.key.clone(), element.clone());
        }
    }

    pub(super) fn of(&self, which: Which) -> impl Iterator<Item = &Element> {
        self.sets.get(&which).into_iter().flat_map(BTreeMap::values)
    }

    pub(super) fn get(&self, which: Which, key: &[u8]) -> Option<&Element> {
        self.sets.get(&which)?.get(key)
    }

    pub(super) fn holds(&self, which: Which, key: &[u8]) -> bool {
        self.get(which, key).is_some()
    }

    /// Names our bridges.
    pub(super) fn bridges(&self) -> Vec<String> {
        let elements = self.of(Which::Bridges);
        elements.map(|element| text(&element.key)).collect()
    }

    /// Names the bridge behind whose network an address is.
    pub(super) fn network_of(&self, address: IpAddr) -> Option<String> {
        let octets = octets(address);
        self.of(Which::Networks(version_of(address)))
            .find(|network| {
                let bounds = network.key.get(NAME..).zip(network.end.get(NAME..));
                bounds.is_some_and(|(first, last)| *first <= *octets && *octets <= *last)
            })
            .map(|network| text(&network.key[..NAME]))
    }
}

impl Change {
    pub(super) fn is_empty(&self) -> bool {
        self.gone.is_empty() && self.new.is_empty()
    }

    /// Returns the change that undoes this one.
    pub(super) fn inverse(self) -> Self {
        Self {
            gone: self.new,
            new: self.gone,
        }
    }

    /// Writes the change of the sets of these families, the elements of a set in one message.
    pub(super) fn write(&self, families: &[Family], transaction: &mut Transaction<'_>) {
        for which in Which::ALL {
            if families.contains(&which.family()) {
                transaction.delete_elements(&which.set(), of(&self.gone, which));
                transaction.add_elements(&which.set(), of(&self.new, which));
            }
        }
    }
}

fn of(list: &[(Which, Element)], which: Which) -> impl Iterator<Item = &Element> {
    list.iter()
        .filter(move |(found, _)| *found == which)
        .map(|(_, element)| element)
}
