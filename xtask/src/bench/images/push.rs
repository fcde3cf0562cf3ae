//! The push of one new layer, which has to be packed first.

use super::lab::{Lab, cold, one};
use crate::bench::image;
use crate::bench::peers::REGISTRY;
use crate::bench::report::{Bound, Figure, Row, Unit};
use anyhow::{Context, Result};
use std::time::{SystemTime, UNIX_EPOCH};

const BYTES: u64 = 100_000_000;

pub(super) fn measure(lab: &Lab<'_>) -> Result<Vec<Row>> {
    let engines = lab.engines();
    let mut figures: Vec<Figure> = engines.iter().map(|one| Figure::new(one.name())).collect();
    // registries keep what earlier runs have pushed
    let now = SystemTime::now().duration_since(UNIX_EPOCH);
    let mut seed = now.context("read the clock")?.as_secs() * 1_000;
    for round in 0..lab.bench.plan.long_rounds {
        for (engine, figure) in engines.iter().zip(&mut figures) {
            // nobody has pushed these bytes before
            seed += 1;
            let folder = lab.scratch("push")?;
            let tarball = folder.join("layer.tar");
            image::tarball(&tarball, seed, BYTES)?;
            let name = format!("{REGISTRY}/bench/push-{round}:{seed}");
            engine.call(&["import", &engine.seen(&tarball), &name])?;
            cold()?;
            let words = [&["push", "--quiet"], engine.plain(), &[name.as_str()]].concat();
            figure.samples.push(one(&engine.subject(&words))?);
            engine.remove(&name)?;
        }
    }
    lab.scratch("push")?;
    let mut row = Row::new(
        "push of one new layer of 100 MB",
        Unit::Milliseconds,
        figures,
    );
    row.goal_ratio("docker", "gorae", Bound::AtLeast(3.0));
    Ok(vec![row])
}
