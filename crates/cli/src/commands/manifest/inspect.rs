//! `gorae manifest inspect`.

use super::document::{self, Entry};
use super::fetch::{self, Named};
use super::store::{Store, missing};
use crate::args::{Call, Flag, Operands, Verb};
use crate::{output, remote};
use oci::Reference;

pub(crate) static VERB: Verb = Verb {
    about: "Display an image manifest, or manifest list",
    usage: "[OPTIONS] [MANIFEST_LIST] MANIFEST",
    operands: Operands::between(1, 2),
    flags: &[&[
        Flag::switch("insecure", remote::INSECURE),
        Flag::switch(
            "verbose",
            "Output additional info including layers and platform",
        )
        .short('v'),
    ]],
    examples: &[(
        "manifest inspect alpine:3.22",
        "See for which platforms an image is there",
    )],
    run: |call| Box::pin(run(call)),
};

async fn run(call: &Call) -> anyhow::Result<u8> {
    let verbose = call.on("verbose");
    let store = Store::open(&call.globals)?;
    if let [list, manifest] = call.operands.as_slice() {
        let (list, manifest) = (remote::reference(list)?, remote::reference(manifest)?);
        let entry = store.get(&list, &manifest)?;
        return one(&entry.ok_or_else(|| missing(&manifest))?, verbose);
    }
    let reference = remote::reference(&call.operands[0])?;
    if let Some(entries) = store.list(&reference)? {
        return all(&reference, &entries, verbose);
    }
    let repository = remote::repository(&call.globals, &reference, call.on("insecure")).await?;
    match fetch::named(&repository, &reference).await? {
        Named::Manifest(entry) => one(&entry, verbose),
        Named::List(entries) => all(&reference, &entries, verbose),
    }
}

fn one(entry: &Entry, verbose: bool) -> anyhow::Result<u8> {
    let text = match verbose {
        true => document::pretty(entry, b"\t")?,
        false => document::indented(&String::from_utf8(entry.bytes()?)?),
    };
    output::line(text)?;
    Ok(0)
}

fn all(reference: &Reference, entries: &[Entry], verbose: bool) -> anyhow::Result<u8> {
    let text = match verbose {
        true => document::pretty(&entries, b"\t")?,
        false => document::list(reference, entries)?.1,
    };
    output::line(text)?;
    Ok(0)
}
