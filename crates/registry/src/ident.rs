//! Random identifiers.

use ring::rand::{SecureRandom as _, SystemRandom};

/// Random bytes of the kernel.
///
/// # Errors
/// When the kernel gives none, which Linux does not do once it has started.
pub(crate) fn random<const N: usize>() -> Result<[u8; N], std::io::Error> {
    let mut bytes = [0; N];
    let filled = SystemRandom::new().fill(&mut bytes);
    filled.map_err(|_| std::io::Error::other("the kernel gives no random bytes"))?;
    Ok(bytes)
}

/// A new UUID, version 4, as text.
pub(crate) fn uuid() -> Result<String, std::io::Error> {
    let mut bytes: [u8; 16] = random()?;
    bytes[6] = (bytes[6] & 0x0f) | 0x40;
    bytes[8] = (bytes[8] & 0x3f) | 0x80;
    let n = u128::from_be_bytes(bytes);
    Ok(format!(
        "{:08x}-{:04x}-{:04x}-{:04x}-{:012x}",
        n >> 96,
        (n >> 80) & 0xffff,
        (n >> 64) & 0xffff,
        (n >> 48) & 0xffff,
        n & 0xffff_ffff_ffff
    ))
}

/// Whether a text is such a UUID, and thereby safe as a file name.
pub(crate) fn is_uuid(text: &str) -> bool {
    text.len() == 36
        && text.bytes().enumerate().all(|(at, byte)| match at {
            8 | 13 | 18 | 23 => byte == b'-',
            _ => byte.is_ascii_digit() || (b'a'..=b'f').contains(&byte),
        })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn uuids() {
        let (one, other) = (uuid().unwrap(), uuid().unwrap());
        assert!(is_uuid(&one) && is_uuid(&other) && one != other);
        for bad in [
            "",
            "../../../../../../etc/passwd-0000000",
            &one.to_uppercase(),
        ] {
            assert!(!is_uuid(bad), "{bad}");
        }
    }
}
