//! The files of an archive: documents in memory, all others in the content store by their digests.

use std::collections::HashMap;
use std::io::{self, Read, Write as _};
use std::time::{Duration, Instant};

use oci::Digest;
use storage::BlobWriter;
use storage::image_archive::{Archive, Member, MemberKind};

use super::super::store::Lease;
use super::early::{Coming, Early, START};
use crate::engine::Engine;
use crate::error::{Error, Result, Step};

/// Members of an archive at most; an image of 500 layers in the oldest format has 1,500.
const MEMBERS_MAX: usize = 100_000;
/// The longest of the documents that are read into memory.
const DOCUMENT_MAX: u64 = 8 << 20;
/// Bytes that are copied at once.
const PIECE: usize = 256 << 10;
/// How often the growing lease is written down.
const NOTE: Duration = Duration::from_secs(1);
/// What the work is called there.
pub(super) const WORK: &str = "load";
/// A chain of links that is longer is a circle.
const LINKS_MAX: usize = 8;

/// The documents that say what an archive holds.
pub(super) const MANIFEST: &str = "manifest.json";
pub(super) const INDEX: &str = "index.json";
pub(super) const LAYOUT: &str = "oci-layout";
const DOCUMENTS: [&str; 3] = [MANIFEST, INDEX, LAYOUT];

/// A file's content in the content store.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Stored {
    pub(super) digest: Digest,
    pub(super) size: u64,
}

#[derive(Debug)]
enum File {
    Document(Vec<u8>),
    Stored(Stored),
    /// The name of another file.
    Link(String),
}

/// The files of an archive by their names; what is stored stays as long as the lease.
#[derive(Debug)]
pub(super) struct Files {
    by_name: HashMap<String, File>,
    pub(super) lease: Lease,
    /// When the lease was written down last.
    noted: Option<Instant>,
}

impl Files {
    /// Reads an archive to its end.
    pub(super) fn read(
        engine: &Engine,
        source: impl Read,
        lease: Lease,
        early: Option<&Early>,
    ) -> Result<Self> {
        let damaged = |e: &(dyn std::error::Error + 'static)| {
            Error::invalid(format!("read the archive: {}", crate::error::chain(e)))
        };
        let mut archive = Archive::new(source).map_err(|e| damaged(&e))?;
        let mut files = Self {
            by_name: HashMap::new(),
            lease,
            noted: None,
        };
        let mut members = 0;
        while let Some(member) = archive.next_member().map_err(|e| damaged(&e))? {
            members += 1;
            if members > MEMBERS_MAX {
                return Err(Error::invalid(format!(
                    "the archive has more than {MEMBERS_MAX} members"
                )));
            }
            files.add(engine, &member, &mut archive, early)?;
        }
        Ok(files)
    }

    fn add(
        &mut self,
        engine: &Engine,
        member: &Member,
        archive: &mut Archive<impl Read>,
        early: Option<&Early>,
    ) -> Result<()> {
        let Some(name) = plain("", &member.name) else {
            return Err(Error::invalid(format!(
                "invalid name in the archive: {:?} leads out of it",
                member.name
            )));
        };
        let file = match &member.kind {
            MemberKind::File if DOCUMENTS.contains(&name.as_str()) => {
                File::Document(document(&name, member.size, archive)?)
            }
            MemberKind::File if is_unused(&name) => return Ok(()),
            MemberKind::File => {
                let stored = self.store(engine, (&name, member.size), archive, early)?;
                File::Stored(stored)
            }
            MemberKind::Symlink(target) => match plain(folder_of(&name), target) {
                Some(target) => File::Link(target),
                // it leads to nothing that is in the archive
                None => return Ok(()),
            },
            MemberKind::HardLink(target) => match plain("", target) {
                Some(target) => File::Link(target),
                None => return Ok(()),
            },
            MemberKind::Folder | MemberKind::Other => return Ok(()),
        };
        self.by_name.insert(name, file);
        Ok(())
    }

    /// Puts a file into the content store; one that is named by a digest must have it.
    fn store(
        &mut self,
        engine: &Engine,
        (name, size): (&str, u64),
        archive: &mut Archive<impl Read>,
        early: Option<&Early>,
    ) -> Result<Stored> {
        let step = || format!("store {name:?} of the archive");
        let expected: Option<Digest> = name
            .strip_prefix("blobs/sha256/")
            .and_then(|hex| format!("sha256:{hex}").parse().ok());
        let promise = expected.clone().map(|digest| (digest, size));
        let mut writer = engine.store.content().writer(promise).step(step)?;
        let begin = |start: &[u8], writer: &BlobWriter| {
            early?.begin(start, (expected.as_ref(), size), writer)
        };
        let coming = copy(archive, &mut writer, begin)
            .map_err(|e| Error::invalid(format!("{}: {}", step(), crate::error::chain(&e))))?;
        let digest = writer.digest();
        if let Some(expected) = expected.filter(|expected| *expected != digest) {
            return Err(Error::invalid(format!(
                "{}: blob verification failed: expected {expected}, the content is {digest}",
                step()
            )));
        }
        if let Some(coming) = coming {
            coming.finish(digest.clone());
        }
        self.hold(engine, &digest);
        if engine
            .store
            .content()
            .size(&digest)
            .is_ok_and(|known| known == size)
        {
            return Ok(Stored { digest, size });
        }
        let (digest, size) = writer
            .commit()
            .map_err(|e| Error::invalid(format!("{}: {}", step(), crate::error::chain(&e))))?;
        Ok(Stored { digest, size })
    }

