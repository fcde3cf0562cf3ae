//! `gorae manifest rm`.

use super::store::Store;
use crate::args::{Call, Operands, Verb};
use crate::failure::Failure;
use crate::remote;

pub(crate) static VERB: Verb = Verb {
    about: "Delete one or more manifest lists from local storage",
    usage: "MANIFEST_LIST [MANIFEST_LIST...]",
    operands: Operands::at_least(1),
    flags: &[],
    examples: &[("manifest rm r.example.org/app:1", "Forget a list")],
    run: |call| Box::pin(async { run(call) }),
};

fn run(call: &Call) -> anyhow::Result<u8> {
    let store = Store::open(&call.globals)?;
    let failures: Vec<String> = call
        .operands
        .iter()
        .filter_map(|text| remove(&store, text).err())
        .map(|error| crate::failure::chain(&error))
        .collect();
    match failures.is_empty() {
        true => Ok(0),
        false => Err(Failure::message(failures.join("\n")).into()),
    }
}

fn remove(store: &Store, text: &str) -> anyhow::Result<()> {
    let list = remote::reference(text)?;
    store.need(&list)?;
    store.remove(&list)
}
