//! `gorae wait`.

use super::{container_path, each};
use crate::args::{Call, Operands, Verb};

pub(crate) static VERB: Verb = Verb {
    about: "Block until one or more containers stop, then print their exit codes",
    usage: "CONTAINER [CONTAINER...]",
    operands: Operands::at_least(1),
    flags: &[],
    examples: &[("wait web", "Wait for a container and see how it ended")],
    run: |call| Box::pin(run(call)),
};

async fn run(call: &Call) -> anyhow::Result<u8> {
    each(call, |client, name| async move {
        let answer = client.post(&container_path(&name, "/wait"));
        let answer: api::container::WaitResponse =
            answer.query("condition", "not-running").fetch().await?;
        Ok(answer.status_code.to_string())
    })
    .await
}
