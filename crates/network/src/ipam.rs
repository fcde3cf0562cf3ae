//! Which addresses of a network are taken.

use std::collections::BTreeSet;
use std::net::IpAddr;
use std::sync::{Mutex, MutexGuard, PoisonError};

use crate::subnet::Subnet;

/// What the addresses of a network are used for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct IpamConfig {
    /// The network.
    pub subnet: Subnet,
    /// The part of it that addresses are chosen from; wished ones may lie outside.
    pub range: Option<Subnet>,
    /// The gateway, which no container gets.
    pub gateway: Option<IpAddr>,
    /// Further addresses that no container gets.
    pub reserved: Vec<IpAddr>,
}

/// The addresses of one network.
#[derive(Debug)]
pub struct Ipam {
    subnet: Subnet,
    gateway: Option<IpAddr>,
    /// The gateway and the reserved addresses, which are never given back.
    kept: BTreeSet<u128>,
    /// The lowest and highest offset that addresses are chosen from.
    low: u128,
    high: u128,
    state: Mutex<State>,
}

#[derive(Debug)]
struct State {
    taken: BTreeSet<u128>,
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
    /// The range is not a part of the network.
    #[error("range {range} is not within the pool {subnet}")]
    Range {
        /// The range.
        range: Subnet,
        /// The network.
        subnet: Subnet,
    },
}

impl Ipam {
    /// Makes a pool of all host addresses of the network but the gateway and the reserved ones.
    pub fn new(config: IpamConfig) -> Result<Self, IpamError> {
        let IpamConfig {
            subnet,
            range,
            gateway,
            reserved,
        } = config;
        let (low, high) = match range {
            Some(range) => part(subnet, range)?,
            None => subnet.host_range(),
        };
        let mut kept = BTreeSet::new();
        for address in gateway.into_iter().chain(reserved) {
            let offset = host_offset(subnet, address)?;
            if !kept.insert(offset) {
                return Err(IpamError::InUse { address, subnet });
            }
        }
        let taken = kept.clone();
        Ok(Self {
            subnet,
            gateway,
            kept,
            low,
            high,
            state: Mutex::new(State { taken }),
        })
    }

    /// Returns the network.
    pub const fn subnet(&self) -> Subnet {
        self.subnet
    }

    /// Returns the gateway.
    pub const fn gateway(&self) -> Option<IpAddr> {
        self.gateway
    }

    /// Counts the addresses that [`Ipam::allocate`] can still give.
    pub fn available(&self) -> u128 {
        let (low, high) = (self.low, self.high);
        if low > high {
            return 0;
        }
        let taken = self.lock().taken.range(low..=high).count();
        let taken = u128::try_from(taken).unwrap_or(u128::MAX);
        // one less than there are, so that all of IPv6 still can be counted
        (high - low).saturating_add(1).saturating_sub(taken)
    }

    /// Takes the lowest free address of the range, as Docker does: a container that is started again
    /// mostly gets the address that it had.
    pub fn allocate(&self) -> Result<IpAddr, IpamError> {
        let mut state = self.lock();
        let free = state.first_free(self.low, self.high);
        let offset = free.ok_or(IpamError::Exhausted {
            subnet: self.subnet,
        })?;
        state.taken.insert(offset);
        Ok(self.subnet.at(offset))
    }

    /// Takes this very address.
    pub fn allocate_specific(&self, address: IpAddr) -> Result<(), IpamError> {
        let offset = host_offset(self.subnet, address)?;
        if self.lock().taken.insert(offset) {
            return Ok(());
        }
        Err(IpamError::InUse {
            address,
            subnet: self.subnet,
        })
    }

    /// Gives an address back; one that is not taken, the gateway or a reserved one, changes nothing.
    pub fn release(&self, address: IpAddr) {
        if let Some(offset) = self.subnet.offset(address)
            && !self.kept.contains(&offset)
        {
            self.lock().taken.remove(&offset);
        }
    }

