//! `gorae top`.

use super::container_path;
use crate::args::{Call, Operands, Verb};
use crate::{connect, output, tabwriter};
use api::container::TopResponse;

pub(crate) static VERB: Verb = Verb {
    about: "Display the running processes of a container",
    usage: "CONTAINER [ps OPTIONS]",
    operands: Operands::verbatim(1),
    flags: &[],
    examples: &[
        ("top web", "List a container's processes"),
        ("top web -o pid,cmd", "Choose the columns"),
    ],
    run: |call| Box::pin(run(call)),
};

/// Docker lays this one table out wider than the others.
const LEAST: usize = 20;

async fn run(call: &Call) -> anyhow::Result<u8> {
    connect::ready(&call.client, &call.globals).await?;
    let options = call.operands[1..].join(" ");
    let request = call.client.get(&container_path(&call.operands[0], "/top"));
    let top: TopResponse = request
        .query_opt("ps_args", (!options.is_empty()).then_some(options))
        .fetch()
        .await?;
    let mut table = top.titles.unwrap_or_default().join("\t");
    for process in top.processes.unwrap_or_default() {
        table.push('\n');
        table.push_str(&process.join("\t"));
    }
    table.push('\n');
    output::raw(tabwriter::align_with(&table, LEAST).as_bytes())?;
    Ok(0)
}
