//! What containers with a published port each leave in the kernel's firewall.

use super::lab::Lab;
use super::party::{GORAE, PLAIN, Party};
use crate::bench::report::{Bound, Figure, Goal, Row, Unit};
use crate::bench::subject::output;
use anyhow::{Context, Result};
use serde_json::Value;

const FIRST: u32 = 20_000;

/// Rules, and elements of sets and maps, of a network's whole ruleset.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Count {
    rules: u32,
    elements: u32,
}

pub(super) fn measure(lab: &Lab<'_>) -> Result<Vec<Row>> {
    let mut figures = (Vec::new(), Vec::new());
    for party in lab.parties(&[GORAE, PLAIN]) {
        // docker's growth shows early, and its starts are slow
        let steps: &[u32] = if party.name == GORAE {
            &[10, 100, 1000]
        } else {
            &[10, 50]
        };
        let counted = grow(lab, party, steps);
        for (step, count) in counted {
            let subject = format!("{}, {step} containers", party.name);
            let (mut rules, mut elements) = (Figure::new(&subject), Figure::new(&subject));
            match count {
                Ok(count) => {
                    rules.samples.push(f64::from(count.rules));
                    elements.samples.push(f64::from(count.elements));
                }
                Err(error) => {
                    println!("    {subject} failed: {error:#}");
                    rules.failure = Some(format!("{error:#}"));
                }
            }
            figures.0.push(rules);
            figures.1.push(elements);
        }
    }
    let mut rules = Row::new(
        "rules in the kernel, a published port each",
        Unit::Count,
        figures.0,
    );
    let same = |subject| {
        rules
            .median("gorae, 10 containers")
            .zip(rules.median(subject))
    };
    let met = same("gorae, 1000 containers").map(|(few, many)| many <= few);
    rules
        .goals
        .push(Goal::new("the same number for 10 and for 1,000", met));
    let mut elements = Row::new(
        "elements of sets and maps in the kernel",
        Unit::Count,
        figures.1,
    );
    elements.goal_ratio(
        "gorae, 1000 containers",
        "gorae, 10 containers",
        Bound::AtLeast(2.0),
    );
    Ok(vec![rules, elements])
}

/// Starts more and more containers, and counts at each step.
fn grow(lab: &Lab<'_>, party: &Party, steps: &[u32]) -> Vec<(u32, Result<Count>)> {
    let mut found = Vec::new();
    let mut running = 0;
    for step in steps {
        let count = (running..*step)
            .try_for_each(|number| {
                let publish = format!("--publish={}:80", FIRST + number);
                let start = party.start(&format!("bench-{number}"), &[&publish]);
                start.time(1).map(drop)
            })
            .and_then(|()| count(lab, party));
        let failed = count.is_err();
        found.push((*step, count));
        if failed {
            break;
        }
        running = *step;
    }
    // the next engine is measured without these beside it
    if let Err(error) = party.sweep() {
        println!("xtask: cannot clean {}: {error:#}", party.name);
    }
    found
}

fn count(lab: &Lab<'_>, party: &Party) -> Result<Count> {
    let text = output(
        lab.tool(&party.network, "nft")
            .args(["--json", "list", "ruleset"]),
    )?;
    count_in(&text)
}

fn count_in(text: &str) -> Result<Count> {
    let ruleset: Value = serde_json::from_str(text).context("read nft's list")?;
    let all = ruleset["nftables"]
        .as_array()
        .context("nft lists nothing")?;
    let rules = all.iter().filter(|entry| entry.get("rule").is_some());
    let elements = all.iter().filter_map(|entry| {
        let set = entry.get("set").or_else(|| entry.get("map"))?;
        set["elem"].as_array().map(Vec::len)
    });
    Ok(Count {
        rules: u32::try_from(rules.count())?,
        elements: u32::try_from(elements.sum::<usize>())?,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_list_is_counted() {
        let text = r#"{"nftables": [{"metainfo": {}}, {"table": {}}, {"chain": {}},
            {"map": {"name": "ports", "elem": [[1, 2], [3, 4]]}}, {"set": {"elem": ["a"]}}, {"set": {}},
            {"rule": {"expr": []}}, {"rule": {}}]}"#;
        let count = count_in(text).unwrap();
        assert_eq!(
            count,
            Count {
                rules: 2,
                elements: 3
            }
        );
        assert!(count_in("{}").is_err());
    }
}
