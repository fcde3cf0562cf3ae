//! What names mean: the names of a network, and which networks a container sees.

use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::{Arc, PoisonError, RwLock};

use super::wire::wire_name;

/// What an endpoint is called in its network, and where it is.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Entry {
    /// Container name, aliases, short id: each leads here, alone or with the network's name behind.
    pub names: Vec<String>,
    /// The endpoint's addresses, of one family or of both.
    pub addresses: Vec<IpAddr>,
    /// The answer to a reverse look-up: `name.network`.
    pub canonical: String,
}

/// Which family of addresses is asked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Family {
    V4,
    V6,
}

impl Family {
    fn holds(self, address: &IpAddr) -> bool {
        match self {
            Self::V4 => address.is_ipv4(),
            Self::V6 => address.is_ipv6(),
        }
    }
}

/// What is known of a name.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Knowledge {
    /// There are addresses of the family.
    Addresses,
    /// The name is ours, but has no address of the family.
    Nothing,
    /// The name is not ours.
    Unknown,
}

/// The names of one network, shared by all who are in it.
#[derive(Debug, Default)]
pub struct NetworkNames {
    index: RwLock<Index>,
}

#[derive(Debug, Default)]
struct Index {
    /// The keys that an endpoint has in the other maps.
    endpoints: HashMap<String, (Vec<Box<str>>, Vec<IpAddr>)>,
    forward: HashMap<Box<str>, Vec<(Arc<str>, IpAddr)>>,
    reverse: HashMap<IpAddr, (Arc<str>, Box<[u8]>)>,
}

impl NetworkNames {
    /// Makes an endpoint known, in place of what was known of it before.
    pub fn insert(&self, endpoint: &str, entry: Entry) {
        let mut index = self.index.write().unwrap_or_else(PoisonError::into_inner);
        index.remove(endpoint);
        index.insert(endpoint, entry);
    }

    /// Forgets an endpoint.
    pub fn remove(&self, endpoint: &str) {
        let mut index = self.index.write().unwrap_or_else(PoisonError::into_inner);
        index.remove(endpoint);
    }

    /// Collects the addresses of a name; tells whether it has any, of whichever family.
    fn collect(&self, name: &str, family: Family, found: &mut Vec<IpAddr>) -> bool {
        let index = self.index.read().unwrap_or_else(PoisonError::into_inner);
        let Some(addresses) = index.forward.get(name) else {
            return false;
        };
        let of_family = addresses.iter().map(|(_, address)| *address);
        found.extend(of_family.filter(|address| family.holds(address)));
        true
    }

    fn canonical(&self, address: IpAddr) -> Option<Box<[u8]>> {
        let index = self.index.read().unwrap_or_else(PoisonError::into_inner);
        index.reverse.get(&address).map(|(_, name)| name.clone())
    }
}

impl Index {
    fn insert(&mut self, endpoint: &str, entry: Entry) {
        let owner: Arc<str> = endpoint.into();
        let names = keys(&entry);
        for name in &names {
            let list = self.forward.entry(name.clone()).or_default();
            list.extend(entry.addresses.iter().map(|a| (Arc::clone(&owner), *a)));
        }
        if let Some(wire) = wire_name(&entry.canonical) {
            for address in &entry.addresses {
                self.reverse
                    .insert(*address, (Arc::clone(&owner), wire.clone()));
            }
        }
        self.endpoints
            .insert(endpoint.to_owned(), (names, entry.addresses));
    }

    fn remove(&mut self, endpoint: &str) {
        let Some((names, addresses)) = self.endpoints.remove(endpoint) else {
            return;
        };
        for name in names {
            if let Some(list) = self.forward.get_mut(&name) {
                list.retain(|(owner, _)| **owner != *endpoint);
                if list.is_empty() {
                    self.forward.remove(&name);
                }
            }
        }
        for address in addresses {
            // the address may have gone to another endpoint before this one was taken out
            if self
                .reverse
                .get(&address)
                .is_some_and(|(owner, _)| **owner == *endpoint)
            {
                self.reverse.remove(&address);
            }
        }
    }
}

