//! Packages of Alpine Linux: its database of what is installed.

use super::root::Root;
use super::{Distribution, Package};

const PLACES: [&str; 2] = ["lib/apk/db/installed", "usr/lib/apk/db/installed"];
const MAX: u64 = 128 << 20;

pub(super) fn find(root: &Root, distribution: &Distribution, add: &mut dyn FnMut(Package)) {
    let kind = format!("apk/{}", distribution.id_or("alpine"));
    // with a merged /usr one is a link to the other
    let found = PLACES
        .iter()
        .find_map(|path| Some((path, root.text(path, MAX)?)));
    let Some((path, text)) = found else {
        return;
    };
    for paragraph in text.split("\n\n") {
        let field = |letter: &str| {
            let mut lines = paragraph.lines();
            lines.find_map(|line| line.strip_prefix(letter)?.strip_prefix(':'))
        };
        let (Some(name), Some(version)) = (field("P"), field("V")) else {
            continue;
        };
        let mut package = Package::new(&kind, name, version, path)
            .with("arch", field("A").unwrap_or_default())
            .with("distro", &distribution.name())
            .with("upstream", field("o").unwrap_or_default());
        field("L")
            .unwrap_or_default()
            .clone_into(&mut package.license);
        add(package);
    }
}
