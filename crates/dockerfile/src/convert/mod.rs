//! From stages to a graph and an image configuration.

mod args;
mod base;
mod checks;
mod context;
mod copy;
mod error;
mod finish;
mod git;
mod image;
mod mode;
mod options;
mod ports;
mod run;
mod signal;
mod stages;
mod step;

use std::collections::HashMap;

use oci::Platform;

use crate::env::EnvList;
use crate::error::DockerfileError;
use crate::expand::Lexer;
use crate::instruction;
use crate::lint::{self, Linter, Rule, Warning};
use crate::llb::{Graph, State};
use crate::pb;
use crate::syntax::{self, Document};

pub use base::{ImageRequest, Resolve, ResolveError, ResolvedImage, ResolvedInput, Store};
pub use error::ConvertError;
pub use finish::Base;
pub use git::{GitError, GitRef, parse as parse_git};
pub use image::{Config as ImageConfig, HealthConfig, History, Image, Present, RootFs};
pub use options::{Context, Options, Request, ResolveMode};
pub use ports::PortError;

pub(crate) use args::{ArgInfo, Outline};
pub(crate) use stages::Stages;

/// A Dockerfile as a graph, with the configuration of the image it makes.
#[derive(Clone, Debug)]
pub struct Converted {
    /// The graph of the root file system.
    pub definition: pb::Definition,
    /// The image's configuration, without the layers that the build adds.
    pub image: Image,
    /// The same as JSON, as `containerimage.config` takes it.
    pub config: Vec<u8>,
    /// The configuration of the image that the target's chain of stages starts from.
    pub base_config: Option<Vec<u8>>,
    /// The target stage's name, empty where it has none.
    pub stage: String,
    /// The platform that the image is for.
    pub platform: Platform,
    /// `SOURCE_DATE_EPOCH` in seconds, if it is given.
    pub epoch: Option<i64>,
    /// Whether the target is built without cache.
    pub ignore_cache: bool,
    /// The images that were resolved, each once.
    pub bases: Vec<Base>,
    /// The build arguments that the file declares and that were given or have a default.
    pub build_args: Vec<(String, String)>,
    /// Roots beside the image that a scan for packages covers: `context` and stages.
    pub scans: Vec<(String, pb::Definition)>,
}

/// What came out: warnings there are with and without an error.
#[derive(Debug)]
pub struct Outcome {
    /// What the checks say.
    pub warnings: Vec<Warning>,
    /// The graph.
    pub result: Result<Converted, DockerfileError>,
}

/// Converts a Dockerfile for one platform.
pub fn convert(data: &[u8], options: &Options, resolve: &mut dyn Resolve) -> Outcome {
    let (warnings, result) = run(data, options, resolve, |c, target| c.finish(target));
    Outcome { warnings, result }
}

/// The graph of a context alone, for whoever looks for the Dockerfile in it.
///
/// # Errors
/// When the context's URL is malformed.
pub fn context_definition(context: &Context) -> Result<pb::Definition, DockerfileError> {
    struct Nobody;
    impl Resolve for Nobody {
        fn image(&mut self, _: &ImageRequest) -> Result<ResolvedImage, ResolveError> {
            Err("a context has no base".into())
        }
    }
    let options = Options {
        context: context.clone(),
        ..Options::default()
    };
    let (lint, mut nobody) = (Linter::silent(), Nobody);
    let mut converter = Converter::new(b"FROM scratch", &options, &mut nobody, &lint)?;
    let root = converter.open_context()?;
    Ok(converter.graph.definition(root, &options.file))
}

