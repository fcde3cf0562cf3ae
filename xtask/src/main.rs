//! Project tasks: `cargo xtask bench` measures Gorae against other engines.
//!
//! The tidy checks are this package's tests. Nothing here is part of what users install.
#![forbid(unsafe_code)]
#![expect(clippy::print_stdout, reason = "a task tells its user what it does")]

mod bench;
mod stopwatch;

use anyhow::{Result, bail};
use std::process::ExitCode;

const USAGE: &str = "Usage:  cargo xtask bench [--name NAME] [--quick] [--only ROW,...]
            measure against the peers; rows: run, none, client, exec, fifty, pull
        cargo xtask time RUNS -- COMMAND...
            print the nanoseconds of each run; {n} in an argument is the run's number";

fn main() -> ExitCode {
    let words: Vec<String> = std::env::args().skip(1).collect();
    match dispatch(&words) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            println!("xtask: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn dispatch(words: &[String]) -> Result<()> {
    match words.split_first() {
        Some((task, rest)) if task == "bench" => bench::run(rest),
        Some((task, rest)) if task == "time" => stopwatch::print(rest),
        _ => bail!("no such task\n\n{USAGE}"),
    }
}
