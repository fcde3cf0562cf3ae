//! The pipes through which splice(2) moves bytes from socket to socket.

use std::io;
use std::os::fd::OwnedFd;
use std::sync::{Arc, Mutex, PoisonError};

use rustix::pipe::{PipeFlags, pipe_with};

/// How many empty pipes are kept for the next connection that moves bytes.
const SPARE: usize = 8;

/// A pipe that is empty whenever nobody has it.
#[derive(Debug)]
pub(super) struct Pipe {
    pub(super) read: OwnedFd,
    pub(super) write: OwnedFd,
}

/// Pipes that lie ready: a connection has one only while bytes are in it.
#[derive(Debug, Clone, Default)]
pub(super) struct Pipes(Arc<Mutex<Vec<Pipe>>>);

impl Pipes {
    pub(super) fn take(&self) -> io::Result<Pipe> {
        let spare = self.0.lock().unwrap_or_else(PoisonError::into_inner).pop();
        if let Some(pipe) = spare {
            return Ok(pipe);
        }
        let (read, write) = pipe_with(PipeFlags::CLOEXEC | PipeFlags::NONBLOCK)?;
        Ok(Pipe { read, write })
    }

    /// Takes an empty pipe back.
    pub(super) fn give_back(&self, pipe: Pipe) {
        let mut spare = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if spare.len() < SPARE {
            spare.push(pipe);
        }
    }
}
