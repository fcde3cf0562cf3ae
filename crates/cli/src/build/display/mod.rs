//! What a build tells, shown: as a tree that changes on a terminal, as lines, as JSON, or not at all.

mod names;
mod plain;
mod rawjson;
mod tty;

use anyhow::bail;
use builder::client::{Update, Warning};
use tokio::sync::mpsc;

use crate::args::Call;
use crate::failure::Failure;
use crate::{output, terminal};

/// How a build is shown.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    Tty,
    Plain,
    RawJson,
    Quiet,
}

impl Kind {
    /// Reads `--progress` and `--quiet`.
    pub(crate) fn of_flags(call: &Call) -> anyhow::Result<Self> {
        if call.on("quiet") {
            return Ok(Self::Quiet);
        }
        let environment = std::env::var("BUILDKIT_PROGRESS").ok();
        let wanted = call.text("progress").or(environment.as_deref());
        Ok(match wanted.unwrap_or("auto") {
            "auto" | "" if terminal::stderr_is_terminal() => Self::Tty,
            "auto" | "" | "plain" => Self::Plain,
            "tty" if terminal::stderr_is_terminal() => Self::Tty,
            "tty" => bail!(Failure::message(
                "failed to get console: standard error is no terminal"
            )),
            "rawjson" => Self::RawJson,
            "quiet" | "none" => Self::Quiet,
            other => bail!(Failure::message(format!("invalid progress mode {other}"))),
        })
    }
}

/// What is kept of a build for its end.
#[derive(Debug, Default)]
pub(crate) struct Told {
    pub(crate) warnings: Vec<Warning>,
    /// The step that failed: its name and the last lines that it wrote.
    pub(crate) failed: Option<(String, Vec<String>)>,
}

/// Shows news until there are no more.
pub(crate) async fn show(kind: Kind, mut news: mpsc::Receiver<Update>) -> Told {
    let mut board = names::Board::default();
    match kind {
        Kind::Tty => tty::show(&mut board, &mut news).await,
        Kind::Plain => {
            let mut plain = plain::Plain::default();
            while let Some(update) = news.recv().await {
                board.take(&update);
                write(&plain.lines(&board, &update));
            }
            write(&plain.end());
        }
        Kind::RawJson => {
            while let Some(update) = news.recv().await {
                board.take(&update);
                write(&rawjson::line(&update));
            }
        }
        Kind::Quiet => {
            while let Some(update) = news.recv().await {
                board.take(&update);
            }
        }
    }
    board.end()
}

/// To standard error, which may have gone.
fn write(text: &str) {
    if !text.is_empty() {
        drop(output::raw_error(text.as_bytes()));
    }
}
