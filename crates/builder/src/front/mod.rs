//! Front ends: from what the client sends to graphs of operations.
//!
//! A front end answers with references to results that nobody has built yet, and with documents about
//! them, such as the configuration of an image.

mod context;
mod dockerfile;
pub(crate) mod gateway;
mod read;
mod resolve;
mod source;
mod subrequest;
mod warn;

use std::collections::BTreeMap;
use std::sync::Arc;

use bollard_buildkit_proto::pb;

use self::gateway::Meant;
use crate::error::{Error, Result};
use crate::job::{Job, Ref};
use crate::policy::Policies;

pub use read::{read_file, stat_file};

/// The front end that is built in.
pub const DOCKERFILE: &str = "dockerfile.v0";
/// The front end that is an image.
pub const GATEWAY: &str = "gateway.v0";
/// The document that is an image's configuration; for one of several platforms its name follows behind `/`.
pub const IMAGE_CONFIG: &str = "containerimage.config";
/// The document with the configuration of the image that a build started from.
pub const BASE_CONFIG: &str = "containerimage.base.config";
/// The document that lists the platforms of a result.
pub const PLATFORMS: &str = "refs.platforms";
/// The document with the time that all files of a result get, in seconds.
pub const EPOCH: &str = "source.date.epoch";

/// What a front end is asked.
#[derive(Clone, Debug, Default)]
pub struct FrontendRequest {
    /// Which one; empty for the definition itself.
    pub frontend: String,
    /// Its settings.
    pub attrs: BTreeMap<String, String>,
    /// Graphs that it may use by name.
    pub inputs: BTreeMap<String, pb::Definition>,
    /// What is built where there is no front end.
    pub definition: Option<pb::Definition>,
    /// What the definition may be made from, beside what the build may.
    pub policies: Policies,
    /// How many front ends have asked each other until this one was.
    pub depth: u8,
}

/// Results, not built yet.
#[derive(Clone, Debug)]
pub enum Refs {
    /// One, for whatever platform; absent for an empty file system.
    Single(Option<Ref>),
    /// One for each platform.
    Platforms(BTreeMap<String, Option<Ref>>),
}

impl Refs {
    /// All of them with the names of their platforms, which a single one has none of.
    pub fn iter(&self) -> impl Iterator<Item = (Option<&str>, Option<&Ref>)> {
        let (single, platforms) = match self {
            Self::Single(one) => (Some((None, one.as_ref())), None),
            Self::Platforms(all) => (None, Some(all)),
        };
        let platforms = platforms.into_iter().flatten();
        single
            .into_iter()
            .chain(platforms.map(|(name, one)| (Some(name.as_str()), one.as_ref())))
    }
}

/// What a front end says about a result beside it.
#[derive(Clone, Debug)]
pub struct FrontAttestation {
    /// The kind, as the gateway's protocol numbers it.
    pub kind: i32,
    /// What it was made of.
    pub metadata: BTreeMap<String, Vec<u8>>,
    /// The result that holds it.
    pub reference: Option<Ref>,
    /// Its path there.
    pub path: String,
    /// The type of an in-toto predicate.
    pub predicate_type: String,
}

/// What a front end answers.
#[derive(Clone, Debug)]
pub struct FrontResult {
    /// The results.
    pub refs: Refs,
    /// Documents by name.
    pub metadata: BTreeMap<String, Vec<u8>>,
    /// What is said about the results, by platform.
    pub attestations: BTreeMap<String, Vec<FrontAttestation>>,
}

impl Default for FrontResult {
    fn default() -> Self {
        Self {
            refs: Refs::Single(None),
            metadata: BTreeMap::new(),
            attestations: BTreeMap::new(),
        }
    }
}

/// Asks a front end.
///
/// # Errors
/// When there is no such front end, or what it is to read is wrong.
pub async fn solve_frontend(job: &Arc<Job>, request: FrontendRequest) -> Result<FrontResult> {
    match request.frontend.as_str() {
        "" => definition(job, &request),
        DOCKERFILE => dockerfile::solve(job, request).await,
        GATEWAY => {
            let name = request.attrs.get("source");
            let meant = name.map(|name| gateway::meant(&request.attrs, name));
            match meant.transpose()? {
                Some(Meant::Image(image)) => gateway::solve(job, &image, request).await,
                Some(Meant::BuiltIn) | None => dockerfile::solve(job, request).await,
            }
        }
        other => Err(Error::not_found(format!(
            "failed to solve: frontend {other} not found"
        ))),
    }
}

fn definition(job: &Arc<Job>, request: &FrontendRequest) -> Result<FrontResult> {
    let definition = request.definition.as_ref().filter(|d| !d.def.is_empty());
    let reference = definition
        .map(|definition| Ref::under(job, definition.clone(), &request.policies))
        .transpose()?;
    Ok(FrontResult {
        refs: Refs::Single(reference),
        ..FrontResult::default()
    })
}
