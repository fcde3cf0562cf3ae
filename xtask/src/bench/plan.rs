//! What the command line asks to be measured, and how often.

use super::{api, builds, images, network, rows};
use anyhow::{Context, Result, bail};
use std::path::PathBuf;

/// The suite of containers and images.
pub(crate) const ENGINE: &str = "engine";
/// The suite of networks.
pub(crate) const NETWORK: &str = "network";
/// The suite of the API.
pub(crate) const API: &str = "api";
/// The suite of images and registries.
pub(crate) const IMAGES: &str = "images";
/// The suite of builds.
pub(crate) const BUILDS: &str = "builds";

/// How much is measured.
#[derive(Clone, Debug)]
pub(crate) struct Plan {
    pub(crate) name: Option<String>,
    /// Turns of each subject.
    pub(crate) rounds: u32,
    /// Samples a turn.
    pub(crate) samples: u32,
    /// Turns of what takes seconds.
    pub(crate) long_rounds: u32,
    /// Few containers and short times, to see whether everything can be measured.
    pub(crate) quick: bool,
    /// The suites to measure; all when empty.
    suites: Vec<String>,
    /// The rows to measure; all of the suites when empty.
    only: Vec<String>,
    /// The folder of Gorae's executables, where it is not that of `make build`.
    pub(crate) programs: Option<PathBuf>,
    /// The tool that sets the peers up, where it is not beside the checkout.
    pub(crate) peers: Option<PathBuf>,
}

impl Plan {
    pub(crate) fn parse(words: &[String]) -> Result<Self> {
        let mut plan = Self {
            name: None,
            rounds: 8,
            samples: 5,
            long_rounds: 3,
            quick: false,
            suites: Vec::new(),
            only: Vec::new(),
            programs: None,
            peers: None,
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
                ENGINE | NETWORK | API | IMAGES | BUILDS => plan.suites.push(word.clone()),
                "--name" => plan.name = Some(value()?),
                "--quick" => {
                    (plan.rounds, plan.samples, plan.long_rounds) = (2, 3, 1);
                    plan.quick = true;
                }
                "--only" => plan.only = value()?.split(',').map(str::to_owned).collect(),
                "--programs" => plan.programs = Some(value()?.into()),
                "--peers" => plan.peers = Some(value()?.into()),
                other => bail!("unknown word {other}"),
            }
        }
        let known = || {
            let engine = rows::NAMES.iter().chain(&network::NAMES);
            let engine = engine.chain(&api::NAMES).chain(&images::NAMES);
            engine.chain(&builds::NAMES)
        };
        let unknown = plan
            .only
            .iter()
            .find(|row| !known().any(|name| name == row));
        match unknown {
            Some(unknown) => bail!(
                "unknown row {unknown}: there are {}",
                known().copied().collect::<Vec<_>>().join(", ")
            ),
            None => Ok(plan),
        }
    }

    /// How many containers the rows about many have.
    pub(crate) fn many(&self) -> u32 {
        if self.quick { 50 } else { 1000 }
    }

    /// Whether a row of a suite is to be measured.
    pub(crate) fn wants(&self, suite: &str, row: &str) -> bool {
        let listed = |list: &[String], word: &str| {
            list.is_empty() || list.iter().any(|wanted| wanted == word)
        };
        listed(&self.suites, suite) && listed(&self.only, row)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn plan(words: &str) -> Result<Plan> {
        let words: Vec<String> = words.split_whitespace().map(str::to_owned).collect();
        Plan::parse(&words)
    }

    #[test]
    fn suites_and_rows() {
        let all = plan("").unwrap();
        assert!(all.wants(ENGINE, "run") && all.wants(NETWORK, "dns"));
        let suite = plan("network --quick").unwrap();
        assert!(!suite.wants(ENGINE, "run") && suite.wants(NETWORK, "dns"));
        let row = plan("--only dns,exec").unwrap();
        assert!(row.wants(ENGINE, "exec") && row.wants(NETWORK, "dns"));
        assert!(!row.wants(NETWORK, "http"));
        let many = |words| plan(words).unwrap().many();
        assert!(many("api") == 1000 && many("api --quick") < 1000);
        for broken in ["--only nothing", "--only", "nothing"] {
            assert!(plan(broken).is_err(), "{broken}");
        }
    }
}
