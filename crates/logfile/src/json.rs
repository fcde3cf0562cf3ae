//! Docker's json-file format: `{"log":"text\n","stream":"stdout","attrs":{...},"time":"..."}` and a line feed.

use std::borrow::Cow;

use serde::Deserialize;
use serde_json::value::RawValue;

use crate::escape::escape;
use crate::record::{Entry, Parsed, Span, Stream};
use crate::timestamp::{self, Stamper};

/// Appends one record; `attrs` is a JSON object or empty.
pub(crate) fn encode(into: &mut Vec<u8>, entry: &Entry<'_>, attrs: &[u8], stamper: &mut Stamper) {
    into.extend_from_slice(b"{\"log\":\"");
    escape(into, entry.piece.text);
    if entry.piece.line_end {
        into.extend_from_slice(b"\\n");
    }
    into.extend_from_slice(b"\",\"stream\":\"");
    into.extend_from_slice(entry.stream.name().as_bytes());
    if !attrs.is_empty() {
        into.extend_from_slice(b"\",\"attrs\":");
        into.extend_from_slice(attrs);
        into.extend_from_slice(b",\"time\":\"");
    } else {
        into.extend_from_slice(b"\",\"time\":\"");
    }
    stamper.push(into, entry.time);
    into.extend_from_slice(b"\"}\n");
}

/// Reads one line, without its line feed.
///
/// What the writer above writes is read by its places; what somebody else wrote in another order or
/// with spaces, by a JSON parser.
pub(crate) fn parse(raw: &[u8], scratch: &mut Vec<u8>) -> Option<Parsed> {
    quick(raw, scratch).or_else(|| slow(raw, scratch))
}

fn quick(raw: &[u8], scratch: &mut Vec<u8>) -> Option<Parsed> {
    const START: usize = 8;
    raw.strip_prefix(b"{\"log\":\"")?;
    let (text, line_end, end) = string(raw, START, scratch)?;
    let rest = raw[end..].strip_prefix(b",\"stream\":\"std")?;
    let (stream, rest) = match rest {
        [b'o', b'u', b't', b'"', rest @ ..] => (Stream::Stdout, rest),
        [b'e', b'r', b'r', b'"', rest @ ..] => (Stream::Stderr, rest),
        _ => return None,
    };
    let rest = rest.strip_suffix(b"\"}")?;
    // the time is last, and has no quote in it
    let at = memchr::memrchr(b'"', rest)? + 1;
    let time = timestamp::parse(&rest[at..])?;
    let before = rest[..at].strip_suffix(b",\"time\":\"")?;
    let attrs = match before.strip_prefix(b",\"attrs\":") {
        Some(attrs) => {
            let start = raw.len() - 2 - rest.len() + (before.len() - attrs.len());
            start..start + attrs.len()
        }
        None if before.is_empty() => 0..0,
        None => return None,
    };
    Some(Parsed {
        stream,
        time,
        text,
        line_end,
        attrs,
        partial: None,
    })
}

/// The text of a string from its first byte, and the place behind its closing quote.
fn string(raw: &[u8], start: usize, scratch: &mut Vec<u8>) -> Option<(Span, bool, usize)> {
    let first = start + memchr::memchr2(b'"', b'\\', &raw[start..])?;
    match raw[first..] {
        [b'"', ..] => return Some((Span::Raw(start..first), false, first + 1)),
        [b'\\', b'n', b'"', ..] => return Some((Span::Raw(start..first), true, first + 3)),
        _ => {}
    }
    scratch.clear();
    let end = unescape(raw, start, scratch)?;
    let line_end = scratch.last() == Some(&b'\n');
    if line_end {
        scratch.pop();
    }
    Some((Span::Scratch, line_end, end))
}

fn unescape(raw: &[u8], mut at: usize, into: &mut Vec<u8>) -> Option<usize> {
    loop {
        let special = at + memchr::memchr2(b'"', b'\\', raw.get(at..)?)?;
        into.extend_from_slice(&raw[at..special]);
        if raw[special] == b'"' {
            return Some(special + 1);
        }
        at = special + 2;
        into.push(match raw.get(special + 1)? {
            b'n' => b'\n',
            b'r' => b'\r',
            b't' => b'\t',
            b'b' => 8,
            b'f' => 12,
            plain @ (b'"' | b'\\' | b'/') => *plain,
            b'u' => {
                at = unicode(raw, special, into)?;
                continue;
            }
            _ => return None,
        });
    }
}

/// Reads `\uXXXX`, or two of them that are one character.
fn unicode(raw: &[u8], at: usize, into: &mut Vec<u8>) -> Option<usize> {
    let unit = |at: usize| {
        let digits = raw.get(at..at + 6)?.strip_prefix(b"\\u")?;
        u32::from_str_radix(std::str::from_utf8(digits).ok()?, 16).ok()
    };
    let first = unit(at)?;
    let (code, end) = match first {
        0xd800..0xdc00 => match unit(at + 6) {
            Some(second @ 0xdc00..0xe000) => (
                0x10000 + ((first - 0xd800) << 10) + (second - 0xdc00),
                at + 12,
            ),
            _ => (0xfffd, at + 6),
        },
        _ => (first, at + 6),
    };
    let character = char::from_u32(code).unwrap_or(char::REPLACEMENT_CHARACTER);
    into.extend_from_slice(character.encode_utf8(&mut [0; 4]).as_bytes());
    Some(end)
}

