//! Tar headers as POSIX has them: ustar, with PAX records where a field is too small.

use std::io::{self, Write};

use tar::{EntryType, Header};

use crate::tar_stream::Kind;

/// The unit of a tar stream.
const BLOCK: u64 = 512;
/// The largest user or group id of a ustar field: seven octal digits.
const MAX_ID: u64 = 0o777_7777;
/// The largest length, and the last second, of a ustar field: eleven octal digits.
const MAX_LONG: u64 = 0o777_7777_7777;
/// The longest name of a ustar field.
const MAX_NAME: usize = 100;

/// What a header says of a file.
#[derive(Debug)]
pub(crate) struct Description {
    pub(crate) kind: Kind,
    /// Permission bits with setuid, setgid and sticky.
    pub(crate) mode: u32,
    pub(crate) uid: u32,
    pub(crate) gid: u32,
    /// Length of a file's data.
    pub(crate) size: u64,
    /// Seconds and nanoseconds.
    pub(crate) mtime: (i64, u32),
    /// Target of a link.
    pub(crate) link: Vec<u8>,
    /// Major and minor number of a device.
    pub(crate) device: (u32, u32),
    pub(crate) xattrs: Vec<(Vec<u8>, Vec<u8>)>,
}

/// Writes entries to a stream.
#[derive(Debug)]
pub(crate) struct TarWriter<W> {
    output: W,
    /// The last second that a file may be of.
    latest: Option<i64>,
}

impl<W: Write> TarWriter<W> {
    pub(crate) fn new(output: W) -> Self {
        Self {
            output,
            latest: None,
        }
    }

    /// From now on, files that are younger get this second as theirs.
    pub(crate) fn clamp(&mut self, latest: i64) {
        self.latest = Some(latest);
    }

    /// The time of a file as it is written.
    fn time(&self, file: &Description) -> (i64, u32) {
        match self.latest {
            Some(latest) if file.mtime > (latest, 0) => (latest, 0),
            _ => file.mtime,
        }
    }

    /// Writes an entry's headers; its data has to follow by [`Self::data`].
    pub(crate) fn header(&mut self, name: &[u8], file: &Description) -> io::Result<()> {
        let time = self.time(file);
        let records = records(name, file, time);
        if !records.is_empty() {
            let mut header = ustar(b"PaxHeaders/file", EntryType::XHeader, 0o644);
            header.set_size(records.len() as u64);
            self.sealed(&mut header)?;
            self.output.write_all(&records)?;
            self.pad(records.len() as u64)?;
        }
        let mut header = ustar(name, entry_type(file.kind), file.mode);
        set_bytes(&mut header.as_old_mut().linkname, &file.link);
        header.set_uid(small(u64::from(file.uid), MAX_ID));
        header.set_gid(small(u64::from(file.gid), MAX_ID));
        header.set_size(small(file.size, MAX_LONG));
        header.set_mtime(small(u64::try_from(time.0).unwrap_or(0), MAX_LONG));
        if matches!(file.kind, Kind::CharDevice | Kind::BlockDevice) {
            header.set_device_major(file.device.0)?;
            header.set_device_minor(file.device.1)?;
        }
        self.sealed(&mut header)
    }

    fn sealed(&mut self, header: &mut Header) -> io::Result<()> {
        header.set_cksum();
        self.output.write_all(header.as_bytes())
    }

    /// Copies an entry's data. A file that has become shorter is filled up with zeros, and what a
    /// longer one has more is left out: the header has promised a length.
    pub(crate) fn data(&mut self, source: &mut dyn io::Read, size: u64) -> io::Result<()> {
        let mut buffer = vec![0; usize::try_from(size.clamp(1, 128 * 1024)).unwrap_or(1)];
        let mut left = size;
        while left > 0 {
            let most = usize::try_from(left).map_or(buffer.len(), |left| left.min(buffer.len()));
            let count = match source.read(&mut buffer[..most]) {
                Ok(0) => break,
                Ok(count) => count,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
                Err(error) => return Err(error),
            };
            self.output.write_all(&buffer[..count])?;
            left -= count as u64;
        }
        io::copy(&mut io::Read::take(io::repeat(0), left), &mut self.output)?;
        self.pad(size)
    }

    fn pad(&mut self, size: u64) -> io::Result<()> {
        let rest = usize::try_from(size.wrapping_neg() % BLOCK).unwrap_or(0);
        self.output.write_all(&[0; 512][..rest])
    }

    /// Writes the mark of the end, and gives the output back.
    pub(crate) fn finish(mut self) -> io::Result<W> {
        self.output.write_all(&[0; 1024])?;
        self.output.flush()?;
        Ok(self.output)
    }
}

fn ustar(name: &[u8], kind: EntryType, mode: u32) -> Header {
    let mut header = Header::new_ustar();
    set_bytes(&mut header.as_old_mut().name, name);
    header.set_entry_type(kind);
    header.set_mode(mode);
    header.set_uid(0);
    header.set_gid(0);
    header.set_mtime(0);
    header
}

/// Puts as much into a field as it holds; the rest is told by a record.
fn set_bytes(field: &mut [u8; 100], bytes: &[u8]) {
    let count = bytes.len().min(field.len());
    field[..count].copy_from_slice(&bytes[..count]);
}

