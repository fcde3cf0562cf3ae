//! What a build tells while it runs.
//!
//! Each job has one [`Progress`], to which clients subscribe: they get everything so far and then
//! what comes. Work that several jobs wait for tells through one [`VertexProgress`], which passes it
//! on to all of them, and everything so far to one that joins. Nothing here waits for a client: of
//! what repeats (how far a pull is) only the last is kept, and logs are bounded.

use std::collections::{BTreeMap, HashMap, VecDeque};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use bollard_buildkit_proto::google::protobuf::Timestamp;
use oci::Digest;
use tokio::sync::watch;

pub use bollard_buildkit_proto::moby::buildkit::v1::{
    StatusResponse as Update, Vertex as VertexUpdate, VertexLog, VertexStatus, VertexWarning,
};

use crate::error::Error;
use crate::llb::{Vertex, digest_of, pb};

/// Bytes of output that are told of one step, as BuildKit has it.
const LOG_LIMIT: usize = 2 << 20;
/// Bytes of output of all steps that a client may lag behind.
const LAG_LIMIT: usize = 16 << 20;
/// Bytes of output in one update, so that it fits into a message of gRPC.
const UPDATE_LIMIT: usize = 1 << 20;
/// Bytes of the end of a step's output that go with its error.
const TAIL: usize = 8 << 10;
/// Warnings that are kept of one step.
const WARNINGS: usize = 1000;
/// Running parts of one step that are kept.
const STATUSES: usize = 10_000;

/// The standard output's number in a log.
pub const STDOUT: i64 = 1;
/// The standard error's number in a log.
pub const STDERR: i64 = 2;

/// This instant, as the protocol has it.
#[must_use]
pub fn now() -> Timestamp {
    let now = jiff::Timestamp::now();
    Timestamp {
        seconds: now.as_second(),
        nanos: now.subsec_nanosecond(),
    }
}

fn locked<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[derive(Debug)]
enum Event {
    Vertex(VertexUpdate),
    Status(VertexStatus),
    Log(VertexLog),
    Warning(VertexWarning),
}

#[derive(Debug, Default)]
struct Told {
    /// What was told, by when: a state that is told again leaves its old place.
    events: BTreeMap<u64, Event>,
    next: u64,
    vertices: HashMap<String, u64>,
    statuses: HashMap<(String, String), u64>,
    /// Places of the logs, the oldest first, and their bytes.
    logs: VecDeque<(u64, usize)>,
    log_bytes: usize,
    ended: bool,
}

impl Told {
    fn add(&mut self, event: Event) {
        let place = self.next;
        let old = match &event {
            Event::Vertex(v) => self.vertices.insert(v.digest.clone(), place),
            Event::Status(s) => {
                let key = (s.vertex.clone(), s.id.clone());
                self.statuses.insert(key, place)
            }
            Event::Log(l) => {
                self.logs.push_back((place, l.msg.len()));
                self.log_bytes = self.log_bytes.saturating_add(l.msg.len());
                None
            }
            Event::Warning(_) => None,
        };
        if let Some(old) = old {
            self.events.remove(&old);
        }
        self.events.insert(place, event);
        self.next = place.saturating_add(1);
        while self.log_bytes > LAG_LIMIT {
            let Some((oldest, bytes)) = self.logs.pop_front() else {
                break;
            };
            self.events.remove(&oldest);
            self.log_bytes = self.log_bytes.saturating_sub(bytes);
        }
    }
}

/// What one job tells its clients.
#[derive(Debug)]
pub struct Progress {
    told: Mutex<Told>,
    changed: watch::Sender<u64>,
}

impl Default for Progress {
    fn default() -> Self {
        Self {
            told: Mutex::default(),
            changed: watch::Sender::new(0),
        }
    }
}

impl Progress {
    fn tell(&self, event: Event) {
        let next = {
            let mut told = locked(&self.told);
            if told.ended {
                return;
            }
            told.add(event);
            told.next
        };
        self.changed.send_replace(next);
    }

    /// Tells of something that is no error, about a step that it names itself.
    pub fn warn(&self, warning: VertexWarning) {
        self.tell(Event::Warning(warning));
    }

    /// Everything so far and then what comes, until the job has ended.
    #[must_use]
    pub fn subscribe(self: &Arc<Self>) -> Subscription {
        Subscription {
            progress: Arc::clone(self),
            changed: self.changed.subscribe(),
            seen: 0,
        }
    }

