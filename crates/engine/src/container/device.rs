//! Devices of the host that a container is given.

use std::os::unix::fs::FileTypeExt;
use std::os::unix::fs::MetadataExt;
use std::path::Path;

use api::host_config::HostConfig;
use oci::runtime::{Device, DeviceRule};

use super::defaults;
use crate::error::{Error, Result};

/// A device node and the rule that lets the container use it.
#[derive(Clone, Debug)]
pub(super) struct HostDevice {
    pub(super) node: Device,
    pub(super) rule: DeviceRule,
}

/// The devices that the container gets beside the default ones.
pub(super) fn of_host(host: &HostConfig) -> Result<Vec<HostDevice>> {
    let mut devices = Vec::new();
    if host.privileged {
        collect(Path::new("/dev"), Path::new("/dev"), "rwm", &mut devices, 0);
        return Ok(devices);
    }
    for mapping in host.resources.devices.as_deref().unwrap_or_default() {
        let source = Path::new(&mapping.path_on_host);
        let target = if mapping.path_in_container.is_empty() {
            source
        } else {
            Path::new(&mapping.path_in_container)
        };
        let access = if mapping.cgroup_permissions.is_empty() {
            "rwm"
        } else {
            &mapping.cgroup_permissions
        };
        match std::fs::metadata(source) {
            Ok(meta) if meta.is_dir() => collect(source, target, access, &mut devices, 0),
            Ok(meta) => devices.push(node(&meta, target, access).ok_or_else(|| {
                Error::invalid(format!("error gathering device information while adding custom device {source:?}: not a device node"))
            })?),
            Err(error) => {
                let cause = if error.kind() == std::io::ErrorKind::NotFound { "no such file or directory".into() } else { error.to_string() };
                return Err(Error::invalid(format!(
                    "error gathering device information while adding custom device {source:?}: {cause}"
                )));
            }
        }
    }
    Ok(devices)
}

/// Rules given as text, `c 10:200 rwm` (`--device-cgroup-rule`).
pub(super) fn rules_of(host: &HostConfig) -> Result<Vec<DeviceRule>> {
    host.resources
        .device_cgroup_rules
        .as_deref()
        .unwrap_or_default()
        .iter()
        .map(|text| parse_rule(text))
        .collect()
}

fn parse_rule(text: &str) -> Result<DeviceRule> {
    let error = || Error::invalid(format!("invalid device cgroup rule format: '{text}'"));
    let mut words = text.split_ascii_whitespace();
    let (Some(kind), Some(numbers), Some(access), None) =
        (words.next(), words.next(), words.next(), words.next())
    else {
        return Err(error());
    };
    let (major, minor) = numbers.split_once(':').ok_or_else(error)?;
    let number = |text: &str| match text {
        "*" => Ok(None),
        digits => digits
            .parse::<u32>()
            .map(|n| Some(i64::from(n)))
            .map_err(|_| error()),
    };
    if !["a", "b", "c"].contains(&kind)
        || access.is_empty()
        || !access.chars().all(|c| "rwm".contains(c))
    {
        return Err(error());
    }
    Ok(defaults::rule(kind, number(major)?, number(minor)?, access))
}

/// Major and minor number of a block device's node.
pub(super) fn numbers(path: &str) -> Result<(u32, u32)> {
    let meta = std::fs::metadata(path)
        .map_err(|e| Error::invalid(format!("no such device: {path}: {e}")))?;
    Ok((
        rustix::fs::major(meta.rdev()),
        rustix::fs::minor(meta.rdev()),
    ))
}

fn node(meta: &std::fs::Metadata, target: &Path, access: &str) -> Option<HostDevice> {
    let kind = match meta.file_type() {
        t if t.is_char_device() => "c",
        t if t.is_block_device() => "b",
        _ => return None,
    };
    let (major, minor) = (
        rustix::fs::major(meta.rdev()),
        rustix::fs::minor(meta.rdev()),
    );
    Some(HostDevice {
        node: Device {
            kind: kind.to_owned(),
            path: target.to_owned(),
            major,
            minor,
            file_mode: Some(meta.mode() & 0o7777),
            uid: Some(meta.uid()),
            gid: Some(meta.gid()),
        },
        rule: defaults::rule(kind, Some(major.into()), Some(minor.into()), access),
    })
}

/// Deepest folder of `/dev` that is looked into.
const DEPTH_MAX: u32 = 8;

/// All device nodes of a folder; what belongs to the container's own `/dev` is left out.
fn collect(source: &Path, target: &Path, access: &str, devices: &mut Vec<HostDevice>, depth: u32) {
    const OWN: [&str; 8] = [
        "pts", "shm", "fd", "mqueue", "console", "ptmx", ".lxc", ".udev",
    ];
    let Ok(entries) = std::fs::read_dir(source) else {
        return;
    };
    for entry in entries.flatten() {
        let name = entry.file_name();
        if depth == 0 && OWN.iter().any(|own| name.as_os_str() == *own) {
            continue;
        }
        // symlink_metadata: links in /dev name other nodes of /dev
        let Ok(meta) = entry.metadata() else { continue };
        if meta.is_dir() && depth < DEPTH_MAX {
            collect(
                &entry.path(),
                &target.join(&name),
                access,
                devices,
                depth + 1,
            );
        } else {
            devices.extend(node(&meta, &target.join(&name), access));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rules_are_read_or_refused_by_name() {
        let rule = parse_rule("c 10:* rw").unwrap();
        assert_eq!(
            (rule.major, rule.minor, rule.access.as_deref()),
            (Some(10), None, Some("rw"))
        );
        for text in ["", "c 1 rwm", "x 1:1 r", "c 1:1 q", "c -1:1 r"] {
            assert!(
                parse_rule(text).unwrap_err().message().contains(text),
                "{text}"
            );
        }
    }
}
