//! Registries that the command line asks itself, without the engine.

use crate::auth;
use crate::failure::Failure;
use crate::globals::Globals;
use distribution::docker_config::DockerConfig;
use distribution::{Client, ClientConfig, ErrorKind, RegistryError, Repository, chain};
use oci::Reference;

/// The help of the flag that lets a registry do without TLS.
pub(crate) const INSECURE: &str = "Allow communication with an insecure registry";

/// Reads a reference, with `latest` where it has neither tag nor digest.
pub(crate) fn reference(text: &str) -> Result<Reference, Failure> {
    text.parse::<Reference>()
        .map(Reference::or_latest)
        .map_err(|error| Failure::message(error.to_string()))
}

/// The repository of a reference, with the user's credentials for its registry.
pub(crate) async fn repository(
    globals: &Globals,
    reference: &Reference,
    insecure: bool,
) -> anyhow::Result<Repository> {
    let mut config = ClientConfig {
        user_agent: format!("gorae/{}", env!("CARGO_PKG_VERSION")),
        ..ClientConfig::from_env()
    };
    if insecure {
        config.insecure_registries = vec![reference.domain().to_owned()];
    }
    let credentials = match auth::path(globals) {
        Ok(path) if path.exists() => {
            DockerConfig::load(&path)?
                .credentials(reference.domain())
                .await?
        }
        _ => None,
    };
    Ok(Client::new(config).repository(reference, credentials))
}

/// A registry's refusal; what is not there is named as Docker's command line does it.
pub(crate) fn failure(reference: &Reference, error: &RegistryError) -> Failure {
    match error.kind() {
        ErrorKind::NotFound => Failure::message(format!("no such manifest: {reference}")),
        _ => Failure::message(chain(error)),
    }
}
