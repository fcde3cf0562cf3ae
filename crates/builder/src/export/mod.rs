//! What a build gives: images, archives, folders.
//!
//! An exporter takes what a front end has solved and makes of it what the client asked for. An image
//! for the engine's store costs no copy: the folders of its steps become layers by a rename, and its
//! blobs are made when somebody pushes or saves it.

mod annotations;
mod archive;
mod assemble;
mod config;
mod files;
mod image;
pub(crate) mod layers;
#[cfg(test)]
mod live;
pub(crate) mod manifest;
pub(crate) mod options;
mod retime;
mod stream;

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use oci::Platform;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::error::{Error, Result};
use crate::job::Job;
use crate::progress::VertexProgress;
use crate::session::Session;
use crate::snapshot::Snapshot;

pub use layers::PackedBlobs;
use options::Options;

/// How long a client may take to open the session that takes its result.
const SESSION: Duration = Duration::from_secs(10);
/// The front end's word for the platforms of its results.
const PLATFORMS: &str = "refs.platforms";
/// The front end's word for the configuration of an image.
const CONFIG: &str = "containerimage.config";

/// What a client wants of a result.
#[derive(Clone, Debug, Default)]
pub struct ExportRequest {
    /// `image`, `moby`, `docker`, `oci`, `tar` or `local`.
    pub kind: String,
    /// The exporter's attributes.
    pub attrs: BTreeMap<String, String>,
    /// The number of the exporter among those of the client's request.
    pub number: usize,
    /// The session that takes the result, where it goes to the client.
    pub session: String,
}

/// What a front end has solved.
#[derive(Clone, Debug, Default)]
pub struct Solved {
    /// The results by the ids of their platforms; a single one by the empty id.
    pub refs: BTreeMap<String, Snapshot>,
    /// What the front end says of them.
    pub metadata: BTreeMap<String, Vec<u8>>,
    /// Statements about them, by the same ids.
    pub attestations: BTreeMap<String, Vec<Attestation>>,
    /// A cache to be kept inside of images, by the same ids.
    pub inline_caches: BTreeMap<String, Value>,
}

/// A statement about a result.
#[derive(Clone, Debug)]
pub struct Attestation {
    /// What it states, a URL.
    pub predicate_type: String,
    /// The statement.
    pub predicate: Value,
    /// The name of its file where results are folders.
    pub file: String,
    /// Whether it is left away where an exporter was not asked to attach any.
    pub inline_only: bool,
}

/// One result with its platform.
#[derive(Clone, Debug)]
pub(crate) struct Part {
    pub(crate) id: String,
    pub(crate) platform: Platform,
    pub(crate) snapshot: Snapshot,
}

/// A piece of work that an exporter is at.
struct Export<'a> {
    job: &'a Arc<Job>,
    request: &'a ExportRequest,
    options: Options,
    solved: &'a Solved,
    progress: VertexProgress,
}

/// The platforms as front ends write them.
#[derive(Debug, Deserialize, Serialize)]
struct Platforms {
    #[serde(rename = "Platforms")]
    platforms: Vec<PlatformEntry>,
}

#[derive(Debug, Deserialize, Serialize)]
struct PlatformEntry {
    #[serde(rename = "ID")]
    id: String,
    #[serde(rename = "Platform")]
    platform: Platform,
}

impl ExportRequest {
    /// Checks what can be told before a build begins.
    ///
    /// # Errors
    /// When there is no such exporter, or an attribute is wrong.
    pub fn check(&self) -> Result<()> {
        self.name()?;
        Options::read(&self.attrs).map(drop)
    }

    /// The step that is told.
    fn name(&self) -> Result<&'static str> {
        match self.kind.as_str() {
            "image" | "moby" => Ok("exporting to image"),
            "docker" => Ok("exporting to docker image format"),
            "oci" => Ok("exporting to oci image format"),
            "tar" => Ok("exporting to client tarball"),
            "local" => Ok("exporting to client directory"),
            other => Err(Error::not_found(format!(
                "exporter {other:?} could not be found"
            ))),
        }
    }
}

impl Solved {
    /// The results, in the front end's order of platforms.
    pub(crate) fn parts(&self) -> Result<Vec<Part>> {
        let Some(bytes) = self.metadata.get(PLATFORMS) else {
            return self.single();
        };
        let list: Platforms = serde_json::from_slice(bytes).map_err(|error| {
            Error::invalid(format!(
                "failed to parse platforms passed to exporter: {error}"
            ))
        })?;
        if self.refs.len() == 1 && self.refs.contains_key("") && list.platforms.len() == 1 {
            return self.single();
        }
        if list.platforms.len() != self.refs.len() {
            return Err(Error::invalid(format!(
                "number of platforms does not match references {} {}",
                list.platforms.len(),
                self.refs.len()
            )));
        }
        let part = |entry: PlatformEntry| {
            let missing = || Error::invalid(format!("failed to find ref for ID {}", entry.id));
            Ok(Part {
                snapshot: self.refs.get(&entry.id).cloned().ok_or_else(missing)?,
                id: entry.id,
                platform: entry.platform,
            })
        };
        list.platforms.into_iter().map(part).collect()
    }

