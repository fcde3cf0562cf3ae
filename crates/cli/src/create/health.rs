//! The flags of the health check.

use crate::args::Call;
use crate::failure::Failure;
use crate::units::parse_duration;
use api::container::HealthConfig;

pub(super) fn from_flags(call: &Call) -> Result<Option<HealthConfig>, Failure> {
    let command = call.text_or_empty("health-cmd");
    let span = |name: &str| -> Result<i64, Failure> {
        Ok(call.parsed(name, parse_duration)?.unwrap_or(0))
    };
    let check = HealthConfig {
        test: Vec::new(),
        interval: span("health-interval")?,
        timeout: span("health-timeout")?,
        start_period: span("health-start-period")?,
        start_interval: span("health-start-interval")?,
        retries: call.integer("health-retries")?.unwrap_or(0),
    };
    let some = !command.is_empty() || check != HealthConfig::default();
    if call.on("no-healthcheck") {
        if some {
            return Err(Failure::message(
                "--no-healthcheck conflicts with --health-* options",
            ));
        }
        return Ok(Some(HealthConfig {
            test: vec!["NONE".to_owned()],
            ..check
        }));
    }
    if !some {
        return Ok(None);
    }
    for (name, value) in [
        ("interval", check.interval),
        ("timeout", check.timeout),
        ("retries", check.retries),
        ("start-period", check.start_period),
        ("start-interval", check.start_interval),
    ] {
        if value < 0 {
            return Err(Failure::message(format!(
                "--health-{name} cannot be negative"
            )));
        }
    }
    let test = if command.is_empty() {
        Vec::new()
    } else {
        vec!["CMD-SHELL".to_owned(), command]
    };
    Ok(Some(HealthConfig { test, ..check }))
}
