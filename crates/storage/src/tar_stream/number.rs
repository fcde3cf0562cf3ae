//! Numbers in tar headers, read as Go's `archive/tar` reads them.

use tar::Header;

/// Reads a field: octal text, or a base-256 number when the top bit is set.
pub(super) fn field(bytes: &[u8]) -> Option<i64> {
    match bytes.first() {
        Some(first) if first & 0x80 != 0 => base_256(bytes),
        _ => octal(bytes),
    }
}

/// An octal field; blanks and NULs around it do not count, and an empty one is zero.
fn octal(bytes: &[u8]) -> Option<i64> {
    let is_blank = |byte: &u8| matches!(byte, b' ' | 0);
    let start = bytes.iter().position(|byte| !is_blank(byte));
    let Some(start) = start else { return Some(0) };
    let text = &bytes[start..];
    let end = text.iter().position(is_blank).unwrap_or(text.len());
    text[..end].iter().try_fold(0_i64, |value, byte| {
        let digit = byte.checked_sub(b'0').filter(|digit| *digit < 8)?;
        value.checked_mul(8)?.checked_add(i64::from(digit))
    })
}

/// A big-endian two's complement number below the marker bit (GNU's extension).
fn base_256(bytes: &[u8]) -> Option<i64> {
    let negative = bytes[0] & 0x40 != 0;
    let first = if negative {
        i128::from(bytes[0]) - 0x100
    } else {
        i128::from(bytes[0] & 0x7f)
    };
    let value = bytes[1..].iter().try_fold(first, |value, byte| {
        let next = value * 256 + i128::from(*byte);
        i64::try_from(next).ok().map(|_| next)
    })?;
    i64::try_from(value).ok()
}

/// The length of an entry's data by its header.
pub(super) fn size(header: &Header) -> Result<u64, &'static str> {
    let value = field(&header.as_old().size);
    let size = value.and_then(|size| u64::try_from(size).ok());
    size.ok_or("invalid size")
}

/// Whether the header's checksum fits; old programs summed signed bytes.
pub(super) fn checksum_fits(block: &[u8; 512]) -> bool {
    let Some(stored) = field(&block[148..156]) else {
        return false;
    };
    let (mut unsigned, mut signed) = (0_i64, 0_i64);
    for (at, byte) in block.iter().enumerate() {
        let byte = if (148..156).contains(&at) {
            b' '
        } else {
            *byte
        };
        unsigned += i64::from(byte);
        signed += i64::from(byte.cast_signed());
    }
    stored == unsigned || stored == signed
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_fields_as_go_does() {
        let check = |bytes: &[u8], value| assert_eq!(field(bytes), value, "{bytes:?}");
        check(b"0000644\0", Some(0o644));
        check(b"  644 \0\0", Some(0o644));
        check(b"\0\0\0\0\0\0\0\0", Some(0));
        check(b"0000648\0", None);
        check(b"-0000001", None);
        check(b"\x80\0\0\0\0\0\0\x01\0\0\0\0", Some(1 << 32));
        check(
            b"\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff",
            Some(-1),
        );
        check(b"\x80\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff", None);
    }
}
