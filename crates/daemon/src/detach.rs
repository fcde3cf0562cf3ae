//! The keys that detach a client from a terminal without ending its container.

use api::error::InvalidParameter;

/// Ctrl-p, ctrl-q.
const DEFAULT: [u8; 2] = [0x10, 0x11];

/// Looks for the detach keys in a terminal's input.
#[derive(Debug)]
pub(crate) struct DetachKeys {
    keys: Vec<u8>,
    matched: usize,
}

/// What of an input goes on to the container.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Scanned {
    /// This goes on, and more may come.
    On(Vec<u8>),
    /// This goes on, and then the client is detached.
    Detached(Vec<u8>),
}

impl DetachKeys {
    /// Reads keys such as `ctrl-p,ctrl-q`; an empty text is the default.
    pub(crate) fn parse(text: &str) -> Result<Self, InvalidParameter> {
        let keys = if text.is_empty() {
            DEFAULT.to_vec()
        } else {
            text.split(',').map(key).collect::<Result<_, _>>()?
        };
        Ok(Self { keys, matched: 0 })
    }

    /// Takes the next input; a beginning of the sequence is held back until it is clear.
    pub(crate) fn scan(&mut self, input: &[u8]) -> Scanned {
        let mut out = Vec::with_capacity(input.len() + self.matched);
        for &byte in input {
            if byte == self.keys[self.matched] {
                self.matched += 1;
                if self.matched == self.keys.len() {
                    self.matched = 0;
                    return Scanned::Detached(out);
                }
                continue;
            }
            out.extend_from_slice(&self.keys[..self.matched]);
            self.matched = 0;
            if byte == self.keys[0] && self.keys.len() > 1 {
                self.matched = 1;
            } else {
                out.push(byte);
            }
        }
        Scanned::On(out)
    }
}

fn key(text: &str) -> Result<u8, InvalidParameter> {
    let unknown = || InvalidParameter(format!("Unknown character: '{text}'"));
    if let [byte] = text.as_bytes() {
        return Ok(*byte);
    }
    match text.strip_prefix("ctrl-").map(str::as_bytes) {
        Some([letter @ b'a'..=b'z']) => Ok(letter - b'a' + 1),
        Some(b"@") => Ok(0),
        Some(b"[") => Ok(27),
        Some(b"\\") => Ok(28),
        Some(b"]") => Ok(29),
        Some(b"^") => Ok(30),
        Some(b"_") => Ok(31),
        _ => Err(unknown()),
    }
}

impl DetachKeys {
    /// The keys as bytes; none for the default.
    pub(crate) fn bytes(text: &str) -> Vec<u8> {
        let keys = Self::parse(text).map(|found| found.keys);
        keys.ok().filter(|_| !text.is_empty()).unwrap_or_default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys() {
        let parse = |text| DetachKeys::parse(text).map(|found| found.keys);
        assert_eq!(parse("").unwrap(), DEFAULT);
        assert_eq!(parse("ctrl-a,a,ctrl-],ctrl-@").unwrap(), [1, b'a', 29, 0]);
        for bad in ["ctrl-A", "ctrl-", "ab", "a,,b", "ctrl-ab"] {
            assert!(parse(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn scanning() {
        let mut keys = DetachKeys::parse("").unwrap();
        assert_eq!(keys.scan(b"ab\x10"), Scanned::On(b"ab".into()));
        assert_eq!(keys.scan(b"c"), Scanned::On(b"\x10c".into()));
        assert_eq!(keys.scan(b"\x10\x10"), Scanned::On(b"\x10".into()));
        assert_eq!(keys.scan(b"\x11rest"), Scanned::Detached(b"".into()));
        assert_eq!(keys.scan(b"x\x10\x11y"), Scanned::Detached(b"x".into()));
        let mut one = DetachKeys::parse("q").unwrap();
        assert_eq!(one.scan(b"aq"), Scanned::Detached(b"a".into()));
    }
}
