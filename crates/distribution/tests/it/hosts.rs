//! Files about registries: mirrors, prefixes, headers, certificates.

use std::fs;
use std::path::Path;

use distribution::config::HostFiles;
use distribution::{Client, ClientConfig, Repository};
use oci::{Platform, Reference};
use tempfile::TempDir;
use testkit::registry::Registry;

use crate::fake::{
    Act, Fake, Seen, answer, complaint, descriptor, manifest_answer, manifest_json, ok, read_all,
};
use crate::trust::{self, NAME};

/// Settings with one file of our own.
fn with_file(folder: &Path, text: &str) -> ClientConfig {
    let own = folder.join("registries.d");
    fs::create_dir_all(&own).unwrap();
    fs::write(own.join("a.toml"), text).unwrap();
    ClientConfig {
        hosts: HostFiles {
            own: vec![own],
            containerd: Vec::new(),
        },
        ..trust::with_hosts(folder)
    }
}

fn mirrors(config: ClientConfig, reference: &str) -> Vec<Repository> {
    let reference: Reference = reference.parse().unwrap();
    Client::new(config).mirrors(&reference).unwrap()
}

fn image(seen: &Seen, _: usize) -> Act {
    match seen.target.contains("/manifests/") {
        true => manifest_answer(&manifest_json()),
        false => ok(b"{}"),
    }
}

#[tokio::test]
async fn mirrors_are_asked_below_their_prefix_and_told_for_whom() {
    let fake = Fake::start(image).await;
    let folder = TempDir::new().unwrap();
    let at = fake.address;
    let text = format!(
        "[[registry]]\nhost = 'quay.io'\n\
         [[registry.mirror]]\naddress = 'http://{at}/cache'\nheaders = {{ X-Key = 'k' }}\n\
         [[registry.mirror]]\naddress = 'http://{at}/v2/quay'\noverride-path = true\ncapabilities = ['pull']\n"
    );
    let all = mirrors(with_file(folder.path(), &text), "quay.io/a/b:v1");
    let resolving: Vec<bool> = all.iter().map(Repository::resolves).collect();
    assert_eq!(resolving, [true, false]);
    let resolved = all[0].resolve(&Platform::host()).await.unwrap();
    let seen = fake.seen();
    assert_eq!(seen[0].target, "/cache/v2/");
    assert_eq!(seen[1].target, "/cache/v2/a/b/manifests/v1?ns=quay.io");
    let digest = resolved.digest().clone();
    all[1].at(&digest).resolve(&Platform::host()).await.unwrap();
    let last = fake.seen().pop().unwrap();
    let expected = format!("/v2/quay/a/b/manifests/{digest}?ns=quay.io");
    assert_eq!(last.target, expected);
    // one host: what is said last of it holds for all of it
    assert!(mirrors(with_file(folder.path(), &text), "docker.io/a").is_empty());
}

#[tokio::test]
async fn headers_and_credentials_never_follow_a_redirect_to_another_host() {
    let elsewhere = Fake::start(|_, _| ok(b"layer")).await;
    let target = format!("http://{}/x", elsewhere.address);
    let fake = Fake::start(move |seen, _| match seen.header("authorization") {
        None => answer(
            "401 Unauthorized",
            &[("WWW-Authenticate", "Basic realm=\"x\"")],
            b"",
        ),
        Some(_) if seen.target == "/v2/" => ok(b"{}"),
        Some(_) => answer("307 Temporary Redirect", &[("Location", &target)], b""),
    })
    .await;
    let folder = TempDir::new().unwrap();
    let host = fake.address;
    let text = format!(
        "[[registry]]\nhost = '{host}'\nplain-http = true\nheaders = {{ X-Key = 'k', Cookie = 'c' }}\n"
    );
    let credentials = distribution::Credentials {
        username: "u".into(),
        password: "p".into(),
        ..distribution::Credentials::default()
    };
    let reference: Reference = format!("{host}/a:t").parse().unwrap();
    let client = Client::new(with_file(folder.path(), &text));
    let repository = client.repository(&reference, Some(credentials));
    let layer = read_all(&repository, &descriptor(b"layer")).await.unwrap();
    assert_eq!(layer, b"layer");
    let asked = fake.seen().pop().unwrap();
    assert_eq!(asked.header("x-key"), Some("k"));
    assert!(asked.header("authorization").is_some());
    let followed = elsewhere.seen();
    assert_eq!(followed.len(), 1);
    for name in ["authorization", "x-key", "cookie", "proxy-authorization"] {
        assert_eq!(followed[0].header(name), None, "{name}");
    }
}

