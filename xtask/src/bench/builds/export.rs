//! A large result that is given a name in the store: nothing of it has to be copied.

use super::lab::{Lab, write};
use crate::bench::report::{Bound, Row, Unit};
use crate::bench::turns::{self, Turn};
use anyhow::Result;

/// Megabytes of the result.
const SIZE: u32 = 900;
/// What the naming may take, milliseconds.
const LIMIT: f64 = 100.0;

pub(super) fn measure(lab: &Lab<'_>) -> Result<Vec<Row>> {
    let mut contexts = Vec::new();
    for builder in lab.builders() {
        let context = lab.context(&format!("large-{}", builder.base().replace('/', "-")))?;
        let text = format!(
            "FROM {}\nRUN for n in $(seq 0 899); do head -c 1000000 /dev/urandom >/f$n; done\n",
            builder.base()
        );
        write(&context.join("Dockerfile"), text)?;
        builder.once(&context, &["-t", "bench/large"])?;
        contexts.push((builder, context));
    }
    let mut turns: Vec<Turn<'_, f64>> = contexts
        .iter()
        .map(|(builder, context)| {
            let mut round = 0_u32;
            Turn::new(builder.name(), move || {
                round += 1;
                let name = format!("bench/large:{round}");
                builder.once(context, &["-t", &name])
            })
        })
        .collect();
    turns::take(lab.bench.plan.long_rounds, &mut turns);
    let mut row = Row::new(
        &format!("a built image of {SIZE} MB gets another name: all cached, exported to the store"),
        Unit::Milliseconds,
        turns::figures(&turns, |time| vec![*time]),
    );
    row.goal_at_most(LIMIT);
    row.goal_ratio("docker", "gorae", Bound::AtLeast(1.0));
    Ok(vec![row])
}
