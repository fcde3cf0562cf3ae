//! Crates: `Cargo.lock`, and the list that `cargo auditable` writes into programs.

use std::io::Read as _;

use serde::Deserialize;

use super::Package;
use super::elf::Elf;
use super::root::Entry;

/// The section with the list, a JSON document that is packed by zlib.
const SECTION: &str = ".dep-v0";
const SECTION_MAX: u64 = 8 << 20;
const LIST_MAX: u64 = 64 << 20;
const LOCK_MAX: u64 = 16 << 20;

#[derive(Deserialize)]
struct List {
    packages: Vec<Listed>,
}

#[derive(Deserialize)]
struct Listed {
    name: String,
    version: String,
    /// `build` for what only the compilation needed.
    #[serde(default)]
    kind: String,
}

pub(super) fn look(entry: &Entry<'_>, add: &mut dyn FnMut(Package)) {
    if entry.name() == "Cargo.lock" {
        if let Some(text) = entry.text(LOCK_MAX) {
            lock(&text, entry.path, add);
        }
    } else if entry.is_program() {
        let elf = entry.open().and_then(Elf::open);
        let packed = elf.and_then(|elf| elf.bytes(SECTION, SECTION_MAX));
        for one in packed.and_then(|packed| list(&packed)).unwrap_or_default() {
            if one.kind != "build" {
                add(Package::new("cargo", &one.name, &one.version, entry.path));
            }
        }
    }
}

fn list(packed: &[u8]) -> Option<Vec<Listed>> {
    let mut text = Vec::new();
    let mut plain = flate2::read::ZlibDecoder::new(packed).take(LIST_MAX);
    plain.read_to_end(&mut text).ok()?;
    let list: List = serde_json::from_slice(&text).ok()?;
    Some(list.packages)
}

/// Reads `[[package]]` tables, of which Cargo writes a key a line.
fn lock(text: &str, path: &str, add: &mut dyn FnMut(Package)) {
    for table in text.split("[[package]]").skip(1) {
        let key = |name: &str| {
            let mut lines = table.lines().take_while(|line| !line.starts_with('['));
            lines.find_map(|line| {
                let value = line.strip_prefix(name)?.trim_start().strip_prefix('=')?;
                Some(value.trim().trim_matches('"'))
            })
        };
        if let (Some(name), Some(version)) = (key("name"), key("version")) {
            add(Package::new("cargo", name, version, path));
        }
    }
}
