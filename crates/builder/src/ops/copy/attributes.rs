//! Owners, modes, times and extended attributes of copies.

use std::ffi::{CStr, CString};
use std::io;
use std::os::fd::BorrowedFd;

use rustix::fs::{AtFlags, Gid, Mode, Stat, Timespec, Timestamps, Uid, XattrFlags};
use rustix::io::Errno;

/// What a file or folder is to be like.
#[derive(Clone, Debug)]
pub(in crate::ops) struct Stamp {
    pub(in crate::ops) owner: (u32, u32),
    pub(in crate::ops) mode: u32,
    pub(in crate::ops) times: Timestamps,
}

impl Stamp {
    /// A folder that is made on the way.
    pub(in crate::ops) fn made(owner: Option<(u32, u32)>, time: Option<i64>) -> Self {
        Self {
            owner: owner.unwrap_or((0, 0)),
            mode: 0o755,
            times: time.map_or_else(now, at),
        }
    }
}

/// The time of the call.
pub(in crate::ops) fn now() -> Timestamps {
    let now = Timespec {
        tv_sec: 0,
        tv_nsec: rustix::fs::UTIME_NOW,
    };
    Timestamps {
        last_access: now,
        last_modification: now,
    }
}

/// One time for both, in nanoseconds since 1970.
pub(in crate::ops) fn at(nanoseconds: i64) -> Timestamps {
    let time = Timespec {
        tv_sec: nanoseconds.div_euclid(1_000_000_000),
        tv_nsec: nanoseconds.rem_euclid(1_000_000_000),
    };
    Timestamps {
        last_access: time,
        last_modification: time,
    }
}

/// The times of a file as they are set on another.
#[expect(
    clippy::cast_possible_wrap,
    reason = "nanoseconds are below a thousand million"
)]
pub(super) fn times_of(stat: &Stat) -> Timestamps {
    Timestamps {
        last_access: Timespec {
            tv_sec: stat.st_atime,
            tv_nsec: stat.st_atime_nsec as _,
        },
        last_modification: Timespec {
            tv_sec: stat.st_mtime,
            tv_nsec: stat.st_mtime_nsec as _,
        },
    }
}

/// Gives an open directory its owner, mode and times.
pub(in crate::ops) fn finish_directory(fd: BorrowedFd<'_>, stamp: &Stamp) -> io::Result<()> {
    finish(fd, stamp)
}

/// Gives an open file its owner, mode and times: the owner first, for a change of it takes the
/// set-id bits away (chown(2)).
pub(super) fn finish(fd: BorrowedFd<'_>, stamp: &Stamp) -> io::Result<()> {
    let (uid, gid) = stamp.owner;
    // to look costs less than a change that is none, for which the journal is begun
    let now = rustix::fs::fstat(fd)?;
    let owned = (now.st_uid, now.st_gid) == (uid, gid);
    if !owned {
        rustix::fs::fchown(fd, Some(Uid::from_raw(uid)), Some(Gid::from_raw(gid)))?;
    }
    if !owned || now.st_mode & 0o7777 != stamp.mode & 0o7777 {
        rustix::fs::fchmod(fd, Mode::from_raw_mode(stamp.mode & 0o7777))?;
    }
    Ok(rustix::fs::futimens(fd, &stamp.times)?)
}

/// Gives a name that is not opened its owner, mode and times; a link has no mode.
pub(super) fn finish_name(
    directory: BorrowedFd<'_>,
    name: &CStr,
    stamp: &Stamp,
    is_link: bool,
) -> io::Result<()> {
    let (uid, gid) = stamp.owner;
    let owner = (Some(Uid::from_raw(uid)), Some(Gid::from_raw(gid)));
    let nofollow = AtFlags::SYMLINK_NOFOLLOW;
    rustix::fs::chownat(directory, name, owner.0, owner.1, nofollow)?;
    if !is_link {
        // just made by us, in a folder that nobody else writes to
        let mode = Mode::from_raw_mode(stamp.mode & 0o7777);
        rustix::fs::chmodat(directory, name, mode, AtFlags::empty())?;
    }
    Ok(rustix::fs::utimensat(
        directory,
        name,
        &stamp.times,
        nofollow,
    )?)
}

/// Copies the extended attributes that belong to a file's content.
pub(super) fn copy_xattrs(from: BorrowedFd<'_>, to: BorrowedFd<'_>) -> io::Result<()> {
    for (name, value) in storage::trees::xattrs(from)? {
        match rustix::fs::fsetxattr(to, &CString::new(name)?, &value, XattrFlags::empty()) {
            Ok(()) | Err(Errno::OPNOTSUPP) => {}
            Err(error) => return Err(error.into()),
        }
    }
    Ok(())
}

/// What is done to the mode of each file and folder.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(in crate::ops) enum ModeChange {
    /// It is set.
    Set(u32),
    /// It is changed as chmod(1) does.
    Symbolic(Vec<Clause>),
}

/// One clause of a symbolic mode: who, how, what.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(in crate::ops) struct Clause {
    who: u32,
    operator: char,
    what: What,
}

