//! Git repositories as sources: URLs with a reference and a folder.

use std::collections::BTreeMap;

use crate::gofmt::{join_path, parse_bool, quote};
use crate::llb::caps;

/// Why a repository's URL is none.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum GitError {
    /// A parameter has no value.
    #[error("query {} has no value", quote(.0))]
    NoValue(String),
    /// A parameter stands there twice.
    #[error("query {} has multiple values", quote(.0))]
    Twice(String),
    /// A parameter is unknown.
    #[error("unexpected query {}", quote(.0))]
    Unknown(String),
    /// A parameter is neither true nor false.
    #[error("invalid {key} value: {}", quote(.value))]
    Boolean {
        /// The parameter.
        key: &'static str,
        /// Its value.
        value: String,
    },
    /// Two parts say different things.
    #[error("{key} conflicts: {} vs {}", quote(.old), quote(.new))]
    Conflict {
        /// The parameter.
        key: &'static str,
        /// What one part says.
        old: String,
        /// What the other says.
        new: String,
    },
    /// A branch and a tag.
    #[error("branch conflicts with tag")]
    BranchAndTag,
}

/// A repository.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct GitRef {
    /// The URL without reference and folder.
    pub remote: String,
    /// The host, with its port.
    pub host: String,
    /// The path at the host.
    pub path: String,
    /// Whether SSH is spoken with it.
    pub ssh: bool,
    /// A branch, a tag or a commit.
    pub reference: String,
    /// A folder in it.
    pub folder: String,
    /// The commit that it must be.
    pub checksum: String,
    /// Whether `.git` stays.
    pub keep_git_dir: Option<bool>,
    /// Whether submodules are fetched.
    pub submodules: Option<bool>,
}

/// Reads a URL: `None` where it names no repository.
///
/// HTTP URLs do only when their path ends in `.git`. `any` takes those, too, that look like a
/// path (`github.com/o/r`), as contexts may.
#[must_use]
pub fn parse(text: &str, any: bool) -> Option<Result<GitRef, GitError>> {
    if text.starts_with("./") || text.starts_with("../") {
        return None;
    }
    if any && text.starts_with("github.com/") {
        return Some(url("https", text, &format!("https://{text}")));
    }
    if let Some((scheme, rest)) = text.split_once("://") {
        let scheme = scheme.to_ascii_lowercase();
        return match scheme.as_str() {
            "ssh" | "git" => Some(url(&scheme, rest, text)),
            "http" | "https" => {
                let path = rest.split(['#', '?']).next().unwrap_or(rest);
                path.ends_with(".git").then(|| url(&scheme, rest, text))
            }
            _ => None,
        };
    }
    scp(text).map(Ok)
}

/// `scheme://[user@]host/path[?query][#ref[:folder]]`, `rest` being what follows the slashes.
fn url(scheme: &str, rest: &str, whole: &str) -> Result<GitRef, GitError> {
    let (rest, fragment) = rest.split_once('#').unwrap_or((rest, ""));
    let (rest, query) = rest.split_once('?').unwrap_or((rest, ""));
    let (authority, path) = rest.split_once('/').unwrap_or((rest, ""));
    let host = authority
        .rsplit_once('@')
        .map_or(authority, |(_, host)| host);
    let mut git = GitRef {
        remote: whole.split(['#', '?']).next().unwrap_or(whole).to_owned(),
        host: host.to_owned(),
        path: format!("/{path}"),
        ssh: scheme == "ssh",
        ..GitRef::default()
    };
    set_fragment(&mut git, fragment);
    set_query(&mut git, query)?;
    Ok(git)
}

/// `user@host:path[#ref[:folder]]`
fn scp(text: &str) -> Option<GitRef> {
    let (rest, fragment) = text.split_once('#').unwrap_or((text, ""));
    let (user, address) = rest.split_once('@')?;
    let (host, path) = address.split_once(':')?;
    let word = |t: &str, more: &[u8]| {
        !t.is_empty()
            && t.bytes()
                .all(|b| b.is_ascii_alphanumeric() || more.contains(&b))
    };
    if !word(user, b"-_") || !word(host, b"-.") {
        return None;
    }
    let mut git = GitRef {
        remote: rest.to_owned(),
        host: host.to_owned(),
        path: path.to_owned(),
        ssh: true,
        ..GitRef::default()
    };
    set_fragment(&mut git, fragment);
    Some(git)
}

fn set_fragment(git: &mut GitRef, fragment: &str) {
    let (reference, folder) = fragment.split_once(':').unwrap_or((fragment, ""));
    reference.clone_into(&mut git.reference);
    folder.clone_into(&mut git.folder);
}

fn set_query(git: &mut GitRef, query: &str) -> Result<(), GitError> {
    let mut seen = Vec::new();
    let (mut tag, mut branch) = (String::new(), String::new());
    for pair in query.split('&').filter(|p| !p.is_empty()) {
        let (key, value) = pair.split_once('=').unwrap_or((pair, ""));
        let value = decode(value);
        if seen.contains(&key) {
            return Err(GitError::Twice(key.to_owned()));
        }
        seen.push(key);
        if value.is_empty() && !matches!(key, "submodules" | "keep-git-dir") {
            return Err(GitError::NoValue(key.to_owned()));
        }
        match key {
            "ref" => agree("ref", &mut git.reference, value)?,
            "tag" => tag = prefixed("refs/tags/", &value),
            "branch" => branch = prefixed("refs/heads/", &value),
            "subdir" => agree("subdir", &mut git.folder, value)?,
            "checksum" | "commit" => git.checksum = value,
            "keep-git-dir" => git.keep_git_dir = Some(switch("keep-git-dir", &value)?),
            "submodules" => git.submodules = Some(switch("submodules", &value)?),
            _ => return Err(GitError::Unknown(key.to_owned())),
        }
    }
    if !tag.is_empty() && !branch.is_empty() {
        return Err(GitError::BranchAndTag);
    }
    for value in [tag, branch] {
        if !value.is_empty() {
            agree("ref", &mut git.reference, value)?;
        }
    }
    Ok(())
}

