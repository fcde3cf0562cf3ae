//! Modules of Go: what its linker writes into programs (`debug/buildinfo`).

use super::Package;
use super::elf::Elf;
use super::root::Entry;

const SECTION: &str = ".go.buildinfo";
const MAGIC: &[u8] = b"\xff Go buildinf:";
/// The section of a program with thousands of modules has some hundred kilobytes.
const MAX: u64 = 16 << 20;
/// Where the strings begin since Go 1.18.
const STRINGS: usize = 32;
/// Marks around the list of modules.
const MARK: usize = 16;

pub(super) fn look(entry: &Entry<'_>, add: &mut dyn FnMut(Package)) {
    if !entry.is_program() {
        return;
    }
    let elf = entry.open().and_then(Elf::open);
    let info = elf.and_then(|elf| elf.bytes(SECTION, MAX));
    if let Some((version, modules)) = info.as_deref().and_then(strings) {
        add(Package::new("golang", "stdlib", &version, entry.path));
        read(&modules, entry.path, add);
    }
}

/// The version of Go and the list of modules.
fn strings(info: &[u8]) -> Option<(String, String)> {
    let start = info
        .windows(MAGIC.len())
        .position(|window| window == MAGIC)?;
    let info = info.get(start..)?;
    // older programs have pointers there, into memory that a file does not show
    if info.get(15)? & 2 == 0 {
        return None;
    }
    let (version, rest) = string(info.get(STRINGS..)?)?;
    let (modules, _) = string(rest)?;
    let modules = modules.get(MARK..modules.len().checked_sub(MARK)?)?;
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    let version = text(version);
    let version = version.trim_start_matches("go").to_owned();
    Some((version, text(modules)))
}

/// A string behind its length, which has seven bits in each byte.
fn string(bytes: &[u8]) -> Option<(&[u8], &[u8])> {
    let mut length = 0_usize;
    for (place, byte) in bytes.iter().take(4).enumerate() {
        length |= usize::from(byte & 0x7f) << (7 * place);
        if byte & 0x80 == 0 {
            let rest = bytes.get(place + 1..)?;
            return (length <= rest.len()).then(|| rest.split_at(length));
        }
    }
    None
}

/// Reads the lines of the list: `dep`, path and version with tabs between; `=>` replaces the one above.
fn read(modules: &str, path: &str, add: &mut dyn FnMut(Package)) {
    let mut last: Option<Package> = None;
    for line in modules.lines() {
        let mut words = line.split('\t');
        let word = words.next().unwrap_or_default();
        let (name, version) = (words.next(), words.next());
        let module = |name: &str| {
            // a program that was built from its sources has no version
            let version = version
                .filter(|text| *text != "(devel)")
                .unwrap_or_default();
            Package::new("golang", name, version, path)
        };
        match (word, name) {
            ("mod" | "dep", Some(name)) => {
                last.take().into_iter().for_each(&mut *add);
                last = Some(module(name));
            }
            ("=>", Some(name)) => last = Some(module(name)),
            _ => {}
        }
    }
    last.into_iter().for_each(add);
}
