//! One entry of a tar stream, its headers put together.

use tar::Header;

use super::number;
use super::pax::{self, Records};
use super::sparse::{self, Segment};

/// What an entry is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    File,
    Dir,
    Symlink,
    HardLink,
    CharDevice,
    BlockDevice,
    Fifo,
}

/// An entry's description; its data follows in the archive.
#[derive(Debug)]
pub(crate) struct Entry {
    /// The name as the archive has it.
    pub(crate) name: Vec<u8>,
    /// Target of a link.
    pub(crate) link: Vec<u8>,
    pub(crate) kind: Kind,
    /// Permission bits with setuid, setgid and sticky.
    pub(crate) mode: u32,
    pub(crate) uid: u64,
    pub(crate) gid: u64,
    /// Seconds and nanoseconds.
    pub(crate) mtime: (i64, u32),
    /// Major and minor number of a device.
    pub(crate) device: (u32, u32),
    pub(crate) xattrs: Vec<(Vec<u8>, Vec<u8>)>,
    /// Length of the file.
    pub(crate) size: u64,
    /// Where the data belongs in a sparse file; a plain file has none.
    pub(crate) sparse: Option<Vec<Segment>>,
    /// Bytes that the entry takes in the archive.
    pub(super) stored: u64,
    /// The sparse map stands in front of the data (PAX 1.0).
    pub(super) sparse_in_data: bool,
    /// More blocks of the sparse map follow the header (old GNU).
    pub(super) extended_sparse: bool,
}

/// The name of an entry, from the most telling of its headers.
pub(super) fn name(header: &Header, records: &Records) -> Vec<u8> {
    let told = records.sparse.name.as_ref().or(records.path.as_ref());
    match told.or(records.long_name.as_ref()) {
        Some(name) => name.clone(),
        None => header.path_bytes().into_owned(),
    }
}

impl Entry {
    pub(super) fn parse(
        header: &Header,
        mut records: Records,
        name: &[u8],
    ) -> Result<Self, &'static str> {
        let kind = kind(header.as_bytes()[156], name)?;
        let old = header.as_old();
        let number = |field: &[u8], what| number::field(field).ok_or(what);
        let id = |told: Option<u64>, field: &[u8], what| match told {
            Some(id) => Ok(id),
            None => u64::try_from(number(field, what)?).map_err(|_| what),
        };
        // Go sets the size of everything but files to zero, whatever the header says.
        let stored = match kind {
            Kind::File => records.size.map_or_else(|| number::size(header), Ok)?,
            _ => 0,
        };
        let link = match records.link.take().or(records.long_link.take()) {
            Some(link) => link,
            None => header.link_name_bytes().unwrap_or_default().into_owned(),
        };
        let mode = number(&old.mode, "invalid mode")? & 0o7777;
        let mtime = match records.mtime {
            Some(time) => time,
            None => pax::header_time(&old.mtime).ok_or("invalid modification time")?,
        };
        let mut entry = Self {
            name: name.to_vec(),
            link,
            kind,
            mode: u32::try_from(mode).map_err(|_| "invalid mode")?,
            uid: id(records.uid, &old.uid, "invalid user id")?,
            gid: id(records.gid, &old.gid, "invalid group id")?,
            mtime,
            device: device(header, kind)?,
            xattrs: records.xattrs,
            size: stored,
            sparse: None,
            stored,
            sparse_in_data: false,
            extended_sparse: false,
        };
        if kind == Kind::File {
            entry.take_sparse(header, records.sparse)?;
        }
        Ok(entry)
    }

    fn take_sparse(
        &mut self,
        header: &Header,
        records: pax::SparseRecords,
    ) -> Result<(), &'static str> {
        if header.as_bytes()[156] == b'S' {
            let gnu = header
                .as_gnu()
                .ok_or("a sparse file without a GNU header")?;
            let mut map = Vec::new();
            self.extended_sparse = sparse::old_gnu_header(gnu, &mut map)?;
            let real = number::field(&gnu.realsize).and_then(|size| u64::try_from(size).ok());
            self.size = real.ok_or("invalid size of a sparse file")?;
            self.sparse = Some(map);
            return Ok(());
        }
        let version = (records.major, records.minor);
        match version {
            (Some(1), Some(0)) => self.sparse_in_data = true,
            (None, None) | (Some(0), Some(0 | 1)) if records.has_map => {
                self.sparse = Some(records.map);
            }
            (None, None) => return Ok(()),
            _ => return Err("an unknown format of sparse file"),
        }
        self.size = records.real_size.ok_or("a sparse file without a size")?;
        Ok(())
    }

    /// Checks that the pieces are in order, inside the file, and are all the data there is.
    pub(super) fn check_sparse(&self, data: u64) -> Result<(), &'static str> {
        let Some(map) = &self.sparse else {
            return Ok(());
        };
        let (mut end, mut total) = (0_u64, 0_u64);
        for piece in map {
            if piece.offset < end {
                return Err("a sparse map that is not in order");
            }
            end = piece
                .offset
                .checked_add(piece.length)
                .ok_or("invalid sparse map")?;
            total = total.saturating_add(piece.length);
        }
        if end > self.size || total != data {
            return Err("a sparse map that does not fit its file");
        }
        Ok(())
    }
}

fn kind(flag: u8, name: &[u8]) -> Result<Kind, &'static str> {
    Ok(match flag {
        // Before POSIX a directory was a file whose name ends in a slash.
        0 | b'0' if name.ends_with(b"/") => Kind::Dir,
        0 | b'0' | b'7' | b'S' => Kind::File,
        b'1' => Kind::HardLink,
        b'2' => Kind::Symlink,
        b'3' => Kind::CharDevice,
        b'4' => Kind::BlockDevice,
        b'5' => Kind::Dir,
        b'6' => Kind::Fifo,
        _ => return Err("an unknown type of entry"),
    })
}

fn device(header: &Header, kind: Kind) -> Result<(u32, u32), &'static str> {
    if !matches!(kind, Kind::CharDevice | Kind::BlockDevice) {
        return Ok((0, 0));
    }
    // Both fields stand at the same place in ustar and GNU headers; older ones have none.
    if header.as_ustar().is_none() && header.as_gnu().is_none() {
        return Err("a device without a number");
    }
    let bytes = header.as_bytes();
    let part = |field: &[u8]| {
        let value = number::field(field);
        let value = value.and_then(|value| u32::try_from(value).ok());
        value.ok_or("invalid device number")
    };
    Ok((part(&bytes[329..337])?, part(&bytes[337..345])?))
}
