//! `--call`: what a Dockerfile offers, instead of building it.
//!
//! Each answer has the JSON and the text that `BuildKit`'s front end gives.

use std::collections::HashSet;
use std::fmt::Write as _;

use base64::Engine as _;
use serde::Serialize;

use crate::convert::{ConvertError, Converter, Options, Resolve, run};
use crate::error::DockerfileError;
use crate::excerpt;
use crate::gofmt;
use crate::instruction;
use crate::lint::{Linter, Warning};
use crate::llb::SourceFile;
use crate::pb;
use crate::span::Span;
use crate::syntax::Document;

/// The version of all answers.
pub const VERSION: &str = "1.0.0";

/// An answer.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Answer {
    /// `result.json`.
    pub json: Vec<u8>,
    /// `result.txt`.
    pub text: String,
    /// `result.statuscode`, of checks: 1 where there is something to say.
    pub status: Option<u8>,
}

#[derive(Serialize)]
struct Position {
    #[serde(skip_serializing_if = "is_zero")]
    line: u32,
}

#[derive(Serialize)]
struct Range {
    start: Position,
    end: Position,
}

#[derive(Serialize, Default)]
struct Location {
    #[serde(skip_serializing_if = "Vec::is_empty")]
    ranges: Vec<Range>,
}

#[expect(
    clippy::trivially_copy_pass_by_ref,
    reason = "serde passes fields by reference"
)]
fn is_zero(n: &u32) -> bool {
    *n == 0
}

impl Location {
    fn new(spans: &[Span]) -> Self {
        let lines = spans.iter().flat_map(|s| s.start..=s.end).take(1000);
        let range = |line| Range {
            start: Position { line },
            end: Position { line },
        };
        Self {
            ranges: lines.map(range).collect(),
        }
    }
}

fn base64(data: &[u8]) -> String {
    base64::engine::general_purpose::STANDARD.encode(data)
}

/// Columns with this much space between them; the last one is not filled.
fn table(rows: &[Vec<String>], space: usize) -> String {
    let columns = rows
        .iter()
        .map(Vec::len)
        .max()
        .unwrap_or(0)
        .saturating_sub(1);
    let wide = |column: usize| {
        rows.iter()
            .filter_map(|r| r.get(column))
            .map(|c| c.chars().count())
            .max()
            .unwrap_or(0)
    };
    let widths: Vec<usize> = (0..columns).map(|c| wide(c) + space).collect();
    let mut out = String::new();
    for row in rows {
        for (at, cell) in row.iter().enumerate() {
            let width = widths
                .get(at)
                .copied()
                .filter(|_| at + 1 < row.len())
                .unwrap_or(0);
            // writing to a string does not fail
            let _ = write!(out, "{cell:width$}");
        }
        out.push('\n');
    }
    out
}

fn row(cells: &[&str]) -> Vec<String> {
    cells.iter().map(|c| (*c).to_owned()).collect()
}

fn answer(value: &impl Serialize, text: String) -> Result<Answer, DockerfileError> {
    let json = gofmt::json_indented(value).map_err(ConvertError::WriteConfig)?;
    Ok(Answer {
        json,
        text,
        status: None,
    })
}

/// `--call=targets`: the stages that can be built.
///
/// # Errors
/// When the file cannot be read.
pub fn targets(data: &[u8]) -> Result<Answer, DockerfileError> {
    #[derive(Serialize)]
    struct Target {
        #[serde(skip_serializing_if = "String::is_empty")]
        name: String,
        #[serde(skip_serializing_if = "std::ops::Not::not")]
        default: bool,
        #[serde(skip_serializing_if = "String::is_empty")]
        description: String,
        #[serde(skip_serializing_if = "String::is_empty")]
        base: String,
        #[serde(skip_serializing_if = "String::is_empty")]
        platform: String,
        location: Location,
    }
    #[derive(Serialize)]
    struct List {
        targets: Vec<Target>,
        sources: Vec<String>,
    }
    let stages = instruction::parse(&Document::parse(data)?, &mut Linter::silent())?.stages;
    let mut rows = vec![row(&["TARGET", "DESCRIPTION"])];
    let last = stages.len().saturating_sub(1);
    let mut targets = Vec::new();
    for (at, stage) in stages.into_iter().enumerate() {
        let default = at == last;
        let shown = match (stage.name.as_str(), default) {
            ("", true) => "(default)".to_owned(),
            (name, true) => format!("{name} (default)"),
            (name, false) => name.to_owned(),
        };
        rows.push(vec![shown, stage.description.clone()]);
        targets.push(Target {
            name: stage.name,
            default,
            description: stage.description,
            base: stage.base,
            platform: stage.platform,
            location: Location::new(&[stage.span]),
        });
    }
    answer(
        &List {
            targets,
            sources: vec![base64(data)],
        },
        table(&rows, 1),
    )
}

#[derive(Serialize)]
struct OutlineArg {
    name: String,
    #[serde(skip_serializing_if = "String::is_empty")]
    description: String,
    #[serde(skip_serializing_if = "String::is_empty")]
    value: String,
    location: Location,
}

