//! Lists and `inspect` with many containers.

use super::party::{self, FOREVER, Party};
use super::{milliseconds, timed};
use crate::bench::report::{Row, Unit};
use crate::bench::turns::{self, Turn};
use crate::bench::{Bench, report::Figure};
use anyhow::{Result, ensure};
use std::time::Instant;

/// What one turn finds, milliseconds.
#[derive(Debug, Default)]
struct Found {
    list: Vec<f64>,
    inspect: Vec<f64>,
    named: Vec<f64>,
}

pub(super) fn measure(bench: &Bench, parties: &[Party]) -> Result<Vec<Row>> {
    let count = bench.plan.many();
    let names = party::names("list", count);
    for party in parties {
        println!("    {} makes {count} containers", party.name);
        party.remove(&names)?;
        let mut client = party.connect()?;
        for name in &names {
            party.create(&mut client, name, &FOREVER)?;
        }
    }
    let mut turns: Vec<Turn<'_, Found>> = parties
        .iter()
        .map(|party| party.turn(|| turn(party, bench.plan.samples, &names)))
        .collect();
    turns::take(bench.plan.rounds, &mut turns);
    let rows = rows(count, &turns);
    drop(turns);
    for party in parties {
        party.remove(&names)?;
    }
    Ok(rows)
}

fn rows(count: u32, turns: &[Turn<'_, Found>]) -> Vec<Row> {
    let row = |title: &str, figures: Vec<Figure>| {
        Row::new(
            &format!("{title}, {count} containers"),
            Unit::Milliseconds,
            figures,
        )
    };
    let mut list = row(
        "GET /containers/json?all=1",
        turns::figures(turns, |found| found.list.clone()),
    );
    list.goal_at_most(10.0);
    let mut inspect = row(
        "GET /containers/{name}/json",
        turns::figures(turns, |found| found.inspect.clone()),
    );
    inspect.goal_at_most(2.0);
    let named = row(
        "the list, filtered by a name",
        turns::figures(turns, |found| found.named.clone()),
    );
    vec![list, inspect, named]
}

fn turn(party: &Party, samples: u32, names: &[String]) -> Result<Found> {
    let mut client = party.connect()?;
    let mut found = Found::default();
    // the first request of a connection is not what is measured
    client.call("GET", "/_ping", "").ok();
    let Some(name) = names.get(names.len() / 2) else {
        return Ok(found);
    };
    for _ in 0..samples {
        let begun = Instant::now();
        let (status, body) = client.ask("GET", "/containers/json?all=1", "")?;
        found.list.push(milliseconds(begun.elapsed()));
        ensure!(status == 200, "{} answers {status}", party.name);
        let list: serde_json::Value = serde_json::from_slice(&body)?;
        let length = list.as_array().map_or(0, Vec::len);
        ensure!(length >= names.len(), "{} lists {length}", party.name);
        let path = format!("/containers/{name}/json");
        found
            .inspect
            .push(timed(|| client.ask("GET", &path, "").map(drop))?);
        let path = format!("/containers/json?all=1&filters=%7B%22name%22%3A%5B%22{name}%22%5D%7D");
        found
            .named
            .push(timed(|| client.ask("GET", &path, "").map(drop))?);
    }
    Ok(found)
}
