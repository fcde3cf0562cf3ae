//! Reading files of the kernel, and the mounts they tell of.

use std::fs::File;
use std::io::Read;
use std::path::Path;

/// More than any file read here holds on a sane machine.
const LIMIT: u64 = 1 << 20;

/// Reads a text file; what cannot be read is absent, never a reason to fail.
pub(crate) fn read(path: impl AsRef<Path>) -> Option<String> {
    let mut bytes = Vec::new();
    File::open(path)
        .ok()?
        .take(LIMIT)
        .read_to_end(&mut bytes)
        .ok()?;
    Some(String::from_utf8_lossy(&bytes).trim_end().to_owned())
}

/// The value of `key:` in a file such as `/proc/self/status`.
pub(crate) fn value<'a>(text: &'a str, key: &str) -> Option<&'a str> {
    text.lines()
        .find_map(|line| line.strip_prefix(key)?.strip_prefix(':'))
        .map(str::trim)
}

/// One line of `/proc/self/mountinfo` (proc_pid_mountinfo(5)).
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Mount {
    pub(crate) root: String,
    pub(crate) target: String,
    pub(crate) options: String,
    pub(crate) kind: String,
    pub(crate) super_options: String,
}

/// The mounts of this mount namespace.
pub(crate) fn mounts() -> Vec<Mount> {
    read("/proc/self/mountinfo")
        .unwrap_or_default()
        .lines()
        .filter_map(mount)
        .collect()
}

fn mount(line: &str) -> Option<Mount> {
    // a varying number of optional fields ends with a single hyphen
    let (own, source) = line.split_once(" - ")?;
    let mut own = own.split(' ').skip(3).map(str::to_owned);
    let mut source = source.split(' ').map(str::to_owned);
    Some(Mount {
        root: own.next()?,
        target: own.next()?,
        options: own.next()?,
        kind: source.next()?,
        super_options: source.nth(1)?,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn mountinfo_line() {
        let line =
            "36 35 0:98 /a /b rw,noatime shared:1 master:2 - overlay overlay rw,lowerdir=/x:/y";
        let found = mount(line).unwrap();
        assert_eq!(
            (
                found.root.as_str(),
                found.target.as_str(),
                found.options.as_str()
            ),
            ("/a", "/b", "rw,noatime")
        );
        assert_eq!(
            (found.kind.as_str(), found.super_options.as_str()),
            ("overlay", "rw,lowerdir=/x:/y")
        );
        assert_eq!(mount("36 35 0:98 / /"), None);
    }

    #[test]
    fn keyed_values() {
        let text = "Name:\thello\nPid:\t1\nNSpid:\t1";
        assert_eq!(value(text, "Pid"), Some("1"));
        assert_eq!(value(text, "Uid"), None);
    }
}
