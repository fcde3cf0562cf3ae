//! The entries of a layer on their way into an image.

use std::fs::File;
use std::io;

use rustix::io::Errno;

use super::format::{self, BLOCK, INODE, Inode, Layout, PIECE_BITS_MAX, Type};
use super::output::Output;
use super::tree::{Dir, Id, Leaf, Links, Node, Tree};
use super::xattrs::{Attribute, Verdict};
use super::{finish, tree, xattrs};
use crate::tar_stream::feed::Feed;
use crate::tar_stream::{Archive, Entry, Kind, Segment, shown};
use crate::unpack::attributes::{self, Owner};
use crate::unpack::{ApplyOptions, Refusal, Target, UnpackError, Unpacked, path, refuse, step};

/// The attribute by which overlayfs hides what lower layers have in a directory.
const OPAQUE: &[u8] = b"trusted.overlay.opaque";
/// The largest file: what ext4 takes, so that it can be copied up.
const FILE_MAX: u64 = 16 << 40;
/// The most pieces of a file with holes.
const PIECES_MAX: u64 = 32 << 10;
/// The longest target of a symbolic link (`PATH_MAX` without its NUL).
const LINK_MAX: usize = 4095;

/// An image that takes entries.
#[derive(Debug)]
pub(super) struct Writer {
    pub(super) out: Output,
    pub(super) tree: Tree,
    memory: u64,
    size: u64,
    opaque_root: bool,
}

impl Links for Output {
    fn target(&mut self, at: u64) -> Result<Vec<u8>, Errno> {
        let mut read = || -> io::Result<Vec<u8>> {
            let mut inode = [0; INODE];
            self.read(at, &mut inode)?;
            let (behind, size, block) = format::decode(&inode);
            let from = block.map_or(at + behind as u64, |block| u64::from(block) * BLOCK);
            let mut target = vec![0; usize::try_from(size).unwrap_or(LINK_MAX).min(LINK_MAX)];
            self.read(from, &mut target)?;
            Ok(target)
        };
        read().map_err(|error| Errno::from_io_error(&error).unwrap_or(Errno::IO))
    }
}

/// A name of an entry.
#[derive(Clone, Copy)]
struct Place<'a> {
    dir: Id,
    name: &'a [u8],
}

/// What of an entry goes into an inode: its attributes are encoded already.
struct Head<'a> {
    entry: &'a Entry,
    owner: Owner,
    kind: Type,
    mode: u32,
    xattrs: Vec<u8>,
}

impl Writer {
    pub(super) fn new(file: File, options: &ApplyOptions, now: (i64, u32)) -> Self {
        Self {
            out: Output::new(file),
            tree: Tree::new(now),
            memory: options.max_memory,
            size: 0,
            opaque_root: false,
        }
    }

