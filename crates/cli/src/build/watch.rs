//! Building again whenever something in the context has changed.

use std::collections::BTreeMap;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};
use std::time::Duration;

/// How often the folders are looked through.
const PERIOD: Duration = Duration::from_millis(400);
/// Folders that change without anybody having changed a source.
const SKIPPED: [&str; 1] = [".git"];

/// What a folder's files look like from outside.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Snapshot(BTreeMap<PathBuf, (u64, i64, i64, u64, u32)>);

/// Looks through folders. Changes are found by size, time, inode and mode of each file: inotify(7) would
/// need a watch a folder, which large trees do not get.
pub(crate) fn look(folders: &[PathBuf]) -> Snapshot {
    let mut seen = BTreeMap::new();
    for folder in folders {
        walk(folder, &mut seen);
    }
    Snapshot(seen)
}

fn walk(folder: &Path, seen: &mut BTreeMap<PathBuf, (u64, i64, i64, u64, u32)>) {
    let mut open = vec![folder.to_owned()];
    while let Some(folder) = open.pop() {
        // what cannot be read now may have gone while it was looked at
        let Ok(entries) = std::fs::read_dir(&folder) else {
            continue;
        };
        for entry in entries.flatten() {
            let Ok(metadata) = entry.metadata() else {
                continue;
            };
            let name = entry.file_name();
            let path = entry.path();
            if metadata.is_dir() && !SKIPPED.iter().any(|skipped| name == *skipped) {
                open.push(path.clone());
            }
            let state = (
                metadata.size(),
                metadata.mtime(),
                metadata.mtime_nsec(),
                metadata.ino(),
                metadata.mode(),
            );
            // a folder's own time changes with its names, which are seen anyway
            let state = if metadata.is_dir() {
                (0, 0, 0, 0, metadata.mode())
            } else {
                state
            };
            seen.insert(path, state);
        }
    }
}

/// Waits until folders look otherwise than they did, and have come to rest.
pub(crate) async fn changed(folders: &[PathBuf], before: &Snapshot) -> Snapshot {
    loop {
        tokio::time::sleep(PERIOD).await;
        let now = look_aside(folders).await;
        if now != *before {
            return settled(folders, now).await;
        }
    }
}

async fn settled(folders: &[PathBuf], mut last: Snapshot) -> Snapshot {
    loop {
        tokio::time::sleep(PERIOD / 4).await;
        let now = look_aside(folders).await;
        if now == last {
            return now;
        }
        last = now;
    }
}

async fn look_aside(folders: &[PathBuf]) -> Snapshot {
    let folders = folders.to_vec();
    let looked = tokio::task::spawn_blocking(move || look(&folders)).await;
    looked.unwrap_or_else(|_| Snapshot(BTreeMap::new()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_new_a_changed_and_a_removed_file_are_seen() {
        let folder = tempfile::tempdir().unwrap();
        let folders = [folder.path().to_owned()];
        let empty = look(&folders);
        std::fs::write(folder.path().join("a"), "1").unwrap();
        let one = look(&folders);
        assert_ne!(empty, one);
        std::fs::write(folder.path().join("a"), "22").unwrap();
        let two = look(&folders);
        assert_ne!(one, two);
        assert_eq!(two, look(&folders));
        std::fs::remove_file(folder.path().join("a")).unwrap();
        assert_eq!(empty, look(&folders));
    }
}
