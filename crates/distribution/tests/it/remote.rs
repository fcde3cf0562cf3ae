//! What is asked of registries without pulling: search, and what a reference names.

use distribution::{Client, Found, Search};
use serde_json::json;
use testkit::image::{Compression, TestImage};
use testkit::registry::Registry;

use crate::fake::{Fake, answer, ok, quick, repository};

#[tokio::test]
async fn searches_a_registry() {
    let fake = Fake::start(|seen, _| {
        if seen.target != "/v1/search?q=a%2Fb%20c&n=2" {
            return answer("404 Not Found", &[], b"");
        }
        let result = |name: &str| json!({"name": name, "star_count": 3, "is_official": true, "description": "d"});
        let page = json!({"num_results": 3, "results": [result("x"), result("y"), result("z")]});
        ok(page.to_string().as_bytes())
    })
    .await;
    let search = Search {
        registry: fake.address.to_string(),
        term: "a/b c".to_owned(),
        limit: 2,
    };
    let client = Client::new(quick());
    let found = client.search(&search, None).await.unwrap();
    assert_eq!(found.len(), 2);
    let expect = Found {
        name: "x".to_owned(),
        description: "d".to_owned(),
        star_count: 3,
        is_official: true,
        is_automated: false,
    };
    assert_eq!(found[0], expect);
    let other = Search {
        term: "none".to_owned(),
        ..search
    };
    let error = client.search(&other, None).await.unwrap_err();
    assert!(error.message().contains("404 Not Found"), "{error}");
}

#[tokio::test]
async fn a_registry_that_cannot_be_searched_is_told() {
    for (status, body) in [("200 OK", "<html>"), ("200 OK", "[]")] {
        let fake = Fake::start(move |_, _| answer(status, &[], body.as_bytes())).await;
        let search = Search {
            registry: fake.address.to_string(),
            term: "x".to_owned(),
            limit: 1,
        };
        let error = Client::new(quick()).search(&search, None).await;
        let message = error.unwrap_err().message();
        assert!(message.contains("no list of repositories"), "{message}");
    }
}

#[tokio::test]
async fn tells_what_a_reference_names() {
    let registry = Registry::start().unwrap();
    let image = |architecture: &str| {
        let image = TestImage::empty().with_layer(vec![0; 1024], Compression::Gzip);
        image.with_architecture(architecture, None).build().unwrap()
    };
    let one = registry.push("a/b", "one", &image("arm64")).unwrap();
    let both = [image("amd64"), image("s390x")];
    let many = registry.push_index("a/b", "many", &both).unwrap();
    for (tag, digest, platforms) in [
        ("one", one, vec!["linux/arm64"]),
        ("many", many, vec!["linux/amd64", "linux/s390x"]),
    ] {
        let repository = repository(&format!("{}/a/b:{tag}", registry.name()), quick());
        let found = repository.inspect().await.unwrap();
        assert_eq!(found.descriptor.digest, digest);
        let shown: Vec<String> = found.platforms.iter().map(ToString::to_string).collect();
        assert_eq!(shown, platforms);
    }
}

#[tokio::test]
async fn downloads_from_an_address() {
    let fake = Fake::start(|seen, _| match seen.target.as_str() {
        "/x.tar" => ok(b"content"),
        _ => answer("404 Not Found", &[], b""),
    })
    .await;
    let client = Client::new(quick());
    let mut file = client
        .download(&format!("http://{}/x.tar", fake.address))
        .await
        .unwrap();
    let mut all = Vec::new();
    while let Some(chunk) = file.chunk().await.unwrap() {
        all.extend_from_slice(&chunk);
    }
    assert_eq!(all, b"content");
    for (address, expect) in [
        (format!("http://{}/y", fake.address), "404 Not Found"),
        (
            "ftp://a/b".to_owned(),
            "unsupported protocol scheme \"ftp\"",
        ),
        ("http://".to_owned(), "invalid"),
    ] {
        let error = client.download(&address).await.unwrap_err();
        assert!(error.message().contains(expect), "{}", error.message());
    }
}
