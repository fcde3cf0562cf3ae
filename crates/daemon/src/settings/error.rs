//! Settings that cannot be used.

use std::io;
use std::path::PathBuf;

use super::layer::Origin;

/// A setting that cannot be used, or a file that holds none.
#[derive(Debug, thiserror::Error)]
pub enum SettingsError {
    /// The file cannot be read.
    #[error("read configuration {path}")]
    Read {
        /// File.
        path: PathBuf,
        /// Cause.
        #[source]
        source: io::Error,
    },
    /// The file is longer than any configuration.
    #[error("configuration {path} is longer than {limit} bytes")]
    TooLong {
        /// File.
        path: PathBuf,
        /// The most that is read.
        limit: u64,
    },
    /// The file is not in the form of its kind.
    #[error("{origin}: {message}")]
    Form {
        /// Where.
        origin: Origin,
        /// What the parser says.
        message: String,
    },
    /// The file names a setting that there is not.
    #[error("{origin}: unknown key {key:?}{}", meant(.resembling.as_deref()))]
    Unknown {
        /// Where.
        origin: Origin,
        /// The key.
        key: String,
        /// What may have been meant.
        resembling: Option<String>,
    },
    /// The file of a Docker engine names settings that there are not.
    #[error(
        "unable to configure the Docker daemon with file {path}: the following directives don't match any configuration option: {}", .keys.join(", ")
    )]
    Directives {
        /// File.
        path: PathBuf,
        /// The keys.
        keys: Vec<String>,
    },
    /// The value is of another kind.
    #[error("{origin}: {key} must be {wanted}, not {found}")]
    Kind {
        /// Where.
        origin: Origin,
        /// The setting.
        key: String,
        /// What it takes.
        wanted: &'static str,
        /// What was written.
        found: &'static str,
    },
    /// The value makes no sense.
    #[error("{}", value(.origin, .key, .text, .why))]
    Value {
        /// Where.
        origin: Origin,
        /// The setting.
        key: &'static str,
        /// What was written.
        text: String,
        /// What is wrong with it.
        why: String,
    },
    /// The file that says which images must be signed cannot be used.
    #[error("signature policy")]
    Policy(#[from] super::policy::PolicyError),
    /// Two settings do not go together.
    #[error("{0}")]
    Together(String),
    /// What was asked for would be less safe if it were only left out.
    #[error("{origin} is not supported: {why}")]
    Refused {
        /// What was asked for.
        origin: String,
        /// Why leaving it out would not do.
        why: &'static str,
    },
}

fn meant(name: Option<&str>) -> String {
    name.map(|name| format!(" (did you mean {name:?}?)"))
        .unwrap_or_default()
}

fn value(origin: &Origin, key: &str, text: &str, why: &str) -> String {
    match origin {
        Origin::Flag(name) => format!("invalid argument {text:?} for \"--{name}\" flag: {why}"),
        Origin::File { .. } => format!("{origin}: invalid value {text:?} of {key}: {why}"),
    }
}