    /// Marks the addresses of containers that live on as taken; returns those that cannot be theirs.
    pub fn restore(&self, addresses: impl IntoIterator<Item = IpAddr>) -> Vec<IpamError> {
        let mut errors = Vec::new();
        for address in addresses {
            if let Err(error) = self.allocate_specific(address) {
                errors.push(error);
            }
        }
        errors
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Finds the hosts of a network that are in a range of it, as offsets; low is above high for none.
fn part(subnet: Subnet, range: Subnet) -> Result<(u128, u128), IpamError> {
    let (lowest, highest) = subnet.host_range();
    let start = subnet
        .offset(range.address())
        .filter(|_| range.prefix() >= subnet.prefix())
        .ok_or(IpamError::Range { range, subnet })?;
    let size = range.size_less_one();
    Ok((start.max(lowest), (start + size).min(highest)))
}

/// Finds the offset of an address that a host may have.
fn host_offset(subnet: Subnet, address: IpAddr) -> Result<u128, IpamError> {
    let (low, high) = subnet.host_range();
    subnet
        .offset(address)
        .filter(|offset| (low..=high).contains(offset))
        .ok_or(IpamError::Outside { address, subnet })
}

impl State {
    /// Finds the first gap in the taken offsets from `start` on, in time linear in the taken ones.
    fn first_free(&self, start: u128, end: u128) -> Option<u128> {
        if start > end {
            return None;
        }
        let mut candidate = start;
        for taken in self.taken.range(start..=end) {
            if *taken != candidate {
                return Some(candidate);
            }
            candidate = candidate.checked_add(1)?;
        }
        (candidate <= end).then_some(candidate)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn ip(text: &str) -> IpAddr {
        text.parse().unwrap()
    }

    fn config(subnet: &str) -> IpamConfig {
        IpamConfig {
            subnet: subnet.parse().unwrap(),
            range: None,
            gateway: None,
            reserved: Vec::new(),
        }
    }

    fn ipam(subnet: &str, gateway: &str) -> Ipam {
        Ipam::new(IpamConfig {
            gateway: Some(ip(gateway)),
            ..config(subnet)
        })
        .unwrap()
    }

    #[test]
    fn gives_the_lowest_and_skips_the_gateway() {
        let ipam = ipam("10.0.0.0/29", "10.0.0.1");
        assert_eq!(ipam.allocate(), Ok(ip("10.0.0.2")));
        ipam.release(ip("10.0.0.2"));
        let all: Vec<_> = (0..5)
            .map(|_| ipam.allocate().unwrap().to_string())
            .collect();
        let wanted = ["10.0.0.2", "10.0.0.3", "10.0.0.4", "10.0.0.5", "10.0.0.6"];
        assert_eq!(all, wanted);
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
        let next = [ipam.allocate(), ipam.allocate(), ipam.allocate()];
        let wanted = ["10.0.0.2", "10.0.0.4", "10.0.0.6"];
        assert_eq!(next, wanted.map(|text| Ok(ip(text))));
    }

    #[test]
    fn version_six_and_tiny_networks() {
        let six = ipam("fd00::/64", "fd00::1");
        assert_eq!(six.allocate(), Ok(ip("fd00::2")));
        let two = ipam("10.0.0.0/31", "10.0.0.0");
        assert_eq!(two.allocate(), Ok(ip("10.0.0.1")));
        assert!(two.allocate().is_err());
    }

    #[test]
    fn addresses_come_from_the_range_and_never_are_reserved_ones() {
        let ipam = Ipam::new(IpamConfig {
            range: Some("10.0.0.128/30".parse().unwrap()),
            gateway: Some(ip("10.0.0.128")),
            reserved: vec![ip("10.0.0.130"), ip("10.0.0.9")],
            ..config("10.0.0.0/24")
        })
        .unwrap();
        assert_eq!(ipam.available(), 2);
        assert_eq!(ipam.allocate(), Ok(ip("10.0.0.129")));
        assert_eq!(
            ipam.allocate_specific(ip("10.0.0.7")),
            Ok(()),
            "outside of the range"
        );
        assert_eq!(ipam.allocate(), Ok(ip("10.0.0.131")));
        assert_eq!(ipam.available(), 0);
        assert!(ipam.allocate().is_err());
        ipam.release(ip("10.0.0.9"));
        ipam.release(ip("10.0.0.130"));
        assert!(ipam.allocate_specific(ip("10.0.0.9")).is_err());
        assert!(ipam.allocate().is_err());
        assert!(ipam.restore([ip("10.0.0.200")]).is_empty());
        ipam.release(ip("10.0.0.131"));
        assert_eq!(ipam.allocate(), Ok(ip("10.0.0.131")));
    }

    #[test]
    fn configurations_that_make_no_sense() {
        let outside = |gateway: &str| IpamConfig {
            gateway: Some(ip(gateway)),
            ..config("10.0.0.0/24")
        };
        for gateway in ["10.0.1.1", "10.0.0.0", "10.0.0.255", "fd00::1"] {
            let error = Ipam::new(outside(gateway)).unwrap_err();
            assert!(matches!(error, IpamError::Outside { .. }), "{gateway}");
        }
        let twice = IpamConfig {
            reserved: vec![ip("10.0.0.1")],
            ..outside("10.0.0.1")
        };
        assert!(matches!(Ipam::new(twice), Err(IpamError::InUse { .. })));
        for range in ["10.0.1.0/28", "10.0.0.0/16", "fd00::/64"] {
            let config = IpamConfig {
                range: Some(range.parse().unwrap()),
                ..config("10.0.0.0/24")
            };
            assert!(
                matches!(Ipam::new(config), Err(IpamError::Range { .. })),
                "{range}"
            );
        }
    }

    #[test]
    fn a_range_of_nothing_but_the_networks_own_addresses_is_empty() {
        for range in ["10.0.0.0/32", "10.0.0.255/32"] {
            let ipam = Ipam::new(IpamConfig {
                range: Some(range.parse().unwrap()),
                ..config("10.0.0.0/24")
            })
            .unwrap();
            assert_eq!(ipam.available(), 0);
            assert!(ipam.allocate().is_err());
        }
    }

    /// A network at either end of its family's addresses, and a range of it.
    fn at_the_ends() -> impl Strategy<Value = IpamConfig> {
        let base = prop_oneof![
            (Just(IpAddr::from([255; 4])), 0_u8..=32),
            (Just(IpAddr::from([0; 4])), 0_u8..=32),
            (Just(IpAddr::from([0xff; 16])), 0_u8..=128),
            (Just(IpAddr::from([0; 16])), 0_u8..=128),
            (
                any::<u32>().prop_map(|n| std::net::Ipv4Addr::from(n).into()),
                20_u8..=32
            ),
        ];
        (base, proptest::option::of((any::<u128>(), any::<u8>()))).prop_map(
            |((address, prefix), range)| {
                let subnet = Subnet::containing(address, prefix).unwrap();
                let width = if address.is_ipv4() { 32 } else { 128 };
                let range = range.and_then(|(at, longer)| {
                    let longer = prefix + longer % (width - prefix + 1);
                    Subnet::containing(subnet.at(at), longer)
                });
                IpamConfig {
                    subnet,
                    range,
                    gateway: None,
                    reserved: Vec::new(),
                }
            },
        )
    }

    proptest! {
        #[test]
        fn every_address_is_given_once(config in at_the_ends(), near_the_end in any::<bool>()) {
            let ipam = Ipam::new(config.clone()).unwrap();
            let range = config.range.unwrap_or(config.subnet);
            let (_, high) = config.subnet.host_range();
            if near_the_end {
                drop(ipam.restore([config.subnet.at(high)]));
            }
            let before = ipam.available();
            let mut given = BTreeSet::new();
            for _ in 0..300_u16 {
                let Ok(address) = ipam.allocate() else { break };
                prop_assert!(range.contains(address), "{} not in {}", address, range);
                prop_assert!(config.subnet.broadcast() != Some(address));
                prop_assert!(given.insert(address), "{} twice", address);
            }
            let expected = before.min(300);
            prop_assert_eq!(u128::try_from(given.len()).unwrap(), expected);
            if before < u128::MAX {
                prop_assert_eq!(ipam.available(), before - expected);
            }
            for address in &given {
                prop_assert!(ipam.allocate_specific(*address).is_err());
                ipam.release(*address);
            }
            prop_assert_eq!(ipam.available(), before);
        }
    }
}
