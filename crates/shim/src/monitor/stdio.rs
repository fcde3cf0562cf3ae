//! A process's stdio: its pipes or terminal on one side, its clients on the other.

use std::io::{self, ErrorKind};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::time::{Duration, Instant};

use rustix::event::PollFlags;
use rustix::pipe::PipeFlags;
use rustix::termios::Winsize;
use shim::AttachOrder;
use shim::stdcopy::Output;

use super::stdin::Stdin;
use super::stream::Stream;

/// What of the stdio an event is about.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Part {
    /// The process takes input.
    Stdin,
    /// The process has written.
    Output(Output),
    /// The client with this index.
    Client(usize),
}

/// What happens to standard input when a client's input ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum InputEnd {
    /// It stays open for the next client.
    Keep,
    /// It ends, too.
    Close,
}

/// The ends of pipes that the process gets; absent ones are `/dev/null`.
#[derive(Debug, Default)]
pub(crate) struct ChildEnds {
    pub(crate) stdin: Option<OwnedFd>,
    pub(crate) stdout: Option<OwnedFd>,
    pub(crate) stderr: Option<OwnedFd>,
}

impl ChildEnds {
    /// What the runtime wants to be given.
    pub(crate) fn with(self, netns: Option<OwnedFd>, seccomp: Option<OwnedFd>) -> runtime::Fds {
        runtime::Fds {
            stdin: self.stdin,
            stdout: self.stdout,
            stderr: self.stderr,
            netns,
            seccomp,
        }
    }
}

/// A process's stdio, our side.
#[derive(Debug)]
pub(crate) struct Stdio {
    stdin: Option<Stdin>,
    outputs: Vec<(Output, OwnedFd)>,
    terminal: bool,
    input_end: InputEnd,
    clients: Vec<Stream>,
}

impl Stdio {
    /// For a process with a terminal, which comes later, or without any stream.
    pub(crate) fn empty(input_end: InputEnd) -> Self {
        Self {
            stdin: None,
            outputs: Vec::new(),
            terminal: false,
            input_end,
            clients: Vec::new(),
        }
    }

    /// Makes the pipes for the streams of `wanted`.
    pub(crate) fn pipes(wanted: AttachOrder, input_end: InputEnd) -> io::Result<(Self, ChildEnds)> {
        let mut stdio = Self::empty(input_end);
        let mut stdin = None;
        if wanted.stdin {
            let (theirs, ours) = rustix::pipe::pipe_with(PipeFlags::CLOEXEC)?;
            stdio.stdin = Some(Stdin::new(ours)?);
            stdin = Some(theirs);
        }
        let stdout = stdio.output(wanted.stdout, Output::Stdout)?;
        let stderr = stdio.output(wanted.stderr, Output::Stderr)?;
        Ok((
            stdio,
            ChildEnds {
                stdin,
                stdout,
                stderr,
            },
        ))
    }

    /// Takes the master side of the process's terminal.
    pub(crate) fn set_terminal(&mut self, master: OwnedFd) -> io::Result<()> {
        rustix::io::ioctl_fionbio(&master, true)?;
        let writer = rustix::io::fcntl_dupfd_cloexec(&master, 3)?;
        self.stdin = Some(Stdin::new(writer)?);
        self.outputs = vec![(Output::Stdout, master)];
        self.terminal = true;
        for client in &mut self.clients {
            client.set_raw(true);
        }
        Ok(())
    }

    /// Adds a client.
    pub(crate) fn add(&mut self, mut client: Stream) {
        client.set_raw(self.terminal);
        self.clients.push(client);
    }

    /// Sets the terminal's size; `false` if there is no terminal.
    pub(crate) fn resize(&self, height: u16, width: u16) -> io::Result<bool> {
        let Some((_, master)) = self.outputs.first().filter(|_| self.terminal) else {
            return Ok(false);
        };
        let size = Winsize {
            ws_row: height,
            ws_col: width,
            ws_xpixel: 0,
            ws_ypixel: 0,
        };
        rustix::termios::tcsetwinsize(master, size)?;
        Ok(true)
    }

    /// Ends standard input. A terminal has no end of input but what is typed into it.
    pub(crate) fn close_stdin(&mut self) {
        if let Some(stdin) = self.stdin.as_mut().filter(|_| !self.terminal) {
            stdin.end();
        }
    }

    /// Tells what to poll for.
    pub(crate) fn interest<'a>(&'a self, mut ask: impl FnMut(Part, BorrowedFd<'a>, PollFlags)) {
        if let Some(fd) = self.stdin.as_ref().and_then(Stdin::wants_write) {
            ask(Part::Stdin, fd, PollFlags::OUT);
        }
        for (output, fd) in &self.outputs {
            if !self.held_up(*output) {
                ask(Part::Output(*output), fd.as_fd(), PollFlags::IN);
            }
        }
        let room = self.stdin.as_ref().is_none_or(Stdin::has_room);
        for (index, client) in self.clients.iter().enumerate() {
            ask(Part::Client(index), client.fd(), client.interest(room));
        }
    }