    fn place<'a>(&mut self, entry: &Entry, path: &'a [u8]) -> Result<Place<'a>, UnpackError> {
        let (dir, name) = path::split(path).unwrap_or_default();
        let dir = self.parent(dir, entry)?;
        Ok(Place { dir, name })
    }

    fn parent(&mut self, dir: &[u8], entry: &Entry) -> Result<Id, UnpackError> {
        let found = self.tree.find_or_make(dir, &mut self.out);
        found.map_err(|error| match error {
            // A dangling symbolic link, a file, or a loop of symbolic links.
            Errno::NOENT | Errno::NOTDIR | Errno::LOOP => {
                let parent = shown(dir);
                refuse(&entry.name, Refusal::Parent { parent })
            }
            error => step("open the parent directory of", &entry.name)(error),
        })
    }

    fn head<'a>(&self, entry: &'a Entry, owner: Owner) -> Result<Head<'a>, UnpackError> {
        let kind = kind_of(entry.kind);
        let (mode, kept) = kept(entry, kind)?;
        // symlink(2) takes no mode
        let mode = if kind == Type::Link { 0o777 } else { mode };
        let xattrs =
            xattrs::encode(&kept).map_err(step("set an extended attribute of", &entry.name))?;
        Ok(Head {
            entry,
            owner,
            kind,
            mode,
            xattrs,
        })
    }

    /// Puts an inode out, with what stands behind its attributes; gives its place.
    fn inode(&mut self, head: &Head<'_>, value: Value<'_>) -> io::Result<u64> {
        let entry = head.entry;
        let inode = Inode {
            layout: value.layout,
            mode: head.kind.bits() | head.mode,
            uid: head.owner.uid,
            gid: head.owner.gid,
            mtime: entry.mtime,
            links: 1,
            size: value.size,
            value: value.value,
        };
        let mut bytes = Vec::with_capacity(INODE + head.xattrs.len() + value.behind.len());
        bytes.extend_from_slice(&inode.encode(head.xattrs.len()));
        bytes.extend_from_slice(&head.xattrs);
        bytes.extend_from_slice(value.behind);
        self.out.describe(&bytes)
    }

    /// Names what was put out; what had the name is gone.
    fn name(&mut self, at: Place<'_>, entry: &Entry, leaf: Leaf) -> Result<(), UnpackError> {
        self.tree.remove(at.dir, at.name);
        let added = self.tree.add(at.dir, at.name, Node::Leaf(leaf));
        added.map_err(step("make", &entry.name))?;
        self.check_memory(entry)
    }

    fn check_memory(&self, entry: &Entry) -> Result<(), UnpackError> {
        if self.tree.bytes > self.memory {
            let max = self.memory;
            return Err(refuse(&entry.name, Refusal::Names { max }));
        }
        Ok(())
    }

    fn file(&mut self, head: &Head<'_>, archive: &mut Archive<Feed>) -> Result<u64, UnpackError> {
        let entry = head.entry;
        if entry.size > FILE_MAX {
            return Err(step("create file", &entry.name)(Errno::FBIG));
        }
        self.size = self.size.saturating_add(entry.size);
        let failed = || step("write", &entry.name);
        if let Some(map) = &entry.sparse {
            let (pieces, bits) = self.pieces(map, entry, archive)?;
            let value = Value {
                layout: Layout::Pieces,
                size: entry.size,
                value: bits,
                behind: &pieces,
            };
            return self.inode(head, value).map_err(failed());
        }
        let block = self.out.next_block().map_err(failed())?;
        let tail = usize::try_from(entry.size % BLOCK).unwrap_or_default();
        let inline = tail > 0 && (INODE + head.xattrs.len() + tail) as u64 <= BLOCK;
        let content = entry.size - if inline { tail as u64 } else { 0 };
        self.copy(archive, entry, content)?;
        let mut last = Vec::new();
        if inline {
            take(archive, tail, &mut last)?;
        } else {
            self.out.end_block().map_err(failed())?;
        }
        let value = Value {
            layout: if inline {
                Layout::Inline
            } else {
                Layout::Plain
            },
            size: entry.size,
            value: block,
            behind: &last,
        };
        self.inode(head, value).map_err(failed())
    }

    /// Puts out so much content, from the buffers of who unpacks it.
    fn copy(
        &mut self,
        archive: &mut Archive<Feed>,
        entry: &Entry,
        mut length: u64,
    ) -> Result<(), UnpackError> {
        while length > 0 {
            let bytes = archive.chunk()?;
            let most = usize::try_from(length).unwrap_or(usize::MAX);
            let count = bytes.len().min(most);
            self.out
                .content(&bytes[..count])
                .map_err(step("write", &entry.name))?;
            archive.consume(count);
            length -= count as u64;
            if count == 0 {
                break;
            }
        }
        Ok(())
    }

    /// Puts a file with holes out in pieces of one length; gives their addresses, and the length
    /// as a power of two blocks.
    fn pieces(
        &mut self,
        map: &[Segment],
        entry: &Entry,
        archive: &mut Archive<Feed>,
    ) -> Result<(Vec<u8>, u32), UnpackError> {
        let failed = || step("write", &entry.name);
        let blocks = entry.size.div_ceil(BLOCK);
        let most = if map.iter().all(|piece| piece.length == 0) {
            1
        } else {
            PIECES_MAX
        };
        let fits = |bits: &u32| blocks.div_ceil(1 << bits) <= most;
        let bits = (0..PIECE_BITS_MAX).find(fits).unwrap_or(PIECE_BITS_MAX);
        let piece = BLOCK << bits;
        let count = usize::try_from(entry.size.div_ceil(piece)).unwrap_or_default();
        let mut addresses = vec![format::HOLE; count];
        // the piece that is being written, and how far it is
        let mut current: Option<(u64, u64)> = None;
        for segment in map {
            let (mut at, mut left) = (segment.offset, segment.length);
            while left > 0 {
                let index = at / piece;
                let written = match current {
                    Some((open, written)) if open == index => written,
                    _ => {
                        self.end_piece(current, piece, entry.size)
                            .map_err(failed())?;
                        let address = self.out.next_block().map_err(failed())?;
                        if let Some(slot) = usize::try_from(index)
                            .ok()
                            .and_then(|index| addresses.get_mut(index))
                        {
                            *slot = address;
                        }
                        index * piece
                    }
                };
                self.out.skip(at - written).map_err(failed())?;
                let length = left.min((index + 1) * piece - at);
                self.copy(archive, entry, length)?;
                (at, left) = (at + length, left - length);
                current = Some((index, at));
            }
        }
        self.end_piece(current, piece, entry.size)
            .map_err(failed())?;
        let bytes = addresses.iter().flat_map(|address| address.to_le_bytes());
        Ok((bytes.collect(), bits))
    }

    fn end_piece(&mut self, open: Option<(u64, u64)>, piece: u64, size: u64) -> io::Result<()> {
        let Some((index, written)) = open else {
            return Ok(());
        };
        let end = ((index + 1) * piece).min(size);
        self.out.skip(end.saturating_sub(written))?;
        self.out.end_block()
    }

    fn symlink(&mut self, head: &Head<'_>) -> Result<u64, UnpackError> {
        let entry = head.entry;
        let target = entry.link.as_slice();
        let failed = || step("make symbolic link", &entry.name);
        if target.contains(&0) {
            return Err(refuse(&entry.name, Refusal::Nul));
        }
        if target.is_empty() {
            return Err(failed()(Errno::NOENT.into()));
        }
        if target.len() > LINK_MAX {
            return Err(failed()(Errno::NAMETOOLONG.into()));
        }
        let inline = (INODE + head.xattrs.len() + target.len()) as u64 <= BLOCK;
        let mut value = Value {
            layout: Layout::Inline,
            size: target.len() as u64,
            value: 0,
            behind: target,
        };
        if !inline {
            (value.layout, value.behind) = (Layout::Plain, b"");
            value.value = self.out.next_block().map_err(failed())?;
            self.out.content(target).map_err(failed())?;
            self.out.end_block().map_err(failed())?;
        }
        self.inode(head, value).map_err(failed())
    }

    fn node(&mut self, head: &Head<'_>) -> Result<u64, UnpackError> {
        let entry = head.entry;
        let value = Value {
            layout: Layout::Plain,
            size: 0,
            value: format::device(entry.device),
            behind: b"",
        };
        self.inode(head, value)
            .map_err(step("make device node", &entry.name))
    }

    fn dir(&mut self, at: Place<'_>, entry: &Entry, owner: Owner) -> Result<(), UnpackError> {
        let (mode, kept) = kept(entry, Type::Directory)?;
        let there = self.tree.child(at.dir, at.name);
        let is_dir = there.filter(|id| self.tree.dir(*id).is_some());
        let id = if let Some(id) = is_dir {
            id
        } else {
            // The layer removes what lower layers have here, and then begins anew.
            let anew = there.is_some_and(|id| self.is_whiteout(id));
            self.tree.remove(at.dir, at.name);
            let made = self.tree.add_dir(at.dir, at.name);
            let made = made.map_err(step("make directory", &entry.name))?;
            if anew {
                self.set_opaque(made);
            }
            made
        };
        if let Some(dir) = self.tree.dir_mut(id) {
            describe(dir, entry, owner, &kept);
            dir.mode = mode;
        }
        self.charge(&kept);
        self.check_memory(entry)
    }

    /// Attributes of directories are kept until the end, too.
    fn charge(&mut self, kept: &[Attribute]) {
        let bytes = kept.iter().map(|(name, value)| name.len() + value.len());
        self.tree.bytes += bytes.sum::<usize>() as u64;
    }

    fn is_whiteout(&self, id: Id) -> bool {
        matches!(self.tree.node(id), Some(Node::Leaf(leaf)) if leaf.whiteout)
    }

    fn set_opaque(&mut self, id: Id) {
        if let Some(dir) = self.tree.dir_mut(id) {
            xattrs::set(&mut dir.xattrs, OPAQUE, b"y");
        }
    }

    fn hard_link(&mut self, at: Place<'_>, path: &[u8], entry: &Entry) -> Result<(), UnpackError> {
        let target = || shown(&entry.link);
        let bad = || refuse(&entry.name, Refusal::LinkPath { target: target() });
        let missing = || refuse(&entry.name, Refusal::LinkMissing { target: target() });
        let link = path::normalise(&entry.link).map_err(|_| bad())?;
        let (dir, name) = path::split(&link).ok_or_else(bad)?;
        if link == path {
            return Err(bad());
        }
        let failed = |error: Errno| step("make hard link", &entry.name)(error);
        let from = match self.tree.find(dir, &mut self.out) {
            Ok(from) => from,
            Err(Errno::NOENT | Errno::NOTDIR | Errno::LOOP) => return Err(missing()),
            Err(error) => return Err(step("open the target of hard link", &entry.name)(error)),
        };
        let id = self.tree.child(from, name).ok_or_else(missing)?;
        if self.tree.dir(id).is_some() {
            return Err(failed(Errno::PERM));
        }
        if self.tree.child(at.dir, at.name) == Some(id) {
            return Ok(());
        }
        self.tree.remove(at.dir, at.name);
        // it may have been in what the link replaces
        if self.tree.child(from, name) != Some(id) {
            return Err(failed(Errno::NOENT));
        }
        self.tree.link(at.dir, at.name, id);
        self.check_memory(entry)
    }

    /// What is kept until the layer is put on its parent.
    pub(super) fn into_parts(self) -> (Output, Tree) {
        (self.out, self.tree)
    }
}

