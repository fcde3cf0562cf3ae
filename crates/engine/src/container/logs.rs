//! Reading a container's log: the json-file that its shim writes.
//!
//! The reader opens the files itself, so it needs neither the shim nor a lock: it goes on while the
//! container, the engine's writer or a rotation does what it does. Following waits for the kernel
//! (inotify on the log's folder), not for a timer.

use std::collections::VecDeque;
use std::fs::File;
use std::io::{Read, Seek, SeekFrom};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use api::query::Logs;
use api::stdcopy;
use bytes::{BufMut, Bytes, BytesMut};
use jiff::Timestamp;
use rustix::fs::inotify;
use serde::Deserialize;
use tokio::io::unix::AsyncFd;
use tokio::sync::watch;

use crate::container::Phase;
use crate::error::{Error, Result, Step};

/// One read of a log file; a line is longer only when the container wrote it so (16 KiB and its JSON escapes).
const READ: usize = 64 << 10;
/// A line that grows past this without an end is not one of ours; it is skipped.
const LINE_MAX: usize = 1 << 20;

#[derive(Deserialize)]
struct Line<'a> {
    #[serde(borrow)]
    log: std::borrow::Cow<'a, str>,
    #[serde(borrow)]
    stream: std::borrow::Cow<'a, str>,
    time: Timestamp,
}

/// A log as a stream of chunks, framed for the wire.
#[derive(Debug)]
pub struct LogReader {
    /// Whether the container has a terminal, whose log is raw and not framed.
    pub tty: bool,
    options: Logs,
    path: PathBuf,
    file: Option<File>,
    /// Rotated files still to read, oldest first.
    older: VecDeque<File>,
    pending: Vec<u8>,
    watch: Option<AsyncFd<rustix::fd::OwnedFd>>,
    phase: watch::Receiver<Phase>,
    over: bool,
}

impl LogReader {
    pub(super) fn open(
        path: &Path,
        tty: bool,
        options: Logs,
        phase: watch::Receiver<Phase>,
    ) -> Result<Self> {
        let watch = if options.follow {
            Some(watch_folder(path)?)
        } else {
            None
        };
        let mut files = open_all(path)?;
        if let Some(lines) = options
            .tail
            .map(|n| usize::try_from(n).unwrap_or(usize::MAX))
        {
            skip_to_tail(&mut files, lines).step(|| format!("read log {}", path.display()))?;
        }
        let file = files.pop_back();
        let older = files;
        Ok(Self {
            tty,
            options,
            path: path.to_owned(),
            file,
            older,
            pending: Vec::new(),
            watch,
            phase,
            over: false,
        })
    }

    /// The next chunk, or `None` at the end.
    ///
    /// # Errors
    /// When a log file cannot be read.
    pub async fn next(&mut self) -> Result<Option<Bytes>> {
        loop {
            if self.over {
                return Ok(None);
            }
            // looked at before reading: what was written before the end is read after it
            let ended = !self.options.follow || self.phase.borrow_and_update().is_over();
            let chunk = self.read_chunk()?;
            if !chunk.is_empty() {
                return Ok(Some(chunk));
            }
            if self.pending_files()? {
                continue;
            }
            if ended {
                self.over = true;
            } else {
                self.wait().await?;
            }
        }
    }

    /// Whether another file has to be read before the end is reached: an older one, or those that
    /// rotations have made since.
    fn pending_files(&mut self) -> Result<bool> {
        if self.older.pop_front().is_some() {
            return Ok(true);
        }
        let inode = |file: &File| file.metadata().map(|m| m.ino()).ok();
        let own = self.file.as_ref().and_then(inode);
        let mut files = open_all(&self.path)?;
        if let Some(place) = files.iter().position(|file| inode(file) == own) {
            files.drain(..=place);
        }
        let Some(newest) = files.pop_back() else {
            return Ok(false);
        };
        // more may have been written between the last read and the rotation
        self.older.extend(self.file.replace(newest));
        self.older.append(&mut files);
        Ok(true)
    }

    fn read_chunk(&mut self) -> Result<Bytes> {
        let Some(file) = self.older.front_mut().or(self.file.as_mut()) else {
            return Ok(Bytes::new());
        };
        let mut buffer = vec![0; READ];
        let mut out = BytesMut::new();
        while out.is_empty() && !self.over {
            let n = file
                .read(&mut buffer)
                .step(|| format!("read log {}", self.path.display()))?;
            if n == 0 {
                break;
            }
            self.pending.extend_from_slice(&buffer[..n]);
            let mut start = 0;
            while let Some(end) = self.pending[start..].iter().position(|b| *b == b'\n') {
                let past = emit(
                    &self.pending[start..start + end],
                    self.tty,
                    &self.options,
                    &mut out,
                );
                start += end + 1;
                if past {
                    self.over = true;
                    break;
                }
            }
            self.pending.drain(..start);
            if self.pending.len() > LINE_MAX {
                self.pending.clear();
            }
        }
        Ok(out.freeze())
    }

