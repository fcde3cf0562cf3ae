//! What Docker 28.5 answers to each request, and where it leaks the kernel's words or says yes to
//! what cannot work, what stands in their place.

mod endpoints;
mod shown;

use serde_json::{Value, json};

use super::*;
use crate::error::Kind::{self, Conflict, Forbidden, InvalidParameter, NotFound, System};

const OVERLAP: &str = "invalid pool request: Pool overlaps with other one on this address space";

fn request(mut body: Value) -> CreateRequest {
    if body.get("Name").is_none() {
        body["Name"] = json!("n1");
    }
    serde_json::from_value(body).unwrap()
}

/// A request for one subnet with what else is said of it.
fn subnet(mut config: Value, subnet: &str) -> Value {
    config["Subnet"] = json!(subnet);
    json!({"IPAM": {"Driver": "default", "Config": [config]}})
}

struct World {
    networks: Vec<NetworkRecord>,
    host: Vec<(Subnet, String)>,
    pools: Vec<AddressPool>,
}

impl World {
    fn empty() -> Self {
        Self {
            networks: Vec::new(),
            host: Vec::new(),
            pools: network::default_pools(),
        }
    }

    fn plan(&self, body: Value) -> Result<NetworkRecord> {
        let taken = Taken {
            networks: &self.networks,
            host: &self.host,
            pools: &self.pools,
            ula: network::ula_pool([3, 0xf3, 0xfa, 0x60, 0xc6]),
        };
        plan(&request(body), &taken)
    }

    fn add(&mut self, body: Value) -> &NetworkRecord {
        let record = self.plan(body).unwrap();
        self.networks.push(record);
        self.networks.last().unwrap()
    }

    fn refused(&self, body: Value, kind: Kind, message: &str) {
        let told = body.to_string();
        match self.plan(body) {
            Ok(_) => panic!("accepted: {told}"),
            Err(error) => {
                assert_eq!(error.message(), message, "{told}");
                assert_eq!(error.kind(), kind, "{told}");
            }
        }
    }
}

/// What Docker shows of the network that a request makes.
fn shown(body: Value) -> Value {
    let network = World::empty().plan(body).unwrap().shown();
    serde_json::to_value(&network).unwrap()
}

