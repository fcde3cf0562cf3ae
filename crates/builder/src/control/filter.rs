//! Filters of lists in containerd's small language: `type==regular,shared!=true`, `label.x~=^a`.
//!
//! Conditions of one filter, between commas, all have to hold; of several filters one is enough.

use regex_lite::Regex;

/// Filters of one request, and characters of one.
const MAX_FILTERS: usize = 256;
const MAX_TEXT: usize = 4096;

/// A filter that is not understood.
#[derive(Debug, thiserror::Error)]
#[error("invalid filter {text:?}: {why}")]
pub(super) struct FilterError {
    text: String,
    why: &'static str,
}

/// What of a list is wanted.
#[derive(Debug)]
pub(super) struct Filters(Vec<Vec<Condition>>);

#[derive(Debug)]
struct Condition {
    field: String,
    test: Test,
}

#[derive(Debug)]
enum Test {
    Present,
    Equal(String),
    Different(String),
    Matches(Regex),
}

impl Filters {
    pub(super) fn parse(texts: &[String]) -> Result<Self, FilterError> {
        let failed = |text: &str, why| FilterError {
            text: text.chars().take(200).collect(),
            why,
        };
        if texts.len() > MAX_FILTERS {
            return Err(failed("", "there are too many"));
        }
        let filter = |text: &String| {
            if text.len() > MAX_TEXT {
                return Err(failed(text, "it is too long"));
            }
            let mut conditions = Vec::new();
            for part in split(text) {
                conditions.push(Condition::parse(&part).map_err(|why| failed(text, why))?);
            }
            Ok(conditions)
        };
        texts.iter().map(filter).collect::<Result<_, _>>().map(Self)
    }

    /// Tells whether an entry is wanted; `field` gives the values of its fields.
    pub(super) fn accept(&self, field: impl Fn(&str) -> Option<String>) -> bool {
        let holds = |condition: &Condition| condition.holds(field(&condition.field).as_deref());
        self.0.is_empty() || self.0.iter().any(|all| all.iter().all(holds))
    }
}

/// Splits at commas that are in no quotes.
fn split(text: &str) -> Vec<String> {
    let (mut parts, mut quoted, mut escaped) = (vec![String::new()], false, false);
    for character in text.chars() {
        if character == ',' && !quoted {
            parts.push(String::new());
            continue;
        }
        if character == '"' && !escaped {
            quoted = !quoted;
        }
        escaped = character == '\\' && !escaped;
        if let Some(last) = parts.last_mut() {
            last.push(character);
        }
    }
    parts.retain(|part| !part.trim().is_empty());
    parts
}

/// A value without the quotes that it may stand in.
fn unquote(text: &str) -> Result<String, &'static str> {
    if text.starts_with('"') {
        return serde_json::from_str(text).map_err(|_| "its quotes do not fit");
    }
    Ok(text.to_owned())
}

impl Condition {
    fn parse(text: &str) -> Result<Self, &'static str> {
        let text = text.trim();
        let found = ["==", "!=", "~="]
            .iter()
            .filter_map(|sign| text.find(sign).map(|at| (at, *sign)))
            .min();
        let Some((at, sign)) = found else {
            let field = text.to_owned();
            let test = Test::Present;
            return Ok(Self { field, test });
        };
        let field = text[..at].trim().replace('"', "");
        if field.is_empty() {
            return Err("it names no field");
        }
        let value = unquote(text[at + sign.len()..].trim())?;
        let test = match sign {
            "==" => Test::Equal(value),
            "!=" => Test::Different(value),
            _ => Test::Matches(Regex::new(&value).map_err(|_| "its pattern is none")?),
        };
        Ok(Self { field, test })
    }

    fn holds(&self, value: Option<&str>) -> bool {
        match (&self.test, value) {
            (Test::Present, value) => value.is_some_and(|value| !value.is_empty()),
            (Test::Equal(expect), Some(value)) => expect == value,
            (Test::Different(expect), value) => value != Some(expect),
            (Test::Matches(pattern), Some(value)) => pattern.is_match(value),
            (Test::Equal(_) | Test::Matches(_), None) => false,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn accepts(filters: &[&str]) -> bool {
        let texts: Vec<String> = filters.iter().map(|text| (*text).to_owned()).collect();
        Filters::parse(&texts).unwrap().accept(|field| match field {
            "id" => Some("abc".to_owned()),
            "type" => Some("regular".to_owned()),
            "shared" => Some(String::new()),
            "labels.a.b" => Some("x,y".to_owned()),
            _ => None,
        })
    }

    #[test]
    fn conditions() {
        for filters in [
            &[][..],
            &["id==abc"],
            &["id == abc"],
            &["id"],
            &["id!=abd,type==regular"],
            &["id==no", "type~=^reg"],
            &["none!=x"],
            &["labels.a.b==\"x,y\""],
            &["labels.\"a.b\"==\"x,y\""],
        ] {
            assert!(accepts(filters), "{filters:?}");
        }
        for filters in [
            &["id==no"][..],
            &["shared"],
            &["none"],
            &["id==abc,type==no"],
            &["id~=^b"],
        ] {
            assert!(!accepts(filters), "{filters:?}");
        }
        for bad in ["==x", "id~=(", "id==\"x"] {
            assert!(Filters::parse(&[bad.to_owned()]).is_err(), "{bad}");
        }
    }
}
