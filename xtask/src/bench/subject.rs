//! One engine's way to do what a row measures.

use super::peers::Peers;
use anyhow::{Context, Result, bail};
use std::path::Path;
use std::process::{Command, Stdio};
use std::sync::mpsc::{self, RecvTimeoutError};
use std::thread;
use std::time::Duration;

/// A command that takes longer hangs.
const PATIENCE: Duration = Duration::from_secs(180);

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

impl Place {
    /// A program of this place.
    pub(crate) fn command(&self, program: &str) -> Command {
        match self {
            Self::Here(variables) => {
                let mut command = Command::new(program);
                command.envs(variables.iter().map(|(name, value)| (name, value)));
                command
            }
            Self::Peers(holder) => Peers::enter(*holder, program),
        }
    }
}

impl Subject {
    /// Runs the command a number of times, one after another; gives milliseconds.
    pub(crate) fn time(&self, runs: u32) -> Result<Vec<f64>> {
        let own = std::env::current_exe().context("find this program's own file")?;
        let words = ["time".to_owned(), runs.to_string(), "--".to_owned()]
            .into_iter()
            .chain(self.command.iter().cloned());
        let mut command = match &self.place {
            Place::Here(_) => self.place.command(&word(&own)),
            Place::Peers(_) => self.place.command(&Peers::seen(&own)),
        };
        command.args(words);
        let text = output(&mut command).with_context(|| format!("time {}", self.name))?;
        let nanos: Vec<u64> = serde_json::from_str(text.trim())
            .with_context(|| format!("read the times of {}", self.name))?;
        Ok(nanos.into_iter().map(|nanos| nanos as f64 / 1e6).collect())
    }
}

/// Runs a command to its end; gives what it prints.
pub(crate) fn output(command: &mut Command) -> Result<String> {
    let child = command
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .with_context(|| format!("start {:?}", command.get_program()))?;
    let pid = child.id();
    let (ended, end) = mpsc::channel::<()>();
    let watch = thread::spawn(move || {
        if end.recv_timeout(PATIENCE) == Err(RecvTimeoutError::Timeout) {
            kill(pid, "KILL");
        }
    });
    let output = child.wait_with_output();
    drop(ended);
    if watch.join().is_err() {
        bail!("the thread that watches {command:?} panicked");
    }
    let output = output.with_context(|| format!("wait for {command:?}"))?;
    if !output.status.success() {
        let text = [output.stdout, output.stderr].concat();
        bail!(
            "{} ended with {}: {}",
            brief(command),
            output.status,
            String::from_utf8_lossy(&text).trim()
        );
    }
    Ok(String::from_utf8_lossy(&output.stdout).into_owned())
}

/// A command without the folders and the namespaces that it runs in.
fn brief(command: &Command) -> String {
    let all = std::iter::once(command.get_program()).chain(command.get_args());
    let mut words: Vec<String> = all
        .map(|word| word.to_string_lossy().into_owned())
        .collect();
    if words.first().is_some_and(|word| word == "nsenter") {
        let entered = |word: &String| {
            !word.starts_with("--") && !word.bytes().all(|byte| byte.is_ascii_digit())
        };
        let begin = words[1..].iter().position(entered).unwrap_or_default();
        words.drain(..=begin);
    }
    for word in &mut words {
        if let Some((_, name)) = word.rsplit_once('/').filter(|_| word.starts_with('/')) {
            *word = name.to_owned();
        }
    }
    words.join(" ")
}

/// Signals a process that was started here.
pub(crate) fn kill(pid: u32, signal: &str) {
    let status = Command::new("kill")
        .args(["-s", signal, &pid.to_string()])
        .status();
    if !status.is_ok_and(|status| status.success()) {
        println!("xtask: cannot send {signal} to process {pid}");
    }
}

/// A path as a word of a command line.
pub(crate) fn word(path: &Path) -> String {
    path.to_string_lossy().into_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn failures_are_brief() {
        let mut command = Command::new("nsenter");
        command.args(["--target", "12", "--net=/run/netns/x", "/usr/bin/docker"]);
        command.args(["run", "--rm", "a/b"]);
        assert_eq!(brief(&command), "docker run --rm a/b");
        let failed = output(Command::new("sh").args(["-c", "echo no >&2; exit 3"]));
        let text = failed.unwrap_err().to_string();
        assert_eq!(
            text,
            "sh -c echo no >&2; exit 3 ended with exit status: 3: no"
        );
    }
}
