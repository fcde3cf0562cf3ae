//! Signals by name and number.

use crate::error::{Error, Result};

/// Linux's signals of x86-64 and arm64 (signal(7)).
const NAMES: [(&str, i32); 37] = [
    ("HUP", 1),
    ("INT", 2),
    ("QUIT", 3),
    ("ILL", 4),
    ("TRAP", 5),
    ("ABRT", 6),
    ("IOT", 6),
    ("BUS", 7),
    ("FPE", 8),
    ("KILL", 9),
    ("USR1", 10),
    ("SEGV", 11),
    ("USR2", 12),
    ("PIPE", 13),
    ("ALRM", 14),
    ("TERM", 15),
    ("STKFLT", 16),
    ("CHLD", 17),
    ("CLD", 17),
    ("CONT", 18),
    ("STOP", 19),
    ("TSTP", 20),
    ("TTIN", 21),
    ("TTOU", 22),
    ("URG", 23),
    ("XCPU", 24),
    ("XFSZ", 25),
    ("VTALRM", 26),
    ("PROF", 27),
    ("WINCH", 28),
    ("IO", 29),
    ("POLL", 29),
    ("PWR", 30),
    ("SYS", 31),
    ("RTMIN", 34),
    ("RTMAX", 64),
    ("UNUSED", 31),
];

/// The number of a signal given as `9`, `KILL`, `SIGKILL` or `RTMIN+3`, in any case.
///
/// # Errors
///
/// There is none of that name.
pub fn parse(text: &str) -> Result<i32> {
    let error = || Error::invalid(format!("invalid signal: {text}"));
    if let Ok(number) = text.parse::<i32>() {
        return match number {
            // the two between are the C library's own (nptl(7))
            1..=31 | 34..=64 => Ok(number),
            ..=0 => Err(error()),
            _ => Err(Error::invalid(format!(
                "the linux daemon does not support signal {number}"
            ))),
        };
    }
    let upper = text.to_ascii_uppercase();
    let name = upper.strip_prefix("SIG").unwrap_or(&upper);
    let (base, offset) = match name.split_once(['+', '-']) {
        Some((base, digits)) => {
            let offset: i32 = digits.parse().map_err(|_| error())?;
            (base, if name.contains('-') { -offset } else { offset })
        }
        None => (name, 0),
    };
    let number = NAMES
        .iter()
        .find(|(n, _)| *n == base)
        .map(|(_, number)| number + offset)
        .ok_or_else(error)?;
    if (1..=64).contains(&number) {
        Ok(number)
    } else {
        Err(error())
    }
}

/// A signal's name, as `SIGTERM`, or its number where it has none.
pub(crate) fn name(number: i32) -> String {
    let named = NAMES.iter().find(|(_, n)| *n == number);
    named.map_or_else(|| number.to_string(), |(name, _)| format!("SIG{name}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_names_and_numbers() {
        for (text, number) in [
            ("9", 9),
            ("SIGKILL", 9),
            ("term", 15),
            ("RTMIN+3", 37),
            ("SIGRTMAX-1", 63),
        ] {
            assert_eq!(parse(text).unwrap(), number, "{text}");
        }
        assert_eq!((name(15).as_str(), name(35).as_str()), ("SIGTERM", "35"));
        for text in ["0", "32", "65", "NOPE", "", "RTMAX+1", "-1", "RTMIN+3x"] {
            assert!(parse(text).is_err(), "{text}");
        }
    }
}
