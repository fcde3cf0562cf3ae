//! The inside of JSON strings as Go writes it.

/// Appends the inside of a JSON string as Go's encoder writes it: `<`, `>`, `&`, U+2028 and U+2029
/// escaped, and U+FFFD for every byte that is no UTF-8.
pub fn escape(into: &mut Vec<u8>, text: &[u8]) {
    for chunk in text.utf8_chunks() {
        escape_valid(into, chunk.valid());
        for _byte in chunk.invalid() {
            into.extend_from_slice(b"\\ufffd");
        }
    }
}

fn escape_valid(into: &mut Vec<u8>, text: &str) {
    let mut rest = text.as_bytes();
    let mut at = 0;
    while let Some(found) = rest[at..].iter().position(|b| SUSPECT[usize::from(*b)]) {
        at += found;
        let length = special(&rest[at..]);
        if length == 0 {
            at += 1;
            continue;
        }
        into.extend_from_slice(&rest[..at]);
        escape_one(into, &rest[at..at + length]);
        rest = &rest[at + length..];
        at = 0;
    }
    into.extend_from_slice(rest);
}

/// The bytes with which something may begin that needs an escape.
static SUSPECT: [bool; 256] = {
    let mut table = [false; 256];
    let mut byte = 0;
    while byte < 0x20 {
        table[byte] = true;
        byte += 1;
    }
    let others = b"\"\\<>&\xe2";
    let mut at = 0;
    while at < others.len() {
        table[others[at] as usize] = true;
        at += 1;
    }
    table
};

/// How many bytes at the start need an escape together: 0 for a plain byte.
fn special(bytes: &[u8]) -> usize {
    match bytes {
        [0..0x20 | b'"' | b'\\' | b'<' | b'>' | b'&', ..] => 1,
        [0xe2, 0x80, 0xa8 | 0xa9, ..] => 3,
        _ => 0,
    }
}

fn escape_one(into: &mut Vec<u8>, bytes: &[u8]) {
    const HEX: &[u8; 16] = b"0123456789abcdef";
    match bytes {
        [b'\n'] => into.extend_from_slice(b"\\n"),
        [b'\r'] => into.extend_from_slice(b"\\r"),
        [quoted @ (b'"' | b'\\')] => into.extend_from_slice(&[b'\\', *quoted]),
        [byte] => {
            into.extend_from_slice(b"\\u00");
            into.extend_from_slice(&[HEX[usize::from(byte >> 4)], HEX[usize::from(byte & 15)]]);
        }
        [.., last] => {
            into.extend_from_slice(b"\\u202");
            into.push(HEX[usize::from(last & 15)]);
        }
        [] => {}
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn escaped(text: &[u8]) -> String {
        let mut into = Vec::new();
        escape(&mut into, text);
        String::from_utf8(into).unwrap()
    }

    #[test]
    fn escapes_as_go_does() {
        assert_eq!(escaped(b"plain /~\x7f"), "plain /~\x7f");
        assert_eq!(escaped(b"\"\\\r\t\x00\x1b"), r#"\"\\\r\u0009\u0000\u001b"#);
        assert_eq!(escaped(b"<a&b>"), r"\u003ca\u0026b\u003e");
        assert_eq!(
            escaped("고래\u{2028}\u{2029}é".as_bytes()),
            "고래\\u2028\\u2029é"
        );
        assert_eq!(escaped(b"a\xffb\xe2\x80"), r"a\ufffdb\ufffd\ufffd");
    }
}
