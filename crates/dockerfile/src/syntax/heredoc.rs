//! Here-documents: `<<EOF`, `<<-EOF`, `<<"EOF"`.

use crate::env::Nothing;
use crate::expand::{ExpandError, Lexer};

/// Why a here-document is none.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum HeredocError {
    /// The line that ends it is missing.
    #[error("unterminated heredoc")]
    Unterminated,
    /// Its word is malformed.
    #[error(transparent)]
    Word(#[from] ExpandError),
}

/// A here-document.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Heredoc {
    /// The word that ends it.
    pub name: String,
    /// The file descriptor that it is for, 0 by default.
    pub descriptor: u32,
    /// Whether variables in it are expanded.
    pub expand: bool,
    /// Whether tabs at the start of its lines go away.
    pub chomp: bool,
    /// Its lines.
    pub content: String,
}

/// The here-document that a word announces, if it does.
pub(crate) fn parse(word: &str) -> Result<Option<Heredoc>, HeredocError> {
    let digits = word
        .find(|c: char| !c.is_ascii_digit())
        .unwrap_or(word.len());
    let (descriptor, rest) = word.split_at(digits);
    let Some(rest) = rest.strip_prefix("<<") else {
        return Ok(None);
    };
    let (chomp, rest) = match rest.strip_prefix('-') {
        Some(rest) => (true, rest),
        None => (false, rest),
    };
    if rest.is_empty() || rest.contains('<') {
        return Ok(None);
    }
    let mut lexer = Lexer {
        skip_unset: true,
        ..Lexer::new('\\')
    };
    let words = lexer.expand(rest, &Nothing)?.words;
    let [name] = words.as_slice() else {
        return Ok(None);
    };
    lexer.raw_quotes = true;
    let raw = lexer.word(rest, &Nothing)?;
    let quotes = |t: &str| t.matches(['\'', '"']).count();
    Ok(Some(Heredoc {
        // a quote in the word says that the content is meant as it is
        expand: quotes(name) == quotes(&raw),
        name: name.clone(),
        descriptor: descriptor.parse().unwrap_or(0),
        chomp,
        content: String::new(),
    }))
}

/// The here-documents that a line announces.
pub(super) fn in_line(line: &str) -> Result<Vec<Heredoc>, HeredocError> {
    let lexer = Lexer {
        raw_quotes: true,
        raw_escapes: true,
        skip_unset: true,
        ..Lexer::new('\\')
    };
    // a line that is no list of words for us may be one for the shell that gets it
    let words = lexer
        .expand(line, &Nothing)
        .map(|e| e.words)
        .unwrap_or_default();
    let found = words.iter().map(|w| parse(w));
    found.filter_map(Result::transpose).collect()
}

/// A content without the tabs at the start of its lines.
pub(crate) fn chomp(content: &str) -> String {
    content
        .split_inclusive('\n')
        .map(|l| l.trim_start_matches('\t'))
        .collect()
}
