//! Cuts a template into text and the tokens of its actions.

use super::{TemplateError, line_of};

#[derive(Clone, Debug, PartialEq)]
pub(super) enum Kind {
    Text(String),
    /// `{{`
    Open,
    /// `}}`
    Close,
    Dot,
    /// `.Name`
    Field(String),
    /// `$name`
    Variable(String),
    Word(String),
    Literal(String),
    Number(String),
    Character(char),
    Pipe,
    LeftParen,
    RightParen,
    Declare,
    Assign,
    Comma,
}

#[derive(Clone, Debug)]
pub(super) struct Token {
    pub(super) kind: Kind,
    pub(super) start: usize,
    pub(super) end: usize,
    /// White space stands before it.
    pub(super) spaced: bool,
}

pub(super) fn error(source: &str, at: usize, what: &str) -> TemplateError {
    TemplateError(format!("template: :{}: {what}", line_of(source, at)))
}

/// Cuts `source` into tokens.
pub(super) fn lex(source: &str) -> Result<Vec<Token>, TemplateError> {
    let mut tokens = Vec::new();
    let mut at = 0;
    let mut trim_left = false;
    loop {
        let open = source[at..].find("{{").map(|found| at + found);
        let mut text = &source[at..open.unwrap_or(source.len())];
        if trim_left {
            text = text.trim_start();
        }
        let Some(open) = open else {
            push_text(&mut tokens, text, at);
            return Ok(tokens);
        };
        let after = open + 2;
        let trims = source[after..].starts_with('-')
            && source[after + 1..].starts_with(char::is_whitespace);
        if trims {
            text = text.trim_end();
        }
        push_text(&mut tokens, text, at);
        let inside = if trims { after + 2 } else { after };
        (at, trim_left) = if source[inside..].starts_with("/*") {
            comment(source, inside)?
        } else {
            tokens.push(Token {
                kind: Kind::Open,
                start: open,
                end: after,
                spaced: false,
            });
            action(source, inside, &mut tokens)?
        };
    }
}

fn push_text(tokens: &mut Vec<Token>, text: &str, at: usize) {
    if !text.is_empty() {
        let kind = Kind::Text(text.to_owned());
        tokens.push(Token {
            kind,
            start: at,
            end: at + text.len(),
            spaced: false,
        });
    }
}

/// Skips a comment; returns where the text goes on and whether its white space is trimmed.
fn comment(source: &str, start: usize) -> Result<(usize, bool), TemplateError> {
    let Some(end) = source[start..].find("*/") else {
        return Err(error(source, start, "unclosed comment"));
    };
    let end = start + end + 2;
    let rest = &source[end..];
    if rest.starts_with("}}") {
        return Ok((end + 2, false));
    }
    let blank = rest.len() - rest.trim_start().len();
    if blank > 0 && rest[blank..].starts_with("-}}") {
        return Ok((end + blank + 3, true));
    }
    Err(error(
        source,
        start,
        "comment ends before closing delimiter",
    ))
}

/// Cuts the tokens of one action; returns where the text goes on and whether its white space is trimmed.
fn action(
    source: &str,
    start: usize,
    tokens: &mut Vec<Token>,
) -> Result<(usize, bool), TemplateError> {
    let mut at = start;
    let mut spaced = false;
    loop {
        let rest = &source[at..];
        if rest.starts_with("}}") {
            tokens.push(Token {
                kind: Kind::Close,
                start: at,
                end: at + 2,
                spaced,
            });
            return Ok((at + 2, false));
        }
        if spaced && rest.starts_with("-}}") {
            tokens.push(Token {
                kind: Kind::Close,
                start: at,
                end: at + 3,
                spaced,
            });
            return Ok((at + 3, true));
        }
        let Some(first) = rest.chars().next() else {
            return Err(error(source, start, "unclosed action"));
        };
        if first.is_whitespace() {
            at += first.len_utf8();
            spaced = true;
            continue;
        }
        let (kind, length) = token(source, at, first)?;
        tokens.push(Token {
            kind,
            start: at,
            end: at + length,
            spaced,
        });
        at += length;
        spaced = false;
    }
}

