//! `gorae builder du`.

use builder::client::{self, CacheRecord};

use super::FILTER;
use crate::args::{Call, Flag, Operands, Verb};
use crate::build::connection;
use crate::failure::Failure;
use crate::tabwriter;
use crate::{connect, output, units};

pub(crate) static VERB: Verb = Verb {
    about: "Show what builds keep on disk",
    usage: "[OPTIONS]",
    operands: Operands::NONE,
    flags: &[&[
        FILTER,
        Flag::switch("verbose", "Show all that is known of each record"),
    ]],
    examples: &[("builder du", "List the cache, with what it takes")],
    run: |call| Box::pin(du(call)),
};

/// `name=value` as BuildKit's filters want it.
fn filters(call: &Call) -> Result<Vec<String>, Failure> {
    call.list("filter")
        .into_iter()
        .map(|filter| match filter.split_once('=') {
            // a time is given as an age, in Go's form
            Some(("until", age)) => {
                let age = units::parse_duration(age).map_err(Failure::message)?;
                Ok(format!("until={}ms", age / 1_000_000))
            }
            Some((name @ ("inuse" | "shared" | "mutable" | "immutable" | "private"), value)) => {
                let not = if value == "false" { "!" } else { "" };
                Ok(format!("{not}{name}"))
            }
            Some((name, value)) => Ok(format!("{name}=={value}")),
            None => Ok(filter.to_owned()),
        })
        .collect()
}

async fn du(call: &Call) -> anyhow::Result<u8> {
    connect::ready(&call.client, &call.globals).await?;
    let control = connection::control(&call.client).await?;
    let mut records = client::disk_usage(control, filters(call)?).await?;
    records.sort_by_key(|record| std::cmp::Reverse(record.size));
    if call.on("verbose") {
        for record in &records {
            verbose(record)?;
        }
    } else {
        table(&records)?;
    }
    let total = |of: &dyn Fn(&&CacheRecord) -> bool| -> i64 {
        records.iter().filter(of).map(|record| record.size).sum()
    };
    let free = total(&|record| !record.in_use && !record.shared);
    output::line(format!("Reclaimable:\t{}", units::size(free)))?;
    output::line(format!("Total:\t\t{}", units::size(total(&|_| true))))?;
    Ok(0)
}

fn table(records: &[CacheRecord]) -> anyhow::Result<()> {
    let mut table = "ID\tRECLAIMABLE\tSIZE\tLAST ACCESSED\n".to_owned();
    for record in records {
        let mark = if record.mutable { "*" } else { "" };
        let used = record
            .last_used
            .map_or_else(String::new, |at| units::ago(at.as_second()));
        let (free, size) = (!record.in_use, units::size(record.size));
        table.push_str(&format!("{}{mark}\t{free}\t{size}\t{used}\n", record.id));
    }
    output::raw(tabwriter::align(&table).as_bytes())?;
    Ok(())
}

fn verbose(record: &CacheRecord) -> anyhow::Result<()> {
    let time = |at: Option<jiff::Timestamp>| at.map_or_else(String::new, |at| at.to_string());
    let lines = [
        ("ID", record.id.clone()),
        ("Parents", record.parents.join(", ")),
        ("Created at", time(record.created)),
        ("Mutable", record.mutable.to_string()),
        ("Reclaimable", (!record.in_use).to_string()),
        ("Shared", record.shared.to_string()),
        ("Size", units::size(record.size)),
        ("Description", record.description.clone()),
        ("Usage count", record.uses.to_string()),
        ("Last used", time(record.last_used)),
        ("Type", record.kind.clone()),
    ];
    for (name, value) in lines.iter().filter(|(_, value)| !value.is_empty()) {
        output::line(format!("{name}:\t{value}"))?;
    }
    output::line("")?;
    Ok(())
}
