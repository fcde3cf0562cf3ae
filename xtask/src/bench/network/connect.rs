//! Connecting the first and the two-hundredth container to a network.

use super::lab::Lab;
use super::party::{DOCKER, GORAE, PODMAN, Party};
use crate::bench::report::{Bound, Figure, Row, Unit};
use crate::bench::turns::{self, Turn};
use anyhow::Result;

const NETWORK: &str = "bench-many";
const CONNECTED: &str = "bench-last";
const MANY: u32 = 200;

/// Milliseconds of the same connection, alone and after all others.
#[derive(Clone, Debug)]
struct Found {
    first: Vec<f64>,
    last: Vec<f64>,
}

pub(super) fn measure(lab: &Lab<'_>) -> Result<Vec<Row>> {
    let samples = lab.bench.plan.samples * 4;
    let parties = lab.parties(&[GORAE, DOCKER, PODMAN]);
    let mut turns: Vec<Turn<'_, Found>> = parties
        .into_iter()
        .map(|party| Turn::new(party.name, move || crowd(party, samples)))
        .collect();
    turns::take(1, &mut turns);
    let mut figures = Vec::new();
    for turn in &turns {
        let first = turn.figure(|found| found.first.clone());
        let last = turn.figure(|found| found.last.clone());
        for (which, figure) in [("first", first), ("200th", last)] {
            if figure.failure.is_some() || !figure.samples.is_empty() {
                let subject = format!("{}, {which}", figure.subject);
                figures.push(Figure { subject, ..figure });
            }
        }
    }
    let mut row = Row::new(
        "network connect of a running container: the first, and the 200th",
        Unit::Milliseconds,
        figures,
    );
    row.goal_ratio("gorae, 200th", "gorae, first", Bound::AtMost(1.3));
    Ok(vec![row])
}

fn crowd(party: &Party, samples: u32) -> Result<Found> {
    party.call(&["network", "create", NETWORK])?;
    party.run(CONNECTED, &[])?;
    let first = connect(party, samples)?;
    let mut last = Vec::new();
    // the others' crowds take minutes, and no goal is about them
    if party.name == GORAE {
        party
            .start("bench-{n}", &["--network", NETWORK])
            .time(MANY - 1)?;
        last = connect(party, samples)?;
    }
    // the next engine is measured without these beside it
    party.sweep()?;
    Ok(Found { first, last })
}

/// Connects the same container again and again.
fn connect(party: &Party, samples: u32) -> Result<Vec<f64>> {
    let connect = party.subject(&["network", "connect", NETWORK, CONNECTED]);
    let mut found = Vec::new();
    for _ in 0..samples {
        found.extend(connect.time(1)?);
        party.call(&["network", "disconnect", NETWORK, CONNECTED])?;
    }
    Ok(found)
}
