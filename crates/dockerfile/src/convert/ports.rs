//! Ports of `EXPOSE`.

use crate::gofmt::quote;
use crate::lint::{Linter, Rule};
use crate::span::Span;

/// Why a port is none.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum PortError {
    /// There is no number.
    #[error("invalid port: {}: no port specified", quote(.0))]
    Empty(String),
    /// There is no such protocol.
    #[error("invalid port: {}: invalid proto: {}", quote(.0), .1)]
    Protocol(String, String),
    /// An address is none.
    #[error("invalid IP address: {0}")]
    Address(String),
    /// A number is none.
    #[error("invalid containerPort: {0}")]
    Container(String),
    /// The host's number is none.
    #[error("invalid hostPort: {0}")]
    Host(String),
    /// Ranges of different lengths.
    #[error("invalid ranges specified for container and host Ports: {0} and {1}")]
    Ranges(String, String),
}

/// The ports that a specification (`80`, `8000-8002/udp`, `[ip:]host:port`) names.
pub(super) fn parse(text: &str, span: Span, lint: &mut Linter) -> Result<Vec<String>, PortError> {
    let parts: Vec<&str> = text.split(':').collect();
    let (address, host, container) = match parts.as_slice() {
        [port] => (String::new(), "", *port),
        [host, port] => (String::new(), *host, *port),
        [address @ .., host, port] => (address.join(":"), *host, *port),
        [] => (String::new(), "", ""),
    };
    let (ports, protocol) = container.split_once('/').unwrap_or((container, ""));
    if ports.is_empty() {
        return Err(PortError::Empty(text.to_owned()));
    }
    let lower = protocol.to_ascii_lowercase();
    let protocol = match lower.as_str() {
        "" => "tcp",
        known @ ("tcp" | "udp" | "sctp") => known,
        _ => return Err(PortError::Protocol(text.to_owned(), protocol.to_owned())),
    };
    if container.split_once('/').is_some_and(|(_, p)| p != lower) {
        lint.warn(Rule::ExposeProtoCasing, span, &[text]);
    }
    if !address.is_empty() || !host.is_empty() {
        lint.warn(Rule::ExposeInvalidFormat, span, &[text]);
    }
    let bare = address
        .strip_prefix('[')
        .and_then(|a| a.strip_suffix(']'))
        .unwrap_or(&address);
    if !bare.is_empty() && bare.parse::<std::net::IpAddr>().is_err() {
        return Err(PortError::Address(bare.to_owned()));
    }
    let (start, end) = range(ports).ok_or_else(|| PortError::Container(ports.to_owned()))?;
    if !host.is_empty() {
        let (low, high) = range(host).ok_or_else(|| PortError::Host(host.to_owned()))?;
        if end - start != high - low && start != end {
            return Err(PortError::Ranges(ports.to_owned(), host.to_owned()));
        }
    }
    Ok((start..=end)
        .map(|port| format!("{port}/{protocol}"))
        .collect())
}

fn range(text: &str) -> Option<(u16, u16)> {
    let number = |t: &str| t.parse::<u16>().ok().filter(|_| !t.starts_with('+'));
    match text.split_once('-') {
        None => number(text).map(|n| (n, n)),
        Some((start, end)) => {
            let (start, end) = (number(start)?, number(end)?);
            (start <= end).then_some((start, end))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_ports() {
        let mut lint = Linter::new(crate::lint::Config::default());
        let mut read = |t: &str| parse(t, Span::line(1), &mut lint);
        assert_eq!(read("80").unwrap(), ["80/tcp"]);
        assert_eq!(read("8000-8001/UDP").unwrap(), ["8000/udp", "8001/udp"]);
        assert_eq!(read("[::1]:80:90").unwrap(), ["90/tcp"]);
        for (text, message) in [
            ("foo", "invalid containerPort: foo"),
            ("80/foo", "invalid port: \"80/foo\": invalid proto: foo"),
            ("90-80", "invalid containerPort: 90-80"),
            ("99999", "invalid containerPort: 99999"),
            ("x:80", "invalid hostPort: x"),
            ("1.2.3:80:80", "invalid IP address: 1.2.3"),
            ("/tcp", "invalid port: \"/tcp\": no port specified"),
            (
                "1-2:1-3",
                "invalid ranges specified for container and host Ports: 1-3 and 1-2",
            ),
        ] {
            assert_eq!(read(text).unwrap_err().to_string(), message);
        }
        let rules: Vec<_> = lint.warnings().iter().map(|w| w.rule).collect();
        assert!(
            rules.contains(&Rule::ExposeProtoCasing) && rules.contains(&Rule::ExposeInvalidFormat)
        );
    }
}
