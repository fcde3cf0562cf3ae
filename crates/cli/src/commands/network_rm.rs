//! `gorae network rm`.

use super::each;
use crate::args::{Call, Flag, Operands, Verb};
use api::client::encode_component;

pub(crate) static VERB: Verb = Verb {
    about: "Remove one or more networks",
    usage: "NETWORK [NETWORK...]",
    operands: Operands::at_least(1),
    flags: &[&[Flag::switch("force", "Do not error if the network does not exist").short('f')]],
    examples: &[(
        "network rm front back",
        "Remove networks that no container uses",
    )],
    run: |call| Box::pin(run(call)),
};

async fn run(call: &Call) -> anyhow::Result<u8> {
    let force = call.on("force");
    each(call, move |client, name| async move {
        let path = format!("/networks/{}", encode_component(&name));
        match client.delete(&path).run().await {
            Err(error) if force && error.status() == Some(404) => Ok(String::new()),
            Err(error) => Err(error.into()),
            Ok(_) => Ok(name),
        }
    })
    .await
}
