//! What every manifest keeps to, and what the documents say of the crates.

use crate::workspace::{none, packages, root};
use std::collections::BTreeMap;
use std::fs;

#[test]
fn lints_and_versions_are_the_workspace_s() {
    let mut broken = Vec::new();
    for package in packages() {
        let manifest = fs::read_to_string(package.folder.join("Cargo.toml")).unwrap();
        if !manifest.contains("[lints]\nworkspace = true") {
            broken.push(format!("{}: no [lints] workspace = true", package.name));
        }
        if package.manifest["publish"] != serde_json::json!([]) {
            broken.push(format!("{}: publish is not false", package.name));
        }
        if package.manifest["description"]
            .as_str()
            .is_none_or(str::is_empty)
        {
            broken.push(format!("{}: no description", package.name));
        }
        broken.extend(own_versions(&manifest).map(|line| format!("{}: {line}", package.name)));
    }
    none(
        "each third-party version stands once, in the workspace's Cargo.toml",
        &broken,
    );
}

/// Lines of dependency tables that do not defer to the workspace.
fn own_versions(manifest: &str) -> impl Iterator<Item = &str> {
    let mut inside = false;
    manifest.lines().filter(move |line| {
        if line.starts_with('[') {
            inside = line.ends_with("dependencies]");
        }
        let is_entry = inside && line.contains('=') && !line.starts_with('#');
        is_entry && !line.contains("workspace = true")
    })
}

#[test]
fn the_architecture_names_every_crate() {
    let document = fs::read_to_string(root().join("docs/architecture.md")).unwrap();
    let unnamed = packages()
        .into_iter()
        .filter(|package| !document.contains(&format!("`{}`", package.name)));
    let unnamed: Vec<String> = unnamed.map(|package| package.name).collect();
    none(
        "docs/architecture.md says of each crate what it will never know",
        &unnamed,
    );
}

/// Reports only: a second version is a price, not always an error.
#[test]
fn report_of_doubled_versions() {
    let lock = fs::read_to_string(root().join("Cargo.lock")).unwrap();
    let mut versions: BTreeMap<&str, Vec<&str>> = BTreeMap::new();
    let mut name = "";
    for line in lock.lines() {
        let quoted = |key: &str| line.strip_prefix(key).map(|rest| rest.trim_matches('"'));
        if let Some(found) = quoted("name = ") {
            name = found;
        } else if let Some(version) = quoted("version = ").filter(|_| !name.is_empty()) {
            versions.entry(name).or_default().push(version);
            name = "";
        }
    }
    assert!(
        versions.contains_key("xtask"),
        "Cargo.lock was not understood"
    );
    for (name, versions) in versions.iter().filter(|(_, versions)| versions.len() > 1) {
        println!(
            "{name} is there {} times: {}",
            versions.len(),
            versions.join(", ")
        );
    }
}

#[test]
fn the_rule_itself() {
    let manifest = "[package]\nversion = \"1\"\n[dependencies]\na.workspace = true\nb = \"1\"\n[features]\nc = []\n[dev-dependencies]\nd = { version = \"2\" }\n";
    assert_eq!(
        own_versions(manifest).collect::<Vec<_>>(),
        ["b = \"1\"", "d = { version = \"2\" }"]
    );
}
