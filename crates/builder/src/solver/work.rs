//! Operations that run: each once, for all jobs that want its result.

use std::collections::HashMap;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use jiff::Timestamp;
use oci::Digest;
use tokio::sync::{Semaphore, watch};

use super::once::wait;
use crate::builder::Builder;
use crate::cache::{Hit, InUse, Record};
use crate::cancel::Cancel;
use crate::error::{Error, Result};
use crate::job::Job;
use crate::llb::{Vertex, pb};
use crate::op::{OpContext, SessionIds};
use crate::ops;
use crate::progress::VertexProgress;
use crate::snapshot::Snapshot;

/// How long an operation that nobody wants any more may take to end by itself.
const END: Duration = Duration::from_secs(20);

/// The operations that run, by their keys, and how many of them may.
#[derive(Debug)]
pub struct Solver {
    running: Mutex<HashMap<Digest, Arc<Work>>>,
    permits: Arc<Semaphore>,
}

/// An operation that runs.
#[derive(Debug)]
struct Work {
    keys: Vec<Digest>,
    progress: VertexProgress,
    sessions: SessionIds,
    cancel: Cancel,
    waiting: AtomicUsize,
    done: watch::Receiver<Option<Result<Made>>>,
}

/// What a run has left.
#[derive(Clone, Debug)]
pub(super) struct Made {
    /// By what later operations know it.
    pub(super) primary: Digest,
    pub(super) outputs: Vec<Snapshot>,
    /// Its record; absent where it cannot be found again, as a client's folder.
    pub(super) record: Option<(Arc<Record>, Arc<InUse>)>,
}

impl From<Hit> for Made {
    fn from(hit: Hit) -> Self {
        Self {
            primary: hit.record.primary.clone(),
            outputs: hit.outputs,
            record: Some((hit.record, hit.used)),
        }
    }
}

/// What is to run, and how its result is to be known.
#[derive(Clone, Debug)]
pub(super) struct Order {
    pub(super) vertex: Arc<Vertex>,
    /// What it works on.
    pub(super) inputs: Vec<Snapshot>,
    /// The records of the inputs.
    pub(super) parents: Vec<String>,
    /// The digests of inputs that count by what they hold.
    pub(super) content: Vec<Option<Digest>>,
    /// The keys that lead to it, the fast one first.
    pub(super) keys: Vec<Digest>,
    /// Whether it is to run although there is a result.
    pub(super) anew: bool,
}

/// What came of looking for others who run the same.
enum Place {
    Mine(Arc<Work>, watch::Sender<Option<Result<Made>>>),
    Joined(Arc<Work>),
    /// Somebody has just finished it.
    Stored,
}

impl Default for Solver {
    fn default() -> Self {
        let processors = std::thread::available_parallelism().map_or(1, usize::from);
        Self::new(processors.saturating_mul(2))
    }
}

impl Solver {
    /// A solver that runs so many processes at the same time.
    #[must_use]
    pub fn new(parallelism: usize) -> Self {
        let most = parallelism.clamp(1, Semaphore::MAX_PERMITS);
        Self {
            running: Mutex::default(),
            permits: Arc::new(Semaphore::new(most)),
        }
    }

    fn running(&self) -> MutexGuard<'_, HashMap<Digest, Arc<Work>>> {
        self.running.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// How many different operations run or wait to run.
    #[must_use]
    pub fn busy(&self) -> usize {
        let running = self.running();
        let mut works: Vec<_> = running.values().map(Arc::as_ptr).collect();
        works.sort_unstable();
        works.dedup();
        works.len()
    }

    /// Joins one that runs the same, or takes the place of it.
    fn place(&self, builder: &Builder, job: &Job, order: &Order) -> Place {
        let mut running = self.running();
        // a run that is wanted anew is only equal to another such
        let keys: Vec<_> = order
            .keys
            .iter()
            .map(|k| running_key(k, order.anew))
            .collect();
        if let Some(work) = keys.iter().find_map(|key| running.get(key)) {
            work.waiting.fetch_add(1, Ordering::Relaxed);
            work.sessions.join(&job.sessions);
            work.progress.join(&job.progress, &order.vertex);
            return Place::Joined(Arc::clone(work));
        }
        // it is stored before it leaves the table, so that it cannot be in neither
        if !order.anew && builder.cache.knows(&order.keys) {
            return Place::Stored;
        }
        let (tell, done) = watch::channel(None);
        let sessions = SessionIds::default();
        sessions.join(&job.sessions);
        let work = Arc::new(Work {
            progress: job.progress.vertex(&order.vertex),
            sessions,
            cancel: Cancel::default(),
            waiting: AtomicUsize::new(1),
            done,
            keys,
        });
        for key in &work.keys {
            running.insert(key.clone(), Arc::clone(&work));
        }
        Place::Mine(work, tell)
    }

