//! The engine's own log, on stderr.

use tracing_subscriber::EnvFilter;

/// A filter that cannot be read.
#[derive(Debug, thiserror::Error)]
#[error(
    "log level {filter:?} is not debug, info, warn, error or a filter such as info,engine=debug"
)]
pub struct LogError {
    /// What was given.
    pub filter: String,
    /// Cause.
    #[source]
    pub source: tracing_subscriber::filter::ParseError,
}

/// Starts the log; a second call has no effect.
pub(crate) fn start(filter: &str, json: bool) -> Result<(), LogError> {
    let wanted = if filter.is_empty() { "info" } else { filter };
    let filter = EnvFilter::try_new(wanted).map_err(|source| LogError {
        filter: wanted.to_owned(),
        source,
    })?;
    let builder = tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_writer(std::io::stderr)
        .with_target(false);
    let result = if json {
        builder.json().try_init()
    } else {
        builder.with_ansi(false).try_init()
    };
    if let Err(error) = result {
        tracing::debug!(%error, "the log runs already");
    }
    Ok(())
}
