//! The subset of Go's `text/template` that `--format` needs, over JSON values.
//!
//! What differs from Go: values are JSON, so there are no methods but those of the root (`.Label "key"`), and no types
//! in messages.

mod ast;
mod exec;
mod funcs;
mod lex;
mod parse;
mod print;

pub(crate) use exec::Root;

/// A parsed template.
#[derive(Debug)]
pub(crate) struct Template {
    source: String,
    nodes: Vec<ast::Node>,
}

/// A template that does not parse, or fails on its data; the text is Go's.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct TemplateError(String);

impl std::fmt::Display for TemplateError {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.0)
    }
}

impl std::error::Error for TemplateError {}

impl Template {
    /// Parses the text between and within `{{ }}`.
    pub(crate) fn parse(source: &str) -> Result<Self, TemplateError> {
        let tokens = lex::lex(source)?;
        let nodes = parse::parse(source, tokens)?;
        Ok(Self {
            source: source.to_owned(),
            nodes,
        })
    }

    /// Renders the template for `root`.
    pub(crate) fn render(&self, root: &dyn Root) -> Result<String, TemplateError> {
        exec::render(&self.source, &self.nodes, root)
    }
}

/// `:line:` of a byte offset, as Go's parse errors begin.
fn line_of(source: &str, at: usize) -> usize {
    source[..at.min(source.len())].matches('\n').count() + 1
}

/// `line:column` of a byte offset, as Go's run-time errors begin.
fn position(source: &str, at: usize) -> String {
    let before = &source[..at.min(source.len())];
    let column = before.len() - before.rfind('\n').map_or(0, |newline| newline + 1);
    format!("{}:{column}", line_of(source, at))
}

#[cfg(test)]
mod tests;
