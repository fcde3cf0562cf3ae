//! Settings: the configuration file, the flags over it, and what both come to.
//!
//! A source is read into a [`Layer`] of texts first, whose values are understood once, in one place,
//! whether they come from our own file, from a `daemon.json`, or from flags.

pub mod dockerd;
pub mod keys;

mod docker_json;
mod error;
mod file;
mod import;
mod layer;
mod policy;
mod read;
mod values;

use std::path::{Path, PathBuf};

use crate::config::Config;

pub use error::SettingsError;
pub use import::{Imported, import};
pub use layer::{Given, Layer, Origin};
pub use policy::PolicyError;

/// Where our own configuration is looked for.
pub const CONFIG_FILE: &str = "/etc/gorae/config.toml";
/// Where dockerd's is.
pub const DOCKER_CONFIG_FILE: &str = "/etc/docker/daemon.json";

/// The language of a configuration file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Dialect {
    /// Our own.
    Gorae,
    /// That of `daemon.json`.
    Docker,
}

/// Where settings come from; they can be read again.
#[derive(Clone, Debug)]
pub struct Sources {
    /// The configuration file.
    pub file: PathBuf,
    /// Its language.
    pub dialect: Dialect,
    /// Whether the file was named, so that it has to be there.
    pub named: bool,
    /// The flags.
    pub flags: Layer,
    /// Flags that have no effect.
    pub unmet: Vec<dockerd::Unmet>,
    /// The defaults.
    pub base: Config,
}

impl Sources {
    /// Takes a flag of dockerd.
    ///
    /// # Errors
    /// When leaving it out would be less safe than what was asked for.
    pub fn dockerd_flag(
        &mut self,
        directive: &dockerd::Directive,
        texts: Vec<String>,
    ) -> Result<(), SettingsError> {
        let origin = Origin::Flag(directive.flag.to_owned());
        let unmet = dockerd::take(directive, texts, origin, &mut self.flags)?;
        self.unmet.extend(unmet);
        Ok(())
    }

    /// Reads the file, lays the flags over it, and gives what both come to.
    ///
    /// # Errors
    /// When the file cannot be read, or a setting makes no sense.
    pub fn load(&self) -> Result<Config, SettingsError> {
        let (below, mut unmet) = self.file_layer()?;
        unmet.extend(self.unmet.iter().cloned());
        let (all, mut notices) = self.flags.over(&below);
        notices.extend(dockerd::warning(&unmet));
        let mut config = read::config(&all, &self.base)?;
        if self.dialect == Dialect::Gorae
            && let Some(folder) = self.file.parent()
        {
            config.engine.registries = folder.join("registries.d");
        }
        if self.dialect == Dialect::Docker {
            let apart = own_root(&config.engine.root);
            if apart != config.engine.root {
                notices.push(format!(
                    "{} holds a Docker engine's data: Gorae's go to {}",
                    config.engine.root.display(),
                    apart.display()
                ));
                config.engine.root = apart;
            }
        }
        config.registry = self.registry(&config)?;
        config.notices = notices;
        config.sources = Some(Box::new(self.clone()));
        Ok(config)
    }

    /// The registry beside the engine; what it is not told, it has in the engine's folder.
    fn registry(&self, config: &Config) -> Result<Option<Box<registry::Config>>, SettingsError> {
        let text = match self.dialect {
            Dialect::Gorae => file::read(&self.file)?,
            Dialect::Docker => None,
        };
        let found = text.map(|text| file::registry(&self.file, &text));
        let Some(mut found) = found.transpose()?.flatten() else {
            return Ok(None);
        };
        let root = &config.engine.root;
        if found.root == registry::Config::default().root {
            found.root = root.join("registry");
        }
        let content = || root.join("content");
        found.share_content.get_or_insert_with(content);
        Ok(Some(Box::new(found)))
    }

    fn file_layer(&self) -> Result<(Layer, Vec<dockerd::Unmet>), SettingsError> {
        let Some(text) = file::read(&self.file)? else {
            if self.named {
                return Err(SettingsError::Read {
                    path: self.file.clone(),
                    source: std::io::ErrorKind::NotFound.into(),
                });
            }
            return Ok((Layer::default(), Vec::new()));
        };
        match self.dialect {
            Dialect::Gorae => Ok((file::parse(&self.file, &text)?, Vec::new())),
            Dialect::Docker => {
                let taken = docker_json::parse(&self.file, &text)?;
                Ok((taken.layer, taken.unmet))
            }
        }
    }
}

