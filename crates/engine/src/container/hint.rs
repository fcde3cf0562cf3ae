//! Why a container had to be killed after its stop signal, told by what the kernel knows of its
//! first process.

use super::Record;
use crate::signal;

/// The masks of signals of a process (proc_pid_status(5)).
#[derive(Debug, Default, PartialEq, Eq)]
struct Masks {
    name: String,
    caught: u64,
    ignored: u64,
    blocked: u64,
}

impl Masks {
    fn of(pid: i32) -> Option<Self> {
        std::fs::read_to_string(format!("/proc/{pid}/status"))
            .ok()
            .map(|text| Self::parse(&text))
    }

    fn parse(status: &str) -> Self {
        let mut masks = Self::default();
        for (key, value) in status.lines().filter_map(|line| line.split_once(':')) {
            let value = value.trim();
            let mask = || u64::from_str_radix(value, 16).unwrap_or(0);
            match key {
                "Name" => value.clone_into(&mut masks.name),
                "SigCgt" => masks.caught = mask(),
                "SigIgn" => masks.ignored = mask(),
                "SigBlk" => masks.blocked = mask(),
                _ => {}
            }
        }
        masks
    }
}

/// A sentence for people about a container that has not ended in time; asked while it still runs.
pub(super) fn ignored_stop(record: &Record, number: i32, seconds: i64) -> String {
    let name = signal::name(number);
    let masks = Masks::of(record.state.pid).unwrap_or_default();
    let own_pids = record.host.pid_mode.is_empty();
    let why = reason(&masks, number, &name, own_pids);
    format!(
        "container {} was killed {seconds} s after {name}: {why}",
        record.name
    )
}

fn reason(masks: &Masks, number: i32, name: &str, own_pids: bool) -> String {
    let bit = u32::try_from(number - 1).map_or(0, |shift| 1_u64.checked_shl(shift).unwrap_or(0));
    let program = if masks.name.is_empty() {
        "its first process".to_owned()
    } else {
        format!("its first process ({:?})", masks.name)
    };
    if masks.ignored & bit != 0 {
        format!("{program} ignores {name}; --stop-signal chooses another")
    } else if (masks.caught | masks.blocked) & bit != 0 {
        format!(
            "{program} takes {name}, but did not end in time; stop -t or --stop-timeout give it longer"
        )
    } else if own_pids {
        format!(
            "{program} has no handler for {name}, and without one PID 1 gets no signal; run it with --init, start the program with exec, or choose another signal with --stop-signal"
        )
    } else {
        format!("{program} did not end in time")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_masks() {
        let text = "Name:\tsleep\nSigBlk:\t0000000000000001\nSigIgn:\t0000000000004000\nSigCgt:\t0000000000000002\n";
        let masks = Masks::parse(text);
        assert_eq!(
            masks,
            Masks {
                name: "sleep".into(),
                blocked: 1,
                ignored: 0x4000,
                caught: 2,
            }
        );
    }

    #[test]
    fn tells_apart_why() {
        let mut masks = Masks {
            name: "sleep".into(),
            ..Masks::default()
        };
        let why = |masks: &Masks| reason(masks, 15, "SIGTERM", true);
        assert!(why(&masks).contains("has no handler for SIGTERM"));
        assert!(why(&masks).contains("--init"));
        masks.caught = 1 << 14;
        assert!(why(&masks).contains("takes SIGTERM"));
        masks.ignored = 1 << 14;
        assert!(why(&masks).contains("ignores SIGTERM"));
        assert!(reason(&Masks::default(), 64, "SIGRTMAX", false).contains("did not end"));
    }
}
