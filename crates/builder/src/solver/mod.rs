//! Solves graphs: finds in the cache what is there, and runs the rest.
//!
//! Each operation of a job is a [`Node`], which is asked two things, each answered once. *Probed*, it
//! says by which key its result is known, going by definitions alone; sources are resolved for
//! that. *Settled*, it has the result: the record that the probe has found, or, once its inputs are settled,
//! the one to which the key by their real results or by what they hold leads, or that of a run. So what is
//! wanted at the end is asked first, and nothing below a result that is known is fetched or run.

mod once;
mod work;

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};

use futures_util::future::{BoxFuture, try_join_all};
use oci::Digest;

use crate::builder::Builder;
use crate::cache::keys::{Part, key};
use crate::cache::{ExportInput, ExportRecord, ImportedRecord};
use crate::error::{Error, Result, Subject};
use crate::job::Job;
use crate::llb::{Edge, Graph, Vertex, pb};
use crate::op::{CacheMap, InputKey, OpContext};
use crate::ops;
use crate::progress::VertexProgress;
use crate::snapshot::Snapshot;
use once::Once;
use work::{Made, Order};

pub use work::Solver;

/// A vertex, and whether it is to run although there is a result.
type NodeKey = (Digest, bool);

/// What a job knows of its operations.
#[derive(Debug, Default)]
pub(crate) struct Nodes {
    known: Mutex<HashMap<NodeKey, Arc<Node>>>,
    imported: Mutex<HashMap<Digest, Arc<ImportedRecord>>>,
}

/// An operation of a job.
#[derive(Debug)]
struct Node {
    vertex: Arc<Vertex>,
    inputs: Vec<(Arc<Self>, u32)>,
    progress: VertexProgress,
    probe: Once<Arc<Probe>>,
    settled: Once<Arc<Settled>>,
}

/// What is known of an operation by definitions.
#[derive(Debug)]
struct Probe {
    map: CacheMap,
    /// By what later operations know the result; absent where it has to run first.
    primary: Option<Digest>,
    found: Option<Made>,
}

/// An operation with its results.
#[derive(Debug)]
struct Settled {
    made: Made,
    content: Vec<Option<Digest>>,
}

/// A solved edge.
#[derive(Clone, Debug)]
pub struct Solved {
    /// The state of the file system.
    pub snapshot: Snapshot,
    /// By what later operations know it.
    pub key: Digest,
    settled: Arc<Settled>,
}

impl Solved {
    /// The cache's record of it, where it has one.
    #[must_use]
    pub fn record(&self) -> Option<&str> {
        let record = self.settled.made.record.as_ref();
        record.map(|(record, _used)| record.id.as_str())
    }
}

impl Nodes {
    /// The node of an edge, with all below it.
    fn of_graph(&self, job: &Job, graph: &Graph) -> Result<Arc<Node>> {
        let mut known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        let mut here: HashMap<&Digest, Arc<Node>> = HashMap::with_capacity(graph.order.len());
        for vertex in graph.iter() {
            let key = (vertex.digest.clone(), vertex.metadata.ignore_cache);
            let node = match known.get(&key) {
                Some(node) => Arc::clone(node),
                None => {
                    let inputs = vertex.inputs.iter();
                    let inputs = inputs
                        .map(|edge| input(&here, edge))
                        .collect::<Result<_>>()?;
                    job.progress.announce(vertex);
                    let node = Arc::new(Node {
                        inputs,
                        progress: job.progress.vertex(vertex),
                        vertex: Arc::clone(vertex),
                        probe: Once::default(),
                        settled: Once::default(),
                    });
                    known.insert(key, Arc::clone(&node));
                    node
                }
            };
            here.insert(&vertex.digest, node);
        }
        node(&here, &graph.target.vertex)
    }

    fn imported(&self, key: &Digest) -> Option<Arc<ImportedRecord>> {
        let imported = self.imported.lock().unwrap_or_else(PoisonError::into_inner);
        imported.get(key).cloned()
    }

    pub(crate) fn import(&self, records: Vec<ImportedRecord>) {
        let mut imported = self.imported.lock().unwrap_or_else(PoisonError::into_inner);
        for record in records {
            let record = Arc::new(record);
            for key in &record.keys {
                imported
                    .entry(key.clone())
                    .or_insert_with(|| Arc::clone(&record));
            }
        }
    }
}