/// Goes through a whole conversion and takes what `end` makes of it.
pub(crate) fn run<T>(
    data: &[u8],
    options: &Options,
    resolve: &mut dyn Resolve,
    end: impl FnOnce(&mut Converter<'_>, usize) -> Result<T, DockerfileError>,
) -> (Vec<Warning>, Result<T, DockerfileError>) {
    let lint = match check_options(data, options) {
        Ok(config) => Linter::new(config),
        Err(error) => return (Vec::new(), Err(error)),
    };
    let result = Converter::new(data, options, resolve, &lint).and_then(|mut converter| {
        let target = converter.convert()?;
        end(&mut converter, target)
    });
    (lint.warnings(), result)
}

fn check_options(data: &[u8], options: &Options) -> Result<lint::Config, DockerfileError> {
    if data.is_empty() {
        return Err(syntax::SyntaxError::Empty.into());
    }
    if let Some(config) = &options.checks {
        return Ok(config.clone());
    }
    let text = syntax::directive("check", data)
        .map(|d| d.word)
        .unwrap_or_default();
    lint::Config::parse(&text).map_err(|e| crate::error::Reason::Checks(e).into())
}

/// A conversion on its way.
pub(crate) struct Converter<'a> {
    pub(crate) options: &'a Options,
    resolve: &'a mut dyn Resolve,
    lint: Linter,
    lexer: Lexer,
    /// The platform that is built for, and whether nobody asked for it.
    platform: Platform,
    implicit: bool,
    epoch: Option<i64>,
    created: Option<String>,
    /// Platform arguments, and the arguments before the first stage.
    globals: EnvList,
    pub(crate) outline: Outline,
    pub(crate) stages: Stages,
    graph: Graph,
    /// The main context: what of it is needed is known at the end.
    main: State,
    ignore: crate::ignore::Matcher,
    history_size: usize,
    bases: Vec<Base>,
    images: HashMap<base::ImageRequest, ResolvedImage>,
    parsed: instruction::Parsed,
    data: Vec<u8>,
}

impl std::fmt::Debug for Converter<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Converter")
            .field("stages", &self.stages)
            .finish_non_exhaustive()
    }
}

impl<'a> Converter<'a> {
    fn new(
        data: &[u8],
        options: &'a Options,
        resolve: &'a mut dyn Resolve,
        lint: &Linter,
    ) -> Result<Self, DockerfileError> {
        let document = Document::parse(data)?;
        let mut lint = lint.clone();
        for span in &document.empty_continuations {
            lint.warn(Rule::NoEmptyContinuation, *span, &[]);
        }
        let parsed = instruction::parse(&document, &mut lint)?;
        if parsed.stages.is_empty() {
            return Err(ConvertError::NoStages.into());
        }
        checks::stage_names(&parsed.stages, &mut lint);
        checks::casing(&parsed.stages, &mut lint);
        let own = options
            .build_platforms
            .first()
            .cloned()
            .unwrap_or_else(Platform::host);
        let epoch = args::epoch(&options.build_args)?;
        let ignore = match &options.context {
            Context::Local { excludes, .. } => crate::ignore::Matcher::new(excludes),
            _ => crate::ignore::Matcher::new::<&str>(&[]),
        };
        Ok(Self {
            options,
            resolve,
            lint,
            lexer: Lexer::new(document.escape),
            platform: options.platform.clone().unwrap_or(own),
            implicit: options.platform.is_none(),
            epoch,
            created: epoch.and_then(args::timestamp),
            globals: EnvList::default(),
            outline: Outline::default(),
            stages: Stages::default(),
            graph: Graph::default(),
            main: None,
            ignore: ignore.unwrap_or_default(),
            history_size: 0,
            bases: Vec::new(),
            images: HashMap::new(),
            parsed,
            data: data.to_vec(),
        })
    }

    /// Converts all stages that the target needs, and gives the target's number.
    fn convert(&mut self) -> Result<usize, DockerfileError> {
        self.main = self.open_context()?;
        self.global_args()?;
        self.make_stages()?;
        let target = self.target()?;
        self.link_stages()?;
        let reachable = self.resolve_stages(target)?;
        for at in 0..self.stages.list.len() {
            let wanted = self.options.all_stages || reachable.contains(&at);
            if wanted && !self.stages.list[at].dispatched {
                self.stage(at)?;
            }
        }
        self.stages.list[target]
            .paths
            .borrow_mut()
            .insert("/".to_owned());
        Ok(target)
    }
}
