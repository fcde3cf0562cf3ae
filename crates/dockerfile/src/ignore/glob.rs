//! One pattern: Go's `filepath.Match`, and the same with `**`.

/// Why a pattern is none.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("syntax error in pattern")]
pub struct GlobError;

#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Token {
    /// This character.
    Literal(char),
    /// One character that is no slash.
    Any,
    /// Any number of them.
    Star,
    /// What follows may be left out: the way past a `Folders`, or into it.
    Skip,
    /// Any number of folders, at least one: `**/`.
    Folders,
    /// Anything: `**` at the end.
    Rest,
    /// One character of, or not of, these ranges.
    Class {
        negated: bool,
        ranges: Vec<(char, char)>,
    },
}

/// A compiled pattern; those without wildcards in the middle need no machine.
#[derive(Debug)]
pub(super) enum Glob {
    Exact(String),
    Prefix(String),
    Suffix(String),
    Tokens {
        /// How every match begins.
        literal: String,
        /// How every match ends.
        ending: String,
        tokens: Vec<Token>,
    },
}

impl Glob {
    pub(super) fn new(pattern: &str) -> Result<Self, GlobError> {
        let tokens = compile(pattern, true)?;
        let plain = |tokens: &[Token]| -> Option<String> {
            tokens
                .iter()
                .map(|t| {
                    if let Token::Literal(c) = t {
                        Some(*c)
                    } else {
                        None
                    }
                })
                .collect()
        };
        // an escape makes a pattern one for the machine: nothing else stays as it is written
        if let Some(text) = plain(&tokens) {
            return Ok(Self::Exact(text));
        }
        match tokens.as_slice() {
            [Token::Rest] => return Ok(Self::Prefix(String::new())),
            [rest @ .., Token::Rest] => {
                if let Some(text) = plain(rest) {
                    return Ok(Self::Prefix(text));
                }
            }
            [Token::Skip, Token::Folders, rest @ ..] => {
                if let Some(text) = plain(rest) {
                    // `**foo` matches every name that ends so, `**/foo` whole names only
                    let slash = pattern.starts_with("**/");
                    return Ok(Self::Suffix(if slash { format!("/{text}") } else { text }));
                }
            }
            _ => {}
        }
        let letter = |t: &Token| {
            if let Token::Literal(c) = t {
                Some(*c)
            } else {
                None
            }
        };
        let literal = tokens.iter().map_while(letter).collect();
        let mut ending: Vec<char> = tokens.iter().rev().map_while(letter).collect();
        ending.reverse();
        let ending = ending.into_iter().collect();
        Ok(Self::Tokens {
            literal,
            ending,
            tokens,
        })
    }

    /// Whether the whole path matches.
    pub(super) fn matches(&self, path: &str) -> bool {
        match self {
            Self::Exact(text) => path == text,
            Self::Prefix(text) => path.starts_with(text.as_str()),
            Self::Suffix(text) => {
                path.ends_with(text.as_str()) || text.strip_prefix('/') == Some(path)
            }
            Self::Tokens {
                literal,
                ending,
                tokens,
            } => {
                path.starts_with(literal.as_str())
                    && path.ends_with(ending.as_str())
                    && run(tokens, path).0
            }
        }
    }

    /// Whether the path or one of its parents matches.
    pub(super) fn matches_or_parent(&self, path: &str) -> bool {
        self.matches(path)
            || path
                .match_indices('/')
                .any(|(at, _)| self.matches(&path[..at]))
    }

    /// Whether some path below a folder could match.
    pub(super) fn may_match_below(&self, folder: &str) -> bool {
        let folder = format!("{folder}/");
        match self {
            Self::Exact(text) => text.starts_with(&folder),
            Self::Prefix(text) => text.starts_with(&folder) || folder.starts_with(text.as_str()),
            Self::Suffix(_) => true,
            Self::Tokens { tokens, .. } => run(tokens, &folder).1,
        }
    }
}

/// Go's `filepath.Match`: a pattern without `**` against a whole path.
///
/// # Errors
/// When the pattern is malformed.
pub fn path_match(pattern: &str, path: &str) -> Result<bool, GlobError> {
    Ok(run(&compile(pattern, false)?, path).0)
}

fn compile(pattern: &str, doubled: bool) -> Result<Vec<Token>, GlobError> {
    let mut tokens = Vec::new();
    let mut chars = pattern.chars().peekable();
    while let Some(c) = chars.next() {
        let token = match c {
            '*' if doubled && chars.peek() == Some(&'*') => {
                chars.next();
                chars.next_if_eq(&'/');
                if chars.peek().is_none() {
                    Token::Rest
                } else {
                    tokens.push(Token::Skip);
                    Token::Folders
                }
            }
            '*' => Token::Star,
            '?' => Token::Any,
            '[' => class(&mut chars)?,
            '\\' => Token::Literal(chars.next().ok_or(GlobError)?),
            c => Token::Literal(c),
        };
        tokens.push(token);
    }
    Ok(tokens)
}

