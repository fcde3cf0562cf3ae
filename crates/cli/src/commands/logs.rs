//! `gorae logs`.

mod follow;

use super::container_path;
use crate::args::{Call, Flag, Operands, Verb};
use crate::failure::Failure;
use crate::{connect, output};
use api::client::{Frames, Response, StreamKind};
use api::container::Inspect;
use bytes::{Buf, Bytes};
use std::io;
use std::pin::Pin;
use std::task::{Context, Poll};
use tokio::io::{AsyncRead, ReadBuf};
use tokio::sync::mpsc;

pub(crate) static VERB: Verb = Verb {
    about: "Fetch the logs of a container",
    usage: "[OPTIONS] CONTAINER",
    operands: Operands::between(1, 1),
    flags: &[&[
        Flag::switch("details", "Show extra details provided to logs"),
        Flag::switch("follow", "Follow log output").short('f'),
        Flag::one(
            "since",
            "string",
            "Show logs since timestamp (e.g. \"2013-01-02T13:23:37Z\") or relative (e.g. \"42m\" for 42 minutes)",
        ),
        Flag::one(
            "tail",
            "string",
            "Number of lines to show from the end of the logs (default \"all\")",
        )
        .short('n'),
        Flag::switch("timestamps", "Show timestamps").short('t'),
        Flag::one(
            "until",
            "string",
            "Show logs before a timestamp (e.g. \"2013-01-02T13:23:37Z\") or relative (e.g. \"42m\" for 42 minutes)",
        ),
    ]],
    examples: &[
        (
            "logs -f --tail 20 web",
            "Show the last 20 lines, and what comes",
        ),
        (
            "logs --since 10m -t web",
            "Show the last ten minutes with their times",
        ),
    ],
    run: |call| Box::pin(run(call)),
};

async fn run(call: &Call) -> anyhow::Result<u8> {
    let since = call.text("since").map(crate::units::moment).transpose();
    let since =
        since.map_err(|why| Failure::message(format!("invalid value for \"since\": {why}")))?;
    let until = call.text("until").map(crate::units::moment).transpose();
    let until =
        until.map_err(|why| Failure::message(format!("invalid value for \"until\": {why}")))?;
    connect::ready(&call.client, &call.globals).await?;
    let name = &call.operands[0];
    let follow = call.on("follow") && until.is_none();
    let wanted = Wanted {
        name,
        timestamps: call.on("timestamps"),
        // a terminal's output is one stream of bytes, in which no record is told from the next
        resumable: follow && framed_by_inspect(call, name).await?,
        since: since.as_deref(),
        until: until.as_deref(),
    };
    let answer = wanted.ask(call, None).await?;
    let framed = match answer.header("content-type") {
        Some("application/vnd.docker.multiplexed-stream") => true,
        Some("application/vnd.docker.raw-stream") if answer.header("api-version").is_some() => {
            // engines before 1.42 call both forms raw
            framed_by_inspect(call, name).await?
        }
        _ => framed_by_inspect(call, name).await?,
    };
    if wanted.resumable {
        follow::follow(call, &wanted, answer).await
    } else if framed {
        frames(answer).await
    } else {
        raw(answer).await
    }
}

/// What the user wants to see.
struct Wanted<'a> {
    name: &'a str,
    timestamps: bool,
    /// Whether it can be gone on behind a record that was shown.
    resumable: bool,
    since: Option<&'a str>,
    until: Option<&'a str>,
}

impl Wanted<'_> {
    /// Asks for the log, or for all of it behind a time up to which it was shown.
    async fn ask(&self, call: &Call, behind: Option<&str>) -> anyhow::Result<Response> {
        // by its name the engine knows that the container's restarts do not end the following
        let agent = concat!("gorae/", env!("CARGO_PKG_VERSION"));
        let tail = match behind {
            Some(_) => "all",
            None => call.text("tail").unwrap_or("all"),
        };
        let request = call
            .client
            .get(&container_path(self.name, "/logs"))
            .header_static("user-agent", agent)
            .query("stdout", "1")
            .query("stderr", "1")
            .query_flag("follow", call.on("follow"))
            .query_flag("timestamps", self.timestamps || self.resumable)
            .query_flag("details", call.on("details"))
            .query("tail", tail)
            .query_opt("since", behind.or(self.since))
            .query_opt("until", self.until);
        Ok(request.send().await?)
    }
}

async fn framed_by_inspect(call: &Call, name: &str) -> anyhow::Result<bool> {
    let inspect: Inspect = call
        .client
        .get(&container_path(name, "/json"))
        .fetch()
        .await?;
    Ok(!inspect.config.is_some_and(|config| config.tty))
}

async fn raw(mut answer: Response) -> anyhow::Result<u8> {
    while let Some(chunk) = answer.chunk().await? {
        output::raw(&chunk)?;
    }
    Ok(0)
}

async fn frames(mut answer: Response) -> anyhow::Result<u8> {
    let (sender, receiver) = mpsc::channel(4);
    let pump = async move {
        loop {
            let chunk = match answer.chunk().await {
                Ok(Some(chunk)) => Ok(chunk),
                Ok(None) => return,
                Err(error) => Err(io::Error::other(error)),
            };
            let failed = chunk.is_err();
            if sender.send(chunk).await.is_err() || failed {
                return;
            }
        }
    };
    let show = async {
        let mut frames = Frames::new(Chunks {
            receiver,
            current: Bytes::new(),
        });
        while let Some(frame) = frames.next().await? {
            match frame.kind {
                StreamKind::Stderr => output::raw_error(&frame.data)?,
                StreamKind::SystemError => {
                    let text = String::from_utf8_lossy(&frame.data).into_owned();
                    return Err(Failure::message(format!(
                        "Error response from daemon: {}",
                        text.trim_end()
                    ))
                    .into());
                }
                StreamKind::Stdin | StreamKind::Stdout | StreamKind::Control => {
                    output::raw(&frame.data)?;
                }
            }
        }
        anyhow::Ok(())
    };
    let ((), shown) = tokio::join!(pump, show);
    shown?;
    Ok(0)
}

/// The chunks of a body as a stream of bytes.
struct Chunks {
    receiver: mpsc::Receiver<io::Result<Bytes>>,
    current: Bytes,
}

impl AsyncRead for Chunks {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        if self.current.is_empty() {
            match std::task::ready!(self.receiver.poll_recv(context)) {
                None => return Poll::Ready(Ok(())),
                Some(chunk) => self.current = chunk?,
            }
        }
        let length = self.current.len().min(buffer.remaining());
        buffer.put_slice(&self.current[..length]);
        self.current.advance(length);
        Poll::Ready(Ok(()))
    }
}
