//! Bases of stages: images and named contexts, whose configurations the caller answers.

use std::collections::HashSet;

use oci::{Platform, Reference};

use super::context::Loaded;
use super::finish::Base;
use super::image::Image;
use super::options::ResolveMode;
use super::stages::SCRATCH;
use super::{ConvertError, Converter, checks};
use crate::env::Nothing;
use crate::error::DockerfileError;
use crate::llb::{Meta, caps};
use crate::pb;
use crate::suggest;

/// Why a caller cannot answer; its text is shown as it is.
pub type ResolveError = Box<dyn std::error::Error + Send + Sync>;

/// Images that people mean when they misspell them.
const COMMON: [&str; 7] = [
    "alpine", "busybox", "centos", "debian", "golang", "ubuntu", "fedora",
];

/// An OCI layout of the client's.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Store {
    /// The client's session.
    pub session: String,
    /// The layout's name in it.
    pub id: String,
}

/// A question about an image.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct ImageRequest {
    /// The image's normalised reference.
    pub reference: String,
    /// The platform that is wanted.
    pub platform: Platform,
    /// Where to look: `default`, `pull` or `local`.
    pub mode: &'static str,
    /// What the step that looks is called.
    pub log_name: String,
    /// The layout to look in, if it is not a registry's image.
    pub store: Option<Store>,
}

/// An answer about an image.
#[derive(Clone, Debug, Default)]
pub struct ResolvedImage {
    /// The reference to use instead, if there is one.
    pub reference: Option<String>,
    /// The digest that the tag stands for, if it is known.
    pub digest: Option<String>,
    /// The image's configuration.
    pub config: Vec<u8>,
}

/// A graph that the caller was given under a name.
#[derive(Clone, Debug, Default)]
pub struct ResolvedInput {
    /// The graph.
    pub definition: pb::Definition,
    /// The configuration of the image that it makes.
    pub config: Option<Vec<u8>>,
}

/// What a conversion asks its caller.
///
/// Calls block; a conversion runs on a thread that may wait.
pub trait Resolve {
    /// Tells of images that will be asked for next, so that they can be looked up together.
    fn prefetch(&mut self, _images: &[ImageRequest]) {}

    /// An image's configuration.
    ///
    /// # Errors
    /// When there is no such image, or it cannot be reached.
    fn image(&mut self, request: &ImageRequest) -> Result<ResolvedImage, ResolveError>;

    /// The `.dockerignore` of a named context that is a folder of the client's; empty without one.
    ///
    /// # Errors
    /// When the client does not answer.
    fn ignore_file(&mut self, _local: &str, _log_name: &str) -> Result<Vec<u8>, ResolveError> {
        Ok(Vec::new())
    }

    /// A graph that was passed in under this name.
    fn input(&mut self, _name: &str) -> Option<ResolvedInput> {
        None
    }
}

