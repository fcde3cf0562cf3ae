//! Which addresses of a network are taken.

use std::collections::BTreeSet;
use std::net::IpAddr;
use std::sync::{Mutex, MutexGuard, PoisonError};

use crate::subnet::Subnet;

/// The addresses of one network.
#[derive(Debug)]
pub struct Ipam {
    subnet: Subnet,
    gateway: IpAddr,
    state: Mutex<State>,
}

#[derive(Debug)]
struct State {
    taken: BTreeSet<u128>,
    /// Where the search for a free address goes on.
    next: u128,
}

/// An address cannot be had.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum IpamError {
    /// Every address is taken.
    #[error("no available addresses in the pool {subnet}")]
    Exhausted {
        /// The network.
        subnet: Subnet,
    },
    /// The wanted address is taken, or is the network's own.
    #[error("address {address} already in use in the pool {subnet}")]
    InUse {
        /// The wanted address.
        address: IpAddr,
        /// The network.
        subnet: Subnet,
    },
    /// The wanted address is not one of the network's hosts.
    #[error("address {address} does not belong to the pool {subnet}")]
    Outside {
        /// The wanted address.
        address: IpAddr,
        /// The network.
        subnet: Subnet,
    },
}

impl Ipam {
    /// Makes a pool of all host addresses of the network but the gateway's.
    pub fn new(subnet: Subnet, gateway: IpAddr) -> Self {
        let taken = subnet.offset(gateway).into_iter().collect();
        let (low, _) = subnet.host_range();
        Self {
            subnet,
            gateway,
            state: Mutex::new(State { taken, next: low }),
        }
    }

    /// Returns the network.
    pub const fn subnet(&self) -> Subnet {
        self.subnet
    }

    /// Returns the gateway.
    pub const fn gateway(&self) -> IpAddr {
        self.gateway
    }

    /// Takes the next free address; a released one is taken again only after all others.
    pub fn allocate(&self) -> Result<IpAddr, IpamError> {
        let (low, high) = self.subnet.host_range();
        let mut state = self.lock();
        let free = state.first_free(state.next, high);
        let offset = free
            .or_else(|| state.first_free(low, high))
            .ok_or(IpamError::Exhausted {
                subnet: self.subnet,
            })?;
        state.taken.insert(offset);
        state.next = if offset == high { low } else { offset + 1 };
        Ok(self.subnet.at(offset))
    }

    /// Takes this very address.
    pub fn allocate_specific(&self, address: IpAddr) -> Result<(), IpamError> {
        let subnet = self.subnet;
        let (low, high) = subnet.host_range();
        let offset = subnet
            .offset(address)
            .filter(|offset| (low..=high).contains(offset))
            .ok_or(IpamError::Outside { address, subnet })?;
        if self.lock().taken.insert(offset) {
            Ok(())
        } else {
            Err(IpamError::InUse { address, subnet })
        }
    }

    /// Gives an address back; one that is not taken, or the gateway's, changes nothing.
    pub fn release(&self, address: IpAddr) {
        if address == self.gateway {
            return;
        }
        if let Some(offset) = self.subnet.offset(address) {
            self.lock().taken.remove(&offset);
        }
    }

    /// Marks the addresses of containers that live on as taken; returns those that cannot be theirs.
    pub fn restore(&self, addresses: impl IntoIterator<Item = IpAddr>) -> Vec<IpamError> {
        let (low, high) = self.subnet.host_range();
        let mut errors = Vec::new();
        for address in addresses {
            match self.allocate_specific(address) {
                Ok(()) => {
                    let offset = self.subnet.offset(address).unwrap_or(low);
                    let mut state = self.lock();
                    if offset >= state.next {
                        state.next = if offset == high { low } else { offset + 1 };
                    }
                }
                Err(error) => errors.push(error),
            }
        }
        errors
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    /// Finds the first gap in the taken offsets from `start` on, in time linear in the taken ones.
    fn first_free(&self, start: u128, end: u128) -> Option<u128> {
        let mut candidate = start;
        for taken in self.taken.range(start..) {
            if *taken != candidate {
                break;
            }
            candidate += 1;
        }
        (candidate <= end).then_some(candidate)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ip(text: &str) -> IpAddr {
        text.parse().unwrap()
    }

    fn ipam(subnet: &str, gateway: &str) -> Ipam {
        Ipam::new(subnet.parse().unwrap(), ip(gateway))
    }

    #[test]
    fn rotates_and_skips_the_gateway() {
        let ipam = ipam("10.0.0.0/29", "10.0.0.1");
        assert_eq!(ipam.allocate(), Ok(ip("10.0.0.2")));
        ipam.release(ip("10.0.0.2"));
        let rest: Vec<_> = (0..4)
            .map(|_| ipam.allocate().unwrap().to_string())
            .collect();
        assert_eq!(rest, ["10.0.0.3", "10.0.0.4", "10.0.0.5", "10.0.0.6"]);
        assert_eq!(ipam.allocate(), Ok(ip("10.0.0.2")));
        let error = ipam.allocate().unwrap_err();
        assert_eq!(
            error.to_string(),
            "no available addresses in the pool 10.0.0.0/29"
        );
        ipam.release(ip("10.0.0.1"));
        assert!(ipam.allocate().is_err(), "the gateway is never given away");
    }

    #[test]
    fn specific_addresses() {
        let ipam = ipam("10.0.0.0/24", "10.0.0.1");
        assert_eq!(ipam.allocate_specific(ip("10.0.0.2")), Ok(()));
        assert!(matches!(
            ipam.allocate_specific(ip("10.0.0.2")),
            Err(IpamError::InUse { .. })
        ));
        assert!(matches!(
            ipam.allocate_specific(ip("10.0.0.1")),
            Err(IpamError::InUse { .. })
        ));
        for outside in ["10.0.1.1", "10.0.0.0", "10.0.0.255", "::1"] {
            let result = ipam.allocate_specific(ip(outside));
            assert!(
                matches!(result, Err(IpamError::Outside { .. })),
                "{outside}"
            );
        }
        assert_eq!(ipam.allocate(), Ok(ip("10.0.0.3")));
    }

    #[test]
    fn restored_addresses_are_not_given_again() {
        let ipam = ipam("10.0.0.0/24", "10.0.0.1");
        let errors = ipam.restore([ip("10.0.0.5"), ip("10.0.0.3"), ip("192.168.0.1")]);
        assert_eq!(errors.len(), 1);
        assert_eq!(ipam.allocate(), Ok(ip("10.0.0.6")));
    }

    #[test]
    fn version_six_and_tiny_networks() {
        let six = ipam("fd00::/64", "fd00::1");
        assert_eq!(six.allocate(), Ok(ip("fd00::2")));
        let two = ipam("10.0.0.0/31", "10.0.0.0");
        assert_eq!(two.allocate(), Ok(ip("10.0.0.1")));
        assert!(two.allocate().is_err());
    }
}
