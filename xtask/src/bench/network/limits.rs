//! How near a bandwidth limit is to what it says.

use super::lab::Lab;
use super::namespace::{addresses, of_process};
use super::party::GORAE;
use super::throughput::{client_of, server};
use crate::bench::report::{Figure, Goal, Row, Unit};
use anyhow::{Context, Result, anyhow};
use std::thread;

const PORT: u16 = 5201;

/// The limits, and their bits a second.
const RATES: [(&str, f64); 4] = [
    ("1mbit", 1e6),
    ("10mbit", 1e7),
    ("100mbit", 1e8),
    ("1gbit", 1e9),
];

/// How much of a limit arrived, in percent.
#[derive(Clone, Copy, Debug)]
struct Case {
    rate: &'static str,
    bits: f64,
    flag: &'static str,
    direction: &'static str,
}

fn cases() -> Vec<Case> {
    let directions = [("--net-ingress", "in"), ("--net-egress", "out")];
    RATES
        .iter()
        .flat_map(|(rate, bits)| {
            directions.map(|(flag, direction)| Case {
                rate,
                bits: *bits,
                flag,
                direction,
            })
        })
        .collect()
}

pub(super) fn measure(lab: &Lab<'_>) -> Result<Vec<Row>> {
    let rounds = lab.bench.plan.long_rounds.min(2);
    let mut figures = Vec::new();
    // the slow ones leave the processors idle, and run at once; the fastest alone
    let (slow, fast): (Vec<Case>, Vec<Case>) =
        cases().into_iter().partition(|case| case.bits < 1e9);
    figures.extend(at_once(lab, &slow, rounds));
    for case in fast {
        figures.extend(at_once(lab, &[case], rounds));
    }
    let mut row = Row::new(
        "bandwidth limits: what arrives of the limit",
        Unit::Percent,
        figures,
    );
    row.goals.push(Goal::new(
        "every sample within 5 % of the limit",
        within(&row.figures),
    ));
    Ok(vec![row])
}

fn within(figures: &[Figure]) -> Option<bool> {
    let whole = figures
        .iter()
        .all(|figure| figure.failure.is_none() && !figure.samples.is_empty());
    let near = |sample: &f64| (95.0..=105.0).contains(sample);
    whole.then(|| figures.iter().flat_map(|figure| &figure.samples).all(near))
}

fn at_once(lab: &Lab<'_>, cases: &[Case], rounds: u32) -> Vec<Figure> {
    thread::scope(|scope| {
        let threads: Vec<_> = cases
            .iter()
            .map(|case| (case, scope.spawn(move || samples(lab, *case, rounds))))
            .collect();
        threads
            .into_iter()
            .map(|(case, thread)| {
                let mut figure = Figure::new(&format!("{GORAE}, {} {}", case.rate, case.direction));
                let found = thread
                    .join()
                    .unwrap_or_else(|_| Err(anyhow!("a thread panicked")));
                match found {
                    Ok(samples) => figure.samples = samples,
                    Err(error) => {
                        println!("    {} failed: {error:#}", figure.subject);
                        figure.failure = Some(format!("{error:#}"));
                    }
                }
                figure
            })
            .collect()
    })
}

fn samples(lab: &Lab<'_>, case: Case, rounds: u32) -> Result<Vec<f64>> {
    let party = lab.gorae()?;
    let name = format!("bench-{}-{}", case.rate, case.direction);
    let network = of_process(party.run(&name, &[case.flag, case.rate])?);
    let address = addresses(&network)?.v4;
    let address = address.context("the container has no IPv4 address")?;
    let _server = server(lab, &network, PORT)?;
    // the bucket's first burst, and the window's growth, are not the rate
    let mut flags = vec!["--omit=2".to_owned()];
    if case.bits < 1e9 {
        // blocks that arrive many times a second, so that the last one's part is small
        flags.extend(["--time=10".to_owned(), "--length=4K".to_owned()]);
    } else {
        flags.push("--time=4".to_owned());
    }
    if case.direction == "out" {
        flags.push("--reverse".to_owned());
    }
    (0..rounds)
        .map(|_| Ok(client_of(lab, &party.network, address, PORT, &flags)? * 100.0 / case.bits))
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn five_percent() {
        let figure = |samples: &[f64]| Figure {
            samples: samples.to_vec(),
            ..Figure::new("x")
        };
        assert_eq!(within(&[figure(&[95.0, 105.0])]), Some(true));
        assert_eq!(within(&[figure(&[100.0]), figure(&[94.9])]), Some(false));
        assert_eq!(within(&[figure(&[100.0]), figure(&[])]), None);
        assert_eq!(cases().len(), 8);
    }
}
