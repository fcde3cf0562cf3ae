//! Bits a second, as `tc` writes them.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

/// The least: a packet of full size in a second and a half.
const MINIMUM: u64 = 8_000;
/// The most: more than any link, and still far from what the kernel counts with.
const MAXIMUM: u64 = 1_000_000_000_000;
/// Units, each with how many bits a second it is; the first that divides a rate is printed.
const UNITS: [(&str, u64); 14] = [
    ("tbit", 1_000_000_000_000),
    ("gbit", 1_000_000_000),
    ("mbit", 1_000_000),
    ("kbit", 1_000),
    ("bit", 1),
    ("", 1),
    ("gibit", 1 << 30),
    ("mibit", 1 << 20),
    ("kibit", 1 << 10),
    ("tbps", 8_000_000_000_000),
    ("gbps", 8_000_000_000),
    ("mbps", 8_000_000),
    ("kbps", 8_000),
    ("bps", 8),
];

/// Bits a second.
///
/// They are counted as the payload of full-sized TCP segments over IPv4: what a program sees, not
/// what the headers add to it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "u64", into = "u64")]
pub struct Rate(u64);

/// The text or the number is not a rate.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ParseRateError {
    /// The text has another form.
    #[error("invalid rate {text:?}: must be a number and a unit, such as 20mbit, 500kbit or 1gbit")]
    Syntax {
        /// The text as given.
        text: String,
    },
    /// The rate is out of range.
    #[error("invalid rate {text:?}: must be 8kbit to 1tbit")]
    Range {
        /// The rate as given.
        text: String,
    },
}

impl Rate {
    /// Makes a rate of bits a second.
    pub fn from_bits(bits: u64) -> Result<Self, ParseRateError> {
        if (MINIMUM..=MAXIMUM).contains(&bits) {
            Ok(Self(bits))
        } else {
            let text = bits.to_string();
            Err(ParseRateError::Range { text })
        }
    }

    /// Returns the bits a second.
    pub const fn bits(self) -> u64 {
        self.0
    }
}

impl fmt::Display for Rate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (unit, size) = UNITS
            .into_iter()
            .find(|(_, size)| self.0.is_multiple_of(*size))
            .unwrap_or(("bit", 1));
        write!(f, "{}{unit}", self.0 / size)
    }
}

impl FromStr for Rate {
    type Err = ParseRateError;

    fn from_str(text: &str) -> Result<Self, ParseRateError> {
        let shown = || text.chars().take(64).collect();
        let syntax = || ParseRateError::Syntax { text: shown() };
        let trimmed = text.trim().to_ascii_lowercase();
        let digits = |c: char| c.is_ascii_digit() || c == '.';
        let end = trimmed.find(|c| !digits(c)).unwrap_or(trimmed.len());
        let (number, unit) = trimmed.split_at(end);
        let (_, size) = UNITS
            .into_iter()
            .find(|(name, _)| *name == unit)
            .ok_or_else(syntax)?;
        let bits = scaled(number, size).ok_or_else(syntax)?;
        let range = |_| ParseRateError::Range { text: shown() };
        let bits = u64::try_from(bits).unwrap_or(u64::MAX);
        Self::from_bits(bits).map_err(range)
    }
}

/// Multiplies a decimal number without rounding on the way.
fn scaled(number: &str, size: u64) -> Option<u128> {
    let (whole, fraction) = number.split_once('.').unwrap_or((number, "0"));
    if whole.len() > 18 || fraction.len() > 12 || whole.is_empty() || fraction.is_empty() {
        return None;
    }
    let size = u128::from(size);
    let parts = 10_u128.pow(u32::try_from(fraction.len()).ok()?);
    let whole = whole.parse::<u64>().ok()?;
    let fraction = fraction.parse::<u64>().ok()?;
    Some(u128::from(whole) * size + u128::from(fraction) * size / parts)
}

impl TryFrom<u64> for Rate {
    type Error = ParseRateError;

    fn try_from(bits: u64) -> Result<Self, ParseRateError> {
        Self::from_bits(bits)
    }
}

impl From<Rate> for u64 {
    fn from(rate: Rate) -> Self {
        rate.0
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn read_as_tc_reads_them() {
        for (text, bits) in [
            ("20mbit", 20_000_000),
            ("20Mbit", 20_000_000),
            ("1gbit", 1_000_000_000),
            ("500kbit", 500_000),
            ("8000", 8_000),
            ("8000bit", 8_000),
            ("1.5mbit", 1_500_000),
            ("0.25gbit", 250_000_000),
            ("1mbps", 8_000_000),
            ("64kibit", 65_536),
            ("1tbit", 1_000_000_000_000),
        ] {
            assert_eq!(text.parse::<Rate>().map(Rate::bits), Ok(bits), "{text}");
        }
    }

    #[test]
    fn what_is_no_rate_is_refused() {
        for bad in [
            "", "mbit", "-1mbit", "1..5mbit", "1 mbit", ".5mbit", "5.mbit", "1mb", "1e6", "٣mbit",
        ] {
            let error = bad.parse::<Rate>().unwrap_err();
            assert!(matches!(error, ParseRateError::Syntax { .. }), "{bad}");
        }
        for far in ["0", "7999", "1bit", "1001gbit", "999999999999999999tbit"] {
            let error = far.parse::<Rate>().unwrap_err();
            assert!(matches!(error, ParseRateError::Range { .. }), "{far}");
        }
    }

    #[test]
    fn printed_in_the_largest_unit_that_fits() {
        for text in ["20mbit", "1gbit", "1500kbit", "8001bit", "1tbit"] {
            assert_eq!(text.parse::<Rate>().unwrap().to_string(), text);
        }
    }

    proptest! {
        #[test]
        fn every_rate_is_read_back(bits in MINIMUM..=MAXIMUM) {
            let rate = Rate::from_bits(bits).unwrap();
            prop_assert_eq!(rate.to_string().parse(), Ok(rate));
        }

        #[test]
        fn no_text_makes_the_parser_panic(text in ".{0,40}") {
            let _outcome = text.parse::<Rate>();
        }
    }
}