#[derive(Serialize)]
struct OutlineDemand {
    name: String,
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    required: bool,
    location: Location,
}

#[derive(Serialize, Default)]
struct Outline {
    #[serde(skip_serializing_if = "String::is_empty")]
    name: String,
    #[serde(skip_serializing_if = "String::is_empty")]
    description: String,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    args: Vec<OutlineArg>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    secrets: Vec<OutlineDemand>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    ssh: Vec<OutlineDemand>,
    sources: Vec<String>,
}

/// `--call=outline`: what the target takes: arguments, secrets, agents.
///
/// # Errors
/// When the file cannot be converted.
pub fn outline(
    data: &[u8],
    options: &Options,
    resolve: &mut dyn Resolve,
) -> Result<Answer, DockerfileError> {
    let (_, outline) = run(data, options, resolve, |c, target| {
        Ok(collect(c, target, data))
    });
    let outline = outline?;
    let text = outline_text(&outline);
    answer(&outline, text)
}

/// The stages that a target is made of, itself first.
fn chain(converter: &Converter<'_>, target: usize) -> Vec<usize> {
    let stages = &converter.stages.list;
    let (mut found, mut open) = (Vec::new(), vec![target]);
    let mut seen = HashSet::new();
    while let Some(at) = open.pop() {
        if seen.insert(at) {
            found.push(at);
            open.extend(stages[at].needs.iter().rev().map(|(need, _)| *need));
            open.extend(stages[at].base);
        }
    }
    found
}

fn collect(converter: &Converter<'_>, target: usize, data: &[u8]) -> Outline {
    let stages = &converter.stages.list;
    let stage = &stages[target].stage;
    let mut outline = Outline {
        name: stage.name.clone(),
        description: stage.description.clone(),
        sources: vec![base64(data)],
        ..Outline::default()
    };
    let (mut args, mut secrets, mut ssh) = (HashSet::new(), HashSet::new(), HashSet::new());
    for at in chain(converter, target) {
        let own = &stages[at].outline;
        let mut open: Vec<&String> = own.used.iter().collect();
        while let Some(name) = open.pop() {
            let Some(info) = own.args.get(name) else {
                continue;
            };
            if args.insert(name.clone()) {
                open.extend(&info.needs);
                outline.args.push(OutlineArg {
                    name: name.clone(),
                    description: info.argument.comment.clone(),
                    value: info.value.clone(),
                    location: Location::new(&[info.span]),
                });
            }
        }
        for (list, seen, demands) in [
            (&mut outline.secrets, &mut secrets, &own.secrets),
            (&mut outline.ssh, &mut ssh, &own.ssh),
        ] {
            for (name, demand) in demands.iter().filter(|(n, _)| seen.insert((*n).clone())) {
                list.push(OutlineDemand {
                    name: name.clone(),
                    required: demand.required,
                    location: Location::new(&[demand.span]),
                });
            }
        }
    }
    let line = |l: &Location| l.ranges.first().map_or(0, |r| r.start.line);
    outline.args.sort_by_key(|a| line(&a.location));
    outline.secrets.sort_by_key(|d| line(&d.location));
    outline.ssh.sort_by_key(|d| line(&d.location));
    outline
}

fn outline_text(outline: &Outline) -> String {
    let mut text = String::new();
    if !outline.name.is_empty() || !outline.description.is_empty() {
        let name = if outline.name.is_empty() {
            "(default)"
        } else {
            &outline.name
        };
        let mut rows = vec![row(&["TARGET:", name])];
        if !outline.description.is_empty() {
            rows.push(row(&["DESCRIPTION:", &outline.description]));
        }
        text.push_str(&table(&rows, 1));
        text.push('\n');
    }
    if !outline.args.is_empty() {
        let mut rows = vec![row(&["BUILD ARG", "VALUE", "DESCRIPTION"])];
        rows.extend(
            outline
                .args
                .iter()
                .map(|a| row(&[&a.name, &a.value, &a.description])),
        );
        text.push_str(&table(&rows, 3));
        text.push('\n');
    }
    for (title, demands) in [("SECRET", &outline.secrets), ("SSH", &outline.ssh)] {
        if demands.is_empty() {
            continue;
        }
        let mut rows = vec![row(&[title, "REQUIRED"])];
        let shown = |d: &OutlineDemand| row(&[&d.name, if d.required { "true" } else { "" }]);
        rows.extend(demands.iter().map(shown));
        text.push_str(&table(&rows, 3));
        text.push('\n');
    }
    text
}

/// A message of LLB about a source file, as Go's `encoding/json` writes it.
#[derive(Serialize)]
struct SourceJson {
    filename: String,
    data: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    definition: Option<serde_json::Value>,
    language: String,
}

fn source_json(file: &SourceFile, data: &[u8]) -> SourceJson {
    SourceJson {
        filename: file.filename.clone(),
        data: base64(data),
        definition: file.definition.as_ref().map(definition_json),
        language: "Dockerfile".to_owned(),
    }
}

