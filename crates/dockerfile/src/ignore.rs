//! `.dockerignore`: which paths of a context stay where they are.
//!
//! The rules are those of moby's `patternmatcher`: the last pattern that matches a path or one of
//! its parents wins, `!` makes an exception, `**` stands for any number of folders.

use crate::gofmt::clean_path;

mod glob;

pub use glob::{GlobError, path_match};

use glob::Glob;

/// A line of an ignore file may be this long.
const MAX_LINE: usize = 65_535;

/// Why patterns cannot be used.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum IgnoreError {
    /// An exception of nothing.
    #[error("illegal exclusion pattern: \"!\"")]
    EmptyException,
    /// A pattern is malformed.
    #[error("{pattern:?}: {error}")]
    Pattern {
        /// The pattern.
        pattern: String,
        /// What is wrong with it.
        error: GlobError,
    },
    /// A line is too long.
    #[error("line {0} is longer than {MAX_LINE} bytes")]
    LineTooLong(usize),
}

/// Reads an ignore file: a pattern a line, `#` at a line's start for comments.
///
/// # Errors
/// When a line is too long.
pub fn read(data: &[u8]) -> Result<Vec<String>, IgnoreError> {
    let text = String::from_utf8_lossy(data);
    let text = text.strip_prefix('\u{feff}').unwrap_or(&text);
    let mut patterns = Vec::new();
    for (number, line) in text.lines().enumerate() {
        if line.len() > MAX_LINE {
            return Err(IgnoreError::LineTooLong(number + 1));
        }
        let pattern = line.trim();
        if line.starts_with('#') || pattern.is_empty() {
            continue;
        }
        let (sign, pattern) = match pattern.strip_prefix('!') {
            Some(rest) => ("!", rest.trim()),
            None => ("", pattern),
        };
        let clean = if pattern.is_empty() {
            String::new()
        } else {
            clean_path(pattern)
        };
        let relative = clean
            .strip_prefix('/')
            .filter(|r| !r.is_empty())
            .unwrap_or(&clean);
        patterns.push(format!("{sign}{relative}"));
    }
    Ok(patterns)
}

#[derive(Debug)]
struct Pattern {
    exception: bool,
    glob: Glob,
}

/// Patterns ready to be used.
#[derive(Debug, Default)]
pub struct Matcher {
    patterns: Vec<Pattern>,
    exceptions: bool,
}

/// What the patterns said of a folder, for the paths in it.
#[derive(Clone, Debug, Default)]
pub struct Verdict {
    /// Whether the path itself is matched, which is to be left out.
    pub matched: bool,
    by: Vec<bool>,
}

impl Matcher {
    /// Compiles patterns.
    ///
    /// # Errors
    /// When one is malformed.
    pub fn new<P: AsRef<str>>(patterns: &[P]) -> Result<Self, IgnoreError> {
        let mut matcher = Self::default();
        for text in patterns {
            let text = text.as_ref().trim();
            if text.is_empty() {
                continue;
            }
            let clean = clean_path(text);
            let (exception, pattern) = match clean.strip_prefix('!') {
                Some("") => return Err(IgnoreError::EmptyException),
                Some(rest) => (true, rest),
                None => (false, clean.as_str()),
            };
            let glob = Glob::new(pattern).map_err(|error| IgnoreError::Pattern {
                pattern: pattern.to_owned(),
                error,
            })?;
            matcher.exceptions |= exception;
            matcher.patterns.push(Pattern { exception, glob });
        }
        Ok(matcher)
    }

