//! A thousand idle containers at once: what they cost, how fast the last one starts, and how soon a new
//! engine knows all of them.

use super::party::{self, Party};
use super::{milliseconds, timed};
use crate::bench::gorae::{CROWD, Gorae};
use crate::bench::report::{Bound, Figure, Goal, Row, Unit};
use crate::bench::{Bench, image, memory};
use anyhow::{Result, ensure};
use std::time::{Duration, Instant};

/// The peers get so many at most: a start takes them a quarter of a second, and a monitor ten megabytes.
const MOST_OF_PEERS: u32 = 200;
/// Starts that are compared, at the beginning and at the end.
const WINDOW: usize = 50;
/// An engine that knows its containers later than this does not find them.
const PATIENCE: Duration = Duration::from_secs(120);

/// What is found of one engine.
#[derive(Debug, Default)]
struct Found {
    name: String,
    starts: Vec<f64>,
    /// Megabytes for a container: its monitor's, its engine's share, the kernel's.
    monitor: f64,
    anonymous: f64,
    engine: f64,
    kernel: f64,
    list: Vec<f64>,
    inspect: Vec<f64>,
    failure: Option<String>,
}

pub(super) fn measure(bench: &Bench, parties: &[Party]) -> Result<Vec<Row>> {
    let count = bench.plan.many();
    let mut gorae = Gorae::start(CROWD, &bench.programs, &bench.folder)?;
    gorae.call(&["import", &bench.tarball.to_string_lossy(), image::BUSYBOX])?;
    let own = Party::gorae(&gorae);
    let names = party::names("crowd", count);
    let mut found = vec![crowd(&own, &names)?];
    drop(own);
    let mut back = Figure::new("gorae");
    let mut answers = Figure::new("gorae, first answer");
    for _ in 0..bench.plan.long_rounds {
        let (first, all) = gorae.come_back(|gorae| alive(gorae, names.len()))?;
        answers.samples.push(milliseconds(first));
        back.samples.push(milliseconds(all));
    }
    Party::gorae(&gorae).remove(&names)?;
    drop(gorae);
    for party in parties.iter().filter(|party| party.name != "gorae") {
        let names = party::names("crowd", count.min(MOST_OF_PEERS));
        party.remove(&names)?;
        let own = crowd(party, &names).unwrap_or_else(|error| Found {
            name: party.name.to_owned(),
            failure: Some(format!("{error:#}")),
            ..Found::default()
        });
        found.push(own);
        party.remove(&names)?;
    }
    let mut rows = rows(count, &found);
    let title = format!(
        "kill -9 of the engine: {count} running containers known again, from the start of the next"
    );
    let mut row = Row::new(&title, Unit::Milliseconds, vec![back, answers]);
    row.goal_at_most(2000.0);
    rows.push(row);
    Ok(rows)
}

/// Whether an engine answers, and that so many containers run.
fn alive(gorae: &Gorae, count: usize) -> Option<bool> {
    let mut client = Party::gorae(gorae).connect().ok()?;
    let list = client.call("GET", "/containers/json", "").ok()?;
    Some(list.as_array()?.len() == count)
}