#[test]
#[expect(clippy::too_many_lines, reason = "it is a table")]
fn malformed_addresses() {
    let world = World::empty();
    let base = "10.91.0.0/24";
    for (config, net, fault) in [
        (
            json!({}),
            "10.91.0.5/24",
            "invalid subnet 10.91.0.5/24: it should be 10.91.0.0/24",
        ),
        (
            json!({}),
            "10.91.0.0",
            "invalid subnet 10.91.0.0: invalid CIDR block notation",
        ),
        (
            json!({}),
            "foo",
            "invalid subnet foo: invalid CIDR block notation",
        ),
        (
            json!({}),
            "10.91.0.0/33",
            "invalid subnet 10.91.0.0/33: invalid CIDR block notation",
        ),
        (
            json!({}),
            "010.93.34.0/24",
            "invalid subnet 010.93.34.0/24: invalid CIDR block notation",
        ),
        (
            json!({}),
            "10.93.34.0/024",
            "invalid subnet 10.93.34.0/024: invalid CIDR block notation",
        ),
        (
            json!({}),
            "10.93.34.0/+24",
            "invalid subnet 10.93.34.0/+24: invalid CIDR block notation",
        ),
        (
            json!({}),
            " 10.93.34.0/24",
            "invalid subnet  10.93.34.0/24: invalid CIDR block notation",
        ),
        (
            json!({}),
            "",
            "invalid subnet : invalid CIDR block notation",
        ),
        (
            json!({"Gateway": "10.91.0.1"}),
            "",
            "invalid subnet : invalid CIDR block notation",
        ),
        (
            json!({"Gateway": "10.92.0.1"}),
            base,
            "invalid gateway 10.92.0.1: parent subnet 10.91.0.0/24 doesn't contain this address",
        ),
        (
            json!({"Gateway": "10.92.0"}),
            base,
            "invalid gateway 10.92.0: invalid address",
        ),
        (
            json!({"Gateway": "fd00::1"}),
            base,
            "invalid gateway fd00::1: parent subnet is an IPv4 block",
        ),
        (
            json!({"Gateway": "10.91.0.1/24"}),
            base,
            "invalid gateway 10.91.0.1/24: invalid address",
        ),
        (
            json!({"Gateway": "0.0.0.0"}),
            base,
            "invalid gateway 0.0.0.0: parent subnet 10.91.0.0/24 doesn't contain this address",
        ),
        (
            json!({"Gateway": "::ffff:10.91.0.9"}),
            base,
            "invalid gateway ::ffff:10.91.0.9: parent subnet is an IPv4 block",
        ),
        (
            json!({"IPRange": "10.92.0.0/25"}),
            base,
            "invalid ip-range 10.92.0.0/25: parent subnet 10.91.0.0/24 doesn't contain ip-range",
        ),
        (
            json!({"IPRange": "10.91.0.0/16"}),
            base,
            "invalid ip-range 10.91.0.0/16: CIDR block is bigger than its parent subnet 10.91.0.0/24",
        ),
        (
            json!({"IPRange": "10.91.0.5/25"}),
            base,
            "invalid ip-range 10.91.0.5/25: it should be 10.91.0.0/25",
        ),
        (
            json!({"IPRange": "10.91.0.5"}),
            base,
            "invalid ip-range 10.91.0.5: invalid CIDR block notation",
        ),
        (
            json!({"IPRange": "fd00::/96"}),
            base,
            "invalid ip-range fd00::/96: parent subnet is an IPv4 block",
        ),
        (
            json!({"AuxiliaryAddresses": {"a": "10.92.0.3"}}),
            base,
            "invalid auxiliary address a: parent subnet 10.91.0.0/24 doesn't contain this address",
        ),
        (
            json!({"AuxiliaryAddresses": {"a": "10.92.0"}}),
            base,
            "invalid auxiliary address a: invalid address",
        ),
        (
            json!({"AuxiliaryAddresses": {"a": "fd00::5"}}),
            base,
            "invalid auxiliary address a: parent subnet is an IPv4 block",
        ),
    ] {
        let message = format!("invalid network config:\n{fault}");
        world.refused(subnet(config, net), InvalidParameter, &message);
    }
    for (config, net, fault) in [
        (
            json!({}),
            "fd91::7/64",
            "invalid subnet fd91::7/64: it should be fd91::/64",
        ),
        (
            json!({}),
            "fd91::/10",
            "invalid subnet fd91::/10: it should be fd80::/10",
        ),
        (
            json!({"Gateway": "fd92::99"}),
            "fd91::/64",
            "invalid gateway fd92::99: parent subnet fd91::/64 doesn't contain this address",
        ),
        (
            json!({"Gateway": "10.0.0.1"}),
            "fd91::/64",
            "invalid gateway 10.0.0.1: parent subnet is an IPv6 block",
        ),
    ] {
        let mut body = subnet(config, net);
        body["EnableIPv6"] = json!(true);
        let message = format!("invalid network config:\n{fault}");
        world.refused(body, InvalidParameter, &message);
    }
}

#[test]
fn every_fault_is_told_at_once() {
    let bad = json!({"IPAM": {"Config": [
        {"Subnet": "foo", "Gateway": "x"},
        {"Subnet": "10.93.21.1/24", "Gateway": "bar", "IPRange": "baz", "AuxiliaryAddresses": {"p": "r", "q": "r"}},
    ]}});
    World::empty().refused(bad, InvalidParameter, "invalid network config:\n* invalid subnet foo: invalid CIDR block notation\n* invalid subnet 10.93.21.1/24: it should be 10.93.21.0/24\n* invalid ip-range baz: invalid CIDR block notation\n* invalid gateway bar: invalid address\n* invalid auxiliary address p: invalid address\n* invalid auxiliary address q: invalid address");
}

