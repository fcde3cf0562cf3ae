//! `gorae volume create`.

use crate::args::{Call, Flag, Operands, Verb};
use crate::failure::Failure;
use crate::{connect, output};
use api::volume::{CreateRequest, Volume};
use std::collections::BTreeMap;

pub(crate) static VERB: Verb = Verb {
    about: "Create a volume",
    usage: "[OPTIONS] [VOLUME]",
    operands: Operands::between(0, 1),
    flags: &[&[
        Flag::one(
            "driver",
            "string",
            "Specify volume driver name (default \"local\")",
        )
        .short('d'),
        Flag::many("label", "list", "Set metadata for a volume"),
        Flag::one("name", "string", "Specify volume name").hidden(),
        Flag::many("opt", "map", "Set driver specific options").short('o'),
    ]],
    examples: &[(
        "volume create data",
        "Make a volume to mount with 'run -v data:/path'",
    )],
    run: |call| Box::pin(run(call)),
};

async fn run(call: &Call) -> anyhow::Result<u8> {
    let name = match (call.operands.first(), call.text("name")) {
        (Some(_), Some(_)) => {
            return Err(Failure::message("conflicting options: cannot specify a volume-name through both --name and as a positional arg").into());
        }
        (Some(name), None) => name.clone(),
        (None, name) => name.unwrap_or_default().to_owned(),
    };
    let map = |flag: &str| -> BTreeMap<String, String> {
        let pairs = call
            .list(flag)
            .into_iter()
            .map(|text| text.split_once('=').unwrap_or((text, "")));
        pairs
            .map(|(key, value)| (key.to_owned(), value.to_owned()))
            .collect()
    };
    let request = CreateRequest {
        name,
        driver: call.text("driver").unwrap_or("local").to_owned(),
        driver_opts: map("opt"),
        labels: map("label"),
        ..CreateRequest::default()
    };
    connect::ready(&call.client, &call.globals).await?;
    let volume: Volume = call
        .client
        .post("/volumes/create")
        .json(&request)
        .fetch()
        .await?;
    output::line(volume.name)?;
    Ok(0)
}
