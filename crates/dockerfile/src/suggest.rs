//! "Did you mean": the nearest of the words that would have been right.

/// Words further away than this are not worth a guess.
const REACH: usize = 3;

/// The option that differs from `word` in fewer than three letters, the first of the nearest.
///
/// An option that equals the word says that the word was not what went wrong: nothing is suggested.
pub(crate) fn nearest<'a>(
    word: &str,
    options: impl IntoIterator<Item = &'a str>,
) -> Option<&'a str> {
    let mut best = None;
    let mut reach = REACH;
    for option in options {
        if option == word {
            return None;
        }
        let far = distance(word, option, reach);
        if far < reach {
            reach = far;
            best = Some(option);
        }
    }
    best
}

/// As [`nearest`], whatever the letters' case; the answer has the word's own case.
pub(crate) fn nearest_any_case(word: &str, options: &[&str]) -> Option<String> {
    let lower = word.to_lowercase();
    let options: Vec<String> = options.iter().map(|o| o.to_lowercase()).collect();
    let found = nearest(&lower, options.iter().map(String::as_str))?;
    Some(if word == lower {
        found.to_owned()
    } else if word == word.to_uppercase() {
        found.to_uppercase()
    } else {
        found.to_owned()
    })
}

/// The text that follows a message: empty, or ` (did you mean X?)`.
pub(crate) fn suffix(found: Option<impl AsRef<str>>) -> String {
    found.map_or_else(String::new, |f| format!(" (did you mean {}?)", f.as_ref()))
}

/// Levenshtein's distance, or `limit` where it is at least that.
fn distance(a: &str, b: &str, limit: usize) -> usize {
    let (a, b): (Vec<char>, Vec<char>) = (a.chars().collect(), b.chars().collect());
    if a.len().abs_diff(b.len()) >= limit {
        return limit;
    }
    let mut row: Vec<usize> = (0..=b.len()).collect();
    for (i, x) in a.iter().enumerate() {
        let mut corner = row[0];
        row[0] = i + 1;
        for (j, y) in b.iter().enumerate() {
            let change = corner + usize::from(x != y);
            corner = row[j + 1];
            row[j + 1] = change.min(corner + 1).min(row[j] + 1);
        }
        if row.iter().all(|d| *d >= limit) {
            return limit;
        }
    }
    row[b.len()].min(limit)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn suggests_what_is_near() {
        assert_eq!(nearest("frm", ["from", "chown"]), Some("from"));
        assert_eq!(nearest("zzzzz", ["from", "chown"]), None);
        assert_eq!(nearest("from", ["fron", "from"]), None);
        assert_eq!(
            nearest_any_case("FRM", &["FROM", "RUN"]).as_deref(),
            Some("FROM")
        );
        assert_eq!(nearest_any_case("cpoy", &["COPY"]).as_deref(), Some("copy"));
        assert_eq!(distance("kitten", "sitting", 9), 3);
        assert_eq!(distance("", "abc", 9), 3);
    }
}