    fn single(&self) -> Result<Vec<Part>> {
        if self.refs.len() > 1 {
            return Err(Error::invalid(
                "unable to export multiple refs, missing platforms mapping",
            ));
        }
        let platform = match self.metadata.get(CONFIG) {
            Some(config) => config::platform(config)?,
            None => Platform::host(),
        };
        let (id, snapshot) = match self.refs.iter().next() {
            Some((id, snapshot)) => (id.clone(), snapshot.clone()),
            // a build that makes nothing gives an empty file system
            None => (String::new(), Snapshot::scratch()),
        };
        Ok(vec![Part {
            id,
            platform,
            snapshot,
        }])
    }

    /// The configuration that the front end gives for a result.
    pub(crate) fn config(&self, part: &Part) -> Result<Vec<u8>> {
        let own = format!("{CONFIG}/{}", part.id);
        let found = self
            .metadata
            .get(&own)
            .or_else(|| self.metadata.get(CONFIG));
        match found {
            Some(bytes) if !bytes.is_empty() => Ok(bytes.clone()),
            _ => config::empty(&part.platform),
        }
    }
}

/// Makes of a result what a client wants, and answers what the client is told of it.
///
/// # Errors
/// When there is no such exporter, an attribute is wrong, the client takes nothing, or a registry
/// refuses.
pub async fn export(
    job: &Arc<Job>,
    request: &ExportRequest,
    solved: &Solved,
) -> Result<BTreeMap<String, String>> {
    let name = request.name()?;
    let export = Export {
        job,
        request,
        options: Options::read(&request.attrs)?,
        solved,
        progress: job.progress.internal(name),
    };
    export.progress.started();
    let work = async {
        match request.kind.as_str() {
            "docker" | "oci" => archive::export(&export).await,
            "tar" => files::tar(&export).await,
            "local" => files::local(&export).await,
            _ => image::export(&export).await,
        }
    };
    let done = job.cancel.run(work).await;
    export.progress.completed(done.as_ref().map(drop));
    done
}

impl Export<'_> {
    /// The client that takes the result.
    async fn client(&self) -> Result<Arc<Session>> {
        let builder = self.job.builder()?;
        let found = builder.sessions.get(&self.request.session, SESSION).await;
        found.map_err(|error| Error::system("open the session that takes the result", &error))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn solved(ids: &[&str], platforms: Option<&str>) -> Solved {
        let refs = ids.iter().map(|id| ((*id).to_owned(), Snapshot::scratch()));
        let metadata = platforms.map(|text| (PLATFORMS.to_owned(), text.as_bytes().to_vec()));
        Solved {
            refs: refs.collect(),
            metadata: metadata.into_iter().collect(),
            ..Solved::default()
        }
    }

    #[test]
    fn results_and_their_platforms() {
        let one = r#"{"Platforms":[{"ID":"linux/arm64","Platform":{"architecture":"arm64","os":"linux"}}]}"#;
        let ids = |solved: Solved| -> Result<Vec<String>> {
            Ok(solved.parts()?.into_iter().map(|part| part.id).collect())
        };
        assert_eq!(ids(solved(&[], None)).unwrap(), [""]);
        assert_eq!(ids(solved(&[""], None)).unwrap(), [""]);
        assert_eq!(
            ids(solved(&["linux/arm64"], Some(one))).unwrap(),
            ["linux/arm64"]
        );
        assert_eq!(ids(solved(&[""], Some(one))).unwrap(), [""]);
        for (refs, platforms) in [
            (&["a", "b"][..], None),
            (&["a", "b"][..], Some(one)),
            (&["other"][..], Some(one)),
            (&["a"][..], Some("{")),
        ] {
            assert!(ids(solved(refs, platforms)).is_err(), "{refs:?}");
        }
    }

    #[test]
    fn exporters_that_there_are() {
        let check = |kind: &str| {
            let kind = kind.to_owned();
            ExportRequest {
                kind,
                ..ExportRequest::default()
            }
            .check()
        };
        for kind in ["image", "moby", "docker", "oci", "tar", "local"] {
            check(kind).unwrap();
        }
        assert_eq!(
            check("zip").unwrap_err().message(),
            "exporter \"zip\" could not be found"
        );
    }
}
