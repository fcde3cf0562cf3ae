//! Credentials of registries, from the client's configuration.

use crate::globals::Globals;
use anyhow::Context;
use distribution::Credentials;
use distribution::docker_config::DockerConfig;
use std::path::PathBuf;

/// Where credentials are kept.
pub(crate) fn path(globals: &Globals) -> anyhow::Result<PathBuf> {
    if let Some(folder) = &globals.config {
        return Ok(folder.join("config.json"));
    }
    DockerConfig::default_path()
        .context("cannot find the client's configuration: set HOME or DOCKER_CONFIG")
}

/// The configuration, empty where there is none.
pub(crate) fn load(globals: &Globals) -> anyhow::Result<DockerConfig> {
    Ok(DockerConfig::load(&path(globals)?)?)
}

/// The header that carries the credentials of a registry, where there are any.
pub(crate) async fn header(globals: &Globals, domain: &str) -> anyhow::Result<Option<String>> {
    let Ok(path) = path(globals) else {
        return Ok(None);
    };
    if !path.exists() {
        return Ok(None);
    }
    let found: Option<Credentials> = DockerConfig::load(&path)?.credentials(domain).await?;
    Ok(found.map(|credentials| credentials.to_header()))
}
