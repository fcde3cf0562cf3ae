//! Packages of Debian and its kin: the status file, and `status.d` of images without dpkg.

use super::root::Root;
use super::{Distribution, Package};

const STATUS: &str = "var/lib/dpkg/status";
const FOLDER: &str = "var/lib/dpkg/status.d";
const STATUS_MAX: u64 = 128 << 20;
const PART_MAX: u64 = 4 << 20;
const PARTS_MAX: usize = 100_000;

pub(super) fn find(root: &Root, distribution: &Distribution, add: &mut dyn FnMut(Package)) {
    if let Some(text) = root.text(STATUS, STATUS_MAX) {
        read(&text, STATUS, distribution, add);
    }
    for name in root.names(FOLDER, PARTS_MAX) {
        let path = format!("{FOLDER}/{name}");
        if name.ends_with(".md5sums") {
            continue;
        }
        if let Some(text) = root.text(&path, PART_MAX) {
            read(&text, &path, distribution, add);
        }
    }
}

/// Reads paragraphs of fields (deb-control(5)).
fn read(text: &str, path: &str, distribution: &Distribution, add: &mut dyn FnMut(Package)) {
    let kind = format!("deb/{}", distribution.id_or("debian"));
    for paragraph in text.split("\n\n") {
        let field = |name: &str| {
            let mut lines = paragraph.lines();
            lines.find_map(|line| {
                let (key, value) = line.split_once(':')?;
                key.eq_ignore_ascii_case(name).then(|| value.trim())
            })
        };
        let (Some(name), Some(version)) = (field("Package"), field("Version")) else {
            continue;
        };
        // what was removed but for its settings is not there
        if field("Status").is_some_and(|status| !status.ends_with(" installed")) {
            continue;
        }
        let source = field("Source").unwrap_or_default();
        let source = source.split_whitespace().next().unwrap_or_default();
        let package = Package::new(&kind, name, version, path)
            .with("arch", field("Architecture").unwrap_or_default())
            .with("distro", &distribution.name())
            .with("upstream", source);
        add(package);
    }
}
