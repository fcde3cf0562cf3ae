//! Lists of networks.

use api::Filters;
use api::network::Network;

use super::net::Net;
use crate::engine::Engine;
use crate::error::Result;
use crate::filter;

impl Engine {
    /// Lists networks.
    ///
    /// # Errors
    /// When a filter is unknown or malformed.
    pub fn network_list(&self, filters: &Filters) -> Result<Vec<Network>> {
        filters.validate(&["dangling", "driver", "id", "label", "name", "scope", "type"])?;
        let dangling = if filters.contains("dangling") {
            Some(filters.bool_or("dangling", false)?)
        } else {
            None
        };
        let all = self.networks.all();
        let meant = all.iter().filter(|net| matches(filters, net));
        Ok(meant
            .filter(|net| dangling.is_none_or(|wanted| wanted == is_dangling(net)))
            .map(|net| net.record.shown())
            .collect())
    }
}

fn is_dangling(net: &Net) -> bool {
    !net.is_predefined() && !net.is_used()
}

fn matches(filters: &Filters, net: &Net) -> bool {
    let kind = if net.is_predefined() {
        "builtin"
    } else {
        "custom"
    };
    filters.exact("driver", &net.record.driver.to_string())
        && filters.prefix("id", net.id())
        && filters.exact("scope", "local")
        && filter::pattern(filters, "name", net.name())
        && (!filters.contains("type") || filters.get("type").any(|t| t == kind))
        && filter::labels(filters, Some(&net.record.labels))
}
