//! Large trees apart from each other on the disk.

use std::io;
use std::os::fd::AsFd as _;
use std::path::Path;

use rustix::fs::IFlags;

use super::{ensure_dir, open_dir, temp};

/// Makes a directory `name` in a fresh one of ours, for which the file system looks for a place of its own.
///
/// ext4 puts what is made in a directory near it. It also gives no inode to a new file for minutes after a file
/// has lost it (`recently_deleted` in its ialloc.c), and steps over all of those again for each file that it
/// makes: where a large tree was removed a moment ago, making the next one beside took ten times as long. With
/// the mark of chattr(1)'s `T` on the directory around it, a new one goes where there are the fewest, starting
/// from a place that its name gives, which is random here. Other file systems do not know the mark and need
/// none.
pub(crate) fn make_apart(parent: &Path, name: &str, mode: u32) -> io::Result<()> {
    let dir = open_dir(parent)?;
    let marked = rustix::fs::ioctl_getflags(dir.as_fd())
        .and_then(|flags| rustix::fs::ioctl_setflags(dir.as_fd(), flags | IFlags::TOPDIR));
    if let Err(error) = marked {
        tracing::trace!(%error, "a tree gets no place of its own");
    }
    let made = parent.join(temp::unique_name("tree")?);
    ensure_dir(&made, mode)?;
    std::fs::rename(made, parent.join(name))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::PermissionsExt as _;

    #[test]
    fn the_directory_is_there_alone() {
        let folder = tempfile::tempdir_in("/var/tmp").unwrap();
        make_apart(folder.path(), "fs", 0o755).unwrap();
        let names: Vec<_> = std::fs::read_dir(folder.path())
            .unwrap()
            .map(|entry| entry.unwrap().file_name())
            .collect();
        assert_eq!(names, ["fs"]);
        let found = std::fs::metadata(folder.path().join("fs")).unwrap();
        assert_eq!(found.permissions().mode() & 0o7777, 0o755);
    }
}
