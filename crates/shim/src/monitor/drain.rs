//! The copying of what a process that has ended left in its pipes, and when to stop.

use std::time::{Duration, Instant};

use shim::stdcopy::Output;

use super::stdio::Stdio;

/// How long nothing may come from a pipe that somebody else still holds open.
const QUIET: Duration = Duration::from_millis(100);
/// How long it may go on at all.
const LONGEST: Duration = Duration::from_secs(2);
/// How many bytes are taken at most: all that two pipes of the largest usual size
/// (`fs.pipe-max-size`) can hold.
const MOST: usize = 2 << 20;

/// A process's last output.
///
/// What the process itself wrote is in its pipes when it has been reaped. All of it is taken, past
/// the bound of the clients' buffers, so that a client that does not read cannot put off the news
/// of the end. A child of the process that lives on, in another pid namespace or after an exec, may
/// hold a pipe open for ever: it gets a short time.
#[derive(Debug)]
pub(crate) struct Drain {
    began: Instant,
    quiet_since: Instant,
    room: usize,
}

impl Drain {
    pub(crate) fn new() -> Self {
        let now = Instant::now();
        Self {
            began: now,
            quiet_since: now,
            room: MOST,
        }
    }

    /// Copies what there is now; says whether that was the last.
    pub(crate) fn step(
        &mut self,
        stdio: &mut Stdio,
        buffer: &mut [u8],
        log: impl FnMut(Output, &[u8]),
    ) -> bool {
        let copied = stdio.drain(buffer, self.room, log);
        self.room = self.room.saturating_sub(copied);
        let now = Instant::now();
        if copied > 0 {
            self.quiet_since = now;
        }
        stdio.is_drained() || self.room == 0 || now >= self.due()
    }

    /// When it ends at the latest, if nothing comes.
    pub(crate) fn due(&self) -> Instant {
        (self.quiet_since + QUIET).min(self.began + LONGEST)
    }
}
