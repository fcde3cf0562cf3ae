//! The settings of a front end, as clients send them.

use std::collections::BTreeMap;

use oci::Platform;

use crate::error::{Error, Result};

/// The default name of a Dockerfile.
pub(super) const DOCKERFILE: &str = "Dockerfile";

/// The settings by name.
#[derive(Clone, Debug, Default)]
pub(super) struct Options {
    attrs: BTreeMap<String, String>,
}

impl Options {
    pub(super) fn new(attrs: BTreeMap<String, String>) -> Self {
        Self { attrs }
    }

    /// A setting that is there and not empty.
    pub(super) fn text(&self, name: &str) -> Option<&str> {
        self.attrs
            .get(name)
            .map(String::as_str)
            .filter(|text| !text.is_empty())
    }

    /// All settings below a prefix such as `build-arg:`.
    pub(super) fn below(&self, prefix: &str) -> BTreeMap<String, String> {
        let below = self.attrs.range(prefix.to_owned()..);
        below
            .map_while(|(name, value)| Some((name.strip_prefix(prefix)?.to_owned(), value.clone())))
            .collect()
    }

    /// A setting as Go's `strconv.ParseBool` reads it.
    pub(super) fn flag(&self, name: &str) -> Result<Option<bool>> {
        let Some(text) = self.text(name) else {
            return Ok(None);
        };
        match text {
            "1" | "t" | "T" | "true" | "TRUE" | "True" => Ok(Some(true)),
            "0" | "f" | "F" | "false" | "FALSE" | "False" => Ok(Some(false)),
            _ => Err(Error::invalid(format!("invalid boolean value for {name}: {text}"))),
        }
    }

    pub(super) fn filename(&self) -> &str {
        self.text("filename").unwrap_or(DOCKERFILE)
    }

    /// The client's name for the folder of the context.
    pub(super) fn context_key(&self) -> &str {
        self.text("contextkey").unwrap_or("context")
    }

    /// The client's name for the folder of the Dockerfile.
    pub(super) fn dockerfile_key(&self) -> &str {
        self.text("dockerfilekey").unwrap_or("dockerfile")
    }

    /// The platforms to build for; absent where the client leaves it to us.
    pub(super) fn platforms(&self) -> Result<Vec<Platform>> {
        let list = self.text("platform").unwrap_or_default();
        let names = list.split(',').map(str::trim).filter(|name| !name.is_empty());
        names
            .map(|name| {
                name.parse::<Platform>().map_err(|_| {
                    Error::invalid(format!("failed to parse target platform {name}"))
                })
            })
            .collect()
    }

    /// Whether the result is a list of platforms even where there is one.
    pub(super) fn multi_platform(&self, platforms: usize) -> Result<bool> {
        let wanted = match self.flag("multi-platform")? {
            Some(wanted) => Some(wanted),
            None => self.flag("build-arg:BUILDKIT_MULTI_PLATFORM")?,
        };
        match wanted {
            Some(false) if platforms > 1 => Err(Error::invalid(
                "conflicting config: returning multiple target platforms is not allowed",
            )),
            Some(wanted) => Ok(wanted),
            None => Ok(platforms > 1),
        }
    }

    /// Settings of the images' digests: `local`, `pull`.
    pub(super) fn resolve_mode(&self) -> Result<&str> {
        match self.text("image-resolve-mode") {
            None | Some("default") => Ok("default"),
            Some(mode @ ("local" | "pull")) => Ok(mode),
            Some("preferlocal") => Ok("local"),
            Some(other) => Err(Error::invalid(format!(
                "invalid image-resolve-mode: {other}"
            ))),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn options(pairs: &[(&str, &str)]) -> Options {
        let pairs = pairs.iter().map(|(n, v)| ((*n).to_owned(), (*v).to_owned()));
        Options::new(pairs.collect())
    }

    #[test]
    fn settings_below_a_prefix_are_found() {
        let options = options(&[
            ("build-arg:A", "1"),
            ("build-arg:B", ""),
            ("build-args", "no"),
            ("label:x", "y"),
        ]);
        let args = options.below("build-arg:");
        assert_eq!(args.keys().collect::<Vec<_>>(), ["A", "B"]);
    }

    #[test]
    fn several_platforms_are_a_list() {
        let two = options(&[("platform", "linux/amd64, linux/arm64/v8")]);
        assert_eq!(two.platforms().unwrap().len(), 2);
        assert!(two.multi_platform(2).unwrap());
        assert!(!two.multi_platform(1).unwrap());
        let no = options(&[("multi-platform", "false")]);
        assert!(no.multi_platform(2).is_err());
        assert!(options(&[("platform", "///")]).platforms().is_err());
    }
}
