//! An instruction as it is written.

use super::{Heredoc, SyntaxError, words};
use crate::span::Span;

/// An instruction as it is written: name, flags and arguments.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Node {
    /// The instruction's name in the file's own case.
    pub name: String,
    /// The flags, without quotes.
    pub flags: Vec<String>,
    /// The arguments, split as the instruction wants them.
    ///
    /// Of `ENV` and `LABEL` these are names, values and separators in turn; of `ONBUILD` the name
    /// of the instruction that it holds, then that one's arguments.
    pub args: Vec<String>,
    /// Whether the arguments stand in a JSON array.
    pub json: bool,
    /// The whole instruction in one line.
    pub original: String,
    /// The here-documents that follow it.
    pub heredocs: Vec<Heredoc>,
    /// The comments right before it.
    pub comments: Vec<String>,
    /// Its lines.
    pub span: Span,
}

impl Node {
    /// Splits a logical line.
    pub(super) fn parse(
        line: &str,
        escape: char,
        comments: Vec<String>,
    ) -> Result<Self, SyntaxError> {
        let mut node = Self::split(line, escape, true)?;
        line.clone_into(&mut node.original);
        node.comments = comments;
        Ok(node)
    }

    fn split(line: &str, escape: char, outermost: bool) -> Result<Self, SyntaxError> {
        let (name, rest) = words::first_word(line.trim());
        let (flags, rest) = words::flags(rest, escape);
        let mut node = Self {
            name: name.to_owned(),
            flags,
            ..Self::default()
        };
        node.arguments(rest.trim(), escape, outermost)?;
        Ok(node)
    }

    fn arguments(&mut self, rest: &str, escape: char, outermost: bool) -> Result<(), SyntaxError> {
        match self.name.to_ascii_lowercase().as_str() {
            "env" => self.args = pairs(rest, "ENV", escape)?,
            "label" => self.args = pairs(rest, "LABEL", escape)?,
            "arg" => self.args = words::quoted(rest, escape),
            "from" | "expose" => self.args = words::blank_separated(rest),
            "maintainer" | "stopsignal" | "user" | "workdir" => self.one(rest),
            "run" | "cmd" | "entrypoint" | "shell" => self.array_or_one(rest)?,
            "add" | "copy" | "volume" => self.array_or_words(rest)?,
            "healthcheck" => self.healthcheck(rest)?,
            // triggers in triggers are refused later: there is no need to read them
            "onbuild" if outermost && !rest.is_empty() => {
                let inner = Self::split(rest, escape, false)?;
                self.args = vec![inner.name];
                self.args.extend(inner.args);
                self.json = inner.json;
            }
            _ => {}
        }
        Ok(())
    }

    fn array_or_one(&mut self, rest: &str) -> Result<(), SyntaxError> {
        if !self.json(rest)? {
            self.one(rest);
        }
        Ok(())
    }

    fn array_or_words(&mut self, rest: &str) -> Result<(), SyntaxError> {
        if !self.json(rest)? {
            self.args = words::blank_separated(rest);
        }
        Ok(())
    }

    fn one(&mut self, rest: &str) {
        if !rest.is_empty() {
            self.args.push(rest.to_owned());
        }
    }

    /// Takes the arguments from a JSON array, if that is what they are.
    fn json(&mut self, rest: &str) -> Result<bool, SyntaxError> {
        if !rest.trim_start().starts_with('[') {
            return Ok(false);
        }
        let Ok(values) = serde_json::from_str::<Vec<serde_json::Value>>(rest) else {
            return Ok(false);
        };
        for value in values {
            match value {
                serde_json::Value::String(text) => self.args.push(text),
                _ => return Err(SyntaxError::NotStrings),
            }
        }
        self.json = true;
        Ok(true)
    }

    fn healthcheck(&mut self, rest: &str) -> Result<(), SyntaxError> {
        let (kind, command) = match rest.split_once(char::is_whitespace) {
            Some((kind, command)) => (kind, command.trim_start()),
            None => (rest, ""),
        };
        if kind.is_empty() {
            return Ok(());
        }
        self.array_or_one(command)?;
        self.args.insert(0, kind.to_owned());
        Ok(())
    }

    /// Whether here-documents may follow.
    pub(super) fn takes_heredocs(&self) -> bool {
        let onbuild = self.name.eq_ignore_ascii_case("onbuild");
        let name = match self.args.first() {
            Some(inner) if onbuild => inner,
            _ => &self.name,
        };
        !self.json
            && ["add", "copy", "run"]
                .iter()
                .any(|n| name.eq_ignore_ascii_case(n))
    }
}

/// Names, values and separators of `ENV` and `LABEL`: `name=value …`, or the old `name value`.
fn pairs(rest: &str, key: &'static str, escape: char) -> Result<Vec<String>, SyntaxError> {
    let list = words::quoted(rest, escape);
    let Some(first) = list.first() else {
        return Ok(Vec::new());
    };
    if !first.contains('=') {
        let (name, value) = words::first_word(rest);
        if value.is_empty() {
            return Err(SyntaxError::TwoArguments(key));
        }
        return Ok(vec![name.to_owned(), value.to_owned(), String::new()]);
    }
    let mut out = Vec::with_capacity(3 * list.len());
    for word in list {
        let Some((name, value)) = word.split_once('=') else {
            return Err(SyntaxError::NoEquals(word));
        };
        out.extend([name.to_owned(), value.to_owned(), "=".to_owned()]);
    }
    Ok(out)
}
