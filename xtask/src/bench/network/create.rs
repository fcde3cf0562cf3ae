//! Making and removing a network.

use super::lab::Lab;
use super::party::{DOCKER, GORAE, PODMAN};
use crate::bench::report::{Row, Unit};
use crate::bench::turns::{self, Turn};
use anyhow::Result;

const NAME: &str = "bench-net-{n}";

pub(super) fn measure(lab: &Lab<'_>) -> Result<Vec<Row>> {
    let samples = lab.bench.plan.samples;
    let parties = lab.parties(&[GORAE, DOCKER, PODMAN]);
    let mut turns: Vec<Turn<'_, Vec<f64>>> = parties
        .into_iter()
        .map(|party| {
            let create = party.subject(&["network", "create", NAME]);
            let remove = party.subject(&["network", "rm", NAME]);
            Turn::new(party.name, move || {
                let (made, gone) = (create.time(samples)?, remove.time(samples)?);
                Ok(made.into_iter().zip(gone).map(|(a, b)| a + b).collect())
            })
        })
        .collect();
    turns::take(lab.bench.plan.rounds, &mut turns);
    let figures = turns::figures(&turns, Clone::clone);
    let mut row = Row::new("network create and rm", Unit::Milliseconds, figures);
    row.goal_times_faster(DOCKER, 10.0);
    Ok(vec![row])
}
