//! Variables and quotes: `$x`, `${x:-word}`, `'…'`, `"…"` and escapes, as a shell's words have them.

use std::collections::BTreeSet;

use crate::env::Lookup;
use crate::gofmt::quote;
use crate::pattern::{Pattern, PatternError, Reach};

/// An expansion that grows beyond this is refused: nested variables grow exponentially.
const MAX_LENGTH: usize = 1 << 20;
/// Substitutions may stand in each other this deep.
const MAX_DEPTH: usize = 100;

/// Why a word cannot be expanded.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Problem {
    /// A quote has no end.
    #[error("unexpected end of statement while looking for matching {0}-quote")]
    Quote(&'static str),
    /// A part of a substitution has no end.
    #[error("unexpected end of statement while looking for matching {0}")]
    Unended(char),
    /// A `${` has no `}`.
    #[error("syntax error: missing '}}'")]
    Brace,
    /// A `${x/` has no second slash.
    #[error("syntax error: missing '/' in ${{}}")]
    Slash,
    /// There is no name behind `${`.
    #[error("syntax error: bad substitution")]
    BadSubstitution,
    /// What follows the name is no modifier.
    #[error("unsupported modifier ({0}) in substitution")]
    Modifier(String),
    /// A variable that must be set is not.
    #[error("{name}: {message}")]
    Required {
        /// The variable.
        name: String,
        /// What the file says about it.
        message: String,
    },
    /// A pattern is none.
    #[error("invalid pattern ({pattern}) in substitution: {reason}")]
    Pattern {
        /// The pattern as written.
        pattern: String,
        /// What is wrong with it.
        reason: PatternError,
    },
    /// The result is too long.
    #[error("the expansion is longer than {MAX_LENGTH} bytes")]
    TooLong,
    /// Substitutions in substitutions in substitutions.
    #[error("substitutions are nested deeper than {MAX_DEPTH}")]
    TooDeep,
}

/// A word that cannot be expanded.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("failed to process {}: {problem}", quote(.word))]
pub struct ExpandError {
    /// The word as written.
    pub word: String,
    /// What is wrong with it.
    pub problem: Problem,
}

/// How words are read.
#[derive(Clone, Copy, Debug)]
pub struct Lexer {
    /// The character that takes away another's meaning.
    pub escape: char,
    /// Quotes stay in the result.
    pub raw_quotes: bool,
    /// Escape characters stay in the result.
    pub raw_escapes: bool,
    /// Quotes have no meaning.
    pub skip_quotes: bool,
    /// Variables that are not set stay as written.
    pub skip_unset: bool,
}

/// A word after its expansion.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Expanded {
    /// The whole text.
    pub text: String,
    /// The text's words: split at unquoted spaces, also those that came out of variables.
    pub words: Vec<String>,
    /// The variables that were found.
    pub matched: BTreeSet<String>,
    /// The variables that were not.
    pub unmatched: BTreeSet<String>,
}

impl Lexer {
    /// A lexer that removes quotes and escapes.
    #[must_use]
    pub const fn new(escape: char) -> Self {
        Self {
            escape,
            raw_quotes: false,
            raw_escapes: false,
            skip_quotes: false,
            skip_unset: false,
        }
    }

    /// Expands a text.
    ///
    /// # Errors
    /// When its syntax is wrong, a required variable is not set, or the result is too long.
    pub fn expand(&self, text: &str, env: &dyn Lookup) -> Result<Expanded, ExpandError> {
        let mut run = Run {
            lexer: *self,
            raw_escapes: self.raw_escapes,
            chars: text.chars().collect(),
            at: 0,
            depth: 0,
            env,
            matched: BTreeSet::new(),
            unmatched: BTreeSet::new(),
        };
        match run.until(None, self.raw_escapes) {
            Ok((text, words)) => Ok(Expanded {
                text,
                words,
                matched: run.matched,
                unmatched: run.unmatched,
            }),
            Err(problem) => Err(ExpandError {
                word: text.to_owned(),
                problem,
            }),
        }
    }