fn prefixed(prefix: &str, value: &str) -> String {
    if value.starts_with(prefix) {
        value.to_owned()
    } else {
        format!("{prefix}{value}")
    }
}

fn agree(what: &'static str, old: &mut String, new: String) -> Result<(), GitError> {
    if !old.is_empty() && *old != new {
        return Err(GitError::Conflict {
            key: what,
            old: old.clone(),
            new,
        });
    }
    *old = new;
    Ok(())
}

fn switch(what: &'static str, value: &str) -> Result<bool, GitError> {
    if value.is_empty() {
        return Ok(true);
    }
    parse_bool(value).ok_or_else(|| GitError::Boolean {
        key: what,
        value: value.to_owned(),
    })
}

/// Undoes percent-encoding.
pub(super) fn decode(text: &str) -> String {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.as_bytes();
    while let [first, after @ ..] = rest {
        let hex = after.get(..2).and_then(|h| std::str::from_utf8(h).ok());
        match (first, hex.and_then(|h| u8::from_str_radix(h, 16).ok())) {
            (b'%', Some(byte)) => {
                bytes.push(byte);
                rest = &after[2..];
            }
            (b'+', _) => {
                bytes.push(b' ');
                rest = after;
            }
            (byte, _) => {
                bytes.push(*byte);
                rest = after;
            }
        }
    }
    String::from_utf8_lossy(&bytes).into_owned()
}

impl GitRef {
    /// Identifier, attributes and features of the source.
    pub(super) fn source(&self) -> (String, BTreeMap<String, String>, Vec<&'static str>) {
        let mut identifier = format!("git://{}{}", self.host, join_path(&["/", &self.path]));
        let folder = join_path(&["/", &self.folder]);
        let folder = folder.trim_start_matches('/');
        if !self.reference.is_empty() || !folder.is_empty() {
            identifier.push('#');
            identifier.push_str(&self.reference);
            if !folder.is_empty() {
                identifier.push(':');
                identifier.push_str(folder);
            }
        }
        let mut attrs = BTreeMap::new();
        let mut features = vec![caps::SOURCE_GIT, caps::SOURCE_GIT_FULL_URL];
        let mut set = |key: &str, value: &str| attrs.insert(key.to_owned(), value.to_owned());
        set("git.fullurl", &self.remote);
        set("git.authtokensecret", "GIT_AUTH_TOKEN");
        set("git.authheadersecret", "GIT_AUTH_HEADER");
        if self.keep_git_dir == Some(true) {
            set("git.keepgitdir", "true");
            features.push(caps::SOURCE_GIT_KEEP_DIR);
        }
        if self.ssh {
            set("git.mountsshsock", "default");
            features.extend([caps::SOURCE_GIT_KNOWN_HOSTS, caps::SOURCE_GIT_SSH_SOCK]);
        }
        if !self.checksum.is_empty() {
            set("git.checksum", &self.checksum);
            features.push(caps::SOURCE_GIT_CHECKSUM);
        }
        if self.submodules == Some(false) {
            set("git.skipsubmodules", "true");
            features.push(caps::SOURCE_GIT_SKIP_SUBMODULES);
        }
        (identifier, attrs, features)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_urls() {
        for (text, id, url) in [
            (
                "https://github.com/o/r.git#v1:sub",
                "git://github.com/o/r.git#v1:sub",
                "https://github.com/o/r.git",
            ),
            (
                "git://host:99/r#:x/../y",
                "git://host:99/r#:y",
                "git://host:99/r",
            ),
            (
                "ssh://git@host/r.git",
                "git://host/r.git",
                "ssh://git@host/r.git",
            ),
            (
                "git@github.com:o/r.git#main",
                "git://github.com/o/r.git#main",
                "git@github.com:o/r.git",
            ),
            (
                "https://h/r.git?tag=v1&subdir=a",
                "git://h/r.git#refs/tags/v1:a",
                "https://h/r.git",
            ),
        ] {
            let (identifier, attrs, _) = parse(text, false).unwrap().unwrap().source();
            assert_eq!(
                (identifier.as_str(), attrs["git.fullurl"].as_str()),
                (id, url),
                "{text}"
            );
        }
        for text in [
            "https://h/file.tar",
            "./a.git",
            "a/b",
            "github.com/o/r",
            "ftp://h/r.git",
            "a@b",
            "",
        ] {
            assert!(parse(text, false).is_none(), "{text}");
        }
        assert!(parse("github.com/o/r", true).unwrap().is_ok());
        let wrong = |q: &str| {
            parse(&format!("https://h/r.git?{q}"), false)
                .unwrap()
                .unwrap_err()
                .to_string()
        };
        assert_eq!(wrong("foo=1"), "unexpected query \"foo\"");
        assert_eq!(wrong("ref"), "query \"ref\" has no value");
        assert_eq!(
            wrong("ref=a&tag=b"),
            "ref conflicts: \"a\" vs \"refs/tags/b\""
        );
        assert_eq!(wrong("branch=a&tag=b"), "branch conflicts with tag");
    }
}