    async fn wait(&mut self) -> Result<()> {
        let Some(watch) = &self.watch else {
            return Ok(());
        };
        tokio::select! {
            ready = watch.readable() => {
                let mut ready = ready.step(|| "wait for the log to grow")?;
                let mut buffer = [0_u8; 4096];
                while rustix::io::read(watch, &mut buffer).is_ok_and(|n| n > 0) {}
                ready.clear_ready();
            }
            // an error means that the container is gone, which the next round sees
            _ = self.phase.changed() => {}
        }
        Ok(())
    }
}

/// Writes one log line to `out`; answers whether the line lies behind `until`.
fn emit(line: &[u8], tty: bool, options: &Logs, out: &mut BytesMut) -> bool {
    // a line cut by a crash or a full disk is skipped, as Docker does
    let Ok(line) = serde_json::from_slice::<Line<'_>>(line) else {
        return false;
    };
    let time = line.time.as_nanosecond();
    let nanoseconds = |t: api::query::Timestamp| i128::from(t.unix_nanoseconds());
    if options.until.is_some_and(|until| time > nanoseconds(until)) {
        return true;
    }
    let stderr = line.stream == "stderr";
    let wanted = if stderr {
        options.stderr
    } else {
        options.stdout
    };
    if !wanted || options.since.is_some_and(|since| time < nanoseconds(since)) {
        return false;
    }
    let stamp = if options.timestamps {
        format!("{:.9} ", line.time)
    } else {
        String::new()
    };
    if !tty {
        let stream = if stderr {
            stdcopy::Stream::Stderr
        } else {
            stdcopy::Stream::Stdout
        };
        // at most LINE_MAX and a time stamp
        let length = u32::try_from(stamp.len() + line.log.len()).unwrap_or(u32::MAX);
        out.put_slice(&stdcopy::header(stream, length));
    }
    out.put_slice(stamp.as_bytes());
    out.put_slice(line.log.as_bytes());
    false
}

/// All files of a log, oldest first: `path.N` ... `path.1`, `path`.
fn open_all(path: &Path) -> Result<VecDeque<File>> {
    let mut files = VecDeque::new();
    match File::open(path) {
        Ok(file) => files.push_front(file),
        Err(e) if e.kind() == std::io::ErrorKind::NotFound => return Ok(files),
        Err(e) => return Err(e).step(|| format!("open log {}", path.display())),
    }
    for n in 1.. {
        let mut name = path.as_os_str().to_owned();
        name.push(format!(".{n}"));
        let Ok(file) = File::open(name) else { break };
        files.push_front(file);
    }
    Ok(files)
}

/// Moves the files' positions so that `lines` lines are left, and drops the files before them.
fn skip_to_tail(files: &mut VecDeque<File>, lines: usize) -> std::io::Result<()> {
    let mut left = lines;
    for index in (0..files.len()).rev() {
        let (position, found) = tail_position(&mut files[index], left)?;
        files[index].seek(SeekFrom::Start(position))?;
        left -= found;
        if left == 0 {
            files.drain(..index);
            return Ok(());
        }
    }
    Ok(())
}

/// The position of the last `lines` whole lines of a file, and how many it has of them.
fn tail_position(file: &mut File, lines: usize) -> std::io::Result<(u64, usize)> {
    let mut end = file.metadata()?.len();
    if lines == 0 {
        return Ok((end, 0));
    }
    let mut buffer = vec![0; READ];
    let mut found = 0;
    while end > 0 {
        let n = usize::try_from(end).map_or(READ, |end| end.min(READ));
        let start = end - n as u64;
        file.seek(SeekFrom::Start(start))?;
        file.read_exact(&mut buffer[..n])?;
        for index in (0..n).rev().filter(|&i| buffer[i] == b'\n') {
            if found == lines {
                return Ok((start + index as u64 + 1, found));
            }
            found += 1;
        }
        end = start;
    }
    Ok((0, found))
}

