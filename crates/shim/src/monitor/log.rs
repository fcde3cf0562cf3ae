//! The container's log: two streams that are split into records of one file.

use std::io;

use shim::LogSink;
use shim::json_log::{LogFile, Splitter};
use shim::stdcopy::Output;

/// A container's log; absent where none is kept.
#[derive(Debug)]
pub(crate) struct Log {
    file: Option<LogFile>,
    stdout: Splitter,
    stderr: Splitter,
}

impl Log {
    pub(crate) fn open(sink: &LogSink) -> io::Result<Self> {
        let file = match sink {
            LogSink::None => None,
            LogSink::JsonFile {
                path,
                max_size,
                max_files,
            } => Some(LogFile::open(path, *max_size, *max_files)?),
        };
        Ok(Self {
            file,
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
        let time = shim::timestamp::now();
        if bytes.is_empty() {
            splitter.finish(|piece| file.push(piece, output, &time));
        } else {
            splitter.feed(bytes, |piece| file.push(piece, output, &time));
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

    /// How many records were lost, and the last failure.
    pub(crate) fn failures(&self) -> (u64, Option<String>) {
        self.file.as_ref().map_or((0, None), |file| {
            (file.lines_lost(), file.error().map(str::to_owned))
        })
    }
}
