//! What a conversion asks: configurations of images, ignore files, graphs by name.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use bollard_buildkit_proto::pb;
use dockerfile::convert::{
    ImageRequest, Resolve, ResolveError, ResolvedImage, ResolvedInput, Store,
};
use tokio::runtime::Handle;
use tokio::task::JoinHandle;

use super::context;
use crate::error::{Error, Result};
use crate::job::Job;
use crate::source::{image, oci_layout};

/// Answers on a thread that may wait.
pub(super) struct Resolver {
    job: Arc<Job>,
    runtime: Handle,
    inputs: BTreeMap<String, pb::Definition>,
    /// Lookups that were begun before they were asked for.
    begun: HashMap<ImageRequest, JoinHandle<Result<ResolvedImage>>>,
}

impl Resolver {
    pub(super) fn new(job: &Arc<Job>, inputs: BTreeMap<String, pb::Definition>) -> Self {
        Self {
            job: Arc::clone(job),
            runtime: Handle::current(),
            inputs,
            begun: HashMap::new(),
        }
    }

    fn begin(&self, request: &ImageRequest) -> JoinHandle<Result<ResolvedImage>> {
        let (job, request) = (Arc::clone(&self.job), request.clone());
        self.runtime
            .spawn(async move { look_up(&job, &request).await })
    }
}

/// Finds an image in a layout of the client's.
async fn look_in(job: &Arc<Job>, request: &ImageRequest, store: &Store) -> Result<ResolvedImage> {
    let mut wanted = oci_layout::of_identifier(&request.reference, request.platform.clone())?;
    wanted.session.clone_from(&store.session);
    wanted.store.clone_from(&store.id);
    let progress = job.progress.internal(&request.log_name);
    progress.started();
    let found = oci_layout::find(job, &job.sessions, &wanted);
    let found = job.cancel.run(found).await;
    progress.completed(found.as_ref().map(drop));
    let found = found?;
    Ok(ResolvedImage {
        reference: None,
        digest: Some(found.digest.to_string()),
        config: found.config.to_vec(),
    })
}

async fn look_up(job: &Arc<Job>, request: &ImageRequest) -> Result<ResolvedImage> {
    if let Some(store) = &request.store {
        return look_in(job, request, store).await;
    }
    let found = image::resolve_config(
        job,
        &image::ConfigRequest {
            name: request.reference.clone(),
            platform: Some(request.platform.clone()),
            mode: image::mode(request.mode)?,
            log_name: request.log_name.clone(),
        },
    )
    .await?;
    Ok(ResolvedImage {
        reference: Some(found.name).filter(|_| !job.policies.is_empty()),
        digest: found.digest.map(|digest| digest.to_string()),
        config: found.config.to_vec(),
    })
}

impl Resolve for Resolver {
    fn prefetch(&mut self, images: &[ImageRequest]) {
        for request in images {
            if !self.begun.contains_key(request) {
                let begun = self.begin(request);
                self.begun.insert(request.clone(), begun);
            }
        }
    }

    fn image(&mut self, request: &ImageRequest) -> Result<ResolvedImage, ResolveError> {
        let begun = match self.begun.remove(request) {
            Some(begun) => begun,
            None => self.begin(request),
        };
        let found = self.runtime.block_on(begun);
        let found = found.unwrap_or_else(|error| Err(Error::internal(error.to_string())));
        found.map_err(|error| {
            let name = &request.reference;
            error
                .context(format!(
                    "{name}: failed to resolve source metadata for {name}"
                ))
                .into()
        })
    }

    fn ignore_file(&mut self, local: &str, log_name: &str) -> Result<Vec<u8>, ResolveError> {
        let read = context::ignore_file(&self.job, local, log_name);
        Ok(self.runtime.block_on(read)?)
    }

    fn input(&mut self, name: &str) -> Option<ResolvedInput> {
        let definition = self.inputs.get(name)?.clone();
        let config = None;
        Some(ResolvedInput { definition, config })
    }
}
