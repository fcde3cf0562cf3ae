//! Builds of clients: from the request to the exporters' answer.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use bollard_buildkit_proto::moby::buildkit::v1::{
    CacheOptions, CacheOptionsEntry, Exporter, SolveRequest, SolveResponse,
};

use super::bridge::Bridges;
use super::status::proto;
use crate::Builder;
use crate::build::{self, Finish};
use crate::error::{Error, Result};
use crate::export::ExportRequest;
use crate::front::FrontendRequest;
use crate::history::Begun;
use crate::job::{Job, JobOptions, RemoteCache};
use crate::policy::Policies;

/// Exporters of one request at most.
const MAX_EXPORTERS: usize = 64;

fn sorted<V>(map: HashMap<String, V>) -> BTreeMap<String, V> {
    map.into_iter().collect()
}

/// The exporters of a request, also of one that knows of a single one.
fn exporters(request: &mut SolveRequest) -> Vec<Exporter> {
    let mut all = std::mem::take(&mut request.exporters);
    let kind = std::mem::take(&mut request.exporter_deprecated);
    let attrs = std::mem::take(&mut request.exporter_attrs_deprecated);
    if all.is_empty() && !kind.is_empty() {
        all.push(Exporter {
            r#type: kind,
            attrs,
        });
    }
    all
}

fn remote(entry: CacheOptionsEntry) -> RemoteCache {
    RemoteCache {
        kind: entry.r#type,
        attrs: sorted(entry.attrs),
    }
}

/// Caches that are asked, and caches that get the result.
fn caches(options: CacheOptions) -> (Vec<RemoteCache>, Vec<RemoteCache>) {
    let registry = |reference: String, mut attrs: HashMap<String, String>| {
        attrs.insert("ref".to_owned(), reference);
        CacheOptionsEntry {
            r#type: "registry".to_owned(),
            attrs,
        }
    };
    let mut imports = options.imports;
    let old = options.import_refs_deprecated.into_iter();
    imports.extend(old.map(|reference| registry(reference, HashMap::new())));
    let mut exports = options.exports;
    if !options.export_ref_deprecated.is_empty() {
        exports.push(registry(
            options.export_ref_deprecated,
            options.export_attrs_deprecated,
        ));
    }
    let remote = |entries: Vec<CacheOptionsEntry>| entries.into_iter().map(remote).collect();
    (remote(imports), remote(exports))
}

/// Whether a result becomes an image, so that the digests of its layers are soon wanted.
fn wants_layers(exporters: &[Exporter]) -> bool {
    let kinds = ["image", "moby", "docker", "oci"];
    exporters
        .iter()
        .any(|exporter| kinds.contains(&&*exporter.r#type))
}

/// Builds what a client asks for.
pub(super) async fn solve(
    builder: &Arc<Builder>,
    bridges: &Arc<Bridges>,
    mut request: SolveRequest,
) -> Result<SolveResponse> {
    if !request.source_policy_session.is_empty() {
        return Err(Error::not_implemented(
            "source policies that a session decides are not supported",
        ));
    }
    let policies = Policies::read(request.source_policy.take().into_iter().collect())?;
    let exporters = exporters(&mut request);
    if exporters.len() > MAX_EXPORTERS {
        return Err(Error::invalid("too many exporters"));
    }
    let (imports, exports) = caches(request.cache.take().unwrap_or_default());
    let job = builder.job(JobOptions {
        id: request.r#ref.clone(),
        session: request.session.clone(),
        entitlements: request.entitlements.clone(),
        wants_layers: wants_layers(&exporters),
        imports,
        policies,
    })?;
    let _ends = job.end_on_drop();
    let session = request.session.clone();
    let wire = exporters.clone();
    let exporters = exporters
        .into_iter()
        .enumerate()
        .map(|(number, exporter)| ExportRequest {
            kind: exporter.r#type,
            attrs: sorted(exporter.attrs),
            number,
            session: session.clone(),
        });
    let finish = Finish {
        attrs: sorted(request.frontend_attrs.clone()),
        exports: exporters.collect(),
        cache_to: exports,
    };
    let entry = (!request.internal).then(|| {
        let begun = Begun {
            frontend: request.frontend.clone(),
            attrs: finish.attrs.clone(),
            exporters: wire,
        };
        builder.history.begin(&job, begun)
    });
    let cancel = job.cancel.clone();
    let result = cancel
        .run(Box::pin(run(&job, bridges, request, &finish)))
        .await;
    if let Some(entry) = entry {
        let told = result.as_ref().map_err(proto);
        entry.end(told.as_ref().map(|response| *response));
    }
    Ok(SolveResponse {
        exporter_response: result?.into_iter().collect(),
    })
}

async fn run(
    job: &Arc<Job>,
    bridges: &Arc<Bridges>,
    request: SolveRequest,
    finish: &Finish,
) -> Result<BTreeMap<String, String>> {
    let empty = request
        .definition
        .as_ref()
        .is_none_or(|definition| definition.def.is_empty());
    let inputs = sorted(request.frontend_inputs);
    if request.frontend.is_empty() && empty {
        let bridge = bridges.open(job, inputs);
        let result = bridge.result().await?;
        // open until the end: the client may still ask while the result is exported
        return build::complete(job, &result, finish).await;
    }
    let asked = FrontendRequest {
        frontend: request.frontend,
        attrs: sorted(request.frontend_attrs),
        inputs,
        definition: request.definition,
        ..FrontendRequest::default()
    };
    build::build(job, asked, finish).await
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_older_clients_send() {
        let mut request = SolveRequest {
            exporter_deprecated: "image".to_owned(),
            ..SolveRequest::default()
        };
        let all = exporters(&mut request);
        assert_eq!((all.len(), wants_layers(&all)), (1, true));
        let local = Exporter {
            r#type: "local".to_owned(),
            ..Exporter::default()
        };
        request.exporters = vec![local];
        request.exporter_deprecated = "image".to_owned();
        let all = exporters(&mut request);
        assert_eq!((all.len(), wants_layers(&all)), (1, false));
        let (imports, exports) = caches(CacheOptions {
            import_refs_deprecated: vec!["a/b".to_owned()],
            export_ref_deprecated: "c/d".to_owned(),
            ..CacheOptions::default()
        });
        let reference = |caches: &[RemoteCache]| caches[0].attrs["ref"].clone();
        assert_eq!(
            (reference(&imports), reference(&exports)),
            ("a/b".to_owned(), "c/d".to_owned())
        );
    }
}
