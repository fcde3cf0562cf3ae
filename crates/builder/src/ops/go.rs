//! Go's way of writing texts, which clients know from BuildKit.

use std::fmt::Write as _;

/// A text as `%q` writes it.
pub(crate) fn quote(text: &str) -> String {
    let mut quoted = String::with_capacity(text.len() + 2);
    quoted.push('"');
    for c in text.chars() {
        match c {
            '"' | '\\' => quoted.extend(['\\', c]),
            '\u{7}' => quoted.push_str("\\a"),
            '\u{8}' => quoted.push_str("\\b"),
            '\u{c}' => quoted.push_str("\\f"),
            '\n' => quoted.push_str("\\n"),
            '\r' => quoted.push_str("\\r"),
            '\t' => quoted.push_str("\\t"),
            '\u{b}' => quoted.push_str("\\v"),
            c if c.is_ascii_control() => {
                let _infallible = write!(quoted, "\\x{:02x}", u32::from(c));
            }
            c if c.is_control() => {
                let _infallible = write!(quoted, "\\u{:04x}", u32::from(c));
            }
            c => quoted.push(c),
        }
    }
    quoted.push('"');
    quoted
}

#[cfg(test)]
mod tests {
    use super::quote;

    #[test]
    fn quotes_as_go_does() {
        assert_eq!(
            quote(r#"/bin/sh -c echo "a\b""#),
            r#""/bin/sh -c echo \"a\\b\"""#
        );
        assert_eq!(quote("a\tb\nc\u{1}é"), "\"a\\tb\\nc\\x01é\"");
    }
}
