//! The keys that let go of a container without ending it.

/// A sequence of keys, `ctrl-p,ctrl-q` by default, and how much of it was just typed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct DetachKeys {
    keys: Vec<u8>,
    matched: usize,
}

impl Default for DetachKeys {
    fn default() -> Self {
        Self {
            keys: vec![16, 17],
            matched: 0,
        }
    }
}

impl DetachKeys {
    /// Reads `ctrl-x,y,...`; the empty text stands for the default.
    pub(crate) fn parse(text: &str) -> Result<Self, String> {
        if text.is_empty() {
            return Ok(Self::default());
        }
        let keys = text.split(',').map(key).collect::<Result<_, _>>()?;
        Ok(Self { keys, matched: 0 })
    }

    /// Takes typed bytes; gives what goes on to the container, and whether the sequence is complete.
    pub(crate) fn feed(&mut self, bytes: &[u8]) -> (Vec<u8>, bool) {
        let mut through = Vec::with_capacity(bytes.len());
        for byte in bytes {
            if *byte == self.keys[self.matched] {
                self.matched += 1;
                if self.matched == self.keys.len() {
                    return (through, true);
                }
                continue;
            }
            // what looked like the sequence was meant for the container
            through.extend_from_slice(&self.keys[..self.matched]);
            self.matched = usize::from(*byte == self.keys[0]);
            if self.matched == 0 {
                through.push(*byte);
            }
        }
        (through, false)
    }
}

fn key(name: &str) -> Result<u8, String> {
    if let [byte] = name.as_bytes() {
        return Ok(*byte);
    }
    let unknown = || format!("Unknown character: '{name}'");
    match name
        .strip_prefix("ctrl-")
        .map(str::as_bytes)
        .ok_or_else(unknown)?
    {
        [letter @ b'a'..=b'z'] => Ok(letter - b'a' + 1),
        [b'@'] => Ok(0),
        [b'['] => Ok(27),
        [b'\\'] => Ok(28),
        [b']'] => Ok(29),
        [b'^'] => Ok(30),
        [b'_'] => Ok(31),
        _ => Err(unknown()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_of_keys() {
        let check = |text: &str, expect: Result<&[u8], &str>| {
            let got = DetachKeys::parse(text).map(|keys| keys.keys);
            assert_eq!(
                got,
                expect.map(<[u8]>::to_vec).map_err(str::to_owned),
                "{text}"
            );
        };
        check("", Ok(&[16, 17]));
        check("ctrl-p,ctrl-q", Ok(&[16, 17]));
        check("a", Ok(b"a"));
        check("ctrl-@,ctrl-[,ctrl-_", Ok(&[0, 27, 31]));
        check("ctrl-1", Err("Unknown character: 'ctrl-1'"));
        check("ab", Err("Unknown character: 'ab'"));
    }

    #[test]
    fn the_sequence_is_found_across_reads() {
        let check = |reads: &[&[u8]], expect: &[u8], detached: bool| {
            let mut keys = DetachKeys::default();
            let mut through = Vec::new();
            let mut done = false;
            for read in reads {
                let (bytes, complete) = keys.feed(read);
                through.extend(bytes);
                done |= complete;
            }
            assert_eq!((through.as_slice(), done), (expect, detached), "{reads:?}");
        };
        check(&[b"ab"], b"ab", false);
        check(&[b"a\x10\x11b"], b"a", true);
        check(&[b"a\x10", b"\x11"], b"a", true);
        check(&[b"\x10", b"x"], b"\x10x", false);
        check(&[b"\x10\x10\x11"], b"\x10", true);
    }
}
