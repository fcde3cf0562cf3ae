//! Stages and what they need of each other.

use std::cell::RefCell;
use std::collections::{BTreeSet, HashMap, HashSet};
use std::rc::Rc;

use oci::Platform;

use super::args::Outline;
use super::context::Named;
use super::image::Image;
use super::{ConvertError, Converter, checks};
use crate::env::{EnvList, Lookup, Nothing};
use crate::error::{DockerfileError, Reason};
use crate::instruction::{Action, Argument, Command, Stage, parse_command};
use crate::llb::State;
use crate::span::Span;
use crate::suggest;
use crate::syntax::Document;

/// The base of an empty root.
pub(super) const SCRATCH: &str = "scratch";
/// A file may have this many stages, with the images that it only copies from.
const MAX_STAGES: usize = 2_000;
/// Triggers may lead to new bases this often.
const MAX_ROUNDS: usize = 20;

/// An instruction with the stages that it takes files from.
#[derive(Clone, Debug)]
pub(crate) struct Step {
    pub(super) command: Command,
    /// Of a `COPY` one, of a `RUN` one a mount.
    pub(super) sources: Vec<usize>,
    pub(super) is_trigger: bool,
}

/// A stage, an image that is copied from, or a named context.
#[derive(Debug, Default)]
pub(crate) struct StageState {
    pub(crate) stage: Stage,
    /// Its name, or `stage-N`; empty where it is the only one.
    pub(super) name: String,
    /// The stage that it starts from.
    pub(crate) base: Option<usize>,
    /// The stages that it takes files from, and the lines that do.
    pub(crate) needs: Vec<(usize, Span)>,
    pub(super) steps: Vec<Step>,
    pub(super) named: Option<Named>,
    /// A folder of the client's in its place.
    pub(super) open_local: Option<super::context::OpenLocal>,
    /// Whether it has no `FROM`: something only copies from it.
    pub(super) unregistered: bool,
    pub(super) platform: Option<Platform>,
    pub(super) root: State,
    pub(super) env: Rc<EnvList>,
    pub(super) folder: String,
    pub(super) user: String,
    pub(super) image: Image,
    pub(super) base_image: Option<Image>,
    pub(crate) dispatched: bool,
    pub(super) resolved: bool,
    pub(super) triggers_taken: bool,
    pub(super) args: Vec<Argument>,
    /// What it takes from the main context.
    pub(super) context_paths: BTreeSet<String>,
    /// What others take from it, and from what it starts from.
    pub(super) paths: Rc<RefCell<BTreeSet<String>>>,
    pub(super) ignore_cache: bool,
    pub(super) number: usize,
    pub(super) total: usize,
    pub(super) workdir_set: bool,
    pub(super) last_cmd: Option<Span>,
    pub(super) last_entrypoint: Option<Span>,
    pub(super) last_healthcheck: Option<Span>,
    pub(super) scan_stage: bool,
    pub(super) scan_context: bool,
    pub(crate) outline: Outline,
}

/// All stages, in order.
#[derive(Debug, Default)]
pub(crate) struct Stages {
    pub(crate) list: Vec<StageState>,
    by_name: HashMap<String, usize>,
}

impl Stages {
    fn add(&mut self, mut state: StageState) -> usize {
        let at = self.list.len();
        if let Some(base) = self.by_name.get(&state.stage.base).copied() {
            state.base = Some(base);
            state.outline = self.list[base].outline.clone();
        }
        if !state.stage.name.is_empty() {
            self.by_name.insert(state.stage.name.clone(), at);
        }
        self.list.push(state);
        at
    }

    fn find(&self, name: &str) -> Option<usize> {
        self.by_name.get(&name.to_lowercase()).copied()
    }

    fn names(&self) -> Vec<&str> {
        self.list
            .iter()
            .map(|s| s.name.as_str())
            .filter(|n| !n.is_empty())
            .collect()
    }
}