#[test]
fn addresses_that_are_taken_within_the_network() {
    let world = World::empty();
    for (config, message) in [
        (
            json!({"Gateway": "10.91.0.0"}),
            "failed to allocate gateway (10.91.0.0): Address already in use",
        ),
        (
            json!({"Gateway": "10.91.0.255"}),
            "failed to allocate gateway (10.91.0.255): Address already in use",
        ),
        (
            json!({"IPRange": "10.91.0.0/32"}),
            "failed to allocate gateway (): no available addresses on this pool",
        ),
        (
            json!({"IPRange": "10.91.0.255/32"}),
            "failed to allocate gateway (): no available addresses on this pool",
        ),
        (
            json!({"AuxiliaryAddresses": {"a": "10.91.0.1"}}),
            "failed to allocate secondary ip address (a:10.91.0.1): Address already in use",
        ),
        (
            json!({"Gateway": "10.91.0.9", "AuxiliaryAddresses": {"a": "10.91.0.9"}}),
            "failed to allocate secondary ip address (a:10.91.0.9): Address already in use",
        ),
        (
            json!({"AuxiliaryAddresses": {"a": "10.91.0.3", "b": "10.91.0.3"}}),
            "failed to allocate secondary ip address (b:10.91.0.3): Address already in use",
        ),
        (
            json!({"AuxiliaryAddresses": {"a": "10.91.0.0"}}),
            "failed to allocate secondary ip address (a:10.91.0.0): Address already in use",
        ),
        (
            json!({"AuxiliaryAddresses": {"a": "10.91.0.255"}}),
            "failed to allocate secondary ip address (a:10.91.0.255): Address already in use",
        ),
    ] {
        world.refused(subnet(config, "10.91.0.0/24"), System, message);
    }
    world.refused(
        subnet(json!({"AuxiliaryAddresses": {"a": ""}}), "10.91.0.0/24"),
        InvalidParameter,
        "non parsable secondary ip address (a:) passed for network n1",
    );
    let mut six = subnet(json!({}), "fd91::/128");
    six["EnableIPv6"] = json!(true);
    six["EnableIPv4"] = json!(false);
    world.refused(
        six.clone(),
        System,
        "failed to allocate gateway (): no available addresses on this pool",
    );
    six["IPAM"]["Config"][0] = json!({"Subnet": "fd91::/64", "Gateway": "fd91::"});
    world.refused(
        six,
        System,
        "failed to allocate gateway (fd91::): Address already in use",
    );
}

#[test]
fn reserved_networks() {
    let world = World::empty();
    let reserved = |net: &str, other: &str, what: &str| {
        let message = format!(
            "invalid pool request: {net} overlaps {other}, which is reserved ({what} addresses)"
        );
        let mut body = subnet(json!({}), net);
        body["EnableIPv6"] = json!(true);
        world.refused(body, InvalidParameter, &message);
    };
    reserved("127.5.0.0/24", "127.0.0.0/8", "loopback");
    reserved("0.0.0.0/24", "0.0.0.0/8", "this host");
    reserved("0.0.0.0/1", "0.0.0.0/8", "this host");
    reserved("255.255.255.0/24", "255.255.255.255/32", "broadcast");
    reserved("::/64", "::/127", "unspecified and loopback");
    reserved("::ffff:10.0.0.0/104", "::ffff:0:0/96", "IPv4-mapped");
    for (net, first) in [
        ("ff02::/64", "ff02::1/64"),
        ("224.0.0.0/24", "224.0.0.1/24"),
    ] {
        let mut body = subnet(json!({}), net);
        body["EnableIPv6"] = json!(true);
        let message = format!("multicast subnet '{first}' is not allowed");
        world.refused(body, InvalidParameter, &message);
    }
}

#[test]
fn an_overlap_names_both_sides() {
    let mut world = World::empty();
    world.add({
        let mut body = subnet(json!({}), "10.91.0.0/24");
        body["Name"] = json!("base");
        body
    });
    world.host = vec![
        ("10.8.0.0/16".parse().unwrap(), "route via tun0".to_owned()),
        (
            "192.0.2.0/24".parse().unwrap(),
            "address of eth0".to_owned(),
        ),
    ];
    for (net, other) in [
        ("10.91.0.0/24", "10.91.0.0/24 (network base)"),
        ("10.91.0.128/25", "10.91.0.0/24 (network base)"),
        ("10.0.0.0/8", "10.91.0.0/24 (network base)"),
        ("10.8.1.0/24", "10.8.0.0/16 (route via tun0)"),
        ("192.0.0.0/8", "192.0.2.0/24 (address of eth0)"),
    ] {
        let message = format!("{OVERLAP}: {net} overlaps {other}");
        world.refused(subnet(json!({}), net), Forbidden, &message);
    }
    let twice =
        json!({"IPAM": {"Config": [{"Subnet": "10.92.0.0/24"}, {"Subnet": "10.92.0.128/25"}]}});
    let message = format!("{OVERLAP}: 10.92.0.128/25 overlaps 10.92.0.0/24 (the same network)");
    world.refused(twice, Forbidden, &message);

    let mut own = subnet(json!({}), "192.0.2.0/24");
    own["Options"] = json!({"com.docker.network.bridge.name": "eth0"});
    assert!(world.plan(own).is_ok(), "the bridge's own address");
    let mut macvlan = subnet(json!({}), "192.0.2.0/24");
    macvlan["Driver"] = json!("macvlan");
    assert!(world.plan(macvlan).is_ok(), "the parent's network");
}

