//! Running a container in the foreground or background: create, attach, start and wait, in as few round trips as the
//! engine allows.

use crate::args::Call;
use crate::create::{Creation, Pull};
use crate::failure::Failure;
use crate::output::{self, complain};
use crate::pull::{self, Place};
use crate::registry::{self, Wanted};
use crate::stream::{DetachKeys, Ended, Session, Signals, Target, resize};
use crate::terminal::{self, RawMode};
use anyhow::Context;
use api::client::{Client, ClientError, Hijacked, Request, Response, encode_component};
use api::container::{CreateResponse, WaitResponse};
use bytes::Bytes;
use serde::Deserialize;
use std::fs;
use tokio::sync::watch;

/// Exit status where the engine, not the container, failed.
const ENGINE_FAILED: u8 = 125;

/// How the container's streams meet the user's.
#[derive(Debug)]
pub(crate) struct Manner {
    pub(crate) tty: bool,
    pub(crate) stdin: bool,
    pub(crate) stdout: bool,
    pub(crate) stderr: bool,
    pub(crate) proxy: bool,
    pub(crate) keys: DetachKeys,
    /// The keys as the user wrote them, for the engine.
    pub(crate) keys_text: Option<String>,
}

impl Manner {
    fn attaches(&self) -> bool {
        self.stdin || self.stdout || self.stderr
    }

    /// Refuses to attach a terminal where there is none.
    pub(crate) fn check_terminal(&self) -> Result<(), Failure> {
        if self.tty && self.stdin && !terminal::stdin_is_terminal() {
            return Err(Failure::message(
                "the input device is not a TTY\n\nLeave out -t when standard input is not a terminal.",
            ));
        }
        Ok(())
    }

    /// Makes the user's terminal raw where it is the container's.
    pub(crate) fn take_terminal(&self) -> anyhow::Result<Option<RawMode>> {
        if !(self.tty && self.stdin) {
            return Ok(None);
        }
        self.check_terminal()?;
        RawMode::enter()
            .map(Some)
            .context("cannot put the terminal into raw mode")
    }

    fn detach(&self) -> Option<DetachKeys> {
        (self.tty && self.stdin).then(|| self.keys.clone())
    }
}

/// Runs a container in the foreground; gives its exit status.
pub(crate) async fn foreground(
    call: &Call,
    creation: &Creation,
    manner: &Manner,
) -> anyhow::Result<u8> {
    pull_always(call, creation).await?;
    let signals = Signals::listen(manner.proxy, manner.tty)?;
    match with_image(call, creation, || {
        fused(call, creation, manner, false).hijack()
    })
    .await
    {
        Ok(stream) => watch_fused(call, creation, manner, signals, stream).await,
        Err(error) if unknown_endpoint(&error) => classic(call, creation, manner, signals).await,
        Err(error) => Err(engine_failed(&error)),
    }
}

/// Starts a container in the background and prints its id.
pub(crate) async fn background(
    call: &Call,
    creation: &Creation,
    manner: &Manner,
) -> anyhow::Result<u8> {
    pull_always(call, creation).await?;
    let created: CreateResponse = match with_image(call, creation, || {
        fused(call, creation, manner, true).fetch()
    })
    .await
    {
        Ok(created) => {
            note(creation, &created)?;
            created
        }
        Err(error) if unknown_endpoint(&error) => {
            let created = create(call, creation).await?;
            start(&call.client, &created.id)
                .await
                .map_err(|error| engine_failed(&error))?;
            created
        }
        Err(error) => return Err(engine_failed(&error)),
    };
    output::line(&created.id)?;
    Ok(0)
}

/// The request that creates, attaches, starts and waits in one.
fn fused(call: &Call, creation: &Creation, manner: &Manner, detached: bool) -> Request {
    call.client
        .post("/gorae/run")
        .query_opt("name", creation.name.as_deref())
        .query_opt("platform", creation.platform.as_deref())
        .query_flag("stdin", manner.stdin)
        .query_flag("stdout", manner.stdout)
        .query_flag("stderr", manner.stderr)
        .query_flag("tty", manner.tty)
        .query_flag("detach", detached)
        .json(&creation.request)
}

