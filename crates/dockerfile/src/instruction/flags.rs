//! Flags of instructions.

use crate::suggest;

/// Why a flag is none.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum FlagError {
    /// The instruction does not know it.
    #[error("unknown flag: --{name}{hint}")]
    Unknown {
        /// Its name.
        name: String,
        /// `(did you mean …?)`, or nothing.
        hint: String,
    },
    /// It stands there twice.
    #[error("duplicate flag specified: --{0}")]
    Twice(String),
    /// Its value is missing.
    #[error("missing a value on flag: --{0}")]
    NoValue(String),
    /// Its value is neither true nor false.
    #[error("expecting boolean value for flag --{0}, not: {1}")]
    NoBoolean(String, String),
}

/// What kind of value a flag has.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    /// One of several, in order.
    Texts,
    /// One.
    Text,
    /// True or false; true without a value.
    Switch,
}

/// The flags of one instruction.
#[derive(Debug, Default)]
pub(super) struct Flags<'a> {
    given: Vec<(&'static str, &'a str)>,
}

impl<'a> Flags<'a> {
    /// Reads flags, of which the instruction knows `known`.
    pub(super) fn parse(
        written: &'a [String],
        known: &[(&'static str, Kind)],
    ) -> Result<Self, FlagError> {
        let mut flags = Self::default();
        for text in written {
            let text = text.strip_prefix("--").unwrap_or(text);
            let (name, value) = match text.split_once('=') {
                Some((name, value)) => (name, Some(value)),
                None => (text, None),
            };
            let Some((name, kind)) = known.iter().find(|(k, _)| *k == name).copied() else {
                let near = suggest::nearest(name, known.iter().map(|(k, _)| *k));
                return Err(FlagError::Unknown {
                    name: name.to_owned(),
                    hint: suggest::suffix(near),
                });
            };
            if kind != Kind::Texts && flags.given.iter().any(|(n, _)| *n == name) {
                return Err(FlagError::Twice(name.to_owned()));
            }
            flags.given.push((name, checked(name, kind, value)?));
        }
        Ok(flags)
    }

    /// The value of a flag, or nothing.
    pub(super) fn text(&self, name: &str) -> String {
        self.texts(name).next().unwrap_or_default()
    }

    /// All values of a flag.
    pub(super) fn texts(&self, name: &str) -> impl Iterator<Item = String> {
        self.given
            .iter()
            .filter(move |(n, _)| *n == name)
            .map(|(_, v)| (*v).to_owned())
    }

    /// Whether a switch is on, if it is given.
    pub(super) fn switch(&self, name: &str) -> Option<bool> {
        let (_, value) = self.given.iter().find(|(n, _)| *n == name)?;
        Some(!value.eq_ignore_ascii_case("false"))
    }
}

fn checked<'a>(name: &str, kind: Kind, value: Option<&'a str>) -> Result<&'a str, FlagError> {
    match (kind, value) {
        (Kind::Switch, None) => Ok("true"),
        (Kind::Switch, Some("")) | (Kind::Text | Kind::Texts, None) => {
            Err(FlagError::NoValue(name.to_owned()))
        }
        (Kind::Switch, Some(value)) => match value.to_ascii_lowercase().as_str() {
            "true" | "false" => Ok(value),
            _ => Err(FlagError::NoBoolean(name.to_owned(), value.to_owned())),
        },
        (Kind::Text | Kind::Texts, Some(value)) => Ok(value),
    }
}
