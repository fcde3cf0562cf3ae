//! Which containers a list is asked for.

use std::ops::RangeInclusive;

use api::Filters;
use api::query::ContainerList;
use jiff::Timestamp;

use super::{Container, Record, Status};
use crate::engine::Engine;
use crate::error::{Error, Result};
use crate::filter::{self, Patterns};

const FILTERS: [&str; 16] = [
    "ancestor",
    "before",
    "exited",
    "expose",
    "health",
    "id",
    "is-task",
    "isolation",
    "label",
    "label!",
    "name",
    "network",
    "publish",
    "since",
    "status",
    "volume",
];
const STATUSES: [&str; 7] = [
    "created",
    "running",
    "paused",
    "restarting",
    "removing",
    "exited",
    "dead",
];
const HEALTHS: [&str; 4] = ["none", "starting", "healthy", "unhealthy"];

/// A list's filters, resolved once.
pub(super) struct Wanted<'a> {
    all: bool,
    filters: &'a Filters,
    names: Patterns<'a>,
    exited: Vec<i64>,
    /// Whether tasks of a swarm are wanted; there are none.
    tasks: Option<bool>,
    exposed: Vec<Ports>,
    published: Vec<Ports>,
    before: Option<Timestamp>,
    since: Option<Timestamp>,
}

impl<'a> Wanted<'a> {
    pub(super) fn new(engine: &Engine, options: &'a ContainerList) -> Result<Self> {
        let filters = &options.filters;
        filters.validate(&FILTERS)?;
        one_of(filters, "status", "state", &STATUSES)?;
        one_of(filters, "health", "health", &HEALTHS)?;
        let tasks = filters.contains("is-task");
        let tasks = tasks
            .then(|| filters.bool_or("is-task", false))
            .transpose()?;
        let created = |key: &str| {
            let mut last = None;
            for name in filters.get(key) {
                last = Some(engine.containers.get(name)?.record().created);
            }
            Ok::<_, Error>(last)
        };
        let by_state = ["status", "exited"].iter().any(|key| filters.contains(key));
        Ok(Self {
            all: options.all || options.limit > 0 || by_state,
            filters,
            names: Patterns::new(filters, "name"),
            exited: filters.get("exited").map(code).collect::<Result<_>>()?,
            tasks,
            exposed: ports(filters, "expose")?,
            published: ports(filters, "publish")?,
            before: created("before")?,
            since: created("since")?,
        })
    }

    pub(super) fn matches(&self, engine: &Engine, container: &Container) -> bool {
        let record = &*container.record();
        let state = &record.state;
        let filters = self.filters;
        if !self.all
            && !matches!(
                state.status,
                Status::Running | Status::Paused | Status::Restarting
            )
        {
            return false;
        }
        self.state_matches(record)
            && filters.prefix("id", record.id.as_str())
            && (self.names.matches(&record.name)
                || self.names.matches(&format!("/{}", record.name)))
            && filter::labels(filters, record.config.labels.as_ref())
            && any(filters, "ancestor", |image| {
                engine.images.is_ancestor(image, record)
            })
            && any(filters, "network", |network| {
                engine.networks.is_on_any(record, network)
            })
            && any(filters, "volume", |v| {
                let mut mounts = record.mounts.iter();
                mounts.any(|m| m.name == v || m.destination == v)
            })
            && self.ports_match(record)
            && self.before.is_none_or(|before| record.created < before)
            && self.since.is_none_or(|since| record.created > since)
    }

    fn state_matches(&self, record: &Record) -> bool {
        let state = &record.state;
        let exited = || {
            self.exited.is_empty()
                || state.status == Status::Exited && self.exited.contains(&state.exit_code)
        };
        let health = state.health.as_ref();
        let health = health.map_or("none", |own| own.condition.word());
        self.filters.exact("status", state.status.word())
            && exited()
            && self.filters.exact("health", health)
            && self.tasks != Some(true)
    }

