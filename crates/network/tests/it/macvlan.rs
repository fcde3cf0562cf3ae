//! Links that share a parent's wire.

use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use network::{Attachment, IpvlanMode, MacvlanMode, ParentError, Sandbox, SandboxError, macvlan};
use sys::netns;

use crate::lab::{
    OUTSIDE, PATIENCE, SILENCE, ask_tcp, in_the_lab, interface, link_names, on_a_host, run,
    serve_tcp, within,
};

const PORT: u16 = 80;

fn ip(text: &str) -> IpAddr {
    text.parse().unwrap()
}

fn attached(parent: &str, mode: MacvlanMode, addresses: &[(IpAddr, u8)]) -> Sandbox {
    let mut sandbox = Sandbox::isolated().unwrap();
    let attachment = Attachment::Macvlan { parent, mode };
    let host = sandbox.attach(attachment, &interface("eth0", addresses));
    assert_eq!(host.unwrap(), None);
    sandbox
}

fn reaches(from: &Sandbox, to: &Sandbox, address: IpAddr) -> bool {
    connects(from, to, address, PATIENCE)
}

fn connects(from: &Sandbox, to: &Sandbox, address: IpAddr, patience: Duration) -> bool {
    let address = SocketAddr::new(address, PORT);
    let server = netns::within(to.netns(), || serve_tcp(address)).unwrap();
    let outcome = netns::within(from.netns(), || ask_tcp(address, patience)).unwrap();
    if outcome.is_err() {
        let _ended = netns::within(to.netns(), || ask_tcp(address, PATIENCE)).unwrap();
    }
    server.join().unwrap();
    outcome.is_ok()
}

#[test]
fn siblings_and_the_world_are_reached() {
    in_the_lab(|lab| {
        assert!(!macvlan::ensure_parent("lan0", None).unwrap());
        let addresses = |number| [([10, 9, 0, number].into(), 24)];
        let one = attached("lan0", MacvlanMode::Bridge, &addresses(50));
        let mut two = attached("lan0", MacvlanMode::Bridge, &addresses(51));
        assert!(reaches(&one, &two, [10, 9, 0, 51].into()));
        let address = SocketAddr::new(OUTSIDE, PORT);
        let server = within(&lab.outside, || serve_tcp(address));
        netns::within(one.netns(), || ask_tcp(address, PATIENCE))
            .unwrap()
            .unwrap();
        let seen = server.join().unwrap().unwrap();
        assert_eq!(seen.ip(), ip("10.9.0.50"));

        let found = two.interfaces().unwrap();
        assert_eq!((&*found[0].name, found[0].mtu), ("eth0", 1500));
        assert_eq!(found[0].host, None);
        two.detach("eth0").unwrap();
        assert_eq!(two.interfaces().unwrap(), []);
        // a parent that is the host's own is not deleted
        macvlan::remove_parent("lan0").unwrap();
        assert!(link_names().contains(&"lan0".to_owned()));
    });
}

#[test]
fn private_siblings_do_not_see_each_other() {
    in_the_lab(|_| {
        let addresses = |number| [([10, 9, 0, number].into(), 24)];
        let one = attached("lan0", MacvlanMode::Private, &addresses(50));
        let two = attached("lan0", MacvlanMode::Private, &addresses(51));
        let cut_off = !connects(&one, &two, [10, 9, 0, 51].into(), SILENCE);
        assert!(cut_off);
    });
}

#[test]
fn a_network_without_parent_stays_within_the_host() {
    on_a_host(|| {
        let parent = macvlan::private_parent("0123456789abcdef0123456789abcdef");
        assert!(macvlan::ensure_parent(&parent, None).unwrap());
        assert!(!macvlan::ensure_parent(&parent, None).unwrap());
        assert_eq!(run("ip", &format!("-o addr show dev {parent}")), "");
        let addresses = |n: u16| {
            [
                ([10, 7, 0, n.to_be_bytes()[1]].into(), 24),
                ([0xfd00, 7, 0, 0, 0, 0, 0, n].into(), 64),
            ]
        };
        let one = attached(&parent, MacvlanMode::Bridge, &addresses(2));
        let two = attached(&parent, MacvlanMode::Bridge, &addresses(3));
        assert!(reaches(&one, &two, ip("10.7.0.3")));
        assert!(reaches(&one, &two, ip("fd00:7::3")));
        run("ip", "addr add 10.9.0.1/24 dev lo");
        let address = SocketAddr::new(ip("10.9.0.1"), PORT);
        netns::within(one.netns(), || {
            run("ip", "route add 10.9.0.1 dev eth0");
            ask_tcp(address, SILENCE).unwrap_err();
        })
        .unwrap();
        drop((one, two));
        macvlan::remove_parent(&parent).unwrap();
        macvlan::remove_parent(&parent).unwrap();
        assert_eq!(link_names(), ["lo"]);
    });
}

