//! Texts as Go prints them: clients and image histories show them, so they are part of the format.

use std::fmt::Write as _;

/// A string in Go's double quotes (`%q`).
#[must_use]
pub fn quote(text: &str) -> String {
    let mut out = String::with_capacity(text.len() + 2);
    out.push('"');
    for c in text.chars() {
        push_quoted(&mut out, c);
    }
    out.push('"');
    out
}

fn push_quoted(out: &mut String, c: char) {
    let short = match c {
        '"' => "\\\"",
        '\\' => "\\\\",
        '\u{7}' => "\\a",
        '\u{8}' => "\\b",
        '\u{c}' => "\\f",
        '\n' => "\\n",
        '\r' => "\\r",
        '\t' => "\\t",
        '\u{b}' => "\\v",
        _ => "",
    };
    if !short.is_empty() {
        out.push_str(short);
    } else if printable(c) {
        out.push(c);
    } else {
        let code = u32::from(c);
        // writing to a string does not fail
        let _ = match code {
            0..=0x7f => write!(out, "\\x{code:02x}"),
            0x80..=0xffff => write!(out, "\\u{code:04x}"),
            _ => write!(out, "\\U{code:08x}"),
        };
    }
}

/// Go's `unicode.IsPrint`, near enough: no control, no format character, no space but U+0020.
fn printable(c: char) -> bool {
    let invisible = matches!(c,
        '\u{ad}' | '\u{61c}' | '\u{180e}' | '\u{200b}'..='\u{200f}' | '\u{2028}'..='\u{202e}'
        | '\u{2060}'..='\u{206f}' | '\u{feff}' | '\u{e000}'..='\u{f8ff}' | '\u{fff0}'..='\u{fffb}'
        | '\u{e0000}'..='\u{10ffff}');
    c == ' ' || !(c.is_control() || c.is_whitespace() || invisible)
}

/// A number as `%q` prints it: the character with that code.
#[must_use]
pub fn quote_rune(code: i64) -> String {
    let c = u32::try_from(code)
        .ok()
        .and_then(char::from_u32)
        .unwrap_or('\u{fffd}');
    let mut out = String::from("'");
    match c {
        '\'' => out.push_str("\\'"),
        '"' => out.push('"'),
        c => push_quoted(&mut out, c),
    }
    out.push('\'');
    out
}

/// A slice of strings as `%q` prints it: `["a" "b"]`.
#[must_use]
pub fn quote_list(items: &[String]) -> String {
    let quoted: Vec<String> = items.iter().map(|i| quote(i)).collect();
    format!("[{}]", quoted.join(" "))
}

/// A duration of nanoseconds as Go prints it: `1h0m30s`, `1.5s`, `300ms`.
#[must_use]
pub fn duration(nanoseconds: i64) -> String {
    if nanoseconds == 0 {
        return "0s".to_owned();
    }
    let sign = if nanoseconds < 0 { "-" } else { "" };
    let n = nanoseconds.unsigned_abs();
    let small = |unit: u64, name: &str| format!("{sign}{}{name}", fraction(n, unit));
    if n < 1_000 {
        return small(1, "ns");
    }
    if n < 1_000_000 {
        return small(1_000, "µs");
    }
    if n < 1_000_000_000 {
        return small(1_000_000, "ms");
    }
    let minutes = n / 60_000_000_000;
    let seconds = fraction(n % 60_000_000_000, 1_000_000_000);
    match (minutes / 60, minutes % 60) {
        (0, 0) => format!("{sign}{seconds}s"),
        (0, m) => format!("{sign}{m}m{seconds}s"),
        (h, m) => format!("{sign}{h}h{m}m{seconds}s"),
    }
}

/// `n / unit` in decimals, without zeros at the end.
fn fraction(n: u64, unit: u64) -> String {
    let rest = n % unit;
    if rest == 0 {
        return (n / unit).to_string();
    }
    let width = unit.ilog10() as usize;
    let digits = format!("{rest:0width$}");
    format!("{}.{}", n / unit, digits.trim_end_matches('0'))
}

/// Why a text is no duration.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum DurationError {
    /// It is no number with a unit.
    #[error("time: invalid duration {}", quote(.0))]
    Invalid(String),
    /// A number has no unit.
    #[error("time: missing unit in duration {}", quote(.0))]
    NoUnit(String),
    /// A number has a unit that is none.
    #[error("time: unknown unit {} in duration {}", quote(.1), quote(.0))]
    Unit(String, String),
}

