//! The per-container monitor: its protocol, its framing and its launcher.
//!
//! The program `gorae-shim` is the parent and reaper of one container's processes, the owner of its
//! stdio, terminal, log file and exit status. It outlives the engine. This library is what the
//! engine needs to start a shim and to talk to one, and the parts of the program that can be tested
//! without a container. It never reads the database, never sees an image and never opens a network
//! socket.
//!
//! # Life of a shim
//!
//! 1. [`Launcher::spawn`] starts it with one end of a socket pair, the *control* connection, as its
//!    standard input. It is warm after [`Request::Prepare`] and becomes a container's shim with
//!    [`Request::Run`]. When control ends before that, the shim exits and leaves nothing.
//! 2. From the reply [`Reply::Started`] on it listens on `<dir>/shim.sock` ([`connect`]) and goes on
//!    without control. Every connection takes any number of requests, one after another, and gets
//!    one reply each, until [`Request::Attach`] or [`Request::Exec`] turns it into a byte stream.
//!    Control, and every connection after [`Request::Subscribe`], also gets [`Event`]s.
//! 3. When the container's init ends, what is left in its pipes is copied, `<dir>/exit.json` is
//!    written by rename, `shim.sock` is removed, subscribers and control get [`Event::Exited`],
//!    streams get their last bytes and end, the cgroup is deleted and control ends. **The end of
//!    control, or of a subscribed connection, says that the shim has let go of everything by name**:
//!    only then may another shim take the same directory and cgroup.
//!
//! # Back-pressure
//!
//! Every stream has a bounded buffer. When one is full, the shim stops reading from the pipe or
//! terminal that feeds it, so that no byte is lost and no memory grows: the process inside waits, as
//! it would on a pipe. A stream handed over with the start order or by an exec may wait for as long
//! as it is connected (`run IMAGE | less`). One attached later to a running container is a guest: if
//! it takes no byte for 30 seconds while its buffer is full, it is dropped and the container goes on.
//! The log waits for nobody, unless its order says how far whoever follows it may fall behind
//! ([`LogSink::File::hold`]): then the process waits for [`Request::LogFollowed`].
#![forbid(unsafe_code)]

pub mod frame;
pub mod launcher;
pub mod protocol;
pub mod stdcopy;

pub use logfile::timestamp;

pub use frame::{CallError, Frame, FrameError, FrameReader, call, connect, receive, send};
pub use launcher::{LaunchError, Launched, Launcher};
pub use protocol::{
    AttachOrder, ErrorKind, Event, ExecOrder, ExecState, Exit, FdRole, LogSink, Prepare, Reply,
    Request, RunOrder, State, Status,
};
