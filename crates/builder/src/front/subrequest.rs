//! Questions about a Dockerfile, which build nothing.

use std::collections::BTreeMap;
use std::sync::Arc;

use bollard_buildkit_proto::pb;
use dockerfile::convert::Options;
use serde_json::json;

use super::FrontResult;
use super::context::Loaded;
use super::resolve::Resolver;
use crate::error::{Error, Result, Step as _};
use crate::job::Job;

/// The question which questions there are.
pub(super) const DESCRIBE: &str = "frontend.subrequests.describe";
/// The questions, with what they are about.
const QUESTIONS: [(&str, &str); 4] = [
    ("frontend.outline", "List all parameters current build target supports"),
    ("frontend.targets", "List all targets current build supports"),
    ("frontend.lint", "Lint a Dockerfile"),
    (DESCRIBE, "List available subrequest types"),
];

/// The question that a request is, if it is one.
pub(super) fn asked(attrs: &BTreeMap<String, String>) -> Option<&str> {
    super::context::text(attrs, "requestid")
}

fn documents(documents: impl IntoIterator<Item = (&'static str, Vec<u8>)>) -> FrontResult {
    let documents = documents.into_iter();
    FrontResult {
        metadata: documents.map(|(name, bytes)| (name.to_owned(), bytes)).collect(),
        ..FrontResult::default()
    }
}

/// Which questions there are.
pub(super) fn describe() -> FrontResult {
    let list: Vec<_> = QUESTIONS
        .iter()
        .map(|(name, description)| {
            let named: &[_] = &["result.json", "result.txt"].map(|name| json!({"Name": name}));
            json!({
                "Name": name, "Version": "1.0.0", "Type": "rpc",
                "Description": description, "Metadata": named,
            })
        })
        .collect();
    let mut text = String::from("NAME\tVERSION\tDESCRIPTION\n");
    for (name, description) in QUESTIONS {
        text.push_str(&format!("{name}\t1.0.0\t{description}\n"));
    }
    let json = serde_json::Value::from(list).to_string();
    documents([
        ("result.json", json.into_bytes()),
        ("result.txt", text.into_bytes()),
        ("version", b"1.0.0".to_vec()),
    ])
}

/// Answers.
pub(super) async fn answer(
    job: &Arc<Job>,
    asked: &str,
    options: Options,
    _loaded: &Loaded,
    inputs: BTreeMap<String, pb::Definition>,
) -> Result<FrontResult> {
    let mut resolver = Resolver::new(job, inputs);
    let asked = asked.to_owned();
    let work = tokio::task::spawn_blocking(move || {
        let answer = match asked.as_str() {
            "frontend.outline" => dockerfile::requests::outline(&options, &mut resolver),
            "frontend.targets" => dockerfile::requests::targets(&options),
            "frontend.lint" => Ok(dockerfile::requests::lint(&options, &mut resolver)),
            other => {
                return Err(Error::invalid(format!("unsupported request {other}")));
            }
        };
        answer.map_err(|error| super::dockerfile::located(&error, &options))
    });
    let answer = work.await.step(|| "answer a question about the Dockerfile")??;
    Ok(FrontResult {
        metadata: answer,
        ..FrontResult::default()
    })
}
