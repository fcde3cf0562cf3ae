//! `gorae volume rm`.

use super::each;
use crate::args::{Call, Flag, Operands, Verb};
use api::client::encode_component;

pub(crate) static VERB: Verb = Verb {
    about: "Remove one or more volumes",
    usage: "[OPTIONS] VOLUME [VOLUME...]",
    operands: Operands::at_least(1),
    flags: &[&[Flag::switch("force", "Force the removal of one or more volumes").short('f')]],
    examples: &[("volume rm data", "Remove a volume that no container uses")],
    run: |call| Box::pin(run(call)),
};

async fn run(call: &Call) -> anyhow::Result<u8> {
    let force = call.on("force");
    each(call, move |client, name| async move {
        let path = format!("/volumes/{}", encode_component(&name));
        client
            .delete(&path)
            .query_flag("force", force)
            .run()
            .await?;
        Ok(name)
    })
    .await
}
