//! The registry as a program of its own: its configuration file, its signals and its end.

use std::fs::File;
use std::io::{self, Read as _};
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::time::Duration;

use registry::{Config, OpenError, ServeError, Server};
use tokio::signal::unix::{SignalKind, signal};

use crate::log::{self, LogError};
use crate::notify::Notifier;

/// Where the registry's configuration is looked for.
pub const REGISTRY_FILE: &str = "/etc/gorae/registry.toml";
/// The longest configuration.
const FILE_MAX: u64 = 1 << 20;
/// How long requests that run may go on after the registry was told to end.
const GRACE: Duration = Duration::from_secs(10);

/// A configuration that cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum RegistrySettingsError {
    /// The file cannot be read.
    #[error("read {}", path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// The file says what no registry understands.
    #[error("{}: {message}", path.display())]
    Form {
        /// The file.
        path: PathBuf,
        /// What is wrong, and where.
        message: String,
    },
}

/// Where a registry's settings come from; they can be read again.
#[derive(Clone, Debug, Default)]
pub struct RegistrySources {
    /// The configuration file.
    pub file: PathBuf,
    /// Whether the file was named, so that it has to be there.
    pub named: bool,
    /// What the command line says, over the file.
    pub root: Option<PathBuf>,
    /// Addresses in place of the file's.
    pub listen: Vec<SocketAddr>,
    /// The access log in place of the file's.
    pub access_log: Option<PathBuf>,
    /// Where figures are served in place of the file's address.
    pub metrics_address: Option<SocketAddr>,
    /// Whether the registry is read-only, whatever the file says.
    pub read_only: bool,
}

impl RegistrySources {
    /// Reads the file, and lays the command line over it.
    ///
    /// # Errors
    /// When the file cannot be read or says what no registry understands.
    pub fn load(&self) -> Result<Config, RegistrySettingsError> {
        let mut config = match read(&self.file) {
            Ok(text) => parse(&self.file, &text)?,
            Err(error) if error.kind() == io::ErrorKind::NotFound && !self.named => {
                Config::default()
            }
            Err(source) => {
                let path = self.file.clone();
                return Err(RegistrySettingsError::Read { path, source });
            }
        };
        if let Some(root) = &self.root {
            config.root.clone_from(root);
        }
        if !self.listen.is_empty() {
            config.listen.clone_from(&self.listen);
        }
        if self.access_log.is_some() {
            config.access_log.clone_from(&self.access_log);
        }
        config.metrics_address = self.metrics_address.or(config.metrics_address);
        config.read_only |= self.read_only;
        Ok(config)
    }
}

fn read(path: &Path) -> io::Result<String> {
    let mut text = String::new();
    File::open(path)?
        .take(FILE_MAX + 1)
        .read_to_string(&mut text)?;
    match text.len() as u64 > FILE_MAX {
        true => Err(io::ErrorKind::FileTooLarge.into()),
        false => Ok(text),
    }
}

fn parse(path: &Path, text: &str) -> Result<Config, RegistrySettingsError> {
    toml::from_str(text).map_err(|error| RegistrySettingsError::Form {
        path: path.to_owned(),
        message: error.to_string().trim_end().to_owned(),
    })
}

