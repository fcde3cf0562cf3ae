//! Which files of a client's folder a build wants: patterns, and paths whose links are followed.

use std::collections::{BTreeSet, VecDeque};
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use dockerfile::ignore::{IgnoreError, Matcher, Verdict, path_match};
use rustix::fs::{Dir, Mode, OFlags, ResolveFlags};

use crate::fsutil::Wanted;

/// Links that are followed for one path, as the kernel has it for one lookup.
const MAX_LINKS: usize = 40;
/// Paths that are looked at for all that are to be followed.
const MAX_PATHS: usize = 100_000;

/// Why files cannot be chosen.
#[derive(Debug, thiserror::Error)]
pub enum FilterError {
    /// A pattern is malformed.
    #[error(transparent)]
    Pattern(#[from] IgnoreError),
    /// The folder cannot be read.
    #[error("follow {path:?} in the context")]
    Read {
        /// What was looked for.
        path: String,
        /// Why it failed.
        #[source]
        source: io::Error,
    },
    /// There are more paths than anybody needs.
    #[error("more than {MAX_PATHS} paths of the context are to be followed")]
    TooMany,
}

/// Which files are wanted.
#[derive(Debug, Default)]
pub struct Filter {
    include: Option<Matcher>,
    exclude: Matcher,
}

impl Filter {
    /// Reads patterns, and follows the paths in the folder that they are about.
    ///
    /// # Errors
    /// When a pattern is malformed or the folder cannot be read.
    pub fn new(
        folder: impl AsFd,
        include: &[String],
        exclude: &[String],
        follow: &[String],
    ) -> Result<Self, FilterError> {
        let mut include = include.to_vec();
        let mut all = include.is_empty();
        if !follow.is_empty() {
            match followed(folder.as_fd(), follow)? {
                Some(paths) => {
                    include.extend(paths);
                    all = false;
                }
                None => all = true,
            }
        }
        Ok(Self {
            include: (!all).then(|| Matcher::new(&include)).transpose()?,
            exclude: Matcher::new(exclude)?,
        })
    }

    /// Whether everything is wanted.
    #[must_use]
    pub fn is_all(&self) -> bool {
        self.include.is_none() && self.exclude.is_empty()
    }

    /// As a walk asks for it, folders before what is in them.
    pub fn into_wanted(self) -> impl FnMut(&str, bool) -> Wanted + Send + 'static {
        let mut above: Vec<(String, Verdict)> = Vec::new();
        move |path, is_dir| {
            while above
                .last()
                .is_some_and(|(folder, _)| !is_below(path, folder))
            {
                above.pop();
            }
            let parent = above.last().map(|(_, verdict)| verdict);
            let verdict = self.exclude.below(path, parent);
            let excluded = match (verdict.matched, is_dir) {
                (false, _) => Wanted::Yes,
                (true, true) if !self.exclude.can_skip(path, &verdict) => Wanted::IfHolds,
                (true, _) => Wanted::No,
            };
            if is_dir && excluded != Wanted::No {
                above.push((path.to_owned(), verdict));
            }
            lesser(excluded, self.included(path, is_dir))
        }
    }

    fn included(&self, path: &str, is_dir: bool) -> Wanted {
        match &self.include {
            None => Wanted::Yes,
            Some(include) if include.matches(path) => Wanted::Yes,
            Some(include) if is_dir && include.may_match_below(path) => Wanted::IfHolds,
            Some(_) => Wanted::No,
        }
    }
}

fn lesser(one: Wanted, other: Wanted) -> Wanted {
    match (one, other) {
        (Wanted::No, _) | (_, Wanted::No) => Wanted::No,
        (Wanted::IfHolds, _) | (_, Wanted::IfHolds) => Wanted::IfHolds,
        _ => Wanted::Yes,
    }
}

fn is_below(path: &str, folder: &str) -> bool {
    path.strip_prefix(folder)
        .is_some_and(|rest| rest.starts_with('/'))
}

/// Paths with the links that lead on from them; absent where everything is meant.
fn followed(
    root: BorrowedFd<'_>,
    paths: &[String],
) -> Result<Option<BTreeSet<String>>, FilterError> {
    let mut found = BTreeSet::new();
    // what is known of a path, what is still to go, and the links on the way
    let mut open: VecDeque<(String, Vec<String>, usize)> = VecDeque::new();
    for path in paths {
        let parts = parts_of("", path);
        if parts.is_empty() {
            return Ok(None);
        }
        open.push_back((String::new(), parts, 0));
    }
    let mut looked = 0_usize;
    while let Some((done, mut rest, links)) = open.pop_front() {
        looked += 1;
        if looked > MAX_PATHS {
            return Err(FilterError::TooMany);
        }
        let Some(next) = rest.first().cloned() else {
            if done.is_empty() {
                return Ok(None);
            }
            found.insert(done);
            continue;
        };
        rest.remove(0);
        if is_pattern(&next) {
            for name in names(root, &done, &next)? {
                let mut parts = vec![name];
                parts.extend(rest.iter().cloned());
                open.push_back((done.clone(), parts, links));
            }
            continue;
        }
        let here = join(&done, &next);
        match link(root, &here)? {
            Some(target) if links < MAX_LINKS => {
                found.insert(here);
                let mut parts = parts_of(&done, &target);
                parts.extend(rest);
                open.push_back((String::new(), parts, links + 1));
            }
            _ => open.push_back((here, rest, links)),
        }
    }
    Ok(Some(found.into_iter().map(|path| escape(&path)).collect()))
}

