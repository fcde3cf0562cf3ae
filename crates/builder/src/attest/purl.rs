//! Package URLs: the names of software in statements (package-url specification).

use std::fmt::Write as _;

use oci::reference::DEFAULT_DOMAIN;
use oci::{Platform, Reference};

/// The name of an image.
pub(super) fn of_image(name: &Reference, platform: Option<&Platform>) -> String {
    let name = name.clone().or_latest();
    let path = match name.path().strip_prefix("library/") {
        Some(official) if name.domain() == DEFAULT_DOMAIN => official.to_owned(),
        _ if name.domain() == DEFAULT_DOMAIN => name.path().to_owned(),
        _ => format!("{}/{}", name.domain(), name.path()),
    };
    let version = name.tag().map(str::to_owned);
    let digest = name.digest().map(ToString::to_string);
    let mut all = format!("pkg:docker/{path}");
    if let Some(version) = version.as_ref().or(digest.as_ref()) {
        all.push('@');
        all.push_str(&escaped(version));
    }
    let platform = platform.map(|platform| ("platform", platform.to_string()));
    let digest = digest.filter(|_| version.is_some());
    let digest = digest.map(|digest| ("digest", digest));
    with_qualifiers(all, digest.into_iter().chain(platform))
}

/// The name of a package of some kind, with its version.
pub(super) fn of_package(
    kind: &str,
    name: &str,
    version: &str,
    qualifiers: &[(&str, &str)],
) -> String {
    let name: Vec<String> = name.split('/').map(escaped).collect();
    let mut all = format!("pkg:{kind}/{}", name.join("/"));
    if !version.is_empty() {
        all.push('@');
        all.push_str(&escaped(version));
    }
    let given = qualifiers.iter().filter(|(_, value)| !value.is_empty());
    with_qualifiers(all, given.map(|(key, value)| (*key, (*value).to_owned())))
}

fn with_qualifiers<'a>(
    mut all: String,
    qualifiers: impl Iterator<Item = (&'a str, String)>,
) -> String {
    for (number, (key, value)) in qualifiers.enumerate() {
        all.push(if number == 0 { '?' } else { '&' });
        all.push_str(key);
        all.push('=');
        all.push_str(&escaped(&value));
    }
    all
}

/// Escapes all but what a URL may have anywhere; a colon stays, as everybody writes it.
fn escaped(text: &str) -> String {
    let mut all = String::with_capacity(text.len());
    for byte in text.bytes() {
        if byte.is_ascii_alphanumeric() || b"-._~:".contains(&byte) {
            all.push(char::from(byte));
        } else {
            // writing to a string does not fail
            let _written = write!(all, "%{byte:02X}");
        }
    }
    all
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn packages() {
        for (kind, name, version, qualifiers, expect) in [
            (
                "deb/debian",
                "libstdc++6",
                "1:12.2-14",
                &[("arch", "amd64"), ("distro", "")][..],
                "pkg:deb/debian/libstdc%2B%2B6@1:12.2-14?arch=amd64",
            ),
            (
                "npm",
                "@types/node",
                "20.1.0",
                &[],
                "pkg:npm/%40types/node@20.1.0",
            ),
            (
                "golang",
                "github.com/a/b",
                "v1.2.3",
                &[],
                "pkg:golang/github.com/a/b@v1.2.3",
            ),
            ("pypi", "six", "", &[], "pkg:pypi/six"),
        ] {
            assert_eq!(of_package(kind, name, version, qualifiers), expect);
        }
    }

    #[test]
    fn images_with_digests() {
        let digest = format!("sha256:{}", "a".repeat(64));
        let name: Reference = format!("u/i@{digest}").parse().unwrap();
        assert_eq!(of_image(&name, None), format!("pkg:docker/u/i@{digest}"));
    }
}
