//! Comparing what the engine remembers with what the kernel and the disk have, and mending it.

mod content;
mod folders;
mod layers;
mod mounts;
mod records;

use std::sync::Arc;

use api::check::{Finding, Report};

use crate::engine::Engine;
use crate::error::Result;

/// How thorough a check is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct CheckRequest {
    /// Mend what differs, where that is possible.
    pub repair: bool,
    /// Read all content again and compare it with its digests.
    pub deep: bool,
}

impl Engine {
    /// Compares what the engine remembers with what is there, and mends it on demand.
    ///
    /// # Errors
    /// When something cannot be read; what cannot be mended is a finding.
    pub async fn system_check(self: &Arc<Self>, request: CheckRequest) -> Result<Report> {
        let mut findings = self.check_networks(request.repair).await?;
        findings.extend(self.check_store(request).await?);
        let leases = self.cut_off();
        Ok(Report { findings, leases })
    }

    /// Compares database, blobs, layers, folders and mounts.
    async fn check_store(self: &Arc<Self>, request: CheckRequest) -> Result<Vec<Finding>> {
        let suspects = if request.deep {
            let engine = Arc::clone(self);
            self.blocking(move || engine.hash_blobs()).await?
        } else {
            Vec::new()
        };
        let repair = request.repair;
        if self.images.leases.is_dirty() {
            self.collect().await;
        }
        // what is removed is neither there nor missing
        self.empty_trash().await;
        // nothing is collected meanwhile, and nobody begins to need what is about to go
        let quiet = self.images.leases.collector.lock().await;
        let mut findings = self.check_records(repair).await?;
        let engine = Arc::clone(self);
        findings.extend(
            self.blocking(move || {
                let mut found = engine.check_content(&suspects, repair)?;
                found.extend(engine.check_layers(repair)?);
                found.extend(engine.check_folders(repair)?);
                Ok(found)
            })
            .await?,
        );
        drop(quiet);
        findings.extend(self.check_volumes(repair).await?);
        findings.extend(self.check_mounts(repair).await?);
        self.empty_trash().await;
        Ok(findings)
    }
}

/// A difference, mended if there is something to mend it with.
pub(crate) fn finding(
    (kind, object): (&str, &str),
    problem: &str,
    action: &str,
    mend: Option<impl FnOnce() -> Result<()>>,
) -> Finding {
    let mended = mend.map(|mend| mend());
    let problem = match &mended {
        Some(Err(error)) => format!("{problem}; mending failed: {error}"),
        _ => problem.to_owned(),
    };
    Finding {
        kind: kind.to_owned(),
        object: object.to_owned(),
        problem,
        action: action.to_owned(),
        repaired: matches!(mended, Some(Ok(()))),
    }
}