fn small(value: u64, most: u64) -> u64 {
    if value > most { 0 } else { value }
}

fn entry_type(kind: Kind) -> EntryType {
    match kind {
        Kind::File => EntryType::Regular,
        Kind::Dir => EntryType::Directory,
        Kind::Symlink => EntryType::Symlink,
        Kind::HardLink => EntryType::Link,
        Kind::CharDevice => EntryType::Char,
        Kind::BlockDevice => EntryType::Block,
        Kind::Fifo => EntryType::Fifo,
    }
}

/// The PAX records that an entry needs, in an order that does not change.
fn records(name: &[u8], file: &Description, (seconds, nanos): (i64, u32)) -> Vec<u8> {
    let mut all = Vec::new();
    if name.len() > MAX_NAME {
        record(&mut all, b"path", name);
    }
    if file.link.len() > MAX_NAME {
        record(&mut all, b"linkpath", &file.link);
    }
    if file.size > MAX_LONG {
        record(&mut all, b"size", file.size.to_string().as_bytes());
    }
    for (key, id) in [(&b"uid"[..], file.uid), (b"gid", file.gid)] {
        if u64::from(id) > MAX_ID {
            record(&mut all, key, id.to_string().as_bytes());
        }
    }
    if nanos != 0 || !u64::try_from(seconds).is_ok_and(|seconds| seconds <= MAX_LONG) {
        record(&mut all, b"mtime", time(seconds, nanos).as_bytes());
    }
    for (key, value) in &file.xattrs {
        record(
            &mut all,
            &[b"SCHILY.xattr.", key.as_slice()].concat(),
            value,
        );
    }
    all
}

/// `length key=value\n`, where the length counts itself.
fn record(all: &mut Vec<u8>, key: &[u8], value: &[u8]) {
    let rest = key.len() + value.len() + 3;
    let mut length = rest;
    while length != rest + length.to_string().len() {
        length = rest + length.to_string().len();
    }
    all.extend_from_slice(length.to_string().as_bytes());
    all.push(b' ');
    all.extend_from_slice(key);
    all.push(b'=');
    all.extend_from_slice(value);
    all.push(b'\n');
}

/// Seconds with their fraction, as PAX writes them also before 1970.
fn time(seconds: i64, nanos: u32) -> String {
    let (sign, whole, nanos) = match (seconds < 0, nanos) {
        (false, _) => ("", seconds.unsigned_abs(), nanos),
        (true, 0) => ("-", seconds.unsigned_abs(), 0),
        (true, _) => ("-", (seconds + 1).unsigned_abs(), 1_000_000_000 - nanos),
    };
    if nanos == 0 {
        return format!("{sign}{whole}");
    }
    let fraction = format!("{nanos:09}");
    format!("{sign}{whole}.{}", fraction.trim_end_matches('0'))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tar_stream::Archive;

    fn file(size: u64) -> Description {
        Description {
            kind: Kind::File,
            mode: 0o4755,
            uid: 3_000_000,
            gid: 7,
            size,
            mtime: (-2, 500_000_000),
            link: Vec::new(),
            device: (0, 0),
            xattrs: vec![(b"user.x".to_vec(), b"a\nb".to_vec())],
        }
    }

    #[test]
    fn what_is_written_is_read_again() {
        for name in [&b"short"[..], &[b'n'; 100], &[b'n'; 101], &[b'\xff'; 300]] {
            let mut writer = TarWriter::new(Vec::new());
            writer.header(name, &file(5)).unwrap();
            // one file has become shorter, the other one longer
            writer.data(&mut &b"abc"[..], 5).unwrap();
            writer.header(b"second", &file(2)).unwrap();
            writer.data(&mut &b"xyz"[..], 2).unwrap();
            let bytes = writer.finish().unwrap();
            assert_eq!(bytes.len() % 512, 0);
            let mut archive = Archive::new(&bytes[..]);
            let entry = archive.next().unwrap().unwrap();
            assert_eq!(entry.name, name);
            assert_eq!((entry.uid, entry.gid, entry.mode), (3_000_000, 7, 0o4755));
            assert_eq!(entry.mtime, (-2, 500_000_000));
            assert_eq!(entry.xattrs, file(5).xattrs);
            assert_eq!(archive.chunk().unwrap()[..5], *b"abc\0\0");
            let entry = archive.next().unwrap().unwrap();
            assert_eq!((entry.name.as_slice(), entry.size), (&b"second"[..], 2));
            assert_eq!(archive.chunk().unwrap()[..2], *b"xy");
            assert!(archive.next().unwrap().is_none());
        }
    }

    #[test]
    fn records_count_their_own_length() {
        for (value, expect) in [
            (&b"v"[..], &b"6 k=v\n"[..]),
            (b"12345", b"11 k=12345\n"),
            (b"1234", b"9 k=1234\n"),
        ] {
            let mut all = Vec::new();
            record(&mut all, b"k", value);
            assert_eq!(all, expect);
        }
    }

    #[test]
    fn times() {
        let check = |seconds, nanos, text: &str| assert_eq!(time(seconds, nanos), text);
        check(1, 0, "1");
        check(1, 500_000_000, "1.5");
        check(1, 1, "1.000000001");
        check(-1, 0, "-1");
        check(-2, 500_000_000, "-1.5");
        check(-1, 500_000_000, "-0.5");
    }
}