/// What an inode has besides its head.
#[derive(Clone, Copy)]
struct Value<'a> {
    layout: Layout,
    size: u64,
    value: u32,
    behind: &'a [u8],
}

fn describe(dir: &mut Dir, entry: &Entry, owner: Owner, kept: &[Attribute]) {
    dir.described = true;
    dir.mtime = entry.mtime;
    (dir.uid, dir.gid) = (owner.uid, owner.gid);
    for (name, value) in kept {
        xattrs::set(&mut dir.xattrs, name, value);
    }
}

/// The permission bits of an entry, and the attributes that are kept.
fn kept(entry: &Entry, kind: Type) -> Result<(u32, Vec<Attribute>), UnpackError> {
    let (mut mode, mut kept) = (entry.mode, Vec::new());
    for (name, value) in attributes::wanted(entry) {
        let verdict = xattrs::judge(kind, name, value)
            .map_err(step("set an extended attribute of", &entry.name))?;
        if let Verdict::KeepAnd(bits) | Verdict::Become(bits) = verdict {
            mode = mode & !0o777 | bits;
        }
        if let Verdict::Keep | Verdict::KeepAnd(_) = verdict {
            xattrs::set(&mut kept, name, value);
        }
    }
    Ok((mode, kept))
}

fn kind_of(kind: Kind) -> Type {
    match kind {
        Kind::File | Kind::HardLink => Type::File,
        Kind::Dir => Type::Directory,
        Kind::Symlink => Type::Link,
        Kind::CharDevice => Type::Character,
        Kind::BlockDevice => Type::Block,
        Kind::Fifo => Type::Fifo,
    }
}

