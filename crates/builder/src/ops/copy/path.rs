//! Where a copy reads and where it writes.

use std::io;
use std::os::fd::{AsFd as _, BorrowedFd, OwnedFd};
use std::path::Path;

use dockerfile::ignore::path_match;
use rustix::fs::{AtFlags, FileType, Mode, OFlags, Stat};
use rustix::io::Errno;

use super::attributes::Stamp;
use super::{Options, Source, failed};
use crate::error::{Error, Result};

/// How deep a pattern is looked for, and how many files match one at most.
const MATCHES_AT_MOST: usize = 100_000;

/// How many links are followed on the way to one place, as in the kernel.
const LINKS_AT_MOST: usize = 40;

const DIRECTORY: OFlags = OFlags::PATH.union(OFlags::DIRECTORY).union(OFlags::CLOEXEC);

/// What is copied.
#[derive(Debug)]
pub(super) struct Found {
    /// An O_PATH descriptor of it.
    pub(super) fd: OwnedFd,
    pub(super) stat: Stat,
}

impl Found {
    pub(super) fn is_directory(&self) -> bool {
        FileType::from_raw_mode(self.stat.st_mode) == FileType::Directory
    }
}

/// A name in a directory that exists.
#[derive(Debug)]
pub(in crate::ops) struct Target {
    pub(in crate::ops) directory: OwnedFd,
    pub(in crate::ops) name: String,
    /// The whole path, for messages.
    pub(in crate::ops) path: String,
}

/// A path from the root, without `.`, `..` and empty parts, with the mark at its end that says that a
/// folder is meant, or what is in one.
pub(crate) fn clean(path: &str) -> String {
    let mut parts: Vec<&str> = Vec::new();
    for part in path.split('/') {
        match part {
            "" | "." => {}
            ".." => {
                parts.pop();
            }
            part => parts.push(part),
        }
    }
    let mut cleaned = format!("/{}", parts.join("/"));
    if cleaned != "/" {
        if path.ends_with("/.") {
            cleaned.push_str("/.");
        } else if path.ends_with('/') {
            cleaned.push('/');
        }
    }
    cleaned
}

/// A cleaned path as the directory and the name in it; the root has no name.
pub(crate) fn split(path: &str) -> (&str, &str) {
    let path = path
        .strip_suffix("/.")
        .unwrap_or(path)
        .trim_end_matches('/');
    path.rsplit_once('/')
        .map_or(("/", path), |(directory, name)| {
            (if directory.is_empty() { "/" } else { directory }, name)
        })
}

/// Opens a path, links followed inside the root.
pub(in crate::ops) fn resolve_in(
    root: BorrowedFd<'_>,
    path: &str,
    flags: OFlags,
) -> io::Result<OwnedFd> {
    sys::tree::open(root, Path::new(path), flags)
}

/// Opens what is to be copied.
pub(super) fn find_source(source: &Source, path: &str, follow: bool) -> Result<Found> {
    let path = path.strip_suffix("/.").unwrap_or(path);
    let (directory, name) = split(path);
    let missing = failed("lstat", path);
    let open = || -> io::Result<Found> {
        let fd = if name.is_empty() || follow || path.ends_with('/') {
            resolve_in(source.root.as_fd(), path, OFlags::PATH)?
        } else {
            let directory = resolve_in(source.root.as_fd(), directory, DIRECTORY)?;
            let flags = OFlags::PATH | OFlags::NOFOLLOW | OFlags::CLOEXEC;
            rustix::fs::openat(directory, name, flags, Mode::empty())?
        };
        let stat = rustix::fs::fstat(&fd)?;
        Ok(Found { fd, stat })
    };
    open().map_err(missing)
}

