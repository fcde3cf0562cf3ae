//! Who asks what a job tells, and when.

use std::time::Duration;

use builder::job::{JobOptions, Telling};
use builder::progress::Progress;
use std::sync::Arc;

use crate::fixture::with_builder;

const LONG: Duration = Duration::from_secs(60);

fn options(id: &str) -> JobOptions {
    JobOptions {
        id: id.to_owned(),
        ..JobOptions::default()
    }
}

async fn names(progress: &Arc<Progress>) -> Vec<String> {
    let mut told = progress.subscribe();
    let mut names = Vec::new();
    while let Some(update) = told.next().await {
        names.extend(update.vertexes.into_iter().map(|vertex| vertex.name));
    }
    names
}

/// A job may be over before its client's question arrives, or before the one that waits for it is heard.
#[test]
fn short_jobs_tell_those_who_ask_late_or_early() {
    with_builder(async |fixture| {
        let builder = Arc::clone(&fixture.builder);
        let early = tokio::spawn({
            let builder = Arc::clone(&builder);
            async move { builder.wait_for_job("short", LONG).await }
        });
        tokio::task::yield_now().await;
        let job = builder.job(options("short")).unwrap();
        job.progress.internal("a step").started();
        job.end();
        drop(job);
        for found in [
            early.await.unwrap(),
            builder.wait_for_job("short", LONG).await,
        ] {
            let Telling::Progress(progress) = found.unwrap() else {
                panic!("it is in no history");
            };
            assert_eq!(names(&progress).await, ["a step"]);
        }
        let unknown = builder.wait_for_job("other", Duration::ZERO).await;
        assert_eq!(unknown.unwrap_err().message(), "no such job other");
    });
}