    /// Shows an operation of a graph before it starts, so that clients know the whole.
    pub fn announce(&self, vertex: &Vertex) {
        let update = update_of(vertex);
        if locked(&self.told).vertices.contains_key(&update.digest) {
            return;
        }
        self.tell(Event::Vertex(update));
    }

    /// Work of an operation of a graph.
    #[must_use]
    pub fn vertex(self: &Arc<Self>, vertex: &Vertex) -> VertexProgress {
        let progress = VertexProgress::default();
        progress.join(self, vertex);
        progress
    }

    /// Work that is in no graph, such as `exporting to image`.
    #[must_use]
    pub fn internal(self: &Arc<Self>, name: &str) -> VertexProgress {
        let digest = digest_of(crate::id::new().as_bytes());
        let progress = VertexProgress::default();
        progress.add(Target {
            progress: Arc::clone(self),
            vertex: VertexUpdate {
                digest: digest.to_string(),
                name: name.to_owned(),
                ..Default::default()
            },
        });
        progress
    }

    /// Passes on what another builder told, such as a front end that runs in a container.
    pub fn forward(&self, update: Update) {
        let vertices = update.vertexes.into_iter().map(Event::Vertex);
        let statuses = update.statuses.into_iter().map(Event::Status);
        let logs = update.logs.into_iter().map(Event::Log);
        let warnings = update.warnings.into_iter().map(Event::Warning);
        for event in vertices.chain(statuses).chain(logs).chain(warnings) {
            self.tell(event);
        }
    }

    /// Says that nothing more comes.
    pub fn end(&self) {
        locked(&self.told).ended = true;
        self.changed.send_modify(|_| ());
    }

    /// How many steps there were, how many of them are completed, and how many came from the cache.
    #[must_use]
    pub fn counts(&self) -> Counts {
        let told = locked(&self.told);
        let mut counts = Counts::default();
        for event in told.events.values() {
            match event {
                Event::Vertex(vertex) => {
                    counts.total += 1;
                    counts.completed += i32::from(vertex.completed.is_some());
                    counts.cached += i32::from(vertex.cached);
                }
                Event::Warning(_) => counts.warnings += 1,
                Event::Status(_) | Event::Log(_) => (),
            }
        }
        counts
    }
}

/// What a history says of a build's steps.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counts {
    /// All steps.
    pub total: i32,
    /// Those that are completed.
    pub completed: i32,
    /// Those that came from the cache.
    pub cached: i32,
    /// The warnings.
    pub warnings: i32,
}

/// A client's place in what a job tells.
#[derive(Debug)]
pub struct Subscription {
    progress: Arc<Progress>,
    changed: watch::Receiver<u64>,
    seen: u64,
}

impl Subscription {
    /// What was told since the last call, at once where there is something; absent after the end.
    ///
    /// It may be dropped while it waits and called again.
    pub async fn next(&mut self) -> Option<Update> {
        loop {
            self.changed.mark_unchanged();
            let (update, ended) = self.take();
            if update.is_some() {
                return update;
            }
            if ended {
                return None;
            }
            self.changed.changed().await.ok()?;
        }
    }

    /// Waits until nothing more comes.
    pub async fn ended(&mut self) {
        while !locked(&self.progress.told).ended {
            if self.changed.changed().await.is_err() {
                return;
            }
        }
    }

    /// What was told since the last call, and whether the job has ended.
    pub fn take(&mut self) -> (Option<Update>, bool) {
        let told = locked(&self.progress.told);
        let mut update = Update::default();
        let mut bytes = 0;
        let mut found = false;
        for (place, event) in told.events.range(self.seen..) {
            if bytes > UPDATE_LIMIT {
                break;
            }
            found = true;
            self.seen = place.saturating_add(1);
            match event {
                Event::Vertex(vertex) => update.vertexes.push(vertex.clone()),
                Event::Status(status) => update.statuses.push(status.clone()),
                Event::Log(log) => {
                    bytes += log.msg.len();
                    update.logs.push(log.clone());
                }
                Event::Warning(warning) => update.warnings.push(warning.clone()),
            }
        }
        (found.then_some(update), told.ended)
    }
}

fn update_of(vertex: &Vertex) -> VertexUpdate {
    VertexUpdate {
        digest: vertex.digest.to_string(),
        inputs: vertex.inputs.iter().map(|e| e.vertex.to_string()).collect(),
        name: vertex.name.clone(),
        progress_group: vertex.metadata.progress_group.clone(),
        ..Default::default()
    }
}