/// Starts containers one after another, and looks at what they cost.
fn crowd(party: &Party, names: &[String]) -> Result<Found> {
    println!("    {} starts {} containers", party.name, names.len());
    let mut found = Found {
        name: format!("{} ({})", party.name, names.len()),
        ..Found::default()
    };
    let kernel = memory::kernel()?;
    let mut client = party.connect()?;
    let begun = Instant::now();
    for name in names {
        found.starts.push(timed(|| party.idle(&mut client, name))?);
    }
    println!("    in {:.1} s", begun.elapsed().as_secs_f64());
    let count = names.len() as f64;
    let each = |bytes: u64| bytes as f64 / 1e6 / count;
    found.kernel = each(memory::kernel()?.saturating_sub(kernel));
    let monitors = party.monitors(names)?;
    for pid in monitors {
        let (whole, anonymous) = memory::shares(pid)?;
        found.monitor += each(whole);
        found.anonymous += each(anonymous);
    }
    for pid in &party.engine {
        found.engine += each(memory::proportional(*pid)?);
    }
    for _ in 0..20 {
        found.list.push(timed(|| {
            client.ask("GET", "/containers/json", "").map(drop)
        })?);
        let path = format!("/containers/{}/json", names[names.len() / 2]);
        found
            .inspect
            .push(timed(|| client.ask("GET", &path, "").map(drop))?);
    }
    let list = client.call("GET", "/containers/json", "")?;
    let running = list.as_array().map_or(0, Vec::len);
    ensure!(running >= names.len(), "{running} containers run");
    Ok(found)
}

fn rows(count: u32, found: &[Found]) -> Vec<Row> {
    let row = |title: &str, unit, samples: &dyn Fn(&Found) -> Vec<f64>| {
        let figures = found.iter().map(|found| Figure {
            subject: found.name.clone(),
            samples: samples(found),
            failure: found.failure.clone(),
        });
        let title = format!("{title}, {count} idle containers at once");
        Row::new(&title, unit, figures.collect())
    };
    let window = WINDOW.min(found.first().map_or(1, |own| own.starts.len() / 2).max(1));
    let first = row(
        "create and start of the first",
        Unit::Milliseconds,
        &|found| found.starts.iter().take(window).copied().collect(),
    );
    let mut last = row(
        "create and start of the last",
        Unit::Milliseconds,
        &|found| found.starts.iter().rev().take(window).copied().collect(),
    );
    last.goals.extend(
        found
            .first()
            .and_then(|own| grown(&own.name, &first, &last)),
    );
    let monitor = row(
        "PSS of the processes that exist for one",
        Unit::Megabytes,
        &|found| vec![found.monitor],
    );
    let anonymous = row("of that anonymous", Unit::Megabytes, &|found| {
        vec![found.anonymous]
    });
    let engine = row(
        "PSS of the engine's processes, for each",
        Unit::Megabytes,
        &|found| vec![found.engine],
    );
    let kernel = row(
        "the kernel's memory, for each (unreclaimable slab, stacks, page tables, per processor)",
        Unit::Megabytes,
        &|found| vec![found.kernel],
    );
    let list = row("GET /containers/json", Unit::Milliseconds, &|found| {
        found.list.clone()
    });
    let inspect = row(
        "GET /containers/{name}/json",
        Unit::Milliseconds,
        &|found| found.inspect.clone(),
    );
    vec![
        first, last, monitor, anonymous, engine, kernel, list, inspect,
    ]
}

/// How much longer the last starts take than the first.
fn grown(name: &str, first: &Row, last: &Row) -> Option<Goal> {
    let ratio = last.median(name)? / first.median(name)?;
    let bound = Bound::AtMost(1.3);
    Some(Goal::new(
        &format!("gorae: last / first {bound} ({ratio:.2})"),
        Some(bound.holds(ratio)),
    ))
}

impl Gorae {
    /// Kills the engine and starts another; gives the times from that start to its first answer and to
    /// the one that satisfies.
    fn come_back(
        &mut self,
        is_there: impl Fn(&Self) -> Option<bool>,
    ) -> Result<(Duration, Duration)> {
        self.kill9()?;
        let begun = Instant::now();
        self.spawn()?;
        let mut first = None;
        loop {
            let answer = is_there(self);
            let passed = begun.elapsed();
            if answer.is_some() {
                first.get_or_insert(passed);
            }
            if answer == Some(true) {
                return Ok((first.unwrap_or(passed), passed));
            }
            ensure!(
                passed < PATIENCE,
                "not all containers are known after {passed:?}"
            );
            std::thread::sleep(Duration::from_millis(2));
        }
    }
}
