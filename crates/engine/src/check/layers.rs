//! The unpacked layers against what images and containers need.

use std::collections::{BTreeMap, HashSet};

use api::check::Finding;
use oci::Digest;
use storage::Damage;

use super::finding;
use crate::engine::Engine;
use crate::error::{Error, Result, Step};
use crate::image::Layer;

/// A layer of an image, and the one below it.
struct Source {
    layer: Layer,
    parent: Option<Digest>,
}

impl Engine {
    pub(super) fn check_layers(&self, repair: bool) -> Result<Vec<Finding>> {
        let mut findings = self.check_needed_layers(repair);
        let needed = self.needed()?;
        // what has just lost its reason is about to go by itself
        let settled = !self.images.leases.is_dirty();
        let mut waste = Vec::new();
        let layers = self.store.layers().list();
        let unneeded = layers
            .iter()
            .filter(|one| settled && !needed.has_layer(&one.chain));
        let unneeded: Vec<&Digest> = unneeded.map(|layer| &layer.chain).collect();
        if repair && !unneeded.is_empty() {
            self.detach_layers(&needed, &mut waste);
        }
        for chain in unneeded {
            let action = || match self.store.layers().exists(chain) {
                false => Ok(()),
                true => Err(Error::internal("another layer lies on it")),
            };
            let mend = repair.then_some(action);
            let problem = "no image and no container needs the layer";
            findings.push(finding(
                ("layer", &chain.to_string()),
                problem,
                "remove it",
                mend,
            ));
        }
        self.store.trash().put(waste);
        findings.extend(self.check_strangers(repair)?);
        Ok(findings)
    }

    /// Layers of images and containers, lowest first: one that is mended lies on one that is.
    fn check_needed_layers(&self, repair: bool) -> Vec<Finding> {
        let mut sources: BTreeMap<Digest, Source> = BTreeMap::new();
        let mut stacks: Vec<Vec<Digest>> = Vec::new();
        for image in self.images.all() {
            let mut parent = None;
            for layer in &image.record.layers {
                let source = Source {
                    layer: layer.clone(),
                    parent: parent.replace(layer.chain.clone()),
                };
                sources.insert(layer.chain.clone(), source);
            }
            stacks.push(image.chain_ids());
        }
        let containers = self.containers.all();
        stacks.extend(containers.iter().map(|c| c.record().layers.clone()));
        let mut seen = HashSet::new();
        let mut findings = Vec::new();
        for chain in stacks.into_iter().flatten() {
            if seen.insert(chain.clone())
                && let Some(problem) = self.layer_fault(&chain)
            {
                let action = || self.unpack_again(sources.get(&chain));
                let mend = repair.then_some(action);
                let what = "unpack it again from its blob";
                findings.push(finding(("layer", &chain.to_string()), problem, what, mend));
            }
        }
        findings
    }

    fn layer_fault(&self, chain: &Digest) -> Option<&'static str> {
        if !self.store.layers().exists(chain) {
            return Some("the layer is not there");
        }
        self.store
            .layers()
            .damage(chain)
            .map(|damage| match damage {
                Damage::Folder => "the folder of the layer is gone",
                Damage::Files => "the files of the layer are gone or cut off",
                Damage::Record => "the record beside the files of the layer is wrong",
            })
    }

    fn unpack_again(&self, source: Option<&Source>) -> Result<()> {
        let Some(Source { layer, parent }) = source else {
            return Err(Error::internal("no image has its blob"));
        };
        // before anything goes that may be the better part of it
        let content = self.store.content();
        let step = || format!("read blob {}", layer.blob);
        if content.is_damaged(&layer.blob).step(step)? {
            return Err(Error::internal(format!(
                "blob {} is damaged, too",
                layer.blob
            )));
        }
        let old = self.store.layers().detach_damaged(&layer.chain);
        let old = old.step(|| "move the damaged layer away")?;
        self.restore_layer(layer, parent.as_ref())?;
        if let Some(old) = old {
            old.delete().step(|| "remove the damaged layer")?;
        }
        Ok(())
    }

    fn check_strangers(&self, repair: bool) -> Result<Vec<Finding>> {
        let layers = self.store.layers();
        let strangers = layers.strangers().step(|| "list layers")?;
        let findings = strangers.into_iter().map(|name| {
            let action = || {
                let removed = layers.remove_stranger(&name);
                removed.step(|| format!("remove {name:?}"))
            };
            let mend = repair.then_some(action);
            let problem = "what lies there is no layer of the store";
            let object = name.to_string_lossy();
            finding(("layer", &object), problem, "remove it", mend)
        });
        Ok(findings.collect())
    }
}
