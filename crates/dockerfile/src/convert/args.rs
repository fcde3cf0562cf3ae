//! Build arguments: platform arguments, global ones, and what `--call outline` shows of them.

use std::collections::{BTreeMap, BTreeSet};

use super::{ConvertError, Converter};
use crate::env::EnvList;
use crate::error::DockerfileError;
use crate::expand::Lexer;
use crate::instruction::{Action, Argument, Command};
use crate::span::Span;

/// A file may declare this many arguments before its first stage: each stage knows them all.
const MAX_GLOBALS: usize = 2_000;

/// A declared argument.
#[derive(Clone, Debug)]
pub(crate) struct ArgInfo {
    pub(crate) value: String,
    pub(crate) argument: Argument,
    pub(crate) needs: BTreeSet<String>,
    pub(crate) span: Span,
}

/// A secret or an agent that a step asks for.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Demand {
    pub(crate) required: bool,
    pub(crate) span: Span,
}

/// What a stage takes from its caller.
#[derive(Clone, Debug, Default)]
pub(crate) struct Outline {
    pub(crate) args: BTreeMap<String, ArgInfo>,
    pub(crate) used: BTreeSet<String>,
    pub(crate) secrets: BTreeMap<String, Demand>,
    pub(crate) ssh: BTreeMap<String, Demand>,
}

/// `SOURCE_DATE_EPOCH`, if it is given and not empty.
pub(super) fn epoch(args: &BTreeMap<String, String>) -> Result<Option<i64>, ConvertError> {
    match args.get("SOURCE_DATE_EPOCH").filter(|t| !t.is_empty()) {
        None => Ok(None),
        Some(text) => match text.parse().ok().filter(|n| timestamp(*n).is_some()) {
            Some(seconds) => Ok(Some(seconds)),
            None => Err(ConvertError::Epoch(text.clone())),
        },
    }
}

/// Seconds since the epoch as RFC 3339 in UTC.
pub(super) fn timestamp(seconds: i64) -> Option<String> {
    Some(jiff::Timestamp::from_second(seconds).ok()?.to_string())
}

/// Sets the arguments before the first stage, each expanded with those before it.
fn declare(
    env: &mut EnvList,
    commands: &[Command],
    given: &BTreeMap<String, String>,
    lexer: Lexer,
) -> Result<BTreeMap<String, ArgInfo>, DockerfileError> {
    let mut infos: BTreeMap<String, ArgInfo> = BTreeMap::new();
    for command in commands {
        let Action::Arg(arguments) = &command.action else {
            continue;
        };
        for argument in arguments {
            let mut argument = argument.clone();
            let mut needs = BTreeSet::new();
            if let Some(value) = given.get(&argument.key) {
                argument.value = Some(value.clone());
            } else if let Some(default) = &argument.value {
                let expanded = lexer
                    .expand(default, env)
                    .map_err(|e| DockerfileError::at(e, command.span))?;
                needs = expanded.matched;
                // an argument that is made from itself needs what it needed before
                if needs.remove(&argument.key)
                    && let Some(old) = infos.get(&argument.key)
                {
                    needs.extend(old.needs.iter().cloned());
                }
                argument.value = Some(expanded.text);
            }
            if let Some(value) = &argument.value {
                env.set(&argument.key, value.clone());
            }
            let value = argument.value.clone().unwrap_or_default();
            let info = ArgInfo {
                value,
                needs,
                span: command.span,
                argument,
            };
            infos.insert(info.argument.key.clone(), info);
        }
    }
    Ok(infos)
}

impl Converter<'_> {
    /// Sets platform arguments and global arguments, and checks the latter's defaults.
    pub(super) fn global_args(&mut self) -> Result<(), DockerfileError> {
        let defaults = self.platform_args();
        let commands = std::mem::take(&mut self.parsed.globals);
        let declared = commands.iter().map(|c| match &c.action {
            Action::Arg(arguments) => arguments.len(),
            _ => 0,
        });
        if declared.sum::<usize>() > MAX_GLOBALS {
            let (what, most) = ("global arguments", MAX_GLOBALS);
            return Err(ConvertError::TooMany { what, most }.into());
        }
        let mut unset = defaults.clone();
        if declare(&mut unset, &commands, &BTreeMap::new(), self.lexer).is_ok() {
            for stage in &self.parsed.stages {
                let Ok(base) = self.lexer.word(&stage.base, &unset) else {
                    break;
                };
                super::checks::default_base(stage, &base, &mut self.lint);
            }
        }
        self.globals = defaults;
        let given = &self.options.build_args;
        self.outline.args = declare(&mut self.globals, &commands, given, self.lexer)?;
        Ok(())
    }

    fn platform_args(&self) -> EnvList {
        let build = self
            .options
            .build_platforms
            .first()
            .cloned()
            .unwrap_or_else(oci::Platform::host);
        let target = &self.platform;
        let stages = &self.parsed.stages;
        let last = stages.last().map(|s| s.name.clone()).unwrap_or_default();
        let stage = Some(self.options.target.clone())
            .filter(|t| !t.is_empty())
            .unwrap_or(last);
        let stage = if stage.is_empty() {
            "default".to_owned()
        } else {
            stage
        };
        let optional = |t: &Option<String>| t.clone().unwrap_or_default();
        let mut env = EnvList::default();
        for (key, value) in [
            ("BUILDPLATFORM", build.to_string()),
            ("BUILDOS", build.os.clone()),
            ("BUILDOSVERSION", optional(&build.os_version)),
            ("BUILDARCH", build.architecture.clone()),
            ("BUILDVARIANT", optional(&build.variant)),
            ("TARGETPLATFORM", target.to_string()),
            ("TARGETOS", target.os.clone()),
            ("TARGETOSVERSION", optional(&target.os_version)),
            ("TARGETARCH", target.architecture.clone()),
            ("TARGETVARIANT", optional(&target.variant)),
            ("TARGETSTAGE", stage),
        ] {
            let given = self.options.build_args.get(key).cloned();
            env.set(key, given.unwrap_or(value));
        }
        env
    }
}
