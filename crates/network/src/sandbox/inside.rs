//! What is done in a namespace itself: its own settings and those of its links.

use std::os::fd::BorrowedFd;

use sys::netns::{self, Family};

use super::{Interface, SandboxError};
use crate::bounds::{MAXIMUM_MTU, is_link_name, minimum_mtu};
use crate::netlink::{Batch, Socket};
use crate::route::{self, Change};
use crate::sysctl::Settings;

/// The loopback link is the first of every namespace.
pub(super) const LOOPBACK_INDEX: u32 = 1;
/// What stands for the link's name in a setting's name.
const PLACEHOLDER: &str = "IFNAME";

/// Sets a new namespace up, from inside.
pub(super) fn furnish() -> Result<Socket, SandboxError> {
    let settings = settings()?;
    for (name, value) in [
        // links made from now on carry no IPv6 (GHSA-x84c-p2g9-rqv9); loopback keeps ::1
        ("ipv6/conf/default/disable_ipv6", "1"),
        // Docker's defaults: a namespace has no ports worth guarding from its own users
        ("ipv4/ip_unprivileged_port_start", "0"),
        ("ipv4/ping_group_range", "0 2147483647"),
    ] {
        settings
            .write_if_present(name, value)
            .map_err(SandboxError::Sysctl)?;
    }
    let mut socket = Socket::open(Family::Route).map_err(SandboxError::Inside)?;
    let mut batch = Batch::default();
    let up = Change {
        up: true,
        ..Change::default()
    };
    route::set_link(&mut batch, LOOPBACK_INDEX, "lo", &up);
    socket.transact(&mut batch).map_err(SandboxError::Inside)?;
    Ok(socket)
}

/// Refuses what no link can be, before anything is made.
pub(super) fn check(interface: &Interface) -> Result<(), SandboxError> {
    let name = interface.name.clone();
    if !is_link_name(&name) {
        return Err(SandboxError::Name { name });
    }
    if let Some(mac) = interface.mac.filter(|mac| !mac.is_unicast()) {
        return Err(SandboxError::Mac { name, mac });
    }
    let (mtu, minimum) = (interface.mtu, minimum_mtu(interface.has_ipv6()));
    if mtu != 0 && !(minimum..=MAXIMUM_MTU).contains(&mtu) {
        return Err(SandboxError::Mtu { name, mtu, minimum });
    }
    for (setting, _) in &interface.sysctls {
        setting_path(interface, setting)?;
    }
    Ok(())
}

/// Makes the settings of a link: whether it carries IPv6, and the interface's own.
pub(super) fn settle(namespace: BorrowedFd<'_>, interface: &Interface) -> Result<(), SandboxError> {
    netns::within(namespace, || {
        settle_ipv6(&interface.name, interface.has_ipv6())?;
        for (setting, value) in &interface.sysctls {
            let path = setting_path(interface, setting)?;
            settings()?
                .write(&path, value)
                .map_err(SandboxError::Sysctl)?;
        }
        Ok(())
    })
    .map_err(SandboxError::Namespace)?
}

/// Lets a link that is to have an IPv6 address carry IPv6, and no other.
pub(super) fn settle_ipv6(name: &str, ipv6: bool) -> Result<(), SandboxError> {
    let setting = |setting: &str| format!("ipv6/conf/{name}/{setting}");
    let settings = settings()?;
    let write = |own: &str, value: &str| {
        settings
            .write(&setting(own), value)
            .map_err(SandboxError::Sysctl)
    };
    if !ipv6 {
        return settings
            .ensure_if_present(&setting("disable_ipv6"), "1")
            .map_err(SandboxError::Sysctl);
    }
    // a neighbour must not become the router (CVE-2020-13401)
    write("accept_ra", "0")?;
    // addresses are chosen once for all, and a second of waiting is a start a hundred times as long
    write("accept_dad", "0")?;
    // the link-local address is given with the others, once the Ethernet address stands
    write("addr_gen_mode", "1")?;
    write("disable_ipv6", "0")
}

fn settings() -> Result<Settings, SandboxError> {
    Settings::open().map_err(SandboxError::Settings)
}

/// Turns `net.ipv4.conf.IFNAME.name` into a path below `/proc/sys/net`.
fn setting_path(interface: &Interface, setting: &str) -> Result<String, SandboxError> {
    let invalid = || SandboxError::Setting {
        name: interface.name.clone(),
        setting: setting.chars().take(128).collect(),
    };
    let rest = setting.strip_prefix("net.").ok_or_else(invalid)?;
    let mut parts = Vec::new();
    for part in rest.split('.') {
        let plain = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'_' || byte == b'-';
        if part.is_empty() || !part.bytes().all(plain) {
            return Err(invalid());
        }
        parts.push(if part == PLACEHOLDER {
            interface.name.as_str()
        } else {
            part
        });
    }
    Ok(parts.join("/"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::mac::MacAddress;

    fn interface() -> Interface {
        Interface {
            name: "eth0.5".to_owned(),
            mac: None,
            addresses: vec![([10, 0, 0, 2].into(), 24)],
            mtu: 1500,
            sysctls: Vec::new(),
        }
    }

    #[test]
    fn settings_stay_below_net() {
        let path = |setting: &str| setting_path(&interface(), setting);
        assert_eq!(
            path("net.ipv4.conf.IFNAME.log_martians").unwrap(),
            "ipv4/conf/eth0.5/log_martians"
        );
        for bad in [
            "",
            "net.",
            "net.a..b",
            "net.ipv4/../../kernel",
            "kernel.shmmax",
            "net.a/b",
        ] {
            assert!(path(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn what_no_link_can_be_is_refused() {
        let mut bad = interface();
        bad.name = "a/b".to_owned();
        assert!(matches!(check(&bad), Err(SandboxError::Name { .. })));
        let mut bad = interface();
        bad.mac = Some(MacAddress::new([1, 0, 0, 0, 0, 1]));
        assert!(matches!(check(&bad), Err(SandboxError::Mac { .. })));
        for mtu in [1, 67, 65_536, u32::MAX] {
            let mut bad = interface();
            bad.mtu = mtu;
            assert!(
                matches!(check(&bad), Err(SandboxError::Mtu { .. })),
                "{mtu}"
            );
        }
        let mut six = interface();
        six.addresses.push(("fd00::2".parse().unwrap(), 64));
        six.mtu = 1279;
        assert!(matches!(
            check(&six),
            Err(SandboxError::Mtu { minimum: 1280, .. })
        ));
        six.mtu = 1280;
        assert!(check(&six).is_ok());
    }
}
