//! `gorae volume ls`.

use super::{FILTER, FORMAT};
use crate::args::{Call, Flag, Operands, Verb};
use crate::format::{Format, Listing, Row, natural};
use crate::output::complain;
use crate::{connect, filter, output, units};
use api::volume::{ListResponse, Volume};

pub(crate) static VERB: Verb = Verb {
    about: "List volumes",
    usage: "[OPTIONS]",
    operands: Operands::NONE,
    flags: &[&[
        FILTER,
        FORMAT,
        Flag::switch("quiet", "Only display volume names").short('q'),
    ]],
    examples: &[(
        "volume ls -f dangling=true",
        "List volumes that no container uses",
    )],
    run: |call| Box::pin(run(call)),
};

pub(crate) static LISTING: Listing = Listing {
    go_type: "formatter.volumeContext",
    headers: &[
        ("Name", "VOLUME NAME"),
        ("Driver", "DRIVER"),
        ("Scope", "SCOPE"),
        ("Mountpoint", "MOUNTPOINT"),
        ("Labels", "LABELS"),
        ("Links", "LINKS"),
        ("Size", "SIZE"),
        ("Availability", "AVAILABILITY"),
        ("Group", "GROUP"),
        ("Status", "STATUS"),
    ],
    table: "{{.Driver}}\t{{.Name}}",
};

async fn run(call: &Call) -> anyhow::Result<u8> {
    let format = Format::read(
        &LISTING,
        call.text("format"),
        call.on("quiet").then_some("{{.Name}}"),
    )?;
    let filters = filter::from_flags(call)?;
    connect::ready(&call.client, &call.globals).await?;
    let request = call
        .client
        .get("/volumes")
        .query_opt("filters", filter::parameter(&filters));
    let answer: ListResponse = request.fetch().await?;
    for warning in answer.warnings.unwrap_or_default() {
        complain(format!("WARNING: {warning}"));
    }
    let mut volumes = answer.volumes.unwrap_or_default();
    volumes.sort_by(|a, b| natural(&a.name, &b.name));
    let rows: Vec<Row> = volumes.iter().map(row).collect();
    output::raw(format.render(&LISTING, &rows)?.as_bytes())?;
    Ok(0)
}

/// A volume as a row.
pub(crate) fn row(volume: &Volume) -> Row {
    let (links, size) = match &volume.usage_data {
        Some(usage) => (usage.ref_count.to_string(), units::size(usage.size)),
        None => ("N/A".to_owned(), "N/A".to_owned()),
    };
    Row::new(&LISTING)
        .with("Name", volume.name.as_str())
        .with("Driver", volume.driver.as_str())
        .with("Scope", volume.scope.as_str())
        .with("Mountpoint", volume.mountpoint.as_str())
        .with("Links", links)
        .with("Size", size)
        .with("Availability", "N/A")
        .with("Group", "N/A")
        .with("Status", "N/A")
        .with_labels(volume.labels.clone().unwrap_or_default())
}
