//! Lists in the form that `--format` asks for: a table, JSON lines, or a template.

use crate::failure::Failure;
use crate::tabwriter;
use crate::template::{Root, Template, TemplateError};
use serde_json::{Map, Value};
use std::collections::BTreeMap;

/// What `--format` says in the help of a list.
pub(crate) const HELP: &str = "Format output using a custom template:\n\
    'table':            Print output in table format with column headers (default)\n\
    'table TEMPLATE':   Print output in table format using the given Go template\n\
    'json':             Print in JSON format\n\
    'TEMPLATE':         Print output using the given Go template";

/// What `--format` says in the help of a single object.
pub(crate) const HELP_ONE: &str = "Format output using a custom template:\n\
    'json':             Print in JSON format\n\
    'TEMPLATE':         Print output using the given Go template";

/// What a list can show.
#[derive(Debug)]
pub(crate) struct Listing {
    /// The Go type that Docker's messages name.
    pub(crate) go_type: &'static str,
    /// Fields and the headers of their columns.
    pub(crate) headers: &'static [(&'static str, &'static str)],
    /// The table without a template of the user's own.
    pub(crate) table: &'static str,
}

/// An object of a list.
#[derive(Debug, Default)]
pub(crate) struct Row {
    fields: BTreeMap<&'static str, Value>,
    labels: BTreeMap<String, String>,
    go_type: &'static str,
}

impl Row {
    pub(crate) fn new(listing: &Listing) -> Self {
        Self {
            go_type: listing.go_type,
            ..Self::default()
        }
    }

    /// Adds a field.
    pub(crate) fn with(mut self, name: &'static str, value: impl Into<Value>) -> Self {
        self.fields.insert(name, value.into());
        self
    }

    /// Adds the labels, as the field `Labels` and for `.Label "key"`.
    pub(crate) fn with_labels(mut self, labels: BTreeMap<String, String>) -> Self {
        let shown: Vec<String> = labels
            .iter()
            .map(|(key, value)| format!("{key}={value}"))
            .collect();
        self.labels = labels;
        self.with("Labels", shown.join(","))
    }
}

impl Root for Row {
    fn value(&self) -> Value {
        let fields = self
            .fields
            .iter()
            .map(|(name, value)| ((*name).to_owned(), value.clone()));
        Value::Object(fields.collect())
    }

    fn method(&self, name: &str, arguments: &[Value]) -> Option<Value> {
        let ("Label", [Value::String(key)]) = (name, arguments) else {
            return None;
        };
        Some(Value::String(
            self.labels.get(key).cloned().unwrap_or_default(),
        ))
    }

    fn unknown(&self, name: &str) -> String {
        format!("can't evaluate field {name} in type *{}", self.go_type)
    }
}

