//! Extended attributes as they stand behind an inode.

use std::io;

use rustix::io::Errno;

use super::acl;
use super::format::Type;

/// The prefixes of names, each with the number that stands for it.
const PREFIXES: [(&[u8], u8); 6] = [
    (b"user.", 1),
    (b"system.posix_acl_access", 2),
    (b"system.posix_acl_default", 3),
    (b"trusted.", 4),
    (b"security.", 6),
    (b"lustre.", 5),
];
/// Bytes in front of the attributes.
const HEAD: usize = 12;
/// The most words of four bytes that an inode can say it has.
const WORDS_MAX: usize = u16::MAX as usize - 1;

/// An attribute: its name, and its value.
pub(super) type Attribute = (Vec<u8>, Vec<u8>);

/// Writes attributes down; none take no room.
pub(super) fn encode(attributes: &[Attribute]) -> io::Result<Vec<u8>> {
    if attributes.is_empty() {
        return Ok(Vec::new());
    }
    let mut out = vec![0; HEAD];
    for (name, value) in attributes {
        let prefix = PREFIXES.iter().find(|(prefix, _)| name.starts_with(prefix));
        let (prefix, number) = prefix.ok_or(Errno::OPNOTSUPP)?;
        let rest = &name[prefix.len()..];
        let length = u8::try_from(rest.len()).map_err(|_| Errno::RANGE)?;
        let size = u16::try_from(value.len()).map_err(|_| Errno::TOOBIG)?;
        out.extend_from_slice(&[length, *number]);
        out.extend_from_slice(&size.to_le_bytes());
        out.extend_from_slice(rest);
        out.extend_from_slice(value);
        out.resize(out.len().next_multiple_of(4), 0);
    }
    if (out.len() - HEAD) / 4 > WORDS_MAX {
        return Err(Errno::NOSPC.into());
    }
    Ok(out)
}

/// Puts an attribute to others, in the place of one of the same name.
pub(super) fn set(attributes: &mut Vec<Attribute>, name: &[u8], value: &[u8]) {
    match attributes.iter_mut().find(|(other, _)| other == name) {
        Some((_, old)) => value.clone_into(old),
        None => attributes.push((name.to_vec(), value.to_vec())),
    }
}

/// What a file system would make of an attribute.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Verdict {
    /// It is kept.
    Keep,
    /// It is kept, and these are the file's permission bits.
    KeepAnd(u32),
    /// It says nothing but these permission bits.
    Become(u32),
    /// It has no place on such a file, and is left out as on other file systems.
    Drop,
}

/// Looks at an attribute as the kernel does when it is set: what it would refuse is refused here.
pub(super) fn judge(kind: Type, name: &[u8], value: &[u8]) -> Result<Verdict, Errno> {
    if name.starts_with(b"user.") {
        // xattr(7): on files and directories only
        let has = matches!(kind, Type::File | Type::Directory) && name.len() > 5;
        return Ok(if has { Verdict::Keep } else { Verdict::Drop });
    }
    let default = name == b"system.posix_acl_default";
    if default || name == b"system.posix_acl_access" {
        if kind == Type::Link {
            return Ok(Verdict::Drop);
        }
        return match acl::read(value)? {
            None => Ok(Verdict::Drop),
            Some(_) if default && kind != Type::Directory => Err(Errno::ACCESS),
            Some(_) if default => Ok(Verdict::Keep),
            Some(taken) if taken.more => Ok(Verdict::KeepAnd(taken.mode)),
            Some(taken) => Ok(Verdict::Become(taken.mode)),
        };
    }
    if name == b"security.capability" && !is_capability(value) {
        return Err(Errno::INVAL);
    }
    Ok(Verdict::Keep)
}

/// `struct vfs_cap_data` of revision 2, or `vfs_ns_cap_data` of revision 3 (capabilities(7)).
fn is_capability(value: &[u8]) -> bool {
    match value.get(3) {
        Some(1) => value.len() == 12,
        Some(2) => value.len() == 20,
        Some(3) => value.len() == 24,
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn attributes_are_aligned_words() {
        let attributes = [
            (b"user.a".to_vec(), b"xyz".to_vec()),
            (b"security.capability".to_vec(), vec![7; 20]),
        ];
        let out = encode(&attributes).unwrap();
        let head: [u8; 12] = [0; 12];
        assert_eq!(out[..12], head);
        assert_eq!(&out[12..20], b"\x01\x01\x03\0axyz");
        assert_eq!(&out[20..24], b"\x0a\x06\x14\0");
        assert_eq!(out.len(), 20 + 4 + 10 + 20 + 2);
        assert!(encode(&[]).unwrap().is_empty());
        assert!(encode(&[(b"odd.x".to_vec(), Vec::new())]).is_err());
        assert!(encode(&[(b"user.x".to_vec(), vec![0; 70_000])]).is_err());
        let many: Vec<_> = (0..5)
            .map(|n| (format!("user.{n}").into_bytes(), vec![0; 65_000]))
            .collect();
        assert!(encode(&many).is_err());
    }

    #[test]
    fn attributes_are_judged_as_the_kernel_does() {
        let check = |kind, name: &[u8], value: &[u8], verdict| {
            assert_eq!(judge(kind, name, value), verdict, "{name:?} {value:?}");
        };
        check(Type::File, b"user.x", b"", Ok(Verdict::Keep));
        check(Type::Link, b"user.x", b"", Ok(Verdict::Drop));
        check(Type::File, b"user.", b"", Ok(Verdict::Drop));
        check(Type::File, b"security.capability", b"x", Err(Errno::INVAL));
        let bits = b"\x02\0\0\0\x01\0\x06\0\xff\xff\xff\xff\x04\0\x04\0\xff\xff\xff\xff\x20\0\0\0\xff\xff\xff\xff";
        let (access, default) = (b"system.posix_acl_access", b"system.posix_acl_default");
        check(Type::File, access, bits, Ok(Verdict::Become(0o640)));
        check(Type::Directory, default, bits, Ok(Verdict::Keep));
        check(Type::File, default, bits, Err(Errno::ACCESS));
        check(Type::Link, access, bits, Ok(Verdict::Drop));
        check(Type::File, access, b"u::rwx", Ok(Verdict::Drop));
    }
}