/// Creates a container, pulling its image where it is missing.
pub(crate) async fn create(call: &Call, creation: &Creation) -> anyhow::Result<CreateResponse> {
    let request = || {
        call.client
            .post("/containers/create")
            .query_opt("name", creation.name.as_deref())
            .query_opt("platform", creation.platform.as_deref())
            .json(&creation.request)
            .fetch()
    };
    let created: CreateResponse = with_image(call, creation, request).await?;
    note(creation, &created)?;
    Ok(created)
}

/// Writes down the id, and passes the engine's warnings on.
fn note(creation: &Creation, created: &CreateResponse) -> anyhow::Result<()> {
    for warning in &created.warnings {
        complain(format!("WARNING: {warning}"));
    }
    if let Some(path) = &creation.cidfile {
        fs::write(path, &created.id)
            .with_context(|| format!("failed to write the container ID to {path}"))?;
    }
    Ok(())
}

fn wanted(creation: &Creation) -> Result<Wanted, Failure> {
    registry::wanted(&creation.request.config.image)
}

fn place(creation: &Creation) -> Place {
    if creation.quiet {
        Place::Nowhere
    } else {
        Place::Errors
    }
}

/// Pulls the image first if `--pull always` says so.
pub(crate) async fn pull_always(call: &Call, creation: &Creation) -> anyhow::Result<()> {
    if creation.pull != Pull::Always {
        return Ok(());
    }
    let wanted = wanted(creation)?;
    pull::pull(
        &call.client,
        &call.globals,
        &wanted,
        creation.platform.as_deref(),
        place(creation),
    )
    .await
}

/// Sends a request; if the image is missing, pulls it and sends the request again.
async fn with_image<T, F>(
    call: &Call,
    creation: &Creation,
    send: impl Fn() -> F,
) -> anyhow::Result<T>
where
    F: Future<Output = Result<T, ClientError>>,
{
    let missing = match send().await {
        Err(error) if lacks_image(&error) && creation.pull == Pull::Missing => error,
        result => return Ok(result?),
    };
    // an id that is not here is in no registry either
    let Ok(wanted) = wanted(creation) else {
        return Err(missing.into());
    };
    complain(format!(
        "Unable to find image '{}' locally",
        wanted.familiar
    ));
    pull::pull(
        &call.client,
        &call.globals,
        &wanted,
        creation.platform.as_deref(),
        place(creation),
    )
    .await?;
    Ok(send().await?)
}

fn lacks_image(error: &ClientError) -> bool {
    matches!(error, ClientError::Response { status: 404, message } if message.contains("No such image"))
}

/// Whether the engine is one that does not know our own endpoint.
fn unknown_endpoint(error: &anyhow::Error) -> bool {
    match error.downcast_ref() {
        Some(ClientError::Response {
            status: 404,
            message,
        }) => {
            matches!(
                message.as_str(),
                "page not found" | "404 page not found" | "Not Found"
            )
        }
        _ => false,
    }
}

/// A failure of the engine in the words and with the status of `run`.
pub(crate) fn engine_failed(error: &anyhow::Error) -> anyhow::Error {
    let text = crate::failure::chain(error);
    failed(&text, start_code(&text))
}

/// Flags that make no sense together or name what cannot be read, in the words of `run`.
pub(crate) fn flags_failed(failure: Failure) -> anyhow::Error {
    match failure {
        Failure::Usage { .. } => failure.into(),
        Failure::Message { message, .. } => failed(&message, ENGINE_FAILED),
    }
}

fn failed(text: &str, code: u8) -> anyhow::Error {
    let text = format!("gorae: {text}\n\nRun 'gorae run --help' for more information");
    Failure::with_code(text, code).into()
}

/// The exit status of a `run` that failed, by the words of the message wherever they come from, as
/// with Docker's client: 127 for what is not there, 126 for what may not or cannot be run.
fn start_code(message: &str) -> u8 {
    let has = |part: &str| message.contains(part);
    if has("executable file not found") || has("no such file or directory") {
        127
    } else if has("permission denied") || has("is a directory") {
        126
    } else {
        ENGINE_FAILED
    }
}