#[test]
fn names() {
    let mut world = World::empty();
    world.add(json!({"Name": "base"}));
    for name in ["bridge", "host", "none", "default"] {
        let message = format!("operation is not permitted on predefined {name} network ");
        world.refused(json!({"Name": name}), Forbidden, &message);
    }
    world.refused(
        json!({"Name": ""}),
        InvalidParameter,
        "invalid name: name is empty",
    );
    world.refused(
        json!({"Name": "base"}),
        Conflict,
        "network with name base already exists",
    );
    world.refused(
        json!({"Name": "a\nb"}),
        InvalidParameter,
        "invalid name: must be at most 1024 bytes without control characters",
    );
    for name in [
        "a",
        "_a",
        "-a",
        "a b",
        "a/b",
        "BASE",
        "BRIDGE",
        "null",
        "web.net",
        "ünï",
        &"a".repeat(300),
    ] {
        assert!(world.plan(json!({"Name": name})).is_ok(), "{name}");
    }
}

#[test]
fn drivers_and_scopes() {
    let world = World::empty();
    for name in ["foo", "none", "Bridge", "remote", "foo:latest", " "] {
        let message = format!("plugin \"{name}\" not found");
        world.refused(json!({"Driver": name}), NotFound, &message);
    }
    for name in ["host", "null"] {
        let message = format!("only one instance of \"{name}\" network is allowed");
        world.refused(
            json!({"Driver": name, "EnableIPv4": false}),
            Forbidden,
            &message,
        );
    }
    world.refused(json!({"Driver": "overlay"}), Forbidden, "This node is not a swarm manager. Use \"docker swarm init\" or \"docker swarm join\" to connect this node to swarm and try again.");
    world.refused(
        json!({"Scope": "swarm"}),
        Forbidden,
        "cannot create a swarm scoped network when swarm is not active",
    );
    world.refused(
        json!({"Ingress": true}),
        Forbidden,
        "Ingress network can only be global scope network",
    );
    for scope in ["local", "global", "foo"] {
        assert_eq!(shown(json!({"Scope": scope}))["Scope"], scope);
    }
}

#[test]
fn address_drivers() {
    let world = World::empty();
    for (body, kind, message) in [
        (
            json!({"IPAM": {"Driver": "foo"}}),
            NotFound,
            "plugin \"foo\" not found",
        ),
        (
            json!({"IPAM": {"Driver": "Default"}}),
            NotFound,
            "plugin \"Default\" not found",
        ),
        (
            json!({"IPAM": {"Driver": "null"}}),
            InvalidParameter,
            "ipv4 pool is empty",
        ),
        (
            json!({"Driver": "macvlan", "IPAM": {"Driver": "null"}}),
            InvalidParameter,
            "ipv4 pool is empty",
        ),
        (
            json!({"EnableIPv4": false, "EnableIPv6": true, "IPAM": {"Driver": "null"}}),
            InvalidParameter,
            "ipv6 pool is empty",
        ),
        (
            json!({"IPAM": {"Driver": "null", "Config": [{"Subnet": "10.1.0.0/24"}]}}),
            InvalidParameter,
            "null ipam driver does not handle specific address pool requests",
        ),
    ] {
        world.refused(body, kind, message);
    }
    for (ipam, options) in [
        (json!({"Driver": ""}), Value::Null),
        (json!({}), Value::Null),
        (Value::Null, Value::Null),
        (
            json!({"Driver": "default", "Options": {"a": "b"}}),
            json!({"a": "b"}),
        ),
        (
            json!({"Driver": "default", "Options": {}, "Config": []}),
            json!({}),
        ),
    ] {
        let network = shown(json!({"IPAM": ipam}));
        let chosen = json!([{"Subnet": "172.18.0.0/24", "Gateway": "172.18.0.1"}]);
        assert_eq!(
            network["IPAM"],
            json!({"Driver": "default", "Options": options, "Config": chosen})
        );
    }
}

