//! How fast an engine says that it is there while containers and clients take all they can get.

use super::party::Party;
use super::wire::Client;
use super::{milliseconds, timed};
use crate::bench::Bench;
use crate::bench::report::{Figure, Goal, Row, Unit};
use crate::bench::turns;
use anyhow::{Context, Result};
use serde_json::json;
use std::io::Write;
use std::os::unix::net::UnixStream;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

/// Names of what the load is made of.
const FORKS: &str = "bench-ping-forks";
const TALKS: &str = "bench-ping-talks";
const EXECS: &str = "bench-ping-execs";
const SLOW_CLIENTS: usize = 500;
const HANDS: usize = 4;
const BETWEEN: Duration = Duration::from_millis(5);
/// `_ping` may take so long, milliseconds.
const LIMIT: f64 = 50.0;

pub(super) fn measure(bench: &Bench, parties: &[Party]) -> Result<Vec<Row>> {
    let time = Duration::from_secs(if bench.plan.quick { 2 } else { 10 });
    let mut turns: Vec<_> = parties
        .iter()
        .map(|party| {
            party.turn(move || {
                let found = under_load(party, time);
                party.remove(&[FORKS, TALKS, EXECS].map(str::to_owned))?;
                found
            })
        })
        .collect();
    turns::take(bench.plan.long_rounds, &mut turns);
    let figures = turns::figures(&turns, Clone::clone);
    let worst = |figure: &Figure| figure.samples.iter().copied().reduce(f64::max);
    let met = figures.first().and_then(worst).map(|worst| worst <= LIMIT);
    let slowest: Vec<String> = figures
        .iter()
        .filter_map(|figure| Some(format!("{} {:.1}", figure.subject, worst(figure)?)))
        .collect();
    let mut row = Row::new(
        "_ping on a new connection while one container forks without end (100 processes), one floods its log, 4 clients exec and 500 send half a request",
        Unit::Milliseconds,
        figures,
    );
    let text = format!(
        "gorae: each at most {LIMIT} ms (slowest: {})",
        slowest.join(", ")
    );
    row.goals.push(Goal::new(&text, met));
    Ok(vec![row])
}

fn under_load(party: &Party, time: Duration) -> Result<Vec<f64>> {
    let mut client = party.connect()?;
    party.remove(&[FORKS, TALKS, EXECS].map(str::to_owned))?;
    let forks = [
        "sh",
        "-c",
        "f() { f | f & }; while true; do f; sleep 0.05; done",
    ];
    let host = json!({"PidsLimit": 100, "NanoCpus": 500_000_000});
    party.create_with(&mut client, FORKS, &forks, &host)?;
    let host = json!({"NanoCpus": 250_000_000});
    party.create_with(
        &mut client,
        TALKS,
        &["sh", "-c", "while true; do echo y; done"],
        &host,
    )?;
    party.idle(&mut client, EXECS)?;
    for name in [FORKS, TALKS] {
        party.start(&mut client, name)?;
    }
    let slow = (0..SLOW_CLIENTS)
        .map(|_| {
            let mut stream = UnixStream::connect(&party.socket)?;
            stream.write_all(b"GET /_pi")?;
            Ok(stream)
        })
        .collect::<std::io::Result<Vec<_>>>()
        .context("connect slow clients")?;
    let over = AtomicBool::new(false);
    let found = thread::scope(|scope| {
        for _ in 0..HANDS {
            scope.spawn(|| {
                while !over.load(Ordering::Relaxed) {
                    // a container that is being removed, or an engine that is overrun
                    if exec(party).is_err() {
                        thread::sleep(BETWEEN);
                    }
                }
            });
        }
        let found = pings(party, time);
        over.store(true, Ordering::Relaxed);
        found
    });
    drop(slow);
    found
}

fn pings(party: &Party, time: Duration) -> Result<Vec<f64>> {
    let begun = Instant::now();
    let mut found = Vec::new();
    while begun.elapsed() < time {
        found.push(timed(|| {
            party.connect()?.ask("GET", "/_ping", "").map(drop)
        })?);
        thread::sleep(BETWEEN);
    }
    Ok(found)
}

fn exec(party: &Party) -> Result<f64> {
    let begun = Instant::now();
    let mut client: Client = party.connect()?;
    let made = client.call(
        "POST",
        &format!("/containers/{EXECS}/exec"),
        r#"{"Cmd":["true"]}"#,
    )?;
    let id = made["Id"].as_str().context("read the id of an exec")?;
    client.call("POST", &format!("/exec/{id}/start"), r#"{"Detach":true}"#)?;
    Ok(milliseconds(begun.elapsed()))
}