/// Lists the keys by which an endpoint is found: its names, alone and with the network's behind.
fn keys(entry: &Entry) -> Vec<Box<str>> {
    let names: Vec<String> = entry.names.iter().map(|name| key(name)).collect();
    let canonical = key(&entry.canonical);
    let network = names
        .iter()
        .filter(|name| !name.is_empty())
        .filter_map(|name| canonical.strip_prefix(name.as_str())?.strip_prefix('.'))
        .min_by_key(|rest| rest.len());
    let qualified: Vec<String> = names
        .iter()
        .filter_map(|name| network.map(|network| format!("{name}.{network}")))
        .collect();
    let mut keys: Vec<Box<str>> = names
        .into_iter()
        .chain(qualified)
        .chain([canonical.clone()])
        .filter(|name| !name.is_empty())
        .map(String::into_boxed_str)
        .collect();
    keys.sort_unstable();
    keys.dedup();
    keys
}

fn key(name: &str) -> String {
    name.trim_end_matches('.').to_ascii_lowercase()
}

/// Whom to ask for names that are not ours.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub enum Upstream {
    /// Nobody: an internal network must not leak questions to the world (moby commit 790c3039d0).
    None,
    /// The host's name servers, asked from the host's namespace.
    #[default]
    Host,
    /// These (`--dns`), asked from inside the container's namespace.
    Given(Vec<IpAddr>),
}

/// What one container may ask for.
#[derive(Debug, Clone, Default)]
pub struct ScopeState {
    /// The networks the container is in; the first that knows a name answers.
    pub networks: Vec<Arc<NetworkNames>>,
    /// Names that only this container uses (`--link`), and what they stand for.
    pub links: Vec<(String, String)>,
    /// Whom to ask for the rest.
    pub upstream: Upstream,
    /// Addresses of unknown names without a dot are not asked for upstream: the user or the host
    /// set `ndots`, and the client is to try its search domains.
    pub keep_single_labels: bool,
}

/// The scope of one container, which changes as it is connected and disconnected.
#[derive(Debug)]
pub struct Scope {
    current: RwLock<Arc<View>>,
}

impl Scope {
    /// Makes a scope.
    pub fn new(state: ScopeState) -> Self {
        Self {
            current: RwLock::new(Arc::new(View::new(state))),
        }
    }

    /// Puts another state in place; the next question is answered from it.
    pub fn set(&self, state: ScopeState) {
        let view = Arc::new(View::new(state));
        *self.current.write().unwrap_or_else(PoisonError::into_inner) = view;
    }

    pub(super) fn view(&self) -> Arc<View> {
        Arc::clone(&self.current.read().unwrap_or_else(PoisonError::into_inner))
    }
}

/// One state of a scope, ready for look-ups.
#[derive(Debug)]
pub(super) struct View {
    networks: Vec<Arc<NetworkNames>>,
    links: HashMap<String, String>,
    pub(super) upstream: Upstream,
    pub(super) keep_single_labels: bool,
}

impl View {
    fn new(state: ScopeState) -> Self {
        let links = state.links.iter();
        Self {
            links: links.map(|(alias, name)| (key(alias), key(name))).collect(),
            networks: state.networks,
            upstream: state.upstream,
            keep_single_labels: state.keep_single_labels,
        }
    }

    /// Looks up a name in lower case without its last dot; `found` receives the addresses.
    pub(super) fn resolve(&self, name: &str, family: Family, found: &mut Vec<IpAddr>) -> Knowledge {
        if !self.links.is_empty()
            && let Some(target) = self.links.get(name)
        {
            let knowledge = self.search(target, family, found);
            if knowledge != Knowledge::Unknown {
                return knowledge;
            }
        }
        self.search(name, family, found)
    }

    fn search(&self, name: &str, family: Family, found: &mut Vec<IpAddr>) -> Knowledge {
        let mut knowledge = Knowledge::Unknown;
        for network in &self.networks {
            if network.collect(name, family, found) {
                knowledge = Knowledge::Nothing;
            }
            if !found.is_empty() {
                return Knowledge::Addresses;
            }
        }
        knowledge
    }

