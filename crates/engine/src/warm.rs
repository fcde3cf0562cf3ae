//! Shims that are ready before a container needs one.
//!
//! Starting a process, making its cgroups and above all joining them takes time that no container
//! depends on: the first write to a `cgroup.procs` after a pause waits for an RCU grace period
//! (`percpu_down_write` in `cgroup_procs_write_start`), 15 ms on an idle machine. So a few shims
//! are kept that have all of it behind them. One that is never used leaves nothing: it ends, with
//! its cgroup, when its control connection does.

use std::os::fd::OwnedFd;
use std::path::PathBuf;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use shim::{Launcher, Prepare, Reply, Request};
use sys::spawn::Spawned;

use crate::container::lock;
use crate::error::{Error, Result, Step};
use crate::names;
use crate::shim_link::{Link, refusal};

/// A shim that waits for its container.
#[derive(Debug)]
pub(crate) struct Ready {
    pub(crate) control: Link,
    pub(crate) child: Spawned,
    /// The network namespace that was made along with its user namespace.
    pub(crate) netns: Option<OwnedFd>,
}

/// The namespaces that differ between warm shims and special ones.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Namespaces {
    pub(crate) new_pid: bool,
    pub(crate) new_ipc: bool,
    pub(crate) new_uts: bool,
    /// The init whose pid namespace is joined.
    pub(crate) join_pid: Option<i32>,
    pub(crate) new_user: bool,
    /// The init whose user namespace is joined.
    pub(crate) join_user: Option<i32>,
    /// Whether a network namespace is made that belongs to the user namespace.
    pub(crate) new_net: bool,
}

impl Namespaces {
    /// What containers get unless told otherwise; only such shims are kept warm.
    pub(crate) fn usual(own_users: bool) -> Self {
        Self {
            new_user: own_users,
            join_user: None,
            new_net: own_users,
            new_pid: true,
            new_ipc: true,
            new_uts: true,
            join_pid: None,
        }
    }
}

/// How long nothing must have been started before the stock is filled; see [`Warmer::pause`].
const QUIET: Duration = Duration::from_millis(60);
/// How long the kernel stays ready for a cheap attach after the last one, by measurement.
const CHEAP: Duration = Duration::from_millis(8);

/// When the last shim was taken and the last one prepared.
#[derive(Debug, Default)]
struct Times {
    taken: Option<Instant>,
    made: Option<Instant>,
}

/// The keeper of warm shims.
#[derive(Debug)]
pub(crate) struct Warmer {
    launcher: Launcher,
    parent: PathBuf,
    goal: usize,
    usual: Namespaces,
    ready: Mutex<Vec<Ready>>,
    times: Mutex<Times>,
    wanted: tokio::sync::Notify,
    stopped: tokio::sync::watch::Sender<bool>,
}

impl Warmer {
    pub(crate) fn new(
        launcher: Launcher,
        parent: PathBuf,
        goal: usize,
        usual: Namespaces,
    ) -> Arc<Self> {
        Arc::new(Self {
            launcher,
            parent,
            goal,
            usual,
            ready: Mutex::default(),
            times: Mutex::default(),
            wanted: tokio::sync::Notify::new(),
            stopped: tokio::sync::watch::channel(false).0,
        })
    }

    /// Keeps the stock filled until [`Warmer::stop`].
    pub(crate) fn start(self: &Arc<Self>) {
        let warmer = Arc::clone(self);
        let mut stopped = self.stopped.subscribe();
        tokio::spawn(async move {
            loop {
                let step = async {
                    match warmer.pause() {
                        None => warmer.wanted.notified().await,
                        Some(pause) => {
                            tokio::time::sleep(pause).await;
                            warmer.fill().await;
                        }
                    }
                };
                tokio::select! {
                    () = step => {}
                    _ = stopped.wait_for(|stop| *stop) => break,
                }
            }
            lock(&warmer.ready).clear();
        });
    }

    /// Lets the waiting shims end.
    pub(crate) fn stop(&self) {
        self.stopped.send_replace(true);
        for ready in lock(&self.ready).drain(..) {
            reap(ready.child);
        }
    }

    /// A shim with these namespaces: a warm one if there is one, else a new one.
    pub(crate) async fn take(&self, namespaces: Namespaces) -> Result<Ready> {
        let warm = if namespaces == self.usual {
            lock(&self.ready).pop()
        } else {
            None
        };
        lock(&self.times).taken = Some(Instant::now());
        self.wanted.notify_one();
        match warm {
            Some(ready) => Ok(ready),
            None => self.make(namespaces).await,
        }
    }

    /// How long to wait before the next shim is prepared; none when the stock is full.
    ///
    /// While an attach waits for its grace period, no process of the machine can exit
    /// (`exit_signals` takes the same lock), so a container that has just been started would end
    /// late. It is done at once only while it is cheap or nothing is left.
    fn pause(&self) -> Option<Duration> {
        let left = lock(&self.ready).len();
        if left >= self.goal {
            return None;
        }
        let times = lock(&self.times);
        let age = |time: Option<Instant>| time.map_or(Duration::MAX, |time| time.elapsed());
        if left == 0 || age(times.made) < CHEAP {
            return Some(Duration::ZERO);
        }
        Some(QUIET.saturating_sub(age(times.taken)))
    }

    async fn fill(&self) {
        if self.pause() != Some(Duration::ZERO) {
            return;
        }
        match self.make(self.usual).await {
            Ok(ready) => lock(&self.ready).push(ready),
            Err(error) => {
                tracing::warn!(%error, "no shim could be prepared ahead");
                // what is wrong is told by the next start; trying on would only fill the log
                self.wanted.notified().await;
            }
        }
    }

    async fn make(&self, namespaces: Namespaces) -> Result<Ready> {
        let launched = self.launcher.spawn().step(|| "start a shim")?;
        let mut control = Link::new(launched.control)?;
        let name = hex_name()?;
        let prepare = Prepare {
            cgroup_path: self.parent.join(format!("warm-{name}")),
            new_pid: namespaces.new_pid,
            new_ipc: namespaces.new_ipc,
            new_uts: namespaces.new_uts,
            join_pid: namespaces
                .join_pid
                .map(|pid| format!("/proc/{pid}/ns/pid").into()),
            new_user: namespaces.new_user,
            join_user: namespaces
                .join_user
                .map(|pid| format!("/proc/{pid}/ns/user").into()),
            new_net: namespaces.new_net,
        };
        match control.call(&Request::Prepare(prepare), &[]).await {
            Ok(Reply::Prepared { pid }) => {
                lock(&self.times).made = Some(Instant::now());
                // the shim lives, and so its child's number is the child's
                let netns = namespaces.new_net.then(|| sys::netns::of_process(pid));
                Ok(Ready {
                    control,
                    child: launched.child,
                    netns: netns
                        .transpose()
                        .step(|| "open the network namespace of a prepared shim")?,
                })
            }
            Ok(reply) => Err(Error::internal(format!(
                "prepare a shim: unexpected answer {reply:?}"
            ))),
            Err(error) => {
                reap(launched.child);
                Err(refusal(&error).context("prepare a shim"))
            }
        }
    }
}

fn hex_name() -> Result<String> {
    let bytes: [u8; 8] = names::random()?;
    Ok(format!("{:016x}", u64::from_le_bytes(bytes)))
}

/// Waits for a shim's end where that may block, so that no zombie is left.
pub(crate) fn reap(child: Spawned) {
    std::mem::drop(tokio::task::spawn_blocking(move || child.wait()));
}
