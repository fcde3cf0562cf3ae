//! Networks as clients see them.

use super::*;

#[test]
fn a_network_as_clients_see_it() {
    let mut network = shown(
        json!({"Attachable": true, "Labels": {"": "x", "a": "b"}, "EnableIPv6": true,
        "Options": {"com.docker.network.driver.mtu": "1400", "foo": "bar"},
        "IPAM": {"Config": [{"Subnet": "10.92.31.0/24"}, {"Subnet": "fd98::/64", "IPRange": "FD98:0::/65", "Gateway": "FD98:0::7", "AuxiliaryAddresses": {"x": "FD98:0::8"}}]}}),
    );
    assert_eq!(network["Id"].as_str().unwrap().len(), 64);
    assert!(network["Created"].as_str().unwrap().ends_with('Z'));
    network
        .as_object_mut()
        .unwrap()
        .retain(|key, _| key != "Id" && key != "Created");
    assert_eq!(
        network,
        json!({"Name": "n1", "Scope": "local", "Driver": "bridge", "EnableIPv4": true, "EnableIPv6": true,
            "IPAM": {"Driver": "default", "Options": null, "Config": [{"Subnet": "10.92.31.0/24"}, {"Subnet": "fd98::/64", "IPRange": "FD98:0::/65", "Gateway": "FD98:0::7", "AuxiliaryAddresses": {"x": "FD98:0::8"}}]},
            "Internal": false, "Attachable": true, "Ingress": false, "ConfigFrom": {"Network": ""}, "ConfigOnly": false, "Containers": {},
            "Options": {"com.docker.network.driver.mtu": "1400", "foo": "bar"}, "Labels": {"": "x", "a": "b"}})
    );
    let host = NetworkRecord::builtin(Driver::Host, draw_id().unwrap(), Timestamp::now()).shown();
    let host = serde_json::to_value(&host).unwrap();
    assert_eq!(
        host["IPAM"],
        json!({"Driver": "default", "Options": null, "Config": null})
    );
    assert_eq!(host["Name"], "host");
}

#[test]
fn the_default_bridge_as_clients_see_it() {
    let record = NetworkRecord::default_bridge(
        DefaultBridge {
            bridge: "gorae0".to_owned(),
            v4: Some(IpamRecord {
                subnet: "172.17.0.0/16".parse().unwrap(),
                range: None,
                gateway: "172.17.0.1".parse().ok(),
                aux: BTreeMap::new(),
            }),
            v6: None,
            mtu: 1500,
            icc: true,
            publish: [0, 0, 0, 0].into(),
        },
        draw_id().unwrap(),
        Timestamp::now(),
    );
    let stored = serde_json::to_vec(&record).unwrap();
    assert_eq!(
        serde_json::from_slice::<NetworkRecord>(&stored).unwrap(),
        record
    );
    let shown = serde_json::to_value(record.shown()).unwrap();
    assert_eq!(
        shown["IPAM"]["Config"],
        json!([{"Subnet": "172.17.0.0/16", "Gateway": "172.17.0.1"}])
    );
    assert_eq!(
        shown["Options"],
        json!({"com.docker.network.bridge.default_bridge": "true", "com.docker.network.bridge.enable_icc": "true",
            "com.docker.network.bridge.enable_ip_masquerade": "true", "com.docker.network.bridge.host_binding_ipv4": "0.0.0.0",
            "com.docker.network.bridge.name": "gorae0", "com.docker.network.driver.mtu": "1500"})
    );
}
