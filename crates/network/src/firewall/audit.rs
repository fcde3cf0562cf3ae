//! Who can reach a published port, and by which rule.
//!
//! Read from what should be in the tables, not from packets: other owners' chains are named where
//! they can say no, but what they would say is not known.

use std::net::{IpAddr, Ipv6Addr};

use super::elements::{of_bridge, of_mapping, version_of};
use super::memory::Memory;
use super::obstacle::Obstacle;
use super::ruleset::Which;
use super::{PublishPolicy, Rules};
use crate::ports::PortMapping;

/// Somebody who may or may not reach a published port.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Origin {
    /// Who it is.
    pub who: String,
    /// Whether the port answers, as far as our own rules and default policies of others decide.
    pub reachable: bool,
    /// The rule that says so.
    pub rule: String,
}

/// What an audit looks at.
pub(super) struct Audit<'a> {
    pub(super) table: &'a str,
    pub(super) policy: PublishPolicy,
    pub(super) memory: &'a Memory,
    pub(super) obstacles: &'a [Obstacle],
    /// Names the network of a bridge.
    pub(super) network: &'a dyn Fn(&str) -> String,
}

impl Audit<'_> {
    pub(super) fn of(&self, port: &PortMapping) -> Vec<Origin> {
        let mut list = vec![self.host(port), self.loopback(port), self.others(port)];
        let home = self.home(port.container.ip());
        for bridge in self.memory.bridges() {
            list.push(self.containers(port, &bridge, home.as_deref()));
        }
        list.extend(home.map(|home| self.by_own_address(port, &home)));
        list
    }

    fn host(&self, port: &PortMapping) -> Origin {
        let who = "this host";
        if port.host_ip.is_loopback() {
            return no(who, format!("published on {} only", port.host_ip));
        }
        self.locally(who, port)
    }

    fn loopback(&self, port: &PortMapping) -> Origin {
        let who = "this host by its loopback address";
        if port.host_ip == Ipv6Addr::UNSPECIFIED {
            yes(who, relay(port))
        } else if port.host_ip.is_loopback() || port.host_ip.is_unspecified() {
            self.locally(who, port)
        } else {
            no(who, format!("published on {} only", port.host_ip))
        }
    }

    /// A process of this host meets no rule of others but those for outgoing traffic.
    fn locally(&self, who: &str, port: &PortMapping) -> Origin {
        match of_mapping(port) {
            Some((which, _)) => yes(who, self.rule("output", redirection(which))),
            None => yes(who, relay(port)),
        }
    }

    fn others(&self, port: &PortMapping) -> Origin {
        self.coming_to("other hosts", port)
    }

    fn containers(&self, port: &PortMapping, bridge: &str, home: Option<&str>) -> Origin {
        let who = format!("containers of {}", (self.network)(bridge));
        let version = version_of(port.host_ip);
        if of_mapping(port).is_some()
            && self
                .memory
                .holds(Which::Sealed, &of_bridge(version, bridge))
        {
            return no(
                who,
                self.rule("forward", "nothing leaves an internal network"),
            );
        }
        let mut origin = self.coming_to(&who, port);
        if home == Some(bridge) && origin.reachable && of_mapping(port).is_some() {
            let hairpin = self.rule("postrouting", "a network to its own published ports");
            origin.rule = format!("{}; {hairpin}", origin.rule);
        }
        origin
    }

    fn coming_to(&self, who: &str, port: &PortMapping) -> Origin {
        if port.host_ip.is_loopback() {
            return no(who, self.rule("guard", "loopback is for this host"));
        }
        let Some((which, element)) = of_mapping(port) else {
            return self.unless(who, relay(port), &["input"]);
        };
        if self.memory.get(which, &element.key) != Some(&element) {
            return no(who, format!("{port} is not in table inet {}", self.table));
        }
        if let Some(home) = self.home(port.container.ip())
            && self
                .memory
                .holds(Which::Sealed, &of_bridge(version_of(port.host_ip), &home))
        {
            return no(
                who,
                self.rule("forward", "nothing enters an internal network"),
            );
        }
        let rule = self.rule("prerouting", redirection(which));
        match self.policy {
            PublishPolicy::Docker => self.unless(who, rule, &["forward"]),
            PublishPolicy::HostFirewall => self.unless(who, rule, &["input", "forward"]),
        }
    }

    /// Says yes unless a default policy of others says no.
    fn unless(&self, who: &str, rule: String, hooks: &[&str]) -> Origin {
        let mut met = self
            .obstacles
            .iter()
            .filter(|obstacle| hooks.contains(&obstacle.hook.as_str()));
        if let Some(drop) = met.clone().find(|obstacle| obstacle.policy == "drop") {
            return no(who, format!("{drop}, unless a rule of it accepts; {rule}"));
        }
        match met.next() {
            Some(obstacle) => yes(who, format!("{rule}, unless a rule of {obstacle} drops")),
            None => yes(who, rule),
        }
    }

    /// Another host may know the way to the container's network.
    fn by_own_address(&self, port: &PortMapping, home: &str) -> Origin {
        let who = format!("other hosts by the address {}", port.container.ip());
        let key = of_bridge(version_of(port.container.ip()), home);
        let open = Rules {
            open: vec![super::OpenPort {
                bridge: home.to_owned(),
                protocol: port.protocol,
                container: port.container,
            }],
            ..Rules::default()
        };
        let is_open = super::elements::of(&open)
            .iter()
            .all(|(which, element)| self.memory.holds(*which, &element.key));
        if self.memory.holds(Which::Sealed, &key) {
            no(
                who,
                self.rule("forward", "nothing enters an internal network"),
            )
        } else if is_open {
            let rule = self.rule("forward", "open ports of routed networks");
            self.unless(&who, rule, &["forward"])
        } else if self.memory.holds(Which::Unprotected, &key) {
            let rule = self.rule("forward", "unprotected networks");
            self.unless(&who, rule, &["forward"])
        } else {
            no(who, self.rule("forward", "nothing else into a network"))
        }
    }

    /// Finds the bridge behind which an address is.
    fn home(&self, address: IpAddr) -> Option<String> {
        self.memory.network_of(address)
    }

    fn rule(&self, chain: &str, comment: &str) -> String {
        format!("table inet {}, chain {chain}: {comment}", self.table)
    }
}

const fn redirection(which: Which) -> &'static str {
    match which {
        Which::Wildcard(_) => "ports published on all addresses",
        _ => "ports published on one address",
    }
}

fn relay(port: &PortMapping) -> String {
    format!("relayed to {} by the engine", port.container)
}

fn yes(who: impl Into<String>, rule: String) -> Origin {
    Origin {
        who: who.into(),
        reachable: true,
        rule,
    }
}

fn no(who: impl Into<String>, rule: String) -> Origin {
    Origin {
        who: who.into(),
        reachable: false,
        rule,
    }
}
