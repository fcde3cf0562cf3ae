//! Archives of images (`docker save`, OCI layouts in a tar): one member after another, as they come.
//!
//! The walk is that of layers, so it is bounded in the same way; what the names mean is the caller's.

use std::io::{self, BufReader, Read};

use crate::compression::Decoder;
use crate::tar_stream::{self, ArchiveError, Kind, shown};

/// The longest name of a member; those of image archives have some hundred bytes.
const NAME_MAX: usize = 1024;
const INPUT: usize = 256 * 1024;

/// An archive, packed in any known way, that is read once from its beginning.
pub struct Archive<R: Read> {
    members: tar_stream::Archive<BufReader<Decoder<R>>>,
}

impl<R: Read> std::fmt::Debug for Archive<R> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Archive").finish_non_exhaustive()
    }
}

/// A member; its data is read from the archive.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Member {
    /// Its name as the archive has it.
    pub name: String,
    /// What it is.
    pub kind: MemberKind,
    /// Bytes of its data.
    pub size: u64,
}

/// What a member is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum MemberKind {
    /// A regular file.
    File,
    /// A symbolic link, relative to its folder.
    Symlink(String),
    /// Another name of a member.
    HardLink(String),
    /// A folder.
    Folder,
    /// What no image has: a device or a pipe.
    Other,
}

impl<R: Read> Archive<R> {
    /// Looks at the first bytes of a source and starts the fitting decoder.
    ///
    /// # Errors
    ///
    /// The source fails, or is packed in a way that is not supported.
    pub fn new(source: R) -> io::Result<Self> {
        let input = BufReader::with_capacity(INPUT, Decoder::new(source)?);
        Ok(Self {
            members: tar_stream::Archive::new(input),
        })
    }

    /// Steps over what is left of the member, and reads the next one's head; `None` at the end.
    ///
    /// # Errors
    ///
    /// The source fails or is damaged, or a name is too long or no text.
    pub fn next_member(&mut self) -> Result<Option<Member>, ArchiveError> {
        let Some(entry) = self.members.next()? else {
            return Ok(None);
        };
        let refuse = |reason| ArchiveError::Entry {
            entry: shown(&entry.name),
            reason,
        };
        if entry.sparse.is_some() {
            return Err(refuse("a sparse file in an image's archive"));
        }
        let text = |bytes: &[u8]| match std::str::from_utf8(bytes) {
            Ok(text) if text.len() <= NAME_MAX => Ok(text.to_owned()),
            Ok(_) => Err(refuse("a name of more than 1024 bytes")),
            Err(_) => Err(refuse("a name that is not UTF-8")),
        };
        Ok(Some(Member {
            name: text(&entry.name)?,
            kind: match entry.kind {
                Kind::File => MemberKind::File,
                Kind::Dir => MemberKind::Folder,
                Kind::Symlink => MemberKind::Symlink(text(&entry.link)?),
                Kind::HardLink => MemberKind::HardLink(text(&entry.link)?),
                Kind::CharDevice | Kind::BlockDevice | Kind::Fifo => MemberKind::Other,
            },
            size: entry.size,
        }))
    }
}

impl<R: Read> Read for Archive<R> {
    /// Reads the data of the member.
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let chunk = self.members.chunk().map_err(io::Error::other)?;
        let count = chunk.len().min(buffer.len());
        buffer[..count].copy_from_slice(&chunk[..count]);
        self.members.consume(count);
        Ok(count)
    }
}
