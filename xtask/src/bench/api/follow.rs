//! Following a container that writes a hundred megabytes a second.

use super::cpu::Meter;
use super::party::Party;
use super::wire::Stream;
use crate::bench::Bench;
use crate::bench::report::{Bound, Goal, Row, Unit};
use crate::bench::turns::{self, Turn};
use anyhow::{Context, Result, bail, ensure};
use serde_json::json;
use std::io::Read;
use std::time::Instant;

/// The program that writes: this one, mounted.
const WRITER: &str = "/lines";
const NAME: &str = "bench-follow";
/// Bytes a second.
const RATE: u64 = 100_000_000;
/// Bytes of a line, with its end.
const LINE: u64 = 1000;

/// What one turn finds.
#[derive(Debug)]
struct Found {
    lost: f64,
    rate: f64,
    engine: f64,
    all: f64,
}

pub(super) fn measure(bench: &Bench, parties: &[Party]) -> Result<Vec<Row>> {
    let seconds = if bench.plan.quick { 2 } else { 10 };
    let mut turns: Vec<Turn<'_, Found>> = parties
        .iter()
        .map(|party| {
            party.turn(move || {
                let found = turn(party, seconds);
                party.remove(&[NAME.to_owned()])?;
                found
            })
        })
        .collect();
    turns::take(bench.plan.long_rounds, &mut turns);
    let lines = seconds * RATE / LINE;
    let what =
        format!("logs -f of a container that writes {lines} lines of {LINE} bytes, 100 MB/s");
    let row = |title: &str, unit, samples: fn(&Found) -> f64| {
        let figures = turns::figures(&turns, |found| vec![samples(found)]);
        Row::new(&format!("{what}: {title}"), unit, figures)
    };
    let mut lost = row("lines that did not arrive", Unit::Count, |found| found.lost);
    let met = lost.figures.first().filter(|own| !own.samples.is_empty());
    let met = met.map(|own| own.samples.iter().all(|lost| *lost == 0.0));
    lost.goals.push(Goal::new("gorae loses none", met));
    let mut rate = row("MB/s that arrive", Unit::PerSecond, |found| found.rate);
    let own = rate.median("gorae");
    rate.goals.push(Goal::new(
        "at least 95 MB/s",
        own.map(|own| Bound::AtLeast(95.0).holds(own)),
    ));
    let engine = row(
        "processor time of the engine, of one core",
        Unit::Percent,
        |found| found.engine,
    );
    let all = row(
        "of the engine and the container's monitor",
        Unit::Percent,
        |found| found.all,
    );
    Ok(vec![lost, rate, engine, all])
}

fn turn(party: &Party, seconds: u64) -> Result<Found> {
    let own = std::env::current_exe().context("find this program's own file")?;
    let (rate, line, time) = (RATE.to_string(), LINE.to_string(), seconds.to_string());
    let names = [NAME.to_owned()];
    party.remove(&names)?;
    let mut client = party.connect()?;
    let mount = format!("{}:{WRITER}:ro", party.at(&own));
    let command = [WRITER, "load", "lines", &line, &rate, &time];
    party.create_with(&mut client, NAME, &command, &json!({"Binds": [mount]}))?;
    party.start(&mut client, NAME)?;
    let monitors = party.monitors(&names)?;
    let engine = Meter::start(&party.engine);
    let all = Meter::start(&[party.engine.as_slice(), &monitors].concat());
    let begun = Instant::now();
    let path = format!("/containers/{NAME}/logs?follow=1&stdout=1&stderr=1");
    let mut stream = party.connect()?.open("GET", &path, "", false)?;
    ensure!(
        stream.status == 200,
        "{} answers {}",
        party.name,
        stream.status
    );
    let mut tally = Tally::default();
    let mut buffer = vec![0; 256 << 10];
    loop {
        let frame = frame(&mut stream, &mut buffer)?;
        if frame.is_empty() {
            break;
        }
        tally.take(frame);
    }
    let taken = begun.elapsed().as_secs_f64();
    let wanted = seconds * RATE / LINE;
    ensure!(
        tally.lines <= wanted,
        "{} of {wanted} lines arrive",
        tally.lines
    );
    Ok(Found {
        lost: (wanted - tally.lines) as f64,
        rate: tally.bytes as f64 / 1e6 / taken,
        engine: engine.percent(),
        all: all.percent(),
    })
}

/// Reads one frame of a stream that is not a terminal's: a byte for the stream, the length at 4, the content.
fn frame<'a>(stream: &mut Stream, buffer: &'a mut Vec<u8>) -> Result<&'a [u8]> {
    let mut head = [0; 8];
    let mut read = 0;
    while read < head.len() {
        match stream.read(&mut head[read..]).context("read a log")? {
            0 if read == 0 => return Ok(&[]),
            0 => bail!("a log ends within a frame"),
            length => read += length,
        }
    }
    let length = u32::from_be_bytes([head[4], head[5], head[6], head[7]]);
    let length = usize::try_from(length).context("read a frame's length")?;
    if buffer.len() < length {
        buffer.resize(length, 0);
    }
    stream
        .read_exact(&mut buffer[..length])
        .context("read a log")?;
    Ok(&buffer[..length])
}

/// What arrived.
#[derive(Debug, Default)]
struct Tally {
    bytes: u64,
    lines: u64,
}

impl Tally {
    fn take(&mut self, content: &[u8]) {
        self.bytes += content.len() as u64;
        self.lines += content.iter().filter(|byte| **byte == b'\n').count() as u64;
    }
}
