//! Which events a client gets.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use api::Filters;
use api::event::Message;
use api::query::{Events, Timestamp};

/// Starts so long before the request are told to a client that names no time and filters for starts.
///
/// The Dev Containers command line begins `docker events --filter event=start` and `docker run` at the same moment, and
/// waits for the first to tell of the second. With dockerd, which takes a quarter of a second for a
/// start, the listener is there in time; here the container may have started before it has connected.
const GRACE: Duration = Duration::from_millis(200);

/// A client's choice of events.
#[derive(Debug)]
pub(crate) struct Choice {
    query: Events,
    /// The first moment of the past that is told of, Unix nanoseconds; none of it is.
    past: Option<i64>,
}

impl Choice {
    pub(crate) fn new(query: Events) -> Self {
        let past = match (query.since, query.until) {
            (None, None) if waits_for_starts(&query.filters) => Some(moments_ago()),
            (None, None) => None,
            (since, _) => Some(since.map_or(i64::MIN, Timestamp::unix_nanoseconds)),
        };
        Self { query, past }
    }

    /// Tells whether an event of the past is wanted.
    pub(crate) fn includes_past(&self, event: &Message) -> bool {
        self.past.is_some_and(|past| event.time_nano >= past) && self.includes(event)
    }

    /// The end of the stream in Unix nanoseconds.
    pub(crate) fn until(&self) -> Option<i64> {
        self.query.until.map(Timestamp::unix_nanoseconds)
    }

    /// Tells whether an event is wanted.
    pub(crate) fn includes(&self, event: &Message) -> bool {
        let since = self.query.since.map(Timestamp::unix_nanoseconds);
        since.is_none_or(|since| event.time_nano >= since)
            && self.until().is_none_or(|until| event.time_nano <= until)
            && matches(&self.query.filters, event)
    }
}

/// Whether a client asks for the starts of containers and nothing else.
fn waits_for_starts(filters: &Filters) -> bool {
    let mut actions = filters.get("event").peekable();
    actions.peek().is_some() && actions.all(|action| action == "start")
}

fn moments_ago() -> i64 {
    let then = SystemTime::now().checked_sub(GRACE).unwrap_or(UNIX_EPOCH);
    let then = then.duration_since(UNIX_EPOCH).unwrap_or_default();
    i64::try_from(then.as_nanos()).unwrap_or(i64::MAX)
}

/// The filters that name objects.
const OBJECTS: [&str; 9] = [
    "container",
    "volume",
    "network",
    "daemon",
    "plugin",
    "node",
    "service",
    "secret",
    "config",
];

/// Dockerd's rules (moby daemon/events/filter.go).
fn matches(filters: &Filters, event: &Message) -> bool {
    let none = std::collections::BTreeMap::new();
    let attributes = event.actor.attributes.as_ref().unwrap_or(&none);
    action_matches(filters, &event.action)
        && filters.exact("type", &event.kind)
        && filters.exact("scope", &event.scope)
        && OBJECTS
            .iter()
            .all(|key| object_matches(filters, key, event))
        && image_matches(filters, event)
        && filters.labels("label", attributes)
}

/// With one of the actions that have details, such as `health_status`, among the wishes, all of them
/// match by their beginning; otherwise the whole action counts.
fn action_matches(filters: &Filters, action: &str) -> bool {
    const DETAILED: [&str; 3] = ["health_status", "exec_create", "exec_start"];
    if filters.get("event").any(|wish| DETAILED.contains(&wish)) {
        filters.prefix("event", action)
    } else {
        filters.exact("event", action)
    }
}

fn attribute<'e>(event: &'e Message, name: &str) -> &'e str {
    let attributes = event.actor.attributes.as_ref();
    attributes
        .and_then(|map| map.get(name))
        .map_or("", String::as_str)
}

/// A wish is the beginning of an id or a name, of an object of whatever kind, as in dockerd.
fn object_matches(filters: &Filters, key: &str, event: &Message) -> bool {
    filters.prefix(key, &event.actor.id) || filters.prefix(key, attribute(event, "name"))
}

fn image_matches(filters: &Filters, event: &Message) -> bool {
    let name = attribute(
        event,
        if event.kind == "image" {
            "name"
        } else {
            "image"
        },
    );
    [event.actor.id.as_str(), name]
        .iter()
        .any(|text| filters.exact("image", text) || filters.exact("image", without_tag(text)))
}

