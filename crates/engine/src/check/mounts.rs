//! What is mounted in the engine's folder against what has a reason to be.

use std::ffi::OsString;
use std::os::unix::ffi::{OsStrExt as _, OsStringExt as _};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use api::check::Finding;
use rustix::mount::UnmountFlags;

use super::finding;
use crate::engine::Engine;
use crate::error::{Result, Step};

/// The folders below the root in which nothing is ever mounted.
const BARE: [&str; 3] = ["containers", "content", "tmp"];
/// The longest table that is read; each container has some mounts, but not in this namespace.
const TABLE_MAX: u64 = 64 << 20;

impl Engine {
    /// Looks for mounts in the engine's folder that nobody uses.
    pub(super) async fn check_mounts(self: &Arc<Self>, repair: bool) -> Result<Vec<Finding>> {
        let used = self.mounted_volumes().await;
        let engine = Arc::clone(self);
        self.blocking(move || {
            let root = resolved(engine.store.root());
            let mounts = mounts_below(&root).step(|| "read the table of mounts")?;
            let left = mounts
                .into_iter()
                .filter(|path| is_left(&root, path, &used));
            Ok(left.map(|path| left_over(&path, repair)).collect())
        })
        .await
    }
}

/// The engine's folder as the table of mounts names it.
fn resolved(root: &Path) -> PathBuf {
    #[expect(
        clippy::disallowed_methods,
        reason = "it is the folder that the settings name, not a path of somebody else's"
    )]
    let resolved = root.canonicalize();
    resolved.unwrap_or_else(|_| root.to_owned())
}

fn left_over(path: &Path, repair: bool) -> Finding {
    let action = || {
        let flags = UnmountFlags::DETACH | UnmountFlags::NOFOLLOW;
        let unmounted = rustix::mount::unmount(path, flags).map_err(std::io::Error::from);
        unmounted.step(|| format!("unmount {}", path.display()))
    };
    let mend = repair.then_some(action);
    let problem = "something is mounted there that nothing needs";
    finding(
        ("mount", &path.to_string_lossy()),
        problem,
        "unmount it",
        mend,
    )
}

/// Whether a mount has no reason: it is where none belongs, or on a volume that nobody has mounted.
fn is_left(root: &Path, path: &Path, used: &[PathBuf]) -> bool {
    let Ok(below) = path.strip_prefix(root) else {
        return false;
    };
    let mut parts = below.components();
    let first = parts.next().map(|part| part.as_os_str().to_owned());
    // a part of the folder may well be on another file system
    if parts.next().is_none() {
        return false;
    }
    match first {
        Some(first) if BARE.iter().any(|bare| first == *bare) => true,
        Some(first) if first == "volumes" => !used.iter().any(|one| path.starts_with(one)),
        _ => false,
    }
}

/// The mount points below a folder, innermost first.
fn mounts_below(root: &Path) -> std::io::Result<Vec<PathBuf>> {
    use std::io::Read as _;
    let mut table = Vec::new();
    let file = std::fs::File::open("/proc/self/mountinfo")?;
    file.take(TABLE_MAX).read_to_end(&mut table)?;
    let points = table.split(|byte| *byte == b'\n').filter_map(mount_point);
    let mut below: Vec<PathBuf> = points.filter(|path| path.starts_with(root)).collect();
    below.reverse();
    Ok(below)
}

/// The fifth field of a line of proc_pid_mountinfo(5), in which blanks and the like are octal.
fn mount_point(line: &[u8]) -> Option<PathBuf> {
    let field = line.split(|byte| *byte == b' ').nth(4)?;
    let mut path = Vec::with_capacity(field.len());
    let mut rest = field;
    while let Some((byte, after)) = rest.split_first() {
        let octal = after.get(..3).filter(|_| *byte == b'\\');
        let octal = octal.and_then(|digits| std::str::from_utf8(digits).ok());
        let octal = octal.and_then(|digits| u8::from_str_radix(digits, 8).ok());
        path.push(octal.unwrap_or(*byte));
        rest = if octal.is_some() { &after[3..] } else { after };
    }
    let path = OsString::from_vec(path);
    path.as_bytes().starts_with(b"/").then(|| path.into())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn points_of_mounts() {
        let line =
            |point: &str| format!("36 35 98:0 / {point} rw,noatime master:1 - ext4 /dev/a rw");
        let point = |text: &str| mount_point(line(text).as_bytes());
        assert_eq!(point("/a/b"), Some("/a/b".into()));
        assert_eq!(point(r"/a\040b\134"), Some(r"/a b\".into()));
        assert_eq!(point(r"/a\04"), Some(r"/a\04".into()));
        assert_eq!(mount_point(b"36 35"), None);
        assert_eq!(point("x"), None);
    }

    #[test]
    fn mounts_that_have_no_reason() {
        let used = [PathBuf::from("/r/volumes/v/_data")];
        for (path, expect) in [
            ("/r", false),
            ("/r/volumes", false),
            ("/r/containers", false),
            ("/other/containers/x", false),
            ("/r/containers/x/upper", true),
            ("/r/tmp/x", true),
            ("/r/volumes/v/_data", false),
            ("/r/volumes/v/_data/below", false),
            ("/r/volumes/w/_data", true),
            ("/r/snapshots/x/fs", false),
        ] {
            let found = is_left(Path::new("/r"), Path::new(path), &used);
            assert_eq!(found, expect, "{path}");
        }
    }
}
