//! Lists of networks.

use api::Filters;
use api::network::Network;

use super::net::Net;
use crate::engine::Engine;
use crate::error::{Error, Result};
use crate::filter;

impl Engine {
    /// Lists networks.
    ///
    /// # Errors
    /// When a filter is unknown or malformed.
    pub fn network_list(&self, filters: &Filters) -> Result<Vec<Network>> {
        filters.validate(&["dangling", "driver", "id", "label", "name", "scope", "type"])?;
        let dangling = filters
            .contains("dangling")
            .then(|| dangling(filters))
            .transpose()?;
        let mut kinds = filters.get("type");
        if let Some(kind) = kinds.find(|kind| !["builtin", "custom"].contains(kind)) {
            return Err(Error::invalid(format!("invalid filter: 'type'='{kind}'")));
        }
        let all = self.networks.all();
        let meant = all.iter().filter(|net| matches(filters, net));
        Ok(meant
            .filter(|net| dangling.is_none_or(|wanted| wanted == is_dangling(net)))
            .map(|net| net.record.shown())
            .collect())
    }
}

/// Reads the filter `dangling`, with its refusals in dockerd's words.
fn dangling(filters: &Filters) -> Result<bool> {
    if filters.get("dangling").count() > 1 {
        let why = "got more than one value for filter key \"dangling\"";
        return Err(Error::invalid(why));
    }
    filters.bool_or("dangling", false).map_err(|_| {
        Error::invalid(
            "invalid value for filter 'dangling', must be \"true\" (or \"1\"), or \"false\" (or \"0\")",
        )
    })
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
