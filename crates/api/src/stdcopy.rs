//! The framing of attach, exec and log streams without a terminal.
//!
//! Each frame is one byte for the stream, three zero bytes, the length as a big-endian 32-bit
//! number, and the payload.

/// Bytes in front of each payload.
pub const HEADER: usize = 8;

/// Which stream a frame belongs to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum Stream {
    /// Standard input; servers never send it, but the protocol has it.
    Stdin = 0,
    /// Standard output.
    Stdout = 1,
    /// Standard error.
    Stderr = 2,
    /// An error of the engine, which ends the stream.
    SystemErr = 3,
}

/// A frame that starts with an unknown stream number.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct UnknownStream(pub u8);

impl std::fmt::Display for UnknownStream {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(formatter, "unrecognized input header: {}", self.0)
    }
}

impl std::error::Error for UnknownStream {}

/// Makes the header for a payload of `length` bytes.
#[must_use]
pub fn header(stream: Stream, length: u32) -> [u8; HEADER] {
    let [a, b, c, d] = length.to_be_bytes();
    [stream as u8, 0, 0, 0, a, b, c, d]
}

/// Reads a header: the stream and the payload's length.
pub fn parse_header(header: [u8; HEADER]) -> Result<(Stream, u32), UnknownStream> {
    let [kind, _, _, _, a, b, c, d] = header;
    let stream = match kind {
        0 => Stream::Stdin,
        1 => Stream::Stdout,
        2 => Stream::Stderr,
        3 => Stream::SystemErr,
        other => return Err(UnknownStream(other)),
    };
    Ok((stream, u32::from_be_bytes([a, b, c, d])))
}

/// Splits a byte stream into payloads, however it was cut on its way.
///
/// It holds at most an incomplete header; payloads are handed out as they arrive, in pieces.
#[derive(Debug, Default)]
pub struct Decoder {
    partial: [u8; HEADER],
    filled: usize,
    current: Option<(Stream, u32)>,
}

impl Decoder {
    /// Makes a decoder that stands before a header.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Feeds bytes and calls `sink` with each piece of payload.
    pub fn feed(
        &mut self,
        mut input: &[u8],
        mut sink: impl FnMut(Stream, &[u8]),
    ) -> Result<(), UnknownStream> {
        while !input.is_empty() {
            let Some((stream, left)) = self.current else {
                input = self.fill_header(input)?;
                continue;
            };
            let take = input.len().min(usize::try_from(left).unwrap_or(usize::MAX));
            let (payload, rest) = input.split_at(take);
            sink(stream, payload);
            let left = left - u32::try_from(take).unwrap_or(left);
            self.current = (left > 0).then_some((stream, left));
            input = rest;
        }
        Ok(())
    }

    fn fill_header<'i>(&mut self, input: &'i [u8]) -> Result<&'i [u8], UnknownStream> {
        let take = input.len().min(HEADER - self.filled);
        let (head, rest) = input.split_at(take);
        self.partial[self.filled..self.filled + take].copy_from_slice(head);
        self.filled += take;
        if self.filled == HEADER {
            self.filled = 0;
            let (stream, length) = parse_header(self.partial)?;
            self.current = (length > 0).then_some((stream, length));
        }
        Ok(rest)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn decodes_however_it_is_cut() {
        let mut bytes = Vec::new();
        for (stream, text) in [
            (Stream::Stdout, "hello"),
            (Stream::Stderr, ""),
            (Stream::Stderr, "oops\n"),
        ] {
            bytes.extend(header(stream, u32::try_from(text.len()).unwrap()));
            bytes.extend(text.as_bytes());
        }
        for size in 1..=bytes.len() {
            let (mut out, mut err) = (Vec::new(), Vec::new());
            let mut decoder = Decoder::new();
            for piece in bytes.chunks(size) {
                decoder
                    .feed(piece, |stream, payload| match stream {
                        Stream::Stdout => out.extend_from_slice(payload),
                        Stream::Stderr => err.extend_from_slice(payload),
                        Stream::Stdin | Stream::SystemErr => panic!("{stream:?}"),
                    })
                    .unwrap();
            }
            assert_eq!(
                (out.as_slice(), err.as_slice()),
                (&b"hello"[..], &b"oops\n"[..])
            );
        }
    }

    #[test]
    fn refuses_unknown_streams() {
        let error = Decoder::new().feed(b"HTTP/1.1 200", |_, _| {}).unwrap_err();
        assert_eq!(error, UnknownStream(b'H'));
    }
}
