//! `gorae manifest create`.

use super::fetch::{self, Named};
use super::store::Store;
use crate::args::{Call, Flag, Operands, Verb};
use crate::failure::Failure;
use crate::{output, remote};

pub(crate) static VERB: Verb = Verb {
    about: "Create a local manifest list for annotating and pushing to a registry",
    usage: "MANIFEST_LIST MANIFEST [MANIFEST...]",
    operands: Operands::at_least(2),
    flags: &[&[
        Flag::switch("amend", "Amend an existing manifest list").short('a'),
        Flag::switch("insecure", remote::INSECURE),
    ]],
    examples: &[(
        "manifest create r.example.org/app:1 r.example.org/app:1-amd64 r.example.org/app:1-arm64",
        "Put two images under one name",
    )],
    run: |call| Box::pin(run(call)),
};

async fn run(call: &Call) -> anyhow::Result<u8> {
    let (first, rest) = call.operands.split_at(1);
    let list = remote::reference(&first[0]).map_err(|error| {
        Failure::message(format!(
            "error parsing name for manifest list {}: {error}",
            first[0]
        ))
    })?;
    let store = Store::open(&call.globals)?;
    if store.list(&list)?.is_some() && !call.on("amend") {
        let text = "refusing to amend an existing manifest list with no --amend flag";
        return Err(Failure::message(text).into());
    }
    for text in rest {
        let reference = remote::reference(text)?;
        let known = store.get(&list, &reference)?;
        if known.is_some_and(|entry| !entry.raw.is_empty()) {
            continue;
        }
        let insecure = call.on("insecure");
        let repository = remote::repository(&call.globals, &reference, insecure).await?;
        let Named::Manifest(entry) = fetch::named(&repository, &reference).await? else {
            return Err(Failure::message(format!("{reference} is a manifest list")).into());
        };
        store.save(&list, &reference, &entry)?;
    }
    output::line(format!("Created manifest list {list}"))?;
    Ok(0)
}
