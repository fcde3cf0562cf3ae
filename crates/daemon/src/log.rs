//! The engine's own log, on stderr.

use std::sync::OnceLock;

use tracing_subscriber::EnvFilter;
use tracing_subscriber::reload::Error as ReloadError;

/// Changes the filter of the log that runs.
type Change = Box<dyn Fn(EnvFilter) -> Result<(), ReloadError> + Send + Sync>;

/// The log that runs, once it does.
static RUNNING: OnceLock<Change> = OnceLock::new();

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

fn parse(filter: &str) -> Result<EnvFilter, LogError> {
    let wanted = if filter.is_empty() { "info" } else { filter };
    EnvFilter::try_new(wanted).map_err(|source| LogError {
        filter: wanted.to_owned(),
        source,
    })
}

/// Whether a filter can be read.
pub(crate) fn check(filter: &str) -> Result<(), LogError> {
    parse(filter).map(drop)
}

/// Starts the log; a second call has no effect.
pub(crate) fn start(filter: &str, json: bool) -> Result<(), LogError> {
    let builder = tracing_subscriber::fmt()
        .with_env_filter(parse(filter)?)
        .with_writer(std::io::stderr)
        .with_target(false);
    let (change, result): (Change, _) = if json {
        let builder = builder.json().with_filter_reloading();
        let handle = builder.reload_handle();
        (Box::new(move |f| handle.reload(f)), builder.try_init())
    } else {
        let builder = builder.with_ansi(false).with_filter_reloading();
        let handle = builder.reload_handle();
        (Box::new(move |f| handle.reload(f)), builder.try_init())
    };
    match result {
        Ok(()) => drop(RUNNING.set(change)),
        Err(error) => tracing::debug!(%error, "the log runs already"),
    }
    Ok(())
}

/// Has the log that runs show more or less.
pub(crate) fn change(filter: &str) -> Result<(), LogError> {
    let filter = parse(filter)?;
    if let Some(change) = RUNNING.get()
        && let Err(error) = change(filter)
    {
        tracing::warn!(%error, "the log goes on as it was");
    }
    Ok(())
}
