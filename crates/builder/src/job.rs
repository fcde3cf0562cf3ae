//! One solve of a client.

use std::collections::{BTreeMap, VecDeque};
use std::sync::{Arc, Mutex, PoisonError, Weak};
use std::time::{Duration, Instant};

use crate::builder::Builder;
use crate::cache::{ExportRecord, ImportedRecord};
use crate::cancel::Cancel;
use crate::error::{Error, Result};
use crate::export::Attestation;
use crate::llb::{DecodeError, Graph, pb};
use crate::op::SessionIds;
use crate::policy::Policies;
use crate::progress::Progress;
use crate::remote_cache;
use crate::snapshot::Snapshot;
use crate::solver::{self, Nodes, Solved};

/// What a client wants of a job.
#[derive(Clone, Debug, Default)]
pub struct JobOptions {
    /// The name by which other calls find the job; one is made up where it is empty.
    pub id: String,
    /// The client's session, where it has one.
    pub session: String,
    /// What steps may do beyond the ordinary, such as `network.host`.
    pub entitlements: Vec<String>,
    /// Whether results become layers of an image, so that their digests are soon wanted.
    pub wants_layers: bool,
    /// Caches elsewhere that are asked.
    pub imports: Vec<RemoteCache>,
    /// What it may be made from.
    pub policies: Policies,
}

/// A cache that is not ours.
#[derive(Clone, PartialEq, Eq)]
pub struct RemoteCache {
    /// What it is, such as `registry`.
    pub kind: String,
    /// Where it is, and how it is reached.
    pub attrs: BTreeMap<String, String>,
}

/// Without the values of the attributes, of which some are tokens.
impl std::fmt::Debug for RemoteCache {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("RemoteCache")
            .field("kind", &self.kind)
            .field("attrs", &self.attrs.keys())
            .finish()
    }
}

/// What steps may do beyond the ordinary.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Entitlements {
    /// `network.host`: the host's network.
    pub network_host: bool,
    /// `security.insecure`: all capabilities.
    pub insecure: bool,
    /// `device`: the host's devices.
    pub device: bool,
}

impl Entitlements {
    /// Reads the names that clients send.
    ///
    /// # Errors
    /// When one is not known.
    pub fn parse(names: &[String]) -> Result<Self> {
        let mut all = Self::default();
        for name in names {
            match name.as_str() {
                "network.host" => all.network_host = true,
                "security.insecure" => all.insecure = true,
                "device" => all.device = true,
                other if other.starts_with("device=") => all.device = true,
                other => return Err(Error::invalid(format!("unknown entitlement {other}"))),
            }
        }
        Ok(all)
    }
}

/// One solve of a client: what its steps tell, and what they may.
#[derive(Debug)]
pub struct Job {
    /// The name by which other calls find the job.
    pub id: String,
    /// The client's sessions.
    pub sessions: SessionIds,
    /// What its steps tell.
    pub progress: Arc<Progress>,
    /// Whether results become layers of an image.
    pub wants_layers: bool,
    /// What its steps may do beyond the ordinary.
    pub entitlements: Entitlements,
    /// Caches elsewhere that are asked.
    pub imports: Vec<RemoteCache>,
    /// What it may be made from.
    pub policies: Policies,
    /// When it began.
    pub started: jiff::Timestamp,
    /// Raised when the client is gone or the job is over.
    pub cancel: Cancel,
    pub(crate) nodes: Nodes,
    materials: Mutex<BTreeMap<String, Material>>,
    statements: Mutex<BTreeMap<String, Attestation>>,
    /// Set when the caches elsewhere were asked.
    brought: tokio::sync::OnceCell<()>,
    builder: Weak<Builder>,
}

/// A source that a build used, for its provenance.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Material {
    /// What it is, such as `pkg:docker/busybox@latest?platform=linux%2Famd64`; it holds no secret.
    pub uri: String,
    /// What it resolved to, `algorithm:hex`; absent where nobody knows.
    pub digest: Option<String>,
}

