//! Log drivers and their options: what each takes, in Docker's words, and what it comes to.

use std::collections::BTreeMap;

use logfile::Format;

use super::forward::{Target, target};
use super::template::Template;
use crate::error::{Error, Result};

/// Docker never rotates; a log that fills the disk stops everything, so there is a bound.
const MAX_SIZE: u64 = 20 << 20;
const MAX_FILES: u32 = 5;
/// What a container may write before its forwarder has sent it on, where it waits for that.
const HOLD: u64 = 1 << 20;
/// Docker's default for `max-buffer-size`.
const RING: u64 = 1 << 20;

/// The drivers that `info` lists.
pub(crate) const DRIVERS: [&str; 6] = [
    "fluentd",
    "gelf",
    "journald",
    "json-file",
    "local",
    "syslog",
];

/// Options that every driver takes.
const COMMON: [&str; 6] = [
    "mode",
    "max-buffer-size",
    "cache-disabled",
    "cache-max-size",
    "cache-max-file",
    "cache-compress",
];
/// Options by which attributes are chosen.
const ATTRIBUTES: [&str; 5] = ["env", "env-regex", "labels", "labels-regex", "tag"];

/// A driver's options.
pub(crate) type Options = BTreeMap<String, String>;

/// How a container's log is kept and where it goes.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Plan {
    pub(crate) format: Format,
    pub(crate) max_size: Option<u64>,
    pub(crate) max_files: u32,
    pub(crate) compress: bool,
    /// Bytes in memory while the disk refuses them.
    pub(crate) ring: u64,
    /// How far the forwarder may be behind before the container waits.
    pub(crate) hold: Option<u64>,
    /// How far it may be behind before it leaves out the oldest.
    pub(crate) drop_behind: Option<u64>,
    pub(crate) readable: bool,
    pub(crate) target: Option<Target>,
}

/// How a container meets a driver that is slow.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Mode {
    Unset,
    Blocking,
    NonBlocking(u64),
}

/// Checks a driver and its options; `None` is a container without a log.
pub(crate) fn plan(driver: &str, options: &Options) -> Result<Option<Plan>> {
    if driver == "none" {
        return Ok(None);
    }
    let mode = mode(options)?;
    if !DRIVERS.contains(&driver) {
        return Err(Error::invalid(format!(
            "error looking up logging plugin {driver}: plugin {driver:?} not found: logger: no log driver named '{driver}' is registered"
        )));
    }
    let readable = !cache_disabled(options)?;
    let plan = match driver {
        "json-file" => {
            known(
                options,
                &["max-size", "max-file", "compress"],
                &ATTRIBUTES,
                |key| format!("unknown log opt '{key}' for json-file log driver"),
            )?;
            attributes(options)?;
            file(options, Format::Json)?
        }
        "local" => {
            known(options, &["max-size", "max-file", "compress"], &[], |key| {
                format!("unknown log opt '{key}' for log driver local")
            })?;
            file(options, Format::Local)?
        }
        remote => {
            let target = target(remote, options)?;
            attributes(options)?;
            Plan {
                readable,
                target: Some(target),
                ..cache(options)?
            }
        }
    };
    Ok(Some(with_mode(plan, mode)))
}

fn with_mode(plan: Plan, mode: Mode) -> Plan {
    let remote = plan.target.is_some();
    // a log of a few small files must not lose what the forwarder has not seen
    let room = plan.max_size.unwrap_or(u64::MAX) / 2;
    let limit = plan.target.as_ref().and_then(Target::buffer_limit);
    match mode {
        Mode::Unset => Plan {
            drop_behind: limit,
            ..plan
        },
        Mode::Blocking => Plan {
            hold: remote.then_some(HOLD.min(room)),
            ..plan
        },
        Mode::NonBlocking(size) => Plan {
            ring: size,
            drop_behind: remote.then(|| limit.unwrap_or(size)),
            ..plan
        },
    }
}

fn mode(options: &Options) -> Result<Mode> {
    let size = options.get("max-buffer-size");
    let mode = options.get("mode").map_or("", String::as_str);
    if !matches!(mode, "" | "blocking" | "non-blocking") {
        return Err(Error::invalid(format!(
            "logger: logging mode not supported: {mode}"
        )));
    }
    if mode == "non-blocking" {
        let size = size.map_or(Ok(RING), |text| {
            binary_size(text).map_err(|error| error.context("error parsing option max-buffer-size"))
        })?;
        return Ok(Mode::NonBlocking(size));
    }
    if size.is_some() {
        return Err(Error::invalid(
            "logger: max-buffer-size option is only supported with 'mode=non-blocking'",
        ));
    }
    Ok(if mode.is_empty() {
        Mode::Unset
    } else {
        Mode::Blocking
    })
}

fn cache_disabled(options: &Options) -> Result<bool> {
    let Some(text) = options
        .get("cache-disabled")
        .filter(|text| !text.is_empty())
    else {
        return Ok(false);
    };
    boolean(text)
        .map_err(|_| Error::invalid(format!("invalid value for option cache-disabled: {text}")))
}

/// Refuses options that a driver does not know.
pub(crate) fn known(
    options: &Options,
    own: &[&str],
    shared: &[&str],
    words: impl Fn(&str) -> String,
) -> Result<()> {
    let strange = options
        .keys()
        .map(String::as_str)
        .find(|key| !(COMMON.contains(key) || own.contains(key) || shared.contains(key)));
    strange.map_or(Ok(()), |key| Err(Error::invalid(words(key))))
}

/// The same for a driver that sends on, whose options begin with its name.
pub(crate) fn known_remote(driver: &str, options: &Options, own: &[&str]) -> Result<()> {
    known(options, own, &ATTRIBUTES, |key| {
        format!("unknown log opt '{key}' for {driver} log driver")
    })
}

