//! Starting containers that publish many ports, and what the engine keeps for them.

use super::lab::Lab;
use super::party::{DOCKER, GORAE, PLAIN, PODMAN, Party};
use crate::bench::gorae::Gorae;
use crate::bench::report::{Figure, Row, Unit};
use crate::bench::turns::{self, Turn};
use crate::bench::{image, memory};
use anyhow::{Context, Result};
use std::thread;
use std::time::Duration;

const NAME: &str = "bench-ports";
const FIRST: u16 = 20_000;

/// A hundred ports, each by a flag of its own.
pub(super) fn hundred(lab: &Lab<'_>) -> Result<Vec<Row>> {
    let flags: Vec<String> = (FIRST..FIRST + 100)
        .map(|port| format!("--publish={port}:{port}"))
        .collect();
    let flags: Vec<&str> = flags.iter().map(String::as_str).collect();
    let rounds = lab.bench.plan.long_rounds.min(2);
    let parties = [GORAE, DOCKER, PLAIN, PODMAN];
    let (row, _) = start(
        lab,
        &parties,
        rounds,
        "run -d with 100 published ports",
        &flags,
    );
    Ok(vec![row])
}

/// A range of five hundred.
pub(super) fn range(lab: &Lab<'_>) -> Result<Vec<Row>> {
    let flag = range_flag();
    // docker takes most of a minute to start and remove one
    let (row, proxies) = start(
        lab,
        &[GORAE, DOCKER, PODMAN],
        1,
        "run -d with a range of 500 published ports",
        &[&flag],
    );
    let mut fresh = [Turn::new(GORAE, || growth(lab))];
    turns::take(lab.bench.plan.long_rounds, &mut fresh);
    let mut figures = turns::figures(&fresh, |found| vec![*found]);
    figures.push(proxies);
    let mut memory = Row::new(
        "memory for 500 published ports: growth of the engine's RSS over one port; PSS of docker's proxies",
        Unit::Megabytes,
        figures,
    );
    memory.goal_at_most(1.0);
    Ok(vec![row, memory])
}

fn range_flag() -> String {
    let last = FIRST + 499;
    format!("--publish={FIRST}-{last}:{FIRST}-{last}")
}

/// What one start gave.
#[derive(Clone, Copy, Debug)]
struct Found {
    taken: f64,
    /// Megabytes of docker-proxy processes.
    proxies: Option<f64>,
}

fn start(
    lab: &Lab<'_>,
    parties: &[&str],
    rounds: u32,
    title: &str,
    flags: &[&str],
) -> (Row, Figure) {
    let mut turns: Vec<Turn<'_, Vec<Found>>> = lab
        .parties(parties)
        .into_iter()
        .map(|party| {
            let start = party.start(NAME, flags);
            // what takes milliseconds is measured more often
            let times = if party.name == GORAE {
                lab.bench.plan.samples
            } else {
                1
            };
            Turn::new(party.name, move || {
                let sample = || -> Result<Found> {
                    let taken = start.time(1)?.into_iter().sum();
                    let proxies = proxies(lab, party)?;
                    party.remove(&[NAME])?;
                    Ok(Found { taken, proxies })
                };
                (0..times).map(|_| sample()).collect()
            })
        })
        .collect();
    turns::take(rounds, &mut turns);
    let all = |pick: fn(&Found) -> Option<f64>| {
        move |found: &Vec<Found>| found.iter().filter_map(pick).collect::<Vec<f64>>()
    };
    let figures = turns
        .iter()
        .map(|turn| turn.figure(all(|found| Some(found.taken))));
    let mut row = Row::new(title, Unit::Milliseconds, figures.collect());
    row.goal_times_faster(DOCKER, 20.0);
    let mut proxies = Figure::new("docker, docker-proxy processes");
    for turn in &turns {
        proxies
            .samples
            .extend(turn.figure(all(|found| found.proxies)).samples);
    }
    (row, proxies)
}

/// The memory of docker's processes for ports.
fn proxies(lab: &Lab<'_>, party: &Party) -> Result<Option<f64>> {
    let Some(peers) = lab.bench.peers.as_ref().filter(|_| party.name == DOCKER) else {
        return Ok(None);
    };
    let engine = peers.docker_engine()?;
    let dockerd = *engine.first().context("dockerd runs")?;
    let bytes = memory::children(dockerd)?
        .into_iter()
        .filter(|pid| memory::name(*pid) == "docker-proxy")
        .map(memory::proportional)
        .sum::<Result<u64>>()?;
    Ok(Some(bytes as f64 / 1e6))
}

/// How much larger a fresh engine is with the range than with a single port.
fn growth(lab: &Lab<'_>) -> Result<f64> {
    let bench = lab.bench;
    let engine = Gorae::start("gorae-bench-fresh", &bench.programs, &bench.folder)?;
    engine.call(&["import", &lab.tarball(), image::BUSYBOX])?;
    let party = Party::gorae(&engine);
    let one = "--publish=19000:80";
    // what the first starts of all leave behind is not the ports'
    for _ in 0..5 {
        party.run(NAME, &[one])?;
        party.remove(&[NAME])?;
    }
    party.run(NAME, &[one])?;
    let settled = || {
        thread::sleep(Duration::from_millis(500));
        memory::resident(engine.pid())
    };
    let before = settled()?;
    party.remove(&[NAME])?;
    party.run(NAME, &[&range_flag()])?;
    let after = settled()?;
    Ok((after as f64 - before as f64) / 1e6)
}
