//! Questions about a Dockerfile, which build nothing.

use std::collections::BTreeMap;
use std::sync::Arc;

use bollard_buildkit_proto::pb;
use dockerfile::call::{self, Answer};
use dockerfile::convert::Options;

use super::FrontResult;
use super::resolve::Resolver;
use crate::error::{Error, Result, Step as _};
use crate::job::Job;

/// The question which questions there are.
pub(super) const DESCRIBE: &str = "frontend.subrequests.describe";
/// The question that a request is, if it is one.
pub(super) fn asked(attrs: &BTreeMap<String, String>) -> Option<&str> {
    super::context::text(attrs, "requestid")
}

fn documents(answer: Answer) -> FrontResult {
    let mut metadata = BTreeMap::from([
        ("result.json".to_owned(), answer.json),
        ("result.txt".to_owned(), answer.text.into_bytes()),
        ("version".to_owned(), b"1.0.0".to_vec()),
    ]);
    if let Some(status) = answer.status {
        let text = status.to_string().into_bytes();
        metadata.insert("result.statuscode".to_owned(), text);
    }
    FrontResult {
        metadata,
        ..FrontResult::default()
    }
}

/// Which questions there are.
pub(super) fn describe() -> Result<FrontResult> {
    let answer = call::describe().map_err(|error| Error::internal(error.to_string()))?;
    Ok(documents(answer))
}

/// Answers.
pub(super) async fn answer(
    job: &Arc<Job>,
    asked: &str,
    options: Options,
    inputs: BTreeMap<String, pb::Definition>,
) -> Result<FrontResult> {
    let mut resolver = Resolver::new(job, inputs);
    let asked = asked.to_owned();
    let work = tokio::task::spawn_blocking(move || {
        let data = &options.file.data;
        let answer = match asked.as_str() {
            "frontend.outline" => call::outline(data, &options, &mut resolver),
            "frontend.targets" => call::targets(data),
            "frontend.lint" => call::lint(data, &options, &mut resolver),
            other => {
                return Err(Error::invalid(format!("unsupported request {other}")));
            }
        };
        answer.map_err(|error| super::dockerfile::located(&error, &options))
    });
    let answer = work
        .await
        .step(|| "answer a question about the Dockerfile")??;
    Ok(documents(answer))
}
