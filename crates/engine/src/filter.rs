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
    let invalid = || Error::invalid(format!("invalid filter 'until={text}'"));
    if let Ok(time) = text.parse() {
        return Ok(Some(time));
    }
    if let Ok(seconds) = text.parse::<i64>() {
        return Timestamp::from_second(seconds)
            .map(Some)
            .map_err(|_| invalid());
    }
    let age = duration(text).ok_or_else(invalid)?;
    Timestamp::now()
        .checked_sub(age)
        .map(Some)
        .map_err(|_| invalid())
}

/// A duration as Go writes it: `1h30m`, `10s`, `1.5h`.
fn duration(text: &str) -> Option<jiff::SignedDuration> {
    let mut rest = text;
    let mut seconds = 0.0;
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
    fn durations_are_gos() {
        let seconds = |text| duration(text).map(|d| d.as_secs());
        assert_eq!(seconds("1h30m"), Some(5400));
        assert_eq!(seconds("1.5h"), Some(5400));
        assert_eq!(seconds("10"), None);
        assert_eq!(seconds("x"), None);
    }
}