fn node(here: &HashMap<&Digest, Arc<Node>>, digest: &Digest) -> Result<Arc<Node>> {
    let found = here.get(digest).cloned();
    found.ok_or_else(|| Error::invalid(format!("invalid LLB: {digest} is not in the graph")))
}

fn input(here: &HashMap<&Digest, Arc<Node>>, edge: &Edge) -> Result<(Arc<Node>, u32)> {
    Ok((node(here, &edge.vertex)?, edge.output))
}

/// Refuses steps that want more than the client has allowed. It is asked for each graph, however it comes
/// and whatever the cache has (CVE-2024-23653).
fn check_entitlements(job: &Job, graph: &Graph) -> Result<()> {
    for vertex in graph.iter() {
        let Some(pb::op::Op::Exec(exec)) = &vertex.op.op else {
            continue;
        };
        let refuse = |what: &str| {
            let error = Error::forbidden(format!("{what} is not allowed"));
            Err(error.at(&vertex.digest, &vertex.locations))
        };
        if exec.network() == pb::NetMode::Host && !job.entitlements.network_host {
            return refuse("network.host");
        }
        if exec.security() == pb::SecurityMode::Insecure && !job.entitlements.insecure {
            return refuse("security.insecure");
        }
        if !exec.cdi_devices.is_empty() && !job.entitlements.device {
            return refuse("device");
        }
    }
    Ok(())
}

/// Solves a graph's target.
pub(crate) async fn solve(job: &Arc<Job>, graph: &Graph) -> Result<Solved> {
    check_entitlements(job, graph)?;
    let builder = job.builder()?;
    let node = job.nodes.of_graph(job, graph)?;
    let run = Run {
        builder,
        job: Arc::clone(job),
    };
    let settled = job.cancel.run(run.settle(&node)).await?;
    let snapshot = output(&node.vertex, &settled, graph.target.output)?;
    Ok(Solved {
        snapshot,
        key: settled.made.primary.clone(),
        settled,
    })
}

fn output(vertex: &Vertex, settled: &Settled, output: u32) -> Result<Snapshot> {
    let found = usize::try_from(output).ok();
    let found = found.and_then(|i| settled.made.outputs.get(i)).cloned();
    found.ok_or_else(|| {
        let error = Error::invalid(format!("invalid output {output} of {}", vertex.name));
        error.at(&vertex.digest, &vertex.locations)
    })
}

/// One job's way through its nodes.
#[derive(Clone, Debug)]
struct Run {
    builder: Arc<Builder>,
    job: Arc<Job>,
}

