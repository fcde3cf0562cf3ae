//! The splitting of a stream into records, as Docker splits it.

/// The longest piece of a line in one record; longer lines come in several.
pub const PIECE: usize = 16 << 10;

/// Splits a stream into records.
#[derive(Debug, Default)]
pub struct Splitter {
    pending: Vec<u8>,
    /// How many pieces of the present line were given already.
    given: u32,
}

/// One record's text.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Piece<'a> {
    /// The bytes, without the line's end.
    pub text: &'a [u8],
    /// Whether the line ends here.
    pub line_end: bool,
    /// Which piece of its line this is, from 1; 0 where the line has but one.
    pub ordinal: u32,
}

impl Splitter {
    /// Takes what was read, and gives every record that is complete with it.
    pub fn feed(&mut self, mut bytes: &[u8], mut emit: impl FnMut(Piece<'_>)) {
        while !bytes.is_empty() {
            let room = PIECE - self.pending.len();
            let window = &bytes[..bytes.len().min(room)];
            let (text, line_end, used) = match memchr::memchr(b'\n', window) {
                Some(at) => (&window[..at], true, at + 1),
                None if window.len() == room => (window, false, room),
                None => {
                    self.pending.extend_from_slice(window);
                    return;
                }
            };
            let ordinal = self.ordinal(line_end);
            if self.pending.is_empty() {
                emit(Piece {
                    text,
                    line_end,
                    ordinal,
                });
            } else {
                self.pending.extend_from_slice(text);
                emit(Piece {
                    text: &self.pending,
                    line_end,
                    ordinal,
                });
                self.pending = Vec::new();
            }
            bytes = &bytes[used..];
        }
    }

    /// Gives what is left when the stream has ended.
    pub fn finish(&mut self, mut emit: impl FnMut(Piece<'_>)) {
        let rest = std::mem::take(&mut self.pending);
        if !rest.is_empty() {
            let ordinal = self.ordinal(false);
            emit(Piece {
                text: &rest,
                line_end: false,
                ordinal,
            });
        }
        self.given = 0;
    }

    /// The number of the piece that is given now.
    fn ordinal(&mut self, line_end: bool) -> u32 {
        let ordinal = match (self.given, line_end) {
            (0, true) => 0,
            (given, _) => given.saturating_add(1),
        };
        self.given = if line_end { 0 } else { ordinal };
        ordinal
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn split(parts: &[&[u8]]) -> Vec<(usize, bool, u32)> {
        let mut splitter = Splitter::default();
        let mut all = Vec::new();
        for part in parts {
            splitter.feed(part, |p| all.push((p.text.len(), p.line_end, p.ordinal)));
        }
        splitter.finish(|p| all.push((p.text.len(), p.line_end, p.ordinal)));
        all
    }

    #[test]
    fn lines_and_their_pieces() {
        assert_eq!(
            split(&[b"ab\nc", b"d\n\n"]),
            [(2, true, 0), (2, true, 0), (0, true, 0)]
        );
        assert_eq!(split(&[b"a\nno end"]), [(1, true, 0), (6, false, 1)]);
        let long = [b'x'; 2 * PIECE + 3];
        assert_eq!(
            split(&[&long[..PIECE - 1], &long[PIECE - 1..], b"\ny\n"]),
            [
                (PIECE, false, 1),
                (PIECE, false, 2),
                (3, true, 3),
                (1, true, 0)
            ]
        );
        // a line of just the size has its end in a record of its own
        assert_eq!(
            split(&[&long[..PIECE], b"\n"]),
            [(PIECE, false, 1), (0, true, 2)]
        );
    }
}
