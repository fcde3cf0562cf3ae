//! `gorae unpause`.

use super::{container_path, each};
use crate::args::{Call, Operands, Verb};

pub(crate) static VERB: Verb = Verb {
    about: "Unpause all processes within one or more containers",
    usage: "CONTAINER [CONTAINER...]",
    operands: Operands::at_least(1),
    flags: &[],
    examples: &[],
    run: |call| Box::pin(run(call)),
};

async fn run(call: &Call) -> anyhow::Result<u8> {
    each(call, |client, name| async move {
        client
            .post(&container_path(&name, "/unpause"))
            .run()
            .await?;
        Ok(name)
    })
    .await
}
