//! The suite `network`: what is measured of networks, a row each.
//!
//! Every engine has a network namespace of its own, and each is joined to the same outside one by a
//! pair of links: what comes through a published port comes from there.

mod connect;
mod create;
mod dns;
mod folders;
mod http;
mod lab;
mod limits;
mod namespace;
mod pair;
mod party;
mod plain;
mod podman;
mod ports;
mod rules;
mod throughput;
mod wire;

use super::report::Row;
use super::{Bench, plan};
use anyhow::Result;
use lab::Lab;

type Measure = fn(&Lab<'_>) -> Result<Vec<Row>>;

/// The rows by name, in the order of the report.
const ALL: [(&str, Measure); 9] = [
    ("create", create::measure),
    ("connect", connect::measure),
    ("ports", ports::hundred),
    ("range", ports::range),
    ("throughput", throughput::measure),
    ("http", http::measure),
    ("dns", dns::measure),
    ("limits", limits::measure),
    ("rules", rules::measure),
];

/// The names of [`ALL`].
pub(crate) const NAMES: [&str; 9] = [
    "create",
    "connect",
    "ports",
    "range",
    "throughput",
    "http",
    "dns",
    "limits",
    "rules",
];

/// Measures the rows of the plan.
pub(crate) fn measure(bench: &Bench) -> Vec<Row> {
    println!("==> Preparing networks");
    let lab = match Lab::new(bench) {
        Ok(lab) => lab,
        Err(error) => return vec![Row::failed(plan::NETWORK, &error)],
    };
    let mut found = Vec::new();
    for (name, row) in ALL {
        if bench.plan.wants(plan::NETWORK, name) {
            found.extend(super::one(name, || row(&lab)));
            lab.sweep();
        }
    }
    found
}
