//! Packages of Node: `package.json` below `node_modules`.

use serde::Deserialize;
use serde_json::Value;

use super::Package;
use super::root::Entry;

const MAX: u64 = 4 << 20;

#[derive(Deserialize)]
struct Manifest {
    #[serde(default)]
    name: String,
    #[serde(default)]
    version: String,
    #[serde(default)]
    license: Value,
}

pub(super) fn look(entry: &Entry<'_>, add: &mut dyn FnMut(Package)) {
    if entry.name() != "package.json" || !is_installed(entry.parent()) {
        return;
    }
    let Some(text) = entry.text(MAX) else { return };
    let Ok(manifest) = serde_json::from_str::<Manifest>(&text) else {
        return;
    };
    if manifest.version.is_empty() {
        return;
    }
    let mut package = Package::new("npm", &manifest.name, &manifest.version, entry.path);
    let license = match &manifest.license {
        Value::String(text) => text.as_str(),
        other => other
            .get("type")
            .and_then(Value::as_str)
            .unwrap_or_default(),
    };
    license.clone_into(&mut package.license);
    add(package);
}

/// Whether a folder is a package's own: `node_modules/name` or `node_modules/@scope/name`.
fn is_installed(folder: &str) -> bool {
    let mut parts = folder.rsplit('/');
    let (own, above) = (parts.next(), parts.next());
    match (own, above) {
        (Some(_), Some("node_modules")) => true,
        (Some(_), Some(scope)) if scope.starts_with('@') => parts.next() == Some("node_modules"),
        _ => false,
    }
}
