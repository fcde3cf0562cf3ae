//! From a container to the local file system.

use super::paths::{self, Target};
use super::{Remote, is_dir, is_link, stat, stat_of, tell};
use crate::args::Call;
use crate::commands::container_path;
use crate::failure::Failure;
use crate::{output, terminal};
use anyhow::Context;
use api::client::Response;
use bytes::{Buf, Bytes};
use rustix::fs::{Mode, OFlags};
use std::io::{self, Read};
use storage::files::{ExtractOptions, Owners, Ownership, Rename, extract};
use tokio::sync::mpsc;

/// Pieces of the archive between the connection and the disk.
const PIECES: usize = 16;

pub(super) async fn copy(call: &Call, from: &Remote<'_>, destination: &str) -> anyhow::Result<u8> {
    let path = source_path(call, from).await;
    let endpoint = container_path(from.container, "/archive");
    if destination == "-" && terminal::stdout_is_terminal() {
        let why = "cowardly refusing to write an archive to a terminal: redirect the output";
        return Err(Failure::message(why).into());
    }
    let request = call.client.get(&endpoint).query("path", &path);
    let mut answer = request.send().await?;
    if destination == "-" {
        while let Some(chunk) = answer.chunk().await? {
            output::raw(&chunk)?;
        }
        return Ok(0);
    }
    let stat = stat_of(&answer).context("the engine does not tell what it sends")?;
    let destination = paths::absolute(destination)?;
    let name = name_of(call, from, &stat.name);
    let place = paths::place(&name, is_dir(&stat), &target(&destination))?;
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
    let directory = rustix::fs::open(&place.directory, flags, Mode::empty())
        .map_err(io::Error::from)
        .with_context(|| format!("open {}", place.directory))?;
    let options = ExtractOptions {
        ownership: if call.on("archive") {
            Ownership::Archive
        } else {
            Ownership::Caller
        },
        replace_kind: false,
        rename: Some(Rename {
            from: stat.name.into_bytes(),
            to: if place.name == "/" {
                ".".into()
            } else {
                place.name.into_bytes()
            },
        }),
        owners: Owners::default(),
    };
    let (sender, pieces) = mpsc::channel(PIECES);
    let reader = Pieces {
        pieces,
        piece: Bytes::new(),
    };
    let thread = tokio::task::spawn_blocking(move || extract(directory, reader, &options));
    let bytes = feed(answer, sender).await;
    thread.await??;
    tell(call, bytes, &destination);
    Ok(0)
}

/// The path to ask for: what a link leads to, if links are followed.
async fn source_path(call: &Call, from: &Remote<'_>) -> String {
    if call.on("follow-link")
        && let Some(stat) = stat(&call.client, from.container, from.path).await
        && is_link(&stat)
    {
        return stat.link_target;
    }
    from.path.to_owned()
}

/// The name of the copy: a link that was followed keeps its own.
fn name_of(call: &Call, from: &Remote<'_>, told: &str) -> String {
    if call.on("follow-link") {
        paths::base(from.path).to_owned()
    } else {
        told.to_owned()
    }
}

fn target(path: &str) -> Target {
    let found = std::fs::metadata(path);
    Target {
        path: path.to_owned(),
        exists: found.is_ok(),
        is_dir: found.is_ok_and(|found| found.is_dir()),
    }
}

/// Passes the answer on as long as it is taken; says how much it was.
async fn feed(mut answer: Response, sender: mpsc::Sender<io::Result<Bytes>>) -> u64 {
    let mut bytes = 0;
    loop {
        let piece = match answer.chunk().await {
            Ok(None) => return bytes,
            Ok(Some(chunk)) => Ok(chunk),
            Err(error) => Err(io::Error::other(error)),
        };
        bytes += piece.as_ref().map_or(0, |piece| piece.len() as u64);
        if sender.send(piece).await.is_err() {
            return bytes;
        }
    }
}

/// The answer, for code that reads and blocks.
struct Pieces {
    pieces: mpsc::Receiver<io::Result<Bytes>>,
    piece: Bytes,
}

impl Read for Pieces {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        while self.piece.is_empty() {
            match self.pieces.blocking_recv() {
                Some(piece) => self.piece = piece?,
                None => return Ok(0),
            }
        }
        let count = self.piece.len().min(buffer.len());
        self.piece.copy_to_slice(&mut buffer[..count]);
        Ok(count)
    }
}
