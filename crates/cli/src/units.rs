//! Sizes and spans of time as Docker's command line reads and writes them.

/// Go's `%.{digits}g` of a size with its unit: `1.98MB`, `512B`.
fn human(mut size: f64, base: f64, digits: usize, units: &[&str]) -> String {
    let mut unit = 0;
    while size >= base && unit + 1 < units.len() {
        size /= base;
        unit += 1;
    }
    format!("{}{}", significant(size, digits), units[unit])
}

/// The number with this many significant digits and without zeros at its end.
fn significant(value: f64, digits: usize) -> String {
    let exponent = format!("{value:.*e}", digits - 1)
        .rsplit_once('e')
        .and_then(|(_, exponent)| exponent.parse::<i32>().ok())
        .unwrap_or(0);
    let wanted = i32::try_from(digits).unwrap_or(3);
    if exponent >= wanted {
        // as Go: 1.23e+03, which only the largest unit can reach
        let text = format!("{value:.*e}", digits - 1);
        let (mantissa, exponent) = text.rsplit_once('e').unwrap_or((&text, "0"));
        return format!("{}e+{exponent:0>2}", trim_zeros(mantissa));
    }
    let decimals = usize::try_from(wanted - 1 - exponent).unwrap_or(0);
    trim_zeros(&format!("{value:.decimals$}")).to_owned()
}

fn trim_zeros(text: &str) -> &str {
    if text.contains('.') {
        text.trim_end_matches('0').trim_end_matches('.')
    } else {
        text
    }
}

#[expect(
    clippy::cast_precision_loss,
    reason = "a size in words keeps four digits at most"
)]
fn float(bytes: i64) -> f64 {
    bytes as f64
}

/// A size in decimal units with three digits, as lists show it.
pub(crate) fn size(bytes: i64) -> String {
    size_with_digits(bytes, 3)
}

/// A size in decimal units, as `info` and `df` show it.
pub(crate) fn size_with_digits(bytes: i64, digits: usize) -> String {
    human(
        float(bytes),
        1000.0,
        digits,
        &["B", "kB", "MB", "GB", "TB", "PB", "EB", "ZB", "YB"],
    )
}

/// A size in binary units, as `stats` and `info` show memory.
pub(crate) fn binary_size(bytes: i64) -> String {
    human(
        float(bytes),
        1024.0,
        4,
        &["B", "KiB", "MiB", "GiB", "TiB", "PiB", "EiB", "ZiB", "YiB"],
    )
}

/// Reads a size with binary units: `512m`, `1.5g`, `64k`, `10MiB`.
pub(crate) fn parse_size(text: &str) -> Result<i64, String> {
    let invalid = || format!("invalid size: '{text}'");
    let end = text
        .rfind(|c: char| c.is_ascii_digit() || c == '.' || c == ' ')
        .ok_or_else(invalid)?
        + 1;
    let (number, suffix) = text.split_at(end);
    // "1 m" is allowed, as Docker allows it
    let number = number.strip_suffix(' ').unwrap_or(number);
    let value: f64 = number
        .parse()
        .map_err(|_| format!("strconv.ParseFloat: parsing {number:?}: invalid syntax"))?;
    let bytes = value * 1024f64.powi(power(suffix)?);
    if value < 0.0 || bytes >= 9.2e18 {
        return Err(invalid());
    }
    #[expect(
        clippy::cast_possible_truncation,
        reason = "checked against the range of i64 above"
    )]
    Ok(bytes as i64)
}

/// The power of 1024 that a unit stands for: none, `b`, or a letter with or without `b` or `ib`.
fn power(suffix: &str) -> Result<i32, String> {
    let lower = suffix.to_ascii_lowercase();
    let letter = lower
        .strip_suffix("ib")
        .or(lower.strip_suffix('b'))
        .unwrap_or(&lower);
    match letter {
        "" if lower != "ib" => Ok(0),
        "k" => Ok(1),
        "m" => Ok(2),
        "g" => Ok(3),
        "t" => Ok(4),
        "p" => Ok(5),
        // as Docker: what is too long to be a unit is shown as it was written
        _ if suffix.len() > 3 => Err(format!("invalid suffix: '{suffix}'")),
        _ => Err(format!("invalid suffix: '{lower}'")),
    }
}

