//! The names of a layer while it is written: what directories there are and what is in them.
//!
//! A layer's stream may name things in any order, through symbolic links of its own, and again. So
//! its names are kept in memory until its end; of files and links no more than where they are.

use std::collections::{BTreeMap, VecDeque};
use std::fmt;

use rustix::io::Errno;

use super::format::Type;
use super::xattrs::Attribute;

/// Names a thing of the tree.
pub(super) type Id = u32;
/// The layer's root.
pub(super) const ROOT: Id = 0;
/// The kernel follows no more symbolic links on one path (path_resolution(7)).
const LINKS_MAX: usize = 40;

/// A directory.
#[derive(Debug)]
pub(super) struct Dir {
    pub(super) parent: Id,
    pub(super) children: BTreeMap<Box<[u8]>, Id>,
    pub(super) mode: u32,
    pub(super) uid: u32,
    pub(super) gid: u32,
    pub(super) mtime: (i64, u32),
    pub(super) xattrs: Vec<Attribute>,
    /// Whether the layer says what it is like, or only has something in it.
    pub(super) described: bool,
}

impl Dir {
    fn implicit(parent: Id, now: (i64, u32)) -> Self {
        Self {
            parent,
            children: BTreeMap::new(),
            mode: 0o755,
            uid: 0,
            gid: 0,
            mtime: now,
            xattrs: Vec::new(),
            described: false,
        }
    }
}

/// Anything else, which is written already.
#[derive(Clone, Copy, Debug)]
pub(super) struct Leaf {
    /// Where its inode is.
    pub(super) at: u64,
    /// How many names it has.
    pub(super) links: u32,
    pub(super) kind: Type,
    /// A character device 0/0.
    pub(super) whiteout: bool,
}

#[derive(Debug)]
pub(super) enum Node {
    Dir(Box<Dir>),
    Leaf(Leaf),
}

pub(super) struct Tree {
    nodes: Vec<Node>,
    /// When the layer was unpacked: the time of directories that it does not describe.
    now: (i64, u32),
    /// The directory that was looked for last. Streams name the entries of one together.
    last: Option<(Vec<u8>, Id)>,
    /// Bytes of all names, also of those that are gone.
    pub(super) bytes: u64,
}

impl fmt::Debug for Tree {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut shown = f.debug_struct("Tree");
        shown
            .field("nodes", &self.nodes.len())
            .finish_non_exhaustive()
    }
}

/// Reads symbolic links.
pub(super) trait Links {
    /// The target of a link whose inode is at a place.
    fn target(&mut self, at: u64) -> Result<Vec<u8>, Errno>;
}

impl Tree {
    pub(super) fn new(now: (i64, u32)) -> Self {
        Self {
            nodes: vec![Node::Dir(Box::new(Dir::implicit(ROOT, now)))],
            now,
            last: None,
            bytes: 0,
        }
    }

    pub(super) fn node(&self, id: Id) -> Option<&Node> {
        self.nodes.get(id as usize)
    }

    pub(super) fn dir(&self, id: Id) -> Option<&Dir> {
        match self.node(id)? {
            Node::Dir(dir) => Some(dir),
            Node::Leaf(_) => None,
        }
    }

    pub(super) fn dir_mut(&mut self, id: Id) -> Option<&mut Dir> {
        match self.nodes.get_mut(id as usize)? {
            Node::Dir(dir) => Some(dir),
            Node::Leaf(_) => None,
        }
    }

    /// All leaves that have names; those with more than one need a note of it.
    pub(super) fn leaves(&self) -> impl Iterator<Item = &Leaf> {
        self.nodes.iter().filter_map(|node| match node {
            Node::Leaf(leaf) if leaf.links > 0 => Some(leaf),
            _ => None,
        })
    }

    /// What a directory has under a name.
    pub(super) fn child(&self, dir: Id, name: &[u8]) -> Option<Id> {
        self.dir(dir)?.children.get(name).copied()
    }

    /// Adds something under a name that is free.
    pub(super) fn add(&mut self, dir: Id, name: &[u8], node: Node) -> Result<Id, Errno> {
        let id = Id::try_from(self.nodes.len()).map_err(|_| Errno::NOSPC)?;
        self.nodes.push(node);
        self.insert(dir, name, id);
        Ok(id)
    }

    fn insert(&mut self, dir: Id, name: &[u8], id: Id) {
        self.bytes += name.len() as u64;
        if let Some(dir) = self.dir_mut(dir) {
            dir.children.insert(name.into(), id);
        }
    }