impl Builder {
    /// Begins a job. It goes on until [`Job::end`].
    ///
    /// # Errors
    /// When one of that name goes on, or an entitlement is not known.
    pub fn job(self: &Arc<Self>, options: JobOptions) -> Result<Arc<Job>> {
        let id = match options.id {
            id if id.is_empty() => crate::id::new(),
            id => id,
        };
        let sessions = SessionIds::default();
        sessions.add(&options.session);
        let job = Arc::new(Job {
            id: id.clone(),
            sessions,
            progress: Arc::default(),
            wants_layers: options.wants_layers,
            entitlements: Entitlements::parse(&options.entitlements)?,
            imports: options.imports,
            policies: options.policies,
            started: jiff::Timestamp::now(),
            cancel: Cancel::default(),
            nodes: Nodes::default(),
            materials: Mutex::default(),
            statements: Mutex::default(),
            brought: tokio::sync::OnceCell::default(),
            builder: Arc::downgrade(self),
        });
        let added = self.jobs.send_if_modified(|jobs| {
            if jobs.contains_key(&id) {
                return false;
            }
            jobs.insert(id.clone(), Arc::clone(&job));
            true
        });
        if !added {
            return Err(Error::conflict(format!("job ID {id} exists")));
        }
        Ok(job)
    }

    /// A job that goes on.
    #[must_use]
    pub fn job_by_id(&self, id: &str) -> Option<Arc<Job>> {
        self.jobs.borrow().get(id).cloned()
    }

    /// Who knows what a job tells: for its beginning it waits, since clients ask before they begin it,
    /// and some of them only when it has ended.
    ///
    /// # Errors
    /// When none of that name begins in time.
    pub async fn wait_for_job(&self, id: &str, wait: Duration) -> Result<Telling> {
        let mut jobs = self.jobs.subscribe();
        let found = async {
            loop {
                let here = jobs.borrow_and_update().get(id).cloned();
                if let Some(job) = here {
                    return Some(Telling::Progress(Arc::clone(&job.progress)));
                }
                // a job is there or here before it leaves the others
                if self.history.get(id).is_some() {
                    return Some(Telling::History);
                }
                if let Some(progress) = self.ended.find(id) {
                    return Some(Telling::Progress(progress));
                }
                jobs.changed().await.ok()?;
            }
        };
        let found = tokio::time::timeout(wait, found).await.ok().flatten();
        found.ok_or_else(|| Error::not_found(format!("no such job {id}")))
    }
}

/// Who knows what a job tells.
#[derive(Clone, Debug)]
pub enum Telling {
    /// The job itself.
    Progress(Arc<Progress>),
    /// The history: it has ended.
    History,
}

/// How long a job that has ended is still known to those who ask late what it told.
const LATE: Duration = Duration::from_secs(30);
/// Jobs that are known so at most.
const ENDED: usize = 256;

/// What jobs told that have ended a moment ago and are in no history. A client asks for a job's progress
/// on a stream beside the one that begins it, so that a short job may be over when the question arrives;
/// were it then waited for, the client would give up and fail.
#[derive(Debug, Default)]
pub(crate) struct Ended(Mutex<VecDeque<(Instant, String, Arc<Progress>)>>);

impl Ended {
    fn add(&self, id: &str, progress: &Arc<Progress>) {
        let mut ended = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        ended.retain(|(since, ..)| since.elapsed() < LATE);
        while ended.len() >= ENDED {
            ended.pop_front();
        }
        ended.push_back((Instant::now(), id.to_owned(), Arc::clone(progress)));
    }

    fn find(&self, id: &str) -> Option<Arc<Progress>> {
        let ended = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let found = ended.iter().rev().find(|(_, other, _)| other == id);
        found.map(|(.., progress)| Arc::clone(progress))
    }
}

impl Job {
    /// The build engine.
    ///
    /// # Errors
    /// When it has ended.
    pub fn builder(&self) -> Result<Arc<Builder>> {
        let builder = self.builder.upgrade();
        builder.ok_or_else(|| Error::unavailable("the build engine has ended"))
    }

    /// Solves a graph's target. What is solved once stays solved as long as the job goes on.
    ///
    /// # Errors
    /// When an operation fails, wants more than the client allowed, or the job has ended.
    pub async fn solve(self: &Arc<Self>, graph: &Graph) -> Result<Solved> {
        let bring = || Box::pin(remote_cache::bring(self));
        self.brought.get_or_init(bring).await;
        solver::solve(self, graph).await
    }

    /// Adds what another cache has.
    pub fn import(&self, records: Vec<ImportedRecord>) {
        self.nodes.import(records);
    }

    /// The operations of what was solved, each after its inputs, for a cache elsewhere.
    ///
    /// # Errors
    /// When a graph is not in order.
    pub fn exportable(&self, refs: &[Ref]) -> Result<Vec<ExportRecord>> {
        let graphs: Vec<_> = refs.iter().filter_map(|r| r.graph.as_deref()).collect();
        solver::exportable(self, &graphs)
    }

    /// Notes a source that the build uses.
    pub fn note_material(&self, material: Material) {
        let materials = self.materials.lock();
        let mut materials = materials.unwrap_or_else(PoisonError::into_inner);
        materials.insert(material.uri.clone(), material);
    }

