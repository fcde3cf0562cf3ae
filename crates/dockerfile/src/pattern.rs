//! Shell patterns of `${name#pattern}` and its kin: `*` and `?`, without brackets.

/// What a match may cost, in steps of a state over a character; more is refused, not waited for.
const BUDGET: usize = 1 << 26;

/// Why a pattern cannot be applied.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum PatternError {
    /// A backslash stands before a character that needs none.
    #[error("invalid escape '\\{0}'")]
    Escape(char),
    /// Pattern and value together are too long.
    #[error("pattern and value are too long")]
    TooLong,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Token {
    Star,
    Any,
    Literal(char),
}

/// Whether a star takes as little or as much as it can.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Reach {
    Shortest,
    Longest,
}

/// A compiled pattern.
#[derive(Debug)]
pub(crate) struct Pattern {
    tokens: Vec<Token>,
}

impl Pattern {
    pub(crate) fn new(text: &str) -> Result<Self, PatternError> {
        let mut tokens = Vec::new();
        let mut chars = text.chars().peekable();
        while let Some(c) = chars.next() {
            tokens.push(match c {
                '*' => Token::Star,
                '?' => Token::Any,
                // `}` and `/` are escaped for the substitution's sake, not for the pattern's
                '\\' if matches!(chars.peek(), Some('}' | '/')) => continue,
                '\\' => match chars.next() {
                    Some(c @ ('*' | '?' | '\\')) => Token::Literal(c),
                    Some(c) => return Err(PatternError::Escape(c)),
                    None => return Err(PatternError::Escape('\u{fffd}')),
                },
                c => Token::Literal(c),
            });
        }
        tokens.dedup_by(|a, b| *a == Token::Star && *b == Token::Star);
        Ok(Self { tokens })
    }

    /// Removes what matches at the value's start.
    pub(crate) fn trim_prefix(&self, value: &str, reach: Reach) -> Result<String, PatternError> {
        let chars: Vec<char> = value.chars().collect();
        let mut budget = BUDGET;
        let end = longest(&self.tokens, &chars, reach, &mut budget)?.unwrap_or(0);
        Ok(chars[end..].iter().collect())
    }

    /// Removes what matches at the value's end.
    pub(crate) fn trim_suffix(&self, value: &str, reach: Reach) -> Result<String, PatternError> {
        let chars: Vec<char> = value.chars().rev().collect();
        let tokens: Vec<Token> = self.tokens.iter().rev().copied().collect();
        let mut budget = BUDGET;
        let end = longest(&tokens, &chars, reach, &mut budget)?.unwrap_or(0);
        Ok(chars[end..].iter().rev().collect())
    }

    /// Replaces the first match, or every one.
    pub(crate) fn replace(
        &self,
        value: &str,
        with: &str,
        all: bool,
    ) -> Result<String, PatternError> {
        let chars: Vec<char> = value.chars().collect();
        let mut out = String::new();
        let mut budget = BUDGET;
        let (mut at, mut last_end) = (0, None);
        while at <= chars.len() {
            match longest(&self.tokens, &chars[at..], Reach::Longest, &mut budget)? {
                // an empty match right behind another match counts for nothing
                Some(length) if length > 0 || last_end != Some(at) => {
                    out.push_str(with);
                    last_end = Some(at + length);
                    if !all {
                        out.extend(&chars[at + length..]);
                        return Ok(out);
                    }
                    if length > 0 {
                        at += length;
                        continue;
                    }
                }
                _ => {}
            }
            out.extend(chars.get(at));
            at += 1;
        }
        Ok(out)
    }
}

/// Where a match that begins at the value's start ends.
fn longest(
    tokens: &[Token],
    value: &[char],
    reach: Reach,
    budget: &mut usize,
) -> Result<Option<usize>, PatternError> {
    // the positions in the pattern that are reached so far
    let mut states = vec![false; tokens.len() + 1];
    states[0] = true;
    skip_stars(tokens, &mut states);
    let mut found = None;
    for (i, c) in value.iter().map(Some).chain([None]).enumerate() {
        if states[tokens.len()] {
            found = Some(i);
            if reach == Reach::Shortest {
                return Ok(found);
            }
        }
        let Some(c) = c else { break };
        *budget = budget
            .checked_sub(states.len())
            .ok_or(PatternError::TooLong)?;
        states = step(tokens, &states, *c);
        if !states.contains(&true) {
            break;
        }
    }
    Ok(found)
}

fn step(tokens: &[Token], states: &[bool], c: char) -> Vec<bool> {
    let mut next = vec![false; states.len()];
    for (at, token) in tokens.iter().enumerate().filter(|(at, _)| states[*at]) {
        match token {
            // as in a regular expression, a line's end is matched by itself alone
            Token::Star if c != '\n' => next[at] = true,
            Token::Any if c != '\n' => next[at + 1] = true,
            Token::Literal(l) if *l == c => next[at + 1] = true,
            _ => {}
        }
    }
    skip_stars(tokens, &mut next);
    next
}

fn skip_stars(tokens: &[Token], states: &mut [bool]) {
    for (at, token) in tokens.iter().enumerate() {
        if states[at] && *token == Token::Star {
            states[at + 1] = true;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn prefix(pattern: &str, value: &str, reach: Reach) -> String {
        Pattern::new(pattern)
            .unwrap()
            .trim_prefix(value, reach)
            .unwrap()
    }

    fn suffix(pattern: &str, value: &str, reach: Reach) -> String {
        Pattern::new(pattern)
            .unwrap()
            .trim_suffix(value, reach)
            .unwrap()
    }

    fn replaced(pattern: &str, value: &str, all: bool) -> String {
        Pattern::new(pattern)
            .unwrap()
            .replace(value, "-", all)
            .unwrap()
    }

    #[test]
    fn trims() {
        use Reach::{Longest, Shortest};
        for (pattern, value, short, long) in [
            ("a*b", "axbxb", "xb", ""),
            ("*", "abc", "abc", ""),
            ("?", "abc", "bc", "bc"),
            ("x", "abc", "abc", "abc"),
            ("*/", "a/b/c", "b/c", "c"),
            ("\\*", "*a", "a", "a"),
            ("", "a", "a", "a"),
        ] {
            assert_eq!(prefix(pattern, value, Shortest), short, "{pattern}");
            assert_eq!(prefix(pattern, value, Longest), long, "{pattern}");
        }
        assert_eq!(suffix("/*", "a/b/c", Shortest), "a/b");
        assert_eq!(suffix("/*", "a/b/c", Longest), "a");
        assert_eq!(suffix("\\?", "why?", Shortest), "why");
        assert_eq!(Pattern::new("\\x").unwrap_err(), PatternError::Escape('x'));
    }

    #[test]
    fn replaces() {
        assert_eq!(replaced("o", "foo", false), "f-o");
        assert_eq!(replaced("o", "foo", true), "f--");
        assert_eq!(replaced("o*", "foo bar", true), "f-");
        assert_eq!(replaced("\\/", "a/b/c", true), "a-b-c");
        assert_eq!(replaced("", "ab", true), "-a-b-");
    }

    #[test]
    fn refuses_what_takes_too_long() {
        let pattern = Pattern::new(&"*a".repeat(20_000)).unwrap();
        let value = "a".repeat(100_000);
        assert_eq!(
            pattern.trim_prefix(&value, Reach::Longest),
            Err(PatternError::TooLong)
        );
    }
}
