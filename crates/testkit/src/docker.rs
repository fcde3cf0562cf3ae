//! Clients of an engine: where they are, how they are run, and what they answered.

use std::ffi::OsString;
use std::fmt;
use std::fs::File;
use std::io::{self, Read, Write};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

/// How long one command of a client may take, where many others run at the same time.
pub const LIMIT: Duration = Duration::from_secs(120);
/// How long a pipe is read on after the end of what wrote to it, while nothing comes.
const SILENCE: Duration = Duration::from_secs(5);

/// Which client drives the engine.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Client {
    /// Docker's own command line, unmodified.
    Docker,
    /// Gorae's command line.
    Gorae,
}

impl Client {
    /// Both, for what must be the same with both.
    pub const BOTH: [Self; 2] = [Self::Docker, Self::Gorae];
}

/// The `docker` command line: the one that the project fetched, else the one in `PATH`.
///
/// # Errors
/// When there is none.
pub fn docker_cli() -> io::Result<PathBuf> {
    let fetched = target_folder().join("docker-cli/docker");
    let search = std::env::var_os("PATH").unwrap_or_default();
    let installed = std::env::split_paths(&search).map(|folder| folder.join("docker"));
    let mut all = std::iter::once(fetched).chain(installed);
    all.find(|path| path.is_file()).ok_or_else(|| {
        let text = "no docker command line: run scripts/fetch-docker-cli";
        io::Error::new(io::ErrorKind::NotFound, text)
    })
}

/// Docker Compose, a plugin of the `docker` command line: the one that the project fetched. Where there
/// is none, `docker` finds an installed one by itself.
#[must_use]
pub fn compose_plugin() -> PathBuf {
    target_folder().join("docker-compose/usr/libexec/docker/cli-plugins/docker-compose")
}

/// buildx, the plugin by which the `docker` command line builds: the one that the project fetched.
#[must_use]
pub fn buildx_plugin() -> PathBuf {
    target_folder().join("docker-buildx/usr/libexec/docker/cli-plugins/docker-buildx")
}

/// The Python that has docker-py and Testcontainers: the one that the project set up, else the one in
/// `PATH`.
#[must_use]
pub fn python() -> PathBuf {
    let fetched = target_folder().join("python-clients/bin/python3");
    if fetched.exists() {
        fetched
    } else {
        "python3".into()
    }
}

/// Where the project put the packages for Node.js, `node_modules` in it.
#[must_use]
pub fn node_packages() -> PathBuf {
    target_folder().join("node-clients")
}

/// Cargo's target folder of this workspace.
fn target_folder() -> PathBuf {
    let workspace = Path::new(env!("CARGO_MANIFEST_DIR")).ancestors().nth(2);
    workspace.unwrap_or(Path::new("/")).join("target")
}

/// Splits a command line into words as a shell does, with both kinds of quotes and no more.
#[must_use]
pub fn words(line: &str) -> Vec<OsString> {
    let mut all = Vec::new();
    let mut word: Option<String> = None;
    let mut quote = None;
    for character in line.chars() {
        match (quote, character) {
            (Some(open), _) if open == character => quote = None,
            (None, '\'' | '"') => {
                quote = Some(character);
                word.get_or_insert_default();
            }
            (None, ' ' | '\n') => all.extend(word.take().map(OsString::from)),
            _ => word.get_or_insert_default().push(character),
        }
    }
    all.extend(word.map(OsString::from));
    all
}

/// How a command ended, and all it wrote.
#[derive(Clone)]
pub struct Outcome {
    /// What was run.
    pub command: String,
    /// The exit code, or 128 and the signal.
    pub code: i32,
    /// Standard output.
    pub stdout: String,
    /// Standard error.
    pub stderr: String,
}

/// The end of what a command wrote, which may have been without an end.
fn end_of(text: &str) -> &str {
    const SHOWN: usize = 16 << 10;
    let start = text.len().saturating_sub(SHOWN);
    &text[text.ceil_char_boundary(start)..]
}

