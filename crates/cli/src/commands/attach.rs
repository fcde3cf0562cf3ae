//! `gorae attach`.

use super::{DETACH_KEYS, container_path};
use crate::args::{Call, Flag, Operands, Verb};
use crate::connect;
use crate::failure::Failure;
use crate::output::complain;
use crate::run::{self, Manner};
use crate::stream::{DetachKeys, Ended, Signals};
use api::container::Inspect;

pub(crate) static VERB: Verb = Verb {
    about: "Attach local standard input, output, and error streams to a running container",
    usage: "[OPTIONS] CONTAINER",
    operands: Operands::between(1, 1),
    flags: &[&[
        DETACH_KEYS,
        Flag::switch("no-stdin", "Do not attach STDIN"),
        Flag::switch_on("sig-proxy", "Proxy all received signals to the process"),
    ]],
    examples: &[("attach --no-stdin web", "Watch what a container writes")],
    run: |call| Box::pin(run(call)),
};

async fn run(call: &Call) -> anyhow::Result<u8> {
    connect::ready(&call.client, &call.globals).await?;
    let client = &call.client;
    let inspect: Inspect = client
        .get(&container_path(&call.operands[0], "/json"))
        .fetch()
        .await?;
    let state = inspect.state.unwrap_or_default();
    let refused = if !state.running {
        "cannot attach to a stopped container, start it first"
    } else if state.paused {
        "cannot attach to a paused container, unpause it first"
    } else if state.restarting {
        "cannot attach to a restarting container, wait until it is running"
    } else {
        ""
    };
    if !refused.is_empty() {
        return Err(Failure::message(refused).into());
    }
    let config = inspect.config.unwrap_or_default();
    let keys_text = call
        .text("detach-keys")
        .filter(|keys| !keys.is_empty())
        .map(str::to_owned);
    let manner = Manner {
        tty: config.tty,
        stdin: !call.on("no-stdin") && config.open_stdin,
        stdout: true,
        stderr: true,
        proxy: call.still_on("sig-proxy") && !config.tty,
        keys: DetachKeys::parse(keys_text.as_deref().unwrap_or_default())
            .map_err(Failure::message)?,
        keys_text,
    };
    manner.check_terminal()?;
    let signals = Signals::listen(manner.proxy, manner.tty)?;
    let waited = run::wait(client, &inspect.id, "").await?;
    let stream = run::attach(client, &inspect.id, &manner, false).await?;
    match run::converse(call, &inspect.id, stream, &manner, signals).await? {
        Ended::Detached => {
            complain("read escape sequence");
            Ok(0)
        }
        _ => run::finished(waited).await,
    }
}