    fn leave(&self, work: &Arc<Work>) {
        let mut running = self.running();
        for key in &work.keys {
            if running
                .get(key)
                .is_some_and(|other| Arc::ptr_eq(other, work))
            {
                running.remove(key);
            }
        }
    }
}

fn running_key(key: &Digest, anew: bool) -> Digest {
    if anew {
        crate::cache::keys::of_run(key, "anew")
    } else {
        key.clone()
    }
}

/// Somebody who waits for work; when the last one goes, the work is cancelled.
struct Waiting {
    builder: Arc<Builder>,
    work: Arc<Work>,
    job: Arc<Job>,
}

impl Drop for Waiting {
    fn drop(&mut self) {
        let solver = &self.builder.solver;
        // under the lock, so that nobody joins what is just cancelled
        let running = solver.running();
        let last = self.work.waiting.fetch_sub(1, Ordering::Relaxed) == 1;
        drop(running);
        let over = self.work.done.borrow().is_some();
        if last && !over {
            solver.leave(&self.work);
            self.work.cancel.cancel();
        } else if !over {
            self.work.progress.leave(&self.job.progress);
        }
    }
}

/// Runs an operation, or waits for another job that does; absent where its result was stored meanwhile.
pub(super) async fn run(
    builder: &Arc<Builder>,
    job: &Arc<Job>,
    order: &Order,
) -> Result<Option<Made>> {
    loop {
        let (work, tell) = match builder.solver.place(builder, job, order) {
            Place::Stored => return Ok(None),
            Place::Joined(work) => (work, None),
            Place::Mine(work, tell) => (work, Some(tell)),
        };
        if let Some(tell) = tell {
            start(builder, job, order, &work, tell);
        }
        let mut done = work.done.clone();
        let waiting = Waiting {
            builder: Arc::clone(builder),
            work,
            job: Arc::clone(job),
        };
        let made = job.cancel.run(wait(&mut done)).await;
        drop(waiting);
        match made {
            // it was just cancelled by those who had wanted it before us
            Err(error) if error.is_canceled() && !job.cancel.is_canceled() => {
                tokio::task::yield_now().await;
            }
            made => return made.map(Some),
        }
    }
}

fn start(
    builder: &Arc<Builder>,
    job: &Arc<Job>,
    order: &Order,
    work: &Arc<Work>,
    tell: watch::Sender<Option<Result<Made>>>,
) {
    let context = OpContext {
        builder: Arc::clone(builder),
        job: Arc::clone(job),
        vertex: Arc::clone(&order.vertex),
        progress: work.progress.clone(),
        sessions: work.sessions.clone(),
        cancel: work.cancel.clone(),
    };
    let order = order.clone();
    let leaving = Leaving {
        builder: Arc::clone(builder),
        work: Arc::clone(work),
    };
    tokio::spawn(async move {
        let _leaving = leaving;
        let made = perform(&context, &order).await;
        let made = made.map_err(|e| {
            let output = context.progress.tail();
            e.with_output(output)
                .at(&order.vertex.digest, &order.vertex.locations)
        });
        context.progress.completed(made.as_ref().map(|_| ()));
        tell.send_replace(Some(made));
    });
}

/// Takes work out of the table when it is over, even by a panic.
struct Leaving {
    builder: Arc<Builder>,
    work: Arc<Work>,
}

impl Drop for Leaving {
    fn drop(&mut self) {
        self.builder.solver.leave(&self.work);
    }
}

