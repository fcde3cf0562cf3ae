//! From what the client asks for to mounts: binds, volumes and tmpfs, each checked and resolved.

use std::collections::BTreeMap;
use std::path::Path;

use api::container::Config;
use api::host_config::{self, HostConfig};

use super::{Mount, MountKind};
use crate::error::{Error, Result};

/// A mount before its volume exists: the source of a volume may still be unnamed.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Wanted {
    pub(super) mount: Mount,
    /// Whether the image's content is copied into a new volume.
    pub(super) copy_up: bool,
    /// Whether a missing host folder is made (`-v`) or refused (`--mount`).
    pub(super) create_source: bool,
    pub(super) driver: Option<host_config::VolumeOptions>,
}

/// All mounts of a container, one a destination: `--mount` and `-v` before the image's volumes.
pub(super) fn wanted(config: &Config, host: &HostConfig) -> Result<Vec<Wanted>> {
    let mut all: BTreeMap<String, Wanted> = BTreeMap::new();
    let mut add = |wanted: Wanted| {
        let destination = wanted.mount.destination.clone();
        match all.insert(destination.clone(), wanted) {
            None => Ok(()),
            Some(_) => Err(Error::invalid(format!(
                "Duplicate mount point: {destination}"
            ))),
        }
    };
    for bind in host.binds.as_deref().unwrap_or_default() {
        add(parse_bind(bind)?)?;
    }
    for mount in &host.mounts {
        add(of_mount(mount)?)?;
    }
    for (destination, options) in &host.tmpfs {
        let destination = destination_of(destination)?;
        add(tmpfs(
            destination,
            options
                .split(',')
                .filter(|o| !o.is_empty())
                .map(str::to_owned)
                .collect(),
        ))?;
    }
    for destination in config.volumes.iter().flatten().map(|(path, _)| path) {
        let destination = destination_of(destination)?;
        all.entry(destination.clone())
            .or_insert_with(|| volume(String::new(), destination, false, ""));
    }
    Ok(all.into_values().collect())
}

fn tmpfs(destination: String, options: Vec<String>) -> Wanted {
    let read_only = options.iter().any(|o| o == "ro");
    Wanted {
        mount: Mount {
            kind: MountKind::Tmpfs,
            name: String::new(),
            source: String::new(),
            destination,
            mode: options.join(","),
            read_only,
            propagation: String::new(),
            options,
        },
        copy_up: false,
        create_source: false,
        driver: None,
    }
}

fn volume(name: String, destination: String, read_only: bool, mode: &str) -> Wanted {
    Wanted {
        mount: Mount {
            kind: MountKind::Volume,
            name,
            source: String::new(),
            destination,
            mode: mode.to_owned(),
            read_only,
            propagation: String::new(),
            options: Vec::new(),
        },
        copy_up: true,
        create_source: true,
        driver: None,
    }
}

fn bind(
    source: &str,
    destination: String,
    read_only: bool,
    mode: &str,
    propagation: &str,
) -> Wanted {
    Wanted {
        mount: Mount {
            kind: MountKind::Bind,
            name: String::new(),
            source: source.to_owned(),
            destination,
            mode: mode.to_owned(),
            read_only,
            propagation: if propagation.is_empty() {
                "rprivate".into()
            } else {
                propagation.to_owned()
            },
            options: Vec::new(),
        },
        copy_up: false,
        create_source: true,
        driver: None,
    }
}

/// Cleans a destination: absolute, without `.` and `..`, not the root.
fn destination_of(path: &str) -> Result<String> {
    if !path.starts_with('/') {
        return Err(Error::invalid(format!(
            "invalid mount path: '{path}' mount path must be absolute"
        )));
    }
    let mut parts = Vec::new();
    for part in path.split('/') {
        match part {
            "" | "." => {}
            ".." => drop(parts.pop()),
            part => parts.push(part),
        }
    }
    if parts.is_empty() {
        return Err(Error::invalid(
            "invalid specification: destination can't be '/'",
        ));
    }
    Ok(format!("/{}", parts.join("/")))
}

