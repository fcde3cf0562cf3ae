//! `config.json`, its credential helpers, and what it keeps.

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};

use distribution::Credentials;
use distribution::docker_config::DockerConfig;
use serde_json::{Value, json};
use tempfile::TempDir;

fn file(folder: &TempDir, content: &Value) -> PathBuf {
    let path = folder.path().join("config.json");
    fs::write(&path, content.to_string()).unwrap();
    path
}

fn helper(folder: &Path, name: &str, script: &str) {
    let path = folder.join(format!("docker-credential-{name}"));
    fs::write(&path, format!("#!/bin/sh\n{script}\n")).unwrap();
    fs::set_permissions(&path, fs::Permissions::from_mode(0o755)).unwrap();
}

#[tokio::test]
async fn finds_credentials_by_any_spelling() {
    let folder = TempDir::new().unwrap();
    let path = file(
        &folder,
        &json!({"auths": {
            "https://index.docker.io/v1/": {"auth": "aHViOnB3"},
            "https://old.example/v1/": {"username": "o", "password": "p"},
            "token.example:5000": {"auth": "dTo=", "identitytoken": "id"},
            "empty.example": {},
            "bad.example": {"auth": "%"},
        }}),
    );
    let config = DockerConfig::load(&path).unwrap();
    let hub = Credentials::basic("hub", "pw");
    for name in [
        "docker.io",
        "",
        "https://index.docker.io/v1/",
        "index.docker.io",
    ] {
        assert_eq!(
            config.credentials(name).await.unwrap().as_ref(),
            Some(&hub),
            "{name}"
        );
    }
    let old = config.credentials("old.example").await.unwrap();
    assert_eq!(old, Some(Credentials::basic("o", "p")));
    let token = config
        .credentials("token.example:5000")
        .await
        .unwrap()
        .unwrap();
    assert_eq!(
        (token.username.as_str(), token.identity_token.as_str()),
        ("u", "id")
    );
    for name in ["empty.example", "token.example", "none.example"] {
        assert_eq!(config.credentials(name).await.unwrap(), None, "{name}");
    }
    assert!(config.credentials("bad.example").await.is_err());
}

#[tokio::test]
async fn stores_and_erases_without_losing_other_fields() {
    let folder = TempDir::new().unwrap();
    let path = file(
        &folder,
        &json!({"psFormat": "x", "auths": {"a": {}}, "HttpHeaders": {"Z": "1", "A": "2"}}),
    );
    let mut config = DockerConfig::load(&path).unwrap();
    let own = Credentials::basic("ann", "s:ecret");
    config.store("reg.example:5000", &own).await.unwrap();
    assert_eq!(
        fs::metadata(&path).unwrap().permissions().mode() & 0o777,
        0o600
    );
    let again = DockerConfig::load(&path).unwrap();
    assert_eq!(
        again.credentials("reg.example:5000").await.unwrap(),
        Some(own)
    );
    let text = fs::read_to_string(&path).unwrap();
    assert!(text.starts_with("{\n\t\"psFormat\": \"x\","), "{text}");
    let value: Value = serde_json::from_str(&text).unwrap();
    assert_eq!(value["HttpHeaders"], json!({"Z": "1", "A": "2"}));
    assert!(config.erase("reg.example:5000").await.unwrap());
    assert!(!config.erase("reg.example:5000").await.unwrap());
    assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 1);
}

#[tokio::test]
async fn makes_a_missing_file_and_refuses_a_damaged_one() {
    let folder = TempDir::new().unwrap();
    let path = folder.path().join("deep/config.json");
    let mut config = DockerConfig::load(&path).unwrap();
    assert_eq!(config.credentials("a").await.unwrap(), None);
    config
        .store("a.example", &Credentials::basic("u", "p"))
        .await
        .unwrap();
    assert!(path.exists());
    fs::write(&path, "{not json").unwrap();
    assert!(DockerConfig::load(&path).is_err());
}

#[tokio::test]
async fn keeps_a_linked_file_linked() {
    let folder = TempDir::new().unwrap();
    let real = folder.path().join("real.json");
    fs::write(&real, "{}").unwrap();
    let path = folder.path().join("config.json");
    std::os::unix::fs::symlink("real.json", &path).unwrap();
    let mut config = DockerConfig::load(&path).unwrap();
    config
        .store("a.example", &Credentials::basic("u", "p"))
        .await
        .unwrap();
    assert!(fs::symlink_metadata(&path).unwrap().is_symlink());
    assert!(fs::read_to_string(&real).unwrap().contains("a.example"));
}

#[tokio::test]
async fn asks_credential_helpers() {
    let folder = TempDir::new().unwrap();
    let path = file(
        &folder,
        &json!({"credsStore": "all", "credHelpers": {"own.example": "own", "fails.example": "fails", "bad.example": "../x"}}),
    );
    helper(
        folder.path(),
        "all",
        "cat >/dev/null; echo 'credentials not found in native keychain'; exit 1",
    );
    helper(
        folder.path(),
        "own",
        r#"read -r url; echo "{\"ServerURL\":\"$url\",\"Username\":\"<token>\",\"Secret\":\"id\"}""#,
    );
    helper(folder.path(), "fails", "echo 'vault is locked'; exit 1");
    let config = DockerConfig::load(&path)
        .unwrap()
        .with_helpers_in(folder.path().into());
    assert_eq!(config.credentials("docker.io").await.unwrap(), None);
    let own = config.credentials("own.example").await.unwrap().unwrap();
    assert_eq!(
        (own.username.as_str(), own.identity_token.as_str()),
        ("", "id")
    );
    let error = config.credentials("fails.example").await.unwrap_err();
    let text = distribution::chain(&error);
    assert!(
        text.contains("error getting credentials - docker-credential-fails: vault is locked"),
        "{text}"
    );
    let text = distribution::chain(&config.credentials("bad.example").await.unwrap_err());
    assert!(text.contains("invalid credential helper name"), "{text}");
    assert!(config.has_helper("own.example"));
}

#[tokio::test]
async fn stores_in_the_helper_and_bounds_its_output() {
    let folder = TempDir::new().unwrap();
    let path = file(
        &folder,
        &json!({"credsStore": "keep", "credHelpers": {"loud.example": "loud"}}),
    );
    helper(
        folder.path(),
        "keep",
        r#"cd "$(dirname "$0")"; cat >"$1.txt""#,
    );
    helper(folder.path(), "loud", "exec yes");
    let config = DockerConfig::load(&path).unwrap();
    let mut config = config.with_helpers_in(folder.path().into());
    config
        .store("docker.io", &Credentials::basic("u", "p"))
        .await
        .unwrap();
    let stored: Value =
        serde_json::from_slice(&fs::read(folder.path().join("store.txt")).unwrap()).unwrap();
    assert_eq!(
        stored,
        json!({"ServerURL": "https://index.docker.io/v1/", "Username": "u", "Secret": "p"})
    );
    let text = fs::read_to_string(&path).unwrap();
    assert!(!text.contains("auth\":"), "{text}");
    config.erase("docker.io").await.unwrap();
    assert_eq!(
        fs::read_to_string(folder.path().join("erase.txt")).unwrap(),
        "https://index.docker.io/v1/"
    );
    let text = distribution::chain(&config.credentials("loud.example").await.unwrap_err());
    assert!(text.contains("the output is too long"), "{text}");
}
