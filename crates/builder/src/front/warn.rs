//! Warnings of the checks, told to the client.

use std::sync::Arc;

use dockerfile::lint::Warning;
use dockerfile::llb::SourceFile;

use crate::job::Job;
use crate::progress::VertexWarning;

/// Tells what the checks found, as findings of the step that read the file.
pub(super) fn tell(job: &Arc<Job>, warnings: &[Warning], file: &SourceFile, step: &oci::Digest) {
    let info = file.info();
    for warning in warnings {
        job.progress.warn(VertexWarning {
            vertex: step.to_string(),
            level: 1,
            short: warning.short().into_bytes(),
            detail: vec![warning.rule.description().as_bytes().to_vec()],
            url: warning.rule.url(),
            info: Some(info.clone()),
            ranges: warning.span.iter().flat_map(|span| span.ranges()).collect(),
        });
    }
}
