//! Container names: what is allowed, and what is drawn where none is given.

use rustix::rand::{GetRandomFlags, getrandom};

use crate::error::{Error, Result, Step};
use oci::ContainerId;

/// First words of drawn names.
const QUALITIES: [&str; 40] = [
    "agile", "amber", "arctic", "bold", "bright", "brisk", "calm", "candid", "clever", "coral",
    "deep", "deft", "drifting", "eager", "fair", "fleet", "gentle", "glad", "hardy", "jolly",
    "keen", "kind", "lively", "lucid", "lunar", "merry", "misty", "nimble", "noble", "patient",
    "placid", "proud", "quiet", "rapid", "serene", "silver", "steady", "swift", "tidal", "warm",
];
/// Second words of drawn names: what lives in the sea.
const SWIMMERS: [&str; 40] = [
    "beluga",
    "bowhead",
    "bryde",
    "cachalot",
    "clam",
    "cod",
    "conch",
    "crab",
    "cuttlefish",
    "dolphin",
    "dugong",
    "eel",
    "fin",
    "grampus",
    "halibut",
    "herring",
    "humpback",
    "kelp",
    "krill",
    "limpet",
    "manta",
    "minke",
    "mussel",
    "narwhal",
    "nautilus",
    "octopus",
    "orca",
    "otter",
    "oyster",
    "penguin",
    "porpoise",
    "puffin",
    "remora",
    "salmon",
    "seal",
    "sei",
    "sperm",
    "tuna",
    "vaquita",
    "walrus",
];

/// Whether a container may have this name (Docker's rule).
pub(crate) fn check(name: &str) -> Result<()> {
    let first = name
        .bytes()
        .next()
        .is_some_and(|b| b.is_ascii_alphanumeric());
    let rest = name
        .bytes()
        .all(|b| b.is_ascii_alphanumeric() || b"_.-".contains(&b));
    if first && rest && name.len() >= 2 {
        return Ok(());
    }
    Err(invalid(name))
}

/// The refusal of a name, as the client wrote it.
pub(crate) fn invalid(name: &str) -> Error {
    Error::invalid(format!(
        "Invalid container name ({name}), only [a-zA-Z0-9][a-zA-Z0-9_.-] are allowed"
    ))
}

/// Draws a name that `taken` does not know.
pub(crate) fn draw(taken: impl Fn(&str) -> bool) -> Result<String> {
    let mut suffix = 0_u32;
    loop {
        let [a, b, c, d] = random()?;
        let quality = QUALITIES[usize::from(u16::from_le_bytes([a, b])) % QUALITIES.len()];
        let swimmer = SWIMMERS[usize::from(u16::from_le_bytes([c, d])) % SWIMMERS.len()];
        let name = match suffix {
            0..4 => format!("{quality}_{swimmer}"),
            n => format!("{quality}_{swimmer}{}", u32::from(a) + n),
        };
        if !taken(&name) {
            return Ok(name);
        }
        suffix += 1;
    }
}

/// Draws a container id.
pub(crate) fn draw_id() -> Result<ContainerId> {
    loop {
        if let Some(id) = ContainerId::from_random(&random()?) {
            return Ok(id);
        }
    }
}

/// Random bytes from the kernel.
pub(crate) fn random<const N: usize>() -> Result<[u8; N]> {
    let mut bytes = [0; N];
    let mut filled = 0;
    while filled < N {
        filled += getrandom(&mut bytes[filled..], GetRandomFlags::empty())
            .step(|| "draw random bytes")?;
    }
    Ok(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_follow_dockers_rule() {
        for (name, good) in [
            ("web", true),
            ("a", false),
            ("_x", false),
            ("a/b", false),
            ("a.b-c_d", true),
            ("", false),
        ] {
            assert_eq!(check(name).is_ok(), good, "{name}");
        }
    }

    #[test]
    fn a_drawn_name_is_valid_and_free() {
        let name = draw(|n| n == "calm_orca").unwrap();
        check(&name).unwrap();
        let crowded = draw(|n| n.bytes().last().is_some_and(|b| !b.is_ascii_digit())).unwrap();
        check(&crowded).unwrap();
    }
}
