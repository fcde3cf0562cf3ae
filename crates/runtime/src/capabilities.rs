//! Capabilities: their names, Docker's default set, and giving them to a process.
//!
//! A set is given in two halves around setuid(2): the bounding set while `CAP_SETPCAP` is still there,
//! the others once the user has changed, which would have cleared them (capabilities(7)).

use oci::runtime::Capabilities;
use rustix::io::Errno;
use rustix::thread::{CapabilitySet, CapabilitySets};

/// Names without their prefix, at the place of their number.
const NAMES: [&str; 41] = [
    "CHOWN",
    "DAC_OVERRIDE",
    "DAC_READ_SEARCH",
    "FOWNER",
    "FSETID",
    "KILL",
    "SETGID",
    "SETUID",
    "SETPCAP",
    "LINUX_IMMUTABLE",
    "NET_BIND_SERVICE",
    "NET_BROADCAST",
    "NET_ADMIN",
    "NET_RAW",
    "IPC_LOCK",
    "IPC_OWNER",
    "SYS_MODULE",
    "SYS_RAWIO",
    "SYS_CHROOT",
    "SYS_PTRACE",
    "SYS_PACCT",
    "SYS_ADMIN",
    "SYS_BOOT",
    "SYS_NICE",
    "SYS_RESOURCE",
    "SYS_TIME",
    "SYS_TTY_CONFIG",
    "MKNOD",
    "LEASE",
    "AUDIT_WRITE",
    "AUDIT_CONTROL",
    "SETFCAP",
    "MAC_OVERRIDE",
    "MAC_ADMIN",
    "SYSLOG",
    "WAKE_ALARM",
    "BLOCK_SUSPEND",
    "AUDIT_READ",
    "PERFMON",
    "BPF",
    "CHECKPOINT_RESTORE",
];

/// What a container has unless it is told otherwise, in Docker's order.
const DEFAULT: [&str; 14] = [
    "CHOWN",
    "DAC_OVERRIDE",
    "FSETID",
    "FOWNER",
    "MKNOD",
    "NET_RAW",
    "SETGID",
    "SETUID",
    "SETFCAP",
    "SETPCAP",
    "NET_BIND_SERVICE",
    "SYS_CHROOT",
    "KILL",
    "AUDIT_WRITE",
];

const PREFIX: &str = "CAP_";
const ALL: &str = "ALL";

/// Whether a container gets everything that the engine may give.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Privileged {
    /// Only what is asked for.
    No,
    /// Everything.
    Yes,
}

/// A capability that cannot be given, in Docker's words.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum NameError {
    /// No capability has this name.
    #[error("invalid {list}: unknown capability: {name:?}")]
    Unknown {
        /// `CapAdd` or `CapDrop`.
        list: &'static str,
        /// The name in its full form.
        name: String,
    },
    /// The engine does not have it itself, or the kernel does not know it.
    #[error(
        "invalid {list}: capability not supported by your kernel or not available in the current environment: {name:?}"
    )]
    Unavailable {
        /// `CapAdd` or `CapDrop`.
        list: &'static str,
        /// The name in its full form.
        name: String,
    },
}