#[test]
fn a_vlan_of_the_parent_is_made_where_the_kernel_can() {
    in_the_lab(|_| {
        match macvlan::ensure_parent("lan0.10", None) {
            Ok(made) => {
                assert!(made);
                let link = run("ip", "-d -o link show lan0.10");
                assert!(link.contains("id 10") && link.contains("UP"), "{link}");
                macvlan::remove_parent("lan0.10").unwrap();
            }
            Err(error) => {
                let text = error.to_string();
                assert!(matches!(error, ParentError::KindMissing { .. }), "{text}");
                assert!(text.contains("8021q") && text.contains("lan0.10"), "{text}");
            }
        }
        assert!(!link_names().contains(&"lan0.10".to_owned()));
    });
}

#[test]
fn parents_that_cannot_be_are_refused() {
    in_the_lab(|_| {
        let refused = |name: &str| macvlan::ensure_parent(name, None).unwrap_err();
        assert!(matches!(refused("eth9"), ParentError::Missing { .. }));
        assert!(matches!(refused("a/b"), ParentError::Name { .. }));
        assert!(matches!(refused("eth9.5"), ParentError::NoCarrier { .. }));
        for bad in ["lan0.0", "lan0.4095", "lan0.x", "lan0."] {
            assert!(matches!(refused(bad), ParentError::Vlan { .. }), "{bad}");
        }
        let mut sandbox = Sandbox::isolated().unwrap();
        let attachment = Attachment::Macvlan {
            parent: "eth9",
            mode: MacvlanMode::Bridge,
        };
        let wanted = interface("eth0", &[(ip("10.9.0.50"), 24)]);
        let error = sandbox.attach(attachment, &wanted).unwrap_err();
        assert!(matches!(error, SandboxError::NoParent { .. }), "{error}");
        let attachment = Attachment::Macvlan {
            parent: "lan0",
            mode: MacvlanMode::Bridge,
        };
        let mut large = wanted;
        large.mtu = 9000;
        let error = sandbox.attach(attachment, &large).unwrap_err();
        assert!(matches!(error, SandboxError::Attach { .. }), "{error}");
        assert_eq!(sandbox.interfaces().unwrap(), []);
    });
}

#[test]
fn ipvlan_is_made_or_what_it_needs_is_said() {
    in_the_lab(|_| {
        let mut sandbox = Sandbox::isolated().unwrap();
        let attachment = Attachment::Ipvlan {
            parent: "lan0",
            mode: IpvlanMode::L2,
        };
        let mut wanted = interface("eth0", &[(ip("10.9.0.50"), 24)]);
        match sandbox.attach(attachment, &wanted) {
            Ok(host) => {
                assert_eq!(host, None);
                let address = SocketAddr::new(OUTSIDE, PORT);
                // the neighbour is there, and refuses
                let error = netns::within(sandbox.netns(), || ask_tcp(address, PATIENCE));
                assert_eq!(error.unwrap(), Err(std::io::ErrorKind::ConnectionRefused));
            }
            Err(error) => {
                let text = error.to_string();
                assert!(matches!(error, SandboxError::KindMissing { .. }), "{text}");
                assert!(text.contains("ipvlan") && text.contains("CONFIG_IPVLAN"));
            }
        }
        wanted.mac = Some("02:00:00:00:00:01".parse().unwrap());
        wanted.name = "eth1".to_owned();
        let error = sandbox.attach(attachment, &wanted).unwrap_err();
        assert!(matches!(error, SandboxError::MacOfIpvlan { .. }), "{error}");
    });
}
