//! `~/.docker/config.json`: where credentials are kept between commands.
//!
//! Fields that are not understood are kept as they are: other programs own them.

use std::fs::{DirBuilder, File, OpenOptions};
use std::io::{self, Read as _, Write as _};
use std::os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde_json::{Map, Value};

use crate::credentials::{Credentials, auth_key};
use crate::helper::Helper;
pub use crate::helper::HelperError;

const FILE_MAX: u64 = 4 << 20;

/// The file's content and its place.
#[derive(Clone, Debug)]
pub struct DockerConfig {
    path: PathBuf,
    root: Map<String, Value>,
    helpers: Option<PathBuf>,
}

/// A failure to read or write the file.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ConfigError {
    /// The file cannot be read.
    #[error("read {}", path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// The file is no JSON object.
    #[error("parse {}", path.display())]
    Parse {
        /// The file.
        path: PathBuf,
        /// Why.
        #[source]
        source: serde_json::Error,
    },
    /// The file cannot be written.
    #[error("write {}", path.display())]
    Write {
        /// The file.
        path: PathBuf,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// An entry holds no credentials.
    #[error("invalid credentials of {registry} in {}", path.display())]
    Entry {
        /// The file.
        path: PathBuf,
        /// The entry's name.
        registry: String,
    },
    /// A credential helper failed.
    #[error("credentials of {registry}")]
    Helper {
        /// The registry's name.
        registry: String,
        /// What went wrong.
        #[source]
        source: HelperError,
    },
}

impl DockerConfig {
    /// Where the file is: in `DOCKER_CONFIG`, else in `.docker` of the home directory.
    #[must_use]
    pub fn default_path() -> Option<PathBuf> {
        let variable = |name| std::env::var_os(name).filter(|value| !value.is_empty());
        let folder = match variable("DOCKER_CONFIG") {
            Some(folder) => PathBuf::from(folder),
            None => PathBuf::from(variable("HOME")?).join(".docker"),
        };
        Some(folder.join("config.json"))
    }

    /// Reads the file. A missing one is empty.
    ///
    /// # Errors
    /// When it cannot be read or is no JSON object.
    pub fn load(path: &Path) -> Result<Self, ConfigError> {
        let failed = |source| ConfigError::Read {
            path: path.to_owned(),
            source,
        };
        let mut text = Vec::new();
        match File::open(path) {
            Ok(file) => {
                file.take(FILE_MAX).read_to_end(&mut text).map_err(failed)?;
            }
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            Err(error) => return Err(failed(error)),
        }
        let blank = text.iter().all(u8::is_ascii_whitespace);
        let root = if blank {
            Map::new()
        } else {
            serde_json::from_slice(&text).map_err(|source| ConfigError::Parse {
                path: path.to_owned(),
                source,
            })?
        };
        Ok(Self {
            path: path.to_owned(),
            root,
            helpers: None,
        })
    }

    /// Looks for credential helpers in this directory in place of `PATH`.
    #[must_use]
    pub fn with_helpers_in(mut self, directory: PathBuf) -> Self {
        self.helpers = Some(directory);
        self
    }

    /// The credentials of a registry, named by domain or as in `docker login`.
    ///
    /// # Errors
    /// When a helper fails or the entry is damaged.
    pub async fn credentials(&self, registry: &str) -> Result<Option<Credentials>, ConfigError> {
        let key = key_of(registry);
        if let Some(helper) = self.helper(&key)? {
            let found = helper.get(&key).await;
            return found.map_err(|source| ConfigError::Helper {
                registry: key,
                source,
            });
        }
        let Some((name, entry)) = self.entry(&key) else {
            return Ok(None);
        };
        let invalid = || ConfigError::Entry {
            path: self.path.clone(),
            registry: name.clone(),
        };
        let credentials = decode_entry(entry).ok_or_else(invalid)?;
        Ok(Some(credentials).filter(|c| !c.is_empty()))
    }

    /// Keeps the credentials of a registry: in its helper, or in the file.
    ///
    /// # Errors
    /// When a helper fails or the file cannot be written.
    pub async fn store(&mut self, registry: &str, own: &Credentials) -> Result<(), ConfigError> {
        let key = key_of(registry);
        let entry = match self.helper(&key)? {
            Some(helper) => {
                let stored = helper.store(&key, own).await;
                stored.map_err(|source| ConfigError::Helper {
                    registry: key.clone(),
                    source,
                })?;
                // Docker notes by an empty entry that there are credentials elsewhere.
                Value::Object(Map::new())
            }
            None => encode_entry(own),
        };
        self.put_entry(key, entry);
        self.save()
    }

    /// Forgets the credentials of a registry. Returns whether there were any in the file.
    ///
    /// # Errors
    /// When a helper fails or the file cannot be written.
    pub async fn erase(&mut self, registry: &str) -> Result<bool, ConfigError> {
        let key = key_of(registry);
        if let Some(helper) = self.helper(&key)? {
            let erased = helper.erase(&key).await;
            erased.map_err(|source| ConfigError::Helper {
                registry: key.clone(),
                source,
            })?;
        }
        let known = self.entry(&key).map(|(name, _)| name.clone());
        let Some(name) = known else { return Ok(false) };
        self.remove_entry(&name);
        self.save()?;
        Ok(true)
    }

