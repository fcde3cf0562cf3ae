//! Checks that look at more than one instruction.

use std::collections::{BTreeSet, HashSet};

use oci::{Platform, Reference};

use crate::env::{EnvList, Lookup};
use crate::expand::Expanded;
use crate::instruction::Stage;
use crate::lint::{Linter, Rule};
use crate::span::Span;
use crate::suggest;

/// Words of names that hold secrets.
const SECRET: [&str; 10] = [
    "apikey",
    "auth",
    "credential",
    "credentials",
    "key",
    "password",
    "pword",
    "passwd",
    "secret",
    "token",
];

pub(super) fn stage_names(stages: &[Stage], lint: &mut Linter) {
    let mut seen = HashSet::new();
    for stage in stages.iter().filter(|s| !s.name.is_empty()) {
        if matches!(stage.name.as_str(), "context" | "scratch") {
            lint.warn(Rule::ReservedStageName, stage.span, &[&stage.name]);
        }
        if !seen.insert(&stage.name) {
            lint.warn(Rule::DuplicateStageName, stage.span, &[&stage.name]);
        }
    }
}

/// Instructions should all be written in the case that most of them are written in.
pub(super) fn casing(stages: &[Stage], lint: &mut Linter) {
    let names = || {
        stages.iter().flat_map(|s| {
            let commands = s.commands.iter().map(|c| (c.name.as_str(), c.span));
            std::iter::once((s.keyword.as_str(), s.span)).chain(commands)
        })
    };
    let lower = names().filter(|(n, _)| *n == n.to_lowercase()).count();
    let upper = names().filter(|(n, _)| *n == n.to_uppercase()).count();
    for (name, span) in names() {
        if lower > upper && name != name.to_lowercase() {
            lint.warn(
                Rule::ConsistentInstructionCasing,
                span,
                &[name, "lowercase"],
            );
        } else if lower <= upper && name != name.to_uppercase() {
            lint.warn(
                Rule::ConsistentInstructionCasing,
                span,
                &[name, "uppercase"],
            );
        }
    }
}

pub(super) fn default_base(stage: &Stage, base: &str, lint: &mut Linter) {
    if base.parse::<Reference>().is_err() {
        lint.warn(Rule::InvalidDefaultArgInFrom, stage.span, &[&stage.base]);
    }
}

/// Arguments of a `FROM` must be declared before it.
pub(super) fn undeclared(
    unmatched: &BTreeSet<String>,
    declared: &BTreeSet<String>,
    span: Span,
    lint: &mut Linter,
) {
    for name in unmatched.iter().filter(|n| !declared.contains(*n)) {
        let near = suggest::nearest(name, declared.iter().map(String::as_str));
        lint.warn(
            Rule::UndefinedArgInFrom,
            span,
            &[name, near.unwrap_or_default()],
        );
    }
}

/// `--platform=$TARGETPLATFORM` is what happens anyway; a constant ties the stage to a machine.
pub(super) fn platform_flag(
    stage: &Stage,
    expanded: &Expanded,
    globals: &EnvList,
    lint: &mut Linter,
) {
    let only = expanded.matched.len() == 1 && expanded.unmatched.is_empty();
    let target = "TARGETPLATFORM";
    if only
        && expanded.matched.contains(target)
        && globals.get(target) == Some(expanded.text.as_str())
    {
        lint.warn(
            Rule::RedundantTargetPlatform,
            stage.span,
            &[&stage.platform],
        );
    }
    if !expanded.matched.is_empty() || !expanded.unmatched.is_empty() {
        return;
    }
    if let Ok(platform) = expanded.text.parse::<Platform>()
        && !stage.name.contains(&platform.os)
        && !stage.name.contains(&platform.architecture)
    {
        lint.warn(
            Rule::FromPlatformFlagConstDisallowed,
            stage.span,
            &[&expanded.text],
        );
    }
}

/// A name of which a word, or the whole, says that it holds a secret.
pub(super) fn secret(instruction: &str, key: &str, span: Span, lint: &mut Linter) {
    let lower = key.to_lowercase();
    let has = |words: &[&str]| lower.split('_').any(|part| words.contains(&part));
    if has(&SECRET) && !has(&["public"]) {
        lint.warn(Rule::SecretsUsedInArgOrEnv, span, &[instruction, key]);
    }
}

/// Of some instructions only the last one of a stage counts.
pub(super) fn once(name: &str, last: &mut Option<Span>, span: Span, lint: &mut Linter) {
    if let Some(before) = last.replace(span) {
        lint.warn(Rule::MultipleInstructionsDisallowed, before, &[name]);
    }
}

/// The platform that came should be the one that was asked for.
pub(super) fn base_platform(
    name: &str,
    expected: &Platform,
    found: &Platform,
    span: Span,
    lint: &mut Linter,
) {
    if expected.os != found.os || expected.architecture != found.architecture {
        let (expected, found) = (expected.to_string(), found.to_string());
        lint.warn(
            Rule::InvalidBaseImagePlatform,
            span,
            &[name, &expected, &found],
        );
    }
}