    /// Looks up the name of an address, in wire format.
    pub(super) fn reverse(&self, address: IpAddr) -> Option<Box<[u8]>> {
        self.networks
            .iter()
            .find_map(|network| network.canonical(address))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn entry(names: &[&str], address: [u8; 4], canonical: &str) -> Entry {
        Entry {
            names: names.iter().map(|&name| name.to_owned()).collect(),
            addresses: vec![address.into()],
            canonical: canonical.to_owned(),
        }
    }

    fn view(networks: Vec<Arc<NetworkNames>>, links: &[(&str, &str)]) -> View {
        View::new(ScopeState {
            networks,
            links: links
                .iter()
                .map(|(a, b)| ((*a).into(), (*b).into()))
                .collect(),
            ..ScopeState::default()
        })
    }

    fn check(view: &View, name: &str, expect: &[[u8; 4]], knowledge: Knowledge) {
        let mut found = Vec::new();
        assert_eq!(
            view.resolve(name, Family::V4, &mut found),
            knowledge,
            "{name}"
        );
        let expect: Vec<IpAddr> = expect.iter().map(|a| IpAddr::from(*a)).collect();
        assert_eq!(found, expect, "{name}");
    }

    #[test]
    fn names_aliases_and_the_networks_name_behind() {
        let names = Arc::new(NetworkNames::default());
        names.insert(
            "e1",
            entry(&["Web", "w.b", "abc"], [10, 0, 0, 2], "Web.net1"),
        );
        names.insert("e2", entry(&["other", "abc"], [10, 0, 0, 3], "other.net1"));
        let view = view(vec![Arc::clone(&names)], &[("db", "Other")]);
        for name in ["web", "w.b", "web.net1", "w.b.net1"] {
            check(&view, name, &[[10, 0, 0, 2]], Knowledge::Addresses);
        }
        check(
            &view,
            "abc",
            &[[10, 0, 0, 2], [10, 0, 0, 3]],
            Knowledge::Addresses,
        );
        check(&view, "db", &[[10, 0, 0, 3]], Knowledge::Addresses);
        check(&view, "web.net2", &[], Knowledge::Unknown);
        names.insert("e1", entry(&["new"], [10, 0, 0, 4], "new.net1"));
        check(&view, "web", &[], Knowledge::Unknown);
        check(&view, "abc", &[[10, 0, 0, 3]], Knowledge::Addresses);
        assert!(view.reverse([10, 0, 0, 2].into()).is_none());
        assert_eq!(
            view.reverse([10, 0, 0, 4].into()).as_deref(),
            Some(&b"\x03new\x04net1\0"[..])
        );
        names.remove("e1");
        names.remove("e2");
        check(&view, "abc", &[], Knowledge::Unknown);
    }

    #[test]
    fn the_first_network_with_an_address_answers() {
        let (one, two) = (
            Arc::new(NetworkNames::default()),
            Arc::new(NetworkNames::default()),
        );
        let six = Entry {
            addresses: vec!["fd00::2".parse().unwrap()],
            ..entry(&["a"], [0; 4], "a.one")
        };
        one.insert("e", six);
        two.insert("e", entry(&["a"], [10, 0, 0, 2], "a.two"));
        let both = view(vec![Arc::clone(&one), two], &[]);
        check(&both, "a", &[[10, 0, 0, 2]], Knowledge::Addresses);
        check(&view(vec![one], &[]), "a", &[], Knowledge::Nothing);
    }

    #[test]
    fn an_address_that_moved_on_keeps_its_new_name() {
        let names = Arc::new(NetworkNames::default());
        names.insert("old", entry(&["old"], [10, 0, 0, 2], "old.net"));
        names.insert("new", entry(&["new"], [10, 0, 0, 2], "new.net"));
        names.remove("old");
        let view = view(vec![names], &[]);
        assert_eq!(
            view.reverse([10, 0, 0, 2].into()).as_deref(),
            Some(&b"\x03new\x03net\0"[..])
        );
    }
}
