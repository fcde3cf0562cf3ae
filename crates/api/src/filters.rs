//! The `filters` parameter of lists, prunes and events.

use std::collections::{BTreeMap, BTreeSet};

use crate::error::InvalidParameter;

/// Filters by key: values of one key are alternatives (but for labels), keys all must match.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Filters {
    fields: BTreeMap<String, BTreeSet<String>>,
}

impl Filters {
    /// Reads the parameter: `{"key":{"value":true}}` or `{"key":["value"]}`.
    pub fn parse(text: &str) -> Result<Self, InvalidParameter> {
        if text.is_empty() {
            return Ok(Self::default());
        }
        if let Ok(sets) =
            serde_json::from_str::<Option<BTreeMap<String, Option<BTreeMap<String, bool>>>>>(text)
        {
            return Ok(Self::from_fields(sets.unwrap_or_default().into_iter().map(
                |(key, set)| {
                    let chosen = set.unwrap_or_default().into_iter().filter(|(_, on)| *on);
                    (key, chosen.map(|(value, _)| value).collect())
                },
            )));
        }
        serde_json::from_str::<BTreeMap<String, Option<Vec<String>>>>(text)
            .map(|lists| {
                Self::from_fields(
                    lists
                        .into_iter()
                        .map(|(key, list)| (key, list.unwrap_or_default().into_iter().collect())),
                )
            })
            .map_err(|_| InvalidParameter("invalid filter".into()))
    }

    fn from_fields(fields: impl Iterator<Item = (String, BTreeSet<String>)>) -> Self {
        Self {
            fields: fields.collect(),
        }
    }

    /// Writes the parameter; empty for no filters.
    #[must_use]
    pub fn to_param(&self) -> String {
        if self.fields.is_empty() {
            return String::new();
        }
        let sets: BTreeMap<&String, BTreeMap<&String, bool>> = self
            .fields
            .iter()
            .map(|(key, values)| (key, values.iter().map(|value| (value, true)).collect()))
            .collect();
        serde_json::to_string(&sets).unwrap_or_default()
    }

    /// Adds a value.
    pub fn add(&mut self, key: impl Into<String>, value: impl Into<String>) {
        self.fields
            .entry(key.into())
            .or_default()
            .insert(value.into());
    }

    /// Tells whether there are no filters.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.fields.is_empty()
    }

    /// Tells whether the key is there.
    #[must_use]
    pub fn contains(&self, key: &str) -> bool {
        self.fields.contains_key(key)
    }

    /// Gives the values of a key, in order.
    pub fn get(&self, key: &str) -> impl Iterator<Item = &str> {
        self.fields
            .get(key)
            .into_iter()
            .flatten()
            .map(String::as_str)
    }

    /// Refuses keys that the endpoint does not know.
    pub fn validate(&self, accepted: &[&str]) -> Result<(), InvalidParameter> {
        match self
            .fields
            .keys()
            .find(|key| !accepted.contains(&key.as_str()))
        {
            Some(key) => Err(InvalidParameter(format!("invalid filter '{key}'"))),
            None => Ok(()),
        }
    }

    /// Tells whether `text` is one of the key's values, or the key has none.
    #[must_use]
    pub fn exact(&self, key: &str, text: &str) -> bool {
        match self.fields.get(key) {
            Some(values) if !values.is_empty() => values.contains(text),
            _ => true,
        }
    }

    /// Tells whether one of the key's values is a prefix of `text`, or the key has none.
    #[must_use]
    pub fn prefix(&self, key: &str, text: &str) -> bool {
        match self.fields.get(key) {
            Some(values) if !values.is_empty() => {
                values.iter().any(|value| text.starts_with(value))
            }
            _ => true,
        }
    }

    /// Tells whether all of the key's `name` and `name=value` are among the labels.
    #[must_use]
    pub fn labels(&self, key: &str, labels: &BTreeMap<String, String>) -> bool {
        self.get(key).all(|wish| match wish.split_once('=') {
            Some((name, value)) => labels.get(name).is_some_and(|found| found == value),
            None => labels.contains_key(wish),
        })
    }

    /// Reads a key as a boolean; `default` where it is absent.
    pub fn bool_or(&self, key: &str, default: bool) -> Result<bool, InvalidParameter> {
        let Some(values) = self.fields.get(key) else {
            return Ok(default);
        };
        let no = values.contains("0") || values.contains("false");
        let yes = values.contains("1") || values.contains("true");
        if no == yes {
            return Err(self.invalid_value(key));
        }
        Ok(yes)
    }

    /// The error for a value that the endpoint cannot use, in Docker's words.
    #[must_use]
    pub fn invalid_value(&self, key: &str) -> InvalidParameter {
        let values: Vec<&str> = self.get(key).collect();
        if values.is_empty() {
            InvalidParameter(format!("invalid filter '{key}'"))
        } else {
            InvalidParameter(format!("invalid filter '{key}=[{}]'", values.join(" ")))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn message(result: Result<impl std::fmt::Debug, InvalidParameter>) -> String {
        result.unwrap_err().0
    }

    #[test]
    fn both_spellings() {
        let new = Filters::parse(r#"{"label":{"b":true,"a":true,"c":false}}"#).unwrap();
        let old = Filters::parse(r#"{"label":["a","b"]}"#).unwrap();
        assert_eq!(new, old);
        assert_eq!(new.to_param(), r#"{"label":{"a":true,"b":true}}"#);
        assert_eq!(Filters::parse(&new.to_param()).unwrap(), new);
        for empty in ["", "{}", "null"] {
            assert_eq!(
                Filters::parse(empty).unwrap(),
                Filters::default(),
                "{empty}"
            );
        }
    }

    #[test]
    fn dockers_errors() {
        for bad in ["{", "[]", "1", r#"{"a":1}"#, r#"{"a":{"b":1}}"#] {
            assert_eq!(message(Filters::parse(bad)), "invalid filter", "{bad}");
        }
        let filters = Filters::parse(r#"{"bogus":["1"],"dangling":["x"],"none":[]}"#).unwrap();
        assert_eq!(
            message(filters.validate(&["dangling", "none"])),
            "invalid filter 'bogus'"
        );
        assert_eq!(
            message(filters.bool_or("dangling", false)),
            "invalid filter 'dangling=[x]'"
        );
        assert_eq!(
            message(filters.bool_or("none", false)),
            "invalid filter 'none'"
        );
        assert_eq!(filters.bool_or("absent", true), Ok(true));
    }

    #[test]
    fn matching() {
        let filters = Filters::parse(r#"{"id":["ab"],"label":["k=v","x"],"empty":[]}"#).unwrap();
        assert!(filters.prefix("id", "abc") && !filters.prefix("id", "ba"));
        assert!(!filters.exact("id", "abc") && filters.exact("other", "abc"));
        assert!(filters.exact("empty", "anything"));
        let mut labels = BTreeMap::from([("k".to_owned(), "v".to_owned())]);
        assert!(!filters.labels("label", &labels));
        labels.insert("x".into(), "y".into());
        assert!(filters.labels("label", &labels));
        labels.insert("k".into(), "w".into());
        assert!(!filters.labels("label", &labels));
    }
}
