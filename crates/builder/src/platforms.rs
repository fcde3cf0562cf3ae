//! The platforms whose programs run here: the machine's own, and those that an emulator is registered for.

use std::fs;
use std::path::Path;

use oci::Platform;

/// Where the kernel lists the emulators, see binfmt_misc in its documentation.
const BINFMT: &str = "/proc/sys/fs/binfmt_misc";
/// Emulators that are looked at.
const MAX_EMULATORS: usize = 256;
/// The longest description of one.
const MAX_TEXT: usize = 16 << 10;

/// An architecture as the head of an executable has it.
struct Head {
    architecture: &'static str,
    variants: &'static [&'static str],
    machine: u16,
    wide: bool,
    big: bool,
}

const fn head(architecture: &'static str, machine: u16) -> Head {
    Head {
        architecture,
        variants: &[],
        machine,
        wide: true,
        big: false,
    }
}

/// The architectures of Linux images.
const HEADS: [Head; 10] = [
    head("amd64", 62),
    head("arm64", 183),
    head("riscv64", 243),
    head("ppc64le", 21),
    Head {
        big: true,
        ..head("s390x", 22)
    },
    Head {
        wide: false,
        ..head("386", 3)
    },
    head("mips64le", 8),
    Head {
        big: true,
        ..head("mips64", 8)
    },
    head("loong64", 258),
    Head {
        variants: &["v7", "v6"],
        wide: false,
        ..head("arm", 40)
    },
];

impl Head {
    /// The first bytes of an executable.
    fn bytes(&self) -> [u8; 20] {
        let mut bytes = [0; 20];
        bytes[..4].copy_from_slice(b"\x7fELF");
        bytes[4] = if self.wide { 2 } else { 1 };
        bytes[5] = if self.big { 2 } else { 1 };
        bytes[6] = 1;
        let number = |number: u16| {
            if self.big {
                number.to_be_bytes()
            } else {
                number.to_le_bytes()
            }
        };
        bytes[16..18].copy_from_slice(&number(2));
        bytes[18..20].copy_from_slice(&number(self.machine));
        bytes
    }

    fn platforms(&self) -> impl Iterator<Item = Platform> {
        let variants = self
            .variants
            .iter()
            .map(|variant| Some((*variant).to_owned()));
        let plain = self.variants.is_empty().then_some(None);
        variants
            .chain(plain)
            .map(|variant| linux(self.architecture, variant))
    }
}

fn linux(architecture: &str, variant: Option<String>) -> Platform {
    Platform {
        architecture: architecture.to_owned(),
        os: "linux".to_owned(),
        variant,
        os_version: None,
    }
}

/// The platforms whose programs run here, the machine's own first.
#[must_use]
pub fn supported() -> Vec<Platform> {
    let mut all = native();
    for platform in emulated(Path::new(BINFMT)) {
        if !all.contains(&platform) {
            all.push(platform);
        }
    }
    all
}

/// Tells whether a platform's programs run here.
#[must_use]
pub fn runs(platform: &Platform) -> bool {
    supported()
        .iter()
        .any(|supported| supported.accepts(platform))
}

#[cfg(target_arch = "x86_64")]
fn native() -> Vec<Platform> {
    use std::arch::is_x86_feature_detected as has;
    let v2 = has!("sse3") && has!("ssse3") && has!("sse4.1") && has!("sse4.2") && has!("popcnt");
    let v3 = v2
        && has!("avx")
        && has!("avx2")
        && has!("bmi1")
        && has!("bmi2")
        && has!("f16c")
        && has!("fma")
        && has!("lzcnt")
        && has!("movbe");
    let v4 = v3
        && has!("avx512f")
        && has!("avx512bw")
        && has!("avx512cd")
        && has!("avx512dq")
        && has!("avx512vl");
    let levels = [(v2, "v2"), (v3, "v3"), (v4, "v4")];
    let levels = levels.iter().filter(|(has, _)| *has);
    let mut all = vec![Platform::host()];
    all.extend(levels.map(|(_, level)| linux("amd64", Some((*level).to_owned()))));
    all.push(linux("386", None));
    all
}