/// The line of headers: every field is the title of its column.
struct Headers(&'static Listing);

impl Root for Headers {
    fn value(&self) -> Value {
        let titles = self
            .0
            .headers
            .iter()
            .map(|(name, title)| ((*name).to_owned(), Value::from(*title)));
        Value::Object(titles.collect::<Map<_, _>>())
    }

    fn method(&self, name: &str, arguments: &[Value]) -> Option<Value> {
        let ("Label", [Value::String(key)]) = (name, arguments) else {
            return None;
        };
        Some(Value::String(
            key.rsplit('.').next().unwrap_or_default().to_owned(),
        ))
    }

    fn absent(&self, _name: &str) -> Option<Value> {
        // the rows say that the field is wrong; without rows nothing does, as with Docker
        Some(Value::String("<no value>".to_owned()))
    }
}

/// A format that was read: what to print for each row, and whether columns are aligned under headers.
#[derive(Debug)]
pub(crate) struct Format {
    template: Template,
    source: String,
    table: bool,
}

impl Format {
    /// Reads `--format`; `quiet` is the template that `-q` stands for.
    pub(crate) fn read(
        listing: &Listing,
        text: Option<&str>,
        quiet: Option<&str>,
    ) -> Result<Self, Failure> {
        let text = text.unwrap_or_default().trim();
        let (source, table) = match text {
            "" | "table" => match quiet {
                Some(quiet) => (quiet, false),
                None => (listing.table, true),
            },
            "json" => ("{{json .}}", false),
            _ => match text
                .strip_prefix("table ")
                .or(text.strip_prefix("table{{").map(|_| &text[5..]))
            {
                Some(rest) => (rest.trim(), true),
                None => (text, false),
            },
        };
        let source = source.replace("\\t", "\t").replace("\\n", "\n");
        let template = Template::parse(&source)
            .map_err(|error| Failure::message(format!("failed to parse template: {error}")))?;
        Ok(Self {
            template,
            source,
            table,
        })
    }

    /// Whether rows stand under headers.
    pub(crate) fn is_table(&self) -> bool {
        self.table
    }

    /// Whether the template mentions a field, which may be costly to fill.
    pub(crate) fn mentions(&self, field: &str) -> bool {
        self.source.contains(&format!(".{field}")) || self.source == "{{json .}}"
    }

    /// The whole list.
    pub(crate) fn render(
        &self,
        listing: &'static Listing,
        rows: &[Row],
    ) -> Result<String, Failure> {
        let mut out = String::new();
        if self.table {
            out.push_str(
                &self
                    .template
                    .render(&Headers(listing))
                    .map_err(|error| execution(&error))?,
            );
            out.push('\n');
        }
        for row in rows {
            out.push_str(&self.row(row)?);
            out.push('\n');
        }
        Ok(if self.table {
            tabwriter::align(&out)
        } else {
            out
        })
    }

    /// One row.
    pub(crate) fn row(&self, row: &Row) -> Result<String, Failure> {
        if self.source == "{{json .}}" {
            return Ok(escape_html(&row.value().to_string()));
        }
        self.template.render(row).map_err(|error| execution(&error))
    }
}

/// Whole rows in JSON are safe within HTML, as Go's `json.Marshal` makes them.
fn escape_html(json: &str) -> String {
    json.replace('&', "\\u0026")
        .replace('<', "\\u003c")
        .replace('>', "\\u003e")
}

fn execution(error: &TemplateError) -> Failure {
    Failure::message(format!("failed to execute template: {error}"))
}

/// Cuts an id to the twelve characters that lists show.
pub(crate) fn short_id(id: &str) -> &str {
    let id = id.strip_prefix("sha256:").unwrap_or(id);
    id.get(..12).unwrap_or(id)
}

/// The order of names as people read them: `br9` before `br10`.
pub(crate) fn natural(a: &str, b: &str) -> std::cmp::Ordering {
    let (mut left, mut right) = (a, b);
    while let (Some(x), Some(y)) = (left.chars().next(), right.chars().next()) {
        if x.is_ascii_digit() && y.is_ascii_digit() {
            let (number, rest) = leading_number(left);
            let (other, other_rest) = leading_number(right);
            let order = number.len().cmp(&other.len()).then(number.cmp(other));
            if order.is_ne() {
                return order;
            }
            (left, right) = (rest, other_rest);
        } else if x == y {
            (left, right) = (&left[x.len_utf8()..], &right[y.len_utf8()..]);
        } else {
            return x.cmp(&y);
        }
    }
    // all that counts is alike: zeros in front decide
    left.len().cmp(&right.len()).then(a.cmp(b))
}

/// The digits that a text begins with, without zeros in front, and what follows them.
fn leading_number(text: &str) -> (&str, &str) {
    let end = text
        .find(|c: char| !c.is_ascii_digit())
        .unwrap_or(text.len());
    let (digits, rest) = text.split_at(end);
    (digits.trim_start_matches('0'), rest)
}

/// Cuts a text to `length` characters, the last an ellipsis.
pub(crate) fn ellipsis(text: &str, length: usize) -> String {
    if text.chars().count() <= length {
        return text.to_owned();
    }
    let mut cut: String = text.chars().take(length.saturating_sub(1)).collect();
    cut.push('…');
    cut
}

#[cfg(test)]
mod tests {
    use super::*;

    const LISTING: Listing = Listing {
        go_type: "formatter.TestContext",
        headers: &[("ID", "THING ID"), ("Name", "NAME")],
        table: "table {{.ID}}\t{{.Name}}",
    };
    static SHOWN: Listing = Listing {
        table: "{{.ID}}\t{{.Name}}",
        ..LISTING
    };

    fn rows() -> Vec<Row> {
        let labels = BTreeMap::from([("a.b".to_owned(), "c".to_owned())]);
        vec![
            Row::new(&SHOWN)
                .with("ID", "1")
                .with("Name", "x")
                .with_labels(labels),
            Row::new(&SHOWN)
                .with("ID", "2")
                .with("Name", "y")
                .with_labels(BTreeMap::new()),
        ]
    }

    fn check(format: Option<&str>, quiet: Option<&str>, expect: &str) {
        let format = Format::read(&SHOWN, format, quiet).unwrap();
        assert_eq!(format.render(&SHOWN, &rows()).unwrap(), expect);
    }

    #[test]
    fn forms() {
        check(None, None, "THING ID   NAME\n1          x\n2          y\n");
        check(None, Some("{{.ID}}"), "1\n2\n");
        check(Some("{{.Name}}"), Some("{{.ID}}"), "x\ny\n");
        check(
            Some("table {{.Name}}\\t{{.Label \"a.b\"}}"),
            None,
            "NAME      b\nx         c\ny         \n",
        );
        check(
            Some("json"),
            None,
            "{\"ID\":\"1\",\"Labels\":\"a.b=c\",\"Name\":\"x\"}\n{\"ID\":\"2\",\"Labels\":\"\",\"Name\":\"y\"}\n",
        );
    }

    #[test]
    fn failures() {
        let error = Format::read(&SHOWN, Some("{{"), None).unwrap_err();
        assert_eq!(
            error.to_string(),
            "failed to parse template: template: :1: unclosed action"
        );
        let error = Format::read(&SHOWN, Some("{{.Foo}}"), None)
            .unwrap()
            .render(&SHOWN, &rows())
            .unwrap_err();
        assert_eq!(
            error.to_string(),
            "failed to execute template: template: :1:2: executing \"\" at <.Foo>: can't evaluate field Foo in type *formatter.TestContext"
        );
    }

    #[test]
    fn natural_order() {
        let mut names = ["br10", "a", "br9", "br09", "br", "br9x", "b", "br100"];
        names.sort_by(|a, b| natural(a, b));
        assert_eq!(
            names,
            ["a", "b", "br", "br09", "br9", "br9x", "br10", "br100"]
        );
    }

    #[test]
    fn cutting() {
        assert_eq!(ellipsis("abcdef", 4), "abc…");
        assert_eq!(ellipsis("abcd", 4), "abcd");
        assert_eq!(short_id("sha256:0123456789abcdef"), "0123456789ab");
    }
}
