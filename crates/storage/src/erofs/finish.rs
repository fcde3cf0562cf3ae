//! The end of an image: its directories, which are known only now, and its superblock.

use std::fs::File;
use std::io;
use std::os::fd::{AsFd as _, OwnedFd};

use super::format::{self, BLOCK, BLOCK_LEN, INODE, Inode, LINKS, Layout, ROOT, SLOT, Super, Type};
use super::output::Output;
use super::target::Writer;
use super::tree::{self, Dir, Id, Node, Tree};
use super::xattrs;
use crate::copy_up::xattrs::{is_content, read_fd};
use crate::unpack::{Finish, lower_dir};

/// An image without its directories.
#[derive(Debug)]
pub(super) struct Unfinished {
    out: Output,
    tree: Tree,
}

impl Unfinished {
    pub(super) fn new(writer: Writer) -> Self {
        let (out, tree) = writer.into_parts();
        Self { out, tree }
    }

    /// Whether directories take what they are like from the layers below.
    pub(super) fn wants_lower(&self) -> bool {
        self.tree.implicit(|_, _| Err(())).is_err()
    }

    /// Gives directories that the layer does not describe the attributes that lie below.
    fn complete(&mut self, lowers: &[OwnedFd]) -> io::Result<()> {
        if lowers.is_empty() {
            return Ok(());
        }
        let mut found = Vec::new();
        self.tree.implicit(|path, id| {
            if let Some(lower) = lower_dir(path, lowers)? {
                let stat = rustix::fs::fstat(&lower)?;
                let xattrs = read_fd(lower.as_fd(), is_content)?;
                found.push((id, stat, xattrs));
            }
            io::Result::Ok(())
        })?;
        for (id, stat, xattrs) in found {
            let Some(dir) = self.tree.dir_mut(id) else {
                continue;
            };
            dir.mode = stat.st_mode & 0o7777;
            (dir.uid, dir.gid) = (stat.st_uid, stat.st_gid);
            dir.mtime = (
                stat.st_mtime,
                u32::try_from(stat.st_mtime_nsec).unwrap_or(0),
            );
            for (name, value) in xattrs {
                xattrs::set(&mut dir.xattrs, &name, &value);
            }
        }
        Ok(())
    }
}

impl Finish for Unfinished {
    fn finish(mut self: Box<Self>, lowers: &[OwnedFd]) -> io::Result<()> {
        self.complete(lowers)?;
        let Self { mut out, tree } = *self;
        let mut count = 0;
        for leaf in tree.leaves() {
            count += 1;
            if leaf.links > 1 {
                out.change(leaf.at + LINKS, &leaf.links.to_le_bytes())?;
            }
        }
        out.end_space()?;
        let plan = Plan::new(&tree, &out)?;
        plan.write(&tree, out, count).map(drop)
    }
}

/// Where the directories go: first the whole blocks of them all, then their inodes, each with the
/// last piece of its entries behind it.
struct Plan {
    dirs: Vec<Planned>,
    /// By the ids of directories, which of them it is.
    places: std::collections::HashMap<Id, usize>,
}

struct Planned {
    id: Id,
    inode: u64,
    block: u32,
    /// Bytes of its entries.
    length: u64,
    xattrs: Vec<u8>,
}

impl Planned {
    /// Bytes of its inode and what follows it.
    fn described(&self) -> u64 {
        (INODE + self.xattrs.len()) as u64
            + if self.inline() {
                self.length % BLOCK
            } else {
                0
            }
    }

    /// Whether the last piece of its entries follows the inode.
    fn inline(&self) -> bool {
        let room = if self.id == tree::ROOT {
            BLOCK - ROOT
        } else {
            BLOCK
        };
        let tail = self.length % BLOCK;
        tail > 0 && (INODE + self.xattrs.len()) as u64 + tail <= room
    }

    /// Bytes of its entries in whole blocks.
    fn blocks(&self) -> u64 {
        let whole = self.length / BLOCK;
        (whole + u64::from(!self.length.is_multiple_of(BLOCK) && !self.inline())) * BLOCK
    }
}