    /// Whether credentials go to a helper, or lie readable in the file.
    #[must_use]
    pub fn has_helper(&self, registry: &str) -> bool {
        self.helper_name(&key_of(registry)).is_some()
    }

    fn helper_name(&self, key: &str) -> Option<&str> {
        let own = self.root.get("credHelpers").and_then(|all| all.get(key));
        let name = own.or_else(|| self.root.get("credsStore"))?.as_str()?;
        Some(name).filter(|name| !name.is_empty())
    }

    fn helper(&self, key: &str) -> Result<Option<Helper>, ConfigError> {
        let Some(name) = self.helper_name(key) else {
            return Ok(None);
        };
        let helper = Helper::new(name, self.helpers.clone());
        helper.map(Some).map_err(|source| ConfigError::Helper {
            registry: key.to_owned(),
            source,
        })
    }

    /// The entry of a registry: by its name, or by an old spelling as `https://name/v1/`.
    fn entry(&self, key: &str) -> Option<(&String, &Value)> {
        let auths = self.root.get("auths")?.as_object()?;
        let exact = auths.iter().find(|(name, _)| *name == key);
        exact.or_else(|| {
            let host = host_of(key);
            auths.iter().find(|(name, _)| host_of(name) == host)
        })
    }

    fn put_entry(&mut self, key: String, entry: Value) {
        let auths = self.root.entry("auths").or_insert(Value::Null);
        match auths {
            Value::Object(auths) => {
                auths.insert(key, entry);
            }
            other => *other = Value::Object(Map::from_iter([(key, entry)])),
        }
    }

    fn remove_entry(&mut self, name: &str) {
        if let Some(Value::Object(auths)) = self.root.get_mut("auths") {
            auths.shift_remove(name);
        }
    }

    /// Writes the file anew and puts it in place of the old one at once.
    fn save(&self) -> Result<(), ConfigError> {
        let target = resolve_link(&self.path);
        write_atomic(&target, &self.root).map_err(|source| ConfigError::Write {
            path: target.clone(),
            source,
        })
    }
}

/// A configuration that is a link into a dotfiles folder stays one.
fn resolve_link(path: &Path) -> PathBuf {
    match std::fs::read_link(path) {
        Ok(target) => path.parent().map_or(target.clone(), |dir| dir.join(target)),
        Err(_) => path.to_owned(),
    }
}

fn write_atomic(path: &Path, root: &Map<String, Value>) -> io::Result<()> {
    let folder = path.parent().unwrap_or(Path::new("."));
    DirBuilder::new()
        .recursive(true)
        .mode(0o700)
        .create(folder)?;
    // Docker's own indentation, so that the file does not change where nothing changes.
    let mut text = Vec::new();
    let format = serde_json::ser::PrettyFormatter::with_indent(b"\t");
    let mut writer = serde_json::Serializer::with_formatter(&mut text, format);
    serde::Serialize::serialize(root, &mut writer).map_err(io::Error::other)?;
    let temporary = folder.join(format!(".config.json.{}", std::process::id()));
    // Left over by a killed process with the same id, or a trap: never written through.
    match std::fs::remove_file(&temporary) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
        _ => {}
    }
    let written = write_new(&temporary, &text).and_then(|()| std::fs::rename(&temporary, path));
    if written.is_err() {
        let _best_effort = std::fs::remove_file(&temporary);
    }
    written
}

fn write_new(path: &Path, text: &[u8]) -> io::Result<()> {
    let mut options = OpenOptions::new();
    let mut file = options
        .write(true)
        .create_new(true)
        .mode(0o600)
        .open(path)?;
    file.write_all(text)?;
    file.sync_all()
}

/// The name under which a registry's credentials are kept.
fn key_of(registry: &str) -> String {
    let host = host_of(registry);
    if host.is_empty() {
        return auth_key("docker.io").to_owned();
    }
    auth_key(host).to_owned()
}

fn host_of(name: &str) -> &str {
    let rest = name.split_once("://").map_or(name, |(_, rest)| rest);
    rest.split('/').next().unwrap_or_default()
}

fn decode_entry(entry: &Value) -> Option<Credentials> {
    let text = |name: &str| {
        let value = entry.get(name).and_then(Value::as_str);
        value.unwrap_or_default().to_owned()
    };
    let mut found = Credentials {
        username: text("username"),
        password: text("password"),
        identity_token: text("identitytoken"),
        registry_token: text("registrytoken"),
    };
    let auth = text("auth");
    if !auth.is_empty() {
        let pair = String::from_utf8(STANDARD.decode(auth).ok()?).ok()?;
        let (username, password) = pair.split_once(':')?;
        found.username = username.to_owned();
        found.password = password.trim_end_matches('\0').to_owned();
    }
    Some(found)
}

fn encode_entry(own: &Credentials) -> Value {
    let mut entry = Map::new();
    let mut put = |name: &str, value: &str| {
        if !value.is_empty() {
            entry.insert(name.to_owned(), Value::String(value.to_owned()));
        }
    };
    if !own.username.is_empty() || !own.password.is_empty() {
        let pair = format!("{}:{}", own.username, own.password);
        put("auth", &STANDARD.encode(pair));
    }
    put("identitytoken", &own.identity_token);
    put("registrytoken", &own.registry_token);
    Value::Object(entry)
}
