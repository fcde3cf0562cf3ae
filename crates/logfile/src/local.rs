//! Docker's local format: protobuf messages, each between two copies of its length in big endian.
//!
//! ```text
//! LogEntry { 1: source, 2: time_nano, 3: line, 4: partial, 5: PartialLogEntryMetadata }
//! PartialLogEntryMetadata { 1: last, 2: id, 3: ordinal }
//! ```

use std::ops::Range;

use crate::record::{Entry, Parsed, Span, Stream};

/// Length of each of the two lengths.
pub(crate) const FRAME: usize = 4;

const VARINT: u8 = 0;
const FIXED64: u8 = 1;
const BYTES: u8 = 2;
const FIXED32: u8 = 5;

/// Appends one record.
pub(crate) fn encode(into: &mut Vec<u8>, entry: &Entry<'_>) {
    let start = into.len();
    into.extend_from_slice(&[0; FRAME]);
    bytes(into, 1, entry.stream.name().as_bytes());
    tag(into, 2, VARINT);
    varint(into, entry.time.cast_unsigned());
    if !entry.piece.text.is_empty() {
        bytes(into, 3, entry.piece.text);
    }
    if entry.piece.ordinal > 0 {
        tag(into, 4, VARINT);
        into.push(1);
        let mut partial = Vec::with_capacity(32);
        if entry.piece.line_end {
            tag(&mut partial, 1, VARINT);
            partial.push(1);
        }
        bytes(&mut partial, 2, &hexadecimal(entry.line_id));
        tag(&mut partial, 3, VARINT);
        varint(&mut partial, entry.piece.ordinal.into());
        bytes(into, 5, &partial);
    }
    // a record is a piece of a line, and some bytes more
    let length = u32::try_from(into.len() - start - FRAME).unwrap_or(u32::MAX);
    into[start..start + FRAME].copy_from_slice(&length.to_be_bytes());
    into.extend_from_slice(&length.to_be_bytes());
}

fn hexadecimal(value: u64) -> [u8; 16] {
    const HEX: &[u8; 16] = b"0123456789abcdef";
    let mut digits = [0; 16];
    for (pair, byte) in digits.chunks_exact_mut(2).zip(value.to_be_bytes()) {
        pair[0] = HEX[usize::from(byte >> 4)];
        pair[1] = HEX[usize::from(byte & 15)];
    }
    digits
}

fn tag(into: &mut Vec<u8>, field: u8, kind: u8) {
    into.push(field << 3 | kind);
}

fn bytes(into: &mut Vec<u8>, field: u8, value: &[u8]) {
    tag(into, field, BYTES);
    varint(into, value.len() as u64);
    into.extend_from_slice(value);
}

fn varint(into: &mut Vec<u8>, mut value: u64) {
    while value >= 0x80 {
        into.push(u8::try_from(value & 0x7f).unwrap_or_default() | 0x80);
        value >>= 7;
    }
    into.push(u8::try_from(value).unwrap_or_default());
}

/// The length of the message that a frame at the start announces.
pub(crate) fn announced(bytes: &[u8]) -> Option<usize> {
    let (head, _) = bytes.split_first_chunk::<FRAME>()?;
    usize::try_from(u32::from_be_bytes(*head)).ok()
}

/// Reads one frame with both its lengths.
pub(crate) fn parse(raw: &[u8]) -> Option<Parsed> {
    let end = raw.len().checked_sub(FRAME)?;
    if raw[..FRAME] != raw[end..] {
        return None;
    }
    let mut parsed = Parsed {
        stream: Stream::Stdout,
        time: 0,
        text: Span::Raw(0..0),
        line_end: true,
        attrs: 0..0,
        partial: None,
    };
    let mut fields = Fields {
        raw,
        range: FRAME..end,
    };
    while let Some(field) = fields.next() {
        match field? {
            (1, Value::Bytes(source)) if &raw[source.clone()] == b"stderr" => {
                parsed.stream = Stream::Stderr;
            }
            (2, Value::Number(time)) => parsed.time = time.cast_signed(),
            (3, Value::Bytes(line)) => parsed.text = Span::Raw(line),
            (5, Value::Bytes(partial)) => {
                let partial = read_partial(raw, partial)?;
                parsed.line_end = partial.2;
                parsed.partial = Some(partial);
            }
            _ => {}
        }
    }
    Some(parsed)
}