impl Run {
    fn probe<'a>(&self, node: &'a Arc<Node>) -> BoxFuture<'a, Result<Arc<Probe>>> {
        let (run, own) = (self.clone(), Arc::clone(node));
        let work = move || -> BoxFuture<'static, _> {
            Box::pin(async move {
                let work = async { run.probe_now(&own).await.map(Arc::new) };
                run.job.cancel.run(work).await
            })
        };
        Box::pin(node.probe.get(work))
    }

    fn settle<'a>(&self, node: &'a Arc<Node>) -> BoxFuture<'a, Result<Arc<Settled>>> {
        let (run, own) = (self.clone(), Arc::clone(node));
        let work = move || -> BoxFuture<'static, _> {
            Box::pin(async move {
                let work = async { run.settle_now(&own).await.map(Arc::new) };
                run.job.cancel.run(work).await
            })
        };
        Box::pin(node.settled.get(work))
    }

    async fn settle_all(&self, node: &Node) -> Result<Vec<Arc<Settled>>> {
        try_join_all(node.inputs.iter().map(|(input, _)| self.settle(input))).await
    }

    fn context(&self, node: &Node) -> OpContext {
        OpContext {
            builder: Arc::clone(&self.builder),
            job: Arc::clone(&self.job),
            vertex: Arc::clone(&node.vertex),
            progress: node.progress.clone(),
            sessions: self.job.sessions.clone(),
            cancel: self.job.cancel.clone(),
        }
    }

    async fn probe_now(&self, node: &Node) -> Result<Probe> {
        let inputs = try_join_all(node.inputs.iter().map(|(input, _)| self.probe(input)));
        let (map, inputs) = futures_util::future::try_join(self.map(node), inputs).await?;
        let made = node.inputs.iter().zip(&inputs).map(|((_, output), probe)| {
            Some(Part::Made {
                primary: probe.primary.clone()?,
                output: *output,
            })
        });
        let parts: Option<Vec<_>> = made.collect();
        let fast = parts.map(|parts| key(&map.digest, &parts));
        let fast = fast.filter(|_| !node.vertex.metadata.ignore_cache);
        let found = match &fast {
            Some(fast) => self.find(node, std::slice::from_ref(fast)).await,
            None => None,
        };
        let primary = found.as_ref().map(|made| made.primary.clone()).or(fast);
        Ok(Probe {
            map,
            primary,
            found,
        })
    }

    /// Asks the operation by what its results are known; a source is resolved for that.
    async fn map(&self, node: &Node) -> Result<CacheMap> {
        let is_source = matches!(node.vertex.op.op, Some(pb::op::Op::Source(_)));
        if is_source {
            node.progress.started();
        }
        let map = ops::cache_map(&self.context(node)).await.map_err(|e| {
            let e = if is_source {
                e.context("failed to load cache key")
            } else {
                e
            };
            e.at(&node.vertex.digest, &node.vertex.locations)
        });
        if is_source || map.is_err() {
            node.progress.completed(map.as_ref().map(|_| ()));
        }
        map
    }

    /// What the cache, or one elsewhere, has under a key.
    async fn find(&self, node: &Node, keys: &[Digest]) -> Option<Made> {
        for key in keys {
            if let Some(hit) = self.builder.cache.find(key).await {
                for other in keys {
                    self.builder.cache.add_key(&hit.record.id, other);
                }
                node.progress.cached();
                return Some(hit.into());
            }
        }
        let imported = keys.iter().find_map(|key| self.job.nodes.imported(key))?;
        node.progress.cached();
        Some(self.keep_imported(node, &imported, keys))
    }

    /// Notes what another cache has, so that it is found here the next time.
    fn keep_imported(&self, node: &Node, imported: &ImportedRecord, keys: &[Digest]) -> Made {
        let ids: Option<Vec<_>> = imported.outputs.iter().map(Snapshot::layer_ids).collect();
        let mut all = keys.to_vec();
        all.extend(imported.keys.iter().filter(|k| !keys.contains(k)).cloned());
        let record = ids.map(|outputs| crate::cache::Record {
            id: crate::id::new(),
            kind: crate::cache::RecordKind::Regular,
            primary: imported.primary.clone(),
            keys: all,
            outputs,
            parents: Vec::new(),
            content: Vec::new(),
            description: imported.description.clone(),
            created: jiff::Timestamp::now(),
            size: 0,
        });
        let stored = record.and_then(|record| self.builder.cache.store(record).ok());
        tracing::debug!(vertex = node.vertex.name, "found in another cache");
        Made {
            primary: imported.primary.clone(),
            outputs: imported.outputs.clone(),
            record: stored,
        }
    }

    async fn settle_now(&self, node: &Arc<Node>) -> Result<Settled> {
        let probe = self.probe(node).await?;
        if let Some(made) = &probe.found {
            return Ok(Settled::of(made.clone()));
        }
        let inputs = self.settle_all(node).await?;
        let anew = node.vertex.metadata.ignore_cache;
        let made = node.inputs.iter().zip(&inputs);
        let parts: Vec<_> = made.map(|((_, output), s)| s.part(*output)).collect();
        let fast = key(&probe.map.digest, &parts);
        if !anew
            && probe.primary.as_ref() != Some(&fast)
            && let Some(made) = self.find(node, std::slice::from_ref(&fast)).await
        {
            return Ok(Settled::of(made));
        }
        let snapshots = node.inputs.iter().zip(&inputs);
        let snapshots = snapshots.map(|((input, at), s)| output(&input.vertex, s, *at));
        let snapshots = snapshots.collect::<Result<Vec<_>>>()?;
        let content = self.content(node, &probe.map, &snapshots).await?;
        let mut keys = vec![fast];
        if content.iter().any(Option::is_some) {
            let held = parts.into_iter().zip(&content);
            let held = held.map(|(part, held)| held.clone().map_or(part, Part::Content));
            keys.push(key(&probe.map.digest, &held.collect::<Vec<_>>()));
        }
        let parents = inputs.iter().filter_map(|s| s.made.record.as_ref());
        let mut parents: Vec<_> = parents.map(|(record, _)| record.id.clone()).collect();
        parents.sort_unstable();
        parents.dedup();
        let order = Order {
            vertex: Arc::clone(&node.vertex),
            inputs: snapshots,
            parents,
            content: content.clone(),
            keys,
            anew,
        };
        let made = self.find_or_run(node, &order).await?;
        Ok(Settled { made, content })
    }

    async fn find_or_run(&self, node: &Node, order: &Order) -> Result<Made> {
        loop {
            if !order.anew
                && let Some(made) = self.find(node, &order.keys).await
            {
                return Ok(made);
            }
            // a record that another job has stored just now is found in the next round
            if let Some(made) = work::run(&self.builder, &self.job, order).await? {
                return Ok(made);
            }
        }
    }

    /// The digests of those inputs that count by what they hold.
    async fn content(
        &self,
        node: &Node,
        map: &CacheMap,
        inputs: &[Snapshot],
    ) -> Result<Vec<Option<Digest>>> {
        let context = self.context(node);
        let one = |index: usize, snapshot: Snapshot| {
            let context = &context;
            async move {
                let Some(InputKey::Content(selectors)) = map.inputs.get(index) else {
                    return Ok(None);
                };
                let digest = ops::content_digest(context, &snapshot, selectors).await;
                digest.map(Some).map_err(|e| {
                    let subject = Subject::CacheInput(i64::try_from(index).unwrap_or(-1));
                    e.about(subject).context("failed to compute cache key")
                })
            }
        };
        let all = inputs.iter().enumerate().map(|(i, s)| one(i, s.clone()));
        try_join_all(all).await.map_err(|e| {
            let e = e.at(&node.vertex.digest, &node.vertex.locations);
            node.progress.completed(Err(&e));
            e
        })
    }
}

