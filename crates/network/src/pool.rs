//! Sandboxes made before anybody asks for them.

use std::collections::VecDeque;
use std::os::fd::OwnedFd;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use crate::bridge::Bridge;
use crate::sandbox::{Maker, Sandbox, SandboxError, Target};

/// A new sandbox is made only when nobody has taken one for so long: making one holds the kernel's
/// network lock (rtnl) for a millisecond, which the container just starting needs as well.
const QUIET: Duration = Duration::from_millis(40);
/// The same when less than half of the pool is left: long enough to connect what was taken.
const QUIET_WHEN_LOW: Duration = Duration::from_millis(3);
/// How long the maker rests after a failure.
const REST: Duration = Duration::from_secs(1);

/// How many sandboxes to keep ready.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct PoolSize {
    /// Those with a link on the bridge.
    pub attached: usize,
    /// Those with the loopback link only.
    pub isolated: usize,
}

impl From<usize> for PoolSize {
    /// Keeps `size` attached sandboxes and a quarter of that isolated ones.
    fn from(size: usize) -> Self {
        Self {
            attached: size,
            isolated: size.div_ceil(4),
        }
    }
}

/// Sandboxes that wait for containers, kept up to number by a thread.
#[derive(Debug)]
pub struct Pool {
    shared: Arc<Shared>,
    maker: Arc<Maker>,
    target: Arc<Mutex<Target>>,
    thread: Option<JoinHandle<()>>,
}

#[derive(Debug)]
struct Shared {
    size: PoolSize,
    state: Mutex<State>,
    changed: Condvar,
}

#[derive(Debug)]
struct State {
    attached: VecDeque<Sandbox>,
    isolated: VecDeque<Sandbox>,
    last_taken: Option<Instant>,
    stopping: bool,
}

#[derive(Debug, Clone, Copy)]
enum Kind {
    Attached,
    Isolated,
}

impl Pool {
    /// Starts to fill a pool for the bridge; must be called in the bridge's namespace.
    pub fn new(bridge: &Bridge, size: impl Into<PoolSize>) -> Result<Self, SandboxError> {
        Self::start(bridge, false, size.into())
    }

    /// Does the same for containers that are to reach the host, but not each other.
    pub fn with_isolated_ports(
        bridge: &Bridge,
        size: impl Into<PoolSize>,
    ) -> Result<Self, SandboxError> {
        Self::start(bridge, true, size.into())
    }

    fn start(bridge: &Bridge, isolated: bool, size: PoolSize) -> Result<Self, SandboxError> {
        let target = Arc::new(Mutex::new(Target {
            bridge: bridge.clone(),
            isolated,
        }));
        let shared = Arc::new(Shared {
            size,
            state: Mutex::new(State {
                attached: VecDeque::new(),
                isolated: VecDeque::new(),
                last_taken: None,
                stopping: false,
            }),
            changed: Condvar::new(),
        });
        // the thread inherits the caller's namespace, but has a socket of its own: nobody waits
        // for its lock while it makes a link
        let background = Maker::new(Arc::clone(&target))?;
        let worker = Arc::clone(&shared);
        let thread = std::thread::Builder::new()
            .name("netns-pool".to_owned())
            .spawn(move || worker.refill(&background))
            .map_err(|error| SandboxError::Namespace(sys::netns::NetnsError::Thread(error)))?;
        let maker = Arc::new(Maker::new(Arc::clone(&target))?);
        Ok(Self {
            shared,
            maker,
            target,
            thread: Some(thread),
        })
    }

    /// Goes on with a bridge that was made again: what was ready for the old one is thrown away.
    pub fn rebind(&self, bridge: &Bridge) {
        self.target
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .bridge = bridge.clone();
        let stale = std::mem::take(&mut self.shared.lock().attached);
        self.shared.changed.notify_all();
        drop(stale);
    }

    /// Takes a sandbox with a link on the bridge; makes one when none is ready.
    pub fn take(&self) -> Result<Sandbox, SandboxError> {
        self.shared
            .take(Kind::Attached)
            .map_or_else(|| self.maker.attached(), Ok)
    }

