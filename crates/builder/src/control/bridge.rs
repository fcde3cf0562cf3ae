//! Builds whose front end is the client, or a program of an image: it asks for pieces, and says in the end
//! which of them is the result.

use std::collections::{BTreeMap, HashMap};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use bollard_buildkit_proto::google::rpc;
use bollard_buildkit_proto::moby::buildkit::v1::frontend as gateway;
use prost::Message as _;
use tokio::sync::watch;

use crate::cancel::Cancel;
use crate::error::{Error, Result};
use crate::front::{FrontAttestation, FrontResult, Refs};
use crate::job::{Job, Ref};
use crate::llb::pb;
use crate::ops::exec::container::Container;

/// How long a client may ask its front end's questions before it begins the build.
const BUILD: Duration = Duration::from_secs(10);
/// Results that one front end keeps, and bytes of their definitions.
const MAX_REFS: usize = 10_000;
const MAX_REF_BYTES: usize = 512 << 20;
/// Containers that one front end has at the same time.
const MAX_CONTAINERS: usize = 64;

/// The builds whose front ends are at work.
#[derive(Debug, Default)]
pub(crate) struct Bridges {
    open: watch::Sender<HashMap<String, Arc<Bridge>>>,
}

impl Bridges {
    /// Opens the bridge of a job; it is open until the answer is dropped.
    pub(crate) fn open(
        self: &Arc<Self>,
        job: &Arc<Job>,
        inputs: BTreeMap<String, pb::Definition>,
    ) -> OpenBridge {
        let bridge = Arc::new(Bridge::new(Arc::clone(job), inputs, 0));
        let id = job.id.clone();
        self.open.send_modify(|open| {
            open.insert(id, Arc::clone(&bridge));
        });
        OpenBridge {
            bridges: Arc::clone(self),
            bridge,
        }
    }

    /// Finds a build's bridge, and waits for one that is still to come.
    pub(crate) async fn get(&self, id: &str) -> Result<Arc<Bridge>> {
        let mut open = self.open.subscribe();
        let there = open.wait_for(|open| open.contains_key(id));
        let there = tokio::time::timeout(BUILD, there).await;
        let bridge = match &there {
            Ok(Ok(open)) => open.get(id).cloned(),
            _ => None,
        };
        bridge.ok_or_else(|| Error::not_found(format!("no such job {id}")))
    }
}

/// A bridge that is open until this is dropped.
#[derive(Debug)]
pub(crate) struct OpenBridge {
    bridges: Arc<Bridges>,
    bridge: Arc<Bridge>,
}

impl OpenBridge {
    /// Waits for the front end's result.
    pub(crate) async fn result(&self) -> Result<FrontResult> {
        let mut returned = self.bridge.returned.subscribe();
        let found = returned.wait_for(Option::is_some).await;
        let found = found.ok().and_then(|found| found.clone());
        found.unwrap_or_else(|| Err(Error::canceled()))
    }
}

impl Drop for OpenBridge {
    fn drop(&mut self) {
        self.bridge.close();
        let id = &self.bridge.job.id;
        self.bridges.open.send_if_modified(|open| {
            let ours = open
                .get(id)
                .is_some_and(|other| Arc::ptr_eq(other, &self.bridge));
            ours && open.remove(id).is_some()
        });
    }
}

/// What a front end has asked for so far, and what it answered.
#[derive(Debug)]
pub(crate) struct Bridge {
    pub(crate) job: Arc<Job>,
    pub(crate) inputs: BTreeMap<String, pb::Definition>,
    /// How many front ends have asked each other until this one was.
    pub(crate) depth: u8,
    /// Raised when the front end is over.
    pub(crate) closed: Cancel,
    refs: Mutex<Kept>,
    containers: Mutex<HashMap<String, Option<Arc<Container>>>>,
    returned: watch::Sender<Option<Result<FrontResult>>>,
}

/// The results that a front end has names for.
#[derive(Debug, Default)]
struct Kept {
    by_id: HashMap<String, Ref>,
    /// Bytes of their definitions.
    bytes: usize,
}

impl Bridge {
    /// The bridge of a front end, which nobody finds by the name of a job.
    pub(crate) fn new(job: Arc<Job>, inputs: BTreeMap<String, pb::Definition>, depth: u8) -> Self {
        Self {
            job,
            inputs,
            depth,
            closed: Cancel::default(),
            refs: Mutex::default(),
            containers: Mutex::default(),
            returned: watch::Sender::new(None),
        }
    }

    /// The front end is over: its processes end.
    pub(crate) fn close(&self) {
        self.closed.cancel();
        self.containers().clear();
    }

    /// What the front end has answered, if it has.
    pub(crate) fn answer(&self) -> Option<Result<FrontResult>> {
        self.returned.borrow().clone()
    }

