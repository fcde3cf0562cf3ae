//! The end of a conversion: the target's configuration and its graph.

use oci::Platform;

use super::{ConvertError, Converted, Converter};
use crate::error::DockerfileError;
use crate::gofmt;
use crate::llb::SourceFile;

/// An image that a build starts from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Base {
    /// The reference as it was asked for.
    pub reference: String,
    /// The same with the digest that it stood for.
    pub pinned: String,
    /// The platform.
    pub platform: Platform,
    /// The digest.
    pub digest: Option<String>,
}

impl Converter<'_> {
    /// Puts the result together.
    pub(super) fn finish(&mut self, target: usize) -> Result<Converted, DockerfileError> {
        let violations = self.lint.violations();
        if !violations.is_empty() {
            return Err(ConvertError::Violations(violations.join(", ")).into());
        }
        self.close_locals();
        self.finish_image(target);
        let state = &self.stages.list[target];
        let write = |image| gofmt::json(image).map_err(ConvertError::WriteConfig);
        let config = write(&state.image)?;
        let base_config = state.base_image.as_ref().map(write).transpose()?;
        let file = SourceFile {
            data: self.data.clone(),
            ..self.options.file.clone()
        };
        Ok(Converted {
            definition: self.graph.definition(state.root, &file),
            image: state.image.clone(),
            config,
            base_config,
            stage: state.stage.name.clone(),
            platform: self.platform.clone(),
            epoch: self.epoch,
            ignore_cache: state.ignore_cache,
            bases: self.bases.clone(),
            build_args: self.used_args(),
            scans: self.scan_targets(target, &file),
        })
    }

    fn finish_image(&mut self, target: usize) {
        let (labels, wanted) = (&self.options.labels, self.platform.clone());
        let state = &mut self.stages.list[target];
        state
            .image
            .config
            .labels
            .extend(labels.iter().map(|(k, v)| (k.clone(), v.clone())));
        let image = &mut state.image;
        if !self.implicit {
            let same = image.os == wanted.os && image.architecture == wanted.architecture;
            image.os = wanted.os;
            image.architecture = wanted.architecture;
            if wanted.variant.is_some() || !same {
                image.variant = wanted.variant.unwrap_or_default();
            }
            if wanted.os_version.is_some() || !same {
                image.os_version = wanted.os_version.unwrap_or_default();
            }
        }
        let spelled = format!("{}/{}/{}", image.os, image.architecture, image.variant);
        if let Ok(platform) = spelled.trim_end_matches('/').parse::<Platform>() {
            image.architecture = platform.architecture;
            image.variant = platform.variant.unwrap_or_default();
        }
    }

    /// The declared arguments that have a value.
    fn used_args(&self) -> Vec<(String, String)> {
        let mut all: std::collections::BTreeMap<String, String> = std::collections::BTreeMap::new();
        for state in self.stages.list.iter().filter(|s| s.dispatched) {
            for argument in &state.args {
                if let Some(value) = &argument.value {
                    all.insert(argument.key.clone(), value.clone());
                }
            }
        }
        for (key, info) in &self.outline.args {
            if info.argument.value.is_some() {
                all.entry(key.clone()).or_insert_with(|| info.value.clone());
            }
        }
        all.into_iter().collect()
    }

    fn scan_targets(
        &self,
        target: usize,
        file: &SourceFile,
    ) -> Vec<(String, crate::pb::Definition)> {
        let mut scans = Vec::new();
        if self.stages.list[target].scan_context {
            scans.push(("context".to_owned(), self.graph.definition(self.main, file)));
        }
        let others = self.stages.list.iter().enumerate();
        for (_, state) in others.filter(|(at, s)| *at != target && s.scan_stage && s.dispatched) {
            scans.push((state.name.clone(), self.graph.definition(state.root, file)));
        }
        scans
    }
}