impl fmt::Debug for Outcome {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self {
            command,
            code,
            stdout,
            stderr,
        } = self;
        let (stdout, stderr) = (end_of(stdout), end_of(stderr));
        write!(
            f,
            "$ {command}\n--- stdout\n{stdout}\n--- stderr\n{stderr}\n--- exit code {code}"
        )
    }
}

impl Outcome {
    /// The trimmed output of a command that went well.
    ///
    /// # Panics
    /// When it did not.
    #[track_caller]
    pub fn ok(&self) -> &str {
        assert_eq!(self.code, 0, "{self:?}");
        self.stdout.trim()
    }

    /// The complaint of a command that ended with this code.
    ///
    /// # Panics
    /// When it ended in another way.
    #[track_caller]
    pub fn fails(&self, code: i32) -> &str {
        assert_eq!(self.code, code, "{self:?}");
        self.stderr.trim()
    }

    /// Checks the exit code and that the complaint has these words.
    ///
    /// # Panics
    /// When it is otherwise.
    #[track_caller]
    pub fn complains(&self, code: i32, text: &str) {
        assert_eq!(self.code, code, "expected {text:?}\n{self:?}");
        assert!(self.stderr.contains(text), "expected {text:?}\n{self:?}");
    }

    /// Checks the exit code and that one of the two outputs has these words: what goes wrong after
    /// Docker's API has switched to a stream is told in that stream.
    ///
    /// # Panics
    /// When it is otherwise.
    #[track_caller]
    pub fn says(&self, code: i32, text: &str) {
        assert_eq!(self.code, code, "expected {text:?}\n{self:?}");
        let told = self.stderr.contains(text) || self.stdout.contains(text);
        assert!(told, "expected {text:?}\n{self:?}");
    }

    /// Checks the trimmed output of a command that went well.
    ///
    /// # Panics
    /// When it is otherwise.
    #[track_caller]
    pub fn prints(&self, text: &str) {
        assert_eq!(self.ok(), text, "{self:?}");
    }

    /// Checks that a command went well and that its output has this text.
    ///
    /// # Panics
    /// When it is otherwise.
    #[track_caller]
    pub fn shows(&self, text: &str) {
        assert!(self.ok().contains(text), "expected {text:?}\n{self:?}");
    }
}

/// A command that runs, whose output can be watched and whose input can be written.
#[derive(Debug)]
pub struct Session {
    command: String,
    child: Child,
    input: Option<File>,
    stdout: Stream,
    stderr: Stream,
}