fn token(source: &str, at: usize, first: char) -> Result<(Kind, usize), TemplateError> {
    let rest = &source[at..];
    let word = |from: usize| {
        let tail = &rest[from..];
        let end = tail
            .find(|c: char| !(c.is_alphanumeric() || c == '_'))
            .unwrap_or(tail.len());
        &tail[..end]
    };
    let simple = |kind| Ok((kind, 1));
    match first {
        '|' => simple(Kind::Pipe),
        '(' => simple(Kind::LeftParen),
        ')' => simple(Kind::RightParen),
        ',' => simple(Kind::Comma),
        '=' => simple(Kind::Assign),
        ':' if rest.starts_with(":=") => Ok((Kind::Declare, 2)),
        '"' => quoted(source, at),
        '`' => match rest[1..].find('`') {
            Some(end) => Ok((Kind::Literal(rest[1..=end].to_owned()), end + 2)),
            None => Err(error(source, at, "unterminated raw quoted string")),
        },
        '\'' => character(source, at),
        '.' if rest[1..].starts_with(|c: char| c.is_ascii_digit()) => Ok(number(rest)),
        '.' => match word(1) {
            "" => simple(Kind::Dot),
            name => Ok((Kind::Field(name.to_owned()), name.len() + 1)),
        },
        '$' => {
            let name = word(1);
            Ok((Kind::Variable(name.to_owned()), name.len() + 1))
        }
        '0'..='9' => Ok(number(rest)),
        '+' | '-' if rest[1..].starts_with(|c: char| c.is_ascii_digit()) => Ok(number(rest)),
        c if c.is_alphabetic() || c == '_' => {
            let name = word(0);
            Ok((Kind::Word(name.to_owned()), name.len()))
        }
        other => Err(error(
            source,
            at,
            &format!(
                "unexpected {} in command",
                super::print::quote(&other.to_string())
            ),
        )),
    }
}

fn number(rest: &str) -> (Kind, usize) {
    let end = rest
        .char_indices()
        .skip(1)
        .find(|(_at, c)| !(c.is_ascii_alphanumeric() || *c == '.' || *c == '_'))
        .map_or(rest.len(), |(at, _c)| at);
    (Kind::Number(rest[..end].to_owned()), end)
}

fn quoted(source: &str, at: usize) -> Result<(Kind, usize), TemplateError> {
    let unterminated = || error(source, at, "unterminated quoted string");
    let mut out = String::new();
    let mut chars = source[at + 1..].char_indices();
    while let Some((offset, c)) = chars.next() {
        match c {
            '"' => return Ok((Kind::Literal(out), offset + 2)),
            '\n' => return Err(unterminated()),
            '\\' => {
                let (_at, escaped) = chars.next().ok_or_else(unterminated)?;
                out.push(unescape(escaped).ok_or_else(|| error(source, at, "invalid syntax"))?);
            }
            other => out.push(other),
        }
    }
    Err(unterminated())
}

fn unescape(c: char) -> Option<char> {
    Some(match c {
        'n' => '\n',
        't' => '\t',
        'r' => '\r',
        '0' => '\0',
        'a' => '\x07',
        'b' => '\x08',
        'f' => '\x0c',
        'v' => '\x0b',
        '"' | '\'' | '\\' => c,
        _ => return None,
    })
}

fn character(source: &str, at: usize) -> Result<(Kind, usize), TemplateError> {
    let unterminated = || error(source, at, "unterminated character constant");
    let mut chars = source[at + 1..].chars();
    let first = chars.next().ok_or_else(unterminated)?;
    let (value, length) = if first == '\\' {
        let escaped = chars.next().ok_or_else(unterminated)?;
        (
            unescape(escaped).ok_or_else(unterminated)?,
            1 + escaped.len_utf8(),
        )
    } else {
        (first, first.len_utf8())
    };
    if chars.next() != Some('\'') {
        return Err(unterminated());
    }
    Ok((Kind::Character(value), length + 2))
}