impl Converter<'_> {
    /// Makes a state of each stage: expands bases and platforms, finds named contexts.
    pub(super) fn make_stages(&mut self) -> Result<(), DockerfileError> {
        let stages = std::mem::take(&mut self.parsed.stages);
        if stages.len() > MAX_STAGES {
            return Err(too_many_stages());
        }
        let mut declared: BTreeSet<String> = self.outline.args.keys().cloned().collect();
        declared.extend(self.globals.names().into_iter().map(str::to_owned));
        for (at, stage) in stages.into_iter().enumerate() {
            let span = stage.span;
            let state = self
                .make_stage(at, stage, &declared)
                .map_err(|e| e.or_at(span))?;
            let (used, named) = (state.outline.used.clone(), state.named.is_some());
            let at = self.stages.add(state);
            let state = &mut self.stages.list[at];
            if named {
                state.base = None;
                continue;
            }
            state.outline.used.extend(used);
            state.total += count(&state.stage.commands);
            if state.stage.base != SCRATCH && state.base.is_none() {
                state.total += 1;
            }
        }
        Ok(())
    }

    fn make_stage(
        &mut self,
        at: usize,
        mut stage: Stage,
        declared: &BTreeSet<String>,
    ) -> Result<StageState, DockerfileError> {
        let mut lint = self.lint.within(&stage.comments);
        let expanded = self.lexer.expand(&stage.base, &self.globals)?;
        checks::undeclared(&expanded.unmatched, declared, stage.span, &mut lint);
        if expanded.text.is_empty() {
            return Err(ConvertError::BlankBase(stage.base).into());
        }
        let mut state = StageState {
            outline: self.outline.clone(),
            ..StageState::default()
        };
        state.outline.used.extend(expanded.matched);
        stage.base = expanded.text;
        if !stage.platform.is_empty() {
            state.platform = Some(self.stage_platform(&stage, declared, &mut state.outline)?);
        }
        state.ignore_cache = self.options.no_cache.as_ref().is_some_and(|names| {
            names.is_empty() || names.iter().any(|n| n.eq_ignore_ascii_case(&stage.name))
        });
        state.name = stage.name.clone();
        if !stage.name.is_empty() {
            state.named = self.named_context(&stage.name, state.platform.as_ref())?;
        } else {
            state.name = format!("stage-{at}");
        }
        state.stage = stage;
        Ok(state)
    }

    fn stage_platform(
        &self,
        stage: &Stage,
        declared: &BTreeSet<String>,
        outline: &mut Outline,
    ) -> Result<Platform, DockerfileError> {
        let mut lint = self.lint.within(&stage.comments);
        let expanded = self.lexer.expand(&stage.platform, &self.globals)?;
        checks::undeclared(&expanded.unmatched, declared, stage.span, &mut lint);
        checks::platform_flag(stage, &expanded, &self.globals, &mut lint);
        let names = self.globals.names();
        let near = expanded
            .unmatched
            .iter()
            .find_map(|n| suggest::nearest(n, names.clone()));
        let expression = stage.platform.clone();
        if expanded.text.is_empty() {
            let hint = suggest::suffix(near);
            return Err(ConvertError::EmptyPlatform { expression, hint }.into());
        }
        outline.used.extend(expanded.matched);
        expanded.text.parse().map_err(|_| {
            let (value, hint) = (expanded.text.clone(), suggest::suffix(near));
            ConvertError::Platform {
                expression,
                value,
                hint,
            }
            .into()
        })
    }

    /// The stage that is asked for.
    pub(super) fn target(&self) -> Result<usize, DockerfileError> {
        let name = &self.options.target;
        if name.is_empty() {
            return Ok(self.stages.list.len() - 1);
        }
        self.stages.find(name).ok_or_else(|| {
            let hint = suggest::suffix(suggest::nearest(name, self.stages.names()));
            ConvertError::Target {
                name: name.clone(),
                hint,
            }
            .into()
        })
    }

    /// Finds out which stages each stage takes files from.
    pub(super) fn link_stages(&mut self) -> Result<(), DockerfileError> {
        for at in 0..self.stages.list.len() {
            for command in std::mem::take(&mut self.stages.list[at].stage.commands) {
                let span = command.span;
                let step = self
                    .step_of(at, command, false)
                    .map_err(|e| e.or_at(span))?;
                self.stages.list[at].steps.push(step);
            }
        }
        self.refuse_cycles()?;
        if let [only] = self.stages.list.as_mut_slice() {
            only.name.clear();
        }
        Ok(())
    }

    fn step_of(
        &mut self,
        at: usize,
        command: Command,
        is_trigger: bool,
    ) -> Result<Step, DockerfileError> {
        let froms = match &command.action {
            Action::Copy(copy) if !copy.from.is_empty() => {
                if self.lexer.word(&copy.from, &Nothing)? != copy.from {
                    return Err(ConvertError::FromVariable.into());
                }
                vec![copy.from.clone()]
            }
            Action::Run(run) => run.mount_sources.clone(),
            _ => Vec::new(),
        };
        let is_copy = matches!(command.action, Action::Copy(_));
        let mut sources = Vec::new();
        for from in froms {
            // a mount without a source has one of its kind: the context, or nothing
            let from = if from.is_empty() {
                SCRATCH.to_owned()
            } else {
                from
            };
            let source = self.source_stage(&from, command.span, is_copy)?;
            sources.push(source);
            self.stages.list[at].needs.push((source, command.span));
        }
        Ok(Step {
            command,
            sources,
            is_trigger,
        })
    }

    /// The stage of a name or a number; an image's name makes a new one.
    fn source_stage(
        &mut self,
        from: &str,
        span: Span,
        by_number: bool,
    ) -> Result<usize, DockerfileError> {
        if let (true, Ok(index)) = (by_number, from.parse::<i64>()) {
            let at = usize::try_from(index)
                .ok()
                .filter(|i| *i < self.stages.list.len());
            return at.ok_or_else(|| ConvertError::StageIndex(index).into());
        }
        if let Some(at) = self.stages.find(from) {
            return Ok(at);
        }
        let known = |s: &StageState| s.unregistered && s.stage.base == from;
        if let Some(at) = self.stages.list.iter().position(known) {
            return Ok(at);
        }
        if self.stages.list.len() > MAX_STAGES {
            return Err(too_many_stages());
        }
        let stage = Stage {
            base: from.to_owned(),
            span,
            ..Stage::default()
        };
        Ok(self.stages.add(StageState {
            stage,
            unregistered: true,
            ..StageState::default()
        }))
    }

    fn refuse_cycles(&self) -> Result<(), DockerfileError> {
        let mut done: HashSet<usize> = HashSet::new();
        for root in 0..self.stages.list.len() {
            // the way from the root: stages, and which of their needs is looked at next
            let mut way: Vec<(usize, usize)> = vec![(root, 0)];
            while let Some((at, next)) = way.last_mut() {
                let Some((need, _)) = self.stages.list[*at].needs.get(*next) else {
                    done.insert(*at);
                    way.pop();
                    continue;
                };
                *next += 1;
                if way.iter().any(|(on_way, _)| on_way == need) {
                    let spans = way.iter().filter_map(|(at, next)| {
                        Some(self.stages.list[*at].needs.get(next - 1)?.1)
                    });
                    let name = self.stages.list[root].name.clone();
                    let reason = Reason::Convert(ConvertError::Cycle(name));
                    return Err(DockerfileError {
                        reason,
                        spans: spans.collect(),
                    });
                }
                if !done.contains(need) {
                    way.push((*need, 0));
                }
            }
        }
        Ok(())
    }

    /// Resolves the bases of all stages that are needed; triggers of bases may need more.
    pub(super) fn resolve_stages(
        &mut self,
        target: usize,
    ) -> Result<HashSet<usize>, DockerfileError> {
        for _ in 0..MAX_ROUNDS {
            let reachable = self.reachable(target);
            self.resolve_bases(&reachable)?;
            let mut again = false;
            let mut order: Vec<usize> = reachable.iter().copied().collect();
            order.sort_unstable();
            for at in order {
                self.inherit(at)?;
                let span = self.stages.list[at].stage.span;
                again |= self.take_triggers(at).map_err(|e| e.or_at(span))?;
            }
            if !again {
                return Ok(reachable);
            }
        }
        Err(ConvertError::TriggerRounds(MAX_ROUNDS).into())
    }

    fn reachable(&self, target: usize) -> HashSet<usize> {
        let mut found = HashSet::new();
        let mut open = vec![target];
        while let Some(at) = open.pop() {
            if found.insert(at) {
                let state = &self.stages.list[at];
                open.extend(state.base);
                open.extend(state.needs.iter().map(|(need, _)| *need));
            }
        }
        found
    }

    /// Takes from the stage that this one starts from what it is so far.
    pub(super) fn inherit(&mut self, at: usize) -> Result<(), DockerfileError> {
        let Some(base) = self.stages.list[at].base else {
            return Ok(());
        };
        let size = self.stages.list[base].image.history_size();
        self.charge(size)?;
        let base = &self.stages.list[base];
        let (root, platform, mut image) = (base.root, base.platform.clone(), base.image.clone());
        let (base_image, paths) = (base.base_image.clone(), Rc::clone(&base.paths));
        let (env, folder, user) = (Rc::clone(&base.env), base.folder.clone(), base.user.clone());
        let (workdir_set, args) = (base.workdir_set, base.args.clone());
        image.config.on_build.clear();
        let state = &mut self.stages.list[at];
        state.root = root;
        state.platform = platform;
        state.image = image;
        state.base_image = base_image;
        state.paths = paths;
        state.env = env;
        state.folder = folder;
        state.user = user;
        state.workdir_set = workdir_set;
        state.args.extend(args);
        Ok(())
    }

    /// Puts the base's triggers before the stage's own instructions; says whether they need stages.
    fn take_triggers(&mut self, at: usize) -> Result<bool, DockerfileError> {
        let state = &mut self.stages.list[at];
        if state.unregistered {
            // nothing is built upon it: its triggers stay where they are
            return Ok(false);
        }
        let mut triggers = std::mem::take(&mut state.image.config.on_build);
        let base = state.base.filter(|_| !state.triggers_taken);
        state.triggers_taken = true;
        if let Some(base) = base {
            let steps = self.stages.list[base].steps.iter();
            triggers.extend(steps.filter_map(|s| match &s.command.action {
                Action::Onbuild(expression) => Some(expression.clone()),
                _ => None,
            }));
        }
        let mut steps = Vec::new();
        for trigger in triggers {
            let document = Document::parse(trigger.as_bytes())?;
            let [node] = document.nodes.as_slice() else {
                return Err(ConvertError::Trigger.into());
            };
            let mut command = parse_command(node)?;
            command.span = self.stages.list[at].stage.span;
            steps.push(self.step_of(at, command, true)?);
        }
        let needs = steps.iter().any(|s| !s.sources.is_empty());
        let state = &mut self.stages.list[at];
        state.total += steps.len();
        state.steps.splice(0..0, steps);
        Ok(needs)
    }
}

fn too_many_stages() -> DockerfileError {
    let (what, most) = ("stages", MAX_STAGES);
    ConvertError::TooMany { what, most }.into()
}

/// How many steps instructions are shown as.
fn count(commands: &[Command]) -> usize {
    let shown = |c: &&Command| {
        matches!(
            c.action,
            Action::Add(_) | Action::Copy(_) | Action::Run(_) | Action::Workdir(_)
        )
    };
    commands.iter().filter(shown).count()
}