/// Nanoseconds of a duration as Go writes it (`1h2m3.5s`).
///
/// # Errors
/// When the text is none, with Go's words.
pub fn parse_duration(text: &str) -> Result<i64, DurationError> {
    let invalid = || DurationError::Invalid(text.to_owned());
    let (negative, mut rest) = match text.as_bytes().first() {
        Some(b'-') => (true, &text[1..]),
        Some(b'+') => (false, &text[1..]),
        _ => (false, text),
    };
    if rest == "0" {
        return Ok(0);
    }
    if rest.is_empty() {
        return Err(invalid());
    }
    let mut total: i64 = 0;
    while !rest.is_empty() {
        let digits = rest
            .find(|c: char| !c.is_ascii_digit() && c != '.')
            .unwrap_or(rest.len());
        let (number, after) = rest.split_at(digits);
        let length = after
            .find(|c: char| c.is_ascii_digit() || c == '.')
            .unwrap_or(after.len());
        let (unit, after) = after.split_at(length);
        if number.is_empty() || number == "." || number.matches('.').count() > 1 {
            return Err(invalid());
        }
        if unit.is_empty() {
            return Err(DurationError::NoUnit(text.to_owned()));
        }
        let scale =
            unit_of(unit).ok_or_else(|| DurationError::Unit(text.to_owned(), unit.to_owned()))?;
        let part = scaled(number, scale).ok_or_else(invalid)?;
        total = total.checked_add(part).ok_or_else(invalid)?;
        rest = after;
    }
    Ok(if negative { -total } else { total })
}

fn unit_of(unit: &str) -> Option<i64> {
    Some(match unit {
        "ns" => 1,
        "us" | "µs" | "μs" => 1_000,
        "ms" => 1_000_000,
        "s" => 1_000_000_000,
        "m" => 60_000_000_000,
        "h" => 3_600_000_000_000,
        _ => return None,
    })
}

/// `number * scale`, where the number may have decimals.
fn scaled(number: &str, scale: i64) -> Option<i64> {
    let (whole, decimals) = number.split_once('.').unwrap_or((number, ""));
    let whole = if whole.is_empty() {
        0
    } else {
        whole.parse::<i64>().ok()?
    };
    let value = whole.checked_mul(scale)?;
    // more digits than these say nothing more
    let decimals = &decimals[..decimals.len().min(18)];
    if decimals.is_empty() {
        return Some(value);
    }
    let places = 10_i128.pow(u32::try_from(decimals.len()).ok()?);
    let part = decimals.parse::<i128>().ok()? * i128::from(scale) / places;
    value.checked_add(i64::try_from(part).ok()?)
}

/// Go's `strconv.ParseBool`.
#[must_use]
pub fn parse_bool(text: &str) -> Option<bool> {
    match text {
        "1" | "t" | "T" | "TRUE" | "true" | "True" => Some(true),
        "0" | "f" | "F" | "FALSE" | "false" | "False" => Some(false),
        _ => None,
    }
}

/// Bytes of a size as people write it (`64m`, `1.5 GiB`), with units of 1024.
#[must_use]
pub fn parse_size(text: &str) -> Option<i64> {
    let text = text.trim();
    let digits = text
        .find(|c: char| !c.is_ascii_digit() && c != '.')
        .unwrap_or(text.len());
    let (number, unit) = text.split_at(digits);
    let unit = unit.strip_prefix(' ').unwrap_or(unit).to_ascii_lowercase();
    let unit = unit
        .strip_suffix("ib")
        .or_else(|| unit.strip_suffix('b'))
        .unwrap_or(&unit);
    let shift = match unit {
        "" => 0,
        "k" => 10,
        "m" => 20,
        "g" => 30,
        "t" => 40,
        "p" => 50,
        _ => return None,
    };
    if number.is_empty() || number.matches('.').count() > 1 || number == "." {
        return None;
    }
    scaled(number, 1_i64 << shift)
}

/// A path as Go's `path.Clean` shortens it: no `.`, `..` or empty parts but leading `..`.
#[must_use]
pub fn clean_path(path: &str) -> String {
    let rooted = path.starts_with('/');
    let mut parts: Vec<&str> = Vec::new();
    for part in path.split('/') {
        match part {
            "" | "." => {}
            ".." if parts.last().is_some_and(|p| *p != "..") => {
                parts.pop();
            }
            ".." if rooted => {}
            part => parts.push(part),
        }
    }
    let joined = parts.join("/");
    match (rooted, joined.is_empty()) {
        (true, _) => format!("/{joined}"),
        (false, true) => ".".to_owned(),
        (false, false) => joined,
    }
}