async fn perform(context: &OpContext, order: &Order) -> Result<Made> {
    let ready = order.inputs.iter().map(Snapshot::ready);
    let ready = async { Ok(futures_util::future::try_join_all(ready).await.map(drop)?) };
    context.cancel.run(ready).await?;
    let is_process = matches!(order.vertex.op.op, Some(pb::op::Op::Exec(_)));
    let permits = &context.builder.solver.permits;
    let _permit = if is_process {
        let permit = async { Ok(permits.acquire().await.ok()) };
        context.cancel.run(permit).await?
    } else {
        None
    };
    context.progress.started();
    let outputs = to_the_end(context, ops::run(context, &order.inputs)).await?;
    Ok(store(context, order, outputs))
}

/// Waits for an operation; one that nobody wants any more gets time to clear away what it has.
async fn to_the_end<T>(context: &OpContext, work: impl Future<Output = Result<T>>) -> Result<T> {
    tokio::pin!(work);
    tokio::select! {
        done = &mut work => return done,
        () = context.cancel.canceled() => (),
    }
    // whatever it answers now, nobody wants it
    let _late = tokio::time::timeout(END, work).await;
    Err(Error::canceled())
}

/// Stores a result, where it can be found again.
fn store(context: &OpContext, order: &Order, outputs: Vec<Snapshot>) -> Made {
    let id = crate::id::new();
    let fast = order.keys.first().cloned();
    let fast = fast.unwrap_or_else(|| order.vertex.digest.clone());
    let primary = if order.anew {
        crate::cache::keys::of_run(&fast, &id)
    } else {
        fast
    };
    let ids: Option<Vec<_>> = outputs.iter().map(Snapshot::layer_ids).collect();
    let record = ids.map(|ids| Record {
        id,
        kind: kind(&order.vertex),
        primary: primary.clone(),
        keys: order.keys.clone(),
        outputs: ids,
        parents: order.parents.clone(),
        content: order.content.clone(),
        description: description(&order.vertex),
        created: Timestamp::now(),
        size: 0,
    });
    let stored = record.and_then(|record| match context.builder.cache.store(record) {
        Ok(stored) => Some(stored),
        Err(error) => {
            tracing::warn!(%error, "a result is not in the build cache");
            None
        }
    });
    if let Some((record, _used)) = &stored {
        measure(context, record, &order.inputs, &outputs);
    }
    Made {
        primary,
        outputs,
        record: stored,
    }
}

/// Finds out beside the build what a result takes beyond its inputs.
fn measure(context: &OpContext, record: &Arc<Record>, inputs: &[Snapshot], outputs: &[Snapshot]) {
    let below: std::collections::HashSet<String> = inputs
        .iter()
        .filter_map(Snapshot::layer_ids)
        .flatten()
        .collect();
    let mut own: HashMap<String, _> = HashMap::new();
    for layer in outputs.iter().flat_map(Snapshot::layers) {
        if !below.contains(layer.id()) {
            own.insert(layer.id().to_owned(), Arc::clone(layer));
        }
    }
    let (cache, id) = (Arc::clone(&context.builder.cache), record.id.clone());
    tokio::task::spawn_blocking(move || {
        let there = own.into_values().filter(|layer| !layer.is_lazy());
        let size: u64 = there.map(|layer| layer.size()).sum();
        if size > 0 {
            cache.set_size(&id, size);
        }
    });
}

fn kind(vertex: &Vertex) -> crate::cache::RecordKind {
    match &vertex.op.op {
        Some(pb::op::Op::Source(source)) if source.identifier.starts_with("git://") => {
            crate::cache::RecordKind::Git
        }
        _ if vertex.name.starts_with("[internal]") => crate::cache::RecordKind::Internal,
        _ => crate::cache::RecordKind::Regular,
    }
}

/// What people see of a record: what made it, in BuildKit's words.
fn description(vertex: &Vertex) -> String {
    match &vertex.op.op {
        Some(pb::op::Op::Source(source)) => match source.identifier.split_once("://") {
            Some(("docker-image", name)) => format!("pulled from {name}"),
            Some(("git", url)) => format!("git snapshot for {url}"),
            Some(("local", name)) => format!("local source for {name}"),
            _ => source.identifier.clone(),
        },
        Some(pb::op::Op::Exec(exec)) => {
            let args = exec.meta.as_ref().map(|m| m.args.join(" "));
            format!("mount / from exec {}", args.unwrap_or_default())
        }
        _ => vertex.name.clone(),
    }
}
