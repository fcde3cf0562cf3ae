//! Which address a registry has, and which registries may do without TLS.

use std::net::IpAddr;

use http::Uri;
use oci::reference::DEFAULT_DOMAIN;

use crate::error::RegistryError;
use crate::location::{Origin, bare, is_loopback};
use crate::net::Verify;

const DOCKER_HUB_HOST: &str = "registry-1.docker.io";
/// Where the protocol of registries begins, as a rule.
const API: &str = "/v2";

/// The registries that a person declared insecure.
///
/// Loopback is always among them, by its spelling alone: if a name counted because of the address
/// it resolves to, who controls the name server could switch verification off.
#[derive(Debug)]
pub(crate) struct InsecureHosts {
    names: Vec<String>,
    networks: Vec<(IpAddr, u8)>,
}

impl InsecureHosts {
    pub(crate) fn new(entries: &[String]) -> Self {
        let mut hosts = Self {
            names: Vec::new(),
            networks: Vec::new(),
        };
        for entry in entries {
            match parse_network(entry) {
                Some(network) => hosts.networks.push(network),
                None => hosts.names.push(plain_name(entry)),
            }
        }
        hosts
    }

    fn contains(&self, host: &str, port: u16) -> bool {
        if is_loopback(host) {
            return true;
        }
        let with_port = format!("{host}:{port}");
        let listed = |name: &String| name == host || *name == with_port;
        if self.names.iter().any(listed) {
            return true;
        }
        let address = bare(host).parse::<IpAddr>();
        address.is_ok_and(|address| {
            let mut networks = self.networks.iter();
            networks.any(|(network, bits)| in_network(address, *network, *bits))
        })
    }

    /// What is checked of a server's certificate.
    pub(crate) fn verify(&self, origin: &Origin) -> Verify {
        if self.contains(&origin.host, origin.port) {
            Verify::Nothing
        } else {
            Verify::Certificate
        }
    }

    /// The base addresses at which a registry may be, in the order in which they are tried.
    pub(crate) fn bases(&self, domain: &str) -> Result<Vec<Base>, RegistryError> {
        if let Some((scheme, authority)) = domain.split_once("://") {
            return self.mirror(scheme, authority.trim_end_matches('/'));
        }
        let authority = match domain {
            DEFAULT_DOMAIN => DOCKER_HUB_HOST,
            other => other,
        };
        let invalid = || RegistryError::RegistryName {
            name: domain.chars().take(256).collect(),
        };
        let https = Base::new("https", authority).ok_or_else(invalid)?;
        let explicit_port = https.uri.port_u16();
        let insecure =
            self.contains(&https.origin.host, https.origin.port) || self.lists_bare(authority);
        if !insecure {
            return Ok(vec![https]);
        }
        let http = Base::new("http", authority).ok_or_else(invalid)?;
        let loopback = is_loopback(&https.origin.host);
        Ok(match explicit_port {
            Some(port) if loopback && port != 443 => vec![http, https],
            _ => vec![https, http],
        }
        .into_iter()
        .map(|base| Base {
            insecure: true,
            ..base
        })
        .collect())
    }

    /// The address of a mirror, which was given with its protocol.
    fn mirror(&self, scheme: &str, authority: &str) -> Result<Vec<Base>, RegistryError> {
        let known = matches!(scheme, "http" | "https");
        let base = known.then(|| Base::new(scheme, authority)).flatten();
        let base = base.ok_or_else(|| RegistryError::RegistryName {
            name: format!("{scheme}://{authority}")
                .chars()
                .take(256)
                .collect(),
        })?;
        let insecure = scheme == "http" || self.contains(&base.origin.host, base.origin.port);
        Ok(vec![Base { insecure, ..base }])
    }

    fn lists_bare(&self, authority: &str) -> bool {
        self.names.contains(&authority.to_ascii_lowercase())
    }
}

/// One address of a registry.
#[derive(Clone, Debug)]
pub(crate) struct Base {
    pub(crate) uri: Uri,
    pub(crate) origin: Origin,
    /// Whether plain http is acceptable on the way.
    pub(crate) insecure: bool,
    /// Where the registry's protocol begins.
    api: String,
}

impl Base {
    fn new(scheme: &str, authority: &str) -> Option<Self> {
        let uri: Uri = format!("{scheme}://{authority}/").parse().ok()?;
        let origin = Origin::of(&uri)?;
        // An authority that holds a path or a query would move every request elsewhere.
        (uri.path() == "/" && uri.query().is_none()).then_some(Self {
            uri,
            origin,
            insecure: false,
            api: API.to_owned(),
        })
    }

