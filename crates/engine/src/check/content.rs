//! The blobs on the disk against what images need.

use std::collections::BTreeMap;

use api::check::Finding;
use oci::Digest;

use super::finding;
use crate::engine::Engine;
use crate::error::{Result, Step};
use crate::image::{Layer, Needed};

/// Documents of images are short, so they are read at every check.
const DOCUMENT_MAX: u64 = 32 << 20;

/// A blob that an image needs.
#[derive(Debug)]
struct Wanted {
    /// What it is of which image.
    what: String,
    /// Its length, where a record has it.
    size: Option<u64>,
    is_document: bool,
}

impl Engine {
    /// Reads all blobs and names those that are not what their digests say.
    pub(super) fn hash_blobs(&self) -> Result<Vec<Digest>> {
        let content = self.store.content();
        let mut wrong = Vec::new();
        for (digest, _) in content.list().step(|| "list blobs")? {
            // what vanishes meanwhile is missed by the check itself, if anybody needs it
            if content.is_damaged(&digest).unwrap_or(false) {
                wrong.push(digest);
            }
        }
        Ok(wrong)
    }

    /// Compares the blobs with what is needed; `suspects` were found damaged before.
    pub(super) fn check_content(&self, suspects: &[Digest], repair: bool) -> Result<Vec<Finding>> {
        let there = self.store.content().list().step(|| "list blobs")?;
        let there: BTreeMap<Digest, u64> = there.into_iter().collect();
        let wanted = self.wanted_blobs();
        let mut findings = Vec::new();
        for (digest, wanted) in &wanted {
            let Some(size) = there.get(digest) else {
                findings.push(missing(digest, wanted));
                continue;
            };
            if let Some(problem) = self.fault(digest, *size, wanted, suspects)? {
                findings.push(self.drop_blob(digest, &problem, repair));
            }
        }
        let needed = self.needed()?;
        // what has just lost its reason is about to go by itself
        let settled = !self.images.leases.is_dirty();
        let unneeded = there.keys().filter(|digest| !needed.has_blob(digest));
        for digest in unneeded.filter(|_| settled) {
            let problem = "no image needs the blob";
            let action = || self.remove_blob(digest);
            let mend = repair.then_some(action);
            let object = digest.to_string();
            findings.push(finding(("blob", &object), problem, "remove it", mend));
        }
        self.check_kept(suspects, &wanted, &needed, repair, &mut findings);
        let strangers = self.store.content().strangers();
        for name in strangers.step(|| "list blobs")? {
            let problem = "the file is no blob";
            let action = || {
                let removed = self.store.content().remove_stranger(&name);
                removed.step(|| format!("remove {name:?}"))
            };
            let mend = repair.then_some(action);
            let object = name.to_string_lossy();
            findings.push(finding(("blob", &object), problem, "remove it", mend));
        }
        Ok(findings)
    }

    /// Damaged blobs that are kept for others than images.
    fn check_kept(
        &self,
        suspects: &[Digest],
        wanted: &BTreeMap<Digest, Wanted>,
        needed: &Needed,
        repair: bool,
        findings: &mut Vec<Finding>,
    ) {
        let content = self.store.content();
        let kept = suspects.iter();
        let kept = kept.filter(|digest| needed.has_blob(digest) && !wanted.contains_key(*digest));
        for digest in kept.filter(|digest| content.is_damaged(digest).unwrap_or(false)) {
            findings.push(self.drop_blob(digest, "the content of the blob is damaged", repair));
        }
    }

    fn wanted_blobs(&self) -> BTreeMap<Digest, Wanted> {
        let mut wanted = BTreeMap::new();
        for image in self.images.all() {
            let name = image.record.tags.first().or(image.record.digests.first());
            let name = name.map_or_else(|| image.id.short().to_owned(), Clone::clone);
            let mut add = |digest: &Digest, what: &str, size: Option<u64>| {
                wanted.entry(digest.clone()).or_insert_with(|| Wanted {
                    what: format!("{what} of image {name}"),
                    size,
                    is_document: size.is_none(),
                });
            };
            add(&image.record.id, "the configuration", None);
            add(&image.record.manifest, "the manifest", None);
            if let Some(index) = &image.record.index {
                add(index, "the index", None);
            }
            let stored = |layer: &&Layer| !layer.is_made(&self.store);
            for layer in image.record.layers.iter().filter(stored) {
                add(&layer.blob, "a layer", Some(layer.blob_size));
            }
        }
        wanted
    }

    fn fault(
        &self,
        digest: &Digest,
        size: u64,
        wanted: &Wanted,
        suspects: &[Digest],
    ) -> Result<Option<String>> {
        let what = &wanted.what;
        if let Some(expected) = wanted.size.filter(|expected| *expected != size) {
            return Ok(Some(format!(
                "{what} has {size} bytes, and should have {expected}"
            )));
        }
        let is_small = wanted.is_document && size <= DOCUMENT_MAX;
        if is_small || suspects.contains(digest) {
            let damaged = self.store.content().is_damaged(digest);
            if damaged.step(|| format!("read blob {digest}"))? {
                return Ok(Some(format!("{what} is damaged")));
            }
        }
        Ok(None)
    }

    fn drop_blob(&self, digest: &Digest, problem: &str, repair: bool) -> Finding {
        let action = || self.remove_blob(digest);
        let mend = repair.then_some(action);
        let what = "remove it, so that the next pull or load brings it again";
        finding(("blob", &digest.to_string()), problem, what, mend)
    }

    fn remove_blob(&self, digest: &Digest) -> Result<()> {
        let removed = self.store.content().remove(digest);
        removed.map(drop).step(|| format!("remove blob {digest}"))
    }
}

fn missing(digest: &Digest, wanted: &Wanted) -> Finding {
    let problem = format!("{} is missing", wanted.what);
    let none = None::<fn() -> Result<()>>;
    let action = "pull or load the image again";
    finding(("blob", &digest.to_string()), &problem, action, none)
}