/// Whether a folder holds what a Docker engine keeps. Both engines have a folder `containers` there, and ours
/// removes from its own what it does not know.
pub(crate) fn holds_docker(root: &Path) -> bool {
    let has = |name: &str| root.join(name).exists();
    !has("gorae.db") && (has("image") || has("overlay2") || has("engine-id"))
}

/// The folder for our data where dockerd's would be.
fn own_root(root: &Path) -> PathBuf {
    if holds_docker(root) {
        root.join("gorae")
    } else {
        root.to_owned()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sources(file: &Path, dialect: Dialect) -> Sources {
        Sources {
            file: file.to_owned(),
            dialect,
            named: true,
            flags: Layer::default(),
            unmet: Vec::new(),
            base: Config::default(),
        }
    }

    /// The page tells each setting, its kind, default and whether it can be read again, as the table has them.
    #[test]
    fn the_page_is_the_table() {
        let page = include_str!("../../../../docs/configuration.md");
        let rows = page.lines().filter(|line| line.starts_with("| `"));
        // other tables of the page have fewer columns
        let rows: Vec<&str> = rows.filter(|row| row.matches('|').count() > 5).collect();
        let expect = keys::KEYS.iter().map(|key| {
            let kind = format!("{:?}", key.kind).to_lowercase();
            let reload = if key.reload { "yes" } else { "no" };
            let (name, default, about) = (key.name, key.default, key.about);
            format!("| `{name}` | {kind} | {default} | {reload} | {about} |")
        });
        let expect: Vec<String> = expect.collect();
        assert_eq!(rows, expect);
    }

    #[test]
    fn the_example_holds_every_setting() {
        let example = include_str!("../../../../packaging/config.toml");
        let path = Path::new("/config.toml");
        assert_eq!(file::parse(path, example).unwrap(), Layer::default());
        let lines = example.lines().map(|line| {
            let setting = line.strip_prefix('#');
            setting.filter(|line| !line.starts_with(' ')).unwrap_or("")
        });
        let all: Vec<&str> = lines.collect();
        let mut layer = file::parse(path, &all.join("\n")).unwrap();
        let names: Vec<&str> = keys::KEYS.iter().map(|key| key.name).collect();
        assert!(layer.0.keys().eq(names.iter()), "{:?}", layer.0.keys());
        // one of the examples needs another
        let ipv6 = layer.0.get_mut("ipv6").unwrap();
        ipv6.texts = vec!["true".to_owned()];
        read::config(&layer, &Config::default()).unwrap();
    }

    #[test]
    fn flags_over_files() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("config.toml");
        let mut sources = sources(&path, Dialect::Gorae);
        assert!(
            sources.load().is_err(),
            "a file that was named has to be there"
        );
        sources.named = false;
        assert_eq!(sources.load().unwrap().engine.mtu, 1500);
        std::fs::write(&path, "mtu = 1400\nicc = false\nlabel = ['a=b']\n").unwrap();
        let mtu = Origin::Flag("mtu".to_owned());
        sources.flags.set("mtu", vec!["1300".to_owned()], mtu);
        let config = sources.load().unwrap();
        assert_eq!((config.engine.mtu, config.engine.icc), (1300, false));
        assert_eq!(config.engine.labels, ["a=b"]);
        let notice = format!("mtu in {}:1 is overridden by --mtu", path.display());
        assert_eq!(config.notices, [notice]);
        std::fs::write(&path, "\nmtu = 10\n").unwrap();
        sources.flags = Layer::default();
        let error = sources.load().unwrap_err().to_string();
        let expect = format!(
            "{}:2: invalid value \"10\" of mtu: must be from 68 to 65535",
            path.display()
        );
        assert_eq!(error, expect);
    }

    #[test]
    fn in_the_place_of_dockerd() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("daemon.json");
        let root = folder.path().join("data");
        std::fs::create_dir_all(root.join("overlay2")).unwrap();
        let json = format!(
            r#"{{"data-root": "{}", "experimental": true}}"#,
            root.display()
        );
        std::fs::write(&path, json).unwrap();
        let mut sources = sources(&path, Dialect::Docker);
        let flag = dockerd::by_flag("storage-opt").unwrap();
        sources
            .dockerd_flag(flag, vec!["size=1".to_owned()])
            .unwrap();
        let config = sources.load().unwrap();
        assert_eq!(config.engine.root, root.join("gorae"));
        assert_eq!(config.notices.len(), 2, "{:?}", config.notices);
        let unmet = "without effect here: experimental (there are no experimental features to turn on); --storage-opt (layers are kept as overlayfs)";
        assert_eq!(config.notices[0], unmet);
        std::fs::write(root.join("gorae.db"), "").unwrap();
        assert_eq!(sources.load().unwrap().engine.root, root);
    }
}