    /// Handles one event; `log` gets output, with nothing when a stream has ended.
    pub(crate) fn handle(
        &mut self,
        part: Part,
        flags: PollFlags,
        buffer: &mut [u8],
        log: impl FnMut(Output, &[u8]),
    ) {
        match part {
            Part::Stdin => {
                if let Some(stdin) = &mut self.stdin {
                    stdin.write();
                }
            }
            Part::Output(output) => {
                self.copy_output(output, buffer, log);
            }
            Part::Client(index) => self.serve(index, flags, buffer),
        }
    }

    /// Copies what is in the pipes now, after the process has ended, whether or not clients take
    /// it; stops after about `room` bytes. Gives the number of bytes.
    pub(crate) fn drain(
        &mut self,
        buffer: &mut [u8],
        room: usize,
        mut log: impl FnMut(Output, &[u8]),
    ) -> usize {
        let mut copied = 0;
        for output in [Output::Stdout, Output::Stderr] {
            while copied < room
                && let Some(count) = self.copy_output(output, buffer, &mut log)
            {
                copied += count;
            }
        }
        copied
    }

    /// Whether every stream of the process has ended.
    pub(crate) fn is_drained(&self) -> bool {
        self.outputs.is_empty()
    }

    /// The process has ended and its output was copied.
    pub(crate) fn end(&mut self) {
        self.stdin = None;
        self.outputs.clear();
        for client in &mut self.clients {
            client.end();
        }
    }

    /// Forgets dead clients; says whether any is left.
    pub(crate) fn sweep(&mut self) -> bool {
        self.clients.retain(|client| !client.is_dead());
        !self.clients.is_empty()
    }

    /// Drops guests that hold the process up for too long; gives the time until the next one.
    pub(crate) fn check_patience(&mut self, now: Instant) -> Option<Duration> {
        self.clients
            .iter_mut()
            .filter_map(|client| client.check_patience(now))
            .min()
    }

    fn output(&mut self, wanted: bool, output: Output) -> io::Result<Option<OwnedFd>> {
        if !wanted {
            return Ok(None);
        }
        let (ours, theirs) = rustix::pipe::pipe_with(PipeFlags::CLOEXEC)?;
        rustix::io::ioctl_fionbio(&ours, true)?;
        self.outputs.push((output, ours));
        Ok(Some(theirs))
    }

    fn held_up(&self, output: Output) -> bool {
        self.clients.iter().any(|client| client.holds_up(output))
    }

    /// Reads one piece and gives it to everybody; `None` when there is nothing now or ever.
    fn copy_output(
        &mut self,
        output: Output,
        buffer: &mut [u8],
        mut log: impl FnMut(Output, &[u8]),
    ) -> Option<usize> {
        let at = self
            .outputs
            .iter()
            .position(|(which, _)| *which == output)?;
        match rustix::io::read(&self.outputs[at].1, &mut *buffer).map_err(io::Error::from) {
            Ok(count) if count > 0 => {
                log(output, &buffer[..count]);
                for client in &mut self.clients {
                    client.push(output, &buffer[..count]);
                }
                return Some(count);
            }
            Err(error) if error.kind() == ErrorKind::WouldBlock => return None,
            Err(error) if error.kind() == ErrorKind::Interrupted => return Some(0),
            // A terminal's last user has left: the master reads EIO, not the end of a file.
            Ok(_) | Err(_) => {}
        }
        log(output, &[]);
        self.outputs.remove(at);
        None
    }

    fn serve(&mut self, index: usize, flags: PollFlags, buffer: &mut [u8]) {
        let Some(client) = self.clients.get_mut(index) else {
            return;
        };
        if flags.contains(PollFlags::OUT) {
            client.write();
        }
        if flags.contains(PollFlags::IN) && client.input_open() {
            match client.read(buffer) {
                Some(0) => self.input_ended(),
                Some(count) => {
                    if let Some(stdin) = &mut self.stdin {
                        stdin.push(&buffer[..count]);
                    }
                }
                None => {}
            }
        } else if flags.intersects(PollFlags::HUP | PollFlags::ERR | PollFlags::NVAL) {
            let had_input = client.input_open();
            client.hang_up();
            if had_input {
                self.input_ended();
            }
        }
    }

    fn input_ended(&mut self) {
        if self.input_end == InputEnd::Close {
            self.close_stdin();
        }
    }
}
