//! Excerpts of a Dockerfile, with marks at the lines that are meant.

use std::fmt::Write as _;

use crate::span::Span;

const RULE: &str = "--------------------\n";

/// The lines around some places, with their numbers and `>>>` at those that are meant.
///
/// Empty where the places lie outside the file.
#[must_use]
pub fn excerpt(filename: &str, source: &str, spans: &[Span]) -> String {
    let lines: Vec<&str> = source.split('\n').collect();
    let count = u32::try_from(lines.len()).unwrap_or(u32::MAX);
    let (Some(first), Some(last)) = (
        spans.iter().map(|s| s.start).min(),
        spans.iter().map(|s| s.end).max(),
    ) else {
        return String::new();
    };
    if first < 1 || first > count {
        return String::new();
    }
    let (start, end) = widen(first, last.min(count), count);
    let mut out = format!("{filename}:{first}\n{RULE}");
    for (number, line) in (start..=end).zip(&lines[(start - 1) as usize..]) {
        let mark = if spans.iter().any(|s| s.contains(number)) {
            ">>>"
        } else {
            "   "
        };
        // writing to a string does not fail
        let _ = writeln!(out, " {number:3} | {mark} {line}");
    }
    out.push_str(RULE);
    out
}

/// Adds lines before and after: up to two for several lines, up to four for a single one.
fn widen(mut start: u32, mut end: u32, count: u32) -> (u32, u32) {
    let pad = if start == end { 4 } else { 2 };
    let mut added = 0;
    while added < pad {
        if start > 1 {
            start -= 1;
            added += 1;
        }
        if end != count {
            end += 1;
            added += 1;
        }
        added += 1;
    }
    (start, end)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn marks_lines() {
        let text = "FROM scratch\nfoo bar\n";
        let want = "D:2\n--------------------\n   1 |     FROM scratch\n   2 | >>> foo bar\n   3 |     \n--------------------\n";
        assert_eq!(excerpt("D", text, &[Span::line(2)]), want);
        let many = (1..=20).map(|i| format!("L{i}\n")).collect::<String>();
        let shown = excerpt("D", &many, &[Span::new(10, 11)]);
        assert!(shown.contains("   9 |     L9\n  10 | >>> L10\n  11 | >>> L11\n  12 |     L12\n"));
        assert!(!shown.contains("L8") && !shown.contains("L13"));
        assert_eq!(excerpt("D", text, &[Span::line(9)]), "");
        assert_eq!(excerpt("D", text, &[]), "");
    }
}
