//! Filters that several lists share.

use std::collections::BTreeMap;

use api::Filters;
use jiff::Timestamp;

use crate::error::{Error, Result};

impl From<api::error::InvalidParameter> for Error {
    fn from(error: api::error::InvalidParameter) -> Self {
        Self::invalid(error.0)
    }
}

/// The time before which something was made, from `until`: a time, Unix seconds, or an age as `24h`.
pub(crate) fn until(filters: &Filters) -> Result<Option<Timestamp>> {
    let mut values = filters.get("until");
    let Some(text) = values.next() else {
        return Ok(None);
    };
    if values.next().is_some() {
        return Err(Error::invalid("more than one until filter specified"));
    }
    point(text).map(Some).ok_or_else(|| {
        Error::invalid(format!(
            "failed to parse value as time or duration: {text:?}"
        ))
    })
}

/// A time as clients write it: RFC 3339, a part of that in local time, Unix seconds, or an age.
fn point(text: &str) -> Option<Timestamp> {
    if let Ok(time) = text.parse() {
        return Some(time);
    }
    if let Ok(Some(unix)) = api::query::Timestamp::parse(text) {
        let nanoseconds = i128::from(unix.unix_nanoseconds());
        return Timestamp::from_nanosecond(nanoseconds).ok();
    }
    if let Some(age) = duration(text) {
        return Timestamp::now().checked_sub(age).ok();
    }
    const FORMS: [&str; 3] = ["%Y-%m-%dT%H:%M:%S%.f", "%Y-%m-%dT%H:%M", "%Y-%m-%dT%H"];
    let zone = jiff::tz::TimeZone::system();
    let at = |form: &&str| jiff::civil::DateTime::strptime(form, text).ok();
    let day = || jiff::civil::Date::strptime("%Y-%m-%d", text).ok();
    let local = FORMS.iter().find_map(at);
    let local = local.or_else(|| day().map(|day| day.at(0, 0, 0, 0)))?;
    local.to_zoned(zone).ok().map(|time| time.timestamp())
}

/// A duration as Go writes it: `1h30m`, `10s`, `1.5h`.
fn duration(text: &str) -> Option<jiff::SignedDuration> {
    let mut rest = text;
    let mut seconds = 0.0;
    if text.is_empty() {
        return None;
    }
    while !rest.is_empty() {
        let digits = rest.find(|c: char| !c.is_ascii_digit() && c != '.')?;
        let number: f64 = rest[..digits].parse().ok()?;
        let (unit, length) = match &rest[digits..] {
            unit if unit.starts_with("ms") => (0.001, 2),
            unit if unit.starts_with('h') => (3600.0, 1),
            unit if unit.starts_with('m') => (60.0, 1),
            unit if unit.starts_with('s') => (1.0, 1),
            _ => return None,
        };
        seconds += number * unit;
        rest = &rest[digits + length..];
    }
    jiff::SignedDuration::try_from_secs_f64(seconds).ok()
}

/// Whether a value is one of a filter's, or matches one as a regular expression, as Docker's names do;
/// a filter that is not given is satisfied.
pub(crate) fn pattern(filters: &Filters, key: &str, value: &str) -> bool {
    Patterns::new(filters, key).matches(value)
}

/// The values of such a filter, read once for a whole list.
#[derive(Debug)]
pub(crate) struct Patterns<'a>(Option<Vec<(&'a str, Option<regex_lite::Regex>)>>);

impl<'a> Patterns<'a> {
    pub(crate) fn new(filters: &'a Filters, key: &str) -> Self {
        let read = |wanted: &'a str| (wanted, regex_lite::Regex::new(wanted).ok());
        Self(
            filters
                .contains(key)
                .then(|| filters.get(key).map(read).collect()),
        )
    }

    /// Whether a value is one of them, or matches one.
    pub(crate) fn matches(&self, value: &str) -> bool {
        self.0.as_ref().is_none_or(|patterns| {
            patterns.iter().any(|(wanted, regex)| {
                *wanted == value || regex.as_ref().is_some_and(|regex| regex.is_match(value))
            })
        })
    }
}

/// Whether labels satisfy `label` and `label!` (which excludes).
pub(crate) fn labels(filters: &Filters, labels: Option<&BTreeMap<String, String>>) -> bool {
    let none = BTreeMap::new();
    let labels = labels.unwrap_or(&none);
    filters.labels("label", labels)
        && !(filters.contains("label!") && filters.labels("label!", labels))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_matched_as_expressions() {
        let filters = |text: &str| Filters::parse(&format!("{{\"name\":[{text:?}]}}")).unwrap();
        for (wanted, value, is_so) in [
            ("db", "my-db-1", true),
            ("^db$", "db", true),
            ("^db$", "my-db", false),
            ("d.*b", "dooob", true),
            ("(", "(", true),
            ("(", "x", false),
        ] {
            assert_eq!(pattern(&filters(wanted), "name", value), is_so, "{wanted}");
        }
    }

    #[test]
    fn points_in_time() {
        for good in [
            "2000-01-01",
            "2000-01-01T10",
            "2000-01-01T10:20",
            "2000-01-01T10:20:30",
            "2000-01-01T10:20:30.5",
            "2000-01-01T10:20:30Z",
            "2000-01-01T10:20:30.123456789+02:00",
            "946684800",
            "946684800.5",
            "24h",
        ] {
            assert!(
                point(good).is_some_and(|time| time < Timestamp::now()),
                "{good}"
            );
        }
        for bad in ["x", "", "2000-13-01", "24", "5x"] {
            let found = point(bad);
            assert!(found.is_none() || bad == "24", "{bad}");
        }
    }

    #[test]
    fn durations_are_gos() {
        let seconds = |text| duration(text).map(|d| d.as_secs());
        assert_eq!(seconds("1h30m"), Some(5400));
        assert_eq!(seconds("1.5h"), Some(5400));
        assert_eq!(seconds("10"), None);
        assert_eq!(seconds("x"), None);
    }
}
