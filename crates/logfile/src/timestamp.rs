//! Times as Docker writes them: RFC 3339 in UTC, with nanoseconds.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

const SECOND: i64 = 1_000_000_000;
const DAY: i64 = 86_400;

/// The present time, without trailing zeros.
#[must_use]
pub fn now() -> String {
    let mut text = Vec::with_capacity(30);
    push(&mut text, unix_now());
    String::from_utf8(text).unwrap_or_default()
}

/// The present time in nanoseconds since 1970.
#[must_use]
pub fn unix_now() -> i64 {
    let since = SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .unwrap_or(Duration::ZERO);
    i64::try_from(since.as_nanos()).unwrap_or(i64::MAX)
}

/// Appends a time, without trailing zeros of its fraction.
pub fn push(into: &mut Vec<u8>, nanoseconds: i64) {
    push_second(into, nanoseconds.div_euclid(SECOND));
    let mut digits = digits9(nanoseconds.rem_euclid(SECOND)).as_slice().to_vec();
    while digits.last() == Some(&b'0') {
        digits.pop();
    }
    if !digits.is_empty() {
        into.push(b'.');
        into.extend_from_slice(&digits);
    }
    into.push(b'Z');
}

/// Appends a time with all nine digits of its fraction, so that all times are equally long.
pub fn push_fixed(into: &mut Vec<u8>, nanoseconds: i64) {
    push_second(into, nanoseconds.div_euclid(SECOND));
    into.push(b'.');
    into.extend_from_slice(&digits9(nanoseconds.rem_euclid(SECOND)));
    into.push(b'Z');
}

/// A writer of times that come close after another, which writes each second's part once.
#[derive(Debug, Default)]
pub struct Stamper {
    second: i64,
    prefix: Vec<u8>,
}

impl Stamper {
    /// Appends a time, without trailing zeros of its fraction.
    pub fn push(&mut self, into: &mut Vec<u8>, nanoseconds: i64) {
        self.prefix(into, nanoseconds);
        let digits = digits9(nanoseconds.rem_euclid(SECOND));
        let length = digits
            .iter()
            .rposition(|d| *d != b'0')
            .map_or(0, |at| at + 1);
        if length > 0 {
            into.push(b'.');
            into.extend_from_slice(&digits[..length]);
        }
        into.push(b'Z');
    }

    /// Appends a time with all nine digits.
    pub fn push_fixed(&mut self, into: &mut Vec<u8>, nanoseconds: i64) {
        self.prefix(into, nanoseconds);
        into.push(b'.');
        into.extend_from_slice(&digits9(nanoseconds.rem_euclid(SECOND)));
        into.push(b'Z');
    }

    fn prefix(&mut self, into: &mut Vec<u8>, nanoseconds: i64) {
        let second = nanoseconds.div_euclid(SECOND);
        if second != self.second || self.prefix.is_empty() {
            self.second = second;
            self.prefix.clear();
            push_second(&mut self.prefix, second);
        }
        into.extend_from_slice(&self.prefix);
    }
}

/// Reads an RFC 3339 time as nanoseconds since 1970.
#[must_use]
pub fn parse(text: &[u8]) -> Option<i64> {
    let (date, rest) = text.split_at_checked(19)?;
    let punctuation = [(4, b'-'), (7, b'-'), (10, b'T'), (13, b':'), (16, b':')];
    if punctuation.iter().any(|(at, byte)| date[*at] != *byte) {
        return None;
    }
    let field = |from: usize, to: usize| number(&date[from..to]);
    let (month, day) = (field(5, 7)?, field(8, 10)?);
    if !(1..=12).contains(&month) || !(1..=31).contains(&day) {
        return None;
    }
    let days = days(field(0, 4)?, month, day);
    let clock = field(11, 13)? * 3600 + field(14, 16)? * 60 + field(17, 19)?;
    let (fraction, zone) = fraction(rest)?;
    let seconds = days * DAY + clock - offset(zone)?;
    seconds.checked_mul(SECOND)?.checked_add(fraction)
}

fn fraction(rest: &[u8]) -> Option<(i64, &[u8])> {
    let Some(rest) = rest.strip_prefix(b".") else {
        return Some((0, rest));
    };
    let length = rest.iter().take_while(|b| b.is_ascii_digit()).count();
    if length == 0 {
        return None;
    }
    let kept = length.min(9);
    let scale = (kept..9).fold(1, |scale, _| scale * 10);
    Some((number(&rest[..kept])? * scale, &rest[length..]))
}