/// Reads a rate as `tc` does, as bits a second: `20mbit`, `1.5gbit`, `500kbps` (bytes); a plain number is bits.
///
/// No limit is 0, and so is -1.
pub(crate) fn parse_rate(text: &str) -> Result<i64, String> {
    if matches!(text, "0" | "-1") {
        return Ok(0);
    }
    let rate: network::Rate = text.parse().map_err(|e| format!("{e}"))?;
    i64::try_from(rate.bits()).map_err(|e| format!("invalid rate {text:?}: {e}"))
}

/// Reads a number of CPUs as billionths: `1.5`, `1/3`.
pub(crate) fn parse_cpus(text: &str) -> Result<i64, String> {
    let invalid = || format!("failed to parse {text} as a rational number");
    let billion: i128 = 1_000_000_000;
    let decimal = |text: &str| -> Option<(i128, i128)> {
        let (whole, fraction) = text.split_once('.').unwrap_or((text, ""));
        let digits = format!("{whole}{fraction}");
        let well_formed = !digits.is_empty() && digits.bytes().all(|b| b.is_ascii_digit());
        if !well_formed || fraction.len() > 18 || whole.len() > 12 {
            return None;
        }
        Some((
            digits.parse().ok()?,
            10i128.pow(u32::try_from(fraction.len()).ok()?),
        ))
    };
    let (negative, positive) = match text.strip_prefix('-') {
        Some(rest) => (true, rest),
        None => (false, text.strip_prefix('+').unwrap_or(text)),
    };
    let (numerator, denominator) = match positive.split_once('/') {
        Some((a, b)) => {
            let (a, b) = (
                decimal(a).ok_or_else(invalid)?,
                decimal(b).ok_or_else(invalid)?,
            );
            (a.0 * b.1, a.1 * b.0)
        }
        None => decimal(positive).ok_or_else(invalid)?,
    };
    if denominator == 0 {
        return Err(invalid());
    }
    let scaled = numerator * billion;
    if scaled % denominator != 0 {
        return Err("value is too precise".to_owned());
    }
    let nano = i64::try_from(scaled / denominator).map_err(|_| invalid())?;
    Ok(if negative { -nano } else { nano })
}

/// Reads Go's durations, as nanoseconds: `1m30s`, `500ms`, `0`.
pub(crate) fn parse_duration(text: &str) -> Result<i64, String> {
    let invalid = || format!("time: invalid duration {text:?}");
    let (negative, mut rest) = match text.strip_prefix('-') {
        Some(rest) => (true, rest),
        None => (false, text.strip_prefix('+').unwrap_or(text)),
    };
    if rest == "0" {
        return Ok(0);
    }
    if rest.is_empty() {
        return Err(invalid());
    }
    let mut total = 0.0_f64;
    while !rest.is_empty() {
        let digits = rest
            .find(|c: char| !(c.is_ascii_digit() || c == '.'))
            .unwrap_or(rest.len());
        let (number, tail) = rest.split_at(digits);
        let number: f64 = number.parse().map_err(|_| invalid())?;
        let unit_end = tail
            .find(|c: char| c.is_ascii_digit() || c == '.')
            .unwrap_or(tail.len());
        let (unit, tail) = tail.split_at(unit_end);
        let nanoseconds = match unit {
            "ns" => 1.0,
            "us" | "µs" | "μs" => 1e3,
            "ms" => 1e6,
            "s" => 1e9,
            "m" => 60e9,
            "h" => 3600e9,
            "" => return Err(format!("time: missing unit in duration {text:?}")),
            other => return Err(format!("time: unknown unit {other:?} in duration {text:?}")),
        };
        total += number * nanoseconds;
        rest = tail;
    }
    if total > 9.2e18 {
        return Err(invalid());
    }
    #[expect(
        clippy::cast_possible_truncation,
        reason = "checked against the range of i64 above"
    )]
    let total = total.round() as i64;
    Ok(if negative { -total } else { total })
}

/// A span of seconds in words: `About a minute`, `3 weeks`.
pub(crate) fn human_duration(seconds: i64) -> String {
    let (minutes, hours) = (seconds / 60, (seconds + 1800) / 3600);
    match seconds {
        ..1 => "Less than a second".to_owned(),
        1 => "1 second".to_owned(),
        2..60 => format!("{seconds} seconds"),
        _ if minutes == 1 => "About a minute".to_owned(),
        _ if minutes < 60 => format!("{minutes} minutes"),
        _ if hours == 1 => "About an hour".to_owned(),
        _ if hours < 48 => format!("{hours} hours"),
        _ if hours < 24 * 7 * 2 => format!("{} days", hours / 24),
        _ if hours < 24 * 30 * 2 => format!("{} weeks", hours / 24 / 7),
        _ if hours < 24 * 365 * 2 => format!("{} months", hours / 24 / 30),
        _ => format!("{} years", hours / 24 / 365),
    }
}

