//! `gorae network ls`.

use super::{FILTER, FORMAT};
use crate::args::{Call, Flag, Operands, Verb};
use crate::format::{Format, Listing, Row, natural, short_id};
use crate::{connect, filter, output, units};
use api::network::Network;

pub(crate) static VERB: Verb = Verb {
    about: "List networks",
    usage: "[OPTIONS]",
    operands: Operands::NONE,
    flags: &[&[
        FILTER,
        FORMAT,
        Flag::switch("no-trunc", "Do not truncate the output"),
        Flag::switch("quiet", "Only display network IDs").short('q'),
    ]],
    examples: &[
        ("network ls", "List networks"),
        (
            "network ls -f driver=bridge --format '{{.Name}} {{.Labels}}'",
            "List those of one driver, with their labels",
        ),
    ],
    run: |call| Box::pin(run(call)),
};

static LISTING: Listing = Listing {
    go_type: "network.networkContext",
    headers: &[
        ("ID", "NETWORK ID"),
        ("Name", "NAME"),
        ("Driver", "DRIVER"),
        ("Scope", "SCOPE"),
        ("IPv4", "IPV4"),
        ("IPv6", "IPV6"),
        ("Internal", "INTERNAL"),
        ("Labels", "LABELS"),
        ("CreatedAt", "CREATED AT"),
    ],
    table: "{{.ID}}\t{{.Name}}\t{{.Driver}}\t{{.Scope}}",
};

async fn run(call: &Call) -> anyhow::Result<u8> {
    let format = Format::read(
        &LISTING,
        call.text("format"),
        call.on("quiet").then_some("{{.ID}}"),
    )?;
    let filters = filter::from_flags(call)?;
    connect::ready(&call.client, &call.globals).await?;
    let request = call
        .client
        .get("/networks")
        .query_opt("filters", filter::parameter(&filters));
    let mut networks: Vec<Network> = request.fetch().await?;
    networks.sort_by(|a, b| natural(&a.name, &b.name));
    let full = call.on("no-trunc");
    let rows: Vec<Row> = networks.iter().map(|network| row(network, full)).collect();
    output::raw(format.render(&LISTING, &rows)?.as_bytes())?;
    Ok(0)
}

fn row(network: &Network, full: bool) -> Row {
    let id = if full {
        network.id.as_str()
    } else {
        short_id(&network.id)
    };
    Row::new(&LISTING)
        .with("ID", id)
        .with("Name", network.name.as_str())
        .with("Driver", network.driver.as_str())
        .with("Scope", network.scope.as_str())
        .with("IPv4", network.enable_ipv4.to_string())
        .with("IPv6", network.enable_ipv6.to_string())
        .with("Internal", network.internal.to_string())
        .with("CreatedAt", units::go_time_of(&network.created))
        .with_labels(network.labels.clone().unwrap_or_default())
}
