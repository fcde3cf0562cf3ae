//! `gorae run`.

use super::DETACH_KEYS;
use crate::args::{Call, Flag, Operands, Verb};
use crate::connect;
use crate::create;
use crate::failure::Failure;
use crate::run::{self, Manner, engine_failed};
use crate::stream::DetachKeys;
use crate::terminal;

pub(crate) static VERB: Verb = Verb {
    about: "Create and run a new container from an image",
    usage: "[OPTIONS] IMAGE [COMMAND] [ARG...]",
    operands: Operands::verbatim(1),
    flags: &[
        create::flags::LIMITS,
        create::flags::FLAGS,
        &[
            Flag::switch(
                "detach",
                "Run container in background and print container ID",
            )
            .short('d'),
            DETACH_KEYS,
            Flag::switch_on("sig-proxy", "Proxy received signals to the process"),
        ],
    ],
    examples: &[
        (
            "run -it --rm busybox",
            "Run a shell, and remove the container at its end",
        ),
        (
            "run -d --name web -p 8080:80 nginx",
            "Run a server in the background at port 8080",
        ),
        (
            "run --rm -v \"$PWD\":/src -w /src rust cargo test",
            "Work on the files of this folder",
        ),
        (
            "run --rm -m 256m --cpus 0.5 busybox sh -c 'echo limited'",
            "Limit memory and processor time",
        ),
        (
            "run -d --network front --network name=back,alias=db,gw-priority=1 busybox sleep 60",
            "Join two networks; the second has the way out, and knows the container as db",
        ),
        (
            "run -d --net-ingress 20mbit --net-egress 5mbit nginx",
            "Limit what a container receives and sends",
        ),
    ],
    run: |call| Box::pin(run(call)),
};

async fn run(call: &Call) -> anyhow::Result<u8> {
    let (mut creation, manner) = read(call).map_err(run::flags_failed)?;
    if manner.tty
        && let Some((height, width)) = terminal::size()
        && let Some(host) = &mut creation.request.host_config
    {
        host.console_size = [u64::from(height), u64::from(width)];
    }
    let detached = call.on("detach");
    if !detached {
        manner.check_terminal()?;
    }
    connect::ready(&call.client, &call.globals)
        .await
        .map_err(|error| engine_failed(&error))?;
    if detached {
        run::background(call, &creation, &manner).await
    } else {
        run::foreground(call, &creation, &manner).await
    }
}

fn read(call: &Call) -> Result<(create::Creation, Manner), Failure> {
    let creation = create::from_flags(call)?;
    let config = &creation.request.config;
    if call.on("detach") && call.given("attach") {
        return Err(Failure::message(
            "conflicting options: cannot specify both --attach and --detach",
        ));
    }
    let keys_text = call
        .text("detach-keys")
        .filter(|keys| !keys.is_empty())
        .map(str::to_owned);
    let keys = DetachKeys::parse(keys_text.as_deref().unwrap_or_default()).map_err(|why| {
        Failure::message(format!(
            "invalid detach keys ({}): {why}",
            call.text_or_empty("detach-keys")
        ))
    })?;
    let manner = Manner {
        tty: config.tty,
        stdin: config.attach_stdin,
        stdout: config.attach_stdout,
        stderr: config.attach_stderr,
        proxy: call.still_on("sig-proxy"),
        keys,
        keys_text,
    };
    Ok((creation, manner))
}