#[test]
fn families() {
    let world = World::empty();
    for body in [
        json!({"EnableIPv4": false}),
        json!({"EnableIPv4": false, "EnableIPv6": false}),
        json!({"Options": {"com.docker.network.enable_ipv4": "false"}}),
        json!({"EnableIPv4": false, "IPAM": {"Config": [{"Subnet": "10.1.0.0/24"}]}}),
    ] {
        world.refused(body, InvalidParameter, "IPv4 or IPv6 must be enabled");
    }
    world.refused(
        json!({"Driver": "foo", "Options": {"com.docker.network.enable_ipv4": "x"}}),
        InvalidParameter,
        "driver-opt \"com.docker.network.enable_ipv4\" is not a valid bool",
    );
    let v4 = json!({"Subnet": "172.18.0.0/24", "Gateway": "172.18.0.1"});
    let v6 = json!({"Subnet": "fd03:f3fa:60c6::/64", "Gateway": "fd03:f3fa:60c6::1"});
    let given = json!({"Subnet": "fd91::/64"});
    for (body, enabled, configs) in [
        (json!({}), [true, false], json!([v4])),
        (json!({"EnableIPv6": true}), [true, true], json!([v4, v6])),
        (
            json!({"EnableIPv4": false, "EnableIPv6": true}),
            [false, true],
            json!([v6]),
        ),
        (
            json!({"Options": {"com.docker.network.enable_ipv6": "true"}}),
            [true, true],
            json!([v4, v6]),
        ),
        (
            json!({"EnableIPv6": false, "Options": {"com.docker.network.enable_ipv6": "true"}}),
            [true, false],
            json!([v4]),
        ),
        (
            json!({"EnableIPv4": true, "Options": {"com.docker.network.enable_ipv4": "false"}}),
            [true, false],
            json!([v4]),
        ),
        (
            json!({"EnableIPv6": true, "IPAM": {"Config": [given]}}),
            [true, true],
            json!([given, v4]),
        ),
        // shown, though it is of no use
        (
            json!({"IPAM": {"Config": [given]}}),
            [true, false],
            json!([given, v4]),
        ),
        (
            json!({"EnableIPv4": false, "EnableIPv6": true, "IPAM": {"Config": [given, {"Subnet": "10.91.0.0/24"}]}}),
            [false, true],
            json!([{"Subnet": "10.91.0.0/24"}, given]),
        ),
    ] {
        let told = body.to_string();
        let network = shown(body);
        assert_eq!(network["EnableIPv4"], enabled[0], "{told}");
        assert_eq!(network["EnableIPv6"], enabled[1], "{told}");
        assert_eq!(network["IPAM"]["Config"], configs, "{told}");
    }
    // a switch of the request takes the option's place
    let options = |body| shown(body)["Options"].clone();
    let switch = json!({"com.docker.network.enable_ipv6": "true"});
    assert_eq!(options(json!({"Options": switch})), switch);
    assert_eq!(
        options(json!({"Options": switch, "EnableIPv6": true})),
        json!({})
    );
}

