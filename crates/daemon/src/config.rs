//! What the daemon is told at its start.

use std::path::PathBuf;

/// Settings of one daemon; the command line fills them in.
#[derive(Clone, Debug, Default)]
pub struct Config {
    /// The engine's own settings.
    pub engine: engine::Config,
    /// Unix sockets to listen on; empty for `gorae.sock` in the run folder.
    pub sockets: Vec<PathBuf>,
    /// Where Docker's clients look for their socket, if it shall be there too.
    pub docker_socket: Option<PathBuf>,
    /// Group that may use the sockets; absent for `gorae` or `docker`, whichever the host has.
    pub group: Option<String>,
    /// What is logged: a level, or a filter such as `info,engine=debug`.
    pub log_level: String,
    /// Whether each line of the log is a JSON object.
    pub log_json: bool,
}

impl Config {
    /// The sockets to listen on.
    #[must_use]
    pub fn listen_paths(&self) -> Vec<PathBuf> {
        let mut paths = self.sockets.clone();
        if paths.is_empty() {
            paths.push(self.engine.run.join("gorae.sock"));
        }
        if let Some(path) = &self.docker_socket
            && !paths.contains(path)
        {
            paths.push(path.clone());
        }
        paths
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths() {
        let mut config = Config::default();
        let own = config.engine.run.join("gorae.sock");
        assert_eq!(config.listen_paths(), std::slice::from_ref(&own));
        config.docker_socket = Some("/d.sock".into());
        assert_eq!(config.listen_paths(), [own, "/d.sock".into()]);
        config.sockets = vec!["/d.sock".into()];
        assert_eq!(config.listen_paths(), [PathBuf::from("/d.sock")]);
    }
}
