//! A log as a client gets it: from the end or from a time on, with times and details, and on while
//! the container runs.
//!
//! The reader opens the files itself, so it needs neither the shim nor a lock: it goes on while the
//! container, the writer or a rotation does what it does, and it holds up none of them.

use std::collections::BTreeMap;
use std::path::Path;
use std::time::Duration;

use api::query::Logs;
use bytes::Bytes;
use logfile::timestamp::{Stamper, unix_now};
use logfile::{Format, Reader, Record};
use tokio::sync::watch;

use super::watch::{LogWatch, Watched};
use crate::container::Phase;
use crate::error::{Result, Step};

/// About so many bytes go to the client at once.
const CHUNK: usize = 64 << 10;
/// So many records may be passed over before others get their turn.
const PASSED_OVER: usize = 4 << 10;
/// Eight bytes before each record: the stream and the length.
const HEADER: usize = 8;

/// How long following goes on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Following {
    /// Until the container's present run ends, as dockerd has it. Programs that learn of the next
    /// start by the events follow anew then, and would get every line twice.
    Run,
    /// Until the container has ended and does not start again by itself or by a restart.
    Container,
}

/// A log as a stream of chunks, framed for the wire.
#[derive(Debug)]
pub struct LogReader {
    /// Whether the container has a terminal, whose log is raw and not framed.
    pub tty: bool,
    reader: Reader,
    writer: Frames,
    follow: bool,
    until: Option<i64>,
    watched: Option<Watched>,
    phase: watch::Receiver<Phase>,
    /// How often the container had ended when the present run began, if only that is followed.
    run: Option<u64>,
    container_gone: bool,
    over: bool,
}

/// What came of reading on.
#[derive(Debug)]
enum Progress {
    /// Something for the client.
    Chunk(Bytes),
    /// Nothing yet, but there is more to read.
    More,
    /// The end of what is written so far.
    End,
}

impl LogReader {
    /// Opens a log at the place that the options name.
    pub(crate) fn open(
        (path, format): (&Path, Format),
        tty: bool,
        options: &Logs,
        following: Following,
        phase: watch::Receiver<Phase>,
        watch: &LogWatch,
    ) -> Result<Self> {
        let step = || format!("read log {}", path.display());
        let watched = if options.follow {
            Some(watch.folder_of(path)?)
        } else {
            None
        };
        let mut reader = Reader::open(path, format).step(step)?;
        if !options.follow {
            reader.end_here().step(step)?;
        }
        if let Some(lines) = options.tail {
            reader.keep_last(lines).step(step)?;
        }
        let nanoseconds =
            |time: Option<api::query::Timestamp>| time.map(api::query::Timestamp::unix_nanoseconds);
        let since = nanoseconds(options.since);
        if let Some(since) = since {
            reader.skip_files_before(since);
        }
        Ok(Self {
            tty,
            reader,
            writer: Frames {
                framed: !tty,
                stdout: options.stdout,
                stderr: options.stderr,
                timestamps: options.timestamps,
                details: options.details.then(Details::default),
                since,
                stamper: Stamper::default(),
                out: Vec::new(),
            },
            follow: options.follow,
            until: nanoseconds(options.until),
            watched,
            run: (following == Following::Run).then(|| phase.borrow().exits),
            phase,
            container_gone: false,
            over: false,
        })
    }

    /// The next chunk, or `None` at the end.
    ///
    /// # Errors
    /// When a log file cannot be read.
    pub async fn next(&mut self) -> Result<Option<Bytes>> {
        while !self.over {
            // looked at before reading: what was written before the end is read after it
            let ended = !self.follow || self.container_gone || self.is_past();
            let ended = ended || self.is_run_over();
            if let Some(watched) = &mut self.watched {
                watched.mark_seen();
            }
            match self.read_on()? {
                Progress::Chunk(chunk) => return Ok(Some(chunk)),
                Progress::More => tokio::task::yield_now().await,
                Progress::End if ended || self.over => self.over = true,
                Progress::End => self.wait().await,
            }
        }
        Ok(None)
    }

    fn is_run_over(&mut self) -> bool {
        let phase = self.phase.borrow_and_update();
        phase.is_over() || self.run.is_some_and(|exits| phase.exits > exits)
    }

    /// Whether no record can come any more that is not behind the last wanted time.
    fn is_past(&self) -> bool {
        self.until.is_some_and(|until| unix_now() > until)
    }