impl Session {
    /// Starts a command on pipes.
    ///
    /// # Errors
    /// When it cannot be started.
    pub fn pipes(mut command: Command) -> io::Result<Self> {
        command
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped());
        let mut child = start(&mut command)?;
        let input = child
            .stdin
            .take()
            .map(|pipe| File::from(std::os::fd::OwnedFd::from(pipe)));
        Ok(Self {
            command: describe(&command),
            stdout: Stream::of(child.stdout.take())?,
            stderr: Stream::of(child.stderr.take())?,
            input,
            child,
        })
    }

    /// Starts a command on a terminal of 24 lines and 80 columns, as the leader of its session.
    ///
    /// # Errors
    /// When there is no terminal, no `setsid` (util-linux), or the command cannot be started.
    pub fn terminal(command: &Command) -> io::Result<Self> {
        let master = rustix::pty::openpt(
            rustix::pty::OpenptFlags::RDWR
                | rustix::pty::OpenptFlags::NOCTTY
                | rustix::pty::OpenptFlags::CLOEXEC,
        )?;
        rustix::pty::grantpt(&master)?;
        rustix::pty::unlockpt(&master)?;
        resize(&master, 24, 80)?;
        let name = rustix::pty::ptsname(&master, Vec::new())?;
        let slave = File::options()
            .read(true)
            .write(true)
            .open(name.to_string_lossy().as_ref())?;
        let mut leader = Command::new("setsid");
        leader
            .args(["--ctty", "--wait"])
            .arg(command.get_program())
            .args(command.get_args());
        for (name, value) in command.get_envs() {
            match value {
                Some(value) => leader.env(name, value),
                None => leader.env_remove(name),
            };
        }
        leader
            .stdin(slave.try_clone()?)
            .stdout(slave.try_clone()?)
            .stderr(slave);
        let child = start(&mut leader)?;
        // the slave must be open in the child only, or the terminal would never hang up
        let text = describe(command);
        drop(leader);
        let input = File::from(master);
        Ok(Self {
            command: text,
            stdout: Stream::of(Some(input.try_clone()?))?,
            stderr: Stream::of(None::<File>)?,
            input: Some(input),
            child,
        })
    }

    /// Sets the size of the terminal that the command is on.
    ///
    /// # Errors
    /// When it is on none.
    pub fn resize(&self, rows: u16, columns: u16) -> io::Result<()> {
        let master = self.input.as_ref().ok_or(io::ErrorKind::NotConnected)?;
        resize(master, rows, columns)
    }

    /// The process that was started.
    #[must_use]
    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// Writes to the command's input.
    ///
    /// # Errors
    /// When it is closed.
    pub fn write(&mut self, text: &str) -> io::Result<()> {
        let input = self.input.as_mut().ok_or(io::ErrorKind::BrokenPipe)?;
        input.write_all(text.as_bytes())
    }

    /// Ends the command's input.
    pub fn close_input(&mut self) {
        self.input = None;
    }

    /// Waits until the output so far, of both streams, has this text.
    ///
    /// # Panics
    /// When the command ends or [`LIMIT`] passes without it.
    #[track_caller]
    pub fn expect(&self, text: &str) {
        let deadline = Instant::now() + LIMIT;
        while Instant::now() < deadline {
            if self.stdout.text().contains(text) || self.stderr.text().contains(text) {
                return;
            }
            if self.stdout.is_done() && !self.stdout.text().contains(text) {
                break;
            }
            self.stdout.wait(Duration::from_millis(20));
        }
        let (out, error) = (self.stdout.text(), self.stderr.text());
        assert!(
            out.contains(text),
            "$ {}: expected {text:?}\n--- stdout\n{out}\n--- stderr\n{error}",
            self.command
        );
    }

    /// What the command has written to its standard output.
    #[must_use]
    pub fn output(&self) -> String {
        self.stdout.text()
    }

    /// Whether the command has ended.
    ///
    /// # Errors
    /// When the kernel does not tell.
    pub fn has_ended(&mut self) -> io::Result<bool> {
        Ok(self.child.try_wait()?.is_some())
    }

    /// Ends the input and waits for the end of the command.
    ///
    /// # Panics
    /// When it does not end within [`LIMIT`].
    #[track_caller]
    #[must_use]
    pub fn finish(self) -> Outcome {
        self.finish_within(LIMIT)
    }

    /// Ends the input and waits for the end of a command that may take long.
    ///
    /// # Panics
    /// When it does not end in time.
    #[track_caller]
    #[must_use]
    pub fn finish_within(mut self, limit: Duration) -> Outcome {
        // a terminal's other end must stay until the command has ended: closing it hangs up
        let terminal = self.input.take_if(|input| rustix::termios::isatty(input));
        self.close_input();
        let status = self.wait(limit);
        drop(terminal);
        let [stdout, stderr] = [self.stdout.rest(), self.stderr.rest()];
        let outcome = Outcome {
            command: self.command.clone(),
            code: status.map_or(-1, code_of),
            stdout,
            stderr,
        };
        assert!(status.is_some(), "no end in {limit:?}: {outcome:?}");
        outcome
    }

    /// Kills the command.
    pub fn kill(mut self) {
        let _ended = self.child.kill();
        let _reaped = self.child.wait();
    }

    fn wait(&mut self, limit: Duration) -> Option<ExitStatus> {
        let deadline = Instant::now() + limit;
        let mut pause = Duration::from_millis(1);
        while Instant::now() < deadline {
            if let Ok(Some(status)) = self.child.try_wait() {
                return Some(status);
            }
            std::thread::sleep(pause);
            pause = (pause * 2).min(Duration::from_millis(10));
        }
        let _ended = self.child.kill();
        let _reaped = self.child.wait();
        None
    }
}

