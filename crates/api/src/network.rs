//! Networks.

use std::collections::BTreeMap;

use serde_json::Value;

use crate::wire::wire;

/// What is said of a container's networks, by their names.
///
/// Boxed: a node of a map has room for eleven of them, and each is long.
pub type Endpoints = BTreeMap<String, Option<Box<EndpointSettings>>>;

wire! {
    /// An address with its prefix length.
    #[derive(Eq)]
    pub struct Address {
        /// Address.
        "Addr" => addr: String,
        /// Prefix length.
        "PrefixLen" => prefix_len: i64,
    }

    /// Networks that a new container is connected to.
    pub struct NetworkingConfig {
        /// Endpoints by network name or id; `null` is an endpoint without wishes.
        "EndpointsConfig" => endpoints_config: Option<Endpoints>,
    }

    /// A container's connection to a network: wishes and state.
    #[derive(Eq)]
    pub struct EndpointSettings {
        /// Wished addresses.
        "IPAMConfig" => ipam_config: Option<EndpointIpamConfig>,
        /// Legacy links.
        "Links" => links: Option<Vec<String>>,
        /// Further names in the network.
        "Aliases" => aliases: Option<Vec<String>>,
        /// MAC address.
        "MacAddress" => mac_address: String,
        /// Options of the driver.
        "DriverOpts" => driver_opts: Option<BTreeMap<String, String>>,
        /// The highest becomes the default gateway.
        "GwPriority" => gw_priority: i64,
        /// Network id.
        "NetworkID" => network_id: String,
        /// Endpoint id.
        "EndpointID" => endpoint_id: String,
        /// Gateway.
        "Gateway" => gateway: String,
        /// IPv4 address.
        "IPAddress" => ip_address: String,
        /// Its prefix length.
        "IPPrefixLen" => ip_prefix_len: i64,
        /// IPv6 gateway.
        "IPv6Gateway" => ipv6_gateway: String,
        /// IPv6 address.
        "GlobalIPv6Address" => global_ipv6_address: String,
        /// Its prefix length.
        "GlobalIPv6PrefixLen" => global_ipv6_prefix_len: i64,
        /// Names that the embedded DNS server answers for.
        "DNSNames" => dns_names: Option<Vec<String>>,
    }

    /// Wished addresses of an endpoint.
    #[derive(Eq)]
    pub struct EndpointIpamConfig {
        /// IPv4 address.
        "IPv4Address" [omitempty] => ipv4_address: String,
        /// IPv6 address.
        "IPv6Address" [omitempty] => ipv6_address: String,
        /// Link-local addresses.
        "LinkLocalIPs" [omitempty] => link_local_ips: Vec<String>,
    }

    /// A network, in lists and alone.
    pub struct Network {
        /// Name.
        "Name" => name: String,
        /// Id.
        "Id" => id: String,
        /// Time of creation, RFC 3339.
        "Created" => created: String,
        /// `local`, `global` or `swarm`.
        "Scope" => scope: String,
        /// Driver.
        "Driver" => driver: String,
        /// Whether it has IPv4.
        "EnableIPv4" => enable_ipv4: bool,
        /// Whether it has IPv6.
        "EnableIPv6" => enable_ipv6: bool,
        /// Address management.
        "IPAM" => ipam: Ipam,
        /// Whether it has no way out.
        "Internal" => internal: bool,
        /// Whether plain containers may join a swarm network.
        "Attachable" => attachable: bool,
        /// Whether it is the swarm's routing mesh.
        "Ingress" => ingress: bool,
        /// Network whose configuration it uses.
        "ConfigFrom" => config_from: ConfigReference,
        /// Whether it is only a configuration.
        "ConfigOnly" => config_only: bool,
        /// Endpoints by container id.
        "Containers" => containers: Option<BTreeMap<String, EndpointResource>>,
        /// Options of the driver.
        "Options" => options: Option<BTreeMap<String, String>>,
        /// Labels.
        "Labels" => labels: Option<BTreeMap<String, String>>,
        /// Peers of an overlay network.
        "Peers" [omitempty] => peers: Vec<Value>,
        /// Services of an overlay network.
        "Services" [omitempty] => services: BTreeMap<String, Value>,
    }

    /// An endpoint in a network.
    #[derive(Eq)]
    pub struct EndpointResource {
        /// Container name.
        "Name" => name: String,
        /// Endpoint id.
        "EndpointID" => endpoint_id: String,
        /// MAC address.
        "MacAddress" => mac_address: String,
        /// IPv4 address with prefix length.
        "IPv4Address" => ipv4_address: String,
        /// IPv6 address with prefix length.
        "IPv6Address" => ipv6_address: String,
    }

    /// Address management of a network.
    #[derive(Eq)]
    pub struct Ipam {
        /// Driver.
        "Driver" => driver: String,
        /// Options of the driver.
        "Options" => options: Option<BTreeMap<String, String>>,
        /// Subnets.
        "Config" => config: Option<Vec<IpamConfig>>,
    }

    /// A subnet of a network.
    #[derive(Eq)]
    pub struct IpamConfig {
        /// Subnet.
        "Subnet" [omitempty] => subnet: String,
        /// Range for containers.
        "IPRange" [omitempty] => ip_range: String,
        /// Gateway.
        "Gateway" [omitempty] => gateway: String,
        /// Addresses that are kept out.
        "AuxiliaryAddresses" [omitempty] => auxiliary_addresses: BTreeMap<String, String>,
    }

    /// A reference to a configuration-only network.
    #[derive(Eq)]
    pub struct ConfigReference {
        /// Name.
        "Network" => network: String,
    }

    /// The body of `POST /networks/create`.
    #[derive(Eq)]
    pub struct CreateRequest {
        /// Name.
        "Name" => name: String,
        /// Obsolete; older clients send it.
        "CheckDuplicate" [omitempty] => check_duplicate: Option<bool>,
        /// Driver; empty for `bridge`.
        "Driver" => driver: String,
        /// Scope.
        "Scope" => scope: String,
        /// Whether it has IPv4; `None` for yes.
        "EnableIPv4" [omitempty] => enable_ipv4: Option<bool>,
        /// Whether it has IPv6; `None` for the engine's default.
        "EnableIPv6" [omitempty] => enable_ipv6: Option<bool>,
        /// Address management.
        "IPAM" => ipam: Option<Ipam>,
        /// Whether it has no way out.
        "Internal" => internal: bool,
        /// Whether plain containers may join a swarm network.
        "Attachable" => attachable: bool,
        /// Whether it is the swarm's routing mesh.
        "Ingress" => ingress: bool,
        /// Whether it is only a configuration.
        "ConfigOnly" => config_only: bool,
        /// Network whose configuration it uses.
        "ConfigFrom" => config_from: Option<ConfigReference>,
        /// Options of the driver.
        "Options" => options: Option<BTreeMap<String, String>>,
        /// Labels.
        "Labels" => labels: Option<BTreeMap<String, String>>,
    }

    /// The answer of `POST /networks/create`.
    #[derive(Eq)]
    pub struct CreateResponse {
        /// Id.
        "Id" => id: String,
        /// Warning.
        "Warning" => warning: String,
    }

    /// The body of `POST /networks/{id}/connect`.
    #[derive(Eq)]
    pub struct ConnectRequest {
        /// Container.
        "Container" => container: String,
        /// Wishes.
        "EndpointConfig" [omitempty] => endpoint_config: Option<EndpointSettings>,
    }

    /// The body of `POST /networks/{id}/disconnect`.
    #[derive(Eq)]
    pub struct DisconnectRequest {
        /// Container.
        "Container" => container: String,
        /// Whether a broken endpoint is removed too.
        "Force" => force: bool,
    }

    /// The answer of `POST /networks/prune`.
    #[derive(Eq)]
    pub struct PruneReport {
        /// Names.
        "NetworksDeleted" => networks_deleted: Option<Vec<String>>,
    }
}
