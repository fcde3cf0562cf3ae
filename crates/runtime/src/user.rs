//! Users and groups by name, from a container's own `/etc/passwd` and `/etc/group`.
//!
//! Both files are an image author's: they are read by descriptor below the root, only if they are
//! regular files, and at most 1 MiB of them (CVE-2026-47262, CVE-2024-9676). Numbers that do not
//! fit are refused and never wrapped to those of root (CVE-2024-40635).

use std::io;
use std::os::fd::BorrowedFd;
use std::path::Path;

use oci::runtime::User;

/// Largest file that is read.
const LIMIT: usize = 1 << 20;

/// Largest id that Docker takes.
const GREATEST: u32 = i32::MAX.unsigned_abs();

/// A user that cannot be told, in the words that Docker's clients know.
#[derive(Debug, thiserror::Error)]
pub enum UserError {
    /// A file exists and cannot be read.
    #[error("read {path} of the container")]
    Read {
        /// The file.
        path: &'static str,
        /// What the kernel said; EFBIG for a file that is too long, EINVAL for one that is not regular.
        #[source]
        source: io::Error,
    },
    /// No such user.
    #[error("unable to find user {name}: no matching entries in passwd file")]
    NoUser {
        /// As given.
        name: String,
    },
    /// No such group.
    #[error("unable to find group {name}: no matching entries in group file")]
    NoGroup {
        /// As given.
        name: String,
    },
    /// A number that is none of an id.
    #[error("uids and gids must be in range 0-{GREATEST}")]
    Range,
}

/// Resolves `user[:group]`, names or numbers, in the tree of `root`.
///
/// As in Docker: a number that the file does not know has group 0; a group given by name or number
/// takes the place of all groups that the files give the user.
///
/// # Errors
///
/// A name that is not there, a number out of range, a file that cannot be read.
pub fn resolve(root: BorrowedFd<'_>, text: &str) -> Result<User, UserError> {
    let (user, group) = match text.split_once(':') {
        Some((user, group)) => (user, Some(group).filter(|group| !group.is_empty())),
        None => (text, None),
    };
    let passwd = read(root, "etc/passwd")?;
    let found = find_user(&passwd, user)?;
    let mut resolved = User {
        uid: found.uid,
        gid: found.gid,
        ..User::default()
    };
    if group.is_none() && found.name.is_none() {
        resolved.additional_gids = vec![found.gid];
        return Ok(resolved);
    }
    let groups = read(root, "etc/group")?;
    match (group, found.name) {
        (Some(group), _) => resolved.gid = find_group(&groups, group)?,
        (None, Some(name)) => resolved.additional_gids = groups_of(&groups, name),
        (None, None) => {}
    }
    // without it, a process that drops its group by setgid(2) would lose access that it is to have,
    // or gain it where the group is refused (GHSA-rc4r-wh2q-q6c4)
    if !resolved.additional_gids.contains(&resolved.gid) {
        resolved.additional_gids.insert(0, resolved.gid);
    }
    Ok(resolved)
}

/// Resolves one group, name or number, as `--group-add` gives it.
///
/// # Errors
///
/// As those of [`resolve`].
pub fn resolve_group(root: BorrowedFd<'_>, text: &str) -> Result<u32, UserError> {
    match number(text)? {
        Some(gid) => Ok(gid),
        None => find_group(&read(root, "etc/group")?, text),
    }
}

/// Tells a user's home directory; `/` when the file does not know one.
///
/// # Errors
///
/// A file that cannot be read.
pub fn home(root: BorrowedFd<'_>, uid: u32) -> Result<String, UserError> {
    let passwd = read(root, "etc/passwd")?;
    let entry = entries(&passwd).find(|entry| entry.id() == Some(uid));
    let home = entry.and_then(|entry| entry.field(5));
    Ok(home
        .filter(|home| !home.is_empty())
        .unwrap_or("/")
        .to_owned())
}

/// Reads one of the files; one that is not there is empty.
fn read(root: BorrowedFd<'_>, path: &'static str) -> Result<String, UserError> {
    match sys::tree::read_bounded(root, Path::new(path), LIMIT) {
        Ok(bytes) => Ok(String::from_utf8_lossy(&bytes).into_owned()),
        Err(source) if is_missing(&source) => Ok(String::new()),
        Err(source) => Err(UserError::Read { path, source }),
    }
}

fn is_missing(error: &io::Error) -> bool {
    matches!(
        error.kind(),
        io::ErrorKind::NotFound | io::ErrorKind::NotADirectory
    )
}

/// A line of either file.
#[derive(Clone, Copy)]
struct Entry<'text>(&'text str);

impl<'text> Entry<'text> {
    fn field(self, at: usize) -> Option<&'text str> {
        self.0.split(':').nth(at)
    }

    fn name(self) -> &'text str {
        self.field(0).unwrap_or_default()
    }

    fn id(self) -> Option<u32> {
        self.field(2)?.parse().ok()
    }
}

fn entries(text: &str) -> impl Iterator<Item = Entry<'_>> {
    text.lines()
        .map(str::trim)
        .filter(|line| !line.is_empty() && !line.starts_with('#'))
        .map(Entry)
}

/// A user as far as the file knows it.
struct Found<'text> {
    uid: u32,
    gid: u32,
    name: Option<&'text str>,
}

