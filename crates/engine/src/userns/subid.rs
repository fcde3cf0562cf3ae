//! `/etc/subuid` and `/etc/subgid`: which ids of the host somebody may give to users of user namespaces.

use std::collections::BTreeSet;
use std::io::{self, Read as _, Write as _};
use std::path::{Path, PathBuf};

use crate::error::{Error, Result, Step};

/// Largest file that is read.
const LONGEST: u64 = 1 << 20;

/// The user whose ranges `default` means, as with dockerd.
pub(super) const DEFAULT_USER: &str = "dockremap";

/// Where a range for the default user begins if nobody has more: above all that systemd gives to users
/// and containers (systemd.io/UIDS-GIDS), and below 2^31, which not every program can count beyond.
const FIRST: u32 = 0x7000_0000;

/// How long that range is: 1024 containers of their own.
const LENGTH: u32 = 1 << 26;

/// The files that are read, and one that is written.
#[derive(Clone, Debug)]
pub(super) struct Files {
    pub(super) subuid: PathBuf,
    pub(super) subgid: PathBuf,
    pub(super) passwd: PathBuf,
    pub(super) group: PathBuf,
}

impl Files {
    /// Those of a folder such as `/etc`.
    pub(super) fn of(folder: &Path) -> Self {
        Self {
            subuid: folder.join("subuid"),
            subgid: folder.join("subgid"),
            passwd: folder.join("passwd"),
            group: folder.join("group"),
        }
    }
}

/// Consecutive ids of the host.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Range {
    pub(super) first: u32,
    pub(super) count: u32,
}

/// Somebody whose ranges are looked for, by what lines may call them.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Owner {
    pub(super) name: String,
    pub(super) id: Option<u32>,
}

/// Reads a file; one that is not there is empty.
pub(super) fn read(path: &Path) -> Result<String> {
    let read = || -> io::Result<String> {
        let file = std::fs::File::open(path)?;
        if !file.metadata()?.is_file() {
            return Err(io::ErrorKind::InvalidInput.into());
        }
        let mut text = String::new();
        file.take(LONGEST + 1).read_to_string(&mut text)?;
        if u64::try_from(text.len()).is_ok_and(|length| length > LONGEST) {
            return Err(io::ErrorKind::FileTooLarge.into());
        }
        Ok(text)
    };
    match read() {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(String::new()),
        other => other.step(|| format!("read {}", path.display())),
    }
}

/// The ranges of somebody; lines that are none of `name:first:count` are passed over, as by shadow's own tools.
pub(super) fn ranges(text: &str, owner: &Owner) -> Vec<Range> {
    let number = owner.id.map(|id| id.to_string());
    let is_owner = |name: &str| name == owner.name || Some(name) == number.as_deref();
    let lines = text.lines().filter_map(parse);
    let own = lines.filter(|(name, _)| is_owner(name));
    own.map(|(_, range)| range).collect()
}

fn parse(line: &str) -> Option<(&str, Range)> {
    let mut fields = line.trim().split(':');
    let (name, first, count) = (fields.next()?, fields.next()?, fields.next()?);
    if fields.next().is_some() || name.is_empty() || name.starts_with('#') {
        return None;
    }
    let range = Range {
        first: first.parse().ok()?,
        count: count.parse().ok()?,
    };
    // the last number is nobody's (chown(2) takes it for "as it is")
    let fits = range.first.checked_add(range.count).is_some();
    (range.count > 0 && fits).then_some((name, range))
}

/// The name and id of a line of `/etc/passwd` or `/etc/group`, by either.
pub(super) fn account(text: &str, wanted: &str) -> Option<Owner> {
    let lines = text.lines().filter_map(|line| {
        let mut fields = line.split(':');
        let name = fields.next()?;
        let id: u32 = fields.nth(1)?.parse().ok()?;
        Some((name, id))
    });
    let number: Option<u32> = wanted.parse().ok();
    let all: Vec<_> = lines.collect();
    let by_name = all.iter().find(|(name, _)| *name == wanted);
    let found = by_name.or_else(|| all.iter().find(|(_, id)| Some(*id) == number));
    found.map(|(name, id)| Owner {
        name: (*name).to_owned(),
        id: Some(*id),
    })
}