/// Watches the log's folder, so that a rotation is seen as well as a write.
fn watch_folder(path: &Path) -> Result<AsyncFd<rustix::fd::OwnedFd>> {
    let folder = path.parent().unwrap_or(Path::new("/"));
    let step = || format!("watch folder {}", folder.display());
    let fd =
        inotify::init(inotify::CreateFlags::CLOEXEC | inotify::CreateFlags::NONBLOCK).step(step)?;
    let flags =
        inotify::WatchFlags::MODIFY | inotify::WatchFlags::CREATE | inotify::WatchFlags::MOVED_TO;
    inotify::add_watch(&fd, folder, flags).step(step)?;
    #[expect(
        deprecated,
        reason = "its successor is unsafe for fds of unknown owners; an OwnedFd owns itself"
    )]
    let fd = AsyncFd::new(fd);
    fd.step(step)
}

impl crate::Engine {
    /// Opens a container's log.
    ///
    /// # Errors
    /// When there is no such container, or it keeps no log.
    pub fn container_logs(&self, name: &str, options: Logs) -> Result<LogReader> {
        let container = self.containers.get(name)?;
        let (tty, kind) = {
            let record = container.record();
            (record.config.tty, record.host.log_config.kind.clone())
        };
        if kind == "none" {
            return Err(Error::not_implemented(
                "configured logging driver does not support reading",
            ));
        }
        LogReader::open(
            &self.log_path(&container.id),
            tty,
            options,
            container.phase.subscribe(),
        )
    }

    /// The log's current file.
    pub(crate) fn log_path(&self, id: &oci::ContainerId) -> PathBuf {
        self.container_dir(id).join(format!("{id}-json.log"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Write;

    struct Log {
        dir: tempfile::TempDir,
        phase: watch::Sender<Phase>,
    }

    impl Log {
        fn new() -> Self {
            Self {
                dir: tempfile::tempdir().unwrap(),
                phase: watch::channel(Phase::running()).0,
            }
        }

        fn path(&self) -> PathBuf {
            self.dir.path().join("x-json.log")
        }

        fn write(&self, from: u32, to: u32) {
            let mut file = File::options()
                .append(true)
                .create(true)
                .open(self.path())
                .unwrap();
            for n in from..to {
                let stream = if n % 10 == 9 { "stderr" } else { "stdout" };
                writeln!(file, r#"{{"log":"line {n}\n","stream":"{stream}","time":"2026-01-01T00:00:{:02}Z"}}"#, n % 60)
                    .unwrap();
            }
        }

        fn open(&self, options: &Logs) -> LogReader {
            let both = Logs {
                stdout: true,
                stderr: true,
                ..options.clone()
            };
            LogReader::open(&self.path(), true, both, self.phase.subscribe()).unwrap()
        }
    }

    async fn all(mut reader: LogReader) -> String {
        let mut text = Vec::new();
        while let Some(chunk) = reader.next().await.unwrap() {
            text.extend_from_slice(&chunk);
        }
        String::from_utf8(text).unwrap()
    }

    #[tokio::test]
    async fn tail_crosses_rotated_files() {
        let log = Log::new();
        log.write(0, 10);
        std::fs::rename(log.path(), log.dir.path().join("x-json.log.1")).unwrap();
        log.write(10, 13);
        assert_eq!(all(log.open(&Logs::default())).await.lines().count(), 13);
        let tail = all(log.open(&Logs {
            tail: Some(5),
            ..Logs::default()
        }))
        .await;
        assert_eq!(tail, "line 8\nline 9\nline 10\nline 11\nline 12\n");
        assert_eq!(
            all(log.open(&Logs {
                tail: Some(0),
                ..Logs::default()
            }))
            .await,
            ""
        );
    }

    #[tokio::test]
    async fn until_and_since_bound_the_lines() {
        let log = Log::new();
        log.write(0, 10);
        let options = Logs {
            since: api::query::Timestamp::parse("1767225603").unwrap(),
            until: api::query::Timestamp::parse("1767225604.0").unwrap(),
            timestamps: true,
            ..Logs::default()
        };
        let text = all(log.open(&options)).await;
        assert_eq!(
            text,
            "2026-01-01T00:00:03.000000000Z line 3\n2026-01-01T00:00:04.000000000Z line 4\n"
        );
    }

    #[tokio::test]
    async fn following_survives_a_rotation_and_ends_with_the_container() {
        let log = Log::new();
        log.write(0, 2);
        let reader = log.open(&Logs {
            follow: true,
            ..Logs::default()
        });
        let read = tokio::spawn(all(reader));
        tokio::time::sleep(std::time::Duration::from_millis(50)).await;
        std::fs::rename(log.path(), log.dir.path().join("x-json.log.1")).unwrap();
        log.write(2, 4);
        tokio::time::sleep(std::time::Duration::from_millis(50)).await;
        log.write(4, 5);
        log.phase.send_replace(Phase::over());
        assert_eq!(read.await.unwrap().lines().count(), 5);
    }
}