#[test]
fn gateways_that_are_chosen() {
    let gateway = |body: Value| {
        let record = World::empty().plan(body).unwrap();
        let ipam = record.v4.as_ref().or(record.v6.as_ref()).unwrap();
        ipam.pool().unwrap();
        let show = |address: Option<IpAddr>| address.map(|a| a.to_string()).unwrap_or_default();
        [
            ipam.gateway,
            record.host_address(ipam),
            record.default_gateway(ipam),
        ]
        .map(show)
    };
    let check = |config: Value, net: &str, expected: &str| {
        assert_eq!(gateway(subnet(config, net)), [expected; 3], "{net}");
    };
    check(json!({}), "10.94.0.0/24", "10.94.0.1");
    check(
        json!({"IPRange": "10.94.0.128/25"}),
        "10.94.0.0/24",
        "10.94.0.128",
    );
    check(
        json!({"IPRange": "10.94.0.0/28"}),
        "10.94.0.0/24",
        "10.94.0.1",
    );
    check(
        json!({"IPRange": "10.94.0.240/28"}),
        "10.94.0.0/24",
        "10.94.0.240",
    );
    check(
        json!({"IPRange": "10.94.0.128/32"}),
        "10.94.0.0/24",
        "10.94.0.128",
    );
    check(
        json!({"IPRange": "10.94.0.128/25", "Gateway": "10.94.0.1"}),
        "10.94.0.0/24",
        "10.94.0.1",
    );
    check(json!({}), "10.94.0.0/30", "10.94.0.1");
    check(json!({}), "10.94.0.0/31", "10.94.0.0");
    check(json!({"Gateway": "10.94.0.1"}), "10.94.0.0/31", "10.94.0.1");
    check(json!({}), "10.94.0.0/32", "10.94.0.0");
    check(
        json!({"Gateway": "10.94.0.2", "AuxiliaryAddresses": {"a": "10.94.0.1"}}),
        "10.94.0.0/24",
        "10.94.0.2",
    );
    let six = |net: &str, range: &str, expected: &str| {
        let mut body = subnet(json!({"IPRange": range}), net);
        body["EnableIPv4"] = json!(false);
        body["EnableIPv6"] = json!(true);
        assert_eq!(gateway(body), [expected; 3], "{net} {range}");
    };
    six("fd9a::/64", "", "fd9a::1");
    six("fd9a::/64", "fd9a::/112", "fd9a::1");
    six("fd9a::/64", "fd9a::1:0/112", "fd9a::1:0");
    six("fd9a::/127", "", "fd9a::1");

    let isolated = json!({"com.docker.network.bridge.gateway_mode_ipv4": "isolated"});
    let mut body = json!({"Internal": true, "Options": isolated});
    assert_eq!(gateway(body.clone()), ["", "", ""]);
    body["IPAM"] = json!({"Config": [{"Subnet": "10.94.0.0/24", "Gateway": "10.94.0.7"}]});
    assert_eq!(gateway(body), ["10.94.0.7", "", ""]);
    assert_eq!(
        gateway(json!({"Internal": true})),
        ["172.18.0.1", "172.18.0.1", ""]
    );
    let inhibited = json!({"com.docker.network.bridge.inhibit_ipv4": "true"});
    assert_eq!(
        gateway(json!({"Options": inhibited})),
        ["172.18.0.1", "", "172.18.0.1"]
    );
    assert_eq!(
        gateway(json!({"Driver": "macvlan"})),
        ["172.18.0.1", "", "172.18.0.1"]
    );
    assert_eq!(
        gateway(json!({"Driver": "macvlan", "Internal": true})),
        ["", "", ""]
    );
    assert_eq!(
        gateway(json!({"Driver": "ipvlan", "Options": {"ipvlan_mode": "l3"}})),
        ["", "", ""]
    );
}

#[test]
fn several_subnets_of_a_family() {
    let world = World::empty();
    for (driver, configs) in [
        (
            "bridge",
            json!([{"Subnet": "10.1.0.0/24"}, {"Subnet": "10.2.0.0/24"}]),
        ),
        (
            "bridge",
            json!([{"Subnet": "fd93:1::/64"}, {"Subnet": "fd93:2::/64"}]),
        ),
    ] {
        world.refused(
            json!({"Driver": driver, "EnableIPv6": true, "IPAM": {"Config": configs}}),
            Forbidden,
            "bridge driver doesn't support multiple subnets",
        );
    }
}

#[test]
fn chosen_subnets_avoid_networks_and_routes() {
    let mut world = World::empty();
    world.host = vec![
        (
            "172.18.0.0/15".parse().unwrap(),
            "route via tun0".to_owned(),
        ),
        (
            "172.20.0.7/32".parse().unwrap(),
            "address of eth0".to_owned(),
        ),
    ];
    let next = |world: &mut World, n: usize| {
        let record = world.add(json!({"Name": format!("auto{n}")}));
        record.v4.as_ref().unwrap().subnet.to_string()
    };
    assert_eq!(next(&mut world, 1), "172.20.1.0/24");
    assert_eq!(next(&mut world, 2), "172.20.2.0/24");
    world.networks.remove(0);
    assert_eq!(next(&mut world, 3), "172.20.1.0/24");

    world.pools = vec![AddressPool {
        base: "172.20.1.0/24".parse().unwrap(),
        size: 24,
    }];
    world.refused(json!({}), InvalidParameter, "all predefined address pools have been fully subnetted: no IPv4 network is left that no other network and no route of the host has; remove unused networks, or name a subnet");
    // pools of IPv6 take the place of the host's own
    world.pools = vec![AddressPool {
        base: "fd12::/56".parse().unwrap(),
        size: 64,
    }];
    let record = world
        .plan(json!({"EnableIPv4": false, "EnableIPv6": true}))
        .unwrap();
    assert_eq!(record.v6.unwrap().subnet.to_string(), "fd12::/64");
}

