//! Prunes as Docker's own API asks for them.

use std::time::Duration;

use api::filters::Filters;

use super::PruneRequest;
use crate::error::{Error, Result};

/// Filters that name a field of a record.
const FIELDS: [&str; 7] = [
    "id",
    "parent",
    "type",
    "description",
    "inuse",
    "shared",
    "private",
];

impl PruneRequest {
    /// Takes over the filters of `POST /build/prune`: `until` is an age, all others are fields, an id may be
    /// given by its beginning.
    ///
    /// # Errors
    /// When a filter has several values, or an age makes no sense.
    pub fn with_filters(self, filters: &Filters) -> Result<Self> {
        let several = |name: &str| Error::invalid(format!("filter {name} expected only one value"));
        let mut ages = filters.get("until").chain(filters.get("unused-for"));
        let unused_for = match (ages.next(), ages.next()) {
            (None, _) => None,
            (Some(_), Some(_)) => return Err(several("until")),
            (Some(age), None) => Some(parse_age(age)?),
        };
        let mut conditions = Vec::new();
        for field in FIELDS {
            let mut values = filters.get(field);
            match (values.next(), values.next()) {
                (None, _) => {}
                (Some(_), Some(_)) => return Err(several(field)),
                (Some(value), None) => {
                    let operator = if field == "id" { "~=" } else { "==" };
                    conditions.push(format!("{field}{operator}{}", quote(value)));
                }
            }
        }
        Ok(Self {
            unused_for,
            filters: vec![conditions.join(",")],
            ..self
        })
    }
}

fn parse_age(text: &str) -> Result<Duration> {
    let refuse = |why: String| {
        let text = format!("\"until\" filter expects a duration (e.g., '24h'): {why}");
        Error::invalid(text)
    };
    let nanoseconds = dockerfile::gofmt::parse_duration(text).map_err(|e| refuse(e.to_string()))?;
    // what is to be unused since the future is unused now
    Ok(Duration::from_nanos(
        u64::try_from(nanoseconds).unwrap_or(0),
    ))
}

fn quote(value: &str) -> String {
    let escaped = value.replace('\\', "\\\\").replace('"', "\\\"");
    format!("\"{escaped}\"")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn request(filters: &str) -> Result<PruneRequest> {
        let filters = Filters::parse(filters).unwrap();
        PruneRequest::default().with_filters(&filters)
    }

    #[test]
    fn filters_become_buildkits() {
        let cases = [
            ("{}", "", None),
            (r#"{"until":["24h"]}"#, "", Some(86_400)),
            (r#"{"unused-for":["10m"]}"#, "", Some(600)),
            (
                r#"{"id":["ab"],"type":["regular"]}"#,
                r#"id~="ab",type=="regular""#,
                None,
            ),
            (
                r#"{"description":["a \"b\", c\\"]}"#,
                r#"description=="a \"b\", c\\""#,
                None,
            ),
            (r#"{"inuse":["true"]}"#, r#"inuse=="true""#, None),
        ];
        for (given, expect, seconds) in cases {
            let request = request(given).unwrap();
            assert_eq!(request.filters, [expect], "{given}");
            assert_eq!(request.unused_for, seconds.map(Duration::from_secs));
            super::super::filter::Filter::parse(&request.filters).unwrap();
        }
    }

    #[test]
    fn refuses_what_makes_no_sense() {
        let cases = [
            r#"{"until":["24h","1h"]}"#,
            r#"{"until":["24h"],"unused-for":["1h"]}"#,
            r#"{"until":["yesterday"]}"#,
            r#"{"id":["a","b"]}"#,
        ];
        for given in cases {
            assert!(request(given).is_err(), "{given}");
        }
    }
}
