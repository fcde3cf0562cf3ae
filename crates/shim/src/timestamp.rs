//! The present time as Docker writes it: RFC 3339 in UTC, nanoseconds without trailing zeros.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

/// The present time.
#[must_use]
pub fn now() -> String {
    let since = SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .unwrap_or_default();
    let mut text = String::with_capacity(30);
    write(&mut text, since);
    text
}

/// Appends the time that lies `since` after the epoch.
pub fn write(text: &mut String, since: Duration) {
    use std::fmt::Write as _;
    let seconds = since.as_secs();
    let (year, month, day) = civil(seconds / 86_400);
    let (hour, minute, second) = (seconds / 3600 % 24, seconds / 60 % 60, seconds % 60);
    // Writing to a string cannot fail.
    let _written = write!(
        text,
        "{year:04}-{month:02}-{day:02}T{hour:02}:{minute:02}:{second:02}"
    );
    let nanos = since.subsec_nanos();
    if nanos != 0 {
        let _written = write!(text, ".{nanos:09}");
        text.truncate(text.trim_end_matches('0').len());
    }
    text.push('Z');
}

/// Year, month and day of a number of days since 1970 (H. Hinnant, "chrono-compatible low-level
/// date algorithms", for days after the epoch): eras of 400 years, years that begin in March.
fn civil(days: u64) -> (u64, u64, u64) {
    let shifted = days + 719_468;
    let era = shifted / 146_097;
    let day_of_era = shifted % 146_097;
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
    (era * 400 + year_of_era + u64::from(month <= 2), month, day)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(seconds: u64, nanos: u32, expect: &str) {
        let mut text = String::new();
        write(&mut text, Duration::new(seconds, nanos));
        assert_eq!(text, expect);
    }

    #[test]
    fn writes_times_as_go_does() {
        check(0, 0, "1970-01-01T00:00:00Z");
        check(951_782_400, 1, "2000-02-29T00:00:00.000000001Z");
        check(1_763_724_896, 120_000_000, "2025-11-21T11:34:56.12Z");
        check(4_107_542_399, 999_999_999, "2100-02-28T23:59:59.999999999Z");
        check(4_107_542_400, 0, "2100-03-01T00:00:00Z");
    }
}
