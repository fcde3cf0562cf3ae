//! Timing programs from their start to their end.
//!
//! It is a task of its own so that the loop can run where the program is: this file is static, and
//! a peer's root sees it too. So no step between the loop and the program is measured.

use anyhow::{Context, Result, bail};
use std::process::{Command, Stdio};
use std::time::Instant;

/// `time RUNS -- COMMAND...`: prints the nanoseconds of each run as a JSON list.
pub(crate) fn print(words: &[String]) -> Result<()> {
    let [runs, dashes, command @ ..] = words else {
        bail!("time wants RUNS -- COMMAND...")
    };
    if dashes != "--" || command.is_empty() {
        bail!("time wants RUNS -- COMMAND...");
    }
    let runs: u32 = runs
        .parse()
        .with_context(|| format!("invalid number of runs {runs:?}"))?;
    let samples = (1..=runs)
        .map(|number| measure(command, number))
        .collect::<Result<Vec<u64>>>()?;
    println!("{}", serde_json::to_string(&samples)?);
    Ok(())
}

/// Runs a command once; gives its nanoseconds.
fn measure(words: &[String], number: u32) -> Result<u64> {
    let words: Vec<String> = words
        .iter()
        .map(|word| word.replace("{n}", &number.to_string()))
        .collect();
    let mut command = Command::new(&words[0]);
    command
        .args(&words[1..])
        .stdin(Stdio::null())
        .stdout(Stdio::null());
    let begun = Instant::now();
    let status = command
        .status()
        .with_context(|| format!("start {}", words[0]))?;
    let taken = begun.elapsed();
    if !status.success() {
        bail!("run {number} ended with {status}");
    }
    Ok(u64::try_from(taken.as_nanos())?)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_put_in() {
        let words = ["test", "{n}", "=", "7"].map(str::to_owned);
        assert!(measure(&words, 7).unwrap() > 0);
        assert!(measure(&words, 8).is_err());
    }
}
