//! From the local file system into a container.

use super::paths::{self, Target};
use super::{Remote, is_dir, is_link, stat, tell};
use crate::args::Call;
use crate::commands::container_path;
use crate::connect;
use crate::failure::Failure;
use anyhow::Context;
use api::archive::file_mode;
use api::client::{Body, BodySender, Method};
use bytes::{Bytes, BytesMut};
use rustix::fs::{FileType, Mode, OFlags};
use std::io::{self, Read, Write};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use storage::files::{Found, TreeOptions, write_entry};

/// Bytes of one piece of the archive.
const PIECE: usize = 256 << 10;

pub(super) async fn copy(call: &Call, source: &str, to: &Remote<'_>) -> anyhow::Result<u8> {
    // what is not there need not be sent
    let local = if source == "-" {
        None
    } else {
        Some(open(source, call.on("follow-link"))?)
    };
    connect::ready(&call.client, &call.globals).await?;
    let target = target(call, to).await?;
    let sent = Arc::new(AtomicU64::new(0));
    let (sender, body) = Body::stream();
    let pieces = Pieces {
        sender,
        runtime: tokio::runtime::Handle::current(),
        piece: BytesMut::new(),
        sent: Arc::clone(&sent),
    };
    let directory = match local {
        None if !target.is_dir => {
            let Remote { container, path } = to;
            let shown = format!("{container}:{path}");
            let why = format!("destination {shown:?} must be a directory");
            return Err(Failure::message(why).into());
        }
        None => {
            std::thread::spawn(move || pieces.feed(|output| pass(io::stdin().lock(), output)));
            target.path
        }
        Some((found, name)) => {
            let is_dir = FileType::from_raw_mode(found.stat.st_mode) == FileType::Directory;
            let place = paths::place(&name, is_dir, &target)?;
            let options = TreeOptions {
                name: place.name.into_bytes(),
                ..TreeOptions::default()
            };
            let write = move |output: &mut Pieces| {
                write_entry(&found, options, output).map_err(io::Error::other)
            };
            std::thread::spawn(move || pieces.feed(write));
            place.directory
        }
    };
    let endpoint = container_path(to.container, "/archive");
    call.client
        .request(Method::PUT, &endpoint)
        .query("path", directory)
        .query("noOverwriteDirNonDir", "true")
        .query_opt("copyUIDGID", call.on("archive").then_some("true"))
        .body(body, "application/x-tar")
        .run()
        .await?;
    let shown = format!("{}:{}", to.container, to.path);
    tell(call, sent.load(Ordering::Relaxed), &shown);
    Ok(0)
}

/// What the source is, and its name at the top of the archive.
fn open(source: &str, follow: bool) -> anyhow::Result<(Found, String)> {
    let path = paths::absolute(source)?;
    let name = paths::base(&path).to_owned();
    let mut flags = OFlags::PATH | OFlags::CLOEXEC;
    if !follow {
        flags |= OFlags::NOFOLLOW;
    }
    let fd = rustix::fs::open(&path, flags, Mode::empty())
        .map_err(io::Error::from)
        .with_context(|| format!("lstat {path}"))?;
    let stat = rustix::fs::fstat(&fd).map_err(io::Error::from)?;
    Ok((Found { fd, stat }, name))
}

/// What is at the destination; when the engine does not tell, it will complain of the copy itself.
async fn target(call: &Call, to: &Remote<'_>) -> anyhow::Result<Target> {
    let mut path = to.path.to_owned();
    let mut found = stat(&call.client, to.container, &path).await;
    if let Some(link) = found.as_ref().filter(|stat| is_link(stat)) {
        path.clone_from(&link.link_target);
        found = stat(&call.client, to.container, &path).await;
    }
    if found
        .as_ref()
        .is_some_and(|stat| stat.mode & file_mode::DEVICE != 0)
    {
        let shown = format!("{}:{}", to.container, to.path);
        let why = format!("destination {shown:?} must be a directory or a regular file");
        return Err(Failure::message(why).into());
    }
    Ok(Target {
        path,
        exists: found.is_some(),
        is_dir: found.as_ref().is_some_and(is_dir),
    })
}

fn pass(mut source: impl Read, output: &mut Pieces) -> io::Result<()> {
    io::copy(&mut source, output).map(drop)
}

/// The body of the request, for code that writes and blocks.
struct Pieces {
    sender: BodySender,
    runtime: tokio::runtime::Handle,
    piece: BytesMut,
    sent: Arc<AtomicU64>,
}

impl Pieces {
    /// Writes the whole body, or tells the engine that it is not whole.
    fn feed(mut self, write: impl FnOnce(&mut Self) -> io::Result<()>) {
        let written = write(&mut self).and_then(|()| self.flush());
        if let Err(error) = written {
            let Self {
                sender, runtime, ..
            } = self;
            runtime.block_on(sender.fail(error));
        }
    }
}

impl Write for Pieces {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        if self.piece.capacity() == 0 {
            self.piece.reserve(PIECE);
        }
        let count = bytes.len().min(PIECE - self.piece.len());
        self.piece.extend_from_slice(&bytes[..count]);
        if self.piece.len() == PIECE {
            self.flush()?;
        }
        Ok(count)
    }

    fn flush(&mut self) -> io::Result<()> {
        if self.piece.is_empty() {
            return Ok(());
        }
        let piece: Bytes = std::mem::take(&mut self.piece).freeze();
        self.sent.fetch_add(piece.len() as u64, Ordering::Relaxed);
        if self.runtime.block_on(self.sender.send(piece)) {
            return Ok(());
        }
        Err(io::ErrorKind::BrokenPipe.into())
    }
}
