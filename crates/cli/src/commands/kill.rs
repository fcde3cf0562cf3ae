//! `gorae kill`.

use super::{container_path, each};
use crate::args::{Call, Flag, Operands, Verb};

pub(crate) static VERB: Verb = Verb {
    about: "Kill one or more running containers",
    usage: "[OPTIONS] CONTAINER [CONTAINER...]",
    operands: Operands::at_least(1),
    flags: &[&[Flag::one("signal", "string", "Signal to send to the container").short('s')]],
    examples: &[(
        "kill -s HUP web",
        "Make a program read its configuration again",
    )],
    run: |call| Box::pin(run(call)),
};

async fn run(call: &Call) -> anyhow::Result<u8> {
    let signal = call.text("signal").map(str::to_owned);
    each(call, move |client, name| {
        let signal = signal.clone();
        async move {
            client
                .post(&container_path(&name, "/kill"))
                .query_opt("signal", signal)
                .run()
                .await?;
            Ok(name)
        }
    })
    .await
}
