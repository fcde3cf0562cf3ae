//! The suite `api`: what clients of the Engine API wait for, a row each.
//!
//! Requests go to every engine's socket by the same small client, podman's by its own service of
//! Docker's API: what a command line adds is in the suite `engine`.

mod compose;
mod cpu;
mod follow;
mod lists;
mod party;
mod ping;
mod round;
mod stats;
mod thousand;
mod wire;

use super::report::Row;
use super::{Bench, plan};
use anyhow::Result;
use party::Party;
use std::time::{Duration, Instant};

type Measure = fn(&Bench, &[Party]) -> Result<Vec<Row>>;

/// The rows by name, in the order of the report.
const ALL: [(&str, Measure); 7] = [
    ("lists", lists::measure),
    ("thousand", thousand::measure),
    ("follow", follow::measure),
    ("compose", compose::measure),
    ("round", round::measure),
    ("stats", stats::measure),
    ("ping", ping::measure),
];

/// The names of [`ALL`].
pub(crate) const NAMES: [&str; 7] = [
    "lists", "thousand", "follow", "compose", "round", "stats", "ping",
];

/// Measures the rows of the plan.
pub(crate) fn measure(bench: &Bench) -> Vec<Row> {
    let parties = match party::all(bench) {
        Ok(parties) => parties,
        Err(error) => return vec![Row::failed(plan::API, &error)],
    };
    let mut found = Vec::new();
    for (name, row) in ALL {
        if bench.plan.wants(plan::API, name) {
            found.extend(super::one(name, || row(bench, &parties)));
        }
    }
    found
}

fn milliseconds(time: Duration) -> f64 {
    time.as_secs_f64() * 1e3
}

/// Milliseconds that something took.
fn timed(work: impl FnOnce() -> Result<()>) -> Result<f64> {
    let begun = Instant::now();
    work()?;
    Ok(milliseconds(begun.elapsed()))
}
