//! `cargo xtask bench`: Gorae beside its peers, on the same machine, in the same minutes.
//!
//! Subjects take turns in short rounds, so that what else the machine does falls on all of them.
//! Every sample is kept: `bench/runs` holds the raw figures and the table made from them.

mod gorae;
mod image;
mod memory;
mod peers;
mod report;
mod rows;
mod subject;

use anyhow::{Context, Result, bail};
use gorae::Gorae;
use peers::Peers;
use report::{Report, Row};
use std::path::{Path, PathBuf};

/// How much is measured.
#[derive(Clone, Debug)]
pub(crate) struct Plan {
    name: Option<String>,
    /// Turns of each subject.
    rounds: u32,
    /// Samples a turn.
    samples: u32,
    /// Turns of what takes seconds.
    long_rounds: u32,
    /// The rows to measure; all when empty.
    only: Vec<String>,
}

impl Plan {
    fn parse(words: &[String]) -> Result<Self> {
        let mut plan = Self {
            name: None,
            rounds: 8,
            samples: 5,
            long_rounds: 3,
            only: Vec::new(),
        };
        let mut words = words.iter();
        while let Some(word) = words.next() {
            let mut value = || {
                words
                    .next()
                    .cloned()
                    .with_context(|| format!("{word} wants a value"))
            };
            match word.as_str() {
                "--name" => plan.name = Some(value()?),
                "--quick" => (plan.rounds, plan.samples, plan.long_rounds) = (2, 3, 1),
                "--only" => plan.only = value()?.split(',').map(str::to_owned).collect(),
                other => bail!("unknown flag {other}"),
            }
        }
        match plan
            .only
            .iter()
            .find(|row| !rows::NAMES.contains(&row.as_str()))
        {
            Some(unknown) => bail!(
                "unknown row {unknown}: there are {}",
                rows::NAMES.join(", ")
            ),
            None => Ok(plan),
        }
    }

    fn wants(&self, row: &str) -> bool {
        self.only.is_empty() || self.only.iter().any(|wanted| wanted == row)
    }
}

/// What the rows measure with.
#[derive(Debug)]
pub(crate) struct Bench {
    plan: Plan,
    folder: PathBuf,
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
    let folder = root().join("target/bench");
    std::fs::create_dir_all(&folder).with_context(|| format!("create {}", folder.display()))?;
    println!("==> Preparing images");
    let tarball = image::busybox(&folder)?;
    let peers = Peers::find(root())?;
    if peers.is_none() {
        println!("==> The peers' tool is missing: only Gorae is measured");
    }
    println!("==> Starting the engines");
    let gorae = Gorae::start(root(), &folder)?;
    let docker_cli = Some(root().join("target/docker-cli/docker")).filter(|path| path.is_file());
    let bench = Bench {
        plan,
        folder,
        gorae,
        peers,
        docker_cli,
    };
    bench.load(&tarball)?;
    let rows = bench.measure();
    // a row that fails leaves nothing either
    let cleaned = bench.clean();
    let report = Report::new(&bench, rows?)?;
    cleaned?;
    report.write(&root().join("bench/runs"))
}

impl Bench {
    /// Gives every engine the same small image.
    fn load(&self, tarball: &Path) -> Result<()> {
        self.gorae
            .call(&["import", &tarball.to_string_lossy(), image::BUSYBOX])?;
        if let Some(peers) = &self.peers {
            peers.load(tarball)?;
        }
        Ok(())
    }

    fn measure(&self) -> Result<Vec<Row>> {
        let mut found = Vec::new();
        for (name, row) in rows::ALL {
            if self.plan.wants(name) {
                println!("==> Measuring {name}");
                found.extend(row(self).with_context(|| format!("measure {name}"))?);
            }
        }
        Ok(found)
    }

    fn clean(&self) -> Result<()> {
        self.peers.as_ref().map_or(Ok(()), Peers::clean)
    }
}