/// A step of giving capabilities that the kernel refused.
#[derive(Debug, thiserror::Error)]
pub enum ApplyError {
    /// A capability stays in the bounding set.
    #[error("drop {name} from the bounding set")]
    Bounding {
        /// The capability.
        name: String,
        /// The kernel's answer.
        #[source]
        source: Errno,
    },
    /// The sets cannot be kept across the change of user.
    #[error("keep capabilities across setuid")]
    Keep(#[source] Errno),
    /// The sets themselves.
    #[error("set capabilities")]
    Set(#[source] Errno),
    /// The ambient set.
    #[error("raise {name} in the ambient set")]
    Ambient {
        /// The capability.
        name: String,
        /// The kernel's answer.
        #[source]
        source: Errno,
    },
}

/// Tells the full name of a capability's number, `CAP_CHOWN`; a number for those newer than this table.
pub fn name(number: u32) -> String {
    let known = usize::try_from(number).ok().and_then(|at| NAMES.get(at));
    known.map_or_else(|| format!("{PREFIX}{number}"), |name| full(name))
}

/// Tells a capability's number from its name, with or without `CAP_` and in any case.
pub fn number(name: &str) -> Option<u32> {
    let bare = strip(name);
    let at = NAMES
        .iter()
        .position(|known| known.eq_ignore_ascii_case(bare))?;
    u32::try_from(at).ok()
}

/// Tells Docker's default set by full names.
pub fn default_set() -> Vec<String> {
    DEFAULT.iter().map(|name| full(name)).collect()
}

/// Tells the greatest capability that the kernel knows.
///
/// A failure to read it means that no `/proc` is there: then the table's end is assumed.
pub fn last() -> u32 {
    // the running kernel's, read once
    static LAST: std::sync::OnceLock<u32> = std::sync::OnceLock::new();
    *LAST.get_or_init(|| {
        let text = std::fs::read_to_string("/proc/sys/kernel/cap_last_cap").unwrap_or_default();
        text.trim().parse().unwrap_or(40).min(63)
    })
}

/// Tells by full names what this process has and so may give, in the kernel's order.
///
/// # Errors
/// What capget(2) answers.
pub fn available() -> Result<Vec<String>, Errno> {
    let own = rustix::thread::capabilities(None)?.effective.bits();
    Ok((0..=last())
        .filter(|&number| own & bit(number) != 0)
        .map(name)
        .collect())
}

/// Decides a container's capabilities from `--cap-add`, `--cap-drop` and `--privileged`.
///
/// # Errors
/// A name that is unknown or unavailable.
pub fn resolve(
    add: &[String],
    drop: &[String],
    privileged: Privileged,
) -> Result<Vec<String>, NameError> {
    // without a readable set nothing can be given, and each name is told as unavailable
    let available = available().unwrap_or_default();
    resolve_among(add, drop, privileged, &available)
}

/// [`resolve`] for a process that has the capabilities `available`.
fn resolve_among(
    add: &[String],
    drop: &[String],
    privileged: Privileged,
    available: &[String],
) -> Result<Vec<String>, NameError> {
    if privileged == Privileged::Yes {
        return Ok(available.to_vec());
    }
    let added = normalize("CapAdd", add, available)?;
    let dropped = normalize("CapDrop", drop, available)?;
    let has = |list: &[String], name: &str| list.iter().any(|entry| entry == name);
    let mut chosen = if has(&added, ALL) {
        let mut chosen = available.to_vec();
        chosen.retain(|name| !has(&dropped, name));
        chosen
    } else if has(&dropped, ALL) {
        added
    } else {
        let mut chosen = default_set();
        chosen.retain(|name| !has(&dropped, name));
        chosen.extend(added);
        chosen
    };
    remove_repeats(&mut chosen);
    Ok(chosen)
}

/// Brings names into their full form; `ALL` stays as it is.
fn normalize(
    list: &'static str,
    names: &[String],
    available: &[String],
) -> Result<Vec<String>, NameError> {
    names
        .iter()
        .map(|given| {
            if given.eq_ignore_ascii_case(ALL) {
                return Ok(ALL.to_owned());
            }
            let name = full(&strip(given).to_ascii_uppercase());
            if number(&name).is_none() {
                return Err(NameError::Unknown { list, name });
            }
            if !available.contains(&name) {
                return Err(NameError::Unavailable { list, name });
            }
            Ok(name)
        })
        .collect()
}

fn remove_repeats(names: &mut Vec<String>) {
    let mut seen = 0u64;
    names.retain(|name| {
        let mask = number(name).map_or(0, bit);
        let first = seen & mask == 0;
        seen |= mask;
        first
    });
}

fn full(bare: &str) -> String {
    format!("{PREFIX}{bare}")
}

fn strip(name: &str) -> &str {
    match name.get(..PREFIX.len()) {
        Some(prefix) if prefix.eq_ignore_ascii_case(PREFIX) => &name[PREFIX.len()..],
        _ => name,
    }
}

fn bit(number: u32) -> u64 {
    1u64.checked_shl(number).unwrap_or(0)
}

/// The five sets as bit masks: what a process is given.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Sets {
    bounding: u64,
    effective: u64,
    permitted: u64,
    inheritable: u64,
    ambient: u64,
}

impl Sets {
    /// Reads the names of a configuration; names that no capability has are left out, which gives less.
    pub fn new(names: &Capabilities) -> Self {
        let permitted = mask(&names.permitted);
        let inheritable = mask(&names.inheritable);
        Self {
            bounding: mask(&names.bounding),
            effective: mask(&names.effective) & permitted,
            permitted,
            inheritable,
            // the kernel refuses an ambient capability that is not in both others
            ambient: mask(&names.ambient) & permitted & inheritable,
        }
    }

