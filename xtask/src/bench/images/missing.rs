//! The pull of an image of which four of five layers are there.

use super::lab::{Lab, cold};
use crate::bench::image::Packing;
use crate::bench::report::{Bound, Figure, Row, Unit};
use anyhow::Result;

const ALONE: &str = "gorae, that layer alone";

pub(super) fn measure(lab: &Lab<'_>) -> Result<Vec<Row>> {
    let large = lab.large(Packing::Gzip)?;
    let [all, four, last] = ["all", "four", "last"].map(|part| lab.publish(&large, part));
    let (all, four, last) = (all?, four?, last?);
    let engines = lab.engines();
    let mut figures: Vec<Figure> = engines.iter().map(|one| Figure::new(one.name())).collect();
    let mut alone = Figure::new(ALONE);
    // these are short, so there are more of them
    for _ in 0..lab.bench.plan.long_rounds * 2 {
        for (engine, figure) in engines.iter().zip(&mut figures) {
            engine.pull(&four)?;
            cold()?;
            figure.samples.push(engine.pull(&all)?);
            engine.remove(&all)?;
            engine.remove(&four)?;
            if engine.name() == "gorae" {
                cold()?;
                alone.samples.push(engine.pull(&last)?);
                engine.remove(&last)?;
            }
        }
    }
    figures.push(alone);
    let mut row = Row::new(
        "pull of which 4 of 5 layers are there",
        Unit::Milliseconds,
        figures,
    );
    row.goal_ratio("gorae", ALONE, Bound::AtMost(1.1));
    Ok(vec![row])
}