#[tokio::test]
async fn a_registry_has_its_own_authority_address_and_trust() {
    let registry = trust::registry();
    let port = registry.address().port();
    let folder = TempDir::new().unwrap();
    let ca = registry.ca().unwrap().display();
    let resolve = async |text: &str, name: &str| {
        let reference: Reference = name.parse().unwrap();
        let client = Client::new(with_file(folder.path(), text));
        let found = client.repository(&reference, None);
        let found = found.resolve(&Platform::host()).await;
        found.map(drop).map_err(|error| error.message())
    };
    let own = format!("{NAME}:{port}/a:t");
    let host = format!("[[registry]]\nhost = '{NAME}:{port}'\n");
    let error = resolve(&host, &own).await.unwrap_err();
    let file = folder.path().join("registries.d/a.toml");
    let expected = format!(
        "x509: certificate signed by unknown authority (reached as {} says)",
        file.display()
    );
    assert!(error.ends_with(&expected), "{error}");
    resolve(&format!("{host}ca = '{ca}'\n"), &own)
        .await
        .unwrap();
    resolve(&format!("{host}skip-verify = true\n"), &own)
        .await
        .unwrap();
    let moved = format!(
        "[[registry]]\nhost = 'nowhere.example'\naddress = 'https://{NAME}:{port}'\nca = ['{ca}']\n"
    );
    resolve(&moved, "nowhere.example/a:t").await.unwrap();
    let gone = format!("{host}ca = 'gone.pem'\n");
    let error = resolve(&gone, &own).await.unwrap_err();
    assert!(
        error.contains("registries.d/gone.pem: no such file"),
        "{error}"
    );
    let error = resolve("[[registry]]\nhots = 'x'\n", &own)
        .await
        .unwrap_err();
    let expected = format!("{}:2: unknown key \"hots\"", file.display());
    assert!(error.starts_with(&expected), "{error}");
}

#[tokio::test]
async fn plain_http_is_a_word_of_the_file() {
    let registry = Registry::start().unwrap();
    let image = testkit::image::TestImage::busybox().unwrap();
    registry.push("a", "t", &image.build().unwrap()).unwrap();
    let port = registry.address().port();
    let folder = TempDir::new().unwrap();
    let text = format!("[[registry]]\nhost = '{NAME}:{port}'\nplain-http = true\n");
    let client = Client::new(with_file(folder.path(), &text));
    let reference: Reference = format!("{NAME}:{port}/a:t").parse().unwrap();
    let repository = client.repository(&reference, None);
    repository.resolve(&Platform::host()).await.unwrap();
}

#[tokio::test]
async fn the_client_shows_its_certificate_where_a_file_says_so() {
    let folder = TempDir::new().unwrap();
    let client = rcgen::generate_simple_self_signed(vec!["client".to_owned()]).unwrap();
    let identity = [
        ("client.pem", client.cert.pem()),
        ("client.key", client.signing_key.serialize_pem()),
    ];
    let own = folder.path().join("registries.d");
    fs::create_dir_all(&own).unwrap();
    for (name, pem) in identity {
        fs::write(own.join(name), pem).unwrap();
    }
    let acceptor = trust::acceptor_for_clients(folder.path(), client.cert.der().clone());
    let fake = Fake::start_with(Some(acceptor), image).await;
    let port = fake.address.port();
    let ca = folder.path().join("ca.crt");
    let host = format!(
        "[[registry]]\nhost = '{NAME}:{port}'\nca = '{}'\n",
        ca.display()
    );
    let resolve = async |text: &str| {
        let reference: Reference = format!("{NAME}:{port}/a:t").parse().unwrap();
        let repository = Client::new(with_file(folder.path(), text)).repository(&reference, None);
        let found = repository.resolve(&Platform::host()).await;
        found.map(drop).map_err(|error| error.message())
    };
    resolve(&host).await.unwrap_err();
    resolve(&format!("{host}cert = 'client.pem'\nkey = 'client.key'\n"))
        .await
        .unwrap();
}

#[tokio::test]
async fn a_rate_limit_is_told_in_plain_words_and_not_tried_against() {
    let fake = Fake::start(|seen, _| match seen.target.as_str() {
        "/v2/" => ok(b"{}"),
        _ => {
            let Act::Send(bytes) = complaint(
                "429 Too Many Requests",
                "TOOMANYREQUESTS",
                "You have reached your pull rate limit.",
            ) else {
                return ok(b"");
            };
            let text = String::from_utf8(bytes).unwrap();
            let headers = "\r\nratelimit-limit: 100;w=21600\r\nratelimit-remaining: 0;w=21600\r\n";
            Act::Send(text.replacen("\r\n", headers, 1).into_bytes())
        }
    })
    .await;
    let error = fake
        .repository()
        .resolve(&Platform::host())
        .await
        .unwrap_err();
    assert_eq!(
        error.message(),
        "toomanyrequests: You have reached your pull rate limit. (the registry allows 100 pulls in 6 hours)"
    );
    assert_eq!(fake.seen_at("/manifests/").len(), 1);
}
