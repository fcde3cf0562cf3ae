//! The suite `builds`: what people wait for when they build, a row each.

mod context;
mod export;
mod lab;
mod many;
mod source;
mod steps;

use super::report::Row;
use super::{Bench, plan};
use anyhow::Result;
use lab::Lab;

type Measure = fn(&Lab<'_>) -> Result<Vec<Row>>;

/// The rows by name, in the order of the report.
const ALL: [(&str, Measure); 6] = [
    ("steps", steps::fresh),
    ("cached", steps::cached),
    ("context", context::measure),
    ("source", source::measure),
    ("export", export::measure),
    ("builds", many::measure),
];

/// The names of [`ALL`].
pub(crate) const NAMES: [&str; 6] = ["steps", "cached", "context", "source", "export", "builds"];

/// Measures the rows of the plan.
pub(crate) fn measure(bench: &Bench) -> Vec<Row> {
    let lab = match Lab::start(bench) {
        Ok(lab) => lab,
        Err(error) => return vec![Row::failed(plan::BUILDS, &error)],
    };
    let mut found = Vec::new();
    for (name, row) in ALL {
        if bench.plan.wants(plan::BUILDS, name) {
            found.extend(super::one(name, || row(&lab)));
        }
    }
    found.extend(super::one("memory", || lab.peak().map(|row| vec![row])));
    found
}
