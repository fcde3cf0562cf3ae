//! The host's groups.
//!
//! Read from the file: a static program must not ask glibc, which would load the host's NSS modules.

use std::fs::File;
use std::io::Read;

/// The longest file that is read.
const MAX_FILE: u64 = 16 << 20;

/// Finds the id of the first of `names` that the host has.
pub(crate) fn first_of(names: &[&str]) -> Option<u32> {
    let mut text = Vec::new();
    let file = File::open("/etc/group").ok()?;
    file.take(MAX_FILE).read_to_end(&mut text).ok()?;
    let text = String::from_utf8_lossy(&text);
    names.iter().find_map(|name| id(&text, name))
}

/// Finds a group's id in the text of group(5).
fn id(text: &str, name: &str) -> Option<u32> {
    text.lines().find_map(|line| {
        let mut fields = line.split(':');
        (fields.next()? == name).then_some(())?;
        fields.nth(1)?.parse().ok()
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn finds_groups() {
        let text = "root:x:0:\n# x\nbroken\ndocker:x:998:a,b\ngorae:x:bad:\n\ngorae:x:42";
        assert_eq!(id(text, "docker"), Some(998));
        assert_eq!(id(text, "gorae"), Some(42));
        assert_eq!(id(text, "dock"), None);
        assert_eq!(id(text, "broken"), None);
        assert_eq!(first_of(&["no-such-group-here", "root"]), Some(0));
    }
}