const PROPAGATIONS: [&str; 6] = [
    "private", "rprivate", "shared", "rshared", "slave", "rslave",
];

/// Parses `[source:]destination[:options]` (`-v`).
fn parse_bind(text: &str) -> Result<Wanted> {
    let invalid = || Error::invalid(format!("invalid volume specification: '{text}'"));
    let parts: Vec<&str> = text.split(':').collect();
    let (source, destination, mode) = match *parts.as_slice() {
        [destination] => ("", destination, ""),
        [source, destination] => (source, destination, ""),
        [source, destination, mode] => (source, destination, mode),
        _ => return Err(invalid()),
    };
    if destination.is_empty() || (source.is_empty() && parts.len() > 1) {
        return Err(invalid());
    }
    let kind = if source.starts_with('/') {
        "bind"
    } else {
        "volume"
    };
    let destination = destination_of(destination).map_err(|e| {
        e.context(format!(
            "invalid volume specification: '{text}': invalid mount config for type {kind:?}"
        ))
    })?;
    let options: Vec<&str> = mode.split(',').filter(|o| !o.is_empty()).collect();
    let known = [
        "ro",
        "rw",
        "z",
        "Z",
        "nocopy",
        "consistent",
        "cached",
        "delegated",
        "rbind",
        "bind",
        "idmap",
    ];
    if let Some(bad) = options
        .iter()
        .find(|o| !known.contains(o) && !PROPAGATIONS.contains(o))
    {
        return Err(Error::invalid(format!("invalid mode: {bad}")));
    }
    if options.contains(&"ro") && options.contains(&"rw") {
        return Err(Error::invalid(format!("invalid mode: {mode}")));
    }
    let read_only = options.contains(&"ro");
    let mut wanted = if source.starts_with('/') {
        let propagation = options
            .iter()
            .find(|o| PROPAGATIONS.contains(o))
            .copied()
            .unwrap_or_default();
        bind(source, destination, read_only, mode, propagation)
    } else {
        if !source.is_empty() {
            storage::volume::validate_name(source)
                .map_err(|e| Error::invalid(format!("create {source}: {e}")))?;
        }
        volume(
            source.to_owned(),
            destination,
            read_only,
            if mode.is_empty() { "z" } else { mode },
        )
    };
    wanted.copy_up &= !options.contains(&"nocopy");
    for option in ["bind", "idmap"] {
        if options.contains(&option) {
            wanted.mount.options.push(option.to_owned());
        }
    }
    Ok(wanted)
}

/// Refuses options of another type of mount.
fn foreign_options(mount: &host_config::Mount) -> Result<()> {
    let options = [
        ("bind", "BindOptions", mount.bind_options.is_some()),
        ("volume", "VolumeOptions", mount.volume_options.is_some()),
        ("image", "ImageOptions", mount.image_options.is_some()),
        ("tmpfs", "TmpfsOptions", mount.tmpfs_options.is_some()),
    ];
    let foreign = options
        .iter()
        .find(|(kind, _, given)| *given && *kind != mount.kind);
    foreign.map_or(Ok(()), |(_, name, _)| {
        let kind = &mount.kind;
        let why = format!("{name} must not be specified on mount type {kind:?}");
        Err(Error::invalid(why))
    })
}

