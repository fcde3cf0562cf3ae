//! Addresses of repositories, and names in them.

use crate::error::{Error, Result};

/// Protocols that lead to a network and to nothing else.
const SCHEMES: [&str; 4] = ["https", "http", "ssh", "git"];
/// The longest address or name.
const MAX: usize = 4096;

/// Where a repository is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Address {
    pub(super) url: String,
    pub(super) host: String,
}

impl Address {
    /// Reads an address: a URL, or `user@host:path` as ssh has it.
    pub(super) fn parse(text: &str) -> Result<Self> {
        let refuse = || {
            let shown: String = text.chars().take(200).collect();
            Error::invalid(format!("invalid address {shown:?} of a repository"))
        };
        let odd = |character: char| character.is_control() || character.is_whitespace();
        if text.len() > MAX || text.starts_with('-') || text.contains(odd) {
            return Err(refuse());
        }
        let host = match text.split_once("://") {
            Some((scheme, rest)) if SCHEMES.contains(&scheme) => {
                let authority = rest.split(['/', '?', '#']).next().unwrap_or_default();
                authority.rsplit('@').next().unwrap_or_default()
            }
            Some(_) => return Err(refuse()),
            None => {
                let (place, path) = text.split_once(':').ok_or_else(refuse)?;
                let (user, host) = place.split_once('@').ok_or_else(refuse)?;
                // `ext::` and its kin name a program
                if path.starts_with(':') || user.starts_with('-') || place.contains('/') {
                    return Err(refuse());
                }
                host
            }
        };
        // ssh takes such a host for an option (CVE-2017-1000117)
        if host.is_empty() || host.starts_with('-') {
            return Err(refuse());
        }
        Ok(Self {
            url: text.to_owned(),
            host: host.to_owned(),
        })
    }

    pub(super) fn is_http(&self) -> bool {
        self.url.starts_with("http://") || self.url.starts_with("https://")
    }

    /// The address without what may be a password in it.
    pub(super) fn shown(&self) -> String {
        let Some((scheme, rest)) = self.url.split_once("://") else {
            return self.url.clone();
        };
        let (authority, path) = match rest.find('/') {
            Some(at) => rest.split_at(at),
            None => (rest, ""),
        };
        match authority.rsplit_once('@') {
            Some((user, host)) if user.contains(':') || self.is_http() => {
                format!("{scheme}://xxxxx@{host}{path}")
            }
            _ => self.url.clone(),
        }
    }
}

/// Checks the name of a branch, a tag or a commit, see git-check-ref-format(1).
pub(super) fn reference(name: &str) -> Result<&str> {
    let odd = |character: char| {
        character.is_control() || character.is_whitespace() || "~^:?*[\\".contains(character)
    };
    let bad = name.starts_with('-')
        || name.contains(odd)
        || name.contains("..")
        || name.contains("@{")
        || name.len() > MAX;
    if bad {
        let shown: String = name.chars().take(200).collect();
        return Err(Error::invalid(format!(
            "invalid ref {shown:?} of a repository"
        )));
    }
    Ok(name)
}

/// Checks a folder of a repository; the repository itself is the empty one.
pub(super) fn folder(path: &str) -> Result<String> {
    let names: Vec<&str> = path
        .split('/')
        .filter(|name| !matches!(*name, "" | "."))
        .collect();
    if names
        .iter()
        .any(|name| *name == ".." || *name == ".git" || name.contains('\0'))
        || path.len() > MAX
    {
        let shown: String = path.chars().take(200).collect();
        return Err(Error::invalid(format!(
            "invalid subdir {shown:?} of a repository"
        )));
    }
    Ok(names.join("/"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses() {
        for (text, host) in [
            ("https://e.com/a.git", "e.com"),
            ("https://u:p@e.com:8443/a.git?x", "e.com:8443"),
            ("ssh://git@e.com/a", "e.com"),
            ("git@e.com:a/b.git", "e.com"),
            ("git://127.0.0.1:9418/a", "127.0.0.1:9418"),
        ] {
            assert_eq!(Address::parse(text).unwrap().host, host, "{text}");
        }
        for bad in [
            "ext::sh -c id",
            "ext::id@x",
            "file:///etc/passwd",
            "/etc",
            "a@b",
            "ssh://-oProxyCommand=id/x",
            "git@-oProxyCommand=id:x",
            "-u@x:y",
            "--upload-pack=id",
            "https://e.com/a\nb",
            "https://",
            "ftp://e.com/a",
            "u@h:::x",
        ] {
            assert!(Address::parse(bad).is_err(), "{bad}");
        }
        let shown = |text| Address::parse(text).unwrap().shown();
        assert_eq!(shown("https://u:p@e.com/a@b"), "https://xxxxx@e.com/a@b");
        assert_eq!(shown("https://token@e.com/a"), "https://xxxxx@e.com/a");
        assert_eq!(shown("ssh://git@e.com/a"), "ssh://git@e.com/a");
        assert_eq!(shown("git@e.com:a"), "git@e.com:a");
    }

    #[test]
    fn names() {
        for good in ["", "main", "v1.0", "feature/a-b", "refs/pull/1/head"] {
            assert!(reference(good).is_ok(), "{good}");
        }
        for bad in ["-x", "a..b", "a b", "a:b", "HEAD^", "a@{1}", "a\0", "a*"] {
            assert!(reference(bad).is_err(), "{bad}");
        }
        for (path, expect) in [("", ""), ("/", ""), ("a/./b/", "a/b"), ("/a", "a")] {
            assert_eq!(folder(path).unwrap(), expect);
        }
        for bad in ["..", "a/../b", ".git", "a/.git/x"] {
            assert!(folder(bad).is_err(), "{bad}");
        }
    }
}
