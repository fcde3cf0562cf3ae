//! The workspace as the tests see it: its packages and its files.

use serde_json::Value;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

/// The folder of the workspace.
pub(crate) fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap()
}

/// One package of the workspace, as cargo reads its manifest.
#[derive(Debug)]
pub(crate) struct Package {
    pub(crate) name: String,
    pub(crate) folder: PathBuf,
    /// What it needs to be built; what only its tests need is left out.
    pub(crate) dependencies: Vec<Dependency>,
    pub(crate) manifest: Value,
}

/// A dependency that is more than a test's.
#[derive(Debug)]
pub(crate) struct Dependency {
    pub(crate) name: String,
    /// Whether it is a package of the workspace.
    pub(crate) ours: bool,
}

/// The packages of the workspace.
pub(crate) fn packages() -> Vec<Package> {
    let output = Command::new(env!("CARGO"))
        .args([
            "metadata",
            "--format-version",
            "1",
            "--no-deps",
            "--offline",
        ])
        .current_dir(root())
        .output()
        .unwrap();
    assert!(
        output.status.success(),
        "{}",
        String::from_utf8_lossy(&output.stderr)
    );
    let metadata: Value = serde_json::from_slice(&output.stdout).unwrap();
    metadata["packages"]
        .as_array()
        .unwrap()
        .iter()
        .map(package)
        .collect()
}

fn package(manifest: &Value) -> Package {
    let path = PathBuf::from(manifest["manifest_path"].as_str().unwrap());
    let dependencies = manifest["dependencies"].as_array().unwrap().iter();
    let dependencies = dependencies
        .filter(|dependency| dependency["kind"] != "dev")
        .map(|dependency| Dependency {
            name: dependency["name"].as_str().unwrap().to_owned(),
            ours: dependency["path"].is_string(),
        });
    Package {
        name: manifest["name"].as_str().unwrap().to_owned(),
        folder: path.parent().unwrap().to_owned(),
        dependencies: dependencies.collect(),
        manifest: manifest.clone(),
    }
}

/// Every file that belongs to the project, with its path from the root; what is built is left out.
pub(crate) fn files() -> Vec<(String, Vec<u8>)> {
    let mut found = Vec::new();
    visit(root(), &mut found);
    found.sort();
    assert!(
        found.len() > 100,
        "only {} files were found in {}",
        found.len(),
        root().display()
    );
    found
}

fn visit(folder: &Path, found: &mut Vec<(String, Vec<u8>)>) {
    for entry in fs::read_dir(folder).unwrap() {
        let entry = entry.unwrap();
        let (path, kind) = (entry.path(), entry.file_type().unwrap());
        let name = path
            .strip_prefix(root())
            .unwrap()
            .to_str()
            .unwrap()
            .to_owned();
        if matches!(name.as_str(), ".git" | "target")
            || name.ends_with("__pycache__")
            || name.ends_with(".pyc")
        {
            continue;
        }
        if kind.is_dir() {
            visit(&path, found);
        } else if kind.is_file() {
            // another program may be writing beside us: a file that is gone again is no file
            found.extend(fs::read(&path).ok().map(|bytes| (name, bytes)));
        }
    }
}

/// The Rust sources among [`files`].
pub(crate) fn sources() -> Vec<(String, String)> {
    let rust = files()
        .into_iter()
        .filter(|(name, _)| name.ends_with(".rs"));
    rust.map(|(name, bytes)| (name, String::from_utf8(bytes).unwrap()))
        .collect()
}

/// Fails with everything that breaks a rule.
#[track_caller]
pub(crate) fn none(rule: &str, broken: &[String]) {
    assert!(broken.is_empty(), "{rule}:\n  {}", broken.join("\n  "));
}