/// Where a file or folder goes: into a folder under its own name, or at the path itself. What is
/// missing of the way is made.
pub(super) fn place_of(
    found: &Found,
    from: &str,
    root: &OwnedFd,
    to: &str,
    options: &Options,
) -> Result<Target> {
    let stamp = Stamp::made(options.owner, options.time);
    let step = |path: &str| {
        let path = path.to_owned();
        move |error| failed("create", &path)(error)
    };
    let folder_meant = to.ends_with('/') || to.ends_with("/.");
    let mut real = without_links(root.as_fd(), to).map_err(failed("stat", to))?;
    if folder_meant && real != "/" {
        real.push('/');
    }
    let to = real.as_str();
    let (above, name) = split(to);
    let first = if folder_meant { to } else { above };
    make_directories(root.as_fd(), first, &stamp).map_err(step(first))?;
    let there =
        resolve_in(root.as_fd(), to, OFlags::PATH).and_then(|fd| Ok(rustix::fs::fstat(fd)?));
    let there = match there {
        Ok(stat) => Some(FileType::from_raw_mode(stat.st_mode) == FileType::Directory),
        Err(error) if error.kind() == io::ErrorKind::NotFound => None,
        Err(error) => return Err(failed("stat", to)(error)),
    };
    if found.is_directory() && there == Some(false) && !options.replace {
        return Err(Error::invalid(format!(
            "cannot copy to non-directory: {to}"
        )));
    }
    let inside = if found.is_directory() {
        !options.contents_only && there.is_some()
    } else {
        there == Some(true)
    };
    if inside {
        let directory = resolve_in(root.as_fd(), to, DIRECTORY).map_err(step(to))?;
        let name = split(from).1.to_owned();
        if name.is_empty() {
            return Err(Error::invalid(format!(
                "cannot copy the root itself to {to}"
            )));
        }
        return Ok(Target {
            directory,
            path: format!("{}/{name}", to.trim_end_matches(['/', '.'])),
            name,
        });
    }
    if found.is_directory() && options.contents_only {
        let made = make_directories(root.as_fd(), to, &stamp).map_err(step(to))?;
        return Ok(Target {
            directory: made,
            name: String::new(),
            path: to.to_owned(),
        });
    }
    let directory = resolve_in(root.as_fd(), above, DIRECTORY).map_err(step(above))?;
    Ok(Target {
        directory,
        name: name.to_owned(),
        path: to.to_owned(),
    })
}

/// A path as it is once all links in it, and at its end, are followed inside the root; what it leads to need not
/// be there. So a file that is copied onto a link goes where that points, as with BuildKit.
fn without_links(root: BorrowedFd<'_>, path: &str) -> io::Result<String> {
    let parts = |path: &str| -> Vec<String> { path.rsplit('/').map(str::to_owned).collect() };
    let mut ahead = parts(path);
    let mut real: Vec<String> = Vec::new();
    let mut links = 0;
    while let Some(part) = ahead.pop() {
        match part.as_str() {
            "" | "." => continue,
            ".." => {
                real.pop();
                continue;
            }
            _ => {}
        }
        let above = format!("/{}", real.join("/"));
        let link = match resolve_in(root, &above, DIRECTORY) {
            Ok(above) => rustix::fs::readlinkat(above, &part, Vec::new()).ok(),
            Err(_) => None,
        };
        let Some(link) = link else {
            real.push(part);
            continue;
        };
        links += 1;
        if links > LINKS_AT_MOST {
            return Err(Errno::LOOP.into());
        }
        let link = link.to_str().map_err(|_| Errno::ILSEQ)?;
        if link.starts_with('/') {
            real.clear();
        }
        ahead.extend(parts(link));
    }
    Ok(format!("/{}", real.join("/")))
}

/// Opens a directory, and makes what is missing on the way.
pub(in crate::ops) fn make_directories(
    root: BorrowedFd<'_>,
    path: &str,
    stamp: &Stamp,
) -> io::Result<OwnedFd> {
    match resolve_in(root, path, DIRECTORY) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => {}
        other => return other,
    }
    let (above, name) = split(path);
    if name.is_empty() {
        return Err(Errno::NOENT.into());
    }
    let directory = make_directories(root, above, stamp)?;
    match rustix::fs::mkdirat(&directory, name, Mode::from_raw_mode(0o700)) {
        Ok(()) => {
            let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
            let made = rustix::fs::openat(&directory, name, flags, Mode::empty())?;
            super::finish_directory(made.as_fd(), stamp)?;
        }
        // a link whose target is missing is there, and no directory
        Err(Errno::EXIST) => {
            let stat = rustix::fs::statat(&directory, name, AtFlags::SYMLINK_NOFOLLOW)?;
            if FileType::from_raw_mode(stat.st_mode) == FileType::Symlink {
                return follow_and_make(root, &directory, above, name, stamp);
            }
        }
        Err(error) => return Err(error.into()),
    }
    resolve_in(root, path, DIRECTORY)
}

