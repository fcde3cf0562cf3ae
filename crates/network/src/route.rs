//! rtnetlink: links, addresses, routes and forwarding entries as messages of a batch.

mod abi;
mod address;
mod default_route;
mod link;
mod namespace;
mod neighbour;
pub(crate) mod qdisc;
mod table;

pub(crate) use address::{Assigned, add_address, addresses, remove_address};
pub(crate) use default_route::{
    RouteFamily, default_routes, remove_default_routes, set_default_route,
};
pub(crate) use link::{
    Change, Link, NewLink, Veth, create, create_ipvlan, create_macvlan, create_veth, create_vlan,
    delete, link_by_index, link_by_name, links, set_link, set_port,
};
pub(crate) use namespace::namespace_number;
pub(crate) use neighbour::forward_to_port;
pub(crate) use table::destinations;

use std::net::IpAddr;

use abi::{AF_INET, AF_INET6};

pub(crate) fn octets(address: IpAddr) -> Vec<u8> {
    match address {
        IpAddr::V4(address) => address.octets().to_vec(),
        IpAddr::V6(address) => address.octets().to_vec(),
    }
}

fn family(address: IpAddr) -> u8 {
    match address {
        IpAddr::V4(_) => AF_INET,
        IpAddr::V6(_) => AF_INET6,
    }
}

/// Reads an address of 4 or 16 bytes.
pub(crate) fn ip_address(bytes: &[u8]) -> Option<IpAddr> {
    if let Ok(octets) = <[u8; 4]>::try_from(bytes) {
        return Some(IpAddr::from(octets));
    }
    <[u8; 16]>::try_from(bytes).ok().map(IpAddr::from)
}
