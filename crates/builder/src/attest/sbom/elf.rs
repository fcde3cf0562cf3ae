//! Sections of ELF files (elf(5)), as far as compilers put lists of packages into them.

use std::fs::File;
use std::os::unix::fs::FileExt as _;

/// Sections of a file at most; the format allows a few more.
const SECTIONS_MAX: u64 = 4096;
/// The table of their names.
const NAMES_MAX: u64 = 1 << 20;

/// An ELF file.
pub(super) struct Elf {
    file: File,
    is_64: bool,
    is_big: bool,
    sections: Vec<Section>,
    names: Vec<u8>,
}

#[derive(Clone, Copy)]
struct Section {
    name: u64,
    offset: u64,
    size: u64,
}

impl Elf {
    /// Reads the headers; nothing where the file is no ELF file.
    pub(super) fn open(file: File) -> Option<Self> {
        let mut ident = [0; 64];
        file.read_exact_at(&mut ident, 0).ok()?;
        if !ident.starts_with(b"\x7fELF") {
            return None;
        }
        let mut elf = Self {
            file,
            is_64: ident[4] == 2,
            is_big: ident[5] == 2,
            sections: Vec::new(),
            names: Vec::new(),
        };
        let (start, size, count, names) = if elf.is_64 {
            (
                elf.number(&ident, 40, 8),
                elf.number(&ident, 58, 2),
                elf.number(&ident, 60, 2),
                elf.number(&ident, 62, 2),
            )
        } else {
            (
                elf.number(&ident, 32, 4),
                elf.number(&ident, 46, 2),
                elf.number(&ident, 48, 2),
                elf.number(&ident, 50, 2),
            )
        };
        let least = if elf.is_64 { 64 } else { 40 };
        if size < least || size > 256 || count > SECTIONS_MAX {
            return None;
        }
        let table = elf.read(start, size * count)?;
        let entry = usize::try_from(size).ok()?;
        elf.sections = table
            .chunks_exact(entry)
            .map(|entry| elf.section(entry))
            .collect();
        let names = elf.sections.get(usize::try_from(names).ok()?).copied()?;
        elf.names = elf.read(names.offset, names.size.min(NAMES_MAX))?;
        Some(elf)
    }

    fn section(&self, entry: &[u8]) -> Section {
        let (offset, size, wide) = if self.is_64 { (24, 32, 8) } else { (16, 20, 4) };
        Section {
            name: self.number(entry, 0, 4),
            offset: self.number(entry, offset, wide),
            size: self.number(entry, size, wide),
        }
    }

    /// A number in the file's own order of bytes; zero where there is none.
    fn number(&self, bytes: &[u8], at: usize, width: usize) -> u64 {
        let field = bytes.get(at..at + width).unwrap_or_default();
        let add = |sum: u64, byte: &u8| sum << 8 | u64::from(*byte);
        if self.is_big {
            field.iter().fold(0, add)
        } else {
            field.iter().rev().fold(0, add)
        }
    }

    fn read(&self, offset: u64, size: u64) -> Option<Vec<u8>> {
        // a file that claims more than it has costs no memory
        let length = self.file.metadata().ok()?.len();
        if offset.checked_add(size)? > length {
            return None;
        }
        let mut bytes = vec![0; usize::try_from(size).ok()?];
        self.file.read_exact_at(&mut bytes, offset).ok()?;
        Some(bytes)
    }

    /// The bytes of a section, up to `max` of them.
    pub(super) fn bytes(&self, name: &str, max: u64) -> Option<Vec<u8>> {
        let named = |section: &&Section| {
            let start = usize::try_from(section.name).unwrap_or(usize::MAX);
            let rest = self.names.get(start..).unwrap_or_default();
            let end = rest
                .iter()
                .position(|byte| *byte == 0)
                .unwrap_or(rest.len());
            rest[..end] == *name.as_bytes()
        };
        let section = self.sections.iter().find(named)?;
        self.read(section.offset, section.size.min(max))
    }
}
