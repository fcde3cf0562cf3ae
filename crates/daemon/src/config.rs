//! What the daemon is told at its start.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use crate::address::Address;
use crate::settings::Sources;
use crate::tls::TlsFiles;

/// How long requests that run may go on after the daemon was told to end.
const GRACE: Duration = Duration::from_secs(5);

/// Settings of one daemon; the configuration file and the command line fill them in.
#[derive(Clone, Debug, Default)]
pub struct Config {
    /// The engine's own settings.
    pub engine: engine::Config,
    /// The build engine's.
    pub builder: builder::Settings,
    /// Where to listen; empty for `gorae.sock` in the run folder, or for what a service manager passed.
    pub hosts: Vec<Address>,
    /// Where Docker's clients look for their socket, if it shall be there too.
    pub docker_socket: Option<PathBuf>,
    /// Group that may use the sockets; absent for `gorae` or `docker`, whichever the host has.
    pub group: Option<String>,
    /// TLS of TCP sockets.
    pub tls: Option<TlsFiles>,
    /// Where figures are served, besides `/metrics` of the API.
    pub metrics_address: Option<SocketAddr>,
    /// File that holds the daemon's process id as long as it runs.
    pub pid_file: Option<PathBuf>,
    /// How long requests that run may go on after the daemon was told to end; absent for 5 seconds.
    pub grace: Option<Duration>,
    /// What is logged: a level, or a filter such as `info,engine=debug`.
    pub log_level: String,
    /// Whether each line of the log is a JSON object.
    pub log_json: bool,
    /// A registry that the daemon serves beside the engine.
    pub registry: Option<Box<registry::Config>>,
    /// Where the settings came from, to read them again.
    pub sources: Option<Box<Sources>>,
    /// What the reader of the settings has to tell, for the log.
    pub notices: Vec<String>,
}

impl Config {
    /// Where to listen; `passed` says that a service manager opened sockets.
    pub(crate) fn addresses(&self, passed: bool) -> Vec<Address> {
        let mut all = self.hosts.clone();
        if all.is_empty() {
            all.push(if passed {
                Address::Inherited(None)
            } else {
                Address::Unix(self.engine.run.join("gorae.sock"))
            });
        }
        let docker = self.docker_socket.clone().map(Address::Unix);
        if let Some(docker) = docker
            && !all.contains(&docker)
        {
            all.push(docker);
        }
        all
    }

    /// How long requests that run may go on after the daemon was told to end.
    pub(crate) fn grace(&self) -> Duration {
        self.grace.unwrap_or(GRACE)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses() {
        let mut config = Config::default();
        let own = Address::Unix(config.engine.run.join("gorae.sock"));
        let docker = Address::Unix("/d.sock".into());
        assert_eq!(config.addresses(false), std::slice::from_ref(&own));
        assert_eq!(config.addresses(true), [Address::Inherited(None)]);
        config.docker_socket = Some("/d.sock".into());
        assert_eq!(config.addresses(false), [own, docker.clone()]);
        config.hosts = vec![docker.clone()];
        assert_eq!(config.addresses(true), [docker]);
    }
}
