//! Names that the other side gives.

use std::cmp::Ordering;

use super::FsutilError;

/// The longest name of one file, as the kernel has it.
const MAX_NAME: usize = 255;
/// The longest path of an entry; deep trees go beyond what one call of the kernel takes.
const MAX_PATH: usize = 64 << 10;

/// Says what is wrong with a path: it must be relative and go down only.
pub(super) fn check(path: &str) -> Result<(), FsutilError> {
    let wrong = |why| {
        // an error must not carry what a hostile side makes endless
        let path = path.chars().take(256).collect();
        Err(FsutilError::Path { path, why })
    };
    if path.len() > MAX_PATH {
        return wrong("it is too long");
    }
    for name in path.split('/') {
        match name {
            "" => return wrong("it has an empty name, or is absolute"),
            "." | ".." => return wrong("it does not go down"),
            _ if name.len() > MAX_NAME => return wrong("a name in it is too long"),
            _ if name.contains('\0') => return wrong("it holds a zero byte"),
            _ => {}
        }
    }
    Ok(())
}

/// The order in which entries come: a directory right before what it holds.
pub(super) fn compare(left: &str, right: &str) -> Ordering {
    let rank = |byte: u8| if byte == b'/' { 0 } else { u16::from(byte) + 1 };
    let left = left.bytes().map(rank);
    left.cmp(right.bytes().map(rank))
}

/// The path of the directory above, which is empty for the root, and the last name.
pub(super) fn split(path: &str) -> (&str, &str) {
    path.rsplit_once('/').unwrap_or(("", path))
}

/// Tells whether a path lies below a directory.
pub(super) fn is_below(path: &str, directory: &str) -> bool {
    let rest = path.strip_prefix(directory);
    rest.is_some_and(|rest| rest.starts_with('/'))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn checking() {
        for good in ["a", "a/b", "..a/b..", "a b/\n", "고래"] {
            assert!(check(good).is_ok(), "{good}");
        }
        let long = "x".repeat(256);
        let deep = "x/".repeat(40_000) + "x";
        for bad in [
            "", "/", "/a", "a//b", "a/", ".", "./a", "a/..", "../a", "a\0b", &long, &deep,
        ] {
            assert!(check(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn order() {
        for (left, right) in [
            ("a", "b"),
            ("a", "a/b"),
            ("a/b", "a.b"),
            ("a/z", "a-"),
            ("a/b/c", "a/c"),
        ] {
            assert_eq!(compare(left, right), Ordering::Less, "{left} {right}");
            assert_eq!(compare(right, left), Ordering::Greater, "{left} {right}");
        }
        assert_eq!(compare("a/b", "a/b"), Ordering::Equal);
        assert_eq!((split("a/b/c"), split("a")), (("a/b", "c"), ("", "a")));
        assert!(is_below("a/b", "a") && !is_below("ab", "a") && !is_below("a", "a"));
    }
}
