//! Patterns of repositories: `*` stands for any part of a name between slashes, `**` for any part.

/// Whether a name fits a pattern.
pub(crate) fn fits(pattern: &str, name: &str) -> bool {
    matches(pattern.as_bytes(), name.as_bytes())
}

fn matches(pattern: &[u8], name: &[u8]) -> bool {
    let (rest, end) = match pattern {
        [] => return name.is_empty(),
        [b'*', b'*', rest @ ..] => (rest, name.len()),
        [b'*', rest @ ..] => {
            let slash = name.iter().position(|byte| *byte == b'/');
            (rest, slash.unwrap_or(name.len()))
        }
        [one, rest @ ..] => {
            let tail = name.split_first().filter(|(first, _)| *first == one);
            return tail.is_some_and(|(_, tail)| matches(rest, tail));
        }
    };
    (0..=end).any(|at| name.get(at..).is_some_and(|tail| matches(rest, tail)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn patterns() {
        for (pattern, name, expect) in [
            ("a/b", "a/b", true),
            ("a/b", "a/bc", false),
            ("*", "a", true),
            ("*", "a/b", false),
            ("**", "a/b/c", true),
            ("team/*", "team/x", true),
            ("team/*", "team/x/y", false),
            ("team/**", "team/x/y", true),
            ("team/**", "teams/x", false),
            ("*/app", "x/app", true),
            ("a*c", "abc", true),
            ("a*c", "a/c", false),
            ("**/c", "a/b/c", true),
            ("", "a", false),
        ] {
            assert_eq!(fits(pattern, name), expect, "{pattern} {name}");
        }
    }
}
