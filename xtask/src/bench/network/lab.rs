//! Everything the rows about networks measure with.

use super::namespace::{Addresses, Namespace, ip};
use super::party::{GORAE, Party};
use super::plain::Plain;
use super::podman::Podman;
use super::wire::{self, Wire};
use crate::bench::Bench;
use crate::bench::peers::Peers;
use crate::bench::subject::word;
use anyhow::{Context, Result};
use std::net::{Ipv4Addr, Ipv6Addr};
use std::process::Command;

/// The engines, the hand-made network, and the outside that reaches all of them.
#[derive(Debug)]
pub(crate) struct Lab<'a> {
    pub(crate) bench: &'a Bench,
    parties: Vec<Party>,
    pub(crate) wire: Wire,
    pub(crate) outside: Namespace,
    _peers: Option<(Plain, Podman)>,
}

impl<'a> Lab<'a> {
    pub(crate) fn new(bench: &'a Bench) -> Result<Self> {
        let outside = Namespace::new("gorae-bench-outside")?;
        let mut parties = vec![Party::gorae(&bench.gorae)];
        let mut own = None;
        if let Some(peers) = &bench.peers {
            let (plain, podman) = own.insert((Plain::start(peers)?, Podman::start(peers)?));
            for party in [plain.party(), podman.party()] {
                party.load(&Peers::seen(&bench.tarball))?;
                parties.push(party);
            }
            parties.insert(1, Party::docker(peers));
        }
        let wire = Wire::new()?;
        let lab = Self {
            bench,
            parties,
            wire,
            outside,
            _peers: own,
        };
        lab.join_outside()?;
        lab.sweep();
        Ok(lab)
    }

    /// Gives every host a link to the outside.
    fn join_outside(&self) -> Result<()> {
        let mut joined = Vec::new();
        let engines = self
            .parties
            .iter()
            .map(|party| (party.uplink, party.network.clone()));
        for (number, host) in engines.chain([(wire::UPLINK, self.wire.host.file())]) {
            if !joined.contains(&number) {
                self.uplink(number, &host)?;
                joined.push(number);
            }
        }
        let near = Self::near(wire::UPLINK);
        for (subnet, gateway) in wire::SUBNETS.iter().zip([near.v4, near.v6]) {
            let gateway = gateway.context("a link has both families")?.to_string();
            self.outside
                .ip(&["route", "add", subnet, "via", &gateway])?;
        }
        Ok(())
    }

    fn uplink(&self, number: u8, host: &str) -> Result<()> {
        let (far, near) = (format!("far{number}"), format!("bench{number}"));
        ip(&[
            "link",
            "add",
            &far,
            "netns",
            &self.outside.file(),
            "type",
            "veth",
            "peer",
            "name",
            &near,
            "netns",
            host,
        ])?;
        for address in with_prefix(Self::far(number)) {
            self.outside
                .ip(&["address", "add", &address, "dev", &far, "nodad"])?;
        }
        self.outside.ip(&["link", "set", &far, "up"])?;
        let inside = |words: &[&str]| {
            crate::bench::subject::output(super::namespace::inside(host, "ip").args(words))
        };
        for address in with_prefix(Self::near(number)) {
            inside(&["address", "add", &address, "dev", &near, "nodad"])?;
        }
        inside(&["link", "set", &near, "up"])?;
        Ok(())
    }

    /// A host's addresses on its link to the outside.
    pub(crate) fn near(number: u8) -> Addresses {
        uplink_addresses(number, 1)
    }

    /// The outside's addresses on the link to a host.
    pub(crate) fn far(number: u8) -> Addresses {
        uplink_addresses(number, 2)
    }

    /// The engines of these names, of those that are here.
    pub(crate) fn parties(&self, names: &[&str]) -> Vec<&Party> {
        let wanted = |party: &&Party| names.contains(&party.name);
        self.parties.iter().filter(wanted).collect()
    }

    /// The engine under test.
    pub(crate) fn gorae(&self) -> Result<&Party> {
        self.parties
            .iter()
            .find(|party| party.name == GORAE)
            .context("the engine under test is always there")
    }

    /// A program that the peers' root has, in a network; this machine's where they are missing.
    pub(crate) fn tool(&self, network: &str, program: &str) -> Command {
        match &self.bench.peers {
            Some(peers) => peers.in_network(network, program),
            None => super::namespace::inside(network, program),
        }
    }

    /// Removes what rows left.
    pub(crate) fn sweep(&self) {
        for party in &self.parties {
            if let Err(error) = party.sweep() {
                println!("xtask: cannot clean {}: {error:#}", party.name);
            }
        }
    }

    /// The small image's file.
    pub(crate) fn tarball(&self) -> String {
        word(&self.bench.tarball)
    }
}

fn uplink_addresses(number: u8, end: u8) -> Addresses {
    let v4 = Ipv4Addr::new(10, 213, number, end);
    let v6 = Ipv6Addr::new(0xfd00, 0x213, u16::from(number), 0, 0, 0, 0, u16::from(end));
    Addresses {
        v4: Some(v4.into()),
        v6: Some(v6.into()),
    }
}

fn with_prefix(addresses: Addresses) -> Vec<String> {
    let v4 = addresses.v4.map(|address| format!("{address}/24"));
    let v6 = addresses.v6.map(|address| format!("{address}/64"));
    v4.into_iter().chain(v6).collect()
}
