//! What the engine and a shim say to each other: JSON values, one a frame (see [`crate::frame`]).

use std::path::PathBuf;

use oci::runtime::{Process, Resources};
pub use runtime::PrepareOptions as Prepare;
use runtime::cgroup::Stats;
use serde::{Deserialize, Serialize};

/// The socket's name in a container's run directory.
pub const SOCKET_NAME: &str = "shim.sock";
/// The exit record's name in a container's run directory.
pub const EXIT_NAME: &str = "exit.json";

/// A request to a shim. Each gets exactly one [`Reply`], in order.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub enum Request {
    /// Makes the cgroup directories and the init stage, which need nothing of the container.
    Prepare(Prepare),
    /// Starts the container; prepares first when that was not asked before. Control only.
    Run(Box<RunOrder>),
    /// Asks for [`Event`] frames on this connection from the reply on, beginning with what already
    /// happened. Control is subscribed by [`Request::Run`]. The connection still takes requests; no
    /// event has the name of a reply, so that the two can be told apart.
    Subscribe,
    /// Asks for [`Reply::State`].
    State,
    /// Sends a signal to the container's init, or to an exec's process.
    Kill {
        /// Signal number, 1 to 64.
        signal: i32,
        /// The exec's id; absent for the container.
        #[serde(default)]
        exec: Option<String>,
    },
    /// Runs one more process in the container.
    ///
    /// If a stream is asked for, it is the one fd that came with the request, or else this
    /// connection from the byte after the reply on. Control cannot become a stream.
    Exec(Box<ExecOrder>),
    /// Joins the container's stdio; the stream is found as for [`Request::Exec`].
    Attach(AttachOrder),
    /// Sets a terminal's size.
    Resize {
        /// The exec's id; absent for the container.
        #[serde(default)]
        exec: Option<String>,
        /// Rows.
        height: u16,
        /// Columns.
        width: u16,
    },
    /// Ends the container's standard input when what is buffered has been delivered.
    CloseStdin,
    /// Asks for [`Reply::Stats`].
    Stats,
    /// Asks for [`Reply::Processes`].
    Processes,
    /// Freezes the container.
    Pause,
    /// Thaws the container.
    Resume,
    /// Changes the limits of the container's cgroup.
    Update(Box<Resources>),
    /// Opens the log file anew, after somebody else has moved it away.
    ReopenLog,
    /// Says how far the log has been followed, for a log with [`LogSink::File::hold`].
    LogFollowed(logfile::Position),
}

/// Everything that a start needs.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct RunOrder {
    /// The container for the runtime.
    pub order: runtime::Order,
    /// The container's run directory, made with mode 0700 if absent: socket and exit record.
    pub dir: PathBuf,
    /// Whether the container's standard input is kept open for clients; `/dev/null` otherwise.
    #[serde(default)]
    pub open_stdin: bool,
    /// Whether standard input ends with the first client that had it.
    #[serde(default)]
    pub stdin_once: bool,
    /// Where output goes beside the clients.
    #[serde(default)]
    pub log: LogSink,
    /// Whether process 1 is a reaper of ours (`docker run --init`).
    ///
    /// It is the runtime's, unless the spec already starts another way of the same: `gorae-shim`
    /// bound read-only on `/sbin/docker-init`, and `/sbin/docker-init --` before the arguments.
    #[serde(default)]
    pub init: bool,
    /// What each fd that came with the request is, in order.
    #[serde(default)]
    pub fds: Vec<FdRole>,
}

/// What an fd sent with [`Request::Run`] is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum FdRole {
    /// The network namespace to enter.
    Netns,
    /// The compiled system call filter in a sealed memory file.
    Seccomp,
    /// The stream of a client that attached before the start.
    Attach(AttachOrder),
}

/// Which of the three streams a client wants.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct AttachOrder {
    /// Its bytes go to standard input; its half-close is the end of that input.
    pub stdin: bool,
    /// It gets standard output, or the terminal.
    pub stdout: bool,
    /// It gets standard error.
    pub stderr: bool,
}

