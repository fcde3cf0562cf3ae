//! Small requests through a published port.

use super::lab::Lab;
use super::namespace::{Background, own};
use super::pair::Ends;
use super::party::{GORAE, PLAIN, PODMAN, Party};
use super::wire::WIRE;
use crate::bench::report::{Bound, Row, Unit};
use crate::bench::subject::output;
use crate::bench::turns::{self, Turn};
use anyhow::{Context, Result, anyhow};
use serde_json::Value;

const PORT: u16 = 8080;
const CONNECTIONS: &str = "64";
/// Milliseconds of one sample.
const TIME: &str = "1000";

/// What a client saw in one sample.
#[derive(Clone, Copy, Debug)]
pub(super) struct Seen {
    pub(super) per_second: f64,
    pub(super) p50: f64,
    pub(super) p99: f64,
}

/// Runs a client in a network.
pub(super) fn load(network: &str, words: &[&str]) -> Result<Seen> {
    let text = output(own(network)?.arg("load").args(words))?;
    let tally: Value = serde_json::from_str(&text).context("read a client's report")?;
    let field = |name: &str| {
        tally[name]
            .as_f64()
            .with_context(|| format!("a client's report has no {name}"))
    };
    let (answered, lost) = (field("answered")?, field("lost")?);
    anyhow::ensure!(
        lost * 100.0 <= answered,
        "{lost} of {} questions got no answer",
        answered + lost
    );
    Ok(Seen {
        per_second: answered / field("seconds")?,
        p50: field("p50")?,
        p99: field("p99")?,
    })
}

/// One subject: where its server is reached, and the server.
type Course = (String, Background);

pub(super) fn measure(lab: &Lab<'_>) -> Result<Vec<Row>> {
    let publish = format!("--publish={PORT}:{PORT}");
    let engine = |party: &Party| Ends::new(party, &[], &[&publish]).and_then(|ends| course(&ends));
    let mut courses: Vec<(&str, Result<Course>)> = lab
        .parties(&[GORAE, PLAIN, PODMAN])
        .into_iter()
        .map(|party| (party.name, engine(party)))
        .collect();
    courses.push((WIRE, course(&lab.wire.ends())));
    let mut rows = rows(lab, &courses, "keep", "kept open");
    rows.extend(self::rows(lab, &courses, "close", "each for one request"));
    Ok(rows)
}

fn course(ends: &Ends) -> Result<Course> {
    let any = format!("0.0.0.0:{PORT}");
    let server = Background::start(own(&ends.b)?.args(["serve", "http", &any]))?;
    let server = server.listening("tcp", PORT).context("start a server")?;
    let address = ends.published.v4.context("there is no IPv4 address")?;
    Ok((format!("{address}:{PORT}"), server))
}

fn rows(lab: &Lab<'_>, courses: &[(&str, Result<Course>)], mode: &str, what: &str) -> Vec<Row> {
    let outside = lab.outside.file();
    let mut turns: Vec<Turn<'_, Seen>> = courses
        .iter()
        .map(|(name, course)| {
            let outside = &outside;
            Turn::new(name, move || {
                let (server, _) = course.as_ref().map_err(|error| anyhow!("{error:#}"))?;
                load(outside, &["http", server, CONNECTIONS, mode, TIME])
            })
        })
        .collect();
    turns::take(lab.bench.plan.samples, &mut turns);
    let p50 = turns::figures(&turns, |seen| vec![seen.p50]);
    let p99 = turns::figures(&turns, |seen| vec![seen.p99]);
    [("p50", p50), ("p99", p99)]
        .map(|(name, figures)| {
            let title = format!(
                "{name} of small HTTP requests through a published port, 64 connections, {what}"
            );
            let mut row = Row::new(&title, Unit::Milliseconds, figures);
            // no worse, but for the spread of the samples
            row.goal_ratio(GORAE, PLAIN, Bound::AtMost(1.05));
            row
        })
        .into()
}
