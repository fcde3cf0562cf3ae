//! An `exec` from its request to its exit code.

use super::milliseconds;
use super::party::Party;
use super::wire::Client;
use crate::bench::Bench;
use crate::bench::report::{Row, Unit};
use crate::bench::turns;
use anyhow::{Context, Result, ensure};
use std::io::Read;
use std::time::Instant;

const NAME: &str = "bench-round";

pub(super) fn measure(bench: &Bench, parties: &[Party]) -> Result<Vec<Row>> {
    let names = [NAME.to_owned()];
    for party in parties {
        party.remove(&names)?;
        party.idle(&mut party.connect()?, NAME)?;
    }
    let mut turns: Vec<_> = parties
        .iter()
        .map(|party| {
            party.turn(|| {
                let mut client = party.connect()?;
                // unmeasured
                exec(party, &mut client)?;
                (0..bench.plan.samples)
                    .map(|_| exec(party, &mut client))
                    .collect::<Result<Vec<f64>>>()
            })
        })
        .collect();
    turns::take(bench.plan.rounds, &mut turns);
    let mut row = Row::new(
        "exec of true over the API: create, start attached, read to the end, inspect",
        Unit::Milliseconds,
        turns::figures(&turns, Clone::clone),
    );
    drop(turns);
    row.goal_times_faster("docker", 15.0);
    for party in parties {
        party.remove(&names)?;
    }
    Ok(vec![row])
}

fn exec(party: &Party, client: &mut Client) -> Result<f64> {
    let begun = Instant::now();
    let body = r#"{"Cmd":["true"],"AttachStdout":true,"AttachStderr":true}"#;
    let made = client.call("POST", &format!("/containers/{NAME}/exec"), body)?;
    let id = made["Id"].as_str().context("read the id of an exec")?;
    let path = format!("/exec/{id}/start");
    let mut stream =
        party
            .connect()?
            .open("POST", &path, r#"{"Detach":false,"Tty":false}"#, true)?;
    let mut text = Vec::new();
    stream
        .read_to_end(&mut text)
        .context("read an exec's output")?;
    ensure!(
        stream.status < 400,
        "{path}: {} {}",
        stream.status,
        String::from_utf8_lossy(&text)
    );
    let told = client.call("GET", &format!("/exec/{id}/json"), "")?;
    ensure!(
        told["ExitCode"] == 0,
        "{path} ends with {}",
        told["ExitCode"]
    );
    Ok(milliseconds(begun.elapsed()))
}
