//! What may be wished of a network, and what not.

use api::network::EndpointSettings;

use super::*;

fn dual() -> NetworkRecord {
    let configs =
        json!([{"Subnet": "10.94.40.0/24", "IPRange": "10.94.40.128/25"}, {"Subnet": "fd9e::/64"}]);
    World::empty()
        .plan(json!({"EnableIPv6": true, "IPAM": {"Config": configs}}))
        .unwrap()
}

fn check_refused(network: &NetworkRecord, settings: &Value, message: &str) {
    let settings_: EndpointSettings = serde_json::from_value(settings.clone()).unwrap();
    match check_endpoint(network, &settings_) {
        Ok(wishes) => panic!("{settings} accepted: {wishes:?}"),
        Err(error) => {
            assert_eq!(error.message(), message, "{settings}");
            assert_eq!(error.kind(), InvalidParameter, "{settings}");
        }
    }
}

#[test]
fn wished_addresses() {
    let network = dual();
    let ipam = |wished: Value| json!({"IPAMConfig": wished});
    let no = |ip: &str| format!("no configured subnet or ip-range contain the IP address {ip}");
    for (wished, faults) in [
        (json!({"IPv4Address": "1.2.3.4"}), no("1.2.3.4")),
        (
            json!({"IPv4Address": "foo"}),
            format!("* invalid IPv4 address: foo\n* {}", no("foo")),
        ),
        (
            json!({"IPv4Address": "fd9e::5"}),
            format!("* invalid IPv4 address: fd9e::5\n* {}", no("fd9e::5")),
        ),
        (
            json!({"IPv4Address": "0.0.0.0"}),
            format!("* invalid IPv4 address: 0.0.0.0\n* {}", no("0.0.0.0")),
        ),
        (
            json!({"IPv4Address": "10.94.40.9/24"}),
            format!(
                "* invalid IPv4 address: 10.94.40.9/24\n* {}",
                no("10.94.40.9/24")
            ),
        ),
        (json!({"IPv6Address": "fd00::9"}), no("fd00::9")),
        (
            json!({"IPv6Address": "10.94.40.9"}),
            format!("* invalid IPv6 address: 10.94.40.9\n* {}", no("10.94.40.9")),
        ),
        (
            json!({"IPv6Address": "::"}),
            format!("* invalid IPv6 address: ::\n* {}", no("::")),
        ),
        (
            json!({"LinkLocalIPs": ["foo"]}),
            "invalid link-local IP address: foo".to_owned(),
        ),
        (
            json!({"LinkLocalIPs": [""]}),
            "invalid link-local IP address:".to_owned(),
        ),
        (
            json!({"LinkLocalIPs": ["0.0.0.0"]}),
            "invalid link-local IP address: 0.0.0.0".to_owned(),
        ),
        (
            json!({"IPv4Address": "foo", "IPv6Address": "bar", "LinkLocalIPs": ["baz"]}),
            format!(
                "* invalid IPv4 address: foo\n* invalid IPv6 address: bar\n* invalid link-local IP address: baz\n* {}\n* {}",
                no("foo"),
                no("bar")
            ),
        ),
        (
            json!({"IPv4Address": "1.2.3.4", "IPv6Address": "fd00::9"}),
            format!("* {}\n* {}", no("1.2.3.4"), no("fd00::9")),
        ),
    ] {
        let message = format!("invalid endpoint settings:\n{faults}");
        check_refused(&network, &ipam(wished), &message);
    }
    check_refused(
        &network,
        &ipam(json!({"LinkLocalIPs": ["10.1.1.1"]})),
        "invalid link local IP address: 10.1.1.1",
    );
    let settings = serde_json::from_value(json!({"GwPriority": -3, "Aliases": ["a", "", "b", "a"], "IPAMConfig":
        {"IPv4Address": "10.94.40.9", "IPv6Address": "fd9e::9", "LinkLocalIPs": ["169.254.7.7", "fe80::77"]}})).unwrap();
    let wishes = check_endpoint(&network, &settings).unwrap();
    assert_eq!(wishes.v4, "10.94.40.9".parse().ok());
    assert_eq!(wishes.v6, "fd9e::9".parse().ok());
    assert_eq!(wishes.link_local.len(), 2);
    assert_eq!(wishes.aliases, ["a", "b"]);
    assert_eq!(wishes.gw_priority, -3);
    assert_eq!(
        check_endpoint(&network, &EndpointSettings::default()).unwrap(),
        Wishes::default()
    );
}

