//! One solve of a client.

use std::collections::BTreeMap;
use std::sync::{Arc, Weak};
use std::time::Duration;

use crate::builder::Builder;
use crate::cancel::Cancel;
use crate::error::{Error, Result};
use crate::op::SessionIds;
use crate::progress::Progress;

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
}

/// A cache that is not ours.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RemoteCache {
    /// What it is, such as `registry`.
    pub kind: String,
    /// Where it is, and how it is reached.
    pub attrs: BTreeMap<String, String>,
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
    /// Raised when the client is gone or the job is over.
    pub cancel: Cancel,
    builder: Weak<Builder>,
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
            cancel: Cancel::default(),
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

    /// A job, for whose beginning it waits: clients ask what it tells before they begin it.
    ///
    /// # Errors
    /// When none of that name begins in time.
    pub async fn wait_for_job(&self, id: &str, wait: Duration) -> Result<Arc<Job>> {
        let mut jobs = self.jobs.subscribe();
        let there = jobs.wait_for(|jobs| jobs.contains_key(id));
        let there = tokio::time::timeout(wait, there).await;
        let job = match &there {
            Ok(Ok(jobs)) => jobs.get(id).cloned(),
            _ => None,
        };
        job.ok_or_else(|| Error::not_found(format!("no such job {id}")))
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

    /// Ends the job: what only it wants is cancelled, and nothing more is told.
    pub fn end(&self) {
        self.cancel.cancel();
        self.progress.end();
        if let Some(builder) = self.builder.upgrade() {
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
