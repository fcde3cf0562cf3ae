//! Networks as clients see them, and the networks that are there from the start.

use std::collections::BTreeMap;
use std::net::IpAddr;

use api::network::{ConfigReference, Ipam as ApiIpam, IpamConfig, Network};
use jiff::Timestamp;

use super::{Driver, IpamRecord, NetworkRecord, Settings};
use crate::network::options::{
    BRIDGE_NAME, DEFAULT_BRIDGE, ENABLE_ICC, ENABLE_MASQUERADE, HOST_BINDING, MTU,
};

/// What the engine's settings say about the default bridge.
#[derive(Clone, Debug)]
pub(crate) struct DefaultBridge {
    /// The link.
    pub(crate) bridge: String,
    pub(crate) v4: Option<IpamRecord>,
    pub(crate) v6: Option<IpamRecord>,
    pub(crate) mtu: u32,
    pub(crate) icc: bool,
    /// The host's address for published ports that name none.
    pub(crate) publish: IpAddr,
}

impl NetworkRecord {
    /// Makes the record of the network `host` or `none`.
    pub(crate) fn builtin(driver: Driver, id: String, created: Timestamp) -> Self {
        let name = match driver {
            Driver::Null => "none",
            other => other.name(),
        };
        Self {
            id,
            name: name.to_owned(),
            created,
            scope: "local".to_owned(),
            driver,
            v4: None,
            v6: None,
            enable_ipv4: true,
            enable_ipv6: false,
            internal: false,
            attachable: false,
            ingress: false,
            config_only: false,
            config_from: String::new(),
            ipam: ApiIpam {
                driver: "default".to_owned(),
                options: None,
                config: None,
            },
            options: BTreeMap::new(),
            labels: BTreeMap::new(),
            settings: Settings::default(),
            parent_is_ours: false,
        }
    }

    /// Makes the record of the default bridge.
    pub(crate) fn default_bridge(config: DefaultBridge, id: String, created: Timestamp) -> Self {
        let DefaultBridge {
            bridge,
            v4,
            v6,
            mtu,
            icc,
            publish,
        } = config;
        let options = [
            (DEFAULT_BRIDGE, "true".to_owned()),
            (ENABLE_ICC, icc.to_string()),
            (ENABLE_MASQUERADE, "true".to_owned()),
            (HOST_BINDING, publish.to_string()),
            (BRIDGE_NAME, bridge.clone()),
            (MTU, mtu.to_string()),
        ];
        Self {
            enable_ipv4: v4.is_some(),
            enable_ipv6: v6.is_some(),
            ipam: ApiIpam {
                driver: "default".to_owned(),
                options: None,
                config: Some(v4.iter().chain(&v6).map(IpamRecord::shown).collect()),
            },
            v4,
            v6,
            options: options.map(|(key, value)| (key.to_owned(), value)).into(),
            settings: Settings {
                bridge,
                mtu: Some(mtu),
                icc,
                host_binding: Some(publish),
                ..Settings::default()
            },
            ..Self::builtin(Driver::Bridge, id, created)
        }
    }

    /// Shows the network as lists and `inspect` do, without its containers.
    pub(crate) fn shown(&self) -> Network {
        Network {
            name: self.name.clone(),
            id: self.id.clone(),
            created: self.created.to_string(),
            scope: self.scope.clone(),
            driver: self.driver.to_string(),
            enable_ipv4: self.enable_ipv4,
            enable_ipv6: self.enable_ipv6,
            ipam: self.shown_ipam(),
            internal: self.internal,
            attachable: self.attachable,
            ingress: self.ingress,
            config_from: ConfigReference {
                network: self.config_from.clone(),
            },
            config_only: self.config_only,
            containers: Some(BTreeMap::new()),
            options: Some(self.options.clone()),
            labels: Some(self.labels.clone()),
            ..Network::default()
        }
    }

    /// Shows subnets that were given as they were, and behind them those that were chosen; of each
    /// IPv4 comes first.
    fn shown_ipam(&self) -> ApiIpam {
        let mut shown = self.ipam.clone();
        let mut given = shown.config.take().unwrap_or_default();
        given.sort_by_key(|config| config.subnet.contains(':'));
        let is_given = |ipam: &&IpamRecord| {
            let same = |config: &IpamConfig| config.subnet.parse() == Ok(ipam.subnet);
            given.iter().any(same)
        };
        let chosen = self
            .v4
            .iter()
            .chain(&self.v6)
            .filter(|ipam| !is_given(ipam));
        let configs: Vec<_> = given
            .iter()
            .cloned()
            .chain(chosen.map(IpamRecord::shown))
            .collect();
        shown.config = Some(configs).filter(|configs| !configs.is_empty());
        shown
    }
}

impl IpamRecord {
    fn shown(&self) -> IpamConfig {
        let aux = self
            .aux
            .iter()
            .map(|(name, ip)| (name.clone(), ip.to_string()));
        IpamConfig {
            subnet: self.subnet.to_string(),
            ip_range: self
                .range
                .map(|range| range.to_string())
                .unwrap_or_default(),
            gateway: self.gateway.map(|ip| ip.to_string()).unwrap_or_default(),
            auxiliary_addresses: aux.collect(),
        }
    }
}