/// Why a registry does not run.
#[derive(Debug, thiserror::Error)]
pub enum RegistryRunError {
    /// The configuration cannot be used.
    #[error("read the registry's configuration")]
    Settings(#[source] RegistrySettingsError),
    /// The log's filter cannot be read.
    #[error("start the log")]
    Log(#[source] LogError),
    /// The runtime cannot be started.
    #[error("start the registry's threads")]
    Runtime(#[source] io::Error),
    /// Signals cannot be received.
    #[error("receive signals")]
    Signals(#[source] io::Error),
    /// The registry cannot be served.
    #[error("serve the registry")]
    Serve(#[source] ServeError),
}

/// Runs a registry until SIGTERM or SIGINT; SIGHUP has the settings read again. `ready` is told where it listens.
///
/// # Errors
/// When its settings, its folder or an address cannot be had.
pub fn run(
    sources: &RegistrySources,
    log_level: &str,
    ready: impl FnOnce(&[SocketAddr], Option<SocketAddr>),
) -> Result<(), RegistryRunError> {
    log::start(log_level, false).map_err(RegistryRunError::Log)?;
    let config = sources.load().map_err(RegistryRunError::Settings)?;
    if let Err(error) = sys::descriptors::raise_limit() {
        tracing::warn!(%error, "the limit of open files stays as it is");
    }
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .thread_name("gorae-registry")
        .build()
        .map_err(RegistryRunError::Runtime)?;
    let result = runtime.block_on(serve(sources, &config, ready));
    runtime.shutdown_timeout(Duration::from_secs(5));
    result
}

async fn serve(
    sources: &RegistrySources,
    config: &Config,
    ready: impl FnOnce(&[SocketAddr], Option<SocketAddr>),
) -> Result<(), RegistryRunError> {
    let of = |kind| signal(kind).map_err(RegistryRunError::Signals);
    let (mut terminate, mut interrupt) =
        (of(SignalKind::terminate())?, of(SignalKind::interrupt())?);
    let mut hang_up = of(SignalKind::hangup())?;
    let server = Server::start(config).await;
    let server = server.map_err(RegistryRunError::Serve)?;
    ready(server.addresses(), server.metrics_address());
    let notifier = Notifier::from_env();
    notifier.ready();
    loop {
        tokio::select! {
            _ = terminate.recv() => break,
            _ = interrupt.recv() => break,
            _ = hang_up.recv() => {
                notifier.reloading();
                reload(sources, &server);
                notifier.ready();
            }
        }
    }
    tracing::info!("the registry ends");
    notifier.stopping();
    server.stop(GRACE).await;
    Ok(())
}

/// The registry beside an engine, if the engine's configuration has one.
pub(crate) async fn beside(config: &crate::Config) -> Result<Option<Server>, ServeError> {
    let Some(registry) = &config.registry else {
        return Ok(None);
    };
    let server = Server::start(registry).await?;
    for address in server.addresses() {
        tracing::info!(%address, "the registry listens");
    }
    Ok(Some(server))
}

/// Has the registry beside an engine take what changed in the engine's configuration.
pub(crate) fn reload_beside(config: &crate::Config, server: Option<&Server>) {
    let (Some(server), Some(sources)) = (server, &config.sources) else {
        return;
    };
    // a configuration that cannot be used was told of already
    let Ok(next) = sources.load() else { return };
    let Some(registry) = next.registry else {
        tracing::warn!("the registry ends with the engine, not before");
        return;
    };
    if let Err(error) = server.reload(&registry) {
        let error = crate::reload::chain(&error);
        tracing::error!(error, "the registry goes on as it was");
    }
}

/// Reads the settings again. Where they cannot be used, all goes on as it was.
fn reload(sources: &RegistrySources, server: &Server) {
    #[derive(Debug, thiserror::Error)]
    enum ReloadError {
        #[error("read the settings again")]
        Settings(#[source] RegistrySettingsError),
        #[error("take the settings")]
        Open(#[source] OpenError),
    }
    let loaded = sources.load().map_err(ReloadError::Settings);
    let result = loaded.and_then(|config| server.reload(&config).map_err(ReloadError::Open));
    match result {
        Ok(()) => tracing::info!("the configuration was read again"),
        Err(error) => {
            let error = crate::reload::chain(&error);
            tracing::error!(error, "all goes on as it was");
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_command_line_over_the_file() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("registry.toml");
        let mut sources = RegistrySources {
            file: file.clone(),
            ..RegistrySources::default()
        };
        assert_eq!(sources.load().unwrap(), Config::default());
        sources.named = true;
        assert!(
            sources.load().is_err(),
            "a file that was named has to be there"
        );
        let text = "root = '/srv/r'\nlisten = ['0.0.0.0:5000']\n[gc]\ninterval = '10m'\n\
            [[access]]\nanonymous = true\nrepositories = ['**']\nrights = ['pull']\n";
        std::fs::write(&file, text).unwrap();
        let config = sources.load().unwrap();
        assert_eq!(config.root, Path::new("/srv/r"));
        assert_eq!(config.access.len(), 1);
        sources.listen = vec![([127, 0, 0, 1], 1).into()];
        sources.read_only = true;
        let config = sources.load().unwrap();
        assert_eq!(
            (config.listen, config.read_only),
            (sources.listen.clone(), true)
        );
        for (text, expect) in [
            ("colour = 1", "colour"),
            ("listen = ['x']", "listen"),
            ("[gc]\ngrace = 'soon'", "no time such as"),
        ] {
            std::fs::write(&file, text).unwrap();
            let error = sources.load().unwrap_err().to_string();
            assert!(error.contains(expect), "{error}");
        }
    }
}
