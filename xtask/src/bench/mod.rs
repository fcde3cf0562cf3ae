//! `cargo xtask bench`: Gorae beside its peers, on the same machine, in the same minutes.
//!
//! Subjects take turns in short rounds, so that what else the machine does falls on all of them.
//! Every sample is kept: `bench/runs` holds the raw figures and the table made from them.
//! What cannot be measured is named in the table with its reason, and the run goes on.

mod api;
mod builds;
mod gorae;
mod image;
mod images;
mod memory;
mod network;
mod peers;
mod plan;
mod report;
mod rows;
mod subject;
mod turns;

use anyhow::{Context, Result, bail};
use gorae::Gorae;
use peers::Peers;
use plan::Plan;
use report::{Report, Row};
use std::path::{Path, PathBuf};

/// What the rows measure with.
#[derive(Debug)]
pub(crate) struct Bench {
    plan: Plan,
    folder: PathBuf,
    programs: PathBuf,
    tarball: PathBuf,
    gorae: Gorae,
    /// Absent where the tool that sets the peers up is.
    peers: Option<Peers>,
    docker_cli: Option<PathBuf>,
}

/// The folder of the workspace.
fn root() -> &'static Path {
    let own = Path::new(env!("CARGO_MANIFEST_DIR"));
    own.parent().unwrap_or(own)
}

/// Measures what the words ask for, and writes the report.
pub(crate) fn run(words: &[String]) -> Result<()> {
    let plan = Plan::parse(words)?;
    let bench = Bench::start(plan)?;
    bench.load()?;
    let rows = bench.measure();
    // rows that failed leave nothing either
    let cleaned = bench.clean();
    let report = Report::new(&bench, rows)?;
    report.write(&root().join("bench/runs"))?;
    cleaned?;
    match report.failures().len() {
        0 => Ok(()),
        count => bail!("not measured: {count}; the report says why"),
    }
}

impl Bench {
    /// Makes the images, and starts the engines.
    fn start(plan: Plan) -> Result<Self> {
        let folder = root().join("target/bench");
        std::fs::create_dir_all(&folder).with_context(|| format!("create {}", folder.display()))?;
        println!("==> Preparing images");
        let tarball = image::busybox(&folder)?;
        let peers = Peers::find(root(), plan.peers.as_deref())?;
        if peers.is_none() {
            println!("==> The peers' tool is missing: only Gorae is measured");
        }
        println!("==> Starting the engines");
        let programs = plan
            .programs
            .clone()
            .unwrap_or_else(|| root().join("target/gorae/bin"));
        let gorae = Gorae::start(gorae::MAIN, &programs, &folder)?;
        let docker_cli =
            Some(root().join("target/docker-cli/docker")).filter(|path| path.is_file());
        Ok(Self {
            plan,
            folder,
            programs,
            tarball,
            gorae,
            peers,
            docker_cli,
        })
    }

    /// Gives every engine the same small image.
    fn load(&self) -> Result<()> {
        let tarball = self.tarball.to_string_lossy();
        self.gorae.call(&["import", &tarball, image::BUSYBOX])?;
        if let Some(peers) = &self.peers {
            peers.load(&self.tarball)?;
        }
        Ok(())
    }

    fn measure(&self) -> Vec<Row> {
        let mut found = Vec::new();
        for (name, row) in rows::ALL {
            if self.plan.wants(plan::ENGINE, name) {
                found.extend(one(name, || row(self)));
            }
        }
        if network::NAMES
            .iter()
            .any(|name| self.plan.wants(plan::NETWORK, name))
        {
            found.extend(network::measure(self));
        }
        if api::NAMES
            .iter()
            .any(|name| self.plan.wants(plan::API, name))
        {
            found.extend(api::measure(self));
        }
        if images::NAMES
            .iter()
            .any(|name| self.plan.wants(plan::IMAGES, name))
        {
            found.extend(images::measure(self));
        }
        if builds::NAMES
            .iter()
            .any(|name| self.plan.wants(plan::BUILDS, name))
        {
            found.extend(builds::measure(self));
        }
        found
    }

    fn clean(&self) -> Result<()> {
        self.peers.as_ref().map_or(Ok(()), Peers::clean)
    }
}

/// Measures one row, or says why it could not be.
fn one(name: &str, row: impl FnOnce() -> Result<Vec<Row>>) -> Vec<Row> {
    println!("==> Measuring {name}");
    let begun = std::time::Instant::now();
    let rows = row().unwrap_or_else(|error| {
        println!("    failed: {error:#}");
        vec![Row::failed(name, &error)]
    });
    println!("    took {:.0} s", begun.elapsed().as_secs_f64());
    rows
}