    /// The first half, while the process is still root: shrinks the bounding set and has the kernel keep
    /// the permitted set across setuid(2).
    ///
    /// # Errors
    /// The step that the kernel refused.
    pub fn apply_before_setuid(&self) -> Result<(), ApplyError> {
        self.shrink_bounding()?;
        rustix::thread::set_keep_capabilities(true).map_err(ApplyError::Keep)
    }

    /// The second half, once the process has its user: sets the other four.
    ///
    /// # Errors
    /// The step that the kernel refused.
    pub fn apply_after_setuid(&self) -> Result<(), ApplyError> {
        // a permitted set cannot grow: what the process lacks itself is not given
        let own = rustix::thread::capabilities(None)
            .map_err(ApplyError::Set)?
            .permitted
            .bits();
        let set = |mask: u64| CapabilitySet::from_bits_retain(mask & own);
        let sets = CapabilitySets {
            effective: set(self.effective),
            permitted: set(self.permitted),
            inheritable: set(self.inheritable),
        };
        rustix::thread::set_capabilities(None, sets).map_err(ApplyError::Set)?;
        rustix::thread::set_keep_capabilities(false).map_err(ApplyError::Keep)?;
        raise_ambient(self.ambient & own)
    }

    fn shrink_bounding(&self) -> Result<(), ApplyError> {
        for number in 0..=last() {
            if self.bounding & bit(number) != 0 {
                continue;
            }
            let one = CapabilitySet::from_bits_retain(bit(number));
            match rustix::thread::remove_capability_from_bounding_set(one) {
                // without CAP_SETPCAP a bounding set that lacks it already is as it should be
                Err(Errno::PERM) if !in_bounding(one) => {}
                Err(source) => {
                    let name = name(number);
                    return Err(ApplyError::Bounding { name, source });
                }
                Ok(()) => {}
            }
        }
        Ok(())
    }
}

fn in_bounding(one: CapabilitySet) -> bool {
    rustix::thread::capability_is_in_bounding_set(one).unwrap_or(true)
}

fn raise_ambient(mask: u64) -> Result<(), ApplyError> {
    match rustix::thread::clear_ambient_capability_set() {
        // kernels before 4.3 have no ambient set
        Err(Errno::INVAL) if mask == 0 => return Ok(()),
        Err(source) => {
            let name = String::from("none");
            return Err(ApplyError::Ambient { name, source });
        }
        Ok(()) => {}
    }
    for number in (0..64).filter(|&number| mask & bit(number) != 0) {
        let one = CapabilitySet::from_bits_retain(bit(number));
        rustix::thread::configure_capability_in_ambient_set(one, true).map_err(|source| {
            let name = name(number);
            ApplyError::Ambient { name, source }
        })?;
    }
    Ok(())
}

fn mask(names: &[String]) -> u64 {
    names
        .iter()
        .filter_map(|name| number(name))
        .fold(0, |mask, number| mask | bit(number))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn names(list: &[&str]) -> Vec<String> {
        list.iter().map(|&name| name.to_owned()).collect()
    }

    fn all() -> Vec<String> {
        (0..=40).map(name).collect()
    }

    #[track_caller]
    fn check(add: &[&str], drop: &[&str], expect: &[&str]) {
        let chosen = resolve_among(&names(add), &names(drop), Privileged::No, &all());
        assert_eq!(chosen.unwrap(), names(expect));
    }

    #[track_caller]
    fn refused(add: &[&str], drop: &[&str], expect: &str) {
        let mut available = all();
        available.retain(|name| name != "CAP_SYS_RESOURCE");
        let chosen = resolve_among(&names(add), &names(drop), Privileged::No, &available);
        assert_eq!(chosen.unwrap_err().to_string(), expect);
    }

    #[test]
    fn names_and_numbers_agree() {
        for at in 0..=40 {
            assert_eq!(number(&name(at)), Some(at));
        }
        assert_eq!(name(21), "CAP_SYS_ADMIN");
        assert_eq!(name(41), "CAP_41");
        assert_eq!(number("sys_admin"), Some(21));
        assert_eq!(number("Cap_Checkpoint_Restore"), Some(40));
        assert_eq!(number("CAP_"), None);
        assert_eq!(number("가나"), None);
    }

    #[test]
    fn adds_and_drops_like_docker() {
        check(&["chown", "CAP_CHOWN"], &["all"], &["CAP_CHOWN"]);
        check(&[], &["ALL"], &[]);
        let mut defaults = default_set();
        defaults.retain(|name| name != "CAP_KILL");
        defaults.push("CAP_NET_ADMIN".to_owned());
        let expect: Vec<&str> = defaults.iter().map(String::as_str).collect();
        check(&["net_admin"], &["Kill"], &expect);
    }

    #[test]
    fn all_is_what_the_engine_has() {
        let few = names(&["CAP_CHOWN", "CAP_KILL", "CAP_SYSLOG"]);
        let add = names(&["ALL"]);
        let drop = names(&["kill"]);
        let chosen = resolve_among(&add, &drop, Privileged::No, &few).unwrap();
        assert_eq!(chosen, names(&["CAP_CHOWN", "CAP_SYSLOG"]));
        let chosen = resolve_among(&[], &drop, Privileged::Yes, &few).unwrap();
        assert_eq!(chosen, few);
    }

    #[test]
    fn refuses_in_dockers_words() {
        refused(
            &["foo"],
            &[],
            "invalid CapAdd: unknown capability: \"CAP_FOO\"",
        );
        refused(
            &["all"],
            &["cap_x"],
            "invalid CapDrop: unknown capability: \"CAP_X\"",
        );
        refused(
            &["SYS_RESOURCE"],
            &[],
            "invalid CapAdd: capability not supported by your kernel or not available in the current environment: \"CAP_SYS_RESOURCE\"",
        );
    }

    #[test]
    fn gives_a_thread_its_sets() {
        let chosen = names(&["CAP_CHOWN", "CAP_KILL"]);
        let spec = Capabilities {
            bounding: chosen.clone(),
            effective: chosen.clone(),
            permitted: chosen,
            inheritable: names(&["CAP_KILL"]),
            ambient: names(&["CAP_KILL", "CAP_CHOWN"]),
        };
        // capabilities belong to a thread: this one ends with its test
        let status = std::thread::spawn(move || {
            let sets = Sets::new(&spec);
            sets.apply_before_setuid().unwrap();
            sets.apply_after_setuid().unwrap();
            std::fs::read_to_string("/proc/thread-self/status").unwrap()
        });
        let status = status.join().unwrap();
        for line in [
            "CapInh:\t0000000000000020",
            "CapPrm:\t0000000000000021",
            "CapEff:\t0000000000000021",
            "CapBnd:\t0000000000000021",
            "CapAmb:\t0000000000000020",
        ] {
            assert!(status.contains(line), "{line} in {status}");
        }
    }
}
