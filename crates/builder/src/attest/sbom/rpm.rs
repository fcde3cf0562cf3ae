//! Packages of Red Hat, SUSE and their kin: rpm's database, which is one of `SQLite`, rpm's own `ndb`, or
//! Berkeley DB, as rpm 4.15 and older made it.

use super::root::Root;
use super::{Distribution, Package, bdb, ndb, sqlite};

const SQLITE: [&str; 2] = [
    "var/lib/rpm/rpmdb.sqlite",
    "usr/lib/sysimage/rpm/rpmdb.sqlite",
];
const NDB: [&str; 2] = [
    "var/lib/rpm/Packages.db",
    "usr/lib/sysimage/rpm/Packages.db",
];
const BDB: [&str; 2] = ["var/lib/rpm/Packages", "usr/lib/sysimage/rpm/Packages"];
const MAX: u64 = 512 << 20;
/// Entries of a header at most.
const ENTRIES_MAX: usize = 65_536;

/// Tags of a header (rpm's lib/rpmtag.h).
const NAME: u32 = 1000;
const VERSION: u32 = 1001;
const RELEASE: u32 = 1002;
const EPOCH: u32 = 1003;
const LICENSE: u32 = 1014;
const ARCH: u32 = 1022;
const SOURCE: u32 = 1044;

pub(super) fn find(root: &Root, distribution: &Distribution, add: &mut dyn FnMut(Package)) {
    if let Some((path, bytes)) = first(root, &SQLITE) {
        sqlite::blobs(&bytes, "Packages", &mut |header| {
            package(header, path, distribution)
                .into_iter()
                .for_each(&mut *add);
        });
    }
    for (places, blobs) in [
        (NDB, ndb::blobs as fn(&[u8], &mut dyn FnMut(&[u8]))),
        (BDB, bdb::blobs),
    ] {
        let Some((path, bytes)) = first(root, &places) else {
            continue;
        };
        blobs(&bytes, &mut |header| {
            package(header, path, distribution)
                .into_iter()
                .for_each(&mut *add);
        });
    }
}

/// The first of some files that is there.
fn first(root: &Root, places: &[&'static str]) -> Option<(&'static str, Vec<u8>)> {
    let mut places = places.iter();
    places.find_map(|path| Some((*path, root.bytes(path, MAX)?)))
}

/// A number of four bytes, the highest first.
pub(super) fn word(bytes: &[u8], at: usize) -> Option<u32> {
    let field = bytes.get(at..at.checked_add(4)?)?;
    Some(
        field
            .iter()
            .fold(0, |sum, byte| sum << 8 | u32::from(*byte)),
    )
}

fn size(number: u32) -> Option<usize> {
    usize::try_from(number).ok()
}

/// A header: entries of tag, type, offset and count, and behind them what they point to.
struct Header<'h> {
    entries: usize,
    index: &'h [u8],
    data: &'h [u8],
}

impl<'h> Header<'h> {
    fn read(bytes: &'h [u8]) -> Option<Self> {
        let entries = size(word(bytes, 0)?)?;
        let length = size(word(bytes, 4)?)?;
        if entries > ENTRIES_MAX {
            return None;
        }
        let (index, data) = bytes.get(8..)?.split_at_checked(entries * 16)?;
        Some(Self {
            entries,
            index,
            data: data.get(..length.min(data.len()))?,
        })
    }

    fn at(&self, tag: u32) -> Option<&'h [u8]> {
        let mut places = 0..self.entries;
        let place = places.find(|place| word(self.index, place * 16) == Some(tag))?;
        self.data.get(size(word(self.index, place * 16 + 8)?)?..)
    }

    fn text(&self, tag: u32) -> String {
        let bytes = self.at(tag).unwrap_or_default();
        let end = bytes.iter().position(|byte| *byte == 0);
        String::from_utf8_lossy(&bytes[..end.unwrap_or(0)]).into_owned()
    }
}

fn package(header: &[u8], path: &str, distribution: &Distribution) -> Option<Package> {
    let header = Header::read(header)?;
    let name = header.text(NAME);
    // the keys that packages are signed by stand among the packages
    if name.is_empty() || name == "gpg-pubkey" {
        return None;
    }
    let version = format!("{}-{}", header.text(VERSION), header.text(RELEASE));
    let epoch = header.at(EPOCH).and_then(|bytes| word(bytes, 0));
    let epoch = epoch.map(|epoch| epoch.to_string()).unwrap_or_default();
    let kind = format!("rpm/{}", distribution.id_or("redhat"));
    let mut package = Package::new(&kind, &name, &version, path)
        .with("arch", &header.text(ARCH))
        .with("distro", &distribution.name())
        .with("epoch", &epoch)
        .with("upstream", &header.text(SOURCE));
    package.license = header.text(LICENSE);
    Some(package)
}
