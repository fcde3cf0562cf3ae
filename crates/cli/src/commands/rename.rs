//! `gorae rename`.

use super::container_path;
use crate::args::{Call, Operands, Verb};
use crate::connect;
use crate::failure::Failure;

pub(crate) static VERB: Verb = Verb {
    about: "Rename a container",
    usage: "CONTAINER NEW_NAME",
    operands: Operands::between(2, 2),
    flags: &[],
    examples: &[("rename web old-web", "Give a container another name")],
    run: |call| Box::pin(run(call)),
};

async fn run(call: &Call) -> anyhow::Result<u8> {
    let (old, new) = (call.operands[0].trim(), call.operands[1].trim());
    if old.is_empty() || new.is_empty() {
        return Err(Failure::message("Error: Neither old nor new names may be empty").into());
    }
    connect::ready(&call.client, &call.globals).await?;
    call.client
        .post(&container_path(old, "/rename"))
        .query("name", new)
        .run()
        .await?;
    Ok(0)
}