/// Go's `path.Join`: the parts that are not empty, joined and shortened.
#[must_use]
pub fn join_path(parts: &[&str]) -> String {
    let parts: Vec<&str> = parts.iter().copied().filter(|p| !p.is_empty()).collect();
    if parts.is_empty() {
        return String::new();
    }
    clean_path(&parts.join("/"))
}

/// Go's `path.Base`: the last part of a path.
#[must_use]
pub fn base_name(path: &str) -> &str {
    if path.is_empty() {
        return ".";
    }
    let trimmed = path.trim_end_matches('/');
    if trimmed.is_empty() {
        return "/";
    }
    trimmed.rsplit('/').next().unwrap_or(trimmed)
}

/// A value as Go's `json.Marshal` writes it: `<`, `>` and `&` are escaped.
///
/// # Errors
/// When the value is not representable in JSON.
pub fn json(value: &impl serde::Serialize) -> Result<Vec<u8>, serde_json::Error> {
    Ok(escape_html(&serde_json::to_string(value)?).into_bytes())
}

/// As [`json`], over several lines and indented by two spaces.
///
/// # Errors
/// When the value is not representable in JSON.
pub fn json_indented(value: &impl serde::Serialize) -> Result<Vec<u8>, serde_json::Error> {
    Ok(escape_html(&serde_json::to_string_pretty(value)?).into_bytes())
}

/// In JSON these characters stand in strings only, so that they can be replaced in the whole text.
fn escape_html(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for c in text.chars() {
        match c {
            '<' => out.push_str("\\u003c"),
            '>' => out.push_str("\\u003e"),
            '&' => out.push_str("\\u0026"),
            '\u{2028}' => out.push_str("\\u2028"),
            '\u{2029}' => out.push_str("\\u2029"),
            c => out.push(c),
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn quotes_as_go() {
        assert_eq!(
            quote("a\"b\\c\n\t\u{1}é\u{a0}\u{200b}"),
            r#""a\"b\\c\n\t\x01é\u00a0\u200b""#
        );
        assert_eq!(quote_list(&["a".into(), "b c".into()]), r#"["a" "b c"]"#);
    }

    #[test]
    fn durations_as_go() {
        for (text, nanoseconds, shown) in [
            ("30s", 30_000_000_000, "30s"),
            ("1h", 3_600_000_000_000, "1h0m0s"),
            ("1m30s", 90_000_000_000, "1m30s"),
            ("1.5s", 1_500_000_000, "1.5s"),
            ("300ms", 300_000_000, "300ms"),
            ("1us", 1_000, "1µs"),
            ("0", 0, "0s"),
        ] {
            assert_eq!(parse_duration(text), Ok(nanoseconds), "{text}");
            assert_eq!(duration(nanoseconds), shown);
        }
        let said = |t: &str| parse_duration(t).unwrap_err().to_string();
        assert_eq!(said("foo"), "time: invalid duration \"foo\"");
        assert_eq!(said("5"), "time: missing unit in duration \"5\"");
        assert_eq!(said("5x"), "time: unknown unit \"x\" in duration \"5x\"");
        assert!(parse_duration("99999999999999h").is_err());
    }

    #[test]
    fn paths_as_go() {
        for (path, clean) in [
            ("", "."),
            ("a/b/../c", "a/c"),
            ("/..//a/", "/a"),
            ("../a", "../a"),
            ("./.", "."),
            ("/", "/"),
            ("a/../..", ".."),
        ] {
            assert_eq!(clean_path(path), clean, "{path}");
        }
        assert_eq!(join_path(&["/", "", "a/../b"]), "/b");
        assert_eq!(join_path(&["", ""]), "");
        assert_eq!(base_name("/a/b/"), "b");
        assert_eq!(base_name("/"), "/");
    }

    #[test]
    fn sizes() {
        for (text, bytes) in [
            ("64m", 64 << 20),
            ("1.5k", 1536),
            ("10", 10),
            ("1 GiB", 1 << 30),
            ("2KB", 2048),
        ] {
            assert_eq!(parse_size(text), Some(bytes), "{text}");
        }
        for bad in ["", "m", "1x", "1..2", "-1"] {
            assert_eq!(parse_size(bad), None, "{bad}");
        }
    }
}
