//! A tree in words, to be compared with another.

use std::collections::BTreeMap;
use std::ffi::{CString, OsStr};
use std::os::unix::ffi::OsStrExt as _;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};

/// Everything about what is in a folder that must be the same, by path.
pub(super) fn describe(root: &Path) -> BTreeMap<PathBuf, String> {
    let mut found = BTreeMap::new();
    let mut inodes: BTreeMap<u64, PathBuf> = BTreeMap::new();
    let mut pending = vec![root.to_path_buf()];
    while let Some(dir) = pending.pop() {
        let mut entries: Vec<_> = std::fs::read_dir(&dir)
            .unwrap()
            .map(|e| e.unwrap().path())
            .collect();
        entries.sort();
        for path in entries {
            let meta = std::fs::symlink_metadata(&path).unwrap();
            let short = path.strip_prefix(root).unwrap().to_path_buf();
            let content = if meta.is_symlink() {
                format!("{:?}", std::fs::read_link(&path).unwrap())
            } else if meta.is_file() {
                crate::support::sha256(&std::fs::read(&path).unwrap()).to_string()
            } else {
                String::new()
            };
            if meta.is_dir() {
                pending.push(path.clone());
            }
            let links = if meta.is_dir() { 1 } else { meta.nlink() };
            let first = inodes
                .entry(meta.ino())
                .or_insert_with(|| short.clone())
                .clone();
            let first = if links > 1 { first } else { PathBuf::new() };
            let times = (meta.mtime(), meta.mtime_nsec());
            let owner = (meta.mode(), meta.uid(), meta.gid());
            let xattrs = xattrs(&path);
            found.insert(
                short,
                format!(
                    "{owner:?} {times:?} {links} {first:?} {} {xattrs:?} {content}",
                    meta.rdev()
                ),
            );
        }
    }
    found
}

/// The attributes of a file, but for overlayfs' and the host's own.
fn xattrs(path: &Path) -> BTreeMap<Vec<u8>, Vec<u8>> {
    let mut names = vec![0; 65_536];
    let length = rustix::fs::llistxattr(path, &mut names[..]).unwrap();
    let names = names[..length].split(|byte| *byte == 0);
    let names = names.filter(|name| {
        !name.is_empty() && !name.starts_with(b"trusted.") && *name != b"security.selinux"
    });
    let value = |name: &[u8]| {
        let mut value = vec![0; 65_536];
        let c_name = CString::new(name).unwrap();
        let length = rustix::fs::lgetxattr(path, &c_name, &mut value[..]).unwrap();
        value.truncate(length);
        value
    };
    names.map(|name| (name.to_vec(), value(name))).collect()
}

/// Says where two trees differ.
pub(super) fn compare(ours: &Path, theirs: &Path, what: &str) {
    let (ours, theirs) = (describe(ours), describe(theirs));
    for (path, expected) in &theirs {
        let found = ours.get(path);
        assert_eq!(found, Some(expected), "{} in {what}", path.display());
    }
    let more = ours.keys().find(|path| !theirs.contains_key(*path));
    assert_eq!(more, None, "{what}");
}

/// A path of bytes.
pub(super) fn bytes(name: &[u8]) -> PathBuf {
    OsStr::from_bytes(name).into()
}