    fn read_on(&mut self) -> Result<Progress> {
        let mut passed_over = 0;
        while self.writer.out.len() < CHUNK {
            let Some(record) = self.reader.read_next().step(|| "read the log")? else {
                let empty = self.writer.out.is_empty();
                return Ok(if empty {
                    Progress::End
                } else {
                    self.writer.chunk()
                });
            };
            if self.until.is_some_and(|until| record.time > until) {
                self.over = true;
                break;
            }
            self.writer.push(&record);
            passed_over += 1;
            if passed_over == PASSED_OVER && self.writer.out.is_empty() {
                return Ok(Progress::More);
            }
        }
        Ok(self.writer.chunk())
    }

    async fn wait(&mut self) {
        let Some(watched) = &mut self.watched else {
            return;
        };
        let left = self
            .until
            .map_or(i64::MAX, |until| until.saturating_sub(unix_now()));
        let left = Duration::from_nanos(u64::try_from(left).unwrap_or(0).saturating_add(1));
        tokio::select! {
            () = watched.changed() => {}
            changed = self.phase.changed() => self.container_gone = changed.is_err(),
            () = tokio::time::sleep(left) => {}
        }
    }
}

/// Makes frames of records.
#[derive(Debug)]
struct Frames {
    framed: bool,
    stdout: bool,
    stderr: bool,
    timestamps: bool,
    details: Option<Details>,
    since: Option<i64>,
    stamper: Stamper,
    out: Vec<u8>,
}

impl Frames {
    fn push(&mut self, record: &Record<'_>) {
        let wanted = match record.stream {
            logfile::Stream::Stdout => self.stdout,
            logfile::Stream::Stderr => self.stderr,
        };
        if !wanted || self.since.is_some_and(|since| record.time < since) {
            return;
        }
        let start = self.out.len();
        if self.framed {
            self.out.extend_from_slice(&[0; HEADER]);
        }
        if self.timestamps {
            self.stamper.push_fixed(&mut self.out, record.time);
            self.out.push(b' ');
        }
        if let Some(details) = &mut self.details {
            self.out.extend_from_slice(details.of(record.attrs));
            self.out.push(b' ');
        }
        self.out.extend_from_slice(record.text);
        if record.line_end {
            self.out.push(b'\n');
        }
        if self.framed {
            // a record is short
            let length = self.out.len() - start - HEADER;
            let [a, b, c, d] = u32::try_from(length).unwrap_or(u32::MAX).to_be_bytes();
            let header = [record.stream.number(), 0, 0, 0, a, b, c, d];
            self.out[start..start + HEADER].copy_from_slice(&header);
        }
    }

    fn chunk(&mut self) -> Progress {
        if self.out.is_empty() {
            return Progress::End;
        }
        let next = Vec::with_capacity(if self.out.len() < CHUNK {
            0
        } else {
            CHUNK + CHUNK / 4
        });
        Progress::Chunk(std::mem::replace(&mut self.out, next).into())
    }
}

/// The attributes of records as `logs --details` shows them, kept for the next record that has the
/// same: `a=b,c=d`, escaped as in a query.
#[derive(Debug, Default)]
struct Details {
    attrs: Vec<u8>,
    shown: Vec<u8>,
}

impl Details {
    fn of(&mut self, attrs: &[u8]) -> &[u8] {
        if attrs != self.attrs {
            self.attrs = attrs.to_vec();
            self.shown = shown(attrs);
        }
        &self.shown
    }
}

fn shown(attrs: &[u8]) -> Vec<u8> {
    let all: BTreeMap<String, String> = serde_json::from_slice(attrs).unwrap_or_default();
    let mut shown = Vec::new();
    for (key, value) in &all {
        if !shown.is_empty() {
            shown.push(b',');
        }
        escape(&mut shown, key);
        shown.push(b'=');
        escape(&mut shown, value);
    }
    shown
}

fn escape(into: &mut Vec<u8>, text: &str) {
    const HEX: &[u8; 16] = b"0123456789ABCDEF";
    for byte in text.bytes() {
        match byte {
            b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'-' | b'_' | b'.' | b'~' => into.push(byte),
            b' ' => into.push(b'+'),
            _ => into.extend_from_slice(&[
                b'%',
                HEX[usize::from(byte >> 4)],
                HEX[usize::from(byte & 15)],
            ]),
        }
    }
}

#[cfg(test)]
mod tests;
