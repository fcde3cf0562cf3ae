//! `gorae diff`.

use super::container_path;
use crate::args::{Call, Operands, Verb};
use crate::failure::Failure;
use crate::{connect, output};
use api::archive::Change;

pub(crate) static VERB: Verb = Verb {
    about: "Inspect changes to files or directories on a container's filesystem",
    usage: "CONTAINER",
    operands: Operands::between(1, 1),
    flags: &[],
    examples: &[(
        "diff web",
        "List what a container has changed (C), added (A) and deleted (D)",
    )],
    run: |call| Box::pin(run(call)),
};

async fn run(call: &Call) -> anyhow::Result<u8> {
    let name = call.operands[0].trim();
    if name.is_empty() {
        return Err(Failure::message("invalid container name or ID: value is empty").into());
    }
    connect::ready(&call.client, &call.globals).await?;
    let request = call.client.get(&container_path(name, "/changes"));
    let changes: Option<Vec<Change>> = request.fetch().await?;
    for Change { path, kind } in changes.unwrap_or_default() {
        let letter = match kind {
            0 => 'C',
            1 => 'A',
            _ => 'D',
        };
        output::line(format!("{letter} {path}"))?;
    }
    Ok(0)
}
