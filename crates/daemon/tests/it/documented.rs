//! `docs/api.md` tells the truth: each operation of its tables is there and answers as it says.

use std::collections::BTreeSet;
use std::path::Path;

use api::client::Client;

use crate::fixture::with_engine;

/// The operations of Docker's newest specification.
const OPERATIONS: usize = 108;

/// A line of the tables.
#[derive(Debug)]
struct Operation {
    method: String,
    path: String,
    served: bool,
    status: u16,
}

fn documented() -> Vec<Operation> {
    let page = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../docs/api.md");
    let text = std::fs::read_to_string(page).unwrap();
    let section = text.split("## Operations").nth(1).unwrap();
    let section = section.split("\n## ").next().unwrap();
    let rows = section.lines().filter(|line| line.starts_with("| `"));
    rows.map(|row| {
        let cells: Vec<&str> = row.split('|').map(str::trim).collect();
        let (method, path) = cells[1].trim_matches('`').split_once(' ').unwrap();
        assert!(["served", "refused"].contains(&cells[2]), "{row}");
        Operation {
            method: method.into(),
            path: path.into(),
            served: cells[2] == "served",
            status: cells[3].parse().unwrap(),
        }
    })
    .collect()
}

/// The status of a request without anything, and the beginning of its answer's text.
async fn bare(client: &Client, operation: &Operation) -> (u16, String) {
    let path = operation
        .path
        .split('/')
        .map(|part| {
            if part.starts_with('{') {
                "nosuch"
            } else {
                part
            }
        })
        .collect::<Vec<_>>()
        .join("/");
    let method = operation.method.parse().unwrap();
    let request = client.request(method, &path);
    // the stream of events never ends, and what matters is how it begins
    let answer = tokio::time::timeout(std::time::Duration::from_secs(60), request.send());
    match answer.await.unwrap() {
        Ok(answer) => (answer.status(), String::new()),
        Err(api::client::ClientError::Response { status, message }) => (status, message),
        Err(other) => panic!("{operation:?}: {other}"),
    }
}

#[test]
fn every_operation_answers_as_it_is_documented() {
    let operations = documented();
    let names: BTreeSet<_> = operations.iter().map(|o| (&o.method, &o.path)).collect();
    assert_eq!((operations.len(), names.len()), (OPERATIONS, OPERATIONS));
    with_engine(async |client| {
        let mut wrong = Vec::new();
        for operation in &operations {
            let (status, message) = bare(client, operation).await;
            // an operation of a newer version is what an engine of this one does not have
            let is_there = message != "page not found" || operation.path.ends_with("/attestations");
            let is_served = !operation.served || status != 501;
            if !(is_there && is_served && status == operation.status) {
                wrong.push(format!("{operation:?}: {status} {message}"));
            }
        }
        assert!(wrong.is_empty(), "{}", wrong.join("\n"));
    });
}
