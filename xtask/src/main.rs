//! Project tasks: `cargo xtask bench` measures Gorae against other engines.
//!
//! The tidy checks are this package's tests. Nothing here is part of what users install.
#![forbid(unsafe_code)]
#![expect(clippy::print_stdout, reason = "a task tells its user what it does")]

mod bench;
mod load;
mod stopwatch;

use anyhow::{Result, bail};
use std::process::ExitCode;

const USAGE: &str = "Usage:  cargo xtask bench [SUITE...] [--name NAME] [--quick] [--only ROW,...] [--programs FOLDER] [--peers TOOL]
            measure against the peers; suites and their rows, all without a word:
              engine   run, none, client, exec, fifty
              network  create, connect, ports, range, throughput, http, dns, limits, rules
              api      lists, thousand, follow, compose, round, stats, ping
              images   pull, zstd, missing, push, archive, registry
        cargo xtask time RUNS -- COMMAND...
            print the nanoseconds of each run; {n} in an argument is the run's number
        cargo xtask load http ADDRESS CONNECTIONS keep|close MS
        cargo xtask load dns ADDRESS NAME AT-ONCE MS
            ask a server for so long; print how often and how fast it answered
        cargo xtask load lines BYTES RATE SECONDS
            write lines of so many bytes at so many bytes a second
        cargo xtask serve http|dns ADDRESS
            answer every request with the same";

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
        Some((task, rest)) if task == "load" => load::ask(rest),
        Some((task, rest)) if task == "serve" => load::serve(rest),
        Some((task, rest)) if task == "time" => stopwatch::print(rest),
        _ => bail!("no such task\n\n{USAGE}"),
    }
}