/// A job that is told of some work, and the work's name there.
#[derive(Debug)]
struct Target {
    progress: Arc<Progress>,
    vertex: VertexUpdate,
}

#[derive(Debug, Default)]
struct Channel {
    targets: Vec<Target>,
    started: Option<Timestamp>,
    completed: Option<Timestamp>,
    cached: bool,
    error: String,
    logs: Vec<(Timestamp, i64, Vec<u8>)>,
    log_bytes: usize,
    clipped: bool,
    tail: VecDeque<u8>,
    statuses: BTreeMap<String, VertexStatus>,
    warnings: Vec<VertexWarning>,
}

impl Channel {
    fn tell_vertex(&self, target: &Target) {
        target.progress.tell(Event::Vertex(VertexUpdate {
            started: self.started,
            completed: self.completed,
            cached: self.cached,
            error: self.error.clone(),
            ..target.vertex.clone()
        }));
    }

    fn tell_all(&self) {
        for target in &self.targets {
            self.tell_vertex(target);
        }
    }

    fn log(&mut self, stream: i64, message: &[u8]) {
        let at = now();
        for target in &self.targets {
            target.progress.tell(Event::Log(VertexLog {
                vertex: target.vertex.digest.clone(),
                timestamp: Some(at),
                stream,
                msg: message.to_vec(),
            }));
        }
        self.logs.push((at, stream, message.to_vec()));
    }

    fn keep_tail(&mut self, message: &[u8]) {
        let kept = message.len().min(TAIL);
        let over = (self.tail.len() + kept).saturating_sub(TAIL);
        self.tail.drain(..over.min(self.tail.len()));
        self.tail.extend(&message[message.len() - kept..]);
    }
}

/// What one piece of work tells all jobs that wait for it. Copies share it.
#[derive(Clone, Debug, Default)]
pub struct VertexProgress(Arc<Mutex<Channel>>);

/// How far a part of a step is, such as a layer that is pulled.
#[derive(Clone, Debug, Default)]
pub struct Status {
    /// What tells it from other parts of the step.
    pub id: String,
    /// What people see, where that is not the id.
    pub name: String,
    /// How much is done.
    pub current: i64,
    /// How much there is; 0 where nobody knows.
    pub total: i64,
    /// Whether it is over.
    pub completed: bool,
}

impl VertexProgress {
    fn add(&self, target: Target) {
        let mut channel = locked(&self.0);
        if channel.targets.iter().any(|t| same(t, &target)) {
            return;
        }
        if channel.started.is_some() {
            channel.tell_vertex(&target);
        }
        let vertex = &target.vertex.digest;
        for (at, stream, message) in &channel.logs {
            target.progress.tell(Event::Log(VertexLog {
                vertex: vertex.clone(),
                timestamp: Some(*at),
                stream: *stream,
                msg: message.clone(),
            }));
        }
        for status in channel.statuses.values() {
            let vertex = vertex.clone();
            let status = VertexStatus {
                vertex,
                ..status.clone()
            };
            target.progress.tell(Event::Status(status));
        }
        for warning in &channel.warnings {
            let vertex = vertex.clone();
            let warning = VertexWarning {
                vertex,
                ..warning.clone()
            };
            target.progress.tell(Event::Warning(warning));
        }
        channel.targets.push(target);
    }

    /// Tells another job, too, where an equal operation is named by its own vertex.
    pub fn join(&self, progress: &Arc<Progress>, vertex: &Vertex) {
        self.add(Target {
            progress: Arc::clone(progress),
            vertex: update_of(vertex),
        });
    }

    /// Tells one job no more.
    pub fn leave(&self, progress: &Arc<Progress>) {
        let mut channel = locked(&self.0);
        channel
            .targets
            .retain(|t| !Arc::ptr_eq(&t.progress, progress));
    }

    /// The work begins. It may begin again after it was completed, as when its key was found first.
    pub fn started(&self) {
        let mut channel = locked(&self.0);
        channel.started = Some(now());
        channel.completed = None;
        channel.cached = false;
        channel.error.clear();
        channel.tell_all();
    }

    /// The result was there already.
    pub fn cached(&self) {
        let mut channel = locked(&self.0);
        let at = now();
        channel.started = Some(at);
        channel.completed = Some(at);
        channel.cached = true;
        channel.tell_all();
    }

