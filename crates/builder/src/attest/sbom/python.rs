//! Packages of Python: `METADATA` of wheels and `PKG-INFO` of eggs.

use super::Package;
use super::root::Entry;

const MAX: u64 = 4 << 20;

pub(super) fn look(entry: &Entry<'_>, add: &mut dyn FnMut(Package)) {
    let parent = entry.parent();
    let is_metadata = match entry.name() {
        "METADATA" => parent.ends_with(".dist-info"),
        "PKG-INFO" => parent.ends_with(".egg-info") || parent.ends_with("EGG-INFO"),
        // an egg of one file
        name => name.ends_with(".egg-info"),
    };
    if !is_metadata {
        return;
    }
    let Some(text) = entry.text(MAX) else { return };
    // the headers end at the first empty line, as those of mails do
    let headers = text.split("\n\n").next().unwrap_or_default();
    let field = |name: &str| {
        let mut lines = headers.lines();
        lines.find_map(|line| {
            let (key, value) = line.split_once(':')?;
            key.eq_ignore_ascii_case(name).then(|| value.trim())
        })
    };
    let (Some(name), Some(version)) = (field("Name"), field("Version")) else {
        return;
    };
    // names that differ in case and in these signs are one name there (PEP 503)
    let name = name.to_ascii_lowercase().replace(['_', '.'], "-");
    let mut package = Package::new("pypi", &name, version, entry.path);
    let license = field("License-Expression").or(field("License"));
    license.unwrap_or_default().clone_into(&mut package.license);
    add(package);
}