    /// Expands a text to a text.
    ///
    /// # Errors
    /// As [`Lexer::expand`].
    pub fn word(&self, text: &str, env: &dyn Lookup) -> Result<String, ExpandError> {
        self.expand(text, env).map(|e| e.text)
    }
}

/// The text so far, and its words.
#[derive(Default)]
struct Output {
    text: String,
    words: Vec<String>,
    word: String,
    in_word: bool,
}

impl Output {
    fn push_split(&mut self, c: char) {
        if !c.is_whitespace() {
            self.word.push(c);
            self.in_word = true;
        } else if self.in_word && !self.word.is_empty() {
            self.words.push(std::mem::take(&mut self.word));
            self.in_word = false;
        }
    }

    fn finish(mut self) -> (String, Vec<String>) {
        if !self.word.is_empty() {
            self.words.push(self.word);
        }
        (self.text, self.words)
    }
}

struct Run<'a> {
    lexer: Lexer,
    raw_escapes: bool,
    chars: Vec<char>,
    at: usize,
    depth: usize,
    env: &'a dyn Lookup,
    matched: BTreeSet<String>,
    unmatched: BTreeSet<String>,
}

impl Run<'_> {
    fn peek(&self) -> Option<char> {
        self.chars.get(self.at).copied()
    }

    fn next(&mut self) -> Option<char> {
        let c = self.peek()?;
        self.at += 1;
        Some(c)
    }

    /// Expands up to `stop`, which is taken, or to the end.
    fn until(&mut self, stop: Option<char>, raw: bool) -> Result<(String, Vec<String>), Problem> {
        if self.depth >= MAX_DEPTH {
            return Err(Problem::TooDeep);
        }
        let before = std::mem::replace(&mut self.raw_escapes, raw);
        self.depth += 1;
        let result = self.until_within(stop);
        self.depth -= 1;
        self.raw_escapes = before;
        result
    }

    fn until_within(&mut self, stop: Option<char>) -> Result<(String, Vec<String>), Problem> {
        let mut out = Output::default();
        while let Some(c) = self.peek() {
            if Some(c) == stop {
                self.at += 1;
                return Ok(out.finish());
            }
            match c {
                '$' => {
                    let value = self.dollar()?;
                    value.chars().for_each(|c| out.push_split(c));
                    out.text.push_str(&value);
                }
                '\'' | '"' if !self.lexer.skip_quotes => {
                    let value = if c == '"' {
                        self.double()?
                    } else {
                        self.single()?
                    };
                    out.word.push_str(&value);
                    out.in_word = true;
                    out.text.push_str(&value);
                }
                _ => self.plain(&mut out),
            }
            if out.text.len() > MAX_LENGTH {
                return Err(Problem::TooLong);
            }
        }
        match stop {
            Some(stop) => Err(Problem::Unended(stop)),
            None => Ok(out.finish()),
        }
    }

    /// A character outside quotes, with its escape.
    fn plain(&mut self, out: &mut Output) {
        let Some(c) = self.next() else { return };
        if c != self.lexer.escape {
            out.push_split(c);
            out.text.push(c);
            return;
        }
        if self.raw_escapes {
            out.word.push(c);
            out.in_word = true;
            out.text.push(c);
        }
        if let Some(c) = self.next() {
            out.word.push(c);
            out.in_word = true;
            out.text.push(c);
        }
    }

    fn single(&mut self) -> Result<String, Problem> {
        let mut out = String::new();
        self.at += 1;
        if self.lexer.raw_quotes {
            out.push('\'');
        }
        loop {
            match self.next().ok_or(Problem::Quote("single"))? {
                '\'' => break,
                c => out.push(c),
            }
        }
        if self.lexer.raw_quotes {
            out.push('\'');
        }
        Ok(out)
    }

    fn double(&mut self) -> Result<String, Problem> {
        let mut out = String::new();
        self.at += 1;
        if self.lexer.raw_quotes {
            out.push('"');
        }
        loop {
            match self.peek().ok_or(Problem::Quote("double"))? {
                '"' => break,
                '$' => {
                    let value = self.dollar()?;
                    out.push_str(&value);
                }
                c => {
                    self.at += 1;
                    self.in_double(c, &mut out);
                }
            }
            if out.len() > MAX_LENGTH {
                return Err(Problem::TooLong);
            }
        }
        self.at += 1;
        if self.lexer.raw_quotes {
            out.push('"');
        }
        Ok(out)
    }

    /// A character in double quotes: an escape takes away the meaning of quotes, dollars and itself.
    fn in_double(&mut self, c: char, out: &mut String) {
        if c != self.lexer.escape {
            out.push(c);
            return;
        }
        if self.raw_escapes {
            out.push(c);
        }
        match self.peek() {
            None => {}
            Some(n) if n == '"' || n == '$' || n == self.lexer.escape => {
                self.at += 1;
                out.push(n);
            }
            Some(_) => out.push(c),
        }
    }

    fn dollar(&mut self) -> Result<String, Problem> {
        self.at += 1;
        if self.peek() != Some('{') {
            let name = self.name();
            if name.is_empty() {
                return Ok("$".to_owned());
            }
            return Ok(match self.look_up(&name) {
                None if self.lexer.skip_unset => format!("${name}"),
                value => value.unwrap_or_default(),
            });
        }
        self.at += 1;
        match self.peek() {
            None => return Err(Problem::Brace),
            Some('{' | '}' | ':') => return Err(Problem::BadSubstitution),
            _ => {}
        }
        let name = self.name();
        match self.next() {
            Some('}') => Ok(match self.look_up(&name) {
                None if self.lexer.skip_unset => format!("${{{name}}}"),
                value => value.unwrap_or_default(),
            }),
            Some(':') => {
                let modifier = self.next();
                self.modified(&name, modifier, true)
            }
            Some('/') => self.replaced(&name),
            modifier @ Some('+' | '-' | '?' | '#' | '%') => self.modified(&name, modifier, false),
            Some(c) => Err(Problem::Modifier(c.to_string())),
            // the scanner's end of text is the character -1, which prints as U+FFFD
            None => Err(Problem::Modifier('\u{fffd}'.to_string())),
        }
    }

    /// `${name:-word}` and the like, behind the modifier.
    fn modified(
        &mut self,
        name: &str,
        modifier: Option<char>,
        empty_is_unset: bool,
    ) -> Result<String, Problem> {
        let raw = matches!(modifier, Some('#' | '%'));
        let word = match self.until(Some('}'), raw) {
            Ok((word, _)) => word,
            Err(e @ (Problem::TooDeep | Problem::TooLong)) => return Err(e),
            Err(_) if self.peek().is_none() => return Err(Problem::Brace),
            Err(e) => return Err(e),
        };
        let colon = if empty_is_unset { ":" } else { "" };
        let shown = modifier.unwrap_or('\u{fffd}');
        let value = self.look_up(name);
        if value.is_none() && self.lexer.skip_unset {
            return Ok(format!("${{{name}{colon}{shown}{word}}}"));
        }
        let usable = value
            .as_ref()
            .is_some_and(|v| !(empty_is_unset && v.is_empty()));
        match (shown, value) {
            ('-', Some(value)) if usable => Ok(value),
            ('-', _) => Ok(word),
            ('+', _) => Ok(if usable { word } else { String::new() }),
            ('?', Some(value)) if usable => Ok(value),
            ('?', value) => {
                let state = if value.is_none() { "unset" } else { "empty" };
                let message = if word.is_empty() {
                    format!("is not allowed to be {state}")
                } else {
                    word
                };
                Err(Problem::Required {
                    name: name.to_owned(),
                    message,
                })
            }
            ('#' | '%', value) => trimmed(shown, &word, &value.unwrap_or_default()),
            _ => Err(Problem::Modifier(format!("{colon}{shown}"))),
        }
    }

    /// `${name/pattern/word}`, behind the first slash.
    fn replaced(&mut self, name: &str) -> Result<String, Problem> {
        let all = self.peek() == Some('/');
        if all {
            self.at += 1;
        }
        let part = |run: &mut Self, stop, missing| match run.until(Some(stop), true) {
            Ok((text, _)) => Ok(text),
            Err(e @ (Problem::TooDeep | Problem::TooLong)) => Err(e),
            Err(_) if run.peek().is_none() => Err(missing),
            Err(e) => Err(e),
        };
        let pattern = part(self, '/', Problem::Slash)?;
        let with = part(self, '}', Problem::Brace)?;
        let value = self.look_up(name);
        if value.is_none() && self.lexer.skip_unset {
            return Ok(format!("${{{name}/{pattern}/{with}}}"));
        }
        let replaced = Pattern::new(&pattern)
            .and_then(|p| p.replace(&value.unwrap_or_default(), &with, all))
            .map_err(|reason| Problem::Pattern { pattern, reason })?;
        if replaced.len() > MAX_LENGTH {
            return Err(Problem::TooLong);
        }
        Ok(replaced)
    }

    /// A variable's name: letters, digits and `_`; only digits; or one special character.
    fn name(&mut self) -> String {
        let mut name = String::new();
        let first = self.peek();
        if first.is_some_and(char::is_numeric) {
            while let Some(c) = self.peek().filter(|c| c.is_numeric()) {
                name.push(c);
                self.at += 1;
            }
            return name;
        }
        if let Some(c @ ('@' | '*' | '#' | '?' | '-' | '$' | '!')) = first {
            self.at += 1;
            return c.to_string();
        }
        while let Some(c) = self.peek().filter(|c| c.is_alphanumeric() || *c == '_') {
            name.push(c);
            self.at += 1;
        }
        name
    }

    fn look_up(&mut self, name: &str) -> Option<String> {
        let found = self.env.get(name);
        let set = if found.is_some() {
            &mut self.matched
        } else {
            &mut self.unmatched
        };
        set.insert(name.to_owned());
        found.map(str::to_owned)
    }
}