impl Settled {
    fn of(made: Made) -> Self {
        let record = made.record.as_ref();
        let content = record.map_or_else(Vec::new, |(record, _)| record.content.clone());
        Self { made, content }
    }

    fn part(&self, output: u32) -> Part {
        Part::Made {
            primary: self.made.primary.clone(),
            output,
        }
    }
}

/// The operations of some graphs as far as they were solved, each after its inputs.
pub(crate) fn exportable(job: &Job, graphs: &[&Graph]) -> Result<Vec<ExportRecord>> {
    let mut list = Vec::new();
    let mut places: HashMap<*const Node, usize> = HashMap::new();
    for graph in graphs {
        let target = job.nodes.of_graph(job, graph)?;
        let known = job
            .nodes
            .known
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        for vertex in graph.iter() {
            let key = (vertex.digest.clone(), vertex.metadata.ignore_cache);
            let Some(node) = known.get(&key) else {
                continue;
            };
            let at = Arc::as_ptr(node);
            if !places.contains_key(&at)
                && let Some(record) = export(node, &places)
            {
                places.insert(at, list.len());
                list.push(record);
            }
        }
        let place = places.get(&Arc::as_ptr(&target));
        if let Some(record) = place.and_then(|place| list.get_mut(*place)) {
            record.result = true;
        }
    }
    Ok(list)
}

fn export(node: &Node, places: &HashMap<*const Node, usize>) -> Option<ExportRecord> {
    let probe = node.probe.done()?;
    let settled = node.settled.done();
    let made = settled.as_ref().map(|s| &s.made).or(probe.found.as_ref());
    let record = made.and_then(|made| made.record.as_ref());
    let record = record.map(|(record, _)| record);
    let content = match &settled {
        Some(settled) => settled.content.clone(),
        None => record.map_or_else(Vec::new, |record| record.content.clone()),
    };
    let inputs = node.inputs.iter().enumerate();
    let inputs = inputs.map(|(i, (input, output))| {
        Some(ExportInput {
            record: *places.get(&Arc::as_ptr(input))?,
            output: *output,
            content: content.get(i).cloned().flatten(),
        })
    });
    let layers = made.filter(|_| record.is_some());
    Some(ExportRecord {
        operation: probe.map.digest.clone(),
        inputs: inputs.collect::<Option<_>>()?,
        outputs: layers.map_or_else(Vec::new, |made| made.outputs.clone()),
        description: node.vertex.name.clone(),
        created: record.map(|record| record.created),
        result: false,
    })
}