/// Takes so many bytes of an entry's data; fewer if there are no more.
fn take(archive: &mut Archive<Feed>, length: usize, into: &mut Vec<u8>) -> Result<(), UnpackError> {
    while into.len() < length {
        let bytes = archive.chunk()?;
        let count = bytes.len().min(length - into.len());
        into.extend_from_slice(&bytes[..count]);
        archive.consume(count);
        if count == 0 {
            break;
        }
    }
    Ok(())
}

impl Target for Writer {
    fn root(&mut self, entry: &Entry, owner: Owner) -> Result<(), UnpackError> {
        let (mode, kept) = kept(entry, Type::Directory)?;
        if let Some(root) = self.tree.dir_mut(tree::ROOT) {
            describe(root, entry, owner, &kept);
            root.mode = mode;
        }
        self.charge(&kept);
        self.check_memory(entry)
    }

    fn entry(
        &mut self,
        entry: &Entry,
        path: &[u8],
        owner: Owner,
        archive: &mut Archive<Feed>,
    ) -> Result<(), UnpackError> {
        let at = self.place(entry, path)?;
        match entry.kind {
            Kind::Dir => return self.dir(at, entry, owner),
            Kind::HardLink => return self.hard_link(at, path, entry),
            _ => {}
        }
        let head = self.head(entry, owner)?;
        let place = match entry.kind {
            Kind::File => self.file(&head, archive)?,
            Kind::Symlink => self.symlink(&head)?,
            _ => self.node(&head)?,
        };
        let whiteout = head.kind == Type::Character && entry.device == (0, 0);
        let leaf = Leaf {
            at: place,
            links: 1,
            kind: head.kind,
            whiteout,
        };
        self.name(at, entry, leaf)
    }

