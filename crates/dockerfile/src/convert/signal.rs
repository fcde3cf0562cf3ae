//! Names of signals.

const NAMES: [&str; 35] = [
    "ABRT", "ALRM", "BUS", "CHLD", "CLD", "CONT", "FPE", "HUP", "ILL", "INT", "IO", "IOT", "KILL",
    "PIPE", "POLL", "PROF", "PWR", "QUIT", "SEGV", "STKFLT", "STOP", "SYS", "TERM", "TRAP", "TSTP",
    "TTIN", "TTOU", "URG", "USR1", "USR2", "VTALRM", "WINCH", "XCPU", "XFSZ", "UNUSED",
];

/// Whether a text names a signal, by name with or without `SIG`, or by number.
pub(super) fn is_signal(text: &str) -> bool {
    if let Ok(number) = text.parse::<i64>() {
        return number != 0;
    }
    let upper = text.to_ascii_uppercase();
    let name = upper.strip_prefix("SIG").unwrap_or(&upper);
    NAMES.contains(&name) || is_realtime(name)
}

/// `RTMIN`, `RTMIN+1` to `RTMIN+15`, `RTMAX-14` to `RTMAX-1`, `RTMAX`.
fn is_realtime(name: &str) -> bool {
    let offset = |text: &str, sign, most: u8| match text.strip_prefix(sign) {
        Some(digits) => {
            !digits.starts_with('0') && digits.parse::<u8>().is_ok_and(|n| (1..=most).contains(&n))
        }
        None => text.is_empty(),
    };
    name.strip_prefix("RTMIN")
        .is_some_and(|rest| offset(rest, '+', 15))
        || name
            .strip_prefix("RTMAX")
            .is_some_and(|rest| offset(rest, '-', 14))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn knows_signals() {
        for good in ["SIGTERM", "term", "9", "RTMIN+3", "SIGRTMAX-14", "RTMAX"] {
            assert!(is_signal(good), "{good}");
        }
        for bad in ["FOO", "", "0", "SIGRTMIN+16", "RTMAX+1", "RTMIN+01"] {
            assert!(!is_signal(bad), "{bad}");
        }
    }
}