    /// Keeps a blob from being collected, also when the engine dies.
    fn hold(&mut self, engine: &Engine, digest: &Digest) {
        engine.images.leases.extend(&mut self.lease, digest.clone());
        if self.noted.is_none_or(|noted| noted.elapsed() > NOTE) {
            engine.note_lease_blocking(&self.lease, WORK);
            self.noted = Some(Instant::now());
        }
    }

    /// A document that was kept in memory.
    pub(super) fn document(&self, name: &str) -> Option<&[u8]> {
        match self.by_name.get(name) {
            Some(File::Document(bytes)) => Some(bytes),
            _ => None,
        }
    }

    /// A file by the name that a document gives it, behind all links.
    pub(super) fn stored(&self, name: &str) -> Option<&Stored> {
        let mut name = plain("", name)?;
        for _ in 0..LINKS_MAX {
            match self.by_name.get(&name)? {
                File::Stored(stored) => return Some(stored),
                File::Link(target) => name = target.clone(),
                File::Document(_) => return None,
            }
        }
        None
    }

    /// A blob of an image layout.
    pub(super) fn blob(&self, digest: &Digest) -> Option<&Stored> {
        self.stored(&format!("blobs/sha256/{}", digest.hex()))
    }
}

/// Copies in larger pieces than [`io::copy`]: hashing and writing have a price a call. Who follows the
/// writer is asked for when the beginning is there.
fn copy<'e>(
    source: &mut impl Read,
    target: &mut BlobWriter,
    begin: impl FnOnce(&[u8], &BlobWriter) -> Option<Coming<'e>>,
) -> io::Result<Option<Coming<'e>>> {
    let mut piece = vec![0; PIECE];
    let mut count = fill(source, &mut piece[..START])?;
    let coming = begin(&piece[..count], target);
    while count > 0 {
        target.write_all(&piece[..count])?;
        if let Some(coming) = &coming {
            coming.advance(count);
        }
        count = source.read(&mut piece)?;
    }
    Ok(coming)
}

/// Reads until a buffer is full or the source has ended.
fn fill(source: &mut impl Read, buffer: &mut [u8]) -> io::Result<usize> {
    let mut filled = 0;
    while filled < buffer.len() {
        match source.read(&mut buffer[filled..])? {
            0 => break,
            count => filled += count,
        }
    }
    Ok(filled)
}

fn document(name: &str, size: u64, archive: &mut impl Read) -> Result<Vec<u8>> {
    if size > DOCUMENT_MAX {
        return Err(Error::invalid(format!(
            "{name} has {size} bytes, more than the {DOCUMENT_MAX} allowed"
        )));
    }
    let mut bytes = Vec::new();
    archive
        .take(DOCUMENT_MAX)
        .read_to_end(&mut bytes)
        .map_err(|e| Error::invalid(format!("read {name}: {}", crate::error::chain(&e))))?;
    Ok(bytes)
}

/// What only Docker before 1.10 read: `repositories`, and a `json` and a `VERSION` a layer.
fn is_unused(name: &str) -> bool {
    name == "repositories" || name.ends_with("/json") || name.ends_with("/VERSION")
}

fn folder_of(name: &str) -> &str {
    name.rsplit_once('/').map_or("", |(folder, _)| folder)
}

/// A name below a folder without `.` and `..`; nothing where it leads out of the archive or is empty.
fn plain(folder: &str, name: &str) -> Option<String> {
    if name.starts_with('/') {
        return None;
    }
    let mut parts: Vec<&str> = Vec::new();
    for part in folder.split('/').chain(name.split('/')) {
        match part {
            "" | "." => {}
            ".." => drop(parts.pop()?),
            part => parts.push(part),
        }
    }
    // the root itself is a folder, and no folder is looked up
    Some(parts.join("/"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_never_leave_the_archive() {
        for (folder, name, expect) in [
            ("", "./a//b", Some("a/b")),
            ("", "a/../b", Some("b")),
            ("", "../b", None),
            ("", "/etc/passwd", None),
            ("l1", "../l0/layer.tar", Some("l0/layer.tar")),
            ("l1", "../../l0", None),
            ("", "./", Some("")),
        ] {
            assert_eq!(plain(folder, name).as_deref(), expect, "{folder} {name}");
        }
    }
}
