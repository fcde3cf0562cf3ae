//! What a user namespace changes for the files that a thread makes.

use std::io;

use rustix::thread::{CapabilitySets, capabilities, set_capabilities};

/// Does something while the calling thread makes files as another user and group, with all of its
/// capabilities.
///
/// Only the ids for files change (setfsuid(2)), those by which others may send signals do not. The
/// kernel takes the capabilities over files out of the effective set along with the user, so they are
/// put back.
///
/// # Errors
///
/// What capset(2) says; EPERM when the ids did not change.
pub fn as_file_owner<T>(uid: u32, gid: u32, work: impl FnOnce() -> T) -> io::Result<T> {
    let own = capabilities(None)?;
    let restore = Restore {
        gid: set_fs_gid(gid),
        uid: set_fs_uid(uid),
        sets: own,
    };
    // neither call tells of a failure but by what the next one says
    if set_fs_gid(gid) != gid || set_fs_uid(uid) != uid {
        return Err(rustix::io::Errno::PERM.into());
    }
    set_capabilities(None, own)?;
    let done = work();
    drop(restore);
    Ok(done)
}

/// Gives a thread its own ids and capabilities back.
struct Restore {
    gid: u32,
    uid: u32,
    sets: CapabilitySets,
}

impl Drop for Restore {
    fn drop(&mut self) {
        set_fs_uid(self.uid);
        set_fs_gid(self.gid);
        // the sets are those that the thread had: there is nothing to refuse
        let _same = set_capabilities(None, self.sets);
    }
}

/// Sets the user for files; gives the one before.
fn set_fs_uid(uid: u32) -> u32 {
    // SAFETY: setfsuid(2) takes a number and touches no memory.
    let before = unsafe { libc::setfsuid(uid) };
    before.cast_unsigned()
}

/// Sets the group for files; gives the one before.
fn set_fs_gid(gid: u32) -> u32 {
    // SAFETY: setfsgid(2) takes a number and touches no memory.
    let before = unsafe { libc::setfsgid(gid) };
    before.cast_unsigned()
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::MetadataExt as _;

    use super::*;

    #[test]
    fn files_are_made_as_another_and_then_as_oneself_again() {
        if !rustix::process::geteuid().is_root() {
            return;
        }
        let dir = std::env::temp_dir().join(format!("gorae-userns-{}", std::process::id()));
        std::fs::create_dir(&dir).unwrap();
        let owner = |name: &str| {
            let path = dir.join(name);
            std::fs::write(&path, "").unwrap();
            let found = std::fs::metadata(path).unwrap();
            (found.uid(), found.gid())
        };
        let before = capabilities(None).unwrap();
        // the folder is root's alone: it takes the capabilities to write there
        let (inside, sets) =
            as_file_owner(4242, 4343, || (owner("a"), capabilities(None))).unwrap();
        assert_eq!(inside, (4242, 4343));
        assert_eq!(sets.unwrap(), before);
        assert_eq!(owner("b"), (0, 0));
        assert_eq!(capabilities(None).unwrap(), before);
        std::fs::remove_dir_all(dir).unwrap();
    }
}