    /// Makes a directory under a name that is free.
    pub(super) fn add_dir(&mut self, dir: Id, name: &[u8]) -> Result<Id, Errno> {
        let made = Dir::implicit(dir, self.now);
        self.add(dir, name, Node::Dir(Box::new(made)))
    }

    /// Gives a leaf one more name.
    pub(super) fn link(&mut self, dir: Id, name: &[u8], id: Id) {
        if let Some(Node::Leaf(leaf)) = self.nodes.get_mut(id as usize) {
            leaf.links += 1;
            self.insert(dir, name, id);
        }
    }

    /// Removes a name, and all below it.
    pub(super) fn remove(&mut self, dir: Id, name: &[u8]) {
        self.last = None;
        let gone = self.dir_mut(dir).and_then(|dir| dir.children.remove(name));
        let mut pending: Vec<Id> = gone.into_iter().collect();
        while let Some(id) = pending.pop() {
            match self.nodes.get_mut(id as usize) {
                Some(Node::Dir(dir)) => {
                    pending.extend(std::mem::take(&mut dir.children).into_values());
                }
                Some(Node::Leaf(leaf)) => leaf.links -= 1,
                None => {}
            }
        }
    }

    /// Finds a directory, as if the layer's root were the system's (`RESOLVE_IN_ROOT`).
    pub(super) fn find(&mut self, path: &[u8], links: &mut impl Links) -> Result<Id, Errno> {
        if let Some((last, id)) = &self.last
            && last == path
        {
            return Ok(*id);
        }
        let found = self.walk(path, links)?;
        self.last = Some((path.to_vec(), found));
        Ok(found)
    }

    fn walk(&self, path: &[u8], links: &mut impl Links) -> Result<Id, Errno> {
        let mut at = ROOT;
        let mut followed = 0;
        let mut rest: VecDeque<Vec<u8>> = parts(path).collect();
        while let Some(part) = rest.pop_front() {
            let dir = self.dir(at).ok_or(Errno::NOTDIR)?;
            match part.as_slice() {
                b"" | b"." => continue,
                b".." => {
                    at = dir.parent;
                    continue;
                }
                _ => {}
            }
            let child = *dir.children.get(part.as_slice()).ok_or(Errno::NOENT)?;
            match self.node(child) {
                Some(Node::Dir(_)) => at = child,
                Some(Node::Leaf(leaf)) if leaf.kind == Type::Link => {
                    followed += 1;
                    if followed > LINKS_MAX {
                        return Err(Errno::LOOP);
                    }
                    let target = links.target(leaf.at)?;
                    if target.first() == Some(&b'/') {
                        at = ROOT;
                    }
                    for part in parts(&target).collect::<Vec<_>>().into_iter().rev() {
                        rest.push_front(part);
                    }
                }
                _ => return Err(Errno::NOTDIR),
            }
        }
        Ok(at)
    }

    /// Finds a directory; makes what of it is not there.
    pub(super) fn find_or_make(
        &mut self,
        path: &[u8],
        links: &mut impl Links,
    ) -> Result<Id, Errno> {
        match self.find(path, links) {
            Err(Errno::NOENT) => {}
            other => return other,
        }
        let ends = path.iter().enumerate().filter(|(_, byte)| **byte == b'/');
        let ends: Vec<usize> = ends.map(|(at, _)| at).chain([path.len()]).collect();
        for end in ends {
            let prefix = &path[..end];
            let name = prefix.iter().rposition(|byte| *byte == b'/');
            let (above, name) = prefix.split_at(name.map_or(0, |slash| slash + 1));
            let above = self.walk(above, links)?;
            if self.child(above, name).is_none() {
                self.add_dir(above, name)?;
            }
        }
        self.find(path, links)
    }

    /// Shows the directories that the layer does not describe, by their paths.
    pub(super) fn implicit<E>(
        &self,
        mut show: impl FnMut(&[u8], Id) -> Result<(), E>,
    ) -> Result<(), E> {
        // of a directory that is still to come, its name and the length of the path to it
        let mut pending: Vec<(usize, &[u8], Id)> = vec![(0, b"", ROOT)];
        let mut path = Vec::new();
        while let Some((above, name, id)) = pending.pop() {
            path.truncate(above);
            if above > 0 {
                path.push(b'/');
            }
            path.extend_from_slice(name);
            let Some(dir) = self.dir(id) else { continue };
            for (name, child) in &dir.children {
                if self.dir(*child).is_some() {
                    pending.push((path.len(), name, *child));
                }
            }
            if !dir.described {
                show(&path, id)?;
            }
        }
        Ok(())
    }
}

fn parts(path: &[u8]) -> impl Iterator<Item = Vec<u8>> {
    path.split(|byte| *byte == b'/').map(<[u8]>::to_vec)
}
