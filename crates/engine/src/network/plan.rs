//! stub
use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use api::network::{CreateRequest, EndpointSettings, Network};
use jiff::Timestamp;
use network::{AddressPool, GatewayMode, IpvlanMode, MacAddress, MacvlanMode, Subnet};
use serde::{Deserialize, Serialize};
use crate::error::Result;
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) enum Driver { #[default] Bridge, Host, Null, Macvlan, Ipvlan }
impl Driver { pub(crate) fn word(self) -> &'static str { "bridge" } }
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) struct IpamRecord { pub(crate) subnet: Subnet, pub(crate) range: Option<Subnet>, pub(crate) gateway: Option<IpAddr>, pub(crate) aux: BTreeMap<String, IpAddr> }
impl IpamRecord { pub(crate) fn of(subnet: Subnet) -> Self { Self { subnet, range: None, gateway: None, aux: BTreeMap::new() } } }
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub(crate) struct NetworkRecord { pub(crate) id: String, pub(crate) name: String, pub(crate) created: Timestamp, pub(crate) driver: Driver, pub(crate) v4: Option<IpamRecord>, pub(crate) v6: Option<IpamRecord>, pub(crate) internal: bool, pub(crate) options: BTreeMap<String, String>, pub(crate) labels: BTreeMap<String, String>, pub(crate) settings: Settings }
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub(crate) struct Settings { pub(crate) bridge: String, pub(crate) mtu: u32, pub(crate) icc: bool, pub(crate) masquerade: bool, pub(crate) mode4: GatewayMode, pub(crate) mode6: GatewayMode, pub(crate) host_binding: Option<IpAddr>, pub(crate) snat4: Option<IpAddr>, pub(crate) snat6: Option<IpAddr>, pub(crate) inhibit_v4: bool, pub(crate) parent: Option<String>, pub(crate) macvlan_mode: MacvlanMode, pub(crate) ipvlan_mode: IpvlanMode, pub(crate) interface_prefix: String }
pub(crate) struct Taken<'a> { pub(crate) networks: &'a [NetworkRecord], pub(crate) host: &'a [(Subnet, String)], pub(crate) pools: &'a [AddressPool], pub(crate) ula: AddressPool, pub(crate) mtu: u32 }
pub(crate) fn plan(_request: &CreateRequest, _taken: &Taken<'_>) -> Result<NetworkRecord> { todo!() }
#[derive(Clone, Debug, Default)]
pub(crate) struct Wishes { pub(crate) v4: Option<Ipv4Addr>, pub(crate) v6: Option<Ipv6Addr>, pub(crate) link_local: Vec<IpAddr>, pub(crate) mac: Option<MacAddress>, pub(crate) aliases: Vec<String>, pub(crate) sysctls: Vec<(String, String)>, pub(crate) ifname: Option<String>, pub(crate) gw_priority: i64 }
pub(crate) fn check_endpoint(_network: &NetworkRecord, _settings: &EndpointSettings) -> Result<Wishes> { todo!() }
pub(crate) fn shown(_network: &NetworkRecord) -> Network { todo!() }