#[test]
fn addresses_need_a_subnet_that_was_given() {
    const CHOSEN: &str = "user specified IP address is supported only when connecting to networks with user configured subnets";
    const PREDEFINED: &str = "user specified IP address is supported on user defined networks only";
    let world = World::empty();
    let chosen = world.plan(json!({"EnableIPv6": true})).unwrap();
    let six = world.plan(json!({"EnableIPv4": false, "EnableIPv6": true, "IPAM": {"Config": [{"Subnet": "fd9f::/64"}]}})).unwrap();
    let v4 = json!({"IPAMConfig": {"IPv4Address": "172.18.0.9"}});
    let v6 = json!({"IPAMConfig": {"IPv6Address": "fd03:f3fa:60c6::9"}});
    for (network, settings) in [(&chosen, &v4), (&chosen, &v6), (&six, &v4)] {
        check_refused(
            network,
            settings,
            &format!("invalid endpoint settings:\n{CHOSEN}"),
        );
    }
    let none = NetworkRecord::builtin(Driver::Null, draw_id().unwrap(), Timestamp::now());
    check_refused(
        &none,
        &v4,
        &format!("invalid endpoint settings:\n* {PREDEFINED}\n* {CHOSEN}"),
    );
    let alias = json!({"Aliases": ["x"]});
    check_refused(
        &none,
        &alias,
        "invalid endpoint settings:\nnetwork-scoped alias is supported only for containers in user defined networks",
    );
}

#[test]
fn wished_hardware_addresses() {
    let network = dual();
    let mac = |text: &str| {
        let settings = EndpointSettings {
            mac_address: text.to_owned(),
            ..EndpointSettings::default()
        };
        check_endpoint(&network, &settings).map(|w| w.mac.map(|mac| mac.to_string()))
    };
    for good in ["02:42:ac:11:00:99", "02-42-AC-11-00-99", "0242.ac11.0099"] {
        assert_eq!(
            mac(good).unwrap().as_deref(),
            Some("02:42:ac:11:00:99"),
            "{good}"
        );
    }
    for (bad, message) in [
        ("foo", "invalid MAC address foo"),
        ("02:42:ac:11:00", "invalid MAC address 02:42:ac:11:00"),
        (
            "02:42:ac:11:00:99:00:01",
            "invalid MAC address 02:42:ac:11:00:99:00:01",
        ),
        ("ä42.ac11.0099", "invalid MAC address ä42.ac11.0099"),
        (
            "01:00:5e:00:00:01",
            "invalid MAC address 01:00:5e:00:00:01: a multicast address is no link's",
        ),
        (
            "ff:ff:ff:ff:ff:ff",
            "invalid MAC address ff:ff:ff:ff:ff:ff: a multicast address is no link's",
        ),
        (
            "00:00:00:00:00:00",
            "invalid MAC address 00:00:00:00:00:00: it is all zero",
        ),
    ] {
        assert_eq!(mac(bad).unwrap_err().message(), message);
    }
}

#[test]
fn wished_link_names_and_sysctls() {
    let network = dual();
    let options = |key: &str, value: &str| EndpointSettings {
        driver_opts: Some(BTreeMap::from([(
            format!("com.docker.network.endpoint.{key}"),
            value.to_owned(),
        )])),
        ..EndpointSettings::default()
    };
    let wishes = check_endpoint(&network, &options("ifname", "foo0")).unwrap();
    assert_eq!(wishes.ifname.as_deref(), Some("foo0"));
    assert_eq!(
        check_endpoint(&network, &options("ifname", ""))
            .unwrap()
            .ifname,
        None
    );
    for bad in ["a/b", "aaaaaaaaaaaaaaaa", "lo", "e%d", ".."] {
        let error = check_endpoint(&network, &options("ifname", bad)).unwrap_err();
        let start = format!("invalid endpoint settings:\ninvalid interface name {bad:?}: must be");
        assert!(error.message().starts_with(&start), "{error}");
    }
    let two = "net.ipv4.conf.IFNAME.log_martians=1,net.ipv6.conf.IFNAME.accept_ra=0";
    let wishes = check_endpoint(&network, &options("sysctls", two)).unwrap();
    let expected = [
        ("net.ipv4.conf.IFNAME.log_martians", "1"),
        ("net.ipv6.conf.IFNAME.accept_ra", "0"),
    ];
    assert_eq!(
        wishes.sysctls,
        expected.map(|(name, value)| (name.to_owned(), value.to_owned()))
    );
    for bad in [
        "net.ipv4.conf.eth0.log_martians=1",
        "net.ipv4.ip_forward=1",
        "kernel.IFNAME.x=1",
        "net/ipv4/conf/IFNAME/log_martians=1",
        "net.ipv4.conf/../..IFNAME.x=1",
        "net.ipv4.IFNAME.x=61",
        "",
    ] {
        let error = check_endpoint(&network, &options("sysctls", bad)).unwrap_err();
        assert_eq!(
            error.message(),
            format!(
                "invalid endpoint settings:\nunrecognised network interface sysctl '{bad}'; represent 'net.X.Y.ethN.Z=V' as 'net.X.Y.IFNAME.Z=V', 'X' must be 'ipv4', 'ipv6' or 'mpls'"
            )
        );
    }
    for (bad, format) in [
        ("net.ipv4.conf.IFNAME.log_martians", "name=value"),
        ("net.ipv4.conf.IFNAME.../../x=1", "net.X.Y.IFNAME.Z"),
    ] {
        let error = check_endpoint(&network, &options("sysctls", bad)).unwrap_err();
        assert_eq!(
            error.message(),
            format!(
                "invalid endpoint settings:\n{}",
                expected_format(bad, format)
            )
        );
    }
}

fn expected_format(entry: &str, format: &str) -> String {
    format!("expected sysctl '{entry}' to have format {format}")
}
