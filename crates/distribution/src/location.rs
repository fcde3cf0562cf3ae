//! Addresses: origins, redirect targets, and their form in messages.

use http::Uri;
use http::uri::{PathAndQuery, Scheme};

/// Scheme, host and port of an address, the bounds of a credential.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) struct Origin {
    pub(crate) https: bool,
    pub(crate) host: String,
    pub(crate) port: u16,
}

impl Origin {
    /// The origin of an absolute http or https address without user information.
    pub(crate) fn of(uri: &Uri) -> Option<Self> {
        let https = is_https(uri);
        if !https && uri.scheme() != Some(&Scheme::HTTP) {
            return None;
        }
        let authority = uri.authority()?;
        if authority.as_str().contains('@') || uri.host()?.is_empty() {
            return None;
        }
        Some(Self {
            https,
            host: uri.host()?.to_ascii_lowercase(),
            port: uri.port_u16().unwrap_or(if https { 443 } else { 80 }),
        })
    }

    /// The host without the brackets of an IPv6 address.
    pub(crate) fn bare_host(&self) -> &str {
        bare(&self.host)
    }
}

/// A host without the brackets of an IPv6 address.
pub(crate) fn bare(host: &str) -> &str {
    host.strip_prefix('[')
        .and_then(|host| host.strip_suffix(']'))
        .unwrap_or(host)
}

/// Whether a host is the machine itself by its spelling alone; no name is looked up.
pub(crate) fn is_loopback(host: &str) -> bool {
    let host = bare(host);
    host.eq_ignore_ascii_case("localhost")
        || host
            .parse::<std::net::IpAddr>()
            .is_ok_and(|address| address.to_canonical().is_loopback())
}

pub(crate) fn is_https(uri: &Uri) -> bool {
    uri.scheme() == Some(&Scheme::HTTPS)
}

/// The address that `location` means in an answer of `base` (RFC 9110, 10.2.2).
pub(crate) fn join(base: &Uri, location: &str) -> Option<Uri> {
    let location = location.split('#').next()?;
    let absolute = location.contains("://") && !location.starts_with(['/', '?', '.']);
    let joined = if absolute {
        location.parse().ok()?
    } else if location.starts_with("//") {
        format!("{}:{location}", base.scheme_str()?).parse().ok()?
    } else {
        let path = join_path(base, location);
        let mut parts = base.clone().into_parts();
        parts.path_and_query = Some(PathAndQuery::try_from(path).ok()?);
        Uri::from_parts(parts).ok()?
    };
    Origin::of(&joined)?;
    Some(joined)
}

fn join_path(base: &Uri, location: &str) -> String {
    let path = base.path();
    if location.is_empty() || location.starts_with('/') {
        return if location.is_empty() { path } else { location }.to_owned();
    }
    if location.starts_with('?') {
        return format!("{path}{location}");
    }
    let folder = path.rfind('/').map_or("/", |slash| &path[..=slash]);
    format!("{folder}{location}")
}

/// An address for messages and logs: without the query, which may hold a signature.
pub(crate) fn shown(uri: &Uri) -> String {
    let scheme = uri.scheme_str().unwrap_or("http");
    let authority = uri.authority().map_or("", |authority| authority.as_str());
    let text = format!("{scheme}://{authority}{}", uri.path());
    text.chars().take(512).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(location: &str, expected: Option<&str>) {
        let base = Uri::from_static("https://r.example:5000/v2/a/blobs/x?y=1");
        let joined = join(&base, location).map(|uri| uri.to_string());
        assert_eq!(joined.as_deref(), expected, "{location}");
    }

    #[test]
    fn joins_redirect_targets() {
        check("http://b/c?d", Some("http://b/c?d"));
        check("//b/c", Some("https://b/c"));
        check(
            "/c?u=http://x/",
            Some("https://r.example:5000/c?u=http://x/"),
        );
        check("c", Some("https://r.example:5000/v2/a/blobs/c"));
        check("?q", Some("https://r.example:5000/v2/a/blobs/x?q"));
        check("/c#f", Some("https://r.example:5000/c"));
        check("file:///etc/passwd", None);
        check("ftp://a/b", None);
        check("https://user:pw@b/", None);
        check("https://b/ c", None);
    }

    #[test]
    fn knows_loopback_by_spelling() {
        for host in [
            "localhost",
            "127.0.0.1",
            "127.9.9.9",
            "[::1]",
            "[::ffff:127.0.0.1]",
        ] {
            assert!(is_loopback(host), "{host}");
        }
        for host in [
            "localhost.example",
            "10.0.0.1",
            "127.0.0.1.example",
            "[::2]",
        ] {
            assert!(!is_loopback(host), "{host}");
        }
    }

    #[test]
    fn origins_fill_in_the_port() {
        let origin = |text: &str| Origin::of(&text.parse().unwrap());
        assert_eq!(origin("https://A/x"), origin("https://a:443/y"));
        assert_ne!(origin("https://a/"), origin("http://a/"));
        assert_ne!(origin("https://a/"), origin("https://a.evil/"));
    }
}
