//! Directives: the comments at a file's head that change how it is read.

use crate::span::Span;

const KNOWN: [&str; 3] = ["syntax", "escape", "check"];

/// Why a directive is none.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum DirectiveError {
    /// It stands there twice.
    #[error("only one {0} parser directive can be used")]
    Twice(&'static str),
    /// The escape character can be one of two.
    #[error("invalid escape token '{0}' does not match ` or \\")]
    Escape(String),
}

/// A directive of a file's head.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Directive {
    /// The value's first word.
    pub word: String,
    /// The whole value.
    pub value: String,
    /// Where it stands.
    pub span: Span,
}

/// What the head's lines have said so far.
#[derive(Debug)]
pub(crate) struct Directives {
    pub(crate) escape: char,
    seen: Vec<&'static str>,
    done: bool,
}

impl Default for Directives {
    fn default() -> Self {
        Self {
            escape: '\\',
            seen: Vec::new(),
            done: false,
        }
    }
}

impl Directives {
    /// Takes the file's next line, and says whether it is a directive.
    pub(crate) fn line(&mut self, line: &str) -> Result<bool, DirectiveError> {
        if self.done {
            return Ok(false);
        }
        let Some((key, value)) = split(line, "#") else {
            self.done = true;
            return Ok(false);
        };
        if self.seen.contains(&key) {
            return Err(DirectiveError::Twice(key));
        }
        self.seen.push(key);
        if key == "escape" {
            self.escape = match value {
                "`" => '`',
                "\\" => '\\',
                other => return Err(DirectiveError::Escape(other.to_owned())),
            };
        }
        Ok(true)
    }
}

/// `PREFIX key = value` of a known key.
fn split<'a>(line: &'a str, prefix: &str) -> Option<(&'static str, &'a str)> {
    let rest = line.strip_prefix(prefix)?;
    let (key, value) = rest.split_once('=')?;
    let key = key.trim().to_ascii_lowercase();
    let value = value.trim();
    let key = KNOWN.into_iter().find(|k| *k == key)?;
    (!value.is_empty()).then_some((key, value))
}

/// The directive `key=value` in a comment between instructions, without its `#`.
pub(crate) fn comment_directive<'a>(comment: &'a str, key: &str) -> Option<&'a str> {
    split(comment, "")
        .filter(|(k, _)| *k == key)
        .map(|(_, v)| v)
}

/// A directive of a file's head: `# key=…`, `// key=…`, or the file is JSON with the key.
///
/// A first line that begins with `#!` is skipped.
#[must_use]
pub fn directive(key: &str, data: &[u8]) -> Option<Directive> {
    let text = String::from_utf8_lossy(data);
    let text = text.strip_prefix('\u{feff}').unwrap_or(&text);
    let (text, skipped) = match text.split_once('\n') {
        Some((first, rest)) if first.starts_with("#!") => (rest, 1),
        _ => (text, 0),
    };
    for prefix in ["#", "//"] {
        for (line, at) in text.lines().zip(skipped + 1..) {
            let Some((found, value)) = split(line.trim_start(), prefix) else {
                break;
            };
            if found == key {
                let word = value.split(' ').next().unwrap_or(value).to_owned();
                return Some(Directive {
                    word,
                    value: value.to_owned(),
                    span: Span::line(at),
                });
            }
        }
    }
    json_directive(key, text, skipped)
}

fn json_directive(key: &str, text: &str, line: u32) -> Option<Directive> {
    if !text.trim_start().starts_with('{') {
        return None;
    }
    let values: std::collections::HashMap<String, String> = serde_json::from_str(text).ok()?;
    let value = values.get(key)?.clone();
    Some(Directive {
        word: value.clone(),
        value,
        span: Span::line(line),
    })
}

/// The image of the front end that a file asks for (`# syntax=…`).
#[must_use]
pub fn syntax(data: &[u8]) -> Option<Directive> {
    directive("syntax", data)
}