fn find_user<'text>(passwd: &'text str, user: &str) -> Result<Found<'text>, UserError> {
    let wanted = if user.is_empty() {
        Some(0)
    } else {
        number(user)?
    };
    let by_name = || entries(passwd).find(|entry| entry.name() == user);
    let by_number = || entries(passwd).find(|entry| wanted.is_some() && entry.id() == wanted);
    let entry = by_name().or_else(by_number);
    let Some(entry) = entry else {
        let uid = wanted.ok_or_else(|| UserError::NoUser {
            name: user.to_owned(),
        })?;
        return Ok(Found {
            uid,
            gid: 0,
            name: None,
        });
    };
    let field = |at| number(entry.field(at).unwrap_or_default())?.ok_or(UserError::Range);
    Ok(Found {
        uid: field(2)?,
        gid: field(3)?,
        name: Some(entry.name()),
    })
}

fn find_group(groups: &str, group: &str) -> Result<u32, UserError> {
    let by_name = entries(groups).find(|entry| entry.name() == group);
    let text = by_name.and_then(|entry| entry.field(2)).unwrap_or(group);
    number(text)?.ok_or_else(|| UserError::NoGroup {
        name: group.to_owned(),
    })
}

/// The groups that list a user; a line whose number is none of an id gives nothing.
fn groups_of(groups: &str, name: &str) -> Vec<u32> {
    let lists = |entry: &Entry<'_>| {
        let members = entry.field(3).unwrap_or_default();
        members.split(',').any(|member| member.trim() == name)
    };
    let mut gids: Vec<u32> = entries(groups)
        .filter(lists)
        .filter_map(|entry| number(entry.field(2)?).ok()?)
        .collect();
    gids.dedup();
    gids
}

/// The number that a text is; `None` for a name, an error for a number out of range.
fn number(text: &str) -> Result<Option<u32>, UserError> {
    let digits = text.strip_prefix(['-', '+']).unwrap_or(text);
    if digits.is_empty() || !digits.bytes().all(|byte| byte.is_ascii_digit()) {
        return Ok(None);
    }
    match text.parse::<u32>() {
        Ok(number) if number <= GREATEST => Ok(Some(number)),
        _ => Err(UserError::Range),
    }
}

#[cfg(test)]
mod tests {
    use std::os::fd::AsFd as _;

    use super::*;

    const PASSWD: &str = "root:x:0:0:root:/root:/bin/sh\n# a comment\nweb:x:33:33::/var/www:/bin/sh\n\
                          1001:x:77:78:a number as name:/:\nbad:x:4294967296:0::/:\n";
    const GROUP: &str = "root:x:0:\nweb:x:33:\nadm:x:4:root,web\nhuge:x:4294967295:web\n";

    struct Tree(std::path::PathBuf);

    impl Tree {
        fn new(name: &str, passwd: &str, group: &str) -> Self {
            let path =
                std::env::temp_dir().join(format!("gorae-user-{}-{name}", std::process::id()));
            std::fs::create_dir_all(path.join("etc")).unwrap();
            std::fs::write(path.join("etc/passwd"), passwd).unwrap();
            std::fs::write(path.join("etc/group"), group).unwrap();
            Self(path)
        }

        fn open(&self) -> std::os::fd::OwnedFd {
            std::fs::File::open(&self.0).unwrap().into()
        }
    }

    impl Drop for Tree {
        fn drop(&mut self) {
            std::fs::remove_dir_all(&self.0).unwrap();
        }
    }

    #[track_caller]
    fn check(name: &str, text: &str, expect: Result<(u32, u32, &[u32]), &str>) {
        let tree = Tree::new(name, PASSWD, GROUP);
        let got = resolve(tree.open().as_fd(), text).map_err(|error| error.to_string());
        match (got, expect) {
            (Ok(user), Ok((uid, gid, more))) => {
                assert_eq!(
                    (user.uid, user.gid, &user.additional_gids[..]),
                    (uid, gid, more)
                );
            }
            (Err(text), Err(expect)) => assert_eq!(text, expect),
            (got, expect) => panic!("{got:?} in place of {expect:?}"),
        }
    }

    #[test]
    fn names_and_numbers() {
        check("empty", "", Ok((0, 0, &[0, 4])));
        check("name", "web", Ok((33, 33, &[33, 4])));
        check("number", "33", Ok((33, 33, &[33, 4])));
        check("unknown-number", "1234", Ok((1234, 0, &[0])));
        check("group", "web:adm", Ok((33, 4, &[4])));
        check("group-number", "web:999", Ok((33, 999, &[999])));
        check("name-of-digits", "1001", Ok((77, 78, &[78])));
        check("trailing-colon", "web:", Ok((33, 33, &[33, 4])));
    }

    #[test]
    fn refusals() {
        let none = "unable to find user nobody: no matching entries in passwd file";
        check("no-user", "nobody", Err(none));
        let none = "unable to find group staff: no matching entries in group file";
        check("no-group", "web:staff", Err(none));
        let range = "uids and gids must be in range 0-2147483647";
        check("wraps", "4294967296", Err(range));
        check("wraps-twice", "18446744073709551616:0", Err(range));
        check("negative", "-1", Err(range));
        check("entry-wraps", "bad", Err(range));
        check("group-wraps", "web:4294967296", Err(range));
    }

    #[test]
    fn a_huge_file_is_refused() {
        let tree = Tree::new("huge", &"x".repeat(LIMIT + 1), "");
        let error = resolve(tree.open().as_fd(), "root").unwrap_err();
        assert!(matches!(error, UserError::Read { .. }));
    }

    #[test]
    fn homes() {
        let tree = Tree::new("home", PASSWD, GROUP);
        assert_eq!(home(tree.open().as_fd(), 33).unwrap(), "/var/www");
        assert_eq!(home(tree.open().as_fd(), 9).unwrap(), "/");
    }
}