fn read_partial(raw: &[u8], range: Range<usize>) -> Option<(Range<usize>, u32, bool)> {
    let mut partial = (range.start..range.start, 0, false);
    let mut fields = Fields { raw, range };
    while let Some(field) = fields.next() {
        match field? {
            (1, Value::Number(last)) => partial.2 = last != 0,
            (2, Value::Bytes(id)) => partial.0 = id,
            (3, Value::Number(ordinal)) => partial.1 = u32::try_from(ordinal).unwrap_or(u32::MAX),
            _ => {}
        }
    }
    Some(partial)
}

enum Value {
    Number(u64),
    Bytes(Range<usize>),
    Other,
}

/// The fields of a message.
struct Fields<'a> {
    raw: &'a [u8],
    range: Range<usize>,
}

impl Fields<'_> {
    /// The next field; `Some(None)` is a message that is none.
    #[expect(
        clippy::option_option,
        reason = "the outer one is the end, the inner one a fault"
    )]
    fn next(&mut self) -> Option<Option<(u64, Value)>> {
        (!self.range.is_empty()).then(|| self.field())
    }

    fn field(&mut self) -> Option<(u64, Value)> {
        let key = self.number()?;
        let value = match u8::try_from(key & 7).ok()? {
            VARINT => Value::Number(self.number()?),
            FIXED64 => self.skip(8)?,
            BYTES => {
                let length = usize::try_from(self.number()?).ok()?;
                let start = self.range.start;
                self.skip(length)?;
                Value::Bytes(start..start + length)
            }
            FIXED32 => self.skip(4)?,
            _ => return None,
        };
        Some((key >> 3, value))
    }

    fn skip(&mut self, length: usize) -> Option<Value> {
        if length > self.range.len() {
            return None;
        }
        self.range.start += length;
        Some(Value::Other)
    }

    fn number(&mut self) -> Option<u64> {
        let mut value = 0_u64;
        for shift in (0..64).step_by(7) {
            let at = self.range.next()?;
            let byte = self.raw[at];
            value |= u64::from(byte & 0x7f) << shift;
            if byte & 0x80 == 0 {
                return Some(value);
            }
        }
        None
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::split::Piece;

    fn check(text: &[u8], line_end: bool, ordinal: u32) {
        let mut raw = Vec::new();
        let entry = Entry {
            stream: Stream::Stderr,
            time: 1_500_000_000_000_000_001,
            piece: Piece {
                text,
                line_end,
                ordinal,
            },
            line_id: 0xabc,
        };
        encode(&mut raw, &entry);
        let parsed = parse(&raw).unwrap();
        let record = parsed.over(&raw, b"");
        assert_eq!((record.text, record.line_end), (text, line_end));
        assert_eq!(
            (record.stream, record.time),
            (Stream::Stderr, 1_500_000_000_000_000_001)
        );
        assert_eq!(record.partial.is_some(), ordinal > 0);
        if let Some(partial) = record.partial {
            assert_eq!((partial.ordinal, partial.last), (ordinal, line_end));
            assert_eq!(partial.id, b"0000000000000abc");
        }
        for cut in 0..raw.len() {
            assert!(parse(&raw[..cut]).is_none() || cut == FRAME, "{cut}");
        }
    }

    #[test]
    fn what_is_written_is_read() {
        check(b"hello", true, 0);
        check(b"", true, 0);
        check(b"\xff\x00\n", true, 0);
        check(&[b'x'; 16 << 10], false, 1);
        check(b"end", true, 2);
    }

    #[test]
    fn a_record_of_docker_is_read() {
        // as `docker run --log-driver local` of 28.5 writes "hi" at a known time
        let message = b"\x0a\x06stdout\x10\x81\x80\xac\xa2\xe0\xbe\xc4\xe8\x14\x1a\x02hi";
        let mut raw = vec![0, 0, 0, 22];
        raw.extend_from_slice(message);
        raw.extend_from_slice(&[0, 0, 0, 22]);
        assert_eq!(message.len(), 22);
        let parsed = parse(&raw).unwrap();
        let record = parsed.over(&raw, b"");
        assert_eq!((record.text, record.line_end), (&b"hi"[..], true));
        assert_eq!(record.stream, Stream::Stdout);
    }
}
