//! `gorae start`.

use super::{DETACH_KEYS, container_path};
use crate::args::{Call, Flag, Operands, Verb};
use crate::connect;
use crate::failure::{self, Failure};
use crate::output::{self, complain};
use crate::run::{self, Manner, program_code};
use crate::stream::{DetachKeys, Ended, Signals};
use api::container::Inspect;

pub(crate) static VERB: Verb = Verb {
    about: "Start one or more stopped containers",
    usage: "[OPTIONS] CONTAINER [CONTAINER...]",
    operands: Operands::at_least(1),
    flags: &[&[
        Flag::switch("attach", "Attach STDOUT/STDERR and forward signals").short('a'),
        DETACH_KEYS,
        Flag::switch("interactive", "Attach container's STDIN").short('i'),
    ]],
    examples: &[
        ("start web", "Start a container again"),
        ("start -ai shell", "Start it and use it"),
    ],
    run: |call| Box::pin(run(call)),
};

async fn run(call: &Call) -> anyhow::Result<u8> {
    connect::ready(&call.client, &call.globals).await?;
    if call.on("attach") || call.on("interactive") {
        if call.operands.len() > 1 {
            return Err(Failure::message(
                "you cannot start and attach multiple containers at once",
            )
            .into());
        }
        return attached(call, &call.operands[0]).await;
    }
    let mut failed = Vec::new();
    for name in &call.operands {
        match run::start(&call.client, name).await {
            Ok(()) => output::line(name)?,
            Err(error) => {
                complain(failure::chain(&error));
                failed.push(name.as_str());
            }
        }
    }
    if failed.is_empty() {
        return Ok(0);
    }
    Err(Failure::message(format!(
        "Error: failed to start containers: {}\n\nList all containers with 'gorae ps -a'.",
        failed.join(", ")
    ))
    .into())
}

async fn attached(call: &Call, name: &str) -> anyhow::Result<u8> {
    let client = &call.client;
    let inspect: Inspect = client.get(&container_path(name, "/json")).fetch().await?;
    let config = inspect.config.unwrap_or_default();
    let keys_text = call
        .text("detach-keys")
        .filter(|keys| !keys.is_empty())
        .map(str::to_owned);
    let manner = Manner {
        tty: config.tty,
        stdin: call.on("interactive") && config.open_stdin,
        stdout: true,
        stderr: true,
        proxy: !config.tty,
        keys: DetachKeys::parse(keys_text.as_deref().unwrap_or_default())
            .map_err(Failure::message)?,
        keys_text,
    };
    manner.check_terminal()?;
    let signals = Signals::listen(manner.proxy, manner.tty)?;
    let stream = run::attach(client, &inspect.id, &manner, false).await?;
    let removes = inspect.host_config.is_some_and(|host| host.auto_remove);
    let condition = if removes { "removed" } else { "next-exit" };
    let waited = run::wait(client, &inspect.id, condition).await?;
    if let Err(error) = run::start(client, &inspect.id).await {
        let text = failure::chain(&error);
        let code = program_code(&text);
        return Err(Failure::with_code(text, if code == 125 { 1 } else { code }).into());
    }
    match run::converse(call, &inspect.id, stream, &manner, signals).await? {
        Ended::Detached => Ok(0),
        _ => run::finished(waited).await,
    }
}
