//! The engine's end: what only containers need of the host's network goes, when none is left.

use network::HostLink;

use super::{Networks, TABLE};
use crate::container::lock;
use crate::error::{Result, Step};

/// The first word of the mark on links that any engine made.
const MARK: &str = TABLE;

impl Networks {
    /// Deletes the bridges and parents of this engine, and the tables. The next engine makes them again
    /// from its records.
    ///
    /// All of it stays while a container is in a network, or somebody else's link is on a bridge; the
    /// tables stay while another engine has links here. To be called after [`Networks::close`], which
    /// ends the watch that would put all of it back.
    pub(crate) fn withdraw(&self) -> Result<()> {
        let nets = self.all();
        // a start that nobody waited for may still be on its way
        if !nets.iter().all(|net| net.close()) {
            nets.iter().for_each(|net| net.reopen());
            return Ok(());
        }
        let links = network::host_links().step(|| "list the host's links")?;
        if let Some(guest) = guest(&links, &self.owner) {
            let name = &guest.name;
            tracing::info!(
                link = name,
                "a link of somebody else uses a bridge: networks stay"
            );
            return Ok(());
        }
        lock(&self.bridges).clear();
        for link in own(&links, &self.owner) {
            network::delete_owned(&self.owner, &link.name)
                .step(|| format!("delete the link {}", link.name))?;
        }
        if has_others(&links, &self.owner) {
            return Ok(());
        }
        self.firewall.destroy().step(|| "delete the nftables rules")
    }
}

/// The links that an engine's networks have; the ends of containers' pairs go with their containers.
fn own<'a>(links: &'a [HostLink], owner: &'a str) -> impl Iterator<Item = &'a HostLink> {
    let of_networks = links.iter().filter(|link| link.kind != "veth");
    of_networks.filter(move |link| link.alias == owner)
}

/// A link on a bridge of the engine's that is not the engine's.
fn guest<'a>(links: &'a [HostLink], owner: &'a str) -> Option<&'a HostLink> {
    links.iter().find(|link| {
        let is_ours = |name: &String| own(links, owner).any(|bridge| bridge.name == *name);
        link.alias != owner && link.master.as_ref().is_some_and(is_ours)
    })
}

/// Whether there are links of another engine.
fn has_others(links: &[HostLink], owner: &str) -> bool {
    links.iter().any(|link| {
        let mark = link.alias.split(' ').next();
        mark == Some(MARK) && link.alias != owner
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn link(name: &str, kind: &str, master: Option<&str>, alias: &str) -> HostLink {
        HostLink {
            name: name.to_owned(),
            kind: kind.to_owned(),
            master: master.map(str::to_owned),
            alias: alias.to_owned(),
            up: true,
        }
    }

    #[test]
    fn others_keep_their_links() {
        let ours = "gorae one";
        let mut links = vec![
            link("lo", "", None, ""),
            link("eth0", "", Some("br0"), ""),
            link("br0", "bridge", None, ""),
            link("gorae0", "bridge", None, ours),
            link("dm-1", "dummy", None, ours),
            link("veth1", "veth", Some("gorae0"), ours),
        ];
        let names: Vec<&str> = own(&links, ours).map(|link| link.name.as_str()).collect();
        assert_eq!(names, ["gorae0", "dm-1"]);
        assert_eq!(guest(&links, ours), None);
        assert!(!has_others(&links, ours));
        links.push(link("br-2", "bridge", None, "gorae two"));
        assert!(has_others(&links, ours));
        links.push(link("tap0", "tun", Some("gorae0"), ""));
        let guest = guest(&links, ours).map(|link| link.name.as_str());
        assert_eq!(guest, Some("tap0"));
    }
}
