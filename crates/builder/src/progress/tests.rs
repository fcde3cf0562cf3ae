//! What clients are told, in what order, and how much of it.

use super::*;

fn vertex(name: &str) -> Vertex {
    Vertex {
        digest: digest_of(name.as_bytes()),
        op: pb::Op::default(),
        inputs: Vec::new(),
        metadata: pb::OpMetadata::default(),
        name: name.to_owned(),
        locations: Vec::new(),
    }
}

fn output(update: &Update) -> String {
    let logs = update.logs.iter().flat_map(|l| l.msg.clone());
    String::from_utf8(logs.collect()).unwrap()
}

#[tokio::test]
async fn a_late_client_is_told_everything() {
    let progress = Arc::new(Progress::default());
    let step = progress.vertex(&vertex("a"));
    progress.announce(&vertex("a"));
    step.started();
    step.log(STDOUT, b"one\n");
    step.log(STDERR, b"two\n");
    step.completed(Ok(()));
    progress.end();
    let mut client = progress.subscribe();
    let update = client.next().await.unwrap();
    // of a vertex only its last state
    assert_eq!(update.vertexes.len(), 1);
    assert!(update.vertexes[0].completed.is_some());
    assert_eq!(output(&update), "one\ntwo\n");
    assert!(client.next().await.is_none());
}

#[tokio::test]
async fn a_client_waits_for_what_comes() {
    let progress = Arc::new(Progress::default());
    let mut client = progress.subscribe();
    let told = tokio::spawn(async move {
        let mut all = Vec::new();
        while let Some(update) = client.next().await {
            all.extend(update.vertexes);
        }
        all
    });
    let step = progress.internal("exporting to image");
    step.started();
    tokio::task::yield_now().await;
    step.completed(Err(&Error::internal("no")));
    progress.end();
    let all = told.await.unwrap();
    let last = all.last().unwrap();
    assert_eq!(last.name, "exporting to image");
    assert_eq!(last.error, "no");
}

#[tokio::test]
async fn one_that_joins_is_told_what_was() {
    let (one, other) = (Arc::new(Progress::default()), Arc::new(Progress::default()));
    let step = one.vertex(&vertex("a"));
    step.started();
    step.log(STDOUT, b"one ");
    drop(step.part("layer"));
    step.join(&other, &vertex("b"));
    step.log(STDOUT, b"two");
    step.completed(Ok(()));
    other.end();
    let update = other.subscribe().next().await.unwrap();
    let b = digest_of(b"b").to_string();
    assert_eq!(output(&update), "one two");
    assert!(update.vertexes.iter().all(|v| v.digest == b));
    assert!(update.logs.iter().all(|l| l.vertex == b));
    assert!(update.statuses[0].completed.is_some());
    assert_eq!(update.statuses[0].vertex, b);
    let first = one.subscribe().next().await.unwrap();
    assert_eq!(output(&first), "one two");
    assert_eq!(first.vertexes[0].name, "a");
}

#[tokio::test]
async fn one_that_left_is_told_no_more() {
    let progress = Arc::new(Progress::default());
    let step = progress.vertex(&vertex("a"));
    step.log(STDOUT, b"one");
    step.leave(&progress);
    step.log(STDOUT, b"two");
    progress.end();
    assert_eq!(output(&progress.subscribe().next().await.unwrap()), "one");
}

#[test]
fn output_is_clipped_and_its_end_kept() {
    let progress = Arc::new(Progress::default());
    let step = progress.vertex(&vertex("a"));
    for i in 0..3000 {
        step.log(STDOUT, format!("{i:01023}\n").as_bytes());
    }
    let mut client = progress.subscribe();
    let mut bytes = 0;
    let mut updates = 0;
    let mut last = String::new();
    while let (Some(update), _) = client.take() {
        bytes += output(&update).len();
        updates += 1;
        last = output(&update);
    }
    assert!(last.contains("[output clipped, log limit 2MiB reached]"));
    assert!((LOG_LIMIT..LOG_LIMIT + 100).contains(&bytes), "{bytes}");
    assert!(updates > 1);
    let tail = String::from_utf8(step.tail()).unwrap();
    assert!(tail.ends_with("2999\n"));
    assert_eq!(tail.len(), TAIL);
}

#[test]
fn what_repeats_is_kept_once_and_lag_is_bounded() {
    let progress = Arc::new(Progress::default());
    let step = progress.vertex(&vertex("a"));
    let mut part = step.part("layer");
    for i in 0..10_000 {
        part.update(i, 10_000);
    }
    assert_eq!(locked(&progress.told).events.len(), 1);
    for i in 0..20 {
        let step = progress.vertex(&vertex(&format!("v{i}")));
        step.log(STDOUT, &vec![b'x'; LOG_LIMIT]);
    }
    assert!(locked(&progress.told).log_bytes <= LAG_LIMIT);
}

#[test]
fn counts_are_of_steps() {
    let progress = Arc::new(Progress::default());
    progress.announce(&vertex("a"));
    progress.vertex(&vertex("b")).cached();
    progress.vertex(&vertex("c")).completed(Ok(()));
    let expect = Counts {
        total: 3,
        completed: 2,
        cached: 1,
        warnings: 0,
    };
    assert_eq!(progress.counts(), expect);
}