    /// Takes a sandbox with the loopback link only; makes one when none is ready.
    pub fn take_isolated(&self) -> Result<Sandbox, SandboxError> {
        self.shared
            .take(Kind::Isolated)
            .map_or_else(|| self.maker.isolated(), Ok)
    }

    /// Makes a sandbox of a new namespace, with a link on the bridge. A pool's own would not do for a
    /// container in a user namespace: that has rights only over namespaces that were made in it.
    pub fn make_in(&self, namespace: OwnedFd) -> Result<Sandbox, SandboxError> {
        self.maker.attached_in(namespace)
    }

    /// Makes a sandbox of a new namespace, with the loopback link only.
    pub fn make_isolated_in(&self, namespace: OwnedFd) -> Result<Sandbox, SandboxError> {
        self.maker.isolated_in(namespace)
    }

    /// Returns how many attached and isolated sandboxes are ready.
    pub fn ready(&self) -> (usize, usize) {
        let state = self.shared.lock();
        (state.attached.len(), state.isolated.len())
    }
}

impl Drop for Pool {
    fn drop(&mut self) {
        self.shared.lock().stopping = true;
        self.shared.changed.notify_all();
        if let Some(thread) = self.thread.take()
            && thread.join().is_err()
        {
            tracing::error!("the thread that makes network namespaces had panicked");
        }
    }
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn take(&self, kind: Kind) -> Option<Sandbox> {
        let mut state = self.lock();
        state.last_taken = Some(Instant::now());
        let taken = match kind {
            Kind::Attached => state.attached.pop_front(),
            Kind::Isolated => state.isolated.pop_front(),
        };
        drop(state);
        self.changed.notify_all();
        taken
    }

    /// Makes sandboxes until the pool is dropped.
    fn refill(&self, maker: &Maker) {
        let mut fails = false;
        while let Some(kind) = self.wanted() {
            let made = match kind {
                Kind::Attached => maker.attached(),
                Kind::Isolated => maker.isolated(),
            };
            match made {
                Ok(sandbox) => {
                    fails = false;
                    self.put(kind, sandbox);
                }
                Err(error) => {
                    // once: it may fail for as long as containers run, as where a bridge is full
                    if !std::mem::replace(&mut fails, true) {
                        tracing::warn!(?error, "cannot make a network namespace ahead of time");
                    }
                    self.rest();
                }
            }
        }
    }

    /// Waits until a sandbox is to be made; `None` when the pool is dropped.
    fn wanted(&self) -> Option<Kind> {
        let mut state = self.lock();
        loop {
            if state.stopping {
                return None;
            }
            let Some((kind, quiet)) = state.missing(self.size) else {
                let waited = self.changed.wait(state);
                state = waited.unwrap_or_else(PoisonError::into_inner);
                continue;
            };
            let rest = state
                .last_taken
                .map_or(Duration::ZERO, |at| quiet.saturating_sub(at.elapsed()));
            if rest.is_zero() {
                return Some(kind);
            }
            let waited = self.changed.wait_timeout(state, rest);
            state = waited.unwrap_or_else(PoisonError::into_inner).0;
        }
    }

    fn put(&self, kind: Kind, sandbox: Sandbox) {
        let mut state = self.lock();
        match kind {
            Kind::Attached => state.attached.push_back(sandbox),
            Kind::Isolated => state.isolated.push_back(sandbox),
        }
    }

    fn rest(&self) {
        let state = self.lock();
        let resting = |state: &mut State| !state.stopping;
        drop(self.changed.wait_timeout_while(state, REST, resting));
    }
}

impl State {
    /// Returns what is to be made next, and how long nobody may have taken anything before.
    fn missing(&self, size: PoolSize) -> Option<(Kind, Duration)> {
        let kinds = [
            (Kind::Attached, self.attached.len(), size.attached),
            (Kind::Isolated, self.isolated.len(), size.isolated),
        ];
        let quiet = |have: usize, want: usize| match have * 2 {
            0 => Duration::ZERO,
            twice if twice < want => QUIET_WHEN_LOW,
            _ => QUIET,
        };
        kinds
            .into_iter()
            .filter(|(_, have, want)| have < want)
            .map(|(kind, have, want)| (kind, quiet(have, want)))
            .min_by_key(|(_, quiet)| *quiet)
    }
}