fn without_tag(name: &str) -> &str {
    match name.rsplit_once(':') {
        // what follows a registry's port has a slash
        Some((repository, tag)) if !tag.contains('/') => repository,
        _ => name,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use api::query::Query;

    fn check(kind: &str, action: &str, filters: &str, expect: bool) {
        let mut event = Message {
            kind: kind.into(),
            action: action.into(),
            scope: "local".into(),
            time_nano: 5_000_000_000,
            ..Message::default()
        };
        event.actor.id = "abc123".into();
        let pairs = [
            (
                "name",
                if kind == "image" {
                    "r:5000/web:1"
                } else {
                    "one"
                },
            ),
            ("image", "r:5000/web:1"),
            ("k", "v"),
        ];
        let pairs = pairs.map(|(name, value)| (name.to_owned(), value.to_owned()));
        event.actor.attributes = Some(pairs.into());
        let filters = Filters::parse(filters).unwrap();
        assert_eq!(
            matches(&filters, &event),
            expect,
            "{kind} {action} {filters:?}"
        );
    }

    #[test]
    fn filters() {
        check("container", "start", "", true);
        check(
            "container",
            "start",
            r#"{"type":["container","image"]}"#,
            true,
        );
        check("container", "start", r#"{"type":["image"]}"#, false);
        check("container", "start", r#"{"event":["start"]}"#, true);
        check("container", "start", r#"{"event":["star"]}"#, false);
        check(
            "container",
            "exec_create: sh",
            r#"{"event":["exec_create"]}"#,
            true,
        );
        check(
            "container",
            "health_status: healthy",
            r#"{"event":["health_status"]}"#,
            true,
        );
        check("container", "start", r#"{"container":["abc"]}"#, true);
        check("container", "start", r#"{"container":["one"]}"#, true);
        check("container", "start", r#"{"container":["two"]}"#, false);
        check("container", "start", r#"{"event":["sta"]}"#, false);
        check(
            "container",
            "start",
            r#"{"event":["sta","exec_start"]}"#,
            true,
        );
        check(
            "container",
            "start",
            r#"{"event":["sta","exec_start: x"]}"#,
            false,
        );
        // names and ids count, whatever kind of object the filter is called by
        check("network", "connect", r#"{"container":["one"]}"#, true);
        check("network", "connect", r#"{"container":["on"]}"#, true);
        check("network", "connect", r#"{"node":["two"]}"#, false);
        check("network", "connect", r#"{"nosuch":["two"]}"#, true);
        check("network", "connect", r#"{"label!":["k"]}"#, true);
        check("network", "connect", r#"{"network":["one"]}"#, true);
        check("network", "connect", r#"{"network":["abc"]}"#, true);
        check("network", "connect", r#"{"network":["two"]}"#, false);
        check("container", "start", r#"{"network":["one"]}"#, true);
        check("container", "start", r#"{"network":["two"]}"#, false);
        check(
            "network",
            "disconnect",
            r#"{"type":["network"],"event":["disconnect"],"scope":["local"]}"#,
            true,
        );
        check("container", "start", r#"{"image":["r:5000/web"]}"#, true);
        check("image", "pull", r#"{"image":["r:5000/web:1"]}"#, true);
        check("image", "pull", r#"{"image":["r"]}"#, false);
        check("container", "start", r#"{"label":["k","k=v"]}"#, true);
        check("container", "start", r#"{"label":["k=w"]}"#, false);
        check("container", "start", r#"{"scope":["swarm"]}"#, false);
    }

    #[test]
    fn times() {
        let choice = |text: &str| {
            let query = Query::parse(text).unwrap();
            Choice::new(Events::from_query(&query).unwrap())
        };
        let event = Message {
            time_nano: 5_000_000_000,
            ..Message::default()
        };
        let recent = Message {
            time_nano: moments_ago() + 100_000_000,
            ..Message::default()
        };
        assert!(!choice("").includes_past(&event) && !choice("").includes_past(&recent));
        assert!(choice("").includes(&event) && choice("since=1").includes_past(&event));
        let starts = choice(r#"filters={"event":["start"]}"#);
        let start = Message {
            action: "start".into(),
            ..recent
        };
        assert!(starts.includes_past(&start) && !starts.includes_past(&event));
        assert!(choice("since=5&until=5").includes(&event));
        assert!(!choice("since=5.1").includes(&event));
        assert!(!choice("until=4.9").includes(&event));
    }
}
