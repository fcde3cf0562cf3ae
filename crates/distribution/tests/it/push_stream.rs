//! Blobs that are sent while they are made.

use std::io::Write as _;

use distribution::{ClientConfig, RegistryError, Repository, blob_pipe};
use oci::image::Descriptor;
use testkit::registry::{Registry, RegistryOptions};

use crate::fake::{Act, Fake, answer, complaint, descriptor, ok, read_all, repository};

/// Sends pieces, and ends the upload as this blob.
async fn stream(
    repository: &Repository,
    pieces: Vec<Vec<u8>>,
    blob: &Descriptor,
) -> Result<(), RegistryError> {
    let (mut pipe, flow) = blob_pipe();
    let maker = tokio::task::spawn_blocking(move || {
        for piece in pieces {
            pipe.write_all(&piece).unwrap();
        }
    });
    let streamed = repository.stream_blob(flow).await;
    // whatever becomes of the upload, the maker comes to its end
    maker.await.unwrap();
    repository.finish_stream(streamed?, blob).await
}

#[tokio::test]
async fn what_is_streamed_is_the_blob() {
    let registry = Registry::start().unwrap();
    let repository = repository(
        &format!("{}/a/b:1", registry.name()),
        ClientConfig::default(),
    );
    let pieces: Vec<Vec<u8>> = (0..9_u8)
        .map(|n| vec![n; 1_000_000 * usize::from(n % 3)])
        .collect();
    let whole = pieces.concat();
    let blob = descriptor(&whole);
    stream(&repository, pieces, &blob).await.unwrap();
    assert!(read_all(&repository, &blob).await.unwrap() == whole);
    let nothing = descriptor(b"");
    stream(&repository, Vec::new(), &nothing).await.unwrap();
    let other = descriptor(b"other");
    let error = stream(&repository, vec![b"wrong".to_vec()], &other)
        .await
        .unwrap_err();
    assert!(error.message().contains("digest"), "{}", error.message());
    let error = stream(&repository, vec![b"longer".to_vec()], &other)
        .await
        .unwrap_err();
    assert!(error.message().contains("is short"), "{}", error.message());
    assert!(!repository.has_blob(&other.digest).await.unwrap());
}

#[tokio::test]
async fn a_registry_that_refuses_does_not_hold_the_maker_up() {
    let pieces = || vec![vec![b'x'; 1 << 20]; 20];
    let blob = descriptor(&pieces().concat());
    let registry = Registry::start_with(&RegistryOptions {
        authentication: true,
        ..RegistryOptions::default()
    })
    .unwrap();
    let guarded = repository(
        &format!("{}/a/b:1", registry.name()),
        ClientConfig::default(),
    );
    let error = stream(&guarded, pieces(), &blob).await.unwrap_err();
    assert!(
        error.message().contains("no basic auth credentials"),
        "{}",
        error.message()
    );
    let busy = Fake::start(|seen, _| -> Act {
        match seen.method.as_str() {
            "GET" => ok(b"{}"),
            "POST" => answer(
                "202 Accepted",
                &[("Location", "/v2/a/b/blobs/uploads/1")],
                b"",
            ),
            _ => complaint("503 Busy", "UNAVAILABLE", "busy"),
        }
    })
    .await;
    stream(&busy.repository(), pieces(), &blob)
        .await
        .unwrap_err();
}