    fn refs(&self) -> MutexGuard<'_, Kept> {
        self.refs.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn containers(&self) -> MutexGuard<'_, HashMap<String, Option<Arc<Container>>>> {
        self.containers
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
    }

    /// Takes a name for a container that is being made.
    pub(crate) fn reserve_container(&self, id: &str) -> Result<()> {
        self.closed.check()?;
        let mut containers = self.containers();
        if containers.contains_key(id) {
            return Err(Error::conflict(format!("Container {id} already exists")));
        }
        if containers.len() >= MAX_CONTAINERS {
            return Err(Error::conflict("too many containers of one front end"));
        }
        containers.insert(id.to_owned(), None);
        Ok(())
    }

    /// Gives a name its container, or gives the name up.
    pub(crate) fn set_container(&self, id: &str, made: Option<Container>) {
        let mut containers = self.containers();
        // a front end that is over has none
        if let (Some(made), false) = (made, self.closed.is_canceled()) {
            containers.insert(id.to_owned(), Some(Arc::new(made)));
        } else {
            containers.remove(id);
        }
    }

    /// Finds a container.
    pub(crate) fn container(&self, id: &str) -> Result<Arc<Container>> {
        let found = self.containers().get(id).cloned().flatten();
        found.ok_or_else(|| Error::not_found(format!("container details for {id} not found")))
    }

    /// Lets a container go, with all that runs in it.
    pub(crate) fn release_container(&self, id: &str) -> Result<()> {
        let container = self.container(id)?;
        self.containers().remove(id);
        container.close();
        Ok(())
    }

    /// Finds a result; the empty name is the file system that has nothing in it.
    pub(crate) fn find(&self, id: &str) -> Result<Option<Ref>> {
        if id.is_empty() {
            return Ok(None);
        }
        let found = self.refs().by_id.get(id).cloned();
        found
            .map(Some)
            .ok_or_else(|| Error::not_found(format!("no such ref: {id}")))
    }

    /// Gives a result a name.
    fn keep(&self, found: Option<&Ref>) -> Result<gateway::Ref> {
        let Some(found) = found else {
            return Ok(gateway::Ref::default());
        };
        let id = crate::id::new();
        let bytes = found.definition().encoded_len();
        let mut refs = self.refs();
        if refs.by_id.len() >= MAX_REFS || refs.bytes.saturating_add(bytes) > MAX_REF_BYTES {
            return Err(Error::invalid("too many results of one front end"));
        }
        refs.bytes += bytes;
        refs.by_id.insert(id.clone(), found.clone());
        drop(refs);
        Ok(gateway::Ref {
            id,
            def: Some(pb::Definition::clone(found.definition())),
        })
    }

    /// Says how a front end ended. Only the first time counts.
    pub(crate) fn finish(&self, result: Result<FrontResult>) {
        self.returned.send_if_modified(|returned| {
            let first = returned.is_none();
            if first {
                *returned = Some(result);
            }
            first
        });
    }

    /// A result as a front end gets it.
    pub(crate) fn give(&self, result: &FrontResult) -> Result<gateway::Result> {
        use gateway::result::Result as Kind;
        let refs = match &result.refs {
            Refs::Single(one) => Kind::Ref(self.keep(one.as_ref())?),
            Refs::Platforms(all) => {
                let refs = all
                    .iter()
                    .map(|(name, one)| Ok((name.clone(), self.keep(one.as_ref())?)));
                Kind::Refs(gateway::RefMap {
                    refs: refs.collect::<Result<_>>()?,
                })
            }
        };
        let attestations = result.attestations.iter().map(|(name, all)| {
            let all = all.iter().map(|one| self.give_attestation(one));
            let attestation = all.collect::<Result<_>>()?;
            Ok((name.clone(), gateway::Attestations { attestation }))
        });
        Ok(gateway::Result {
            metadata: result.metadata.clone().into_iter().collect(),
            attestations: attestations.collect::<Result<_>>()?,
            result: Some(refs),
        })
    }

    fn give_attestation(&self, one: &FrontAttestation) -> Result<gateway::Attestation> {
        Ok(gateway::Attestation {
            kind: one.kind,
            metadata: one.metadata.clone().into_iter().collect(),
            r#ref: one
                .reference
                .as_ref()
                .map(|found| self.keep(Some(found)))
                .transpose()?,
            path: one.path.clone(),
            in_toto_predicate_type: one.predicate_type.clone(),
            in_toto_subjects: Vec::new(),
        })
    }

    /// A result as a front end returns it.
    pub(crate) fn take(&self, result: gateway::Result) -> Result<FrontResult> {
        use gateway::result::Result as Kind;
        let one = |found: &gateway::Ref| self.find(&found.id);
        let refs = match result.result {
            None => Refs::Single(None),
            Some(Kind::RefDeprecated(id)) => Refs::Single(self.find(&id)?),
            Some(Kind::Ref(found)) => Refs::Single(one(&found)?),
            Some(Kind::RefsDeprecated(all)) => {
                let all = all
                    .refs
                    .into_iter()
                    .map(|(name, id)| Ok((name, self.find(&id)?)));
                Refs::Platforms(all.collect::<Result<_>>()?)
            }
            Some(Kind::Refs(all)) => {
                let all = all
                    .refs
                    .into_iter()
                    .map(|(name, found)| Ok((name, one(&found)?)));
                Refs::Platforms(all.collect::<Result<_>>()?)
            }
        };
        let attestations = result.attestations.into_iter().map(|(name, all)| {
            let all = all
                .attestation
                .into_iter()
                .map(|one| self.take_attestation(one));
            Ok((name, all.collect::<Result<_>>()?))
        });
        Ok(FrontResult {
            refs,
            metadata: result.metadata.into_iter().collect(),
            attestations: attestations.collect::<Result<_>>()?,
        })
    }

    fn take_attestation(&self, one: gateway::Attestation) -> Result<FrontAttestation> {
        let found = one.r#ref.map(|found| self.find(&found.id)).transpose()?;
        Ok(FrontAttestation {
            kind: one.kind,
            metadata: one.metadata.into_iter().collect(),
            reference: found.flatten(),
            path: one.path,
            predicate_type: one.in_toto_predicate_type,
        })
    }
}

/// An error as a front end returns it.
pub(crate) fn returned(status: &rpc::Status) -> Error {
    const CANCELED: i32 = 1;
    // a client that is being ended has Go's words for it, and no code
    if status.code == CANCELED || status.message.ends_with("context canceled") {
        return Error::canceled();
    }
    super::status::parse(status)
}
