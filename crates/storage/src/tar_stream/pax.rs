//! PAX extended headers (pax(1), "pax Extended Header"), and GNU's long names beside them.

use super::number;
use super::sparse::Segment;

/// What extension headers say about the next entry.
#[derive(Debug, Default)]
pub(super) struct Records {
    pub(super) path: Option<Vec<u8>>,
    pub(super) link: Option<Vec<u8>>,
    pub(super) long_name: Option<Vec<u8>>,
    pub(super) long_link: Option<Vec<u8>>,
    pub(super) size: Option<u64>,
    pub(super) uid: Option<u64>,
    pub(super) gid: Option<u64>,
    pub(super) mtime: Option<(i64, u32)>,
    pub(super) xattrs: Vec<(Vec<u8>, Vec<u8>)>,
    pub(super) sparse: SparseRecords,
    any: bool,
}

/// The `GNU.sparse.*` records of the formats 0.0, 0.1 and 1.0.
#[derive(Debug, Default)]
pub(super) struct SparseRecords {
    pub(super) major: Option<u64>,
    pub(super) minor: Option<u64>,
    pub(super) name: Option<Vec<u8>>,
    pub(super) real_size: Option<u64>,
    pub(super) map: Vec<Segment>,
    /// Whether there is a map at all, however empty.
    pub(super) has_map: bool,
    offset: Option<u64>,
}

impl Records {
    /// Whether no extension header came.
    pub(super) fn is_empty(&self) -> bool {
        !self.any && self.long_name.is_none() && self.long_link.is_none()
    }

    /// Drops what an earlier extended header said about the same entry.
    pub(super) fn forget_pax(&mut self) {
        *self = Self {
            long_name: self.long_name.take(),
            long_link: self.long_link.take(),
            ..Self::default()
        };
    }

    /// Takes the records of one extended header: `length key=value\n`, the value of any bytes.
    pub(super) fn add_pax(&mut self, mut bytes: &[u8]) -> Result<(), &'static str> {
        self.any = true;
        while !bytes.is_empty() {
            let (key, value, rest) = record(bytes).ok_or("malformed PAX record")?;
            self.set(key, value)?;
            bytes = rest;
        }
        Ok(())
    }

    fn set(&mut self, key: &[u8], value: &[u8]) -> Result<(), &'static str> {
        match key {
            b"path" => self.path = text(value),
            b"linkpath" => self.link = text(value),
            b"size" => self.size = decimal_or_unset(value)?,
            b"uid" => self.uid = decimal_or_unset(value)?,
            b"gid" => self.gid = decimal_or_unset(value)?,
            b"mtime" if value.is_empty() => self.mtime = None,
            b"mtime" => self.mtime = Some(time(value).ok_or("invalid PAX time")?),
            _ => {
                if let Some(name) = key.strip_prefix(b"SCHILY.xattr.") {
                    self.xattrs.push((name.to_vec(), value.to_vec()));
                } else if let Some(name) = key.strip_prefix(b"GNU.sparse.") {
                    self.sparse.set(name, value)?;
                }
            }
        }
        Ok(())
    }
}

impl SparseRecords {
    fn set(&mut self, name: &[u8], value: &[u8]) -> Result<(), &'static str> {
        match name {
            b"major" => self.major = decimal_or_unset(value)?,
            b"minor" => self.minor = decimal_or_unset(value)?,
            b"name" => self.name = text(value),
            b"size" | b"realsize" => self.real_size = decimal_or_unset(value)?,
            b"map" => self.set_map(value)?,
            b"numblocks" => self.has_map = true,
            b"offset" => self.offset = decimal_or_unset(value)?,
            b"numbytes" => {
                let offset = self.offset.take().ok_or("sparse length without offset")?;
                let length = decimal_or_unset(value)?.ok_or("invalid sparse length")?;
                self.map.push(Segment { offset, length });
                self.has_map = true;
            }
            _ => {}
        }
        Ok(())
    }

    /// The map of format 0.1: `offset,length,offset,length`.
    fn set_map(&mut self, value: &[u8]) -> Result<(), &'static str> {
        self.has_map = true;
        self.map.clear();
        if value.is_empty() {
            return Ok(());
        }
        let numbers: Option<Vec<u64>> = value.split(|byte| *byte == b',').map(decimal).collect();
        let numbers = numbers.ok_or("invalid sparse map")?;
        let (pairs, []) = numbers.as_chunks::<2>() else {
            return Err("invalid sparse map");
        };
        let segment = |&[offset, length]: &[u64; 2]| Segment { offset, length };
        self.map.extend(pairs.iter().map(segment));
        Ok(())
    }
}

