//! `gorae exec`.

use super::{DETACH_KEYS, container_path};
use crate::args::{Call, Flag, Operands, Verb};
use crate::connect;
use crate::create;
use crate::failure::Failure;
use crate::run::{Manner, exit_code, program_code};
use crate::stream::{DetachKeys, Ended, Session, Signals, Target};
use crate::terminal;
use api::client::{ClientError, encode_component};
use api::exec::{CreateRequest, CreateResponse, Inspect, StartRequest};
use api::wire::StrSlice;
use tokio::sync::watch;

pub(crate) static VERB: Verb = Verb {
    about: "Execute a command in a running container",
    usage: "[OPTIONS] CONTAINER COMMAND [ARG...]",
    operands: Operands::verbatim(2),
    flags: &[&[
        Flag::switch("detach", "Detached mode: run command in the background").short('d'),
        DETACH_KEYS,
        Flag::many("env", "list", "Set environment variables").short('e'),
        Flag::many(
            "env-file",
            "list",
            "Read in a file of environment variables",
        ),
        Flag::switch("interactive", "Keep STDIN open even if not attached").short('i'),
        Flag::switch("privileged", "Give extended privileges to the command"),
        Flag::switch("tty", "Allocate a pseudo-TTY").short('t'),
        Flag::one(
            "user",
            "string",
            "Username or UID (format: \"<name|uid>[:<group|gid>]\")",
        )
        .short('u'),
        Flag::one(
            "workdir",
            "string",
            "Working directory inside the container",
        )
        .short('w'),
    ]],
    examples: &[
        ("exec -it web sh", "Open a shell in a running container"),
        (
            "exec -u root -e DEBUG=1 web ./check",
            "Run a command as another user with a variable more",
        ),
    ],
    run: |call| Box::pin(run(call)),
};

async fn run(call: &Call) -> anyhow::Result<u8> {
    let request = read(call)?;
    let detached = call.on("detach");
    let keys = DetachKeys::parse(&request.detach_keys).map_err(Failure::message)?;
    let manner = Manner {
        tty: request.tty,
        stdin: request.attach_stdin,
        stdout: true,
        stderr: true,
        proxy: false,
        keys: keys.clone(),
        keys_text: None,
    };
    manner.check_terminal()?;
    connect::ready(&call.client, &call.globals).await?;
    let path = container_path(&call.operands[0], "/exec");
    let created: CreateResponse = call.client.post(&path).json(&request).fetch().await?;
    let start_path = format!("/exec/{}/start", encode_component(&created.id));
    let start = StartRequest {
        detach: detached,
        tty: request.tty,
        console_size: request.console_size,
    };
    let start = call.client.post(&start_path).json(&start);
    if detached {
        start.run().await.map_err(failed)?;
        return Ok(0);
    }
    let signals = Signals::listen(false, manner.tty)?;
    let stream = start.hijack().await.map_err(failed)?;
    let raw = manner.take_terminal()?;
    let (_told, target) = watch::channel(Some(Target::Exec(created.id.clone())));
    let framed = stream.is_multiplexed().unwrap_or(!manner.tty);
    let session = Session {
        client: call.client.clone(),
        stream,
        framed,
        stdin: manner.stdin,
        detach: (manner.tty && manner.stdin).then_some(keys),
        signals,
        target,
    };
    let ended = session.run(|_message| false).await;
    drop(raw);
    match ended? {
        Ended::Detached => return Ok(0),
        Ended::Failed(text) => return Err(start_failed(&text).into()),
        Ended::Closed | Ended::Control(_) => {}
    }
    let path = format!("/exec/{}/json", encode_component(&created.id));
    let inspect: Inspect = call.client.get(&path).fetch().await?;
    Ok(exit_code(inspect.exit_code.unwrap_or(0)))
}

fn read(call: &Call) -> Result<CreateRequest, Failure> {
    let detached = call.on("detach");
    let tty = call.on("tty");
    Ok(CreateRequest {
        user: call.text_or_empty("user"),
        privileged: call.on("privileged"),
        tty,
        console_size: terminal::size()
            .filter(|_| tty)
            .map(|(height, width)| [u64::from(height), u64::from(width)]),
        attach_stdin: !detached && call.on("interactive"),
        attach_stderr: !detached,
        attach_stdout: !detached,
        detach: detached,
        detach_keys: call.text_or_empty("detach-keys"),
        env: Some(create::environment(call)?).filter(|env| !env.is_empty()),
        working_dir: call.text_or_empty("workdir"),
        cmd: Some(StrSlice(call.operands[1..].to_vec())),
    })
}

/// A command that could not be started: the status tells a missing program from one that cannot run.
fn failed(error: ClientError) -> anyhow::Error {
    match &error {
        ClientError::Response { message, .. } if program_code(message) != 125 => {
            start_failed(message).into()
        }
        _ => error.into(),
    }
}

fn start_failed(message: &str) -> Failure {
    let code = program_code(message);
    Failure::with_code(message, if code == 125 { 126 } else { code })
}