/// Makes the directory that a link points to which is not there yet.
fn follow_and_make(
    root: BorrowedFd<'_>,
    directory: &OwnedFd,
    above: &str,
    name: &str,
    stamp: &Stamp,
) -> io::Result<OwnedFd> {
    let link = rustix::fs::readlinkat(directory, name, Vec::new())?;
    let link = link.to_str().map_err(|_| Errno::ILSEQ)?;
    let target = if link.starts_with('/') {
        clean(link)
    } else {
        clean(&format!("{above}/{link}"))
    };
    // openat2(2) has refused circles; a chain of links that are all missing ends where it began
    if split(&target) == (above, name) || target.len() > 4096 {
        return Err(Errno::LOOP.into());
    }
    make_directories(root, &target, stamp)
}

/// Whether a path has a wildcard in it.
fn is_pattern(text: &str) -> bool {
    let mut bytes = text.bytes();
    while let Some(byte) = bytes.next() {
        match byte {
            b'\\' => {
                bytes.next();
            }
            b'*' | b'?' | b'[' => return true,
            _ => {}
        }
    }
    false
}

/// The paths that a pattern stands for, in the order of names; a path without a wildcard is itself.
pub(crate) fn wildcards(root: BorrowedFd<'_>, pattern: &str) -> Result<Vec<String>> {
    let parts: Vec<&str> = pattern.split('/').collect();
    let Some(first) = parts.iter().position(|part| is_pattern(part)) else {
        return Ok(vec![pattern.to_owned()]);
    };
    let base = parts[..first].join("/");
    let rest: Vec<&str> = parts[first..]
        .iter()
        .copied()
        .filter(|part| !part.is_empty())
        .collect();
    let step = || failed("look for", pattern);
    let flags = OFlags::RDONLY | OFlags::DIRECTORY;
    let start = if base.is_empty() { "/" } else { &base };
    let start = match resolve_in(root, start, flags) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        other => other.map_err(step())?,
    };
    let mut matches = Vec::new();
    expand(&start, &base, &rest, &mut matches).map_err(step())?;
    Ok(matches)
}

/// One part of a pattern matches one name, so that only folders which match so far are looked into.
fn expand(
    directory: &OwnedFd,
    base: &str,
    rest: &[&str],
    matches: &mut Vec<String>,
) -> io::Result<()> {
    let Some((pattern, rest)) = rest.split_first() else {
        return Ok(());
    };
    let mut names = storage::trees::list(directory.as_fd())?;
    names.sort_unstable_by(|a, b| a.0.cmp(&b.0));
    for (name, kind) in names {
        let Ok(name) = name.to_str() else { continue };
        // a pattern that makes no sense matches nothing, as with BuildKit
        if !path_match(pattern, name).unwrap_or(false) {
            continue;
        }
        let path = format!("{base}/{name}");
        if rest.is_empty() {
            if matches.len() >= MATCHES_AT_MOST {
                return Err(Errno::TOOBIG.into());
            }
            matches.push(path);
        } else if kind == FileType::Directory {
            let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
            let below = rustix::fs::openat(directory, name, flags, Mode::empty())?;
            expand(&below, &path, rest, matches)?;
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn links_are_followed_inside_the_root() {
        use std::os::unix::fs::symlink;
        let folder = tempfile::tempdir().unwrap();
        let at = |name: &str| folder.path().join(name);
        std::fs::create_dir_all(at("real/deep")).unwrap();
        symlink("/real", at("folder")).unwrap();
        symlink("../../../up", at("real/deep/out")).unwrap();
        symlink("missing/file", at("real/dangling")).unwrap();
        symlink("circle", at("circle")).unwrap();
        let root = std::fs::File::open(folder.path()).unwrap();
        for (given, real) in [
            ("/", "/"),
            ("/new/file", "/new/file"),
            ("/folder/x", "/real/x"),
            ("/folder/deep/out", "/up"),
            ("/folder/deep/../dangling", "/real/missing/file"),
        ] {
            assert_eq!(without_links(root.as_fd(), given).unwrap(), real, "{given}");
        }
        assert!(without_links(root.as_fd(), "/circle/x").is_err());
    }

    #[test]
    fn paths_are_cleaned_and_keep_their_mark() {
        for (given, cleaned) in [
            ("", "/"),
            ("/", "/"),
            ("a", "/a"),
            ("/a/./b/../c", "/a/c"),
            ("../../etc", "/etc"),
            ("a/", "/a/"),
            ("a/.", "/a/."),
            ("./", "/"),
            ("/.", "/"),
        ] {
            assert_eq!(clean(given), cleaned, "{given}");
        }
        assert_eq!(split("/a/b"), ("/a", "b"));
        assert_eq!(split("/a/"), ("/", "a"));
        assert_eq!(split("/a/."), ("/", "a"));
        assert_eq!(split("/"), ("/", ""));
    }
}
