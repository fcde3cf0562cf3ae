//! What a request is about, from its path and its query.

use http::Method;

use crate::name::Name;

/// The part of the registry that a path means. Names and references are looked at, not judged.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Route<'a> {
    /// `/v2/`.
    Base,
    /// `/v2/_catalog`.
    Catalog,
    /// `/v2/<name>/tags/list`.
    Tags(&'a str),
    /// `/v2/<name>/manifests/<reference>`.
    Manifest(&'a str, &'a str),
    /// `/v2/<name>/blobs/<digest>`.
    Blob(&'a str, &'a str),
    /// `/v2/<name>/blobs/uploads/`.
    Uploads(&'a str),
    /// `/v2/<name>/blobs/uploads/<id>`.
    Upload(&'a str, &'a str),
    /// `/v2/<name>/referrers/<digest>`.
    Referrers(&'a str, &'a str),
    /// `/token`.
    Token,
    /// A path of the page.
    Page(&'a str),
    /// Anything else.
    Unknown,
}

impl<'a> Route<'a> {
    /// Reads a path. No name of the specification needs escapes, so none are undone.
    pub(crate) fn of(path: &'a str) -> Self {
        if path == "/token" {
            return Self::Token;
        }
        let Some(rest) = path.strip_prefix("/v2") else {
            return Self::Page(path);
        };
        let rest = match rest {
            "" | "/" => return Self::Base,
            "/_catalog" => return Self::Catalog,
            rest => rest.strip_prefix('/'),
        };
        rest.and_then(Self::of_repository).unwrap_or(Self::Unknown)
    }

    fn of_repository(rest: &'a str) -> Option<Self> {
        if let Some(name) = rest.strip_suffix("/tags/list") {
            return Some(Self::Tags(name));
        }
        if let Some(name) = rest
            .strip_suffix("/blobs/uploads/")
            .or_else(|| rest.strip_suffix("/blobs/uploads"))
        {
            return Some(Self::Uploads(name));
        }
        let (front, last) = rest.rsplit_once('/')?;
        let before = |end| front.strip_suffix(end);
        if let Some(name) = before("/blobs/uploads") {
            return Some(Self::Upload(name, last));
        }
        if let Some(name) = before("/manifests") {
            return Some(Self::Manifest(name, last));
        }
        if let Some(name) = before("/blobs") {
            return Some(Self::Blob(name, last));
        }
        before("/referrers").map(|name| Self::Referrers(name, last))
    }

    /// What a token must allow for a request.
    pub(crate) fn scope(&self, method: &Method) -> Option<String> {
        let name = match self {
            Self::Tags(name)
            | Self::Manifest(name, _)
            | Self::Blob(name, _)
            | Self::Uploads(name)
            | Self::Upload(name, _)
            | Self::Referrers(name, _) => Name::parse(name)?,
            Self::Catalog => return Some("registry:catalog:*".to_owned()),
            Self::Base | Self::Token | Self::Page(_) | Self::Unknown => return None,
        };
        let actions = match (self, method) {
            (Self::Uploads(_) | Self::Upload(..), _) | (_, &Method::PUT) => "pull,push",
            (_, &Method::DELETE) => "delete",
            _ => "pull",
        };
        Some(format!("repository:{name}:{actions}"))
    }

    /// The name of the route, for figures and the log.
    pub(crate) fn label(&self) -> &'static str {
        match self {
            Self::Base => "base",
            Self::Catalog => "catalog",
            Self::Tags(_) => "tags",
            Self::Manifest(..) => "manifest",
            Self::Blob(..) => "blob",
            Self::Uploads(_) | Self::Upload(..) => "upload",
            Self::Referrers(..) => "referrers",
            Self::Token => "token",
            Self::Page(_) => "page",
            Self::Unknown => "other",
        }
    }
}

/// The parameters behind the path, undone of their escapes.
#[derive(Debug, Clone, Default)]
pub(crate) struct Query(Vec<(String, String)>);

impl Query {
    pub(crate) fn of(text: &str) -> Self {
        let pairs = text.split('&').filter(|pair| !pair.is_empty());
        let pairs = pairs.map(|pair| {
            let (key, value) = pair.split_once('=').unwrap_or((pair, ""));
            (unescape(key), unescape(value))
        });
        Self(pairs.collect())
    }

    pub(crate) fn all(&self, name: &str) -> impl Iterator<Item = &str> {
        let all = self.0.iter().filter(move |(key, _)| key == name);
        all.map(|(_, value)| value.as_str())
    }

    pub(crate) fn get(&self, name: &str) -> Option<&str> {
        let mut all = self.0.iter();
        all.find(|(key, _)| key == name)
            .map(|(_, value)| value.as_str())
    }
}

/// Undoes `%xx`. A plus stays one: media types have it, and nothing that is asked for has a space.
fn unescape(text: &str) -> String {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.as_bytes();
    while let Some((byte, tail)) = rest.split_first() {
        let hex = tail.get(..2).and_then(|two| std::str::from_utf8(two).ok());
        let code = hex.and_then(|two| u8::from_str_radix(two, 16).ok());
        match (byte, code) {
            (b'%', Some(code)) => {
                bytes.push(code);
                rest = tail.get(2..).unwrap_or_default();
                continue;
            }
            (byte, _) => bytes.push(*byte),
        }
        rest = tail;
    }
    String::from_utf8_lossy(&bytes).into_owned()
}

/// A text with all that is special in a query escaped.
pub(crate) fn escape(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for byte in text.bytes() {
        if byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'.' | b'_' | b'~' | b'/' | b':') {
            out.push(char::from(byte));
        } else {
            out.push_str(&format!("%{byte:02X}"));
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths() {
        let check = |path: &str, expect: Route<'_>| assert_eq!(Route::of(path), expect, "{path}");
        check("/v2/", Route::Base);
        check("/v2", Route::Base);
        check("/v2/_catalog", Route::Catalog);
        check("/v2/a/b/tags/list", Route::Tags("a/b"));
        check("/v2/a/b/manifests/latest", Route::Manifest("a/b", "latest"));
        check("/v2/a/blobs/sha256:x", Route::Blob("a", "sha256:x"));
        check("/v2/a/blobs/uploads/", Route::Uploads("a"));
        check("/v2/a/blobs/uploads", Route::Uploads("a"));
        check("/v2/a/blobs/uploads/id", Route::Upload("a", "id"));
        check("/v2/a/referrers/x", Route::Referrers("a", "x"));
        // a repository may have the name of a part of a path
        check(
            "/v2/blobs/uploads/manifests/x",
            Route::Manifest("blobs/uploads", "x"),
        );
        check("/v2/tags/list/tags/list", Route::Tags("tags/list"));
        check("/v2/a", Route::Unknown);
        check("/v2/a/b", Route::Unknown);
        check("/v2x", Route::Unknown);
        check("/", Route::Page("/"));
        check("/token", Route::Token);
    }

    #[test]
    fn queries() {
        let query = Query::of("n=2&last=a%2Fb&digest=sha256%3Aaa&x&scope=1&scope=2+3&bad=%zz%");
        assert_eq!(query.get("last"), Some("a/b"));
        assert_eq!(query.get("digest"), Some("sha256:aa"));
        assert_eq!(query.get("x"), Some(""));
        assert_eq!(query.get("y"), None);
        assert_eq!(query.get("bad"), Some("%zz%"));
        assert_eq!(query.get("scope"), Some("1"));
        assert_eq!(escape("a b&c/\u{e9}"), "a%20b%26c/%C3%A9");
    }
}
