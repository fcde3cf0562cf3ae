//! Devices of the host.

use crate::args::Call;
use crate::failure::Failure;
use api::host_config::{DeviceMapping, DeviceRequest};

/// The devices, and the requests for those that a CDI specification names.
pub(super) fn read(call: &Call) -> Result<(Vec<DeviceMapping>, Vec<DeviceRequest>), Failure> {
    let (named, plain): (Vec<&str>, Vec<&str>) = call
        .list("device")
        .into_iter()
        .partition(|text| is_cdi(text));
    let devices = plain
        .into_iter()
        .map(device)
        .collect::<Result<_, _>>()
        .map_err(Failure::message)?;
    let mut requests = Vec::new();
    if !named.is_empty() {
        requests.push(DeviceRequest {
            driver: "cdi".to_owned(),
            device_ids: Some(named.into_iter().map(str::to_owned).collect()),
            ..DeviceRequest::default()
        });
    }
    Ok((devices, requests))
}

/// Whether the text is `vendor/class=name`.
fn is_cdi(text: &str) -> bool {
    let Some((kind, name)) = text.split_once('=') else {
        return false;
    };
    let Some((vendor, class)) = kind.split_once('/') else {
        return false;
    };
    !vendor.is_empty() && !class.is_empty() && !class.contains('/') && !name.is_empty()
}

fn is_mode(text: &str) -> bool {
    let mut seen = Vec::new();
    !text.is_empty()
        && text.chars().all(|c| {
            let fresh = "rwm".contains(c) && !seen.contains(&c);
            seen.push(c);
            fresh
        })
}

fn device(text: &str) -> Result<DeviceMapping, String> {
    let parts: Vec<&str> = text.split(':').collect();
    let (source, target, mode) = match parts.as_slice() {
        [source] => (*source, *source, "rwm"),
        [source, mode] if is_mode(mode) => (*source, *source, *mode),
        [source, target] => (*source, *target, "rwm"),
        [source, target, mode] => (*source, *target, *mode),
        _ => return Err(format!("bad format for path: {text}")),
    };
    if source.is_empty() {
        return Err(format!("bad format for path: {text}"));
    }
    for path in [source, target] {
        if !path.starts_with('/') {
            return Err(format!("{path} is not an absolute path"));
        }
    }
    if !is_mode(mode) {
        // as Docker: a second word that is neither a mode nor a path is the mode that went wrong
        return Err(format!("bad mode specified: {mode}"));
    }
    Ok(DeviceMapping {
        path_on_host: source.to_owned(),
        path_in_container: target.to_owned(),
        cgroup_permissions: mode.to_owned(),
    })
}

/// `c 1:3 rwm`.
pub(super) fn cgroup_rule(text: &str) -> Result<String, String> {
    let number =
        |text: &str| text == "*" || !text.is_empty() && text.bytes().all(|b| b.is_ascii_digit());
    let parts: Vec<&str> = text.split(' ').collect();
    let fits = match parts.as_slice() {
        [kind, numbers, access] => {
            matches!(*kind, "a" | "b" | "c")
                && numbers
                    .split_once(':')
                    .is_some_and(|(major, minor)| number(major) && number(minor))
                && (1..=3).contains(&access.len())
                && access.chars().all(|c| "rwm".contains(c))
        }
        _ => false,
    };
    if fits {
        Ok(text.to_owned())
    } else {
        Err(format!("invalid device cgroup format '{text}'"))
    }
}
