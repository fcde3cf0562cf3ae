//! Many builds at once that share their base and their first steps.

use super::lab::{Builder, Lab, run, write};
use crate::bench::report::{Bound, Row, Unit};
use crate::bench::turns::{self, Turn};
use anyhow::{Result, anyhow};
use std::path::PathBuf;
use std::time::{Instant, SystemTime, UNIX_EPOCH};

/// Builds at once.
const COUNT: u32 = 20;

pub(super) fn measure(lab: &Lab<'_>) -> Result<Vec<Row>> {
    let builders = lab.builders();
    let mut turns: Vec<Turn<'_, f64>> = builders
        .iter()
        .filter(|builder| !matches!(builder, Builder::Buildah(_)))
        .map(|builder| Turn::new(builder.name(), move || turn(lab, builder)))
        .collect();
    turns::take(lab.bench.plan.long_rounds, &mut turns);
    let mut row = Row::new(
        &format!("{COUNT} builds at once that share a base and ten steps"),
        Unit::Milliseconds,
        turns::figures(&turns, |time| vec![*time]),
    );
    row.goal_ratio("docker", "gorae", Bound::AtLeast(2.0));
    Ok(vec![row])
}

fn turn(lab: &Lab<'_>, builder: &Builder<'_>) -> Result<f64> {
    let contexts = contexts(lab, builder)?;
    let begun = Instant::now();
    std::thread::scope(|scope| {
        let builds: Vec<_> = contexts
            .iter()
            .enumerate()
            .map(|(number, context)| {
                scope.spawn(move || {
                    let name = format!("bench/many-{number}");
                    run(&builder.build(context, &["-t", &name]))
                })
            })
            .collect();
        builds.into_iter().try_for_each(|build| {
            build
                .join()
                .map_err(|_| anyhow!("a thread that builds panicked"))?
        })
    })?;
    Ok(begun.elapsed().as_secs_f64() * 1e3)
}

/// Contexts whose steps nobody has run yet.
fn contexts(lab: &Lab<'_>, builder: &Builder<'_>) -> Result<Vec<PathBuf>> {
    let now = SystemTime::now().duration_since(UNIX_EPOCH)?.as_nanos();
    let folder = lab.context(&format!("twenty-{}", builder.name().replace(' ', "-")))?;
    (0..COUNT)
        .map(|number| {
            let context = folder.join(number.to_string());
            let mut text = format!("FROM {}\n", builder.base());
            for step in 0..10 {
                text.push_str(&format!(
                    "RUN sleep 0.1; echo {now} {step} >/shared-{step}\n"
                ));
            }
            text.push_str(&format!("RUN echo {number} >/own\n"));
            write(&context.join("Dockerfile"), text)?;
            Ok(context)
        })
        .collect()
}