    /// The work is over.
    pub fn completed(&self, result: Result<(), &Error>) {
        let mut channel = locked(&self.0);
        let at = now();
        if channel.started.is_none() {
            channel.started = Some(at);
        }
        channel.completed = Some(at);
        channel.error = result
            .err()
            .map_or_else(String::new, |e| e.message().to_owned());
        channel.tell_all();
    }

    /// Passes on output; of too much only the end is kept, for the error.
    pub fn log(&self, stream: i64, message: &[u8]) {
        let mut channel = locked(&self.0);
        channel.keep_tail(message);
        if channel.clipped || message.is_empty() {
            return;
        }
        let room = LOG_LIMIT.saturating_sub(channel.log_bytes);
        if message.len() <= room {
            channel.log_bytes += message.len();
            channel.log(stream, message);
            return;
        }
        channel.log(stream, &message[..room]);
        channel.clipped = true;
        channel.log(STDERR, b"\n[output clipped, log limit 2MiB reached]\n");
    }

    /// The end of the output so far.
    #[must_use]
    pub fn tail(&self) -> Vec<u8> {
        locked(&self.0).tail.iter().copied().collect()
    }

    /// Tells how far a part of the step is. The first word of a part is its start.
    pub fn status(&self, status: Status) {
        let mut channel = locked(&self.0);
        let at = now();
        let known = channel.statuses.get(&status.id);
        if known.is_none() && channel.statuses.len() >= STATUSES {
            return;
        }
        let started = known.and_then(|s| s.started).or(Some(at));
        let update = VertexStatus {
            id: status.id.clone(),
            name: status.name,
            current: status.current,
            total: status.total,
            timestamp: Some(at),
            started,
            completed: status.completed.then_some(at),
            ..Default::default()
        };
        for target in &channel.targets {
            target.progress.tell(Event::Status(VertexStatus {
                vertex: target.vertex.digest.clone(),
                ..update.clone()
            }));
        }
        channel.statuses.insert(status.id, update);
    }

    /// Tells that a part of the step begins, and when the answer is dropped that it is over.
    #[must_use]
    pub fn part(&self, id: impl Into<String>) -> Part {
        let id = id.into();
        self.status(Status {
            id: id.clone(),
            ..Status::default()
        });
        let progress = self.clone();
        Part {
            progress,
            status: Status {
                id,
                ..Status::default()
            },
        }
    }

    /// Tells of something that is no error; its vertex is set here.
    pub fn warning(&self, warning: VertexWarning) {
        let mut channel = locked(&self.0);
        if channel.warnings.len() >= WARNINGS {
            return;
        }
        for target in &channel.targets {
            target.progress.tell(Event::Warning(VertexWarning {
                vertex: target.vertex.digest.clone(),
                ..warning.clone()
            }));
        }
        channel.warnings.push(warning);
    }

    /// The digest under which the first job that waits for the work names it.
    #[must_use]
    pub fn digest(&self) -> Option<Digest> {
        let channel = locked(&self.0);
        channel.targets.first()?.vertex.digest.parse().ok()
    }
}

fn same(a: &Target, b: &Target) -> bool {
    Arc::ptr_eq(&a.progress, &b.progress) && a.vertex.digest == b.vertex.digest
}

/// A part of a step that goes on until this is dropped.
#[derive(Debug)]
pub struct Part {
    progress: VertexProgress,
    status: Status,
}

impl Part {
    /// Tells how far it is.
    pub fn update(&mut self, current: u64, total: u64) {
        self.status.current = i64::try_from(current).unwrap_or(i64::MAX);
        self.status.total = i64::try_from(total).unwrap_or(i64::MAX);
        self.progress.status(self.status.clone());
    }
}

impl Drop for Part {
    fn drop(&mut self) {
        self.progress.status(Status {
            completed: true,
            ..self.status.clone()
        });
    }
}

/// A warning as a front end gives it.
#[must_use]
pub fn warning(
    level: i64,
    short: &str,
    detail: &[String],
    url: &str,
    info: Option<pb::SourceInfo>,
    ranges: Vec<pb::Range>,
) -> VertexWarning {
    VertexWarning {
        vertex: String::new(),
        level,
        short: short.as_bytes().to_vec(),
        detail: detail.iter().map(|d| d.clone().into_bytes()).collect(),
        url: url.to_owned(),
        info,
        ranges,
    }
}

#[cfg(test)]
mod tests;
