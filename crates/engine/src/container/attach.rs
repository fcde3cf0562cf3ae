//! Joining a container's streams, before its start or while it runs.

use std::os::fd::OwnedFd;

use api::query::{Attach, Logs};
use shim::{AttachOrder, Reply, Request};
use tokio::net::UnixStream;

use super::exec::Settled;
use super::logs::{Following, LogReader};
use super::{Container, Status, lock};
use crate::engine::Engine;
use crate::error::{Error, Result, Step};
use crate::shim_link::{Link, refusal};

/// Joined streams.
#[derive(Debug)]
pub struct Attachment {
    /// Whether the container has a terminal: the bytes are raw, not framed.
    pub tty: bool,
    /// What was said before, if it was asked for.
    pub past: Option<LogReader>,
    /// The streams as the client gets them; half-closing it ends standard input.
    pub io: Option<UnixStream>,
    /// For an exec: what to wait for behind the streams' end, so that its exit code is known.
    pub settled: Option<Settled>,
}

/// A client that attached before the start.
#[derive(Debug)]
pub(super) struct Early {
    pub(super) order: AttachOrder,
    pub(super) fd: OwnedFd,
}

/// The most clients that may wait for one start; each is an fd with the order to the shim.
const EARLY_MAX: usize = 24;

impl Engine {
    /// Joins a container's streams.
    ///
    /// # Errors
    /// When the container is paused or gone, or its shim does not answer.
    pub async fn container_attach(&self, name: &str, options: &Attach) -> Result<Attachment> {
        let container = self.containers.get(name)?;
        let order = AttachOrder {
            stdin: options.stdin,
            stdout: options.stdout,
            stderr: options.stderr,
        };
        let (tty, status) = {
            let record = container.record();
            (record.config.tty, record.state.status)
        };
        let past = if options.logs {
            Some(self.past(&container, options)?)
        } else {
            None
        };
        let io = match (options.stream, status) {
            (false, _) => None,
            (true, Status::Paused) => {
                return Err(Error::conflict(format!(
                    "container {name} is paused, unpause the container before attach"
                )));
            }
            (true, Status::Restarting) => {
                return Err(Error::conflict(format!(
                    "container {name} is restarting, wait until the container is running"
                )));
            }
            (true, Status::Running) => Some(self.attach_running(&container, order).await?),
            (true, _) => Some(attach_early(&container, order)?),
        };
        if io.is_some() {
            self.container_event("attach", &container, &[]);
        }
        Ok(Attachment {
            tty,
            past,
            io,
            settled: None,
        })
    }

    /// Tells that a client has left a container by its detach keys.
    pub fn container_detached(&self, name: &str) {
        if let Ok(container) = self.containers.get(name) {
            self.container_event("detach", &container, &[]);
        }
    }

    fn past(&self, container: &Container, options: &Attach) -> Result<LogReader> {
        let lines = Logs {
            stdout: options.stdout,
            stderr: options.stderr,
            ..Logs::default()
        };
        self.open_log(container, &lines, Following::Run)
    }

    async fn attach_running(
        &self,
        container: &Container,
        order: AttachOrder,
    ) -> Result<UnixStream> {
        let mut link = Link::connect(&self.run_dir(&container.id))?;
        match link.call(&Request::Attach(order), &[]).await {
            Ok(Reply::Ok) => Ok(link.into_stream()),
            Ok(reply) => Err(Error::internal(format!(
                "attach: unexpected answer {reply:?}"
            ))),
            Err(error) => Err(refusal(&error).context("attach")),
        }
    }
}

/// Makes the stream now, for the shim to take over with the start.
fn attach_early(container: &Container, order: AttachOrder) -> Result<UnixStream> {
    let mut early = lock(&container.early);
    // those whose clients have left make room
    early.retain(|e| !hung_up(&e.fd));
    if early.len() >= EARLY_MAX {
        return Err(Error::conflict(format!(
            "attach: {EARLY_MAX} clients already wait for the container's start"
        )));
    }
    let step = || "make a stream for the container's start";
    let (ours, theirs) = std::os::unix::net::UnixStream::pair().step(step)?;
    ours.set_nonblocking(true).step(step)?;
    early.push(Early {
        order,
        fd: theirs.into(),
    });
    UnixStream::from_std(ours).step(step)
}

fn hung_up(fd: &OwnedFd) -> bool {
    use rustix::event::{PollFd, PollFlags, Timespec, poll};
    let mut fds = [PollFd::new(fd, PollFlags::empty())];
    poll(
        &mut fds,
        Some(&Timespec {
            tv_sec: 0,
            tv_nsec: 0,
        }),
    )
    .is_ok_and(|n| n > 0)
}
