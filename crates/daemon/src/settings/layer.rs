//! What one source says, as it says it.

use std::collections::BTreeMap;
use std::fmt;
use std::path::PathBuf;

/// Where a value was written.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Origin {
    /// A flag, by its name.
    Flag(String),
    /// A line of a file; 0 where it is not known.
    File {
        /// The file.
        path: PathBuf,
        /// The line, from 1.
        line: usize,
    },
}

impl fmt::Display for Origin {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Flag(name) => write!(formatter, "--{name}"),
            Self::File { path, line: 0 } => write!(formatter, "{}", path.display()),
            Self::File { path, line } => write!(formatter, "{}:{line}", path.display()),
        }
    }
}

/// A setting's value as it was written: flags and files alike become texts here.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Given {
    /// One text, or as many as a list has.
    pub texts: Vec<String>,
    /// Where it was written.
    pub origin: Origin,
}

/// What one source says, by the settings' names.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Layer(pub BTreeMap<&'static str, Given>);

impl Layer {
    /// Adds a setting.
    pub fn set(&mut self, name: &'static str, texts: Vec<String>, origin: Origin) {
        self.0.insert(name, Given { texts, origin });
    }

    /// Lays this layer over another; names what is hidden by it.
    pub(super) fn over(&self, below: &Self) -> (Self, Vec<String>) {
        let mut all = below.clone();
        let mut hidden = Vec::new();
        for (name, given) in &self.0 {
            if let Some(other) = all.0.insert(name, given.clone())
                && other.texts != given.texts
            {
                hidden.push(format!(
                    "{} is overridden by {}",
                    named(name, &other.origin),
                    given.origin
                ));
            }
        }
        (all, hidden)
    }
}

fn named(name: &str, origin: &Origin) -> String {
    match origin {
        Origin::Flag(_) => origin.to_string(),
        Origin::File { .. } => format!("{name} in {origin}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn flags_win_and_say_so() {
        let file = |line| Origin::File {
            path: "/c".into(),
            line,
        };
        let text = |text: &str| vec![text.to_owned()];
        let mut below = Layer::default();
        below.set("mtu", text("1400"), file(3));
        below.set("bip", text("10.0.0.1/24"), file(4));
        below.set("icc", text("false"), file(5));
        let mut above = Layer::default();
        above.set("mtu", text("1500"), Origin::Flag("mtu".into()));
        above.set("icc", text("false"), Origin::Flag("icc".into()));
        let (all, hidden) = above.over(&below);
        assert_eq!(all.0["mtu"].texts, ["1500"]);
        assert_eq!(all.0["bip"].texts, ["10.0.0.1/24"]);
        assert_eq!(hidden, ["mtu in /c:3 is overridden by --mtu"]);
    }
}
