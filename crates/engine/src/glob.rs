//! Patterns as Go's `path.Match` has them: `*`, `?` and `[a-z]`, none of which matches a slash.

use crate::error::{Error, Result};

/// Longer patterns are no image names, and each star multiplies the work.
const LONGEST: usize = 1024;

/// A pattern that is well-formed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Pattern {
    parts: Vec<Part>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum Part {
    Star,
    Any,
    Char(char),
    /// Whether the ranges are those that do not match.
    Class(bool, Vec<(char, char)>),
}

impl Pattern {
    /// Reads a pattern.
    pub(crate) fn new(text: &str) -> Result<Self> {
        let malformed = || Error::invalid(format!("syntax error in pattern: {text:?}"));
        if text.len() > LONGEST {
            return Err(malformed());
        }
        let mut parts = Vec::new();
        let mut rest = text.chars();
        while let Some(next) = rest.next() {
            let part = match next {
                '*' if parts.last() == Some(&Part::Star) => continue,
                '*' => Part::Star,
                '?' => Part::Any,
                '\\' => Part::Char(rest.next().ok_or_else(malformed)?),
                '[' => class(&mut rest).ok_or_else(malformed)?,
                other => Part::Char(other),
            };
            parts.push(part);
        }
        Ok(Self { parts })
    }

    /// Whether the whole text matches.
    pub(crate) fn matches(&self, text: &str) -> bool {
        let text: Vec<char> = text.chars().collect();
        // places in the pattern that the text so far leads to: time is pattern by text, whatever the stars
        let mut places = self.behind_stars(vec![true]);
        for character in text {
            let mut next = vec![false; self.parts.len() + 1];
            for (place, part) in self.parts.iter().enumerate() {
                if !places.get(place).copied().unwrap_or(false) || !part.takes(character) {
                    continue;
                }
                let to = if *part == Part::Star {
                    place
                } else {
                    place + 1
                };
                next[to] = true;
            }
            places = self.behind_stars(next);
        }
        places.last().copied().unwrap_or(false)
    }

    /// A star may also take nothing.
    fn behind_stars(&self, mut places: Vec<bool>) -> Vec<bool> {
        places.resize(self.parts.len() + 1, false);
        for (place, part) in self.parts.iter().enumerate() {
            if places[place] && *part == Part::Star {
                places[place + 1] = true;
            }
        }
        places
    }
}

impl Part {
    fn takes(&self, character: char) -> bool {
        match self {
            Self::Star | Self::Any => character != '/',
            Self::Char(own) => *own == character,
            Self::Class(not, ranges) => {
                let inside = ranges
                    .iter()
                    .any(|(low, high)| (*low..=*high).contains(&character));
                inside != *not && character != '/'
            }
        }
    }
}

/// Reads `^a-z]`.
fn class(rest: &mut std::str::Chars<'_>) -> Option<Part> {
    let not = rest.as_str().starts_with('^');
    if not {
        rest.next();
    }
    let mut ranges = Vec::new();
    while !rest.as_str().starts_with(']') || ranges.is_empty() {
        let low = bound(rest)?;
        let mut high = low;
        if rest.as_str().starts_with('-') {
            rest.next();
            high = bound(rest)?;
        }
        ranges.push((low, high));
    }
    rest.next();
    Some(Part::Class(not, ranges))
}

fn bound(rest: &mut std::str::Chars<'_>) -> Option<char> {
    match rest.next()? {
        '-' | ']' => None,
        '\\' => rest.next(),
        other => Some(other),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn patterns_match_as_paths() {
        for (pattern, text, expect) in [
            ("busybox", "busybox", true),
            ("busy*", "busybox", true),
            ("*", "a/b", false),
            ("*/*", "a/b", true),
            ("bus?box", "busybox", true),
            ("busybox:*", "busybox:latest", true),
            ("x*", "busybox", false),
            ("**a**", "bab", true),
            ("[a-c]x", "bx", true),
            ("[^a-c]x", "bx", false),
            ("[^a]b", "/b", false),
            ("a\\*", "a*", true),
            ("a\\*", "ab", false),
            ("", "", true),
            (
                "*a*a*a*a*a*a*a*a*a*a*b",
                "aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa",
                false,
            ),
        ] {
            let found = Pattern::new(pattern).unwrap().matches(text);
            assert_eq!(found, expect, "{pattern} {text}");
        }
    }

    #[test]
    fn malformed_patterns_are_refused() {
        for pattern in ["[", "[a", "[]", "[]a]", "[a-]", "[-a]", "a\\", "tr/[a"] {
            let error = Pattern::new(pattern).unwrap_err();
            let expect = "syntax error in pattern";
            assert!(error.message().starts_with(expect), "{pattern}");
        }
    }
}
