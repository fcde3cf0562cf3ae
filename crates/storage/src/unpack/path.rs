//! Names in archives, as paths below the layer's root.

use std::ffi::CString;

use super::Refusal;

/// The longest path that the kernel takes, with its NUL (`PATH_MAX`).
const PATH_MAX: usize = 4096;
/// The longest name of a file system entry (`NAME_MAX`).
const NAME_MAX: usize = 255;

/// A path without empty and `.` components, without a slash at either end; the root is empty.
///
/// `a/../b` is `b`, as Docker cleans names; a `..` that climbs above the root is refused. A
/// leading slash means the layer's root.
pub(crate) fn normalise(name: &[u8]) -> Result<Vec<u8>, Refusal> {
    if name.is_empty() {
        return Err(Refusal::NoName);
    }
    if name.contains(&0) {
        return Err(Refusal::Nul);
    }
    if name.len() >= PATH_MAX {
        return Err(Refusal::TooLong);
    }
    let mut parts: Vec<&[u8]> = Vec::new();
    for part in name.split(|byte| *byte == b'/') {
        match part {
            b"" | b"." => {}
            b".." => drop(parts.pop().ok_or(Refusal::Escapes)?),
            part if part.len() > NAME_MAX => return Err(Refusal::TooLong),
            part => parts.push(part),
        }
    }
    Ok(parts.join(&b'/'))
}

/// Splits a normalised path into its directory and its last name; the root has none.
pub(crate) fn split(path: &[u8]) -> Option<(&[u8], &[u8])> {
    if path.is_empty() {
        return None;
    }
    Some(match path.iter().rposition(|byte| *byte == b'/') {
        Some(slash) => (&path[..slash], &path[slash + 1..]),
        None => (b"", path),
    })
}

/// A name for a system call. A normalised name has no NUL, so nothing is ever cut.
pub(crate) fn c_name(name: &[u8]) -> CString {
    let end = name
        .iter()
        .position(|byte| *byte == 0)
        .unwrap_or(name.len());
    CString::new(&name[..end]).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn cleans_names_and_refuses_escapes() {
        let check = |name: &[u8], path: Result<&[u8], Refusal>| {
            assert_eq!(normalise(name), path.map(<[u8]>::to_vec), "{name:?}");
        };
        check(b"./a//b/./c/", Ok(b"a/b/c"));
        check(b"/etc/passwd", Ok(b"etc/passwd"));
        check(b"a/../b", Ok(b"b"));
        check(b"./", Ok(b""));
        check(b"..", Err(Refusal::Escapes));
        check(b"a/../../b", Err(Refusal::Escapes));
        check(b"/../b", Err(Refusal::Escapes));
        check(b"a\0b", Err(Refusal::Nul));
        check(b"", Err(Refusal::NoName));
        check(&[b'a'; 256], Err(Refusal::TooLong));
        check(&b"ab/".repeat(1400), Err(Refusal::TooLong));
    }
}