impl AttachOrder {
    /// Whether any stream is wanted.
    #[must_use]
    pub fn any(self) -> bool {
        self.stdin || self.stdout || self.stderr
    }
}

/// Where a container's output is kept.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub enum LogSink {
    /// Nowhere.
    #[default]
    None,
    /// In files that are rotated by size.
    File {
        /// Where and how.
        settings: logfile::Settings,
        /// How many bytes whoever follows the log may fall behind before the process has to wait;
        /// absent where it never waits.
        #[serde(default)]
        hold: Option<u64>,
    },
}

/// One more process for a container. It gets the container's system call filter.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ExecOrder {
    /// A name for it, unique among the container's execs that still run.
    pub id: String,
    /// The process; names of its user are looked up inside the container.
    pub process: Process,
    /// The streams wanted; with none of them its stdio is `/dev/null`.
    #[serde(default)]
    pub streams: AttachOrder,
}

/// A shim's answer.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub enum Reply {
    /// Done.
    Ok,
    /// The init stage waits for its order.
    Prepared {
        /// Its process id on the host.
        pid: i32,
    },
    /// The container runs.
    Started {
        /// Its init's process id on the host.
        pid: i32,
        /// When, RFC 3339 with nanoseconds.
        started_at: String,
    },
    /// The state.
    State(Box<State>),
    /// The exec's process runs.
    Exec {
        /// Its process id on the host.
        pid: i32,
    },
    /// The cgroup's figures.
    Stats(Box<Stats>),
    /// The host's process ids of everything in the container.
    Processes(Vec<i32>),
    /// The request failed.
    Error {
        /// What sort of failure.
        kind: ErrorKind,
        /// The step that failed.
        step: String,
        /// Text for the user.
        message: String,
    },
}

/// Sorts of failure.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum ErrorKind {
    /// The program does not exist; Docker's exit code 127.
    NotFound,
    /// The program cannot be executed; Docker's exit code 126.
    NotExecutable,
    /// The request makes no sense in this state.
    InvalidInput,
    /// There is no such process or exec any more.
    NoSuchProcess,
    /// Anything else.
    Other,
}

/// A shim's state.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct State {
    /// How far the container is.
    pub status: Status,
    /// Init's process id; 0 unless running.
    pub pid: i32,
    /// The shim's own process id.
    pub shim_pid: i32,
    /// When the container was started.
    #[serde(default)]
    pub started_at: Option<String>,
    /// Execs that still run.
    #[serde(default)]
    pub execs: Vec<ExecState>,
    /// OOM kills so far.
    #[serde(default)]
    pub oom_kills: u64,
    /// Log lines that could not be written.
    #[serde(default)]
    pub log_lines_lost: u64,
    /// The last failure of the log.
    #[serde(default)]
    pub log_error: Option<String>,
    /// The end, once it has come.
    #[serde(default)]
    pub exit: Option<Exit>,
}

/// How far a container is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Status {
    /// The shim has no container yet.
    Idle,
    /// The init stage waits for an order.
    Prepared,
    /// It runs.
    Running,
    /// It is frozen.
    Paused,
    /// It has ended.
    Exited,
}

/// An exec that runs.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ExecState {
    /// The id it was given.
    pub id: String,
    /// Its process id on the host.
    pub pid: i32,
}

/// What a subscriber is told. What already happened is told first.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Event {
    /// The container has ended; the last event but for [`Event::ExecExited`] of execs that die with it.
    Exited(Exit),
    /// An exec has ended; told before its stream ends.
    ExecExited {
        /// The id it was given.
        id: String,
        /// Exit code, 128+n for signals.
        code: i32,
    },
    /// The kernel killed a process of the container for want of memory.
    Oom,
}

/// How a container ended; the content of `exit.json`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Exit {
    /// Exit code, 128+n for signals.
    pub code: i32,
    /// Whether the kernel killed something in the container for want of memory.
    pub oom_killed: bool,
    /// When it was started, RFC 3339 with nanoseconds.
    pub started_at: String,
    /// When it ended.
    pub finished_at: String,
}
