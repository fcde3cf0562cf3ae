//! Adding the statements that a client wants to what was solved.

use std::collections::BTreeMap;
use std::sync::Arc;

use jiff::Timestamp;
use oci::image::ImageConfig;

use super::{Capture, Mode, Provenance, Wanted, generator, sbom};
use crate::error::{Error, Result};
use crate::export::{Solved, layers::blocking};
use crate::job::Job;
use crate::llb::Graph;
use crate::snapshot::Snapshot;

/// A build, as statements tell of it.
#[derive(Debug)]
pub struct Build<'a> {
    /// The attributes of the front end as the client sent them.
    pub attrs: &'a BTreeMap<String, String>,
    /// The graphs by the ids of their results, as in [`Solved::refs`].
    pub graphs: Vec<(String, Arc<Graph>)>,
}

/// Makes the statements that the attributes ask for, and puts them beside the results. How the results
/// were made is noted for the history in any case.
///
/// # Errors
/// When an attribute is wrong, or the files of a result cannot be read.
pub async fn attach(job: &Arc<Job>, build: &Build<'_>, solved: &mut Solved) -> Result<()> {
    let wanted = Wanted::read(build.attrs)?;
    let refs: Vec<(String, Snapshot)> = solved
        .refs
        .iter()
        .map(|(id, snapshot)| (id.clone(), snapshot.clone()))
        .collect();
    if let Some(generator) = &wanted.sbom {
        for (id, snapshot) in &refs {
            let stated = match generator.is_empty() {
                true => vec![scan(job, solved, id, snapshot).await?],
                false => Box::pin(run_scanner(job, &wanted, generator, (id, snapshot))).await?,
            };
            let own = solved.attestations.entry(id.clone()).or_default();
            own.extend(stated);
        }
    }
    let whole = Provenance {
        mode: Mode::Max,
        ..Provenance::default()
    };
    for (id, _) in &refs {
        let captured = capture(job, build, id)?;
        job.note_statement(id, captured.state(&whole));
        if let Some(provenance) = &wanted.provenance {
            let stated = captured.state(provenance);
            solved
                .attestations
                .entry(id.clone())
                .or_default()
                .push(stated);
        }
    }
    Ok(())
}

/// The name of a step that scans a result.
fn step_name(id: &str, scanner: &str) -> String {
    match id.is_empty() {
        true => format!("generating sbom using {scanner}"),
        false => format!("[{id}] generating sbom using {scanner}"),
    }
}

async fn run_scanner(
    job: &Arc<Job>,
    wanted: &Wanted,
    image: &str,
    (id, snapshot): (&str, &Snapshot),
) -> Result<Vec<crate::export::Attestation>> {
    let progress = job.progress.internal(&step_name(id, image));
    progress.started();
    let work = generator::scan(job, image, &wanted.sbom_settings, snapshot, &progress);
    let done = job.cancel.run(work).await;
    progress.completed(done.as_ref().map(drop));
    done
}

async fn scan(
    job: &Arc<Job>,
    solved: &Solved,
    id: &str,
    snapshot: &Snapshot,
) -> Result<crate::export::Attestation> {
    let name = step_name(id, "the built-in scanner");
    let progress = job.progress.internal(&name);
    progress.started();
    let created = created(solved, id);
    let snapshot = snapshot.clone();
    let work = async {
        let failed = |error| Error::system("read the files of a result", &error);
        snapshot.ready().await.map_err(failed)?;
        blocking(move || {
            let failed = |error| Error::system("open the files of a result", &error);
            let view = snapshot.open().map_err(failed)?;
            sbom::scan(&view, "sbom", created)
        })
        .await
    };
    let done = job.cancel.run(work).await;
    progress.completed(done.as_ref().map(drop));
    done
}

/// The time of an image, so that the same image has the same statement.
fn created(solved: &Solved, id: &str) -> Timestamp {
    let own = format!("containerimage.config/{id}");
    let metadata = &solved.metadata;
    let config = metadata
        .get(&own)
        .or_else(|| metadata.get("containerimage.config"));
    let config = config.and_then(|bytes| serde_json::from_slice::<ImageConfig>(bytes).ok());
    let created = config.and_then(|config| config.created?.parse().ok());
    created.unwrap_or(Timestamp::UNIX_EPOCH)
}

fn capture(job: &Arc<Job>, build: &Build<'_>, id: &str) -> Result<Capture> {
    let builder = job.builder()?;
    let mut capture = Capture {
        id: job.id.clone(),
        frontend: match build.attrs.contains_key("source") {
            true => "gateway.v0".to_owned(),
            false => "dockerfile.v0".to_owned(),
        },
        args: build.attrs.clone(),
        started: Some(job.started),
        finished: Some(Timestamp::now()),
        ..Capture::default()
    };
    let own = build.graphs.iter().filter(|(graph, _)| graph == id);
    for (_, graph) in own {
        capture.add(graph, |name| builder.bases.digest(&job.id, name));
        // a graph names its repositories and files; what they came to is known to the job
        for material in job.materials() {
            capture.resolve(&material.uri, material.digest.as_deref());
        }
    }
    Ok(capture)
}