    /// The sources that the build has used, by their names.
    #[must_use]
    pub fn materials(&self) -> Vec<Material> {
        let materials = self.materials.lock();
        let materials = materials.unwrap_or_else(PoisonError::into_inner);
        materials.values().cloned().collect()
    }

    /// Notes how a result was made, for the history; results are told apart as front ends do.
    pub fn note_statement(&self, result: &str, statement: Attestation) {
        let statements = self.statements.lock();
        let mut statements = statements.unwrap_or_else(PoisonError::into_inner);
        statements.insert(result.to_owned(), statement);
    }

    /// How the results were made.
    #[must_use]
    pub fn statements(&self) -> BTreeMap<String, Attestation> {
        let statements = self.statements.lock();
        statements.unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Ends the job: what only it wants is cancelled, and nothing more is told.
    pub fn end(&self) {
        self.cancel.cancel();
        self.progress.end();
        if let Some(builder) = self.builder.upgrade() {
            crate::source::local::forget(&builder.locals, &self.id);
            if builder.history.get(&self.id).is_none() {
                builder.ended.add(&self.id, &self.progress);
            }
            builder.jobs.send_if_modified(|jobs| {
                let ours = jobs
                    .get(&self.id)
                    .is_some_and(|job| std::ptr::eq(Arc::as_ptr(job), self));
                ours && jobs.remove(&self.id).is_some()
            });
        }
    }

    /// Ends the job when the answer is dropped, as when its client's call is.
    #[must_use]
    pub fn end_on_drop(self: &Arc<Self>) -> EndOnDrop {
        EndOnDrop(Arc::clone(self))
    }
}

/// Ends a job when it is dropped.
#[derive(Debug)]
pub struct EndOnDrop(Arc<Job>);

impl Drop for EndOnDrop {
    fn drop(&mut self) {
        self.0.end();
    }
}

/// A definition within a job that is solved when its result is first wanted.
#[derive(Clone, Debug)]
pub struct Ref {
    job: Arc<Job>,
    definition: Arc<pb::Definition>,
    graph: Option<Arc<Graph>>,
}

impl From<DecodeError> for Error {
    fn from(error: DecodeError) -> Self {
        let mut text = error.to_string();
        if let Some(source) = std::error::Error::source(&error) {
            text = format!("{text}: {source}");
        }
        Self::invalid(text).context("failed to load LLB")
    }
}

impl Ref {
    /// Reads a definition.
    ///
    /// # Errors
    /// When it is malformed.
    pub fn new(job: &Arc<Job>, definition: pb::Definition) -> Result<Self> {
        Self::under(job, definition, &Policies::default())
    }

    /// Reads a definition that is under these policies beside those of its job.
    ///
    /// # Errors
    /// When it is malformed, or has a source that is denied.
    pub fn under(
        job: &Arc<Job>,
        mut definition: pb::Definition,
        policies: &Policies,
    ) -> Result<Self> {
        let mut graph = Graph::decode(&definition)?;
        let policies = job.policies.and(policies);
        if let Some(before) = graph.as_ref().filter(|_| !policies.is_empty())
            && let Some(other) = policies.convert(&definition, before)?
        {
            graph = Graph::decode(&other)?;
            definition = other;
        }
        Ok(Self {
            job: Arc::clone(job),
            graph: graph.map(Arc::new),
            definition: Arc::new(definition),
        })
    }

    /// The definition as it was sent.
    #[must_use]
    pub fn definition(&self) -> &Arc<pb::Definition> {
        &self.definition
    }

    /// The graph; absent for a file system with nothing in it.
    #[must_use]
    pub fn graph(&self) -> Option<&Arc<Graph>> {
        self.graph.as_ref()
    }

    /// The job it belongs to.
    #[must_use]
    pub fn job(&self) -> &Arc<Job> {
        &self.job
    }

    /// The solved target; absent for a file system with nothing in it.
    ///
    /// # Errors
    /// As [`Job::solve`].
    pub async fn solve(&self) -> Result<Option<Solved>> {
        match &self.graph {
            Some(graph) => self.job.solve(graph).await.map(Some),
            None => Ok(None),
        }
    }

    /// The state of the file system, which is made when it is first asked for.
    ///
    /// # Errors
    /// As [`Job::solve`].
    pub async fn snapshot(&self) -> Result<Snapshot> {
        let solved = self.solve().await?;
        Ok(solved.map_or_else(Snapshot::scratch, |solved| solved.snapshot))
    }
}
