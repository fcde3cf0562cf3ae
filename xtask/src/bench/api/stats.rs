//! The figures of a hundred containers, as `docker stats` asks for them: a stream for each container.

use super::cpu::Meter;
use super::party::{self, Party};
use super::wire::Stream;
use crate::bench::Bench;
use crate::bench::report::{Row, Unit};
use crate::bench::turns;
use anyhow::{Context, Result, bail, ensure};
use std::io::Read;
use std::sync::atomic::{AtomicU64, Ordering};
use std::thread;
use std::time::Duration;

/// What one turn finds.
#[derive(Debug)]
struct Found {
    engine: f64,
    all: f64,
    figures: f64,
}

pub(super) fn measure(bench: &Bench, parties: &[Party]) -> Result<Vec<Row>> {
    let (count, seconds) = if bench.plan.quick { (10, 3) } else { (100, 10) };
    let names = party::names("stats", count);
    for party in parties {
        party.remove(&names)?;
        let mut client = party.connect()?;
        for name in &names {
            party.idle(&mut client, name)?;
        }
    }
    let time = Duration::from_secs(seconds);
    let mut turns: Vec<_> = parties
        .iter()
        .map(|party| party.turn(|| watch(party, &names, time)))
        .collect();
    turns::take(bench.plan.long_rounds, &mut turns);
    let row = |title: &str, unit, samples: fn(&Found) -> f64| {
        let figures = turns::figures(&turns, |found| vec![samples(found)]);
        Row::new(
            &format!("stats of {count} containers, a stream for each: {title}"),
            unit,
            figures,
        )
    };
    let mut all = row(
        "processor time of the engine and the monitors, of one core",
        Unit::Percent,
        |found| found.all,
    );
    all.goal_at_most(1.0);
    let engine = row("of the engine alone", Unit::Percent, |found| found.engine);
    let figures = row("figures that arrive", Unit::PerSecond, |found| {
        found.figures
    });
    drop(turns);
    for party in parties {
        party.remove(&names)?;
    }
    Ok(vec![all, engine, figures])
}

/// Opens a stream for each container, all at once: docker takes a second or two until it answers.
fn open(party: &Party, names: &[String]) -> Result<Vec<Stream>> {
    let one = |name: &String| {
        let path = format!("/containers/{name}/stats?stream=1");
        let mut stream = party.connect()?.open("GET", &path, "", false)?;
        ensure!(stream.status == 200, "{path}: {}", stream.status);
        // the first figures are what the start of a stream costs
        let mut first = [0; 1];
        stream
            .read_exact(&mut first)
            .with_context(|| format!("read {path}"))?;
        Ok(stream)
    };
    thread::scope(|scope| {
        let opening: Vec<_> = names
            .iter()
            .map(|name| scope.spawn(move || one(name)))
            .collect();
        opening
            .into_iter()
            .map(|stream| stream.join().unwrap_or_else(|_| bail!("a thread panicked")))
            .collect()
    })
}

/// Reads the streams of all containers for a while.
fn watch(party: &Party, names: &[String], time: Duration) -> Result<Found> {
    let monitors = party.monitors(names)?;
    let figures = AtomicU64::new(0);
    let streams = open(party, names)?;
    let ends: Vec<_> = streams.iter().map(Stream::end).collect::<Result<_>>()?;
    thread::scope(|scope| {
        for mut stream in streams {
            let figures = &figures;
            scope.spawn(move || {
                let mut buffer = [0; 16 << 10];
                // until the connection is closed here
                while let Ok(length @ 1..) = stream.read(&mut buffer) {
                    let ends = buffer[..length].iter().filter(|byte| **byte == b'\n');
                    figures.fetch_add(ends.count() as u64, Ordering::Relaxed);
                }
            });
        }
        thread::sleep(Duration::from_secs(1));
        let before = figures.load(Ordering::Relaxed);
        let engine = Meter::start(&party.engine);
        let all = Meter::start(&[party.engine.as_slice(), &monitors].concat());
        thread::sleep(time);
        let found = Found {
            engine: engine.percent(),
            all: all.percent(),
            figures: (figures.load(Ordering::Relaxed) - before) as f64 / time.as_secs_f64(),
        };
        for end in ends {
            end.shutdown(std::net::Shutdown::Both)
                .context("close a stream")?;
        }
        ensure!(found.figures > 0.0, "no figures arrive");
        Ok(found)
    })
}