fn class(chars: &mut std::iter::Peekable<std::str::Chars<'_>>) -> Result<Token, GlobError> {
    let negated = chars.next_if_eq(&'^').is_some();
    let mut ranges = Vec::new();
    loop {
        if !ranges.is_empty() && chars.next_if_eq(&']').is_some() {
            return Ok(Token::Class { negated, ranges });
        }
        let low = member(chars)?;
        let high = if chars.next_if_eq(&'-').is_some() {
            member(chars)?
        } else {
            low
        };
        ranges.push((low, high));
    }
}

/// A character of a class.
fn member(chars: &mut std::iter::Peekable<std::str::Chars<'_>>) -> Result<char, GlobError> {
    match chars.next() {
        None | Some('-' | ']') => Err(GlobError),
        Some('\\') => chars.next().ok_or(GlobError),
        Some(c) => Ok(c),
    }
}

/// How far a path goes through a pattern: whether its end is reached, and whether any place is.
fn run(tokens: &[Token], path: &str) -> (bool, bool) {
    if tokens.len() < 64 {
        let states = run_short(tokens, path);
        return (states >> tokens.len() & 1 == 1, states != 0);
    }
    let states = run_long(tokens, path);
    (states.last() == Some(&true), states.contains(&true))
}

/// The places are the bits of a number: most patterns are short, and most paths are many.
fn run_short(tokens: &[Token], path: &str) -> u64 {
    let mut states = skip_short(tokens, 1);
    for c in path.chars() {
        let (mut next, mut left) = (0, states);
        while left != 0 {
            let at = left.trailing_zeros();
            left &= left - 1;
            if let Some(token) = tokens.get(at as usize) {
                let (stays, goes) = step(token, c);
                next |= u64::from(stays) << at | u64::from(goes) << (at + 1);
            }
        }
        if next == 0 {
            return 0;
        }
        states = skip_short(tokens, next);
    }
    states
}

fn skip_short(tokens: &[Token], mut states: u64) -> u64 {
    let mut left = states;
    while left != 0 {
        let at = left.trailing_zeros();
        left &= left - 1;
        let ahead = match tokens.get(at as usize) {
            Some(Token::Star | Token::Rest) => 0b10 << at,
            Some(Token::Skip) => 0b110 << at,
            _ => continue,
        };
        left |= ahead & !states;
        states |= ahead;
    }
    states
}

fn run_long(tokens: &[Token], path: &str) -> Vec<bool> {
    let mut states = vec![false; tokens.len() + 1];
    states[0] = true;
    skip_long(tokens, &mut states);
    for c in path.chars() {
        let mut next = vec![false; states.len()];
        for (at, token) in tokens.iter().enumerate().filter(|(at, _)| states[*at]) {
            let (stays, goes) = step(token, c);
            next[at] |= stays;
            next[at + 1] |= goes;
        }
        if !next.contains(&true) {
            return next;
        }
        skip_long(tokens, &mut next);
        states = next;
    }
    states
}

/// Whether a character leaves the machine at a token, and whether it moves it on.
fn step(token: &Token, c: char) -> (bool, bool) {
    match token {
        Token::Literal(l) => (false, *l == c),
        Token::Any => (false, c != '/'),
        Token::Star => (c != '/', false),
        Token::Skip => (false, false),
        Token::Folders => (true, c == '/'),
        Token::Rest => (true, false),
        Token::Class { negated, ranges } => (
            false,
            ranges.iter().any(|(low, high)| *low <= c && c <= *high) != *negated,
        ),
    }
}

/// Goes past what may stand for nothing.
fn skip_long(tokens: &[Token], states: &mut [bool]) {
    for (at, token) in tokens.iter().enumerate() {
        if states[at] && matches!(token, Token::Star | Token::Skip | Token::Rest) {
            states[at + 1] = true;
        }
        if states[at] && *token == Token::Skip {
            states[at + 2] = true;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn short_and_long_patterns_agree() {
        let patterns = [
            "a*b", "**/x/*.o", "*a*b*", "a/**/b", "[^a]?*", "**/a**", "a\\*",
        ];
        let paths = [
            "ab", "x/f.o", "q/x/f.o", "cab", "a/b", "a/c/d/b", "bcd", "a*", "",
        ];
        for pattern in patterns {
            let tokens = compile(pattern, true).unwrap();
            for path in paths {
                let long = run_long(&tokens, path);
                let short = run_short(&tokens, path);
                let bits: Vec<bool> = (0..long.len()).map(|at| short >> at & 1 == 1).collect();
                assert_eq!(bits, long, "{pattern} {path}");
            }
        }
    }
}