    /// Whether there are no patterns.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.patterns.is_empty()
    }

    /// Whether there are exceptions among the patterns.
    #[must_use]
    pub fn has_exceptions(&self) -> bool {
        self.exceptions
    }

    /// Whether a path is matched, by itself or through one of its parents.
    #[must_use]
    pub fn matches(&self, path: &str) -> bool {
        let mut matched = false;
        for pattern in self.patterns.iter().filter(|_| path != ".") {
            // a pattern can only change what was decided before
            if pattern.exception == matched && pattern.glob.matches_or_parent(path) {
                matched = !pattern.exception;
            }
        }
        matched
    }

    /// What the patterns say of a path in a folder of which they said `parent`.
    ///
    /// A walk that goes down with this decides each path with one look at each pattern. Where
    /// patterns contradict each other it decides as `BuildKit`'s walk does, which remembers of a
    /// folder only those patterns that were asked.
    #[must_use]
    pub fn below(&self, path: &str, parent: Option<&Verdict>) -> Verdict {
        let mut verdict = Verdict {
            matched: false,
            by: vec![false; self.patterns.len()],
        };
        for (at, pattern) in self.patterns.iter().enumerate() {
            let inherited = parent.is_some_and(|p| p.by.get(at).copied().unwrap_or(false));
            let matches = inherited
                || (pattern.exception == verdict.matched
                    && match parent {
                        Some(_) => pattern.glob.matches(path),
                        None => pattern.glob.matches_or_parent(path),
                    });
            verdict.by[at] = matches;
            if matches {
                verdict.matched = !pattern.exception;
            }
        }
        verdict
    }

    /// Whether something in a folder may be matched.
    #[must_use]
    pub fn may_match_below(&self, folder: &str) -> bool {
        let mut wanted = self.patterns.iter().filter(|p| !p.exception);
        wanted.any(|p| p.glob.may_match_below(folder))
    }

    /// Whether a walk need not enter a folder: it is matched, and nothing in it can be an exception.
    #[must_use]
    pub fn can_skip(&self, folder: &str, verdict: &Verdict) -> bool {
        verdict.matched
            && !self
                .patterns
                .iter()
                .any(|p| p.exception && p.glob.may_match_below(folder))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(patterns: &[&str], path: &str, want: bool) {
        let matcher = Matcher::new(patterns).unwrap();
        assert_eq!(matcher.matches(path), want, "{patterns:?} {path}");
        // the walk says the same where patterns do not contradict each other
        let mut parent: Option<Verdict> = None;
        let ends = path.match_indices('/').map(|(i, _)| i).chain([path.len()]);
        for end in ends {
            parent = Some(matcher.below(&path[..end], parent.as_ref()));
        }
        assert_eq!(parent.unwrap().matched, want, "walk of {patterns:?} {path}");
    }

    #[test]
    fn matches_as_docker() {
        for (pattern, path, want) in [
            ("**", "file", true),
            ("**", "dir/file", true),
            ("**/", "file", true),
            ("**/**", "dir/file", true),
            ("dir/**", "dir/file", true),
            ("dir/**", "dir/dir2/file", true),
            ("dir/**", "dir", false),
            ("dir/**", "dirx/f", false),
            ("**/dir", "dir", true),
            ("**/dir", "dir/file", true),
            ("**/dir", "dir2/dir/file", true),
            ("**/dir", "dir2/file", false),
            ("**/dir2/*", "dir/dir2/file", true),
            ("**/dir2/**", "dir/dir2/dir2/file", true),
            ("**file", "file", true),
            ("**file", "dir/file", true),
            ("**file", "dir/fileb", false),
            ("**/file", "dir/dir/file", true),
            ("**/file*", "dir/dir/file.txt", true),
            ("**/file*txt", "dir/dir/file.txt", true),
            ("**/file*.txt*", "dir/dir/file.txt", true),
            ("**/**/*.txt", "dir/dir/file.txt", true),
            ("**/**/*.txt2", "dir/dir/file.txt", false),
            ("**/*.txt", "file.txt", true),
            ("a**/*.txt", "a/file.txt", true),
            ("a**/*.txt", "a/dir/dir/file.txt", true),
            ("a/*.txt", "a/dir/file.txt", false),
            ("a/*.txt", "a/file.txt", true),
            ("a[b-d]e", "ae", false),
            ("a[b-d]e", "ace", true),
            ("a[b-d]e", "aae", false),
            ("a[^b-d]e", "aze", true),
            (".*", ".foo", true),
            (".*", "foo", false),
            ("abc.def", "abcdef", false),
            ("abc.def", "abcZdef", false),
            ("abc?def", "abcZdef", true),
            ("abc?def", "abc/def", false),
            ("a\\*b", "a*b", true),
            ("a\\*b", "aXb", false),
            ("**/foo/bar", "foo/bar", true),
            ("**/foo/bar", "dir/foo/bar", true),
            ("abc/**", "abc/def/ghi", true),
            ("**/.foo", ".foo", true),
            ("**/.foo", "bar.foo", false),
            ("./bar.*", "bar.foo", true),
            ("a(b)c/def", "a(b)c/def", true),
            ("a(b)c/def", "a(b)c/xyz", false),
            ("a.|)$(}+{bc", "a.|)$(}+{bc", true),
            (
                "dist/proxy.py-2.4.0rc3.dev36+g08acad9-py3-none-any.whl",
                "dist/proxy.py-2.4.0rc3.dev36+g08acad9-py3-none-any.whl",
                true,
            ),
            ("é*", "été", true),
            ("docs", "docs/a/b", true),
            ("docs/", "docs/a", true),
            ("*/b", "a/b/c", true),
            ("a", "ab", false),
            ("*", "a/b/c", true),
        ] {
            check(&[pattern], path, want);
        }
    }

    #[test]
    fn the_last_match_wins() {
        for (patterns, path, want) in [
            (&["*", "!a"][..], "a", false),
            (&["*", "!a"], "a/b", false),
            (&["*", "!a"], "c", true),
            (&["a", "!a/b"], "a/b", false),
            (&["a", "!a/b"], "a/b/c", false),
            (&["a", "!a/b"], "a/c", true),
            (&["!a", "a"], "a", true),
            (&["**", "!**/*.go"], "x/y.go", false),
            (&["**", "!**/*.go"], "x/y.c", true),
            (
                &["*.md", "!README*.md", "README-secret.md"],
                "README-secret.md",
                true,
            ),
            (
                &["*.md", "!README*.md", "README-secret.md"],
                "README.md",
                false,
            ),
            (
                &["util/docker/web", "!util/docker/web/foo"],
                "util/docker/web/foo",
                false,
            ),
            (&["", " "], "a", false),
        ] {
            check(patterns, path, want);
        }
    }

    #[test]
    fn contradictions_are_decided_as_buildkit_walks() {
        let matcher = Matcher::new(&["a", "!a/b", "a"]).unwrap();
        assert!(matcher.matches("a/b"));
        let a = matcher.below("a", None);
        assert!(!matcher.below("a/b", Some(&a)).matched);
    }

    #[test]
    fn skips_folders_without_exceptions() {
        for (patterns, folder, skip) in [
            (&["node_modules"][..], "node_modules", true),
            (&["x"], "y", false),
            (&["a", "!a/b/c"], "a", false),
            (&["a", "!a/b/c"], "a/b", false),
            (&["a", "!a/b/c"], "a/d", true),
            (&["a", "!**/*.go"], "a", false),
            (&["a", "!b/**"], "a", true),
            (&["a", "!?/x"], "a", false),
            (&["aa", "!?/x"], "aa", true),
            (&["**", "!keep"], "other", true),
            (&["**", "!k*/x"], "kk", false),
        ] {
            let matcher = Matcher::new(patterns).unwrap();
            let verdict = matcher.below(folder, None);
            assert_eq!(
                matcher.can_skip(folder, &verdict),
                skip,
                "{patterns:?} {folder}"
            );
        }
    }

    #[test]
    fn reads_files() {
        let text = "\u{feff}test1\n/test2\n/a/file/here\n\nlastfile\n# this is a comment\n! /inverted/abs/path\n!\n! \n  x/../y/ \n #not\r\n/\n";
        let want = [
            "test1",
            "test2",
            "a/file/here",
            "lastfile",
            "!inverted/abs/path",
            "!",
            "!",
            "y",
            "#not",
            "/",
        ];
        assert_eq!(read(text.as_bytes()).unwrap(), want);
        assert_eq!(
            read("x".repeat(70_000).as_bytes()),
            Err(IgnoreError::LineTooLong(1))
        );
    }

    #[test]
    fn refuses_malformed_patterns() {
        for bad in ["[", "a[", "[]", "[]a]", "[^]", "[a-]", "[-x]", "a\\", "[\\"] {
            assert!(Matcher::new(&[bad]).is_err(), "{bad}");
        }
        assert_eq!(
            Matcher::new(&["!"]).unwrap_err(),
            IgnoreError::EmptyException
        );
    }
}