impl Drop for Session {
    fn drop(&mut self) {
        let _ended = self.child.kill();
        let _reaped = self.child.wait();
    }
}

fn resize(master: impl std::os::fd::AsFd, rows: u16, columns: u16) -> io::Result<()> {
    let size = rustix::termios::Winsize {
        ws_row: rows,
        ws_col: columns,
        ws_xpixel: 0,
        ws_ypixel: 0,
    };
    Ok(rustix::termios::tcsetwinsize(master, size)?)
}

fn start(command: &mut Command) -> io::Result<Child> {
    let program = command.get_program().display().to_string();
    let named = |error: io::Error| io::Error::new(error.kind(), format!("{program}: {error}"));
    command.spawn().map_err(named)
}

fn describe(command: &Command) -> String {
    let program = Path::new(command.get_program())
        .file_name()
        .unwrap_or_default();
    let words = std::iter::once(program).chain(command.get_args());
    let words: Vec<_> = words.map(|word| word.to_string_lossy()).collect();
    words.join(" ")
}

fn code_of(status: ExitStatus) -> i32 {
    use std::os::unix::process::ExitStatusExt as _;
    let signal = status.signal().map(|signal| 128 + signal);
    status.code().or(signal).unwrap_or(-1)
}

/// What a thread has read from a pipe.
#[derive(Debug)]
struct Stream {
    shared: Arc<Shared>,
    reader: Option<JoinHandle<()>>,
}

#[derive(Debug, Default)]
struct Shared {
    state: Mutex<State>,
    news: Condvar,
}

#[derive(Debug, Default)]
struct State {
    bytes: Vec<u8>,
    done: bool,
}

impl Stream {
    fn of(source: Option<impl Read + Send + 'static>) -> io::Result<Self> {
        let shared = Arc::new(Shared::default());
        let Some(mut source) = source else {
            lock(&shared.state).done = true;
            return Ok(Self {
                shared,
                reader: None,
            });
        };
        let into = Arc::clone(&shared);
        let work = move || {
            let mut buffer = [0; 16 * 1024];
            // a terminal whose other side is closed ends with an error
            while let Ok(count @ 1..) = source.read(&mut buffer) {
                let read = buffer.get(..count).unwrap_or_default();
                lock(&into.state).bytes.extend_from_slice(read);
                into.news.notify_all();
            }
            lock(&into.state).done = true;
            into.news.notify_all();
        };
        let reader = std::thread::Builder::new()
            .name("reader".to_owned())
            .spawn(work)?;
        Ok(Self {
            shared,
            reader: Some(reader),
        })
    }

    fn text(&self) -> String {
        String::from_utf8_lossy(&lock(&self.shared.state).bytes).into_owned()
    }

    fn is_done(&self) -> bool {
        lock(&self.shared.state).done
    }

    fn wait(&self, at_most: Duration) {
        let state = lock(&self.shared.state);
        drop(self.shared.news.wait_timeout(state, at_most));
    }

    /// All of it; somebody else may keep the pipe open, so not for ever.
    fn rest(&mut self) -> String {
        let mut read = 0;
        let mut since = Instant::now();
        while !self.is_done() && since.elapsed() < SILENCE {
            self.wait(Duration::from_millis(20));
            let length = lock(&self.shared.state).bytes.len();
            if length > read {
                (read, since) = (length, Instant::now());
            }
        }
        if self.is_done() {
            let _panicked = self.reader.take().map(JoinHandle::join);
        }
        self.text()
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use super::words;

    #[test]
    fn words_are_split_as_by_a_shell() {
        let check = |line: &str, expect: &[&str]| assert_eq!(words(line), expect, "{line}");
        check("a  b\nc", &["a", "b", "c"]);
        check(
            "sh -c 'echo \"x y\" | cat'",
            &["sh", "-c", "echo \"x y\" | cat"],
        );
        check("a='b c'd \"\"", &["a=b cd", ""]);
        check("", &[]);
    }
}