impl Plan {
    fn new(tree: &Tree, out: &Output) -> io::Result<Self> {
        let mut dirs = Vec::new();
        let mut pending = vec![tree::ROOT];
        while let Some(id) = pending.pop() {
            let Some(dir) = tree.dir(id) else { continue };
            let below = dir.children.values();
            pending.extend(below.filter(|id| tree.dir(**id).is_some()));
            let names = ordered(dir, id).map(|(name, _)| name.len());
            dirs.push(Planned {
                id,
                inode: 0,
                block: 0,
                length: format::directory_length(names),
                xattrs: xattrs::encode(&dir.xattrs)?,
            });
        }
        let mut at = u64::from(out.next_block()?) * BLOCK;
        for dir in &mut dirs {
            dir.block = u32::try_from(at / BLOCK).map_err(|_| io::ErrorKind::FileTooLarge)?;
            at += dir.blocks();
        }
        for dir in &mut dirs {
            let length = dir.described();
            if dir.id == tree::ROOT {
                if length > BLOCK - ROOT {
                    return Err(rustix::io::Errno::NOSPC.into());
                }
                dir.inode = ROOT;
                continue;
            }
            at = at.next_multiple_of(SLOT as u64);
            // what is not longer than a block may not cross into another
            if at % BLOCK + length > BLOCK {
                at = at.next_multiple_of(BLOCK);
            }
            dir.inode = at;
            at += length;
        }
        let places = dirs.iter().enumerate().map(|(n, dir)| (dir.id, n));
        Ok(Self {
            places: places.collect(),
            dirs,
        })
    }

    fn write(&self, tree: &Tree, mut out: Output, leaves: u64) -> io::Result<File> {
        for dir in &self.dirs {
            if dir.blocks() > 0 {
                let entries = self.entries(tree, dir);
                let whole = usize::try_from(dir.blocks()).unwrap_or(usize::MAX);
                out.content(&entries[..entries.len().min(whole)])?;
                out.end_block()?;
            }
        }
        let mut first = [0; BLOCK_LEN];
        let mut at = u64::from(out.next_block()?) * BLOCK;
        for dir in &self.dirs {
            let bytes = self.describe(tree, dir);
            if dir.id == tree::ROOT {
                let from = usize::try_from(ROOT).unwrap_or_default();
                first[from..from + bytes.len()].copy_from_slice(&bytes);
                continue;
            }
            out.skip(dir.inode - at)?;
            out.content(&bytes)?;
            at = dir.inode + bytes.len() as u64;
        }
        let inodes = leaves + self.dirs.len() as u64;
        out.finish(|blocks| {
            let said = Super {
                inodes,
                blocks,
                uuid: [0; 16],
            };
            format::seal(&mut first, &said);
            first
        })
    }

    fn describe(&self, tree: &Tree, planned: &Planned) -> Vec<u8> {
        let Some(dir) = tree.dir(planned.id) else {
            return Vec::new();
        };
        let below = dir.children.values();
        let dirs = below.filter(|id| tree.dir(**id).is_some()).count();
        let inline = planned.inline();
        let inode = Inode {
            layout: if inline {
                Layout::Inline
            } else {
                Layout::Plain
            },
            mode: Type::Directory.bits() | dir.mode,
            uid: dir.uid,
            gid: dir.gid,
            mtime: dir.mtime,
            links: u32::try_from(dirs + 2).unwrap_or(u32::MAX),
            size: planned.length,
            value: planned.block,
        };
        let mut bytes = inode.encode(planned.xattrs.len()).to_vec();
        bytes.extend_from_slice(&planned.xattrs);
        if inline {
            let entries = self.entries(tree, planned);
            let whole = usize::try_from(planned.blocks()).unwrap_or(usize::MAX);
            bytes.extend_from_slice(&entries[entries.len().min(whole)..]);
        }
        bytes
    }

    fn entries(&self, tree: &Tree, planned: &Planned) -> Vec<u8> {
        let Some(dir) = tree.dir(planned.id) else {
            return Vec::new();
        };
        let entries: Vec<_> = ordered(dir, planned.id)
            .map(|(name, id)| {
                let (inode, kind) = self.inode_of(tree, id);
                (name, inode / SLOT as u64, kind)
            })
            .collect();
        format::directory(&entries)
    }

    fn inode_of(&self, tree: &Tree, id: Id) -> (u64, Type) {
        match tree.node(id) {
            Some(Node::Leaf(leaf)) => (leaf.at, leaf.kind),
            _ => {
                let place = self.places.get(&id).and_then(|place| self.dirs.get(*place));
                (place.map_or(0, |dir| dir.inode), Type::Directory)
            }
        }
    }
}

/// The entries of a directory in the order of their bytes, with itself and the one above it.
fn ordered(dir: &Dir, own: Id) -> impl Iterator<Item = (&[u8], Id)> {
    let dots: [(&[u8], Id); 2] = [(b".", own), (b"..", dir.parent)];
    let mut dots = dots.into_iter().peekable();
    let mut names = dir
        .children
        .iter()
        .map(|(name, id)| (&**name, *id))
        .peekable();
    std::iter::from_fn(move || match (dots.peek(), names.peek()) {
        (Some(dot), Some(name)) if name.0 < dot.0 => names.next(),
        (Some(_), _) => dots.next(),
        (None, _) => names.next(),
    })
}
