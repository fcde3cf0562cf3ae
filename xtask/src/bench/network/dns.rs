//! Names: one of the network, and one that is asked for elsewhere.

use super::http::{Seen, load};
use super::lab::Lab;
use super::namespace::{Background, own};
use super::pair::{ASKER, Ends, SERVER};
use super::party::{DOCKER, GORAE, PODMAN, Party};
use crate::bench::report::{Bound, Row, Unit};
use crate::bench::turns::{self, Turn};
use anyhow::{Context, Result, anyhow};
use std::fs;
use std::net::{IpAddr, SocketAddr};

/// Questions under way at once.
const AT_ONCE: &str = "64";
/// Milliseconds of one sample.
const TIME: &str = "1000";

/// One subject: the network that asks, and the server that is asked.
type Course = (String, String);

pub(super) fn measure(lab: &Lab<'_>) -> Result<Vec<Row>> {
    let outside = lab.outside.file();
    let upstream = Background::start(own(&outside)?.args(["serve", "dns", "0.0.0.0:53"]))?;
    let _upstream = upstream
        .listening("udp", 53)
        .context("start a DNS server")?;
    let courses: Vec<(&str, Result<Course>)> = lab
        .parties(&[GORAE, DOCKER, PODMAN])
        .into_iter()
        .map(|party| (party.name, course(party)))
        .collect();
    let mut rows = rows(lab, &courses, SERVER, "a name of the network");
    rows.extend(self::rows(
        lab,
        &courses,
        "www.example.org",
        "a forwarded name",
    ));
    Ok(rows)
}

fn course(party: &Party) -> Result<Course> {
    let upstream = Lab::far(party.uplink).v4;
    let upstream = upstream.context("a link has both families")?.to_string();
    let ends = Ends::new(party, &["--dns", &upstream], &[])?;
    let server = nameserver(party.pid(ASKER)?)?;
    Ok((ends.a, SocketAddr::new(server, 53).to_string()))
}

/// The first server that a container is told to ask.
fn nameserver(pid: u32) -> Result<IpAddr> {
    let file = format!("/proc/{pid}/root/etc/resolv.conf");
    let text = fs::read_to_string(&file).with_context(|| format!("read {file}"))?;
    let found = text
        .lines()
        .find_map(|line| line.strip_prefix("nameserver")?.trim().parse().ok());
    found.with_context(|| format!("find a nameserver in {file}"))
}

fn rows(lab: &Lab<'_>, courses: &[(&str, Result<Course>)], name: &str, what: &str) -> Vec<Row> {
    let mut turns: Vec<Turn<'_, Seen>> = courses
        .iter()
        .map(|(subject, course)| {
            Turn::new(subject, move || {
                let (network, server) = course.as_ref().map_err(|error| anyhow!("{error:#}"))?;
                load(network, &["dns", server, name, AT_ONCE, TIME])
            })
        })
        .collect();
    turns::take(lab.bench.plan.samples, &mut turns);
    let mut rate = Row::new(
        &format!("DNS, {what}: answers a second, 64 questions at once"),
        Unit::PerSecond,
        turns::figures(&turns, |seen| vec![seen.per_second]),
    );
    rate.goal_ratio(GORAE, DOCKER, Bound::AtLeast(5.0));
    let mut p99 = Row::new(
        &format!("DNS, {what}: p99"),
        Unit::Milliseconds,
        turns::figures(&turns, |seen| vec![seen.p99]),
    );
    p99.goal_times_faster(DOCKER, 5.0);
    vec![rate, p99]
}