fn attributes(options: &Options) -> Result<()> {
    for key in ["env-regex", "labels-regex"] {
        if let Some(text) = options.get(key) {
            regex_lite::Regex::new(text).map_err(|error| {
                Error::invalid(format!("error parsing regexp: {error}: `{text}`"))
            })?;
        }
    }
    options
        .get("tag")
        .map_or(Ok(()), |text| Template::parse(text).map(drop))
}

fn file(options: &Options, format: Format) -> Result<Plan> {
    sized(options, format, "")
}

/// The queue of a driver that sends on, which `logs` reads, too.
fn cache(options: &Options) -> Result<Plan> {
    sized(options, Format::Local, "cache-")
}

fn sized(options: &Options, format: Format, prefix: &str) -> Result<Plan> {
    let option = |name: &str| options.get(&format!("{prefix}{name}")).map(String::as_str);
    let max_size = match option("max-size") {
        None => Some(MAX_SIZE),
        Some("-1") => None,
        Some(text) => match decimal_size(text)? {
            0 => return Err(Error::invalid("max-size must be a positive number")),
            size => Some(size),
        },
    };
    let max_files = match option("max-file") {
        // Docker's default, and what the user has counted with
        None if format == Format::Json && option("max-size").is_some() => 1,
        None => MAX_FILES,
        Some(text) => files(text)?,
    };
    let compress = match option("compress") {
        None => max_files > 1,
        Some(text) => boolean(text)?,
    };
    let possible = max_files > 1 && max_size.is_some();
    if compress && !possible && option("compress").is_some() {
        return Err(Error::invalid(
            "compress cannot be true when max-file is less than 2 or max-size is not set",
        ));
    }
    Ok(Plan {
        format,
        max_size,
        max_files,
        compress: compress && possible,
        ring: 0,
        hold: None,
        drop_behind: None,
        readable: true,
        target: None,
    })
}

fn files(text: &str) -> Result<u32> {
    let count: i64 = text
        .parse()
        .map_err(|_| Error::invalid(format!("strconv.Atoi: parsing {text:?}: invalid syntax")))?;
    u32::try_from(count)
        .ok()
        .filter(|count| *count >= 1)
        .ok_or_else(|| Error::invalid("max-file cannot be less than 1"))
}

/// Go's `strconv.ParseBool`.
pub(crate) fn boolean(text: &str) -> Result<bool> {
    match text {
        "1" | "t" | "T" | "TRUE" | "true" | "True" => Ok(true),
        "0" | "f" | "F" | "FALSE" | "false" | "False" => Ok(false),
        _ => Err(Error::invalid(format!(
            "strconv.ParseBool: parsing {text:?}: invalid syntax"
        ))),
    }
}

/// A size with units of 1000, as Docker reads `max-size`.
fn decimal_size(text: &str) -> Result<u64> {
    size(text, 1000)
}

/// A size with units of 1024, as Docker reads buffers.
pub(crate) fn binary_size(text: &str) -> Result<u64> {
    size(text, 1024)
}

fn size(text: &str, base: u64) -> Result<u64> {
    let wrong = || Error::invalid(format!("invalid size: '{text}'"));
    let end = text
        .rfind(|c: char| c.is_ascii_digit() || c == '.')
        .ok_or_else(wrong)?;
    let (number, unit) = text.split_at(end + 1);
    let (whole, fraction) = number.split_once('.').unwrap_or((number, ""));
    let unit = unit.trim_start().to_ascii_lowercase();
    let unit = unit.strip_suffix('b').unwrap_or(&unit);
    let unit = unit.strip_suffix('i').unwrap_or(unit);
    let power = match unit {
        "" => 0,
        "k" => 1,
        "m" => 2,
        "g" => 3,
        "t" => 4,
        "p" => 5,
        _ => return Err(wrong()),
    };
    let scale = base.pow(power);
    let whole: u64 = if whole.is_empty() && !fraction.is_empty() {
        0
    } else {
        whole.parse().map_err(|_| wrong())?
    };
    let mut total = whole.checked_mul(scale).ok_or_else(wrong)?;
    let mut place = scale;
    for digit in fraction.bytes() {
        let digit = digit
            .checked_sub(b'0')
            .filter(|d| *d < 10)
            .ok_or_else(wrong)?;
        place /= 10;
        total = total.saturating_add(place * u64::from(digit));
    }
    Ok(total)
}

/// Go's `time.ParseDuration`, for what is not negative.
pub(crate) fn duration(text: &str) -> Result<std::time::Duration> {
    let wrong = || Error::invalid(format!("time: invalid duration {text:?}"));
    if text == "0" {
        return Ok(std::time::Duration::ZERO);
    }
    let mut rest = text.strip_prefix('+').unwrap_or(text);
    let mut total = 0_f64;
    if rest.is_empty() {
        return Err(wrong());
    }
    while !rest.is_empty() {
        let digits = rest
            .find(|c: char| !(c.is_ascii_digit() || c == '.'))
            .ok_or_else(wrong)?;
        let number: f64 = rest[..digits].parse().map_err(|_| wrong())?;
        rest = &rest[digits..];
        let units = [
            ("ns", 1e-9),
            ("us", 1e-6),
            ("µs", 1e-6),
            ("ms", 1e-3),
            ("s", 1.0),
            ("m", 60.0),
            ("h", 3600.0),
        ];
        let (unit, seconds) = units
            .iter()
            .find(|(unit, _)| rest.starts_with(unit))
            .ok_or_else(wrong)?;
        rest = &rest[unit.len()..];
        total += number * seconds;
    }
    std::time::Duration::try_from_secs_f64(total).map_err(|_| wrong())
}

#[cfg(test)]
mod tests;