#[test]
fn configurations() {
    let mut world = World::empty();
    world.add(json!({"Name": "cfg", "ConfigOnly": true, "EnableIPv6": true, "Driver": "foo", "Labels": {"l": "c"},
        "Options": {"com.docker.network.driver.mtu": "1400"},
        "IPAM": {"Config": [{"Subnet": "10.93.1.0/24", "Gateway": "10.93.1.9", "AuxiliaryAddresses": {"a": "10.93.1.3"}}]}}));
    let config = serde_json::to_value(world.networks[0].shown()).unwrap();
    let given = json!({"Subnet": "10.93.1.0/24", "Gateway": "10.93.1.9", "AuxiliaryAddresses": {"a": "10.93.1.3"}});
    assert_eq!(config["Driver"], "null");
    assert_eq!(config["ConfigOnly"], true);
    assert_eq!(config["IPAM"]["Config"], json!([given]));

    let user = world.add(json!({"Name": "user", "ConfigFrom": {"Network": "cfg"}}));
    assert_eq!(user.settings.mtu, Some(1400));
    let user = serde_json::to_value(user.shown()).unwrap();
    let chosen = json!({"Subnet": "fd03:f3fa:60c6::/64", "Gateway": "fd03:f3fa:60c6::1"});
    assert_eq!(user["IPAM"]["Config"], json!([given, chosen]));
    assert_eq!(user["ConfigFrom"]["Network"], "cfg");
    assert_eq!(user["Labels"], json!({"l": "c"}));
    assert_eq!(
        user["Options"],
        json!({"com.docker.network.driver.mtu": "1400"})
    );

    let user = "user specified configurations are not supported if the network depends on a configuration network";
    let operator = "configuration network can only contain network specific fields. Network operator fields like [ ingress | internal | attachable | scope ] are not supported.";
    for (body, kind, message) in [
        (json!({"Labels": {"x": "y"}}), Forbidden, user),
        (json!({"EnableIPv6": true}), Forbidden, user),
        (json!({"EnableIPv4": false}), Forbidden, user),
        (json!({"IPAM": {"Options": {"a": "b"}}}), Forbidden, user),
        (
            json!({"IPAM": {"Config": [{"Subnet": "10.93.2.0/24"}]}}),
            Forbidden,
            user,
        ),
        (
            json!({"Options": {"x": "y"}}),
            Forbidden,
            "network driver options are not supported if the network depends on a configuration network",
        ),
        (
            json!({"ConfigFrom": {"Network": "nope"}}),
            NotFound,
            "configuration network \"nope\" does not exist",
        ),
        (
            json!({"ConfigFrom": {"Network": "user"}}),
            NotFound,
            "configuration network \"user\" does not exist",
        ),
        (
            json!({"ConfigOnly": true}),
            Forbidden,
            "a configuration network cannot depend on another configuration network",
        ),
        (
            json!({"ConfigOnly": true, "Internal": true}),
            Forbidden,
            operator,
        ),
        (
            json!({"ConfigOnly": true, "Attachable": true}),
            Forbidden,
            operator,
        ),
        (
            json!({"ConfigOnly": true, "Ingress": true}),
            Forbidden,
            operator,
        ),
        (
            json!({"ConfigOnly": true, "Scope": "local"}),
            Forbidden,
            operator,
        ),
        (
            json!({}),
            Forbidden,
            "invalid pool request: Pool overlaps with other one on this address space: 10.93.1.0/24 overlaps 10.93.1.0/24 (network user)",
        ),
    ] {
        let mut body = body;
        if body.get("ConfigFrom").is_none() {
            body["ConfigFrom"] = json!({"Network": "cfg"});
        }
        world.refused(body, kind, message);
    }
    // nothing of a configuration is looked at before it is used
    for body in [
        json!({"Options": {"com.docker.network.driver.mtu": "foo"}}),
        json!({"IPAM": {"Driver": "foo"}}),
        json!({"EnableIPv4": false}),
        json!({"IPAM": {"Config": [{"Subnet": "10.93.1.0/24"}]}}),
    ] {
        let mut body = body;
        body["ConfigOnly"] = json!(true);
        assert!(world.plan(body).is_ok());
    }
}

