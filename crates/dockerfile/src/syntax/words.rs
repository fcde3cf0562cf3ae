//! Words of an instruction's line.

/// Whether a character separates words of a line.
pub(crate) const fn is_blank(c: char) -> bool {
    matches!(c, '\t' | '\u{b}' | '\u{c}' | '\r' | ' ')
}

/// The words between blanks, quotes or not.
pub(super) fn blank_separated(rest: &str) -> Vec<String> {
    rest.split(is_blank)
        .filter(|w| !w.is_empty())
        .map(str::to_owned)
        .collect()
}

/// A line's first word and the rest of it.
pub(super) fn first_word(line: &str) -> (&str, &str) {
    line.split_once(is_blank)
        .map_or((line, ""), |(word, rest)| {
            (word, rest.trim_start_matches(is_blank))
        })
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Phase {
    Spaces,
    Word,
    Quote(char),
}

/// The words of a line where quotes keep spaces together; quotes and escapes stay in them.
pub(super) fn quoted(rest: &str, escape: char) -> Vec<String> {
    let mut words = Vec::new();
    let mut word = String::new();
    let mut phase = Phase::Spaces;
    let mut empty_counts = false;
    let mut chars = rest.chars().peekable();
    while let Some(c) = chars.next() {
        if phase == Phase::Spaces {
            if c.is_whitespace() {
                continue;
            }
            phase = Phase::Word;
        }
        match phase {
            Phase::Word if c.is_whitespace() => {
                phase = Phase::Spaces;
                push_word(&mut words, &mut word, &mut empty_counts);
                continue;
            }
            Phase::Word if c == '\'' || c == '"' => {
                phase = Phase::Quote(c);
                empty_counts = true;
            }
            Phase::Quote(quote) if c == quote => phase = Phase::Word,
            _ => {}
        }
        let escapes = c == escape && phase != Phase::Quote('\'');
        match chars.peek() {
            // an escape at the line's end escapes nothing
            None if escapes => {
                if let Phase::Quote(_) = phase {
                    phase = Phase::Word;
                }
            }
            Some(next) if escapes => {
                word.push(c);
                word.push(*next);
                chars.next();
            }
            _ => word.push(c),
        }
    }
    if phase != Phase::Spaces {
        push_word(&mut words, &mut word, &mut empty_counts);
    }
    words
}

fn push_word(words: &mut Vec<String>, word: &mut String, empty_counts: &mut bool) {
    if *empty_counts || !word.is_empty() {
        words.push(std::mem::take(word));
    }
    *empty_counts = false;
}

/// The flags (`--name=value`) at a line's start, unquoted, and the rest of the line.
pub(super) fn flags(line: &str, escape: char) -> (Vec<String>, &str) {
    let mut flags = Vec::new();
    let mut rest = line.trim_start();
    while rest.starts_with("--") {
        let (flag, after) = flag(rest, escape);
        if flag == "--" {
            return (flags, after);
        }
        flags.push(flag);
        rest = after.trim_start();
    }
    (flags, rest)
}

fn flag(line: &str, escape: char) -> (String, &str) {
    let mut out = String::new();
    let mut quote = None;
    let mut chars = line.char_indices();
    while let Some((at, c)) = chars.next() {
        if quote == Some(c) {
            quote = None;
        } else if c == escape {
            out.extend(chars.next().map(|(_, c)| c));
        } else if quote.is_some() {
            out.push(c);
        } else if c.is_whitespace() {
            return (out, &line[at..]);
        } else if c == '\'' || c == '"' {
            quote = Some(c);
        } else {
            out.push(c);
        }
    }
    (out, "")
}

/// The fields of a line of comma separated values (RFC 4180), or `None` where its quotes are wrong.
pub(crate) fn fields(line: &str) -> Option<Vec<String>> {
    let mut fields = Vec::new();
    let mut rest = line;
    loop {
        if let Some(quoted) = rest.strip_prefix('"') {
            let (field, after) = quoted_field(quoted)?;
            fields.push(field);
            match after.strip_prefix(',') {
                Some(after) => rest = after,
                None => return after.is_empty().then_some(fields),
            }
        } else {
            let (field, after) = rest
                .split_once(',')
                .map_or((rest, None), |(f, after)| (f, Some(after)));
            if field.contains('"') {
                return None;
            }
            fields.push(field.to_owned());
            match after {
                Some(after) => rest = after,
                None => return Some(fields),
            }
        }
    }
}

/// A field behind its first quote, and what follows the last one.
fn quoted_field(text: &str) -> Option<(String, &str)> {
    let mut field = String::new();
    let mut rest = text;
    loop {
        let (part, after) = rest.split_once('"')?;
        field.push_str(part);
        match after.strip_prefix('"') {
            Some(after) => {
                field.push('"');
                rest = after;
            }
            None => return Some((field, after)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn splits_flags() {
        for (line, want, rest) in [
            ("--a=b --c d e", &["--a=b", "--c"][..], "d e"),
            ("--a='b c' x", &["--a=b c"], "x"),
            ("--a=\\'b x", &["--a='b"], "x"),
            ("-- --a", &[], " --a"),
            ("-a --b", &[], "-a --b"),
            ("--é=ü x", &["--é=ü"], "x"),
            ("--a", &["--a"], ""),
        ] {
            let (found, after) = flags(line, '\\');
            assert_eq!(
                (found.iter().map(String::as_str).collect::<Vec<_>>(), after),
                (want.to_vec(), rest),
                "{line}"
            );
        }
    }

    #[test]
    fn splits_quoted_words() {
        for (line, want) in [
            ("a=b c='d e'", &["a=b", "c='d e'"][..]),
            ("a=\"b c\\\" d\" e", &["a=\"b c\\\" d\"", "e"]),
            ("a=b\\ c", &["a=b\\ c"]),
            ("  ''  ", &["''"]),
            ("a\\", &["a"]),
            ("a='b\\", &["a='b\\"]),
        ] {
            assert_eq!(quoted(line, '\\'), want, "{line}");
        }
    }

    #[test]
    fn splits_fields() {
        assert_eq!(fields("a=b,c").unwrap(), ["a=b", "c"]);
        assert_eq!(fields("\"a,b\",\"c\"\"d\"").unwrap(), ["a,b", "c\"d"]);
        assert_eq!(fields("").unwrap(), [""]);
        assert!(fields("a\"b").is_none());
        assert!(fields("\"a").is_none());
        assert!(fields("\"a\"b").is_none());
    }
}