#[derive(Deserialize)]
struct Line<'a> {
    #[serde(borrow, default)]
    log: Cow<'a, str>,
    #[serde(borrow, default)]
    stream: Cow<'a, str>,
    #[serde(borrow, default)]
    attrs: Option<&'a RawValue>,
    #[serde(borrow)]
    time: Cow<'a, str>,
}

fn slow(raw: &[u8], scratch: &mut Vec<u8>) -> Option<Parsed> {
    let line: Line<'_> = serde_json::from_slice(raw).ok()?;
    let time = timestamp::parse(line.time.as_bytes())?;
    let text = line.log.strip_suffix('\n').unwrap_or(&line.log);
    scratch.clear();
    scratch.extend_from_slice(text.as_bytes());
    let attrs = line.attrs.map_or(0..0, |attrs| {
        // it borrows from the line, so it lies in it
        let text = attrs.get().as_bytes();
        memchr::memmem::find(raw, text).map_or(0..0, |at| at..at + text.len())
    });
    Some(Parsed {
        stream: if line.stream == "stderr" {
            Stream::Stderr
        } else {
            Stream::Stdout
        },
        time,
        line_end: text.len() != line.log.len(),
        text: Span::Scratch,
        attrs,
        partial: None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::split::Piece;

    fn encoded(text: &[u8], attrs: &str) -> Vec<u8> {
        let mut line = Vec::new();
        let entry = Entry {
            stream: Stream::Stderr,
            time: 1_500_000_000_000_000_001,
            piece: Piece {
                text,
                line_end: true,
                ordinal: 0,
            },
            line_id: 0,
        };
        encode(&mut line, &entry, attrs.as_bytes(), &mut Stamper::default());
        assert_eq!(line.pop(), Some(b'\n'));
        line
    }

    #[track_caller]
    fn reads(line: &[u8], text: &str, attrs: &str) {
        for parse in [quick, slow] {
            let mut scratch = b"old".to_vec();
            let Some(parsed) = parse(line, &mut scratch) else {
                panic!("{}", String::from_utf8_lossy(line));
            };
            let record = parsed.over(line, &scratch);
            assert_eq!(String::from_utf8_lossy(record.text), text);
            assert_eq!(String::from_utf8_lossy(record.attrs), attrs);
            assert_eq!(
                (record.stream, record.time, record.line_end),
                (Stream::Stderr, 1_500_000_000_000_000_001, true)
            );
        }
    }

    #[test]
    fn what_is_written_is_read_by_both_ways() {
        reads(&encoded(b"plain", ""), "plain", "");
        reads(&encoded(b"", ""), "", "");
        let attrs = r#"{"a":"b\"}","time":"x"}"#;
        reads(&encoded(b"with", attrs), "with", attrs);
        let bytes: Vec<u8> = (0..=255).chain((0..=255).rev()).collect();
        reads(&encoded(&bytes, ""), &shown(&bytes), "");
        let odd = "\",\"stream\":\"stdout\",\"time\":\"고래 \u{2028}\u{1f40b}";
        reads(&encoded(odd.as_bytes(), ""), odd, "");
    }

    /// Each byte that is no UTF-8 becomes one replacement character.
    fn shown(bytes: &[u8]) -> String {
        let mut text = String::new();
        for chunk in bytes.utf8_chunks() {
            text.push_str(chunk.valid());
            text.extend(chunk.invalid().iter().map(|_| '\u{fffd}'));
        }
        text
    }

    #[test]
    fn lines_of_others_are_read_too() {
        let check = |line: &str, expect: Option<(&str, bool)>| {
            let mut scratch = Vec::new();
            let parsed = parse(line.as_bytes(), &mut scratch);
            let found = parsed.as_ref().map(|parsed| {
                let record = parsed.over(line.as_bytes(), &scratch);
                (std::str::from_utf8(record.text).unwrap(), record.line_end)
            });
            assert_eq!(found, expect, "{line}");
        };
        let time = r#""time":"2026-01-01T00:00:00Z""#;
        check(
            &format!(r#"{{ "log": "a\n", "stream": "stdout", {time} }}"#),
            Some(("a", true)),
        );
        check(
            r#"{"time":"2026-01-01T00:00:00Z","log":"a\ud83d\udc0b"}"#,
            Some(("a🐋", false)),
        );
        check(
            &format!(r#"{{"log":"\ud83d!\/\b\f\t","stream":"stdout",{time}}}"#),
            Some(("\u{fffd}!/\u{8}\u{c}\t", false)),
        );
        for broken in [
            "",
            "{",
            "{}",
            "null",
            r#"{"log":"a"#,
            r#"{"log":"a","stream":"stdout"}"#,
            r#"{"log":"a","stream":"stdout","time":"x"}"#,
            r#"{"log":"\u12","stream":"stdout","time":"2026-01-01T00:00:00Z"}"#,
        ] {
            check(broken, None);
        }
    }
}
