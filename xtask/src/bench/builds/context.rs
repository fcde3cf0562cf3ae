//! A context of many files of which one has changed since the last build.

use super::lab::{Lab, files, fresh_word, write};
use crate::bench::report::{Bound, Row, Unit};
use crate::bench::subject::output;
use crate::bench::turns::{self, Turn};
use anyhow::Result;
use std::process::Command;

pub(super) fn measure(lab: &Lab<'_>) -> Result<Vec<Row>> {
    let count = if lab.bench.plan.quick { 5_000 } else { 50_000 };
    let mut contexts = Vec::new();
    for builder in lab.builders() {
        let context = lab.context(&format!("many-{}", builder.name().replace(' ', "-")))?;
        files(&context, count)?;
        let text = format!("FROM {}\nCOPY d0 /d0\n", builder.base());
        write(&context.join("Dockerfile"), text)?;
        builder.once(&context, &["-t", "bench/context"])?;
        contexts.push((builder, context));
    }
    // contexts of this size have lain on the disk for long; whoever flushes anything would wait for them here
    output(&mut Command::new("sync"))?;
    let mut turns: Vec<Turn<'_, f64>> = contexts
        .iter()
        .map(|(builder, context)| {
            Turn::new(builder.name(), move || {
                let text = format!("changed {}\n", fresh_word()?);
                write(&context.join("d0/f7"), text)?;
                builder.once(context, &["-t", "bench/context"])
            })
        })
        .collect();
    turns::take(lab.bench.plan.long_rounds, &mut turns);
    let mut row = Row::new(
        &format!("build after one of {count} files of the context changed"),
        Unit::Milliseconds,
        turns::figures(&turns, |time| vec![*time]),
    );
    row.goal_ratio("docker", "gorae", Bound::AtLeast(10.0));
    lab.context("many-gorae")?;
    Ok(vec![row])
}
