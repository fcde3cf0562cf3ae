//! From a file to nodes: directives, logical lines, here-documents and words.
//!
//! A node is an instruction as it is written; what it means is [`crate::instruction`]'s.

mod directive;
mod heredoc;
mod node;
mod words;

use std::collections::VecDeque;

use crate::span::Span;

pub use directive::{Directive, directive, syntax};
pub(crate) use directive::{DirectiveError, Directives, comment_directive};
pub use heredoc::Heredoc;
pub(crate) use heredoc::{HeredocError, chomp, parse as parse_heredoc};
pub use node::Node;
pub(crate) use words::{fields, is_blank};

/// A file may be this long.
pub const MAX_FILE: usize = 16 << 20;
/// A line may be this long.
pub const MAX_LINE: usize = 65_535;
/// An instruction with all lines that continue it may be this long; here-documents do not count.
pub const MAX_INSTRUCTION: usize = 1 << 20;
/// A file may have so many instructions. Each takes a few hundred bytes, however short it is.
pub const MAX_INSTRUCTIONS: usize = 50_000;
/// The instructions of a file may have so many words and here-documents together.
pub const MAX_WORDS: usize = 500_000;
/// So many comments right before an instruction are read, the last of them.
const MAX_COMMENTS: usize = 1000;

/// Why a file cannot be read.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum SyntaxError {
    /// There is not a byte in it.
    #[error("the Dockerfile cannot be empty")]
    Empty,
    /// It is too long.
    #[error("Dockerfile exceeds maximum allowed size of {MAX_FILE} bytes")]
    FileTooLarge,
    /// A line is too long.
    #[error("dockerfile line greater than max allowed size of {MAX_LINE}")]
    LineTooLong,
    /// A line with those that continue it is too long.
    #[error("an instruction of the Dockerfile is longer than {MAX_INSTRUCTION} bytes")]
    InstructionTooLong,
    /// There are too many instructions.
    #[error("the Dockerfile has more than {MAX_INSTRUCTIONS} instructions")]
    TooManyInstructions,
    /// There are too many words.
    #[error("the instructions of the Dockerfile have more than {MAX_WORDS} words")]
    TooManyWords,
    /// There are comments in it only.
    #[error("file with no instructions")]
    NoInstructions,
    /// A directive is wrong.
    #[error(transparent)]
    Directive(#[from] DirectiveError),
    /// A here-document is wrong.
    #[error(transparent)]
    Heredoc(#[from] HeredocError),
    /// A key has no value.
    #[error("{0} must have two arguments")]
    TwoArguments(&'static str),
    /// A word has no equals sign.
    #[error("Syntax error - can't find = in {}. Must be of the form: name=value", crate::gofmt::quote(.0))]
    NoEquals(String),
    /// A JSON array has something else than strings in it.
    #[error("when using JSON array syntax, arrays must be comprised of strings only")]
    NotStrings,
}

/// A file that cannot be read, and where.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{error}")]
pub struct Misread {
    /// What is wrong.
    pub error: SyntaxError,
    /// Where.
    pub span: Option<Span>,
}

/// A file in its parts.
#[derive(Clone, Debug)]
pub struct Document {
    /// The character that escapes others and continues lines.
    pub escape: char,
    /// The instructions.
    pub nodes: Vec<Node>,
    /// The last lines of instructions with an empty line in them.
    pub empty_continuations: Vec<Span>,
}

impl Document {
    /// Reads a file.
    ///
    /// # Errors
    /// When its lines, directives, here-documents or words are malformed.
    pub fn parse(data: &[u8]) -> Result<Self, Misread> {
        let whole = |error| Misread { error, span: None };
        if data.is_empty() {
            return Err(whole(SyntaxError::Empty));
        }
        if data.len() > MAX_FILE {
            return Err(whole(SyntaxError::FileTooLarge));
        }
        let text = String::from_utf8_lossy(data);
        let text = text.strip_prefix('\u{feff}').unwrap_or(&text);
        Reader::new(text).read()
    }
}

struct Reader<'a> {
    lines: std::iter::Peekable<std::str::SplitInclusive<'a, char>>,
    line: u32,
    directives: Directives,
    comments: VecDeque<String>,
    nodes: Vec<Node>,
    /// Words and here-documents of all nodes.
    words: usize,
    empty_continuations: Vec<Span>,
}

impl<'a> Reader<'a> {
    fn new(text: &'a str) -> Self {
        Self {
            lines: text.split_inclusive('\n').peekable(),
            line: 0,
            directives: Directives::default(),
            comments: VecDeque::new(),
            nodes: Vec::new(),
            words: 0,
            empty_continuations: Vec::new(),
        }
    }

    fn read(mut self) -> Result<Document, Misread> {
        while let Some(raw) = self.next_line()? {
            let start = self.line;
            if let Some(line) = self.first_line(raw)? {
                let line = self.logical_line(line)?;
                self.instruction(&line, start)?;
            }
        }
        if self.nodes.is_empty() {
            return Err(self.misread(SyntaxError::NoInstructions, 1));
        }
        Ok(Document {
            escape: self.directives.escape,
            nodes: self.nodes,
            empty_continuations: self.empty_continuations,
        })
    }

    fn misread(&self, error: impl Into<SyntaxError>, start: u32) -> Misread {
        Misread {
            error: error.into(),
            span: Some(Span::new(start, self.line)),
        }
    }

    /// The next physical line, with its end.
    fn next_line(&mut self) -> Result<Option<&'a str>, Misread> {
        let Some(line) = self.lines.next() else {
            return Ok(None);
        };
        self.line += 1;
        if line.strip_suffix('\n').unwrap_or(line).len() > MAX_LINE {
            return Err(self.misread(SyntaxError::LineTooLong, self.line));
        }
        Ok(Some(line))
    }

    /// A line that may begin an instruction: `None` where it is a comment, a directive or blank.
    fn first_line(&mut self, raw: &'a str) -> Result<Option<&'a str>, Misread> {
        let line = raw.trim_end_matches(['\r', '\n']).trim_start();
        let is_directive = self
            .directives
            .line(line)
            .map_err(|e| self.misread(e, self.line))?;
        if let Some(comment) = line.strip_prefix('#') {
            let comment = comment.trim();
            if comment.is_empty() {
                self.comments.clear();
            } else if !is_directive {
                if self.comments.len() == MAX_COMMENTS {
                    self.comments.pop_front();
                }
                self.comments.push_back(comment.to_owned());
            }
            return Ok(None);
        }
        // a blank line leaves the comments before it to the next instruction, as BuildKit does
        Ok(Some(line).filter(|l| !l.is_empty()))
    }

    /// A line with those that continue it; comments and blank lines in between vanish.
    fn logical_line(&mut self, first: &str) -> Result<String, Misread> {
        let escape = self.directives.escape;
        let (part, mut open) = continuation(first, escape);
        let mut line = part.to_owned();
        let mut empty = false;
        while open {
            let Some(raw) = self.next_line()? else { break };
            let next = raw.trim_end_matches(['\r', '\n']);
            if next.trim_start().starts_with('#') {
                continue;
            }
            if next.trim_start().is_empty() {
                empty = true;
                continue;
            }
            let (part, more) = continuation(next, escape);
            if line.len() + part.len() > MAX_INSTRUCTION {
                return Err(self.misread(SyntaxError::InstructionTooLong, self.line));
            }
            line.push_str(part);
            open = more;
        }
        if empty {
            self.empty_continuations.push(Span::line(self.line));
        }
        Ok(line)
    }

    fn instruction(&mut self, line: &str, start: u32) -> Result<(), Misread> {
        let escape = self.directives.escape;
        let comments = std::mem::take(&mut self.comments).into();
        if self.nodes.len() == MAX_INSTRUCTIONS {
            return Err(self.misread(SyntaxError::TooManyInstructions, start));
        }
        let mut node = Node::parse(line, escape, comments).map_err(|e| self.misread(e, start))?;
        if node.takes_heredocs() && line.contains("<<") {
            let found = heredoc::in_line(line).map_err(|e| self.misread(e, start))?;
            self.count(found.len(), start)?;
            for mut heredoc in found {
                self.fill(&mut heredoc, start)?;
                node.heredocs.push(heredoc);
            }
        }
        node.span = Span::new(start, self.line);
        self.count(node.args.len() + node.flags.len(), start)?;
        self.nodes.push(node);
        Ok(())
    }

    /// Counts words.
    fn count(&mut self, words: usize, start: u32) -> Result<(), Misread> {
        self.words += words;
        match self.words > MAX_WORDS {
            true => Err(self.misread(SyntaxError::TooManyWords, start)),
            false => Ok(()),
        }
    }

    /// Reads a here-document's lines up to the one that ends it.
    fn fill(&mut self, heredoc: &mut Heredoc, start: u32) -> Result<(), Misread> {
        while let Some(raw) = self.next_line()? {
            let mut line = raw.trim_end_matches(['\r', '\n']);
            if heredoc.chomp {
                line = line.trim_start_matches('\t');
            }
            if line == heredoc.name {
                return Ok(());
            }
            heredoc.content.push_str(raw);
        }
        Err(self.misread(HeredocError::Unterminated, start))
    }
}

/// A line without the character that continues it, and whether it had one.
///
/// The escape character twice is itself, and continues nothing.
fn continuation(line: &str, escape: char) -> (&str, bool) {
    let trimmed = line.trim_end_matches([' ', '\t']);
    match trimmed.strip_suffix(escape) {
        Some(rest) if !rest.ends_with(escape) => (rest, true),
        _ => (line, false),
    }
}

#[cfg(test)]
mod tests;
