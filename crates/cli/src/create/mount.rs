//! `--mount`: `type=bind,src=…,dst=…` and its many options, in one line of CSV.

use super::volume::absolute;
use crate::csv;
use crate::units::parse_size;
use api::host_config::{
    BindOptions, ImageOptions, Mount, TmpfsOptions, VolumeDriver, VolumeOptions,
};

/// A mount while its fields are read.
#[derive(Default)]
struct Fields {
    mount: Mount,
    bind: BindOptions,
    volume: VolumeOptions,
    image: ImageOptions,
    tmpfs: TmpfsOptions,
    /// The kinds whose own options were used.
    used: Vec<&'static str>,
}

/// Reads the value of `--mount`.
pub(super) fn parse(text: &str) -> Result<Mount, String> {
    let mut fields = Fields::default();
    "volume".clone_into(&mut fields.mount.kind);
    let cells = csv::fields(text)?;
    for cell in &cells {
        let (key, value) = match cell.split_once('=') {
            Some((key, value)) => (key.to_ascii_lowercase(), Some(value)),
            None => (cell.to_ascii_lowercase(), None),
        };
        fields.field(cell, &key, value)?;
    }
    fields.finish()
}

/// A switch within a mount: alone, or with a truth value.
fn switch(key: &str, value: Option<&str>) -> Result<bool, String> {
    match value {
        None | Some("1" | "t" | "T" | "true" | "TRUE" | "True") => Ok(true),
        Some("0" | "f" | "F" | "false" | "FALSE" | "False") => Ok(false),
        Some(other) => Err(format!("invalid value for {key}: {other}")),
    }
}

impl Fields {
    fn field(&mut self, cell: &str, key: &str, value: Option<&str>) -> Result<(), String> {
        match key {
            "readonly" | "ro" => {
                self.mount.read_only = switch(key, value)?;
                return Ok(());
            }
            "volume-nocopy" => {
                self.used.push("volume");
                self.volume.no_copy = switch(key, value)?;
                return Ok(());
            }
            "bind-nonrecursive" => {
                self.used.push("bind");
                self.bind.non_recursive = switch(key, value)?;
                return Ok(());
            }
            _ => {}
        }
        let value =
            value.ok_or_else(|| format!("invalid field '{cell}' must be a key=value pair"))?;
        self.used.extend(
            ["bind", "volume", "image", "tmpfs"]
                .into_iter()
                .filter(|kind| {
                    key.strip_prefix(kind)
                        .is_some_and(|rest| rest.starts_with('-'))
                }),
        );
        match key {
            "type" => self.mount.kind = value.to_ascii_lowercase(),
            "source" | "src" => self.mount.source = absolute(value)?,
            "target" | "dst" | "destination" => value.clone_into(&mut self.mount.target),
            "consistency" => self.mount.consistency = value.to_ascii_lowercase(),
            "bind-propagation" => self.bind.propagation = value.to_ascii_lowercase(),
            "bind-recursive" => self.recursive(value)?,
            "volume-subpath" => value.clone_into(&mut self.volume.subpath),
            "volume-label" => {
                let (name, value) = value.split_once('=').unwrap_or((value, ""));
                self.volume.labels.insert(name.to_owned(), value.to_owned());
            }
            "volume-driver" => value.clone_into(&mut self.driver().name),
            "volume-opt" => {
                let (name, value) = value.split_once('=').unwrap_or((value, ""));
                self.driver()
                    .options
                    .insert(name.to_owned(), value.to_owned());
            }
            "image-subpath" => value.clone_into(&mut self.image.subpath),
            "tmpfs-size" => {
                self.tmpfs.size_bytes =
                    parse_size(value).map_err(|_| format!("invalid value for {key}: {value}"))?;
            }
            "tmpfs-mode" => {
                self.tmpfs.mode = u32::from_str_radix(value, 8)
                    .map_err(|_| format!("invalid value for {key}: {value}"))?;
            }
            _ => return Err(format!("unexpected key '{key}' in '{cell}'")),
        }
        Ok(())
    }

    fn driver(&mut self) -> &mut VolumeDriver {
        self.volume.driver_config.get_or_insert_default()
    }

    fn recursive(&mut self, value: &str) -> Result<(), String> {
        match value {
            "enabled" => {}
            "disabled" => self.bind.non_recursive = true,
            "writable" => self.bind.read_only_non_recursive = true,
            "readonly" => self.bind.read_only_force_recursive = true,
            _ => {
                return Err(format!(
                    "invalid value for bind-recursive: {value} (must be \"enabled\", \"disabled\", \"writable\", or \"readonly\")"
                ));
            }
        }
        Ok(())
    }

    /// Checks the whole, and keeps the options that say something.
    fn finish(self) -> Result<Mount, String> {
        let Self {
            mut mount,
            bind,
            volume,
            image,
            tmpfs,
            used,
        } = self;
        if mount.kind.is_empty() {
            return Err("type is required".to_owned());
        }
        if mount.target.is_empty() {
            return Err("target is required".to_owned());
        }
        if let Some(other) = used.into_iter().find(|used| *used != mount.kind) {
            return Err(format!(
                "cannot mix '{other}-*' options with mount type '{}'",
                mount.kind
            ));
        }
        for (on, value) in [
            (bind.read_only_non_recursive, "writable"),
            (bind.read_only_force_recursive, "readonly"),
        ] {
            if on && !mount.read_only {
                return Err(format!(
                    "option 'bind-recursive={value}' requires 'readonly' to be specified in conjunction"
                ));
            }
        }
        if bind.read_only_force_recursive && bind.propagation != "rprivate" {
            return Err(
                "option 'bind-recursive=readonly' requires 'bind-propagation=rprivate' to be specified in conjunction"
                    .to_owned(),
            );
        }
        mount.bind_options = Some(bind).filter(|options| *options != BindOptions::default());
        mount.volume_options = Some(volume).filter(|options| *options != VolumeOptions::default());
        mount.image_options = Some(image).filter(|options| *options != ImageOptions::default());
        mount.tmpfs_options = Some(tmpfs).filter(|options| *options != TmpfsOptions::default());
        Ok(mount)
    }
}