/// Resolves one `--mount`.
fn of_mount(mount: &host_config::Mount) -> Result<Wanted> {
    let invalid = |why: &str| {
        Error::invalid(format!(
            "invalid mount config for type {:?}: {why}",
            mount.kind
        ))
    };
    if !matches!(mount.kind.as_str(), "bind" | "volume" | "tmpfs") {
        return Err(invalid("mount type unknown"));
    }
    if mount.target.is_empty() {
        return Err(invalid("field Target must not be empty"));
    }
    foreign_options(mount)?;
    let destination = destination_of(&mount.target).map_err(|e| invalid(e.message()))?;
    match mount.kind.as_str() {
        "bind" => {
            if mount.source.is_empty() {
                return Err(invalid("field Source must not be empty"));
            }
            if !mount.source.starts_with('/') {
                return Err(invalid(&format!(
                    "invalid mount path: '{}' mount path must be absolute",
                    mount.source
                )));
            }
            let options = mount.bind_options.as_ref();
            let create = options.is_some_and(|o| o.create_mountpoint);
            if !create && !Path::new(&mount.source).exists() {
                return Err(invalid(&format!(
                    "bind source path does not exist: {}",
                    mount.source
                )));
            }
            let propagation = options.map(|o| o.propagation.as_str()).unwrap_or_default();
            if !(propagation.is_empty() || PROPAGATIONS.contains(&propagation)) {
                return Err(invalid(&format!("invalid propagation mode: {propagation}")));
            }
            let mut wanted = bind(&mount.source, destination, mount.read_only, "", propagation);
            wanted.create_source = create;
            if options.is_some_and(|o| o.non_recursive) {
                wanted.mount.options.push("bind".to_owned());
            }
            Ok(wanted)
        }
        "volume" => {
            if !mount.source.is_empty() {
                storage::volume::validate_name(&mount.source)
                    .map_err(|e| invalid(&e.to_string()))?;
            }
            let mut wanted = volume(mount.source.clone(), destination, mount.read_only, "z");
            wanted.driver.clone_from(&mount.volume_options);
            wanted.copy_up = !mount.volume_options.as_ref().is_some_and(|o| o.no_copy);
            Ok(wanted)
        }
        "tmpfs" => {
            if !mount.source.is_empty() {
                return Err(invalid("field Source must not be specified"));
            }
            let mut options = Vec::new();
            if let Some(tmpfs) = &mount.tmpfs_options {
                if tmpfs.size_bytes != 0 {
                    options.push(format!("size={}", tmpfs.size_bytes));
                }
                if tmpfs.mode != 0 {
                    options.push(format!("mode={:o}", tmpfs.mode));
                }
            }
            if mount.read_only {
                options.push("ro".to_owned());
            }
            Ok(tmpfs(destination, options))
        }
        _ => Err(invalid("mount type unknown")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(text: &str, kind: MountKind, source: &str, destination: &str, read_only: bool) {
        let wanted = parse_bind(text).unwrap();
        let name_or_source = if kind == MountKind::Volume {
            &wanted.mount.name
        } else {
            &wanted.mount.source
        };
        assert_eq!(
            (
                wanted.mount.kind,
                name_or_source.as_str(),
                wanted.mount.destination.as_str(),
                wanted.mount.read_only
            ),
            (kind, source, destination, read_only),
            "{text}"
        );
    }

    #[test]
    fn binds_are_read_as_docker_reads_them() {
        check("/a:/b", MountKind::Bind, "/a", "/b", false);
        check("/a:/b/../c/:ro", MountKind::Bind, "/a", "/c", true);
        check("data:/b", MountKind::Volume, "data", "/b", false);
        check("/b", MountKind::Volume, "", "/b", false);
        for text in [
            "",
            ":",
            "a:b",
            "/a:/b:bad",
            "/a:/",
            "a/b:/c",
            "/a:/b:ro:x",
            "../x:/y",
        ] {
            assert!(parse_bind(text).is_err(), "{text}");
        }
    }

    #[test]
    fn a_destination_is_mounted_once() {
        let host = HostConfig {
            binds: Some(vec!["/a:/b".into(), "/c:/b/".into()]),
            ..HostConfig::default()
        };
        let error = wanted(&Config::default(), &host).unwrap_err();
        assert_eq!(error.message(), "Duplicate mount point: /b");
    }
}
