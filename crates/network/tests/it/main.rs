//! Tests on real links, rules and packets, each in network namespaces of its own.
//!
//! They need root, and `ip` and `nft` as helpers and as second opinion; the crate needs neither.

#[cfg(test)]
mod addresses;
#[cfg(test)]
mod bandwidth;
#[cfg(test)]
mod bridge;
#[cfg(test)]
mod dns;
#[cfg(test)]
mod firewall;
#[cfg(test)]
mod lab;
#[cfg(test)]
mod lastword;
#[cfg(test)]
mod links;
#[cfg(test)]
mod macvlan;
#[cfg(test)]
mod ports;
#[cfg(test)]
mod reach;
#[cfg(test)]
mod relay;
#[cfg(test)]
mod sandbox;
#[cfg(test)]
mod scale;
#[cfg(test)]
mod spoof;
#[cfg(test)]
mod topology;
#[cfg(test)]
mod watch;
#[cfg(test)]
mod world;
