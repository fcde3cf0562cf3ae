//! Instructions of a stage, one after the other.

use oci::Platform;

use super::image::{DEFAULT_PATH, HealthConfig, Present};
use super::stages::{StageState, Step};
use super::{ArgInfo, ConvertError, Converter, checks, ports, signal};
use crate::env::{EnvList, Lookup};
use crate::error::DockerfileError;
use crate::expand::Lexer;
use crate::gofmt::{join_path, parse_bool, quote_list};
use crate::instruction::{Action, Argument, Command, CommandLine, Healthcheck, Pair, Transfer};
use crate::lint::{Linter, Rule};
use crate::llb::{Meta, State, caps, pb};
use crate::suggest;

/// A stage may have this many variables: each step repeats them all.
const MAX_VARIABLES: usize = 10_000;
/// The stages' histories may together be this long: each begins with its base's.
const MAX_HISTORY: usize = 64 << 20;

/// Arguments that steps do not see.
const NOT_ENV: [&str; 2] = ["BUILDKIT_SBOM_SCAN_CONTEXT", "BUILDKIT_SBOM_SCAN_STAGE"];

impl Converter<'_> {
    /// Converts a stage.
    pub(super) fn stage(&mut self, at: usize) -> Result<(), DockerfileError> {
        self.inherit(at)?;
        self.begin(at);
        let span = self.stages.list[at].stage.span;
        if !self.stages.list[at].image.config.working_dir.is_empty() {
            let folder = self.stages.list[at].image.config.working_dir.clone();
            self.set_folder(at, &folder);
        }
        for number in 0..self.stages.list[at].steps.len() {
            let step = self.stages.list[at].steps[number].clone();
            self.step(at, step).map_err(|e| e.or_at(span))?;
        }
        self.scans(at);
        Ok(())
    }

    /// Takes environment and user from the base's configuration.
    fn begin(&mut self, at: usize) {
        let platform = self.platform.clone();
        let state = &mut self.stages.list[at];
        state.dispatched = true;
        let os = state.platform.get_or_insert(platform).os.clone();
        let has_path = state
            .image
            .config
            .env
            .iter()
            .any(|e| crate::env::split(e).0 == "PATH");
        if !has_path && os != "windows" {
            state.image.config.env.push(format!("PATH={DEFAULT_PATH}"));
        }
        for text in &state.image.config.env {
            let (key, value) = crate::env::split(text);
            std::rc::Rc::make_mut(&mut state.env).set(key, value);
        }
        if state.folder.is_empty() {
            "/".clone_into(&mut state.folder);
        }
        if !state.image.config.user.is_empty() {
            state.user.clone_from(&state.image.config.user);
        }
    }

    fn step(&mut self, at: usize, step: Step) -> Result<(), DockerfileError> {
        let Step {
            mut command,
            sources,
            is_trigger,
        } = step;
        let mut lint = self.lint.within(&command.comments);
        let span = command.span;
        let mut context = Scope {
            at,
            is_trigger,
            lint: &mut lint,
        };
        self.expand(&mut context, &mut command)
            .and_then(|()| self.dispatch(&mut context, &command, &sources))
            .map_err(|e| e.or_at(span))?;
        if self.stages.list[at].env.len() > MAX_VARIABLES {
            return Err(DockerfileError::at(
                ConvertError::TooManyVariables(MAX_VARIABLES),
                span,
            ));
        }
        Ok(())
    }

    fn dispatch(
        &mut self,
        scope: &mut Scope<'_>,
        command: &Command,
        sources: &[usize],
    ) -> Result<(), DockerfileError> {
        match &command.action {
            Action::Add(transfer) => self.add(scope, command, transfer),
            Action::Arg(arguments) => self.arg(scope, command, arguments),
            Action::Cmd(line) => self.cmd(scope, command, line),
            Action::Copy(transfer) => self.copy(scope, command, transfer, sources),
            Action::Entrypoint(line) => self.entrypoint(scope, command, line),
            Action::Env(pairs) => self.env(scope, command, pairs),
            Action::Expose(ports) => self.expose(scope, command, ports),
            Action::Healthcheck(check) => self.healthcheck(scope, command, check),
            Action::Label(pairs) => self.label(scope, command, pairs),
            Action::Maintainer(who) => {
                self.state(scope).image.author.clone_from(who);
                self.note(scope, format!("MAINTAINER {who}"), false)
            }
            Action::Onbuild(expression) => {
                self.state(scope)
                    .image
                    .config
                    .on_build
                    .push(expression.clone());
                Ok(())
            }
            Action::Run(run) => self.run(scope, command, run, sources),
            Action::Shell(words) => {
                self.state(scope).image.config.shell.clone_from(words);
                self.note(scope, format!("SHELL [{}]", words.join(" ")), false)
            }
            Action::StopSignal(name) => {
                if !signal::is_signal(name) {
                    return Err(ConvertError::Signal(name.clone()).into());
                }
                self.state(scope).image.config.stop_signal.clone_from(name);
                self.note(scope, format!("STOPSIGNAL {name}"), false)
            }
            Action::User(user) => {
                let state = self.state(scope);
                state.user.clone_from(user);
                state.image.config.user.clone_from(user);
                self.note(scope, format!("USER {user}"), false)
            }
            Action::Volume(volumes) => self.volume(scope, volumes),
            Action::Workdir(path) => self.workdir(scope, command, path),
        }
    }

    pub(super) fn state(&mut self, scope: &Scope<'_>) -> &mut StageState {
        &mut self.stages.list[scope.at]
    }

    /// Counts an entry of a history, or several.
    pub(super) fn charge(&mut self, size: usize) -> Result<(), DockerfileError> {
        self.history_size += size;
        if self.history_size > MAX_HISTORY {
            return Err(ConvertError::HistoryTooLong(MAX_HISTORY).into());
        }
        Ok(())
    }

    /// Notes an instruction in the image's history.
    pub(super) fn note(
        &mut self,
        scope: &Scope<'_>,
        text: String,
        layer: bool,
    ) -> Result<(), DockerfileError> {
        self.charge(text.len())?;
        let created = self.created.clone();
        self.state(scope)
            .image
            .note(text, layer, created.as_deref());
        Ok(())
    }

    /// Expands the variables of an instruction's words, as far as it has such.
    fn expand(
        &mut self,
        scope: &mut Scope<'_>,
        command: &mut Command,
    ) -> Result<(), DockerfileError> {
        let lexer = self.lexer;
        let span = command.span;
        let state = &self.stages.list[scope.at];
        let mut word = |text: &mut String, lexer: Lexer| -> Result<(), DockerfileError> {
            let expanded = lexer.expand(text, &*state.env)?;
            unmatched(&expanded.unmatched, state, span, scope.lint);
            *text = expanded.text;
            Ok(())
        };
        match &mut command.action {
            Action::Env(pairs) | Action::Label(pairs) => {
                for pair in pairs {
                    word(&mut pair.key, lexer)?;
                    word(&mut pair.value, lexer)?;
                }
            }
            Action::Add(transfer) | Action::Copy(transfer) => {
                let Transfer {
                    chown,
                    chmod,
                    checksum,
                    destination,
                    sources,
                    inline,
                    ..
                } = transfer;
                for text in [chown, chmod, checksum].into_iter().chain(sources) {
                    word(text, lexer)?;
                }
                word(destination, lexer)?;
                let raw = Lexer {
                    skip_quotes: true,
                    ..Lexer::new('\\')
                };
                for file in inline.iter_mut().filter(|f| f.expand) {
                    word(&mut file.data, raw)?;
                }
            }
            Action::User(text) | Action::Workdir(text) | Action::StopSignal(text) => {
                word(text, lexer)?;
            }
            Action::Volume(list) => {
                for text in list {
                    word(text, lexer)?;
                }
            }
            _ => {}
        }
        Ok(())
    }

    fn env(
        &mut self,
        scope: &mut Scope<'_>,
        command: &Command,
        pairs: &[Pair],
    ) -> Result<(), DockerfileError> {
        let mut text = "ENV".to_owned();
        for pair in pairs {
            if pair.legacy {
                scope
                    .lint
                    .warn(Rule::LegacyKeyValueFormat, command.span, &[&command.name]);
            }
            checks::secret("ENV", &pair.key, command.span, scope.lint);
            text.push_str(&format!(" {}={}", pair.key, pair.value));
            let state = self.state(scope);
            // a variable that the stage does not know is not in its image either
            let known = state.env.get(&pair.key).is_some();
            std::rc::Rc::make_mut(&mut state.env).set(&pair.key, pair.value.clone());
            state.image.set_env(&pair.key, &pair.value, known);
        }
        self.note(scope, text, false)
    }

    fn label(
        &mut self,
        scope: &mut Scope<'_>,
        command: &Command,
        pairs: &[Pair],
    ) -> Result<(), DockerfileError> {
        let mut text = "LABEL".to_owned();
        for pair in pairs {
            if pair.legacy {
                scope
                    .lint
                    .warn(Rule::LegacyKeyValueFormat, command.span, &[&command.name]);
            }
            text.push_str(&format!(" {}={}", pair.key, pair.value));
            let labels = &mut self.state(scope).image.config.labels;
            labels.insert(pair.key.clone(), pair.value.clone());
        }
        self.note(scope, text, false)
    }

    fn arg(
        &mut self,
        scope: &mut Scope<'_>,
        command: &Command,
        arguments: &[Argument],
    ) -> Result<(), DockerfileError> {
        let mut shown = Vec::new();
        for argument in arguments {
            let mut argument = argument.clone();
            checks::secret("ARG", &argument.key, command.span, scope.lint);
            let given = self.options.build_args.get(&argument.key).cloned();
            let global = self.globals.get(&argument.key).map(str::to_owned);
            let inherited = given.is_none() && argument.value.is_none() && global.is_some();
            argument.value = match (given, argument.value.take()) {
                (Some(value), _) => Some(value),
                (None, Some(default)) => {
                    let state = &self.stages.list[scope.at];
                    let expanded = self.lexer.expand(&default, &*state.env)?;
                    unmatched(&expanded.unmatched, state, command.span, scope.lint);
                    Some(expanded.text)
                }
                (None, None) => global,
            };
            shown.push(match &argument.value {
                Some(value) => format!("{}={value}", argument.key),
                None => argument.key.clone(),
            });
            self.declare(scope, command, argument, inherited);
        }
        self.note(scope, format!("ARG {}", shown.join(" ")), false)
    }

    fn declare(
        &mut self,
        scope: &Scope<'_>,
        command: &Command,
        argument: Argument,
        inherited: bool,
    ) {
        let state = self.state(scope);
        let value = argument.value.clone();
        if let Some(value) = value
            .as_ref()
            .filter(|_| !NOT_ENV.contains(&argument.key.as_str()))
        {
            std::rc::Rc::make_mut(&mut state.env).set(&argument.key, value.clone());
        }
        state.outline.used.insert(argument.key.clone());
        if !inherited {
            let info = ArgInfo {
                value: value.unwrap_or_default(),
                argument: argument.clone(),
                needs: std::collections::BTreeSet::new(),
                span: command.span,
            };
            state.outline.args.insert(argument.key.clone(), info);
        }
        state.args.push(argument);
    }

    /// A command line as the image's configuration has it.
    fn line(
        &mut self,
        scope: &mut Scope<'_>,
        command: &Command,
        line: &CommandLine,
    ) -> Vec<String> {
        if !line.shell {
            return line.words.clone();
        }
        let image = &self.stages.list[scope.at].image;
        if image.config.shell.is_empty() {
            scope
                .lint
                .warn(Rule::JsonArgsRecommended, command.span, &[&command.name]);
        }
        image.in_shell(&line.words)
    }

    fn cmd(
        &mut self,
        scope: &mut Scope<'_>,
        command: &Command,
        line: &CommandLine,
    ) -> Result<(), DockerfileError> {
        let last = &mut self.stages.list[scope.at].last_cmd;
        checks::once(&command.name, last, command.span, scope.lint);
        let words = self.line(scope, command, line);
        let text = format!("CMD {}", quote_list(&words));
        let config = &mut self.state(scope).image.config;
        config.cmd = words;
        config.args_escaped = true;
        self.note(scope, text, false)
    }

    fn entrypoint(
        &mut self,
        scope: &mut Scope<'_>,
        command: &Command,
        line: &CommandLine,
    ) -> Result<(), DockerfileError> {
        let last = &mut self.stages.list[scope.at].last_entrypoint;
        checks::once(&command.name, last, command.span, scope.lint);
        let words = self.line(scope, command, line);
        let text = format!("ENTRYPOINT {}", quote_list(&words));
        let state = self.state(scope);
        state.image.config.entrypoint = words;
        // arguments of the base's program are none of this one's
        if state.last_cmd.is_none() {
            state.image.config.cmd.clear();
        }
        self.note(scope, text, false)
    }

    fn healthcheck(
        &mut self,
        scope: &mut Scope<'_>,
        command: &Command,
        check: &Healthcheck,
    ) -> Result<(), DockerfileError> {
        let last = &mut self.stages.list[scope.at].last_healthcheck;
        checks::once(&command.name, last, command.span, scope.lint);
        let config = HealthConfig::from(check);
        let text = format!("HEALTHCHECK {}", config.shown());
        self.state(scope).image.config.healthcheck = Some(config);
        self.note(scope, text, false)
    }

    fn expose(
        &mut self,
        scope: &mut Scope<'_>,
        command: &Command,
        written: &[String],
    ) -> Result<(), DockerfileError> {
        let mut found = Vec::new();
        for text in written {
            let env = &self.stages.list[scope.at].env;
            for word in self.lexer.expand(text, &**env)?.words {
                let ports = ports::parse(&word, command.span, scope.lint);
                found.extend(ports.map_err(ConvertError::Port)?);
            }
        }
        let text = format!("EXPOSE [{}]", found.join(" "));
        let exposed = &mut self.state(scope).image.config.exposed_ports;
        exposed.extend(found.into_iter().map(|p| (p, Present {})));
        self.note(scope, text, false)
    }

    fn volume(&mut self, scope: &Scope<'_>, volumes: &[String]) -> Result<(), DockerfileError> {
        if volumes.iter().any(String::is_empty) {
            return Err(ConvertError::EmptyVolume.into());
        }
        let all = &mut self.state(scope).image.config.volumes;
        all.extend(volumes.iter().map(|v| (v.clone(), Present {})));
        self.note(scope, format!("VOLUME [{}]", volumes.join(" ")), false)
    }

    /// Sets the folder of what follows; a relative one lies in the one before.
    fn set_folder(&mut self, at: usize, path: &str) -> String {
        let state = &mut self.stages.list[at];
        let current = &state.image.config.working_dir;
        let folder = if path.is_empty() || path.starts_with('/') {
            if path.is_empty() {
                join_path(&["/", current])
            } else {
                path.to_owned()
            }
        } else {
            join_path(&["/", current, path])
        };
        state.image.config.working_dir.clone_from(&folder);
        state.folder.clone_from(&folder);
        folder
    }

    fn workdir(
        &mut self,
        scope: &mut Scope<'_>,
        command: &Command,
        path: &str,
    ) -> Result<(), DockerfileError> {
        let state = &mut self.stages.list[scope.at];
        if !state.workdir_set && !path.starts_with('/') {
            scope
                .lint
                .warn(Rule::WorkdirRelativePath, command.span, &[path]);
        }
        state.workdir_set = true;
        let folder = self.set_folder(scope.at, path);
        let layer = folder != "/";
        if layer {
            let env = std::rc::Rc::clone(&self.stages.list[scope.at].env);
            let shown = self.shown(&command.code, self.lexer, &*env);
            let meta = self.named(scope, &shown, &env).at(command.span);
            let user = self.state(scope).image.config.user.clone();
            let inputs = self.state(scope).root;
            let mkdir = pb::FileActionMkDir {
                path: crate::gofmt::clean_path(&folder),
                mode: 0o755,
                make_parents: true,
                owner: super::copy::owner(&user, if inputs.is_some() { 0 } else { -1 }),
                timestamp: self.nanoseconds(),
            };
            let action = pb::file_action::Action::Mkdir(mkdir);
            let root = self.actions(inputs, vec![(None, action)], meta)?;
            self.state(scope).root = root;
        }
        self.note(scope, format!("WORKDIR {folder}"), layer)
    }

    /// The time that files get, in nanoseconds; -1 leaves it to the solver.
    pub(super) fn nanoseconds(&self) -> i64 {
        self.epoch
            .and_then(|s| s.checked_mul(1_000_000_000))
            .unwrap_or(-1)
    }

    /// A step's instruction as it is shown: in upper case, with its variables expanded.
    pub(super) fn shown(&self, code: &str, lexer: Lexer, env: &dyn Lookup) -> String {
        let text = lexer.word(code, env).unwrap_or_else(|_| code.to_owned());
        match text.split_once(' ') {
            Some((name, rest)) => format!("{} {rest}", name.to_uppercase()),
            None => text.to_uppercase(),
        }
    }

    /// A step with its name, which counts it.
    pub(super) fn named(&mut self, scope: &Scope<'_>, shown: &str, env: &EnvList) -> Meta {
        let platform = self.stages.list[scope.at].platform.clone();
        let name = self.step_name(scope.at, shown, platform.as_ref(), env, scope.is_trigger);
        Meta::named(name)
    }

    /// `[stage 2/5] RUN …`
    pub(super) fn step_name(
        &mut self,
        at: usize,
        shown: &str,
        platform: Option<&Platform>,
        env: &dyn Lookup,
        is_trigger: bool,
    ) -> String {
        let multi = self.options.multi_platform;
        let state = &mut self.stages.list[at];
        if state.total == 0 {
            return shown.to_owned();
        }
        let mut name = "[".to_owned();
        if let Some(platform) = platform.filter(|_| multi) {
            name.push_str(&format!("{platform}{} ", cross(platform, env)));
        }
        if !state.name.is_empty() {
            name.push_str(&state.name);
            name.push(' ');
        }
        state.number += 1;
        let width = state.total.to_string().len();
        name.push_str(&format!("{:width$}/{}] ", state.number, state.total));
        if is_trigger {
            name.push_str("ONBUILD ");
        }
        name + shown
    }

    fn scans(&mut self, at: usize) {
        let stage = self.stages.list[at].name.clone();
        for (number, key) in NOT_ENV.into_iter().enumerate() {
            let mut wanted = self.globals.get(key).map(|v| is_enabled(&stage, v));
            let state = &mut self.stages.list[at];
            for argument in state.args.iter().filter(|a| a.key == key) {
                if let Some(value) = &argument.value {
                    wanted = Some(is_enabled(&stage, value));
                }
            }
            if wanted == Some(true) {
                if number == 0 {
                    state.scan_context = true;
                } else {
                    state.scan_stage = true;
                }
            }
        }
    }

    /// Copies of files, as one operation.
    pub(super) fn file_op(
        &mut self,
        root: State,
        copies: Vec<(State, pb::FileActionCopy)>,
        meta: Meta,
    ) -> Result<State, DockerfileError> {
        let actions = copies
            .into_iter()
            .map(|(s, c)| (s, pb::file_action::Action::Copy(c)));
        self.actions(root, actions.collect(), meta)
    }

    /// Adds file actions upon a root, each with the root that it copies from.
    ///
    /// Files are the same on every platform: the operation names none.
    pub(super) fn actions(
        &mut self,
        root: State,
        actions: Vec<(State, pb::file_action::Action)>,
        meta: Meta,
    ) -> Result<State, DockerfileError> {
        let mut inputs = crate::llb::Inputs::default();
        let base = inputs.number(root);
        let sources: Vec<i64> = actions
            .iter()
            .map(|(source, _)| inputs.number(*source))
            .collect();
        let count = inputs.count();
        let last = actions.len().saturating_sub(1);
        let actions = actions.into_iter().zip(sources).zip(0_i64..);
        let list = actions.map(|(((_, action), secondary_input), number)| pb::FileAction {
            // the results of actions are numbered behind the inputs
            input: if number == 0 {
                base
            } else {
                count + number - 1
            },
            secondary_input,
            output: if usize::try_from(number) == Ok(last) {
                0
            } else {
                -1
            },
            action: Some(action),
        });
        let op = pb::op::Op::File(pb::FileOp {
            actions: list.collect(),
        });
        let meta = meta.with_caps(&[caps::FILE_BASE]);
        Ok(Some(self.graph.add(&inputs, op, None, &meta)?))
    }
}