/// `${name#word}`: a doubled modifier takes the longest match.
fn trimmed(modifier: char, word: &str, value: &str) -> Result<String, Problem> {
    let (pattern, reach) = match word.strip_prefix(modifier) {
        Some(rest) => (rest, Reach::Longest),
        None => (word, Reach::Shortest),
    };
    let compiled = Pattern::new(pattern);
    let result = compiled.and_then(|p| match modifier {
        '#' => p.trim_prefix(value, reach),
        _ => p.trim_suffix(value, reach),
    });
    result.map_err(|reason| Problem::Pattern {
        pattern: pattern.to_owned(),
        reason,
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::env::EnvList;

    fn env() -> EnvList {
        let mut env = EnvList::default();
        for (k, v) in [
            ("x", "val"),
            ("empty", ""),
            ("path", "/a/b.tar.gz"),
            ("sp", "a b  c"),
            ("q", "o'x\"y"),
        ] {
            env.set(k, v);
        }
        env
    }

    #[test]
    fn expands() {
        for (text, shown) in [
            ("$x", "val"),
            ("${x}", "val"),
            ("a$x-b", "aval-b"),
            ("$nope", ""),
            ("${nope:-d}", "d"),
            ("${empty:-d}", "d"),
            ("${empty-d}", ""),
            ("${nope-d}", "d"),
            ("${x:+y}", "y"),
            ("${empty:+y}", ""),
            ("${empty+y}", "y"),
            ("${nope+y}", ""),
            ("${x:?m}", "val"),
            ("${empty?m}", ""),
            ("\\$x", "$x"),
            ("'$x'", "$x"),
            ("\"$x\"", "val"),
            ("\"\\$x\"", "$x"),
            ("\"\\n\"", "\\n"),
            ("a\\ b", "a b"),
            ("$", "$"),
            ("$/", "$/"),
            ("${x:-'a b'}", "val"),
            ("${nope:-'a b'}", "a b"),
            ("${nope:-${x}}", "val"),
            ("${nope:-${nope2:-z}}", "z"),
            ("${path#*/}", "a/b.tar.gz"),
            ("${path##*/}", "b.tar.gz"),
            ("${path%.*}", "/a/b.tar"),
            ("${path%%.*}", "/a/b"),
            ("${path/a/z}", "/z/b.tar.gz"),
            ("${path//\\//_}", "_a_b.tar.gz"),
            ("${path//a/}", "//b.tr.gz"),
            ("$1x", "x"),
            ("$@", ""),
            ("é$x", "éval"),
            ("\\\\", "\\"),
            ("a\\", "a"),
            ("$q", "o'x\"y"),
        ] {
            assert_eq!(
                Lexer::new('\\').word(text, &env()).unwrap(),
                shown,
                "{text}"
            );
        }
        assert_eq!(
            Lexer::new('`').word("`$x \\$x", &env()).unwrap(),
            "$x \\val"
        );
    }

    #[test]
    fn splits_words() {
        let words = |t: &str| Lexer::new('\\').expand(t, &env()).unwrap().words;
        assert_eq!(words("$sp d"), ["a", "b", "c", "d"]);
        assert_eq!(words("'$x y' \"$sp\""), ["$x y", "a b  c"]);
        assert_eq!(words("  a\\ b  "), ["a b"]);
        assert!(words(" '' ").is_empty());
    }

    #[test]
    fn names_what_was_found_and_what_not() {
        let e = Lexer::new('\\').expand("$x ${a} ${b:-$c}", &env()).unwrap();
        assert_eq!(e.matched.iter().collect::<Vec<_>>(), ["x"]);
        assert_eq!(e.unmatched.iter().collect::<Vec<_>>(), ["a", "b", "c"]);
    }

    #[test]
    fn says_what_is_wrong() {
        for (text, message) in [
            ("${x", "unsupported modifier (\u{fffd}) in substitution"),
            ("${", "syntax error: missing '}'"),
            ("${}", "syntax error: bad substitution"),
            ("${:x}", "syntax error: bad substitution"),
            ("${b:?}", "b: is not allowed to be unset"),
            ("${empty:?}", "empty: is not allowed to be empty"),
            ("${b?my message}", "b: my message"),
            ("${x:=y}", "unsupported modifier (:=) in substitution"),
            ("${x^y}", "unsupported modifier (^) in substitution"),
            (
                "\"x",
                "unexpected end of statement while looking for matching double-quote",
            ),
            (
                "'x",
                "unexpected end of statement while looking for matching single-quote",
            ),
            ("${x:-y", "syntax error: missing '}'"),
            ("${x/a", "syntax error: missing '/' in ${}"),
            ("${x/a/b", "syntax error: missing '}'"),
            (
                "${x#\\q}",
                "invalid pattern (\\q) in substitution: invalid escape '\\q'",
            ),
        ] {
            let error = Lexer::new('\\')
                .expand(text, &env())
                .unwrap_err()
                .to_string();
            assert_eq!(
                error,
                format!("failed to process {}: {message}", quote(text))
            );
        }
    }

    #[test]
    fn keeps_what_is_not_set() {
        let mut lexer = Lexer::new('\\');
        lexer.skip_unset = true;
        lexer.raw_quotes = true;
        for text in ["$a ${a} ${a:-b} ${a/b/c}", "'x' \"y\"", "$x"] {
            let shown = lexer.word(text, &crate::env::Nothing).unwrap();
            assert_eq!(shown, text);
        }
    }

    #[test]
    fn bounds_growth_and_depth() {
        let mut env = EnvList::default();
        env.set("a", "x".repeat(1 << 19));
        let error = Lexer::new('\\').expand("$a$a$a", &env).unwrap_err();
        assert_eq!(error.problem, Problem::TooLong);
        let deep = "${b:-".repeat(5000) + &"}".repeat(5000);
        assert_eq!(
            Lexer::new('\\').expand(&deep, &env).unwrap_err().problem,
            Problem::TooDeep
        );
    }
}
