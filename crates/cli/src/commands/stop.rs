//! `gorae stop`.

use super::{container_path, each};
use crate::args::{Call, Flag, Operands, Verb};
use crate::output::complain;

/// How a container is ended, by `stop` as by `restart`.
pub(super) const FLAGS: &[Flag] = &[
    Flag::one("signal", "string", "Signal to send to the container").short('s'),
    Flag::one(
        "timeout",
        "int",
        "Seconds to wait before killing the container",
    )
    .short('t'),
    Flag::one(
        "time",
        "int",
        "Seconds to wait before killing the container",
    )
    .hidden(),
];

pub(crate) static VERB: Verb = Verb {
    about: "Stop one or more running containers",
    usage: "[OPTIONS] CONTAINER [CONTAINER...]",
    operands: Operands::at_least(1),
    flags: &[FLAGS],
    examples: &[("stop -t 2 web", "Give the program two seconds to end")],
    run: |call| Box::pin(run(call)),
};

async fn run(call: &Call) -> anyhow::Result<u8> {
    end_each(call, "/stop").await
}

/// Asks for one action on each container, with the signal and time limit that the flags give.
pub(super) async fn end_each(call: &Call, action: &'static str) -> anyhow::Result<u8> {
    let signal = call.text("signal").map(str::to_owned);
    let timeout = call
        .integer("timeout")?
        .or(call.integer("time")?)
        .map(|seconds| seconds.to_string());
    each(call, move |client, name| {
        let (signal, timeout) = (signal.clone(), timeout.clone());
        async move {
            let request = client.post(&container_path(&name, action));
            let answer = request
                .query_opt("signal", signal)
                .query_opt("t", timeout)
                .send()
                .await?;
            if let Some(hint) = answer.header(api::HINT_HEADER) {
                complain(format!("Note: {hint}"));
            }
            answer.bytes().await?;
            Ok(name)
        }
    })
    .await
}