#[test]
fn what_is_told_first() {
    let mut world = World::empty();
    let mut base = subnet(json!({}), "10.93.20.0/24");
    base["Name"] = json!("base");
    world.add(base);
    let bad = json!({"Config": [{"Subnet": "foo"}]});
    let overlap = json!({"Config": [{"Subnet": "10.93.20.0/24"}]});
    let foo = "invalid network config:\ninvalid subnet foo: invalid CIDR block notation";
    let mtu = json!({"com.docker.network.driver.mtu": "foo"});
    let mtu_fault = "failed to parse com.docker.network.driver.mtu value: foo (strconv.Atoi: parsing \"foo\": invalid syntax)";
    for (body, kind, message) in [
        (
            json!({"Name": "host", "IPAM": bad}),
            Forbidden,
            "operation is not permitted on predefined host network ",
        ),
        (json!({"Name": "", "IPAM": bad}), InvalidParameter, foo),
        (json!({"Name": "base", "IPAM": bad}), InvalidParameter, foo),
        (
            json!({"Name": "", "Driver": "foo"}),
            InvalidParameter,
            "invalid name: name is empty",
        ),
        (
            json!({"Name": "base", "Driver": "foo"}),
            Conflict,
            "network with name base already exists",
        ),
        (
            json!({"Name": "base", "EnableIPv4": false}),
            Conflict,
            "network with name base already exists",
        ),
        (
            json!({"EnableIPv4": false, "IPAM": bad}),
            InvalidParameter,
            foo,
        ),
        (json!({"Driver": "foo", "IPAM": bad}), InvalidParameter, foo),
        (
            json!({"Scope": "swarm", "IPAM": bad}),
            InvalidParameter,
            foo,
        ),
        (
            json!({"Driver": "foo", "Ingress": true}),
            NotFound,
            "plugin \"foo\" not found",
        ),
        (
            json!({"IPAM": overlap, "Options": mtu}),
            InvalidParameter,
            mtu_fault,
        ),
        (
            json!({"IPAM": {"Driver": "foo"}, "Options": mtu}),
            InvalidParameter,
            mtu_fault,
        ),
    ] {
        world.refused(body, kind, message);
    }
}

#[test]
fn links_that_networks_share() {
    let mut world = World::empty();
    let bridge = json!({"com.docker.network.bridge.name": "mybr"});
    let other = world
        .add(json!({"Name": "one", "Options": bridge}))
        .id
        .clone();
    let error = world.plan(json!({"Options": bridge})).unwrap_err();
    let (mine, _) = error
        .message()
        .strip_prefix("cannot create network ")
        .unwrap()
        .split_once(' ')
        .unwrap();
    assert_eq!(error.kind(), Forbidden);
    assert_eq!(
        error.message(),
        format!(
            "cannot create network {mine} (mybr): conflicts with network {other} (mybr): networks have same bridge name"
        )
    );

    let mut sharing = World::empty();
    for (name, driver) in [("mac", Driver::Macvlan), ("ip", Driver::Ipvlan)] {
        let record = sharing
            .add(json!({"Name": name, "Driver": driver.to_string()}))
            .clone();
        let last = sharing.networks.last_mut().unwrap();
        last.settings.parent = Some("eth0".to_owned());
        assert_eq!(record.settings.parent, None);
    }
    let mut record = sharing.networks[0].clone();
    let mac = record.id.clone();
    check_links(&record, &sharing.networks).unwrap();
    record.settings.macvlan_mode = MacvlanMode::Passthru;
    let error = check_links(&record, &sharing.networks).unwrap_err();
    assert_eq!(
        error.message(),
        format!(
            "cannot use mode passthru, macvlan network {mac} is already using parent interface eth0"
        )
    );
    let error = check_links(&sharing.networks[0], std::slice::from_ref(&record)).unwrap_err();
    assert_eq!(
        error.message(),
        format!("macvlan network {mac} is already using parent interface eth0 in mode passthru")
    );
    let error = check_links(&sharing.networks[1], &sharing.networks).unwrap_err();
    assert_eq!(
        error.message(),
        "network ip is already using parent interface eth0"
    );
}