/// The instruction that is converted: its stage, whether it came from a trigger, its checks.
pub(super) struct Scope<'a> {
    pub(super) at: usize,
    pub(super) is_trigger: bool,
    pub(super) lint: &'a mut Linter,
}

/// Warns of variables that nobody set.
pub(super) fn unmatched(
    names: &std::collections::BTreeSet<String>,
    state: &StageState,
    span: crate::Span,
    lint: &mut Linter,
) {
    for name in names {
        let declared = state.args.iter().any(|a| a.key == *name);
        if declared || lint.is_full() || NOT_ENV.contains(&name.as_str()) {
            continue;
        }
        let near = suggest::nearest(name, state.env.names());
        lint.warn(Rule::UndefinedVar, span, &[name, near.unwrap_or_default()]);
    }
}

/// `->arch` where a step builds for another platform than it runs on.
fn cross(platform: &Platform, env: &dyn Lookup) -> String {
    let target = match env
        .get("TARGETPLATFORM")
        .and_then(|t| t.parse::<Platform>().ok())
    {
        Some(target) => target,
        None => {
            let get = |key| env.get(key).filter(|v| !v.is_empty()).map(str::to_owned);
            Platform {
                os: get("TARGETOS").unwrap_or_else(|| platform.os.clone()),
                architecture: get("TARGETARCH").unwrap_or_else(|| platform.architecture.clone()),
                variant: get("TARGETVARIANT"),
                os_version: None,
            }
        }
    };
    if target.os != platform.os {
        return format!("->{target}");
    }
    if target.architecture == platform.architecture {
        return String::new();
    }
    let variant = target
        .variant
        .as_ref()
        .map(|v| format!("/{v}"))
        .unwrap_or_default();
    format!("->{}{variant}", target.architecture)
}

/// Whether a value says yes, or names the stage.
fn is_enabled(stage: &str, value: &str) -> bool {
    parse_bool(value).unwrap_or_else(|| value.split(',').any(|name| name == stage))
}
