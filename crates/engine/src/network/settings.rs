//! A container's networks as clients see them.

use std::collections::BTreeMap;
use std::net::IpAddr;

use api::network::{EndpointSettings, Endpoints};

use super::Networks;
use super::connection::{Connection, Endpoint};
use super::names::{dns_names, settings_of};
use super::net::Net;
use super::plan::check_endpoint;
use crate::container::Record;
use crate::error::Result;

impl Networks {
    /// The networks of a container as clients see them.
    pub(crate) fn endpoints_of(
        &self,
        record: &Record,
        connection: Option<&Connection>,
    ) -> Endpoints {
        let mode = record.host.network_mode.as_str();
        let builtin = matches!(mode, "host" | "none").then_some(mode);
        let mut shown = BTreeMap::new();
        for name in builtin
            .into_iter()
            .chain(record.endpoints.keys().map(String::as_str))
        {
            let Ok(net) = self.find(name) else {
                // removed meanwhile; what was asked for is still to be seen
                let wanted = record.endpoints.get(name).cloned().flatten();
                shown.insert(name.to_owned(), Some(wanted.unwrap_or_default()));
                continue;
            };
            let endpoint = connection.and_then(|c| c.endpoint(net.id()));
            let settings = settings(record, &net, endpoint);
            shown
                .entry(net.name().to_owned())
                .or_insert(Some(Box::new(settings)));
        }
        shown
    }

    /// What a client asks of networks, by their names where it gave ids; those that do not exist
    /// are told at the start, as with Docker. From then on this is the list of a container's networks;
    /// its mode is only what it was made with.
    pub(crate) fn by_name(&self, mode: &str, endpoints: Endpoints) -> Endpoints {
        let name = |key: String| match key.as_str() {
            // Docker's command line names the network of its mode so
            "default" => "bridge".to_owned(),
            _ => self.find(&key).map_or(key, |net| net.name().to_owned()),
        };
        if matches!(mode, "host" | "none") || mode.starts_with("container:") {
            return BTreeMap::new();
        }
        let named = endpoints
            .into_iter()
            .map(|(key, settings)| (name(key), settings));
        let mut all: BTreeMap<_, _> = named.collect();
        // the network of the mode is one of them, whether or not the client says so
        all.entry(name(mode.to_owned())).or_default();
        all
    }

    /// Refuses wishes that the networks cannot meet.
    pub(crate) fn check_endpoints(&self, endpoints: &Endpoints) -> Result<()> {
        for (name, settings) in endpoints {
            if let (Ok(net), Some(settings)) = (self.find(name), settings) {
                check_endpoint(&net.record, settings)
                    .map_err(|e| e.context(format!("invalid config for network {name}")))?;
            }
        }
        Ok(())
    }

    /// Whether a container refers to a network.
    pub(crate) fn is_on(&self, record: &Record, net: &Net) -> bool {
        let is = |name: &str| name == net.name() || name == net.id();
        let builtin = net.is_predefined() && net.name() != "bridge";
        (builtin && is(&record.host.network_mode)) || record.endpoints.keys().any(|name| is(name))
    }

    /// Whether a container refers to a network of this name, id or beginning of an id.
    pub(crate) fn is_on_any(&self, record: &Record, text: &str) -> bool {
        let all = self.all();
        let meant = |net: &&std::sync::Arc<Net>| net.name() == text || net.id().starts_with(text);
        all.iter().filter(meant).any(|net| self.is_on(record, net))
    }
}

fn settings(record: &Record, net: &Net, endpoint: Option<&Endpoint>) -> EndpointSettings {
    let mut settings = settings_of(record, net.name(), net.id())
        .cloned()
        .unwrap_or_default();
    net.id().clone_into(&mut settings.network_id);
    if net.has_names() {
        settings.dns_names = Some(dns_names(record, net.name(), net.id()));
    }
    let Some(endpoint) = endpoint else {
        return settings;
    };
    let attached = &endpoint.attached;
    let text = |ip: Option<IpAddr>| ip.map(|ip| ip.to_string()).unwrap_or_default();
    settings.endpoint_id.clone_from(&attached.id);
    settings.mac_address.clone_from(&attached.mac);
    settings.gateway = text(
        net.gateway(false)
            .filter(|_| attached.address(false).is_some()),
    );
    settings.ip_address = text(attached.address(false));
    settings.ip_prefix_len = attached
        .address(false)
        .map_or(0, |_| net.prefix(false).into());
    settings.ipv6_gateway = text(
        net.gateway(true)
            .filter(|_| attached.address(true).is_some()),
    );
    settings.global_ipv6_address = text(attached.address(true));
    settings.global_ipv6_prefix_len = attached
        .address(true)
        .map_or(0, |_| net.prefix(true).into());
    settings.gw_priority = attached.priority;
    settings
}