fn join(folder: &str, name: &str) -> String {
    if folder.is_empty() {
        name.to_owned()
    } else {
        format!("{folder}/{name}")
    }
}

/// The parts of a path from a folder on, without leaving the root.
fn parts_of(folder: &str, path: &str) -> Vec<String> {
    let mut parts: Vec<String> = Vec::new();
    let from = if path.starts_with('/') { "" } else { folder };
    for part in from.split('/').chain(path.split('/')) {
        match part {
            "" | "." => {}
            ".." => drop(parts.pop()),
            name => parts.push(name.to_owned()),
        }
    }
    parts
}

fn is_pattern(name: &str) -> bool {
    name.contains(['*', '?', '['])
}

/// A path as a pattern that matches it alone.
fn escape(path: &str) -> String {
    let mut escaped = String::with_capacity(path.len());
    for character in path.chars() {
        if matches!(character, '*' | '?' | '[' | '\\') {
            escaped.push('\\');
        }
        escaped.push(character);
    }
    escaped
}

fn open(root: BorrowedFd<'_>, path: &str, flags: OFlags) -> rustix::io::Result<OwnedFd> {
    let path = if path.is_empty() { "." } else { path };
    let resolve = ResolveFlags::BENEATH | ResolveFlags::NO_SYMLINKS;
    rustix::fs::openat2(root, path, flags | OFlags::CLOEXEC, Mode::empty(), resolve)
}

/// Where a link leads; none for what is no link, or not there.
fn link(root: BorrowedFd<'_>, path: &str) -> Result<Option<String>, FilterError> {
    let (folder, name) = path.rsplit_once('/').unwrap_or(("", path));
    let Ok(folder) = open(root, folder, OFlags::PATH | OFlags::DIRECTORY) else {
        return Ok(None);
    };
    match rustix::fs::readlinkat(&folder, name, Vec::new()) {
        Ok(target) => Ok(target.into_string().ok()),
        Err(_) => Ok(None),
    }
}

/// The names in a folder that match a pattern; none where there is no folder.
fn names(root: BorrowedFd<'_>, folder: &str, pattern: &str) -> Result<Vec<String>, FilterError> {
    let failed = |error: rustix::io::Errno| FilterError::Read {
        path: join(folder, pattern),
        source: error.into(),
    };
    let Ok(opened) = open(root, folder, OFlags::RDONLY | OFlags::DIRECTORY) else {
        return Ok(Vec::new());
    };
    let mut names = Vec::new();
    for entry in Dir::new(opened).map_err(failed)? {
        let entry = entry.map_err(failed)?;
        let Ok(name) = entry.file_name().to_str() else {
            continue;
        };
        let own = name == "." || name == "..";
        if !own && path_match(pattern, name).unwrap_or(false) {
            names.push(name.to_owned());
        }
    }
    Ok(names)
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::os::unix::fs::symlink;

    use super::*;
    use crate::fsutil::{Look, walk};

    fn listed(include: &[&str], exclude: &[&str], follow: &[&str]) -> Vec<String> {
        let folder = tempfile::tempdir().unwrap();
        for path in ["a", "d/b", "d/e/c", "t/x.tmp", "t/keep"] {
            let path = folder.path().join(path);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, "1").unwrap();
        }
        symlink("d/e", folder.path().join("l")).unwrap();
        let opened = fs::File::open(folder.path()).unwrap();
        let owned = |list: &[&str]| list.iter().map(|p| (*p).to_owned()).collect::<Vec<_>>();
        let filter = Filter::new(&opened, &owned(include), &owned(exclude), &owned(follow));
        let wanted = filter.unwrap().into_wanted();
        let index = walk(opened.as_fd(), Look::default(), wanted).unwrap();
        index.entries.into_iter().map(|entry| entry.path).collect()
    }

    #[test]
    fn everything_without_patterns() {
        let all = [
            "a", "d", "d/b", "d/e", "d/e/c", "l", "t", "t/keep", "t/x.tmp",
        ];
        assert_eq!(listed(&[], &[], &[]), all);
        assert_eq!(listed(&[], &[], &["."]), all);
    }

    #[test]
    fn what_is_left_out() {
        assert_eq!(
            listed(&[], &["d", "**/*.tmp"], &[]),
            ["a", "l", "t", "t/keep"]
        );
        assert_eq!(
            listed(&[], &["d", "!d/e"], &[]),
            ["a", "d", "d/e", "d/e/c", "l", "t", "t/keep", "t/x.tmp"]
        );
        assert_eq!(listed(&[], &["*", "!t/keep"], &[]), ["t", "t/keep"]);
    }

    #[test]
    fn what_is_followed() {
        assert_eq!(listed(&[], &[], &["a"]), ["a"]);
        assert_eq!(listed(&[], &[], &["l/c"]), ["d", "d/e", "d/e/c", "l"]);
        assert_eq!(listed(&[], &[], &["t/*.tmp"]), ["t", "t/x.tmp"]);
        assert_eq!(listed(&[], &["t"], &["t/keep", "a"]), ["a"]);
        assert_eq!(listed(&["d/e"], &[], &[]), ["d", "d/e", "d/e/c"]);
        assert!(listed(&[], &[], &["../../etc/passwd"]).is_empty());
    }
}