    fn whiteout(&mut self, entry: &Entry, dir: &[u8], hidden: &[u8]) -> Result<(), UnpackError> {
        let dir = self.parent(dir, entry)?;
        match self.tree.child(dir, hidden) {
            // The layer has the name itself: only lower layers are meant.
            Some(id) => {
                self.set_opaque(id);
                Ok(())
            }
            None => {
                let inode = Inode {
                    layout: Layout::Plain,
                    mode: Type::Character.bits(),
                    uid: 0,
                    gid: 0,
                    mtime: (0, 0),
                    links: 1,
                    size: 0,
                    value: 0,
                };
                let at = self
                    .out
                    .describe(&inode.encode(0))
                    .map_err(step("make whiteout", &entry.name))?;
                let leaf = Leaf {
                    at,
                    links: 1,
                    kind: Type::Character,
                    whiteout: true,
                };
                let place = Place { dir, name: hidden };
                self.name(place, entry, leaf)
            }
        }
    }

    fn opaque(&mut self, entry: &Entry, dir: &[u8]) -> Result<(), UnpackError> {
        let dir = self.parent(dir, entry)?;
        self.set_opaque(dir);
        Ok(())
    }

    fn opaque_root(&mut self) {
        self.opaque_root = true;
    }

    fn unpacked(self) -> Result<Unpacked, UnpackError> {
        let (size, opaque_root) = (self.size, self.opaque_root);
        let layer = finish::Unfinished::new(self);
        Ok(Unpacked {
            size,
            opaque_root,
            wants_lower: layer.wants_lower(),
            layer: Box::new(layer),
        })
    }
}