    /// The address that a file gives to a registry or a mirror.
    pub(crate) fn configured(address: &str, api: &str) -> Option<Self> {
        let (scheme, authority) = address.split_once("://")?;
        let base = Self::new(scheme, authority)?;
        Some(Self {
            insecure: !base.origin.https,
            api: api.to_owned(),
            ..base
        })
    }

    /// The same host without TLS.
    pub(crate) fn plain(&self) -> Option<Self> {
        let base = Self::new("http", self.uri.authority()?.as_str())?;
        Some(Self {
            insecure: true,
            ..base
        })
    }

    /// The address of a path of the registry's protocol, which begins with a slash.
    pub(crate) fn api(&self, path: &str) -> Option<Uri> {
        self.at(&format!("{}{path}", self.api))
    }

    /// The address of a path below this one.
    pub(crate) fn at(&self, path: &str) -> Option<Uri> {
        let mut parts = self.uri.clone().into_parts();
        parts.path_and_query = Some(path.parse().ok()?);
        Uri::from_parts(parts).ok()
    }

    /// Whether the domain names its port.
    pub(crate) fn has_port(&self) -> bool {
        self.uri.port().is_some()
    }
}

fn plain_name(entry: &str) -> String {
    let name = entry.split_once("://").map_or(entry, |(_, rest)| rest);
    name.trim_end_matches('/').to_ascii_lowercase()
}

fn parse_network(entry: &str) -> Option<(IpAddr, u8)> {
    let (address, bits) = entry.split_once('/')?;
    let address: IpAddr = address.parse().ok()?;
    let bits: u8 = bits.parse().ok()?;
    let most = if address.is_ipv4() { 32 } else { 128 };
    (bits <= most).then_some((address, bits))
}

fn in_network(address: IpAddr, network: IpAddr, bits: u8) -> bool {
    let same = |a: u128, b: u128, width: u32| {
        let ignored = width - u32::from(bits);
        a.checked_shr(ignored).unwrap_or(0) == b.checked_shr(ignored).unwrap_or(0)
    };
    match (address, network) {
        (IpAddr::V4(a), IpAddr::V4(b)) => same(a.to_bits().into(), b.to_bits().into(), 32),
        (IpAddr::V6(a), IpAddr::V6(b)) => same(a.to_bits(), b.to_bits(), 128),
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(domain: &str, expected: &[&str]) {
        let entries = ["reg.example:5000", "10.0.0.0/8", "https://plain.example/"];
        let hosts = InsecureHosts::new(&entries.map(str::to_owned));
        let bases = hosts.bases(domain).unwrap();
        let found: Vec<String> = bases.iter().map(|base| base.uri.to_string()).collect();
        assert_eq!(found, expected, "{domain}");
    }

    #[test]
    fn chooses_schemes() {
        check("docker.io", &["https://registry-1.docker.io/"]);
        check("quay.io", &["https://quay.io/"]);
        check("quay.io:80", &["https://quay.io:80/"]);
        check(
            "127.0.0.1:5000",
            &["http://127.0.0.1:5000/", "https://127.0.0.1:5000/"],
        );
        check(
            "localhost:443",
            &["https://localhost:443/", "http://localhost:443/"],
        );
        check("localhost", &["https://localhost/", "http://localhost/"]);
        check("[::1]:5000", &["http://[::1]:5000/", "https://[::1]:5000/"]);
        check(
            "reg.example:5000",
            &["https://reg.example:5000/", "http://reg.example:5000/"],
        );
        check("reg.example", &["https://reg.example/"]);
        check("10.1.2.3", &["https://10.1.2.3/", "http://10.1.2.3/"]);
        check("11.1.2.3", &["https://11.1.2.3/"]);
        check(
            "plain.example",
            &["https://plain.example/", "http://plain.example/"],
        );
    }

    #[test]
    fn mirrors_have_their_protocol() {
        check("https://m.example/", &["https://m.example/"]);
        check("http://m.example:5000", &["http://m.example:5000/"]);
        let hosts = InsecureHosts::new(&[]);
        let base = hosts.bases("http://m.example/").unwrap().remove(0);
        assert!(base.insecure && !hosts.bases("https://m.example").unwrap()[0].insecure);
        assert!(hosts.bases("ftp://m.example/").is_err());
    }

    #[test]
    fn refuses_names_that_are_no_authority() {
        let hosts = InsecureHosts::new(&[]);
        for name in ["", "a/b", "u@h", "a b", "a?b"] {
            assert!(hosts.bases(name).is_err(), "{name}");
        }
    }
}