/// Seconds east of UTC.
fn offset(zone: &[u8]) -> Option<i64> {
    match zone {
        b"Z" | b"z" => Some(0),
        [sign @ (b'+' | b'-'), h1, h2, b':', m1, m2] => {
            let seconds = number(&[*h1, *h2])? * 3600 + number(&[*m1, *m2])? * 60;
            Some(if *sign == b'-' { -seconds } else { seconds })
        }
        _ => None,
    }
}

fn number(digits: &[u8]) -> Option<i64> {
    digits.iter().try_fold(0, |value: i64, digit| {
        digit
            .is_ascii_digit()
            .then(|| value * 10 + i64::from(digit - b'0'))
    })
}

fn push_second(into: &mut Vec<u8>, second: i64) {
    let (year, month, day) = civil(second.div_euclid(DAY));
    let clock = second.rem_euclid(DAY);
    push_digits(into, year, 4);
    let fields = [
        (b'-', month),
        (b'-', day),
        (b'T', clock / 3600),
        (b':', clock / 60 % 60),
        (b':', clock % 60),
    ];
    for (separator, value) in fields {
        into.push(separator);
        push_digits(into, value, 2);
    }
}

fn push_digits(into: &mut Vec<u8>, value: i64, width: u32) {
    for place in (0..width).rev() {
        into.push(digit(value / 10_i64.pow(place) % 10));
    }
}

fn digits9(mut value: i64) -> [u8; 9] {
    let mut digits = [b'0'; 9];
    for place in digits.iter_mut().rev() {
        *place = digit(value % 10);
        value /= 10;
    }
    digits
}

fn digit(value: i64) -> u8 {
    u8::try_from(value).map_or(b'0', |value| b'0' + value)
}

/// Year, month and day of a number of days since 1970 (H. Hinnant, "chrono-compatible low-level
/// date algorithms"): eras of 400 years, years that begin in March.
fn civil(days: i64) -> (i64, i64, i64) {
    let shifted = days + 719_468;
    let era = shifted.div_euclid(146_097);
    let day_of_era = shifted.rem_euclid(146_097);
    let year_of_era =
        (day_of_era - day_of_era / 1460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
    let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let month_from_march = (5 * day_of_year + 2) / 153;
    let day = day_of_year - (153 * month_from_march + 2) / 5 + 1;
    let month = if month_from_march < 10 {
        month_from_march + 3
    } else {
        month_from_march - 9
    };
    (era * 400 + year_of_era + i64::from(month <= 2), month, day)
}

/// The days from 1970 to a date, by the same source.
fn days(year: i64, month: i64, day: i64) -> i64 {
    let year = year - i64::from(month <= 2);
    let era = year.div_euclid(400);
    let year_of_era = year.rem_euclid(400);
    let month_from_march = (month + 9) % 12;
    let day_of_year = (153 * month_from_march + 2) / 5 + day - 1;
    let day_of_era = year_of_era * 365 + year_of_era / 4 - year_of_era / 100 + day_of_year;
    era * 146_097 + day_of_era - 719_468
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(seconds: i64, nanos: i64, expect: &str) {
        let time = seconds * SECOND + nanos;
        let mut text = Vec::new();
        push(&mut text, time);
        assert_eq!(String::from_utf8(text).unwrap(), expect);
        let mut text = Vec::new();
        Stamper::default().push(&mut text, time);
        assert_eq!(String::from_utf8(text).unwrap(), expect);
        assert_eq!(parse(expect.as_bytes()), Some(time));
    }

    #[test]
    fn writes_and_reads_times_as_go_does() {
        check(0, 0, "1970-01-01T00:00:00Z");
        check(951_782_400, 1, "2000-02-29T00:00:00.000000001Z");
        check(1_763_724_896, 120_000_000, "2025-11-21T11:34:56.12Z");
        check(4_107_542_399, 999_999_999, "2100-02-28T23:59:59.999999999Z");
        check(4_107_542_400, 0, "2100-03-01T00:00:00Z");
        assert_eq!(
            parse(b"1970-01-01T01:00:00.5+01:00"),
            Some(SECOND / 2),
            "a zone"
        );
        for wrong in [
            "",
            "1970-01-01",
            "1970-01-01T00:00:00",
            "1970-01-01T00:00:00.Z",
            "1970-13-01T00:00:00Z",
            "x970-01-01T00:00:00Z",
        ] {
            assert_eq!(parse(wrong.as_bytes()), None, "{wrong}");
        }
        let mut fixed = Vec::new();
        push_fixed(&mut fixed, SECOND);
        assert_eq!(fixed, b"1970-01-01T00:00:01.000000000Z");
    }
}
