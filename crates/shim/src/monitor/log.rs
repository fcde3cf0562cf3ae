//! The container's log: two streams that are split into records of one file.

use std::io;
use std::time::Duration;

use logfile::{LogFile, Position, Splitter};
use shim::LogSink;
use shim::stdcopy::Output;

/// How long a disk that has refused records is left alone.
const RETRY: Duration = Duration::from_secs(1);
/// The pause between two steps of a compression, in which output goes first.
const BREATH: Duration = Duration::from_millis(1);

/// A container's log; absent where none is kept.
#[derive(Debug)]
pub(crate) struct Log {
    file: Option<LogFile>,
    hold: Option<u64>,
    stdout: Splitter,
    stderr: Splitter,
}

impl Log {
    pub(crate) fn open(sink: &LogSink) -> io::Result<Self> {
        let (file, hold) = match sink {
            LogSink::None => (None, None),
            LogSink::File { settings, hold } => (Some(LogFile::open(settings.clone())?), *hold),
        };
        Ok(Self {
            file,
            hold,
            stdout: Splitter::default(),
            stderr: Splitter::default(),
        })
    }

    /// Takes what was read just now; nothing is the stream's end.
    pub(crate) fn take(&mut self, output: Output, bytes: &[u8]) {
        let Some(file) = &mut self.file else { return };
        let splitter = match output {
            Output::Stdout => &mut self.stdout,
            Output::Stderr => &mut self.stderr,
        };
        if bytes.is_empty() {
            splitter.finish(|piece| file.push(piece, output));
        } else {
            splitter.feed(bytes, |piece| file.push(piece, output));
        }
        file.flush();
    }

    /// Writes what has no line end yet: nothing more will come.
    pub(crate) fn finish(&mut self) {
        self.take(Output::Stdout, &[]);
        self.take(Output::Stderr, &[]);
    }

    pub(crate) fn reopen(&mut self) -> io::Result<()> {
        self.file.as_mut().map_or(Ok(()), LogFile::reopen)
    }

    /// Takes note of how far the log was followed.
    pub(crate) fn followed(&mut self, position: &Position) {
        if let Some(file) = &mut self.file {
            file.followed(position);
        }
    }

    /// Whether the process must wait for whoever follows the log.
    pub(crate) fn holds_up(&self) -> bool {
        let behind = self.file.as_ref().map_or(0, LogFile::behind);
        self.hold.is_some_and(|most| behind >= most)
    }

    /// How long until [`Self::work`] is due, if nothing else happens.
    pub(crate) fn due(&self) -> Option<Duration> {
        let file = self.file.as_ref()?;
        if file.wants_compression() {
            Some(BREATH)
        } else {
            file.is_waiting().then_some(RETRY)
        }
    }

    /// Does a little of what can wait; says whether there was any.
    pub(crate) fn work(&mut self) -> bool {
        let Some(file) = &mut self.file else {
            return false;
        };
        let waiting = file.is_waiting();
        if waiting {
            file.flush();
        }
        let compress = file.wants_compression();
        if compress {
            file.compress_some();
        }
        waiting || compress
    }

    /// How many records were lost, and the last failure.
    pub(crate) fn failures(&self) -> (u64, Option<String>) {
        self.file.as_ref().map_or((0, None), |file| {
            (file.records_lost(), file.error().map(str::to_owned))
        })
    }
}