/// The exit status of a program that did not start: 127 for one that is not there, 126 for one that
/// cannot run, and 125 for a failure of something else than the program.
pub(crate) fn program_code(message: &str) -> u8 {
    let has = |part: &str| message.contains(part);
    let of_program = has("exec: ") || has("exec format error");
    if has("executable file not found") || of_program && has("no such file or directory") {
        127
    } else if of_program
        && (has("permission denied") || has("is a directory") || has("exec format error"))
    {
        126
    } else {
        ENGINE_FAILED
    }
}

/// The messages that our own endpoint sends beside output.
#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
struct Control {
    id: Option<String>,
    warnings: Option<Vec<String>>,
    status_code: Option<i64>,
    error: Option<ControlError>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
struct ControlError {
    message: String,
}

async fn watch_fused(
    call: &Call,
    creation: &Creation,
    manner: &Manner,
    signals: Signals,
    stream: Hijacked,
) -> anyhow::Result<u8> {
    let raw = manner.take_terminal()?;
    let (told, target) = watch::channel(None);
    let session = Session {
        client: call.client.clone(),
        stream,
        framed: true,
        stdin: manner.stdin,
        detach: manner.detach(),
        signals,
        target,
    };
    let mut noted = Ok(());
    let ended = session
        .run(|message: &Bytes| {
            let control: Control = serde_json::from_slice(message).unwrap_or_default();
            if let Some(id) = control.id {
                let created = CreateResponse {
                    id: id.clone(),
                    warnings: control.warnings.unwrap_or_default(),
                };
                noted = note(creation, &created);
                // the session holds the receiver
                told.send_replace(Some(Target::Container(id)));
            }
            control.status_code.is_some()
        })
        .await;
    drop(raw);
    noted?;
    match ended? {
        Ended::Detached => {
            complain("read escape sequence");
            Ok(0)
        }
        Ended::Failed(text) => {
            let text = text
                .strip_prefix("Error response from daemon: ")
                .unwrap_or(&text);
            Err(engine_failed(&anyhow::anyhow!(
                "Error response from daemon: {text}"
            )))
        }
        Ended::Closed => Err(engine_failed(&anyhow::anyhow!(
            "the engine closed the connection before the container ended; see 'gorae ps -a'"
        ))),
        Ended::Control(message) => {
            let control: Control = serde_json::from_slice(&message)?;
            if let Some(error) = control.error.filter(|error| !error.message.is_empty()) {
                complain(format!("Error waiting for container: {}", error.message));
            }
            Ok(exit_code(
                control.status_code.unwrap_or(i64::from(ENGINE_FAILED)),
            ))
        }
    }
}

/// An exit status as the shell can hold it.
pub(crate) fn exit_code(status: i64) -> u8 {
    u8::try_from(status & 0xff).unwrap_or(ENGINE_FAILED)
}

/// The way of Docker's own client, for engines that have no endpoint of ours.
async fn classic(
    call: &Call,
    creation: &Creation,
    manner: &Manner,
    signals: Signals,
) -> anyhow::Result<u8> {
    let id = create(call, creation)
        .await
        .map_err(|error| engine_failed(&error))?
        .id;
    let client = &call.client;
    let removes = creation
        .request
        .host_config
        .as_ref()
        .is_some_and(|host| host.auto_remove);
    let stream = if manner.attaches() {
        Some(
            attach(client, &id, manner, false)
                .await
                .map_err(|error| engine_failed(&error.into()))?,
        )
    } else {
        None
    };
    let condition = if removes { "removed" } else { "next-exit" };
    let waited = wait(client, &id, condition)
        .await
        .map_err(|error| engine_failed(&error.into()))?;
    if let Err(error) = start(client, &id).await {
        if removes {
            // the engine removes a container that it could not start only where it tried to run it
            let path = format!("/containers/{}", encode_component(&id));
            drop(
                client
                    .delete(&path)
                    .query("force", "1")
                    .query("v", "1")
                    .run()
                    .await,
            );
        }
        return Err(engine_failed(&error));
    }
    let Some(stream) = stream else {
        return finished(waited).await;
    };
    match converse(call, &id, stream, manner, signals).await? {
        Ended::Detached => {
            complain("read escape sequence");
            Ok(0)
        }
        _ => finished(waited).await,
    }
}

/// Moves the streams of a started container until one side lets go.
pub(crate) async fn converse(
    call: &Call,
    id: &str,
    stream: Hijacked,
    manner: &Manner,
    signals: Signals,
) -> anyhow::Result<Ended> {
    let raw = manner.take_terminal()?;
    let target = Target::Container(id.to_owned());
    if manner.tty {
        resize(&call.client, &target).await;
    }
    let (_told, target) = watch::channel(Some(target));
    let framed = stream.is_multiplexed().unwrap_or(!manner.tty);
    let session = Session {
        client: call.client.clone(),
        stream,
        framed,
        stdin: manner.stdin,
        detach: manner.detach(),
        signals,
        target,
    };
    let ended = session.run(|_message| false).await;
    drop(raw);
    match ended? {
        Ended::Failed(text) => Err(Failure::message(text).into()),
        ended => Ok(ended),
    }
}

/// Attaches to a container's streams.
pub(crate) async fn attach(
    client: &Client,
    id: &str,
    manner: &Manner,
    logs: bool,
) -> Result<Hijacked, ClientError> {
    client
        .post(&format!("/containers/{}/attach", encode_component(id)))
        .query("stream", "1")
        .query_flag("stdin", manner.stdin)
        .query_flag("stdout", manner.stdout)
        .query_flag("stderr", manner.stderr)
        .query_flag("logs", logs)
        .query_opt("detachKeys", manner.keys_text.as_deref())
        .hijack()
        .await
}

/// Starts a container.
pub(crate) async fn start(client: &Client, id: &str) -> anyhow::Result<()> {
    Ok(client
        .post(&format!("/containers/{}/start", encode_component(id)))
        .run()
        .await?)
}

/// Begins to wait for a container; the answer comes when it ended.
pub(crate) async fn wait(
    client: &Client,
    id: &str,
    condition: &str,
) -> Result<Response, ClientError> {
    client
        .post(&format!("/containers/{}/wait", encode_component(id)))
        .query("condition", condition)
        .send()
        .await
}

/// The exit status of a container that was waited for.
pub(crate) async fn finished(waited: Response) -> anyhow::Result<u8> {
    let answer: WaitResponse = waited.json().await?;
    if let Some(error) = answer.error.filter(|error| !error.message.is_empty()) {
        complain(format!("Error waiting for container: {}", error.message));
        return Ok(ENGINE_FAILED);
    }
    Ok(exit_code(answer.status_code))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn codes_of_failed_runs() {
        let check = |message: &str, code: u8| assert_eq!(start_code(message), code, "{message}");
        check("exec: \"nosuch\": executable file not found in $PATH", 127);
        check("custom device \"/dev/x\": no such file or directory", 127);
        check("exec: \"/x\": permission denied", 126);
        check("read /x: is a directory", 126);
        check("bind source path does not exist: /nosuch", 125);
        let code = |failure: Failure| {
            let error = flags_failed(failure);
            error.downcast_ref::<Failure>().map(Failure::code)
        };
        let missing = Failure::message("open /nosuch: no such file or directory");
        assert_eq!(code(missing), Some(125));
    }

    #[test]
    fn codes_of_programs() {
        let check = |message: &str, code: u8| assert_eq!(program_code(message), code, "{message}");
        check(
            "OCI runtime create failed: exec: \"nosuch\": executable file not found in $PATH",
            127,
        );
        check("exec: \"/x\": stat /x: no such file or directory", 127);
        check("exec: \"/etc\": is a directory: permission denied", 126);
        check("exec: \"/x\": permission denied", 126);
        check("Conflict. The container name is in use", 125);
        check("bind source path does not exist: /permission denied", 125);
        assert_eq!(exit_code(137), 137);
        assert_eq!(exit_code(256), 0);
    }
}
