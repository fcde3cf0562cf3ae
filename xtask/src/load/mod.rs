//! Load for the benchmarks: small servers, and clients that keep a fixed number of requests under way.
//!
//! They are tasks of their own because they run in other network namespaces than the benchmark:
//! this file is static, and whoever enters a container's network can start it there.

mod dns;
mod http;
mod lines;

use anyhow::{Context, Result, bail};
use serde_json::{Value, json};
use std::net::SocketAddr;
use std::time::Duration;

/// `load KIND ...`: asks, and prints what came of it as JSON.
pub(crate) fn ask(words: &[String]) -> Result<()> {
    let words: Vec<&str> = words.iter().map(String::as_str).collect();
    let tally = match words.as_slice() {
        ["http", server, connections, "keep", time] => {
            http::ask(address(server)?, number(connections)?, true, millis(time)?)?
        }
        ["http", server, connections, "close", time] => {
            http::ask(address(server)?, number(connections)?, false, millis(time)?)?
        }
        ["dns", server, name, window, time] => {
            dns::ask(address(server)?, name, number(window)?, millis(time)?)?
        }
        ["lines", length, rate, seconds] => return lines::write(length, rate, seconds),
        _ => bail!(
            "load wants http ADDRESS CONNECTIONS keep|close MS, dns ADDRESS NAME AT-ONCE MS, or lines BYTES RATE SECONDS"
        ),
    };
    println!("{}", tally.json()?);
    Ok(())
}

/// `serve KIND ADDRESS`: answers until it is ended.
pub(crate) fn serve(words: &[String]) -> Result<()> {
    let words: Vec<&str> = words.iter().map(String::as_str).collect();
    match words.as_slice() {
        ["http", own] => http::serve(address(own)?),
        ["dns", own] => dns::serve(address(own)?),
        _ => bail!("serve wants http ADDRESS, or dns ADDRESS"),
    }
}

fn address(word: &str) -> Result<SocketAddr> {
    word.parse()
        .with_context(|| format!("invalid address {word:?}"))
}

fn number(word: &str) -> Result<u16> {
    word.parse()
        .ok()
        .filter(|number| *number > 0)
        .with_context(|| format!("invalid number {word:?}"))
}

fn millis(word: &str) -> Result<Duration> {
    let millis = word
        .parse()
        .with_context(|| format!("invalid number of milliseconds {word:?}"))?;
    Ok(Duration::from_millis(millis))
}

/// What a client saw.
#[derive(Debug, Default)]
struct Tally {
    /// How long each answered request took.
    taken: Vec<Duration>,
    /// How long all of it took.
    elapsed: Duration,
    /// Requests that nobody answered.
    lost: u64,
}

impl Tally {
    fn json(mut self) -> Result<Value> {
        self.taken.sort_unstable();
        let last = self
            .taken
            .len()
            .checked_sub(1)
            .context("no request was answered")?;
        let quantile = |percent: usize| self.taken[(last * percent).div_ceil(100)].as_secs_f64();
        Ok(json!({
            "answered": self.taken.len(),
            "lost": self.lost,
            "seconds": self.elapsed.as_secs_f64(),
            "p50": quantile(50) * 1e3,
            "p99": quantile(99) * 1e3,
        }))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tallies() {
        let tally = Tally {
            taken: (1..=100).rev().map(Duration::from_millis).collect(),
            elapsed: Duration::from_secs(1),
            lost: 2,
        };
        let json = tally.json().unwrap();
        assert_eq!((&json["answered"], &json["lost"]), (&json!(100), &json!(2)));
        assert!((json["p50"].as_f64().unwrap() - 51.0).abs() < 1e-6);
        assert!((json["p99"].as_f64().unwrap() - 100.0).abs() < 1e-6);
        assert!(Tally::default().json().is_err());
    }
}
