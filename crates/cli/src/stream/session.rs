//! One attached session: bytes in both directions until one side lets go.

use super::detach::DetachKeys;
use super::input::Input;
use super::signals::{Happened, Signals};
use crate::{output, terminal};
use anyhow::Context;
use api::client::{
    Client, Frame, Frames, Hijacked, HijackedReader, HijackedWriter, StreamKind, encode_component,
};
use bytes::Bytes;
use tokio::io::AsyncReadExt;
use tokio::sync::watch;

const BUFFER: usize = 32 << 10;

/// What signals and sizes are sent to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Target {
    Container(String),
    Exec(String),
}

/// How a session ended.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Ended {
    /// The engine closed the stream.
    Closed,
    /// The user typed the detach keys.
    Detached,
    /// A control message was for the caller to see.
    Control(Bytes),
    /// The engine's own error came in place of output.
    Failed(String),
}

/// A session before it runs.
#[derive(Debug)]
pub(crate) struct Session {
    pub(crate) client: Client,
    pub(crate) stream: Hijacked,
    /// Whether output comes in frames.
    pub(crate) framed: bool,
    pub(crate) stdin: bool,
    /// Detach keys are looked for only where a terminal is attached.
    pub(crate) detach: Option<DetachKeys>,
    pub(crate) signals: Signals,
    pub(crate) target: watch::Receiver<Option<Target>>,
}

impl Session {
    /// Moves bytes until the session ends; `control` sees each control message and says whether it ends the session.
    pub(crate) async fn run(
        self,
        mut control: impl FnMut(&Bytes) -> bool,
    ) -> anyhow::Result<Ended> {
        let Self {
            client,
            stream,
            framed,
            stdin,
            detach,
            signals,
            target,
        } = self;
        let (reader, writer) = stream.split();
        let proxy = forward(client, signals, target);
        let input = send_input(writer, stdin, detach);
        let output = async {
            if framed {
                frames(reader, &mut control).await
            } else {
                raw(reader).await
            }
        };
        tokio::pin!(proxy, input, output);
        let mut typing = true;
        loop {
            tokio::select! {
                ended = &mut output => return ended,
                detached = &mut input, if typing => {
                    if detached? {
                        return Ok(Ended::Detached);
                    }
                    typing = false;
                }
                () = &mut proxy => {}
            }
        }
    }
}

/// Passes standard input on; `true` when the detach keys were typed, `false` at its end.
async fn send_input(
    mut writer: HijackedWriter,
    stdin: bool,
    mut detach: Option<DetachKeys>,
) -> anyhow::Result<bool> {
    if !stdin {
        // the write side stays open: some engines take its end for a client that is gone
        return std::future::pending().await;
    }
    let mut input = Input::open().context("cannot open standard input")?;
    let mut buffer = vec![0; BUFFER];
    loop {
        let length = input
            .read(&mut buffer)
            .await
            .context("cannot read standard input")?;
        if length == 0 {
            // a container that ended has no use for the rest
            drop(writer.close().await);
            std::mem::drop(input);
            return keep_open(writer).await;
        }
        let bytes = &buffer[..length];
        let sent = match &mut detach {
            None => writer.write_all(bytes).await,
            Some(keys) => {
                let (through, detached) = keys.feed(bytes);
                if detached {
                    return Ok(true);
                }
                writer.write_all(&through).await
            }
        };
        if sent.is_err() {
            return keep_open(writer).await;
        }
    }
}

/// Holds the half-closed stream, whose other half still carries output.
async fn keep_open(writer: HijackedWriter) -> anyhow::Result<bool> {
    std::future::pending::<()>().await;
    drop(writer);
    Ok(false)
}

async fn raw(mut reader: HijackedReader) -> anyhow::Result<Ended> {
    let mut buffer = vec![0; BUFFER];
    loop {
        let length = reader
            .read(&mut buffer)
            .await
            .context("the container's stream broke")?;
        if length == 0 {
            return Ok(Ended::Closed);
        }
        output::raw(&buffer[..length]).context("cannot write to standard output")?;
    }
}

async fn frames(
    reader: HijackedReader,
    control: &mut impl FnMut(&Bytes) -> bool,
) -> anyhow::Result<Ended> {
    let mut frames = Frames::new(reader);
    while let Some(Frame { kind, data }) = frames
        .next()
        .await
        .context("the container's stream broke")?
    {
        match kind {
            StreamKind::Stdin | StreamKind::Stdout => {
                output::raw(&data).context("cannot write to standard output")?;
            }
            StreamKind::Stderr => {
                output::raw_error(&data).context("cannot write to standard error")?;
            }
            StreamKind::SystemError => {
                return Ok(Ended::Failed(
                    String::from_utf8_lossy(&data).trim_end().to_owned(),
                ));
            }
            StreamKind::Control => {
                if control(&data) {
                    return Ok(Ended::Control(data));
                }
            }
        }
    }
    Ok(Ended::Closed)
}

/// Passes signals and sizes on for as long as the session runs.
async fn forward(
    client: Client,
    mut signals: Signals,
    mut target: watch::Receiver<Option<Target>>,
) {
    // without a target there will be none to signal
    while let Ok(target) = target
        .wait_for(Option::is_some)
        .await
        .map(|target| target.clone())
    {
        // what came before the container had an id waited for it
        let happened = signals.next().await;
        let Some(target) = target else { continue };
        match happened {
            Happened::Resized => resize(&client, &target).await,
            Happened::Signal(name) => {
                if let Target::Container(id) = &target {
                    let path = format!("/containers/{}/kill", encode_component(id));
                    // a container that just ended cannot be signalled: its end is what the user sees
                    drop(client.post(&path).query("signal", name).run().await);
                }
            }
        }
    }
    std::future::pending::<()>().await;
}

/// Tells the engine how large the terminal is.
pub(crate) async fn resize(client: &Client, target: &Target) {
    let Some((height, width)) = terminal::size() else {
        return;
    };
    let path = match target {
        Target::Container(id) => format!("/containers/{}/resize", encode_component(id)),
        Target::Exec(id) => format!("/exec/{}/resize", encode_component(id)),
    };
    let request = client
        .post(&path)
        .query("h", height.to_string())
        .query("w", width.to_string());
    // the size matters little enough to go on without
    drop(request.run().await);
}