impl Converter<'_> {
    /// Resolves the bases of the stages that are needed and have none yet.
    pub(super) fn resolve_bases(
        &mut self,
        reachable: &HashSet<usize>,
    ) -> Result<(), DockerfileError> {
        let mut open = Vec::new();
        for (at, state) in self.stages.list.iter_mut().enumerate() {
            let wanted = self.options.all_stages || reachable.contains(&at);
            if wanted && state.base.is_none() && !state.dispatched && !state.resolved {
                state.resolved = true;
                open.push(at);
            }
        }
        let wanted: Vec<ImageRequest> = open.iter().filter_map(|at| self.image_of(*at)).collect();
        if wanted.len() > 1 {
            self.resolve.prefetch(&wanted);
        }
        for at in open {
            let span = self.stages.list[at].stage.span;
            self.resolve_base(at).map_err(|e| e.or_at(span))?;
        }
        Ok(())
    }

    fn base_platform(&self, at: usize) -> Platform {
        self.stages.list[at]
            .platform
            .clone()
            .unwrap_or_else(|| self.platform.clone())
    }

    /// The question about a stage's base, if it is an image.
    fn image_of(&self, at: usize) -> Option<ImageRequest> {
        let state = &self.stages.list[at];
        if state.stage.base == SCRATCH || state.named.is_some() {
            return None;
        }
        let platform = self.base_platform(at);
        if let Ok(Some(_)) = self.named_context(&state.stage.base, Some(&platform)) {
            return None;
        }
        let reference: Reference = state.stage.base.parse().ok()?;
        Some(self.request(reference.or_latest().to_string(), platform))
    }

    fn request(&self, reference: String, platform: Platform) -> ImageRequest {
        let shown = if self.options.multi_platform {
            format!("{platform} ")
        } else {
            String::new()
        };
        ImageRequest {
            log_name: format!("[{shown}internal] load metadata for {reference}"),
            reference,
            platform,
            mode: self.options.resolve_mode.name(),
            store: None,
        }
    }

    fn resolve_base(&mut self, at: usize) -> Result<(), DockerfileError> {
        let state = &mut self.stages.list[at];
        state.dispatched = state.unregistered;
        if let Some(named) = state.named.clone() {
            let loaded = self.load_context(&named, at)?;
            self.use_named_stage(at, loaded);
            return Ok(());
        }
        if state.stage.base == SCRATCH {
            state.image = Image::empty(&self.platform);
            state.platform = Some(self.platform.clone());
            return Ok(());
        }
        let platform = self.base_platform(at);
        let name = self.stages.list[at].stage.base.clone();
        let parsed = name
            .parse::<Reference>()
            .map_err(|error| ConvertError::StageReference {
                name: name.clone(),
                error,
            })?;
        let reference = parsed.or_latest().to_string();
        if let Some(named) = self.named_context(&reference, Some(&platform))? {
            let loaded = self.load_context(&named, at)?;
            let image = loaded
                .image
                .clone()
                .unwrap_or_else(|| Image::empty(&platform));
            self.use_base(at, loaded, image, platform);
            return Ok(());
        }
        self.use_image(at, &name, &reference, platform)
    }

    /// A named context in a stage's place.
    fn use_named_stage(&mut self, at: usize, loaded: Loaded) {
        let state = &mut self.stages.list[at];
        state.dispatched = true;
        state.root = loaded.root;
        state.env = std::rc::Rc::new(loaded.env);
        state.folder = loaded.folder;
        if let Some(mut image) = loaded.image {
            image.created = None;
            if let Some(platform) = image.platform() {
                state.platform = Some(platform);
            }
            state.image = image;
        }
    }

    fn use_base(&mut self, at: usize, loaded: Loaded, mut image: Image, platform: Platform) {
        let state = &mut self.stages.list[at];
        state.base_image = Some(image.clone());
        image.created = None;
        state.image = image;
        state.root = loaded.root;
        state.env = std::rc::Rc::new(loaded.env);
        state.folder = loaded.folder;
        state.platform = Some(platform);
    }

    fn use_image(
        &mut self,
        at: usize,
        name: &str,
        reference: &str,
        platform: Platform,
    ) -> Result<(), DockerfileError> {
        let request = self.request(reference.to_owned(), platform.clone());
        let answer = self.ask(&request).map_err(|error| {
            let common = COMMON.iter().map(|c| (*c).to_owned());
            let stages = self.stages.list.iter().map(|s| s.stage.name.clone());
            let options: Vec<String> = stages.chain(common).filter(|n| !n.is_empty()).collect();
            let near = suggest::nearest(name, options.iter().map(String::as_str));
            ConvertError::Resolve {
                name: name.to_owned(),
                error,
                hint: suggest::suffix(near),
            }
        })?;
        let mut image: Image =
            serde_json::from_slice(&answer.config).map_err(ConvertError::ImageConfig)?;
        let asked = self.stages.list[at].platform.is_some();
        let platform = if asked || !self.implicit {
            platform
        } else {
            self.detected(&image, platform)
        };
        let pinned = pin(answer.reference.as_deref().unwrap_or(reference), &answer);
        let span = self.stages.list[at].stage.span;
        if let Some(found) = image.platform() {
            checks::base_platform(name, &platform, &found, span, &mut self.lint);
        }
        self.remember(reference, &pinned, &platform, answer.digest.as_deref());
        let base_image = image.clone();
        image.created = None;
        if !image.is_scratch() {
            self.image_source(at, &pinned, &platform)?;
        }
        let state = &mut self.stages.list[at];
        state.stage.base = pinned;
        state.base_image = Some(base_image);
        state.image = image;
        state.platform = Some(platform);
        Ok(())
    }

    fn image_source(
        &mut self,
        at: usize,
        pinned: &str,
        platform: &Platform,
    ) -> Result<(), DockerfileError> {
        let name = self.step_name(
            at,
            &format!("FROM {pinned}"),
            Some(platform),
            &Nothing,
            false,
        );
        let (attrs, mut features) = self.image_attrs();
        features.push(caps::SOURCE_IMAGE);
        let stage = &self.stages.list[at].stage;
        let meta = Meta {
            command: Some(stage.code.clone()),
            span: Some(stage.span),
            ..Meta::named(name)
        };
        let identifier = format!("docker-image://{pinned}");
        let meta = meta.with_caps(&features);
        let root = self
            .graph
            .source(&identifier, attrs, Some(platform), &meta)?;
        self.stages.list[at].root = Some(root);
        Ok(())
    }

    /// Attributes and features of image sources.
    pub(super) fn image_attrs(
        &self,
    ) -> (
        std::collections::BTreeMap<String, String>,
        Vec<&'static str>,
    ) {
        let mode = self.options.resolve_mode;
        if mode == ResolveMode::Default {
            return (std::collections::BTreeMap::new(), Vec::new());
        }
        let attrs = [("image.resolvemode".to_owned(), mode.name().to_owned())].into();
        let pulls = mode == ResolveMode::Pull;
        (
            attrs,
            if pulls {
                vec![caps::SOURCE_IMAGE_RESOLVE_MODE]
            } else {
                Vec::new()
            },
        )
    }

    /// Asks about an image, once.
    pub(super) fn ask(&mut self, request: &ImageRequest) -> Result<ResolvedImage, ResolveError> {
        if let Some(answer) = self.images.get(request) {
            return Ok(answer.clone());
        }
        let answer = self.resolve.image(request)?;
        self.images.insert(request.clone(), answer.clone());
        Ok(answer)
    }

    pub(super) fn remember(
        &mut self,
        reference: &str,
        pinned: &str,
        platform: &Platform,
        digest: Option<&str>,
    ) {
        let base = Base {
            reference: reference.to_owned(),
            pinned: pinned.to_owned(),
            platform: platform.clone(),
            digest: digest.map(str::to_owned),
        };
        if !self.bases.contains(&base) {
            self.bases.push(base);
        }
    }

    /// Where nobody asked for a platform, the image's is as good, if the builder runs it.
    fn detected(&self, image: &Image, wanted: Platform) -> Platform {
        let is = |p: &Platform| p.os == image.os && p.architecture == image.architecture;
        if is(&wanted) {
            return wanted;
        }
        self.options
            .build_platforms
            .iter()
            .find(|p| is(p))
            .cloned()
            .unwrap_or(wanted)
    }
}

/// A reference with the digest that it stands for.
pub(super) fn pin(reference: &str, answer: &ResolvedImage) -> String {
    match &answer.digest {
        Some(digest) => {
            let tag = reference.split('@').next().unwrap_or(reference);
            format!("{tag}@{digest}")
        }
        None => reference.to_owned(),
    }
}