#[cfg(not(target_arch = "x86_64"))]
fn native() -> Vec<Platform> {
    vec![Platform::host()]
}

/// The platforms of the registered emulators.
fn emulated(folder: &Path) -> Vec<Platform> {
    let entries = fs::read_dir(folder).into_iter().flatten().flatten();
    let texts = entries.take(MAX_EMULATORS).filter_map(|entry| {
        let name = entry.file_name();
        let special = name == "register" || name == "status";
        (!special)
            .then(|| fs::read_to_string(entry.path()).ok())
            .flatten()
    });
    let emulators: Vec<Emulator> = texts.filter_map(|text| Emulator::parse(&text)).collect();
    let found = HEADS.iter().filter(|head| {
        let bytes = head.bytes();
        emulators.iter().any(|emulator| emulator.takes(&bytes))
    });
    found.flat_map(Head::platforms).collect()
}

/// What the kernel says of an emulator.
struct Emulator {
    magic: Vec<u8>,
    mask: Vec<u8>,
}

impl Emulator {
    /// Reads a description. Only an emulator that is open already (flag F) is found from inside a step.
    fn parse(text: &str) -> Option<Self> {
        if text.len() > MAX_TEXT || text.lines().next() != Some("enabled") {
            return None;
        }
        let field = |name: &str| {
            text.lines()
                .find_map(|line| line.strip_prefix(name))
                .map(str::trim)
        };
        if !field("flags:")?.contains('F') || field("offset ")? != "0" {
            return None;
        }
        let magic = hex::decode(field("magic ")?).ok()?;
        let mask = match field("mask ") {
            Some(mask) => hex::decode(mask).ok()?,
            None => vec![0xff; magic.len()],
        };
        Some(Self { magic, mask })
    }

    fn takes(&self, head: &[u8; 20]) -> bool {
        let pairs = self.magic.iter().zip(&self.mask).zip(head);
        !self.magic.is_empty()
            && pairs
                .into_iter()
                .all(|((magic, mask), byte)| byte & mask == magic & mask)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const ARM64: &str = "enabled\ninterpreter /usr/bin/qemu-aarch64\nflags: OCF\noffset 0\n\
        magic 7f454c460201010000000000000000000200b700\n\
        mask ffffffffffffff00fffffffffffffffffeffffff\n";

    #[test]
    fn emulators() {
        let folder = tempfile::tempdir().unwrap();
        let write = |name: &str, text: &str| fs::write(folder.path().join(name), text).unwrap();
        write("status", "enabled");
        write("qemu-aarch64", ARM64);
        write(
            "qemu-riscv64",
            &ARM64.replace("enabled", "disabled").replace("b700", "f300"),
        );
        write(
            "qemu-s390x",
            &ARM64.replace("OCF", "OC").replace("b700", "0016"),
        );
        write(
            "python",
            "enabled\ninterpreter /p\nflags: F\noffset 0\nmagic 0a0d\n",
        );
        assert_eq!(emulated(folder.path()), [linux("arm64", None)]);
        write(
            "qemu-arm",
            &ARM64
                .replace("0201010000", "0101010000")
                .replace("b700", "2800"),
        );
        let arm = |variant: &str| linux("arm", Some(variant.to_owned()));
        assert_eq!(
            emulated(folder.path()),
            [linux("arm64", None), arm("v7"), arm("v6")]
        );
        assert!(emulated(Path::new("/nonexistent")).is_empty());
    }

    #[test]
    fn this_machine() {
        assert_eq!(supported().first(), Some(&Platform::host()));
        assert!(runs(&Platform::host()));
        assert!(!runs(&linux("no-such", None)));
    }
}
