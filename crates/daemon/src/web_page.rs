//! Keeping web pages off a TCP socket without TLS.
//!
//! Every page that somebody on this host opens can send requests to loopback, and whoever may ask the
//! engine is root. Clients of the API are no browsers: they send no `Origin`, and they name the
//! engine by an address or a name of this host, where a page that had its own name point here
//! (DNS rebinding) names that.

use std::net::{IpAddr, SocketAddr};

use http::header::{HOST, ORIGIN};
use http::{HeaderMap, StatusCode};

use crate::error::ApiError;

/// Refuses what a page of another host may have sent.
pub(crate) fn refuse(headers: &HeaderMap) -> Result<(), ApiError> {
    let text = |name| {
        let value: Option<&http::HeaderValue> = headers.get(name);
        value.map(|value| value.to_str().unwrap_or("?"))
    };
    let why = match (text(ORIGIN), text(HOST)) {
        (Some(origin), host) if origin.split_once("://").map(|(_, own)| own) != host => {
            format!("a page of {origin} may not ask the engine")
        }
        (_, Some(host)) if !is_here(host) => {
            format!("the engine is not asked by the name {host}: use its address, or TLS")
        }
        _ => return Ok(()),
    };
    Err(ApiError::new(StatusCode::FORBIDDEN, why))
}

/// Whether a name is one that only this host, or its own network, can have given.
fn is_here(host: &str) -> bool {
    if host.parse::<SocketAddr>().is_ok() || host.trim_matches(['[', ']']).parse::<IpAddr>().is_ok()
    {
        return true;
    }
    let name = host.rsplit_once(':').map_or(host, |(name, _)| name);
    // nobody can register a name of one word; `api.moby.localhost` is what Docker's client says
    !name.contains('.') || name.ends_with(".localhost")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pages() {
        let check = |host: &str, origin: Option<&str>, passes: bool| {
            let mut headers = HeaderMap::new();
            headers.insert(HOST, host.parse().unwrap());
            if let Some(origin) = origin {
                headers.insert(ORIGIN, origin.parse().unwrap());
            }
            assert_eq!(refuse(&headers).is_ok(), passes, "{host} {origin:?}");
        };
        check("127.0.0.1:2375", None, true);
        check("127.0.0.1", None, true);
        check("[::1]:2375", None, true);
        check("localhost:2375", None, true);
        check("docker", None, true);
        check("api.moby.localhost", None, true);
        check("evil.example:2375", None, false);
        check("evil.example", None, false);
        check("127.0.0.1:2375", Some("https://evil.example"), false);
        check("127.0.0.1:2375", Some("null"), false);
        check("127.0.0.1:2375", Some("http://127.0.0.1:2375"), true);
        check("evil.example", Some("http://evil.example"), false);
        assert!(refuse(&HeaderMap::new()).is_ok());
    }
}