/// The right-hand side of a clause.
#[derive(Clone, Debug, PartialEq, Eq)]
enum What {
    /// Permissions as letters.
    Letters(String),
    /// Those that another class has.
    Copy(char),
}

const USER: u32 = 0o700;
const GROUP: u32 = 0o070;
const OTHER: u32 = 0o007;

impl ModeChange {
    /// Reads a mode as chmod(1) takes it.
    pub(in crate::ops) fn parse(text: &str) -> Option<Self> {
        if !text.is_empty() && text.bytes().all(|byte| (b'0'..=b'7').contains(&byte)) {
            let mode = u32::from_str_radix(text, 8).ok()?;
            return (mode <= 0o7777).then_some(Self::Set(mode));
        }
        let mut clauses = Vec::new();
        for clause in text.split(',') {
            let end = clause
                .find(['+', '-', '='])
                .filter(|_| !clause.is_empty())?;
            let (who, mut rest) = clause.split_at(end);
            let who = classes(who)?;
            while let Some(operator) = rest.chars().next() {
                rest = &rest[1..];
                let end = rest.find(['+', '-', '=']).unwrap_or(rest.len());
                let (what, next) = rest.split_at(end);
                rest = next;
                clauses.push(Clause {
                    who,
                    operator,
                    what: what_of(what)?,
                });
            }
        }
        Some(Self::Symbolic(clauses))
    }

    /// The mode of a file after it.
    pub(super) fn apply(&self, mode: u32, is_directory: bool) -> u32 {
        match self {
            Self::Set(mode) => *mode,
            Self::Symbolic(clauses) => clauses.iter().fold(mode & 0o7777, |mode, clause| {
                clause.apply(mode, is_directory)
            }),
        }
    }
}

fn classes(text: &str) -> Option<u32> {
    if text.is_empty() {
        return Some(USER | GROUP | OTHER);
    }
    text.chars().try_fold(0, |who, c| {
        Some(
            who | match c {
                'u' => USER,
                'g' => GROUP,
                'o' => OTHER,
                'a' => USER | GROUP | OTHER,
                _ => return None,
            },
        )
    })
}

fn what_of(text: &str) -> Option<What> {
    match text {
        "u" | "g" | "o" => text.chars().next().map(What::Copy),
        letters => letters
            .chars()
            .all(|c| "rwxXst".contains(c))
            .then(|| What::Letters(letters.to_owned())),
    }
}

impl Clause {
    fn apply(&self, mode: u32, is_directory: bool) -> u32 {
        let bits = self.bits(mode, is_directory);
        match self.operator {
            '+' => mode | bits,
            '-' => mode & !bits,
            _ => {
                let mut cleared = self.who;
                if self.who & USER != 0 {
                    cleared |= 0o4000;
                }
                if self.who & GROUP != 0 {
                    cleared |= 0o2000;
                }
                if self.who == USER | GROUP | OTHER {
                    cleared |= 0o1000;
                }
                (mode & !cleared) | bits
            }
        }
    }

    fn bits(&self, mode: u32, is_directory: bool) -> u32 {
        let spread = |bits: u32| (bits << 6 | bits << 3 | bits) & self.who;
        match &self.what {
            What::Copy('u') => spread(mode >> 6 & 7),
            What::Copy('g') => spread(mode >> 3 & 7),
            What::Copy(_) => spread(mode & 7),
            What::Letters(letters) => letters.chars().fold(0, |bits, letter| {
                bits | match letter {
                    'r' => spread(4),
                    'w' => spread(2),
                    'x' => spread(1),
                    'X' if is_directory || mode & 0o111 != 0 => spread(1),
                    's' => {
                        (if self.who & USER != 0 { 0o4000 } else { 0 })
                            | (if self.who & GROUP != 0 { 0o2000 } else { 0 })
                    }
                    't' => 0o1000,
                    _ => 0,
                }
            }),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn modes_change_as_chmod_does() {
        for (text, before, is_directory, after) in [
            ("755", 0o644, false, 0o755),
            ("0644", 0o4755, false, 0o644),
            ("u+x", 0o644, false, 0o744),
            ("a+x", 0o644, false, 0o755),
            ("+x", 0o600, false, 0o711),
            ("go-rwx", 0o777, false, 0o700),
            ("u=rwX,go=rX", 0o600, false, 0o644),
            ("u=rwX,go=rX", 0o600, true, 0o755),
            ("a=rX", 0o700, false, 0o555),
            ("u+s,g+s,+t", 0o755, false, 0o7755),
            ("g=u", 0o640, false, 0o660),
            ("u=rw+x", 0o000, false, 0o700),
        ] {
            let change = ModeChange::parse(text).unwrap();
            let got = change.apply(before, is_directory);
            assert_eq!(got, after, "{text} on {before:o}: {got:o}");
        }
        for bad in ["", "u", "8", "77777", "u+q", "q+x", "u+x,"] {
            assert_eq!(ModeChange::parse(bad), None, "{bad}");
        }
    }
}