/// How long ago a Unix time was, in words; the zero time has none.
pub(crate) fn ago(unix: i64) -> String {
    let elapsed = jiff::Timestamp::now().as_second() - unix;
    format!("{} ago", human_duration(elapsed))
}

/// A Unix time as Go's `time.Time` prints itself in UTC or the local zone's stand-in.
pub(crate) fn go_time(unix: i64) -> String {
    match jiff::Timestamp::from_second(unix) {
        Ok(time) => time.strftime("%Y-%m-%d %H:%M:%S +0000 UTC").to_string(),
        Err(_) => unix.to_string(),
    }
}

/// A time in RFC 3339 as Go's `time.Time` prints itself.
pub(crate) fn go_time_of(text: &str) -> String {
    let Some((date, time)) = text.split_once('T') else {
        return text.to_owned();
    };
    if let Some(time) = time.strip_suffix('Z') {
        return format!("{date} {time} +0000 UTC");
    }
    match time.find(['+', '-']) {
        Some(at) => {
            let offset = time[at..].replace(':', "");
            format!("{date} {} {offset} {offset}", &time[..at])
        }
        None => text.to_owned(),
    }
}

/// A moment as the engine takes it (Unix seconds with a fraction): a duration ago, RFC 3339 in any length, or Unix seconds.
pub(crate) fn moment(text: &str) -> Result<String, String> {
    let shown =
        |time: jiff::Timestamp| format!("{}.{:09}", time.as_second(), time.subsec_nanosecond());
    if let Ok(nanoseconds) = parse_duration(text)
        && text != "0"
    {
        let ago = jiff::SignedDuration::from_nanos(nanoseconds);
        let time = jiff::Timestamp::now()
            .checked_sub(ago)
            .map_err(|_| format!("{text} is too long ago"))?;
        return Ok(shown(time));
    }
    let digits = text
        .split('.')
        .all(|part| !part.is_empty() && part.bytes().all(|b| b.is_ascii_digit()));
    if digits && text.matches('.').count() <= 1 {
        return Ok(text.to_owned());
    }
    if let Ok(time) = text.parse::<jiff::Timestamp>() {
        return Ok(shown(time));
    }
    // without a zone the time is the user's own; static programs know UTC alone
    let local = match text.matches(':').count() {
        0 if text.contains('T') => format!("{text}:00:00"),
        1 => format!("{text}:00"),
        _ => text.to_owned(),
    };
    let civil = local.parse::<jiff::civil::DateTime>().or_else(|_| {
        local
            .trim_end_matches('Z')
            .parse::<jiff::civil::Date>()
            .map(|date| date.to_datetime(jiff::civil::Time::midnight()))
    });
    let zoned = civil.and_then(|civil| civil.to_zoned(jiff::tz::TimeZone::UTC));
    match zoned {
        Ok(zoned) => Ok(shown(zoned.timestamp())),
        Err(_) => Err(format!(
            "failed to parse value as time or duration: {text:?}"
        )),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_in_words() {
        let check = |bytes, expect: &str| assert_eq!(size(bytes), expect);
        check(0, "0B");
        check(999, "999B");
        check(1000, "1kB");
        check(1_983_488, "1.98MB");
        check(133_000_000, "133MB");
        check(1_500_000_000, "1.5GB");
        check(999_999, "1e+03kB");
        assert_eq!(binary_size(2_097_152), "2MiB");
        assert_eq!(binary_size(8_349_000_000), "7.776GiB");
        assert_eq!(size_with_digits(12_345_678, 4), "12.35MB");
    }

    #[test]
    fn sizes_that_are_read() {
        let check = |text: &str, expect: i64| assert_eq!(parse_size(text), Ok(expect), "{text}");
        check("512m", 512 << 20);
        check("1g", 1 << 30);
        check("1.5k", 1536);
        check("10MiB", 10 << 20);
        check("10 MB", 10 << 20);
        check("7", 7);
        check("7b", 7);
        check("1e5", 100_000);
        let refused = |text: &str, why: &str| {
            assert_eq!(parse_size(text), Err(why.to_owned()), "{text}");
        };
        for bad in ["", "xx", "-1", "m", "99999999p"] {
            refused(bad, &format!("invalid size: '{bad}'"));
        }
        refused("5x", "invalid suffix: 'x'");
        refused("5X", "invalid suffix: 'x'");
        refused("5ib", "invalid suffix: 'ib'");
        refused("5KKKK", "invalid suffix: 'KKKK'");
        let why = "strconv.ParseFloat: parsing \"1..5\": invalid syntax";
        refused("1..5m", why);
    }

    #[test]
    fn rates() {
        let check = |text: &str, expect: i64| assert_eq!(parse_rate(text), Ok(expect), "{text}");
        check("20mbit", 20_000_000);
        check("1.5Gbit", 1_500_000_000);
        check("500kbit", 500_000);
        check("1mibit", 1 << 20);
        check("1tbit", 1_000_000_000_000);
        check("0", 0);
        check("-1", 0);
        for bad in ["", "mbit", "-5mbit", "1000", "2tbit", "20mbit/s"] {
            let why = parse_rate(bad).unwrap_err();
            assert!(why.starts_with("invalid rate "), "{bad}: {why}");
        }
    }

    #[test]
    fn cpus() {
        let check = |text: &str, expect: Result<i64, &str>| {
            assert_eq!(parse_cpus(text), expect.map_err(str::to_owned), "{text}");
        };
        check("1.5", Ok(1_500_000_000));
        check("2", Ok(2_000_000_000));
        check("0.5", Ok(500_000_000));
        check("1/4", Ok(250_000_000));
        check(".5", Ok(500_000_000));
        check("1/3", Err("value is too precise"));
        check("x", Err("failed to parse x as a rational number"));
        check("1/0", Err("failed to parse 1/0 as a rational number"));
    }

    #[test]
    fn durations_that_are_read() {
        let check = |text: &str, expect: Result<i64, &str>| {
            assert_eq!(
                parse_duration(text),
                expect.map_err(str::to_owned),
                "{text}"
            );
        };
        check("1m30s", Ok(90_000_000_000));
        check("500ms", Ok(500_000_000));
        check("0", Ok(0));
        check("1.5s", Ok(1_500_000_000));
        check("-1s", Ok(-1_000_000_000));
        check("5", Err("time: missing unit in duration \"5\""));
        check("5y", Err("time: unknown unit \"y\" in duration \"5y\""));
        check("", Err("time: invalid duration \"\""));
        check("x", Err("time: invalid duration \"x\""));
    }

    #[test]
    fn durations_in_words() {
        for (seconds, expect) in [
            (0, "Less than a second"),
            (1, "1 second"),
            (45, "45 seconds"),
            (60, "About a minute"),
            (119, "About a minute"),
            (120, "2 minutes"),
            (3599, "59 minutes"),
            (3600, "About an hour"),
            (5400, "2 hours"),
            (86400, "24 hours"),
            (172_800, "2 days"),
            (14 * 86400, "2 weeks"),
            (70 * 86400, "2 months"),
            (800 * 86400, "2 years"),
        ] {
            assert_eq!(human_duration(seconds), expect, "{seconds}");
        }
    }

    #[test]
    fn times_as_go_prints_them() {
        let check = |text: &str, expect: &str| assert_eq!(go_time_of(text), expect, "{text}");
        check("2026-11-21T14:36:00.5Z", "2026-11-21 14:36:00.5 +0000 UTC");
        check(
            "2026-11-21T14:36:00+02:00",
            "2026-11-21 14:36:00 +0200 +0200",
        );
        check("", "");
        check("2026-11-21T14:36:00", "2026-11-21T14:36:00");
    }

    #[test]
    fn moments() {
        let check =
            |text: &str, expect: &str| assert_eq!(moment(text).as_deref(), Ok(expect), "{text}");
        check("1700000000", "1700000000");
        check("1700000000.5", "1700000000.5");
        check("0", "0");
        check("2013-01-02T13:23:37Z", "1357133017.000000000");
        check("2013-01-02T13:23:37.5+01:00", "1357129417.500000000");
        check("2013-01-02T13:23", "1357132980.000000000");
        check("2013-01-02", "1357084800.000000000");
        assert!(moment("10m").unwrap().contains('.'));
        assert!(moment("yesterday").is_err());
    }
}
