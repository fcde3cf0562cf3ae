//! How much goes through, by iperf3.

use super::lab::Lab;
use super::namespace::{Addresses, Background};
use super::pair::Ends;
use super::party::{GORAE, PLAIN, PODMAN};
use super::wire::WIRE;
use crate::bench::report::{Bound, Row, Unit};
use crate::bench::subject::output;
use crate::bench::turns::{self, Turn};
use anyhow::{Context, Result, anyhow};
use serde_json::Value;
use std::net::IpAddr;
use std::thread;
use std::time::Duration;

/// The container's server, published under the same number, and the host's.
const PORT: u16 = 5201;
const HOST_PORT: u16 = 5202;

/// Seconds of one sample.
const SECONDS: u32 = 1;

/// From where to where traffic goes.
#[derive(Clone, Copy, Debug)]
enum Path {
    BetweenContainers,
    ToHost,
    Published,
}

impl Path {
    fn name(self) -> &'static str {
        match self {
            Self::BetweenContainers => "container to container",
            Self::ToHost => "container to host",
            Self::Published => "from outside through a published port",
        }
    }

    /// The network that the client is in, the server's addresses, and its port.
    fn ends<'a>(self, lab: &Lab<'_>, ends: &'a Ends) -> (String, &'a Addresses, u16) {
        match self {
            Self::BetweenContainers => (ends.a.clone(), &ends.container, PORT),
            Self::ToHost => (ends.a.clone(), &ends.gateway, HOST_PORT),
            Self::Published => (lab.outside.file(), &ends.published, PORT),
        }
    }
}

/// One subject: where its traffic begins and ends, and the servers.
#[derive(Debug)]
struct Course {
    name: &'static str,
    ends: Ends,
    _servers: [Background; 2],
}

impl Course {
    fn new(lab: &Lab<'_>, name: &'static str, ends: Ends) -> Result<Self> {
        let servers = [
            server(lab, &ends.b, PORT)?,
            server(lab, &ends.host, HOST_PORT)?,
        ];
        Ok(Self {
            name,
            ends,
            _servers: servers,
        })
    }
}

pub(super) fn measure(lab: &Lab<'_>) -> Result<Vec<Row>> {
    let publish = format!("--publish={PORT}:{PORT}");
    let mut courses: Vec<(&'static str, Result<Course>)> = lab
        .parties(&[GORAE, PLAIN, PODMAN])
        .into_iter()
        .map(|party| {
            let course = Ends::new(party, &[], &[&publish])
                .and_then(|ends| Course::new(lab, party.name, ends));
            (party.name, course)
        })
        .collect();
    courses.push((WIRE, Course::new(lab, WIRE, lab.wire.ends())));
    // the addresses of new links may be tentative for a second (RFC 4862 5.4)
    thread::sleep(Duration::from_secs(2));
    let mut rows = Vec::new();
    for path in [Path::BetweenContainers, Path::ToHost, Path::Published] {
        for family in ["IPv4", "IPv6"] {
            rows.push(row(lab, &courses, path, family));
        }
    }
    Ok(rows)
}

fn row(lab: &Lab<'_>, courses: &[(&'static str, Result<Course>)], path: Path, family: &str) -> Row {
    let mut turns: Vec<Turn<'_, f64>> = courses
        .iter()
        .map(|(name, course)| {
            Turn::new(name, move || {
                let course = course.as_ref().map_err(|error| anyhow!("{error:#}"))?;
                sample(lab, course, path, family)
            })
        })
        .collect();
    turns::take(lab.bench.plan.samples, &mut turns);
    let figures = turns::figures(&turns, |found| vec![*found]);
    let title = format!("throughput, {}, {family}", path.name());
    let mut row = Row::new(&title, Unit::GigabitsPerSecond, figures);
    // docker's path is the same kernel code: below this is the spread of the samples
    row.goal_ratio(GORAE, PLAIN, Bound::AtLeast(0.97));
    row.goal_ratio(GORAE, WIRE, Bound::AtLeast(0.95));
    row
}

fn sample(lab: &Lab<'_>, course: &Course, path: Path, family: &str) -> Result<f64> {
    let (client, server, port) = path.ends(lab, &course.ends);
    let address = if family == "IPv4" {
        server.v4
    } else {
        server.v6
    };
    let address =
        address.with_context(|| format!("{} gave no address of {family}", course.name))?;
    let flags = ["--time", &SECONDS.to_string()].map(str::to_owned);
    Ok(client_of(lab, &client, address, port, &flags)? / 1e9)
}

/// An iperf3 server in a network.
pub(super) fn server(lab: &Lab<'_>, network: &str, port: u16) -> Result<Background> {
    Background::start(
        lab.tool(network, "iperf3")
            .args(["--server", "--port", &port.to_string()]),
    )?
    .listening("tcp", port)
    .context("start iperf3")
}

/// Runs an iperf3 client in a network; gives the bits per second that arrived.
pub(super) fn client_of(
    lab: &Lab<'_>,
    network: &str,
    server: IpAddr,
    port: u16,
    flags: &[String],
) -> Result<f64> {
    let run = || {
        let mut client = lab.tool(network, "iperf3");
        client
            .args(["--client", &server.to_string(), "--port", &port.to_string()])
            .args(["--json", "--connect-timeout", "3000"])
            .args(flags);
        // one processor for each end, so that no sample has both on the same
        if thread::available_parallelism().is_ok_and(|cores| cores.get() > 1) {
            client.args(["--affinity", "0,1"]);
        }
        output(&mut client)
    };
    // the server may still be at the end of the test before
    let text = run().or_else(|_| {
        thread::sleep(Duration::from_millis(300));
        run()
    })?;
    let report: Value = serde_json::from_str(&text).context("read iperf3's report")?;
    report["end"]["sum_received"]["bits_per_second"]
        .as_f64()
        .with_context(|| format!("iperf3 gave no rate: {}", report["error"]))
}