/// Splits the first record off: its key, its value, and the rest.
fn record(bytes: &[u8]) -> Option<(&[u8], &[u8], &[u8])> {
    let space = bytes.iter().take(21).position(|byte| *byte == b' ')?;
    let length = usize::try_from(decimal(&bytes[..space])?).ok()?;
    if length > bytes.len() || length < space + 3 {
        return None;
    }
    let (record, rest) = bytes.split_at(length);
    let (&b'\n', pair) = record[space + 1..].split_last()? else {
        return None;
    };
    let equals = pair.iter().position(|byte| *byte == b'=')?;
    if equals == 0 {
        return None;
    }
    Some((&pair[..equals], &pair[equals + 1..], rest))
}

/// An empty value takes an earlier record back.
fn text(value: &[u8]) -> Option<Vec<u8>> {
    (!value.is_empty()).then(|| value.to_vec())
}

fn decimal_or_unset(value: &[u8]) -> Result<Option<u64>, &'static str> {
    if value.is_empty() {
        return Ok(None);
    }
    decimal(value)
        .map(Some)
        .ok_or("invalid number in a PAX record")
}

/// A decimal number that a file's length can be.
pub(super) fn decimal(text: &[u8]) -> Option<u64> {
    if text.is_empty() || !text.iter().all(u8::is_ascii_digit) {
        return None;
    }
    let value: u64 = std::str::from_utf8(text).ok()?.parse().ok()?;
    i64::try_from(value).is_ok().then_some(value)
}

/// `[-]seconds[.fraction]`, as seconds rounded down and nanoseconds.
fn time(value: &[u8]) -> Option<(i64, u32)> {
    let (negative, value) = match value.strip_prefix(b"-") {
        Some(rest) => (true, rest),
        None => (false, value),
    };
    let mut parts = value.splitn(2, |byte| *byte == b'.');
    let seconds = i64::try_from(decimal(parts.next()?)?).ok()?;
    let fraction = parts.next().unwrap_or_default();
    if !fraction.iter().all(u8::is_ascii_digit) {
        return None;
    }
    let digits = fraction.iter().copied().chain(std::iter::repeat(b'0'));
    let nanos = digits
        .take(9)
        .fold(0_u32, |value, digit| value * 10 + u32::from(digit - b'0'));
    Some(match (negative, nanos) {
        (false, _) => (seconds, nanos),
        (true, 0) => (-seconds, 0),
        (true, _) => (-seconds - 1, 1_000_000_000 - nanos),
    })
}

/// The time of a header without a PAX record.
pub(super) fn header_time(field: &[u8]) -> Option<(i64, u32)> {
    number::field(field).map(|seconds| (seconds, 0))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn records(bytes: &[u8]) -> Result<Records, &'static str> {
        let mut records = Records::default();
        records.add_pax(bytes).map(|()| records)
    }

    #[test]
    fn keeps_binary_values() {
        let found = records(b"38 SCHILY.xattr.security.capability=\n\n").unwrap();
        assert_eq!(
            found.xattrs,
            [(b"security.capability".to_vec(), b"\n".to_vec())]
        );
    }

    #[test]
    fn refuses_malformed_records() {
        for bad in [
            &b"5 a=b"[..],
            b"6 a=b\n\n",
            b"7 a=b\n",
            b"6 =ab\n",
            b"x a=b\n",
            b"99999999999999999999999 a=b\n",
            b"4 =\n",
            b"10 size=-1\n",
        ] {
            assert!(records(bad).is_err(), "{bad:?}");
        }
    }

    #[test]
    fn reads_times_before_the_epoch() {
        let check = |text: &[u8], value| assert_eq!(time(text), value, "{text:?}");
        check(b"1.5", Some((1, 500_000_000)));
        check(b"-1.5", Some((-2, 500_000_000)));
        check(b"-1", Some((-1, 0)));
        check(b"1.1234567899", Some((1, 123_456_789)));
        check(b"1.x", None);
        check(b"", None);
    }
}
