//! `docker compose up` and `down` of a project of ten services, by the same client against every engine.

use super::party::Party;
use super::timed;
use crate::bench::Bench;
use crate::bench::report::{Bound, Row, Unit};
use crate::bench::subject::output;
use crate::bench::turns::{self, Turn};
use anyhow::{Context, Result, bail};
use std::fmt::Write as _;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::process::Command;

const SERVICES: u32 = 10;
const PLUGIN: &str = "usr/libexec/docker/cli-plugins/docker-compose";

/// What one turn finds, milliseconds.
#[derive(Debug)]
struct Found {
    up: f64,
    down: f64,
    version: f64,
}

pub(super) fn measure(bench: &Bench, parties: &[Party]) -> Result<Vec<Row>> {
    let client = bench
        .docker_cli
        .clone()
        .context("find target/docker-cli/docker: run scripts/fetch-docker-cli")?;
    let home = home(bench)?;
    let mut turns: Vec<Turn<'_, Found>> = parties
        .iter()
        .map(|party| {
            let (client, home) = (client.clone(), home.clone());
            party.turn(move || turn(party, &client, &home))
        })
        .collect();
    turns::take(bench.plan.long_rounds, &mut turns);
    let row = |what: &str, samples: fn(&Found) -> f64| {
        let figures = turns::figures(&turns, |found| vec![samples(found)]);
        let title = format!("docker compose {what}");
        Row::new(&title, Unit::Milliseconds, figures)
    };
    let of_ten = format!("of {SERVICES} services in one network");
    let mut up = row(&format!("up -d {of_ten}"), |found| found.up);
    let mut down = row(&format!("down {of_ten}"), |found| found.down);
    for row in [&mut up, &mut down] {
        row.goal_ratio("docker", "gorae", Bound::AtLeast(5.0));
    }
    let version = row("version: the client's own start", |found| found.version);
    Ok(vec![up, down, version])
}

fn turn(party: &Party, client: &Path, home: &Path) -> Result<Found> {
    let file = home.join(format!("{}.yml", party.name));
    std::fs::write(&file, project(party.image)).context("write a compose file")?;
    let compose = |words: &[&str]| {
        let mut command = Command::new(client);
        command
            .env("HOME", home)
            .env("DOCKER_HOST", format!("unix://{}", party.socket.display()))
            .args([
                "compose",
                "--progress",
                "quiet",
                "--project-name",
                "bench-compose",
                "--file",
            ])
            .arg(&file)
            .args(words);
        output(&mut command).map(drop)
    };
    compose(&["down", "--timeout", "2"])?;
    let version = timed(|| compose(&["version"]))?;
    let up = timed(|| compose(&["up", "--detach"]));
    let down = timed(|| compose(&["down"]))?;
    Ok(Found {
        up: up?,
        down,
        version,
    })
}

/// Services that end when they are told to, as those do that people write; one stands on the other.
fn project(image: &str) -> String {
    let mut text = "services:\n".to_owned();
    for number in 1..=SERVICES {
        // a String takes all that is written to it
        let _ = write!(
            text,
            "  s{number}:\n    image: {image}\n    pull_policy: never\n    command: [sh, -c, \"trap 'exit 0' TERM; sleep 86400 & wait\"]\n    environment: {{NUMBER: \"{number}\"}}\n"
        );
        if number % 5 == 0 {
            let _ = writeln!(text, "    depends_on: [s{}]", number - 1);
        }
    }
    text
}

/// A home folder with Compose as a plugin of the client.
fn home(bench: &Bench) -> Result<PathBuf> {
    let plugin = crate::bench::root()
        .join("target/docker-compose")
        .join(PLUGIN);
    if !plugin.is_file() {
        bail!(
            "find {}: run scripts/fetch-docker-compose",
            plugin.display()
        );
    }
    let home = bench.folder.join("home");
    let plugins = home.join(".docker/cli-plugins");
    std::fs::create_dir_all(&plugins).with_context(|| format!("create {}", plugins.display()))?;
    let link = plugins.join("docker-compose");
    if !link.exists() {
        symlink(&plugin, &link).with_context(|| format!("create {}", link.display()))?;
    }
    Ok(home)
}
