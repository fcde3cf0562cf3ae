//! CNCF distribution as the registry.

use distribution::{Client, Credentials, ErrorKind};
use oci::{Platform, Reference};
use serde_json::json;
use testkit::image::{Archive, Built, Compression, Format, TestImage};
use testkit::registry::{Registry, RegistryOptions};

use crate::fake::{quick, read_all, repository};

fn small(text: &str, architecture: &str) -> Built {
    let archive = || {
        Archive::new()
            .file("text", text.as_bytes(), 0o644)
            .unwrap()
            .finish()
            .unwrap()
    };
    TestImage::empty()
        .with_architecture(architecture, None)
        .with_layer(archive(), Compression::None)
        .with_layer(archive(), Compression::Gzip)
        .with_layer(archive(), Compression::Zstd)
        .with_config("Cmd", json!(["/bin/true"]))
        .build()
        .unwrap()
}

fn reference(registry: &Registry, rest: &str) -> Reference {
    format!("{}/{rest}", registry.name()).parse().unwrap()
}

#[tokio::test]
async fn pulls_an_image_of_busybox() {
    let registry = Registry::start().unwrap();
    let image = TestImage::busybox()
        .unwrap()
        .with_format(Format::Docker)
        .build()
        .unwrap();
    let digest = registry.push("library/busybox", "1", &image).unwrap();
    let client = Client::new(quick());
    let name = reference(&registry, "library/busybox:1");
    let resolved = client
        .resolve(&name, None, &Platform::host())
        .await
        .unwrap();
    assert_eq!(resolved.digest(), &digest);
    assert!(resolved.index.is_none());
    assert_eq!(resolved.manifest_bytes, image.manifest.bytes);
    let config = resolved
        .repository
        .fetch_config(&resolved.manifest.config)
        .await
        .unwrap();
    assert_eq!(config, image.config.bytes);
    let layer = read_all(&resolved.repository, &resolved.manifest.layers[0])
        .await
        .unwrap();
    assert!(layer == image.layers[0].bytes);
    let head = resolved.repository.head_manifest().await.unwrap().unwrap();
    assert_eq!(head, resolved.manifest_descriptor);
    let by_digest = resolved.repository.clone();
    assert!(by_digest.has_blob(&image.config.digest).await.unwrap());
    assert!(
        !by_digest
            .has_blob(&crate::fake::some_digest())
            .await
            .unwrap()
    );
}

#[tokio::test]
async fn chooses_a_platform_from_an_index() {
    let registry = Registry::start().unwrap();
    let images = [small("amd", "amd64"), small("arm", "arm64")];
    let digest = registry.push_index("a/b", "both", &images).unwrap();
    let repository = repository(&reference(&registry, "a/b:both").to_string(), quick());
    for (platform, image) in [("linux/amd64", &images[0]), ("linux/arm64/v8", &images[1])] {
        let resolved = repository
            .resolve(&platform.parse().unwrap())
            .await
            .unwrap();
        assert_eq!(resolved.digest(), &digest);
        assert_eq!(resolved.index.unwrap().0.digest, digest);
        assert_eq!(resolved.manifest_descriptor.digest, image.manifest.digest);
        for (layer, blob) in resolved.manifest.layers.iter().zip(&image.layers) {
            let bytes = read_all(&resolved.repository, layer).await.unwrap();
            assert_eq!(bytes, blob.bytes);
        }
    }
    let error = repository
        .resolve(&"linux/s390x".parse().unwrap())
        .await
        .unwrap_err();
    assert_eq!(
        error.message(),
        "no matching manifest for linux/s390x in the manifest list entries"
    );
    assert_eq!(error.kind(), ErrorKind::NotFound);
}

#[tokio::test]
async fn pulls_by_digest_and_with_tag_and_digest() {
    let registry = Registry::start().unwrap();
    let digest = registry.push("a", "t", &small("x", "amd64")).unwrap();
    for rest in [format!("a@{digest}"), format!("a:other@{digest}")] {
        let repository = repository(&reference(&registry, &rest).to_string(), quick());
        let resolved = repository.resolve(&Platform::host()).await.unwrap();
        assert_eq!(resolved.digest(), &digest);
    }
}

#[tokio::test]
async fn says_in_dockers_words_what_is_not_there() {
    let mut registry = Registry::start().unwrap();
    registry.push("a", "t", &small("x", "amd64")).unwrap();
    let failure = async |rest: &str| {
        let name = reference(&registry, rest).to_string();
        let result = repository(&name, quick()).resolve(&Platform::host()).await;
        result.unwrap_err().message()
    };
    let name = registry.name();
    for (rest, shown) in [("a:none", "a:none"), ("nobody", "nobody:latest")] {
        assert_eq!(
            failure(rest).await,
            format!("manifest for {name}/{shown} not found: manifest unknown: manifest unknown")
        );
    }
    let gone = repository(&reference(&registry, "a:t").to_string(), quick());
    registry.stop();
    let error = gone.resolve(&Platform::host()).await.unwrap_err();
    assert_eq!(
        error.message(),
        format!("Get \"http://{name}/v2/\": dial tcp {name}: connect: connection refused")
    );
    assert_eq!(error.kind(), ErrorKind::Unavailable);
}

#[tokio::test]
async fn lists_tags() {
    let registry = Registry::start().unwrap();
    let image = small("x", "amd64");
    for tag in ["b", "a", "c"] {
        registry.push("many/tags", tag, &image).unwrap();
    }
    let many = repository(&reference(&registry, "many/tags").to_string(), quick());
    let mut tags = many.tags().await.unwrap();
    tags.sort();
    assert_eq!(tags, ["a", "b", "c"]);
    let none = repository(&reference(&registry, "none").to_string(), quick());
    let error = none.tags().await.unwrap_err();
    assert!(
        error.message().contains("not found: name unknown"),
        "{error}"
    );
}

#[tokio::test]
async fn authenticates_by_password() {
    let options = RegistryOptions {
        authentication: true,
        ..RegistryOptions::default()
    };
    let registry = Registry::start_with(&options).unwrap();
    registry.push("a", "t", &small("x", "amd64")).unwrap();
    let client = Client::new(quick());
    let name = reference(&registry, "a:t");
    let pull = async |credentials| {
        let platform = Platform::host();
        client.resolve(&name, credentials, &platform).await
    };
    let good = Credentials::basic(Registry::USER, Registry::PASSWORD);
    let resolved = pull(Some(good.clone())).await.unwrap();
    let layer = &resolved.manifest.layers[0];
    read_all(&resolved.repository, layer).await.unwrap();
    let error = pull(None).await.unwrap_err();
    assert!(
        error.message().ends_with("no basic auth credentials"),
        "{error}"
    );
    let wrong = Credentials::basic(Registry::USER, "wrong");
    let error = pull(Some(wrong.clone())).await.unwrap_err();
    assert!(
        error
            .message()
            .ends_with("manifests/t\": unauthorized: authentication required"),
        "{error}"
    );

    let host = registry.name();
    assert_eq!(
        client.login(&host, &good).await.unwrap().identity_token,
        None
    );
    let error = client.login(&host, &wrong).await.unwrap_err();
    assert_eq!(
        error.message(),
        format!("Get \"http://{host}/v2/\": unauthorized: authentication required")
    );
    assert_eq!(error.kind(), ErrorKind::Unauthorized);
}
