//! Twenty-four steps: small ones, two branches that sleep, and a copy of two thousand files.

use super::lab::{Builder, Lab, files, one, write};
use crate::bench::report::{Bound, Goal, Row, Unit};
use crate::bench::turns::{self, Turn};
use anyhow::Result;
use std::fmt::Write as _;
use std::path::PathBuf;

/// What the build without a cache may take, milliseconds: a second of it is sleep.
const FRESH: f64 = 1700.0;
/// What it may take with everything there, by our own command line.
const CACHED: f64 = 40.0;
/// What it may take beyond the start of Docker's command line, milliseconds.
const BEYOND: f64 = 50.0;

fn dockerfile(base: &str) -> String {
    let mut text = format!("FROM {base} AS one\nRUN sleep 1 && echo 1 >/one\n");
    let _ = write!(
        text,
        "FROM {base} AS two\nRUN sleep 1 && echo 2 >/two\nFROM {base}\n"
    );
    for number in 0..20 {
        let _ = writeln!(text, "RUN echo {number} >/step-{number}");
    }
    text + "COPY files /files\nCOPY --from=one /one /\nCOPY --from=two /two /\n"
}

fn contexts<'a>(lab: &'a Lab<'_>) -> Result<Vec<(Builder<'a>, PathBuf)>> {
    lab.builders()
        .into_iter()
        .map(|builder| {
            let context = lab.context(&format!("steps-{}", builder.base().replace('/', "-")))?;
            files(&context.join("files"), 2000)?;
            write(&context.join("Dockerfile"), dockerfile(builder.base()))?;
            Ok((builder, context))
        })
        .collect()
}

/// With no cache.
pub(super) fn fresh(lab: &Lab<'_>) -> Result<Vec<Row>> {
    let contexts = contexts(lab)?;
    let mut turns: Vec<Turn<'_, f64>> = contexts
        .iter()
        .map(|(builder, context)| {
            Turn::new(builder.name(), move || {
                builder.once(context, &["--no-cache", "-t", "bench/steps"])
            })
        })
        .collect();
    turns::take(lab.bench.plan.long_rounds, &mut turns);
    let mut row = Row::new(
        "build of 24 steps without a cache (1 s of it is sleep)",
        Unit::Milliseconds,
        turns::figures(&turns, |time| vec![*time]),
    );
    row.goal_at_most(FRESH);
    row.goal_ratio("docker", "gorae", Bound::AtLeast(3.0));
    Ok(vec![row])
}

/// The same again, with everything there.
pub(super) fn cached(lab: &Lab<'_>) -> Result<Vec<Row>> {
    let contexts = contexts(lab)?;
    for (builder, context) in &contexts {
        builder.once(context, &["-t", "bench/steps"])?;
    }
    let mut turns: Vec<Turn<'_, [f64; 3]>> = contexts
        .iter()
        .map(|(builder, context)| {
            Turn::new(builder.name(), move || {
                let build = builder.once(context, &["-t", "bench/steps"])?;
                let starts = [one(&builder.version())?, one(&builder.start_of_build())?];
                Ok([build, starts[0], starts[1]])
            })
        })
        .collect();
    turns::take(lab.bench.plan.rounds, &mut turns);
    let mut row = Row::new(
        "the same with everything cached",
        Unit::Milliseconds,
        turns::figures(&turns, |[build, ..]| vec![*build]),
    );
    row.goal_at_most(CACHED);
    let versions = Row::new(
        "version: the client's own start",
        Unit::Milliseconds,
        turns::figures(&turns, |[_, version, _]| vec![*version]),
    );
    let starts = Row::new(
        "build --help: the same with what builds",
        Unit::Milliseconds,
        turns::figures(&turns, |[_, _, start]| vec![*start]),
    );
    for (floor, name) in [(&versions, "version"), (&starts, "build --help")] {
        row.goals.push(beyond(&row, floor, name));
    }
    Ok(vec![row, versions, starts])
}

/// That Docker's client takes little more for a cached build than for something that builds nothing.
fn beyond(row: &Row, floor: &Row, name: &str) -> Goal {
    let client = "gorae by docker's client";
    let beyond = row
        .median(client)
        .zip(floor.median(client))
        .map(|(build, start)| build - start);
    let found = beyond.map_or_else(String::new, |beyond| format!(" ({beyond:.0})"));
    Goal::new(
        &format!("docker's client at most {BEYOND} ms beyond its {name}{found}"),
        beyond.map(|beyond| beyond <= BEYOND),
    )
}
