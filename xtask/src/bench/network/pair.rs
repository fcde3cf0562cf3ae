//! Two containers of one network, as the rows about traffic use them.

use super::lab::Lab;
use super::namespace::{Addresses, addresses, gateways, of_process};
use super::party::Party;
use anyhow::Result;

/// The network's name, and the containers'.
pub(crate) const NETWORK: &str = "bench-pair";
pub(crate) const ASKER: &str = "bench-a";
pub(crate) const SERVER: &str = "bench-b";

/// Where traffic begins and ends.
#[derive(Clone, Debug)]
pub(crate) struct Ends {
    /// The file of the network namespace that is the host.
    pub(crate) host: String,
    /// Those of the two containers.
    pub(crate) a: String,
    pub(crate) b: String,
    /// The second container's addresses.
    pub(crate) container: Addresses,
    /// The host's addresses in the network.
    pub(crate) gateway: Addresses,
    /// Where the outside reaches the second container's published ports.
    pub(crate) published: Addresses,
}

impl Ends {
    /// Makes a network of both families and its two containers; flags are for one of them.
    pub(crate) fn new(party: &Party, asker: &[&str], server: &[&str]) -> Result<Self> {
        party.call(&["network", "create", "--ipv6", NETWORK])?;
        let network = ["--network", NETWORK];
        let a = party.run(ASKER, &[&network, asker].concat())?;
        let b = party.run(SERVER, &[&network, server].concat())?;
        let (a, b) = (of_process(a), of_process(b));
        Ok(Self {
            host: party.network.clone(),
            container: addresses(&b)?,
            gateway: gateways(&b)?,
            published: Lab::near(party.uplink),
            a,
            b,
        })
    }
}
