//! The suite `images`: what people wait for when images come, go and are moved, a row each.

mod archive;
mod floor;
mod http;
mod lab;
mod missing;
mod pull;
mod push;
mod registry;

use super::report::Row;
use super::{Bench, plan};
use anyhow::Result;
use lab::Lab;

type Measure = fn(&Lab<'_>) -> Result<Vec<Row>>;

/// The rows by name, in the order of the report.
const ALL: [(&str, Measure); 6] = [
    ("pull", pull::gzip),
    ("zstd", pull::zstd),
    ("missing", missing::measure),
    ("push", push::measure),
    ("archive", archive::measure),
    ("registry", registry::measure),
];

/// The names of [`ALL`].
pub(crate) const NAMES: [&str; 6] = ["pull", "zstd", "missing", "push", "archive", "registry"];

/// Measures the rows of the plan.
pub(crate) fn measure(bench: &Bench) -> Vec<Row> {
    let lab = match Lab::start(bench) {
        Ok(lab) => lab,
        Err(error) => return vec![Row::failed(plan::IMAGES, &error)],
    };
    let mut found = Vec::new();
    for (name, row) in ALL {
        if bench.plan.wants(plan::IMAGES, name) {
            found.extend(super::one(name, || row(&lab)));
        }
    }
    found.extend(super::one("peak", || lab.peaks().map(|row| vec![row])));
    found
}
