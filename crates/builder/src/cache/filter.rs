//! Filters as BuildKit's clients send them: containerd's words, such as `type==regular,id~=^ab`.
//!
//! Within one text all conditions have to hold; of several texts one has to.

use crate::error::{Error, Result};

use super::Usage;

/// Characters of one filter.
const MAX_FILTER: usize = 4096;

/// Conditions on records.
#[derive(Debug, Default)]
pub struct Filter(Vec<Vec<Condition>>);

#[derive(Debug)]
struct Condition {
    field: String,
    test: Test,
}

#[derive(Debug)]
enum Test {
    /// The field is there and not empty or false.
    Present,
    Equals(String),
    Differs(String),
    Matches(regex_lite::Regex),
}

impl Filter {
    /// Reads filters.
    ///
    /// # Errors
    /// When one is malformed.
    pub fn parse(texts: &[String]) -> Result<Self> {
        let all = texts.iter().filter(|text| !text.is_empty());
        Ok(Self(all.map(|t| parse(t)).collect::<Result<_>>()?))
    }

    /// Whether a record is meant.
    #[must_use]
    pub fn matches(&self, usage: &Usage) -> bool {
        let holds = |all: &Vec<Condition>| all.iter().all(|c| c.holds(usage));
        self.0.is_empty() || self.0.iter().any(holds)
    }
}

impl Condition {
    fn holds(&self, usage: &Usage) -> bool {
        let values = values(usage, &self.field);
        let any = |test: &dyn Fn(&str) -> bool| values.iter().any(|v| test(v));
        match &self.test {
            Test::Present => !values.is_empty(),
            Test::Equals(expected) => any(&|v| v == expected),
            Test::Differs(other) => !any(&|v| v == other),
            Test::Matches(pattern) => any(&|v| pattern.is_match(v)),
        }
    }
}

/// The values of a field; none where it is absent or false.
fn values(usage: &Usage, field: &str) -> Vec<String> {
    // people write the word, and BuildKit's own clients nothing
    let flag = |set: bool| match set {
        true => vec![String::new(), "true".to_owned()],
        false => Vec::new(),
    };
    match field {
        "id" => vec![usage.id.clone()],
        "parent" | "parents" => usage.parents.clone(),
        "description" => vec![usage.description.clone()],
        "type" => vec![usage.kind.name().to_owned()],
        "inuse" => flag(usage.in_use),
        "mutable" => flag(usage.mutable),
        "immutable" => flag(!usage.mutable),
        "shared" => flag(usage.shared),
        "private" => flag(!usage.shared),
        _ => Vec::new(),
    }
}

fn parse(text: &str) -> Result<Vec<Condition>> {
    let bad = |why: &str| Error::invalid(format!("failed to parse prune filters {text:?}: {why}"));
    if text.len() > MAX_FILTER {
        return Err(Error::invalid(format!(
            "failed to parse prune filters: one is longer than {MAX_FILTER} bytes"
        )));
    }
    let mut conditions = Vec::new();
    let mut rest = text;
    loop {
        let end = rest.find(['=', '!', '~', ',']).unwrap_or(rest.len());
        let (field, after) = rest.split_at(end);
        if field.is_empty() || !field.chars().all(is_field) {
            return Err(bad("a field's name is expected"));
        }
        let (test, after) = match after.get(..2) {
            _ if after.is_empty() || after.starts_with(',') => (Test::Present, after),
            Some(operator @ ("==" | "!=" | "~=")) => {
                let (value, after) = value(&after[2..]).ok_or_else(|| bad("a quote is open"))?;
                let test = match operator {
                    "==" => Test::Equals(value),
                    "!=" => Test::Differs(value),
                    _ => Test::Matches(
                        regex_lite::Regex::new(&value).map_err(|e| bad(&e.to_string()))?,
                    ),
                };
                (test, after)
            }
            _ => return Err(bad("an operator is expected: ==, != or ~=")),
        };
        conditions.push(Condition {
            field: field.to_owned(),
            test,
        });
        match after.strip_prefix(',') {
            Some(more) => rest = more,
            None if after.is_empty() => return Ok(conditions),
            None => return Err(bad("a comma is expected")),
        }
    }
}

fn is_field(c: char) -> bool {
    c.is_ascii_alphanumeric() || "._-".contains(c)
}

/// A value up to the next comma, or within quotes, and what follows it.
fn value(text: &str) -> Option<(String, &str)> {
    let quote = text.chars().next().filter(|c| matches!(c, '"' | '/' | '|'));
    let Some(quote) = quote else {
        let end = text.find(',').unwrap_or(text.len());
        return Some((text[..end].to_owned(), &text[end..]));
    };
    let mut value = String::new();
    let mut chars = text.char_indices().skip(1);
    while let Some((at, c)) = chars.next() {
        match c {
            c if c == quote => return Some((value, &text[at + c.len_utf8()..])),
            // only the quotes of Go know escapes; in a pattern a backslash is its own
            '\\' if quote == '"' => value.push(chars.next()?.1),
            c => value.push(c),
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cache::RecordKind;

    fn usage() -> Usage {
        Usage {
            id: "abc".into(),
            parents: vec!["p1".into(), "p2".into()],
            description: "[1/2] RUN make, \"all\"".into(),
            kind: RecordKind::Regular,
            in_use: true,
            ..Usage::default()
        }
    }

    #[test]
    fn filters_select() {
        let cases: [(&[&str], bool); 19] = [
            (&[], true),
            (&[""], true),
            (&["id==abc"], true),
            (&["id==ab"], false),
            (&["id~=^ab"], true),
            (&["id~=^b"], false),
            (&["id!=abc"], false),
            (&["parents==p2"], true),
            (&["parents==p3"], false),
            (&["type==regular,inuse"], true),
            (&["type==internal,inuse"], false),
            (&["type==internal", "inuse"], true),
            (&["shared"], false),
            (&["private"], true),
            (&["mutable"], false),
            (&["immutable"], true),
            (&["description~=/RUN (make|go)/"], true),
            (
                &["description==\"[1/2] RUN make, \\\"all\\\"\",inuse"],
                true,
            ),
            (&["unknown"], false),
        ];
        for (texts, expect) in cases {
            let texts: Vec<_> = texts.iter().map(|&t| t.to_owned()).collect();
            let found = Filter::parse(&texts).unwrap().matches(&usage());
            assert_eq!(found, expect, "{texts:?}");
        }
    }

    #[test]
    fn refuses_what_it_cannot_read() {
        let long = format!("id=={}", "x".repeat(5000));
        for text in [
            "==a",
            "id=",
            "id=a",
            "id==\"a",
            "id==\"a\"b",
            "id~=(",
            "a b",
            &long,
        ] {
            assert!(Filter::parse(&[text.to_owned()]).is_err(), "{text}");
        }
    }
}