    fn ports_match(&self, record: &Record) -> bool {
        let exposed = || record.config.exposed_ports.keys().map(String::as_str);
        let bindings = || record.host.port_bindings.iter().flatten();
        let has = |wanted: &Ports| {
            bindings().any(|(inside, outside)| {
                let mut outside = outside.iter().flatten();
                wanted.has(inside) || outside.any(|b| wanted.range.has(&b.host_port))
            })
        };
        (self.exposed.is_empty() || self.exposed.iter().any(|w| exposed().any(|p| w.has(p))))
            && (self.published.is_empty() || self.published.iter().any(has))
    }
}

/// Whether one of a key's values satisfies the test, or the key has none.
fn any(filters: &Filters, key: &str, test: impl Fn(&str) -> bool) -> bool {
    !filters.contains(key) || filters.get(key).any(test)
}

/// Refuses values that a key does not have.
fn one_of(filters: &Filters, key: &str, what: &str, known: &[&str]) -> Result<()> {
    match filters.get(key).find(|value| !known.contains(value)) {
        None => Ok(()),
        Some(bad) => Err(Error::invalid(format!(
            "invalid filter '{key}={bad}': invalid value for {what} ({bad}): must be one of {}",
            known.join(", ")
        ))),
    }
}

fn code(text: &str) -> Result<i64> {
    text.parse().map_err(|error: std::num::ParseIntError| {
        let why = number_error("Atoi", text, &error);
        Error::invalid(format!("invalid filter 'exited={text}': {why}"))
    })
}

fn number_error(function: &str, text: &str, error: &std::num::ParseIntError) -> String {
    use std::num::IntErrorKind::{NegOverflow, PosOverflow};
    let why = match error.kind() {
        PosOverflow | NegOverflow => "value out of range",
        _ => "invalid syntax",
    };
    format!("strconv.{function}: parsing {text:?}: {why}")
}

/// Ports of a filter: `80`, `80/udp`, `80-82/tcp`.
#[derive(Debug)]
struct Ports {
    range: Range,
    protocol: String,
}

#[derive(Debug)]
struct Range(RangeInclusive<u16>);

impl Range {
    fn has(&self, port: &str) -> bool {
        port.parse().is_ok_and(|port| self.0.contains(&port))
    }
}

impl Ports {
    fn parse(text: &str) -> Result<Self, String> {
        let (range, protocol) = text.split_once('/').unwrap_or((text, "tcp"));
        let number = |text: &str| {
            let number = text.parse::<u16>();
            number.map_err(|error| number_error("ParseUint", text, &error))
        };
        let (first, last) = range.split_once('-').unwrap_or((range, range));
        let range = number(first)?..=number(last)?;
        if range.is_empty() {
            return Err(format!("invalid port range: {text}"));
        }
        Ok(Self {
            range: Range(range),
            protocol: protocol.to_ascii_lowercase(),
        })
    }

    /// Whether a container's port, as `80/tcp`, is one of them.
    fn has(&self, port: &str) -> bool {
        let (number, protocol) = port.split_once('/').unwrap_or((port, "tcp"));
        protocol == self.protocol && self.range.has(number)
    }
}

fn ports(filters: &Filters, key: &str) -> Result<Vec<Ports>> {
    let parse = |text: &str| {
        Ports::parse(text).map_err(|why| {
            Error::invalid(format!("error while looking up for {key} {text}: {why}"))
        })
    };
    filters.get(key).map(parse).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ranges_of_ports() {
        let ports = |text| Ports::parse(text).unwrap();
        assert!(ports("80").has("80/tcp") && ports("80").has("80"));
        assert!(!ports("80").has("80/udp") && !ports("80/udp").has("80/tcp"));
        assert!(ports("80-82/udp").has("81/udp"));
        for (text, why) in [
            ("x", "strconv.ParseUint: parsing \"x\": invalid syntax"),
            (
                "99999",
                "strconv.ParseUint: parsing \"99999\": value out of range",
            ),
            ("9-8", "invalid port range: 9-8"),
        ] {
            assert_eq!(Ports::parse(text).unwrap_err(), why);
        }
    }
}
