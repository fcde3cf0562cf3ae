//! `/etc/hosts` and `/etc/hostname`.

use std::fmt::Write as _;
use std::net::IpAddr;

/// Docker's first lines.
const LOOPBACK: &str = "127.0.0.1\tlocalhost\n";
const LOOPBACK_IPV6: &str = "::1\tlocalhost ip6-localhost ip6-loopback\n\
    fe00::\tip6-localnet\n\
    ff00::\tip6-mcastprefix\n\
    ff02::1\tip6-allnodes\n\
    ff02::2\tip6-allrouters\n";

/// A name that is given an address by hand (`--add-host`).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HostEntry {
    /// The address.
    pub address: IpAddr,
    /// The name.
    pub name: String,
}

/// What goes into a hosts file.
#[derive(Debug, Clone, Default)]
pub struct HostsFile<'a> {
    /// The container's host name.
    pub hostname: &'a str,
    /// The container's domain name, or nothing.
    pub domainname: &'a str,
    /// The container's addresses; an isolated one has none.
    pub addresses: &'a [IpAddr],
    /// Further entries, in this order.
    pub extra: &'a [HostEntry],
    /// The container has the loopback address of IPv6.
    pub ipv6: bool,
}

/// Writes a hosts file as Docker does: loopback, the entries by hand, the container itself.
pub fn hosts(file: &HostsFile<'_>) -> String {
    let mut text = LOOPBACK.to_owned();
    if file.ipv6 {
        text.push_str(LOOPBACK_IPV6);
    }
    for HostEntry { address, name } in file.extra {
        line(&mut text, *address, name);
    }
    let names = match (file.hostname, file.domainname) {
        (host, "") => host.to_owned(),
        (host, domain) => format!("{host}.{domain} {host}"),
    };
    if !file.hostname.is_empty() {
        file.addresses
            .iter()
            .for_each(|address| line(&mut text, *address, &names));
    }
    text
}

/// Writes a hostname file.
pub fn hostname(name: &str) -> String {
    format!("{}\n", one_line(name))
}

fn line(text: &mut String, address: IpAddr, names: &str) {
    // writing to a string cannot fail
    let _infallible = writeln!(text, "{address}\t{}", one_line(names));
}

/// Leaves out what would begin a line of its own or a comment.
fn one_line(name: &str) -> String {
    name.chars()
        .filter(|c| !c.is_control() && *c != '#')
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn as_docker_writes_it() {
        let extra = [HostEntry {
            address: IpAddr::from([10, 0, 0, 1]),
            name: "db".to_owned(),
        }];
        let text = hosts(&HostsFile {
            hostname: "web",
            domainname: "example.org",
            addresses: &[IpAddr::from([172, 17, 0, 2])],
            extra: &extra,
            ipv6: true,
        });
        assert_eq!(
            text,
            "127.0.0.1\tlocalhost\n::1\tlocalhost ip6-localhost ip6-loopback\n\
             fe00::\tip6-localnet\nff00::\tip6-mcastprefix\nff02::1\tip6-allnodes\n\
             ff02::2\tip6-allrouters\n10.0.0.1\tdb\n172.17.0.2\tweb.example.org web\n"
        );
    }

    #[test]
    fn a_name_cannot_add_lines() {
        let text = hosts(&HostsFile {
            hostname: "a\n1.2.3.4 evil # x",
            addresses: &[IpAddr::from([172, 17, 0, 2])],
            ..HostsFile::default()
        });
        assert_eq!(text.lines().count(), 2);
        assert_eq!(hostname("a\nb"), "ab\n");
    }
}
