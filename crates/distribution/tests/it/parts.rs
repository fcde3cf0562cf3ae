//! Parts of blobs: honest ones, and what liars make of them.

use std::ops::Range;

use distribution::RegistryError;
use oci::image::Descriptor;

use crate::fake::{Act, Fake, Seen, descriptor, ok, raw};

fn content() -> Vec<u8> {
    (0..50_000_u32).flat_map(u32::to_le_bytes).collect()
}

/// A registry whose blobs are answered by `act`.
async fn blobs<F>(act: F) -> Fake
where
    F: Fn(&Seen, usize) -> Act + Send + Sync + 'static,
{
    Fake::start(move |seen, before| match seen.target.as_str() {
        "/v2/" => ok(b"{}"),
        _ => act(seen, before),
    })
    .await
}

/// The range that a request asks for.
fn asked(seen: &Seen) -> Range<usize> {
    let text = seen.header("range").unwrap_or("bytes=0-");
    let (start, last) = text
        .strip_prefix("bytes=")
        .and_then(|text| text.split_once('-'))
        .unwrap();
    let end = last
        .parse::<usize>()
        .map_or(content().len(), |last| last + 1);
    start.parse().unwrap()..end
}

fn partial(said: &str, body: &[u8]) -> Act {
    let length = body.len().to_string();
    let headers = [("Content-Range", said), ("Content-Length", &length)];
    Act::Send(raw("206 Partial Content", &headers, body))
}

fn honest(seen: &Seen, most: usize) -> Act {
    let (all, range) = (content(), asked(seen));
    let end = range.end.min(range.start.saturating_add(most));
    let said = format!("bytes {}-{}/{}", range.start, end - 1, all.len());
    partial(&said, &all[range.start..end])
}

async fn read(fake: &Fake, part: Range<u64>) -> Result<Vec<u8>, RegistryError> {
    let blob: Descriptor = descriptor(&content());
    let mut stream = fake.repository().fetch_blob_part(&blob, part).await?;
    let mut all = Vec::new();
    while let Some(chunk) = stream.chunk().await? {
        all.extend_from_slice(&chunk);
    }
    Ok(all)
}

#[tokio::test]
async fn parts_come_whole_or_in_pieces_or_out_of_the_whole() {
    let size = content().len() as u64;
    for part in [0..size, 0..10, 777..100_000, size - 5..size, 5..5] {
        let bounds = usize::try_from(part.start).unwrap()..usize::try_from(part.end).unwrap();
        let expected = &content()[bounds];
        let ranged = blobs(|seen, _| honest(seen, usize::MAX)).await;
        assert!(read(&ranged, part.clone()).await.unwrap() == expected);
        // a server may send less than was asked for
        let short = blobs(|seen, _| honest(seen, 30_000)).await;
        assert!(read(&short, part.clone()).await.unwrap() == expected);
        // one that knows no ranges sends all
        let plain = blobs(|_, _| ok(&content())).await;
        assert!(read(&plain, part.clone()).await.unwrap() == expected);
    }
}

#[tokio::test]
async fn lies_about_ranges_are_found_out() {
    type Lie = fn(&Seen) -> Act;
    let lies: [(&str, Lie); 8] = [
        ("another beginning", |_| {
            partial("bytes 0-99/200000", &content()[..100])
        }),
        ("more than asked for", |seen| {
            let start = asked(seen).start;
            let said = format!("bytes {start}-199999/200000");
            partial(&said, &content()[start..])
        }),
        ("another whole", |seen| {
            let range = asked(seen);
            let said = format!("bytes {}-{}/999", range.start, range.end - 1);
            partial(&said, &content()[range])
        }),
        ("no range", |seen| {
            let body = content()[asked(seen)].to_vec();
            Act::Send(raw("206 Partial Content", &[], &body))
        }),
        ("nonsense", |seen| {
            partial("bytes */*", &content()[asked(seen)])
        }),
        ("a length that does not fit", |seen| {
            let range = asked(seen);
            let said = format!("bytes {}-{}/200000", range.start, range.end - 1);
            partial(&said, &content()[range.start..range.end + 50])
        }),
        ("a body that goes on", |seen| {
            let range = asked(seen);
            let said = format!("bytes {}-{}/200000", range.start, range.start + 9);
            let headers = [("Content-Range", said.as_str())];
            Act::Send(raw("206 Partial Content", &headers, &content()[range]))
        }),
        ("a refusal", |_| {
            let headers = [("Content-Length", "0")];
            Act::Send(raw("416 Range Not Satisfiable", &headers, b""))
        }),
    ];
    for (what, lie) in lies {
        let fake = blobs(move |seen, _| lie(seen)).await;
        let result = read(&fake, 1_000..5_000).await;
        assert!(result.is_err(), "{what}");
        assert!(fake.seen_at("/blobs/").len() <= 3, "{what}");
    }
}

#[tokio::test]
async fn a_part_is_shortened_when_the_rest_comes_another_way() {
    let fake = blobs(|seen, _| honest(seen, usize::MAX)).await;
    let blob = descriptor(&content());
    let repository = fake.repository();
    let mut stream = repository
        .fetch_blob_part(&blob, 0..blob.size)
        .await
        .unwrap();
    let first = stream.chunk().await.unwrap().unwrap();
    stream.shorten(150_000);
    let mut all = first.to_vec();
    while let Some(chunk) = stream.chunk().await.unwrap() {
        all.extend_from_slice(&chunk);
    }
    assert!(all.len() >= 150_000 && content().starts_with(&all));
}