fn definition_json(definition: &pb::Definition) -> serde_json::Value {
    let mut metadata = serde_json::Map::new();
    for (digest, meta) in &definition.metadata {
        let mut entry = serde_json::Map::new();
        if meta.ignore_cache {
            entry.insert("ignore_cache".to_owned(), true.into());
        }
        if !meta.description.is_empty() {
            entry.insert(
                "description".to_owned(),
                serde_json::json!(meta.description),
            );
        }
        if !meta.caps.is_empty() {
            entry.insert("caps".to_owned(), serde_json::json!(meta.caps));
        }
        metadata.insert(digest.clone(), entry.into());
    }
    let operations: Vec<String> = definition.def.iter().map(|d| base64(d)).collect();
    serde_json::json!({ "def": operations, "metadata": metadata })
}

/// `--call=lint`: what the checks say; an error of the file is part of the answer.
///
/// # Errors
/// When the answer cannot be written.
pub fn lint(
    data: &[u8],
    options: &Options,
    resolve: &mut dyn Resolve,
) -> Result<Answer, DockerfileError> {
    #[derive(Serialize)]
    #[serde(rename_all = "camelCase")]
    struct WarningJson {
        rule_name: &'static str,
        description: &'static str,
        #[serde(skip_serializing_if = "String::is_empty")]
        url: String,
        detail: String,
        location: Location,
    }
    #[derive(Serialize)]
    struct BuildError {
        message: String,
        location: Location,
    }
    #[derive(Serialize)]
    struct Results {
        warnings: Option<Vec<WarningJson>>,
        sources: Vec<SourceJson>,
        #[serde(rename = "buildError", skip_serializing_if = "Option::is_none")]
        error: Option<BuildError>,
    }
    let all = Options {
        all_stages: options.target.is_empty(),
        ..options.clone()
    };
    let (warnings, result) = run(data, &all, resolve, |_, _| Ok(()));
    let json = |w: &Warning| WarningJson {
        rule_name: w.rule.name(),
        description: w.rule.description(),
        url: w.rule.url(),
        detail: w.message.clone(),
        location: Location::new(&w.span.into_iter().collect::<Vec<_>>()),
    };
    let results = Results {
        warnings: Some(warnings.iter().map(json).collect()).filter(|w: &Vec<_>| !w.is_empty()),
        sources: vec![source_json(&options.file, data)],
        error: result.err().map(|e| BuildError {
            location: Location::new(&e.spans),
            message: e.to_string(),
        }),
    };
    let mut answer = answer(&results, lint_text(data, &options.file.filename, &warnings))?;
    answer.status = Some(u8::from(!warnings.is_empty() || results.error.is_some()));
    Ok(answer)
}

fn lint_text(data: &[u8], filename: &str, warnings: &[Warning]) -> String {
    let source = String::from_utf8_lossy(data);
    let mut sorted: Vec<&Warning> = warnings.iter().collect();
    sorted.sort_by_key(|w| w.span);
    let mut text = String::new();
    for warning in sorted {
        let url = warning.rule.url();
        let url = if url.is_empty() {
            url
        } else {
            format!(" - {url}")
        };
        let spans: Vec<Span> = warning.span.into_iter().collect();
        // writing to a string does not fail
        let _ = write!(
            text,
            "\nWARNING: {}{url}\n{}\n",
            warning.rule.name(),
            warning.message
        );
        text.push_str(&excerpt(filename, &source, &spans));
    }
    text
}

/// `--call=subrequests.describe`: what can be called.
///
/// # Errors
/// When the answer cannot be written.
pub fn describe() -> Result<Answer, DockerfileError> {
    let call = |name: &str, description: &str, options: serde_json::Value, more: &[&str]| {
        let results = ["result.json", "result.txt"].iter().chain(more);
        let metadata: Vec<_> = results.map(|r| serde_json::json!({ "Name": r })).collect();
        serde_json::json!({
            "Name": name,
            "Version": VERSION,
            "Type": "rpc",
            "Description": description,
            "Opts": options,
            "Metadata": metadata,
        })
    };
    let target = serde_json::json!([{ "Name": "target", "Description": "Target build stage" }]);
    let none = serde_json::Value::Null;
    let calls = [
        (
            "frontend.outline",
            "List all parameters current build target supports",
            target,
            &[][..],
        ),
        (
            "frontend.targets",
            "List all targets current build supports",
            none.clone(),
            &[],
        ),
        (
            "frontend.lint",
            "Lint a Dockerfile",
            none.clone(),
            &["result.statuscode"],
        ),
        (
            "frontend.subrequests.describe",
            "List available subrequest types",
            none,
            &[],
        ),
    ];
    let mut rows = vec![row(&["NAME", "VERSION", "DESCRIPTION"])];
    let mut list = Vec::new();
    for (name, description, options, more) in calls {
        rows.push(row(&[
            name.trim_start_matches("frontend."),
            VERSION,
            description,
        ]));
        list.push(call(name, description, options, more));
    }
    answer(&list, table(&rows, 1))
}
