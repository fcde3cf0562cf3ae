//! One engine's way to do what a row measures.

use super::peers::Peers;
use anyhow::{Context, Result, bail};
use std::path::Path;
use std::process::{Command, Stdio};

/// A command to be timed.
#[derive(Clone, Debug)]
pub(crate) struct Subject {
    pub(crate) name: &'static str,
    pub(crate) command: Vec<String>,
    pub(crate) place: Place,
}

/// Where a command runs.
#[derive(Clone, Debug)]
pub(crate) enum Place {
    /// On this machine, with variables of its own.
    Here(Vec<(&'static str, String)>),
    /// In the root and the network of this process of the peers.
    Peers(u32),
}

impl Subject {
    /// Runs the command a number of times, one after another; gives milliseconds.
    pub(crate) fn time(&self, runs: u32) -> Result<Vec<f64>> {
        let own = std::env::current_exe().context("find this program's own file")?;
        let words = ["time".to_owned(), runs.to_string(), "--".to_owned()]
            .into_iter()
            .chain(self.command.iter().cloned());
        let mut command = match &self.place {
            Place::Here(variables) => {
                let mut command = Command::new(own);
                command.envs(variables.iter().map(|(name, value)| (name, value)));
                command
            }
            Place::Peers(holder) => Peers::enter(*holder, &Peers::seen(&own)),
        };
        command.args(words);
        let text = output(&mut command)
            .with_context(|| format!("time {}: {:?}", self.name, self.command))?;
        let nanos: Vec<u64> = serde_json::from_str(text.trim())
            .with_context(|| format!("read the times of {}", self.name))?;
        Ok(nanos.into_iter().map(|nanos| nanos as f64 / 1e6).collect())
    }
}

/// Runs a command to its end; gives what it prints.
pub(crate) fn output(command: &mut Command) -> Result<String> {
    let output = command
        .stdin(Stdio::null())
        .output()
        .with_context(|| format!("start {:?}", command.get_program()))?;
    if !output.status.success() {
        let text = [output.stdout, output.stderr].concat();
        bail!(
            "{command:?} ended with {}: {}",
            output.status,
            String::from_utf8_lossy(&text).trim()
        );
    }
    Ok(String::from_utf8_lossy(&output.stdout).into_owned())
}

/// A path as a word of a command line.
pub(crate) fn word(path: &Path) -> String {
    path.to_string_lossy().into_owned()
}