/// Gives the default user ranges in both files, unless it has some.
pub(super) fn ensure_default(files: &Files) -> Result<()> {
    let owner = Owner {
        name: DEFAULT_USER.to_owned(),
        id: None,
    };
    let texts = [read(&files.subuid)?, read(&files.subgid)?];
    if texts.iter().all(|text| !ranges(text, &owner).is_empty()) {
        return Ok(());
    }
    let first = free(&texts).ok_or_else(|| {
        Error::internal(format!(
            "userns-remap: no range of {LENGTH} ids is free above {FIRST} for {DEFAULT_USER}: add one to {} and {}",
            files.subuid.display(),
            files.subgid.display()
        ))
    })?;
    for (path, text) in [&files.subuid, &files.subgid].into_iter().zip(&texts) {
        if ranges(text, &owner).is_empty() {
            let break_ = if text.is_empty() || text.ends_with('\n') {
                ""
            } else {
                "\n"
            };
            let line = format!("{break_}{DEFAULT_USER}:{first}:{LENGTH}\n");
            append(path, &line).step(|| {
                format!(
                    "userns-remap: add a range for {DEFAULT_USER} to {}; without it, name a user who has one",
                    path.display()
                )
            })?;
        }
    }
    Ok(())
}

/// The beginning of a range that nobody has, the same in both files.
fn free(texts: &[String; 2]) -> Option<u32> {
    let taken: BTreeSet<(u32, u32)> = texts
        .iter()
        .flat_map(|text| text.lines())
        .filter_map(parse)
        .map(|(_, range)| (range.first, range.first + range.count))
        .collect();
    let mut first = FIRST;
    for (begin, end) in taken {
        if begin < first.checked_add(LENGTH)? && end > first {
            first = end;
        }
    }
    let end = first.checked_add(LENGTH)?;
    (end <= i32::MAX.unsigned_abs()).then_some(first)
}

/// Adds a line in one write, so that nobody reads half of it.
fn append(path: &Path, line: &str) -> io::Result<()> {
    let mut options = std::fs::OpenOptions::new();
    let mut file = options.append(true).create(true).open(path)?;
    file.write_all(line.as_bytes())?;
    file.sync_all()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn owner(name: &str, id: u32) -> Owner {
        Owner {
            name: name.to_owned(),
            id: Some(id),
        }
    }

    #[test]
    fn lines_of_somebody() {
        let text = "# comment:1:2\nweb:100000:65536\n\nother:1:1\n1000:300000:10\nweb:x:1\nweb:1:2:3\nweb:5:0\n web:7:8 \nweb:4294967295:2\nweb:-1:2";
        let found = ranges(text, &owner("web", 1000));
        let firsts: Vec<_> = found.iter().map(|r| (r.first, r.count)).collect();
        assert_eq!(firsts, [(100_000, 65536), (300_000, 10), (7, 8)]);
        assert_eq!(ranges(text, &owner("nobody", 9)), []);
    }

    #[test]
    fn accounts_by_name_and_number() {
        let text = "root:x:0:0::/root:/bin/sh\nweb:x:1000:1000::/:/bin/sh\n7:x:8:8::/:\nbroken\n";
        assert_eq!(account(text, "web"), Some(owner("web", 1000)));
        assert_eq!(account(text, "1000"), Some(owner("web", 1000)));
        // a name of digits is a name first
        assert_eq!(account(text, "7"), Some(owner("7", 8)));
        assert_eq!(account(text, "9"), None);
    }

    #[test]
    fn the_default_user_gets_a_free_range_once() {
        let dir = tempfile::tempdir().unwrap();
        let files = Files::of(dir.path());
        // without a line's end, and in the way
        std::fs::write(&files.subuid, format!("web:{}:10", FIRST + 5)).unwrap();
        ensure_default(&files).unwrap();
        let expect = format!("{DEFAULT_USER}:{}:{LENGTH}\n", FIRST + 15);
        let uids = std::fs::read_to_string(&files.subuid).unwrap();
        assert_eq!(uids, format!("web:{}:10\n{expect}", FIRST + 5));
        assert_eq!(std::fs::read_to_string(&files.subgid).unwrap(), expect);
        ensure_default(&files).unwrap();
        assert_eq!(std::fs::read_to_string(&files.subuid).unwrap(), uids);
    }

    #[test]
    fn no_range_is_given_where_none_is_free() {
        let full = format!("all:{FIRST}:{LENGTH}\nmore:{}:{LENGTH}\n", FIRST + LENGTH);
        let rest = format!(
            "end:{}:{}\n",
            FIRST + 2 * LENGTH,
            i32::MAX.unsigned_abs() - FIRST - 3 * LENGTH + 1
        );
        assert_eq!(
            free(&[full.clone(), String::new()]),
            Some(FIRST + 2 * LENGTH)
        );
        assert_eq!(free(&[full, rest]), None);
    }
}
