//! Which ports are ours, and whose.

use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::sync::Arc;

use super::{PortMapping, Protocol};

/// Which ports are ours, and whose.
#[derive(Debug, Default)]
pub(super) struct Table {
    taken: BTreeMap<(Protocol, u16, IpAddr), Arc<str>>,
    /// The port that was last chosen by us.
    pub(super) last_chosen: Option<u16>,
}

impl Table {
    /// Marks the port as taken, unless it is on this address or one that includes it or is
    /// included; returns that one, since Docker's message names it, and its owner.
    pub(super) fn take(
        &mut self,
        mapping: &PortMapping,
        owner: &Arc<str>,
    ) -> Result<(), (IpAddr, Arc<str>)> {
        let wanted = mapping.host_ip;
        let (protocol, port) = (mapping.protocol, mapping.host_port);
        let all = if wanted.is_ipv4() {
            IpAddr::from(Ipv4Addr::UNSPECIFIED)..=IpAddr::from(Ipv4Addr::BROADCAST)
        } else {
            IpAddr::from(Ipv6Addr::UNSPECIFIED)..=IpAddr::from(Ipv6Addr::from(u128::MAX))
        };
        let of_family = (protocol, port, *all.start())..=(protocol, port, *all.end());
        let clash = self.taken.range(of_family).find(|((.., held), _)| {
            *held == wanted || held.is_unspecified() || wanted.is_unspecified()
        });
        if let Some(((.., held), owner)) = clash {
            return Err((*held, Arc::clone(owner)));
        }
        self.taken
            .insert((protocol, port, wanted), Arc::clone(owner));
        Ok(())
    }

    pub(super) fn release(&mut self, mapping: &PortMapping) {
        let key = (mapping.protocol, mapping.host_port, mapping.host_ip);
        self.taken.remove(&key);
    }

    /// Returns how many are taken.
    pub(super) fn len(&self) -> usize {
        self.taken.len()
    }
}
