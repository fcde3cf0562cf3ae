//! Whether a health check makes sense.

use api::container::Config;

use crate::error::{Error, Result};

/// The shortest time of a check, nanoseconds.
const SHORTEST: i64 = 1_000_000;

/// Checks the times and numbers of a health check.
pub(super) fn check(config: &Config) -> Result<()> {
    let Some(check) = &config.healthcheck else {
        return Ok(());
    };
    let times = [
        ("Interval", check.interval),
        ("Timeout", check.timeout),
        ("StartPeriod", check.start_period),
        ("StartInterval", check.start_interval),
    ];
    if let Some((name, _)) = times
        .iter()
        .find(|(_, time)| *time != 0 && *time < SHORTEST)
    {
        return Err(Error::invalid(format!(
            "{name} in Healthcheck cannot be less than 1ms"
        )));
    }
    if check.retries < 0 {
        return Err(Error::invalid("Retries in Healthcheck cannot be negative"));
    }
    Ok(())
}
