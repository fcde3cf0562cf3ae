//! The options in front of the verb.

use crate::failure::Failure;
use api::client::Endpoint;
use std::ffi::OsString;
use std::path::PathBuf;

/// The options in front of the verb.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Globals {
    /// The engine's address, if it is not the default one.
    pub(crate) host: Option<String>,
    pub(crate) debug: bool,
    pub(crate) log_level: Option<String>,
    /// Where the client's own configuration lies.
    pub(crate) config: Option<PathBuf>,
    pub(crate) tls: TlsFlags,
}

/// What was said of TLS to the engine.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct TlsFlags {
    pub(crate) tls: Option<bool>,
    pub(crate) verify: Option<bool>,
    pub(crate) authority: Option<PathBuf>,
    pub(crate) certificate: Option<PathBuf>,
    pub(crate) key: Option<PathBuf>,
}

/// The words of a command line, cut at the verb.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Split {
    pub(crate) globals: Globals,
    pub(crate) help: bool,
    pub(crate) version: bool,
    /// The verb and all behind it.
    pub(crate) words: Vec<OsString>,
}

/// Takes the options in front of the verb off a command line.
pub(crate) fn split(words: impl IntoIterator<Item = OsString>) -> Result<Split, Failure> {
    let mut out = Split {
        globals: Globals::default(),
        help: false,
        version: false,
        words: Vec::new(),
    };
    let mut words = words.into_iter();
    while let Some(word) = words.next() {
        let Some(text) = word
            .to_str()
            .filter(|text| text.starts_with('-') && text.len() > 1)
        else {
            out.words.push(word);
            out.words.extend(words);
            break;
        };
        let (name, attached) = match text.split_once('=') {
            Some((name, value)) => (name.to_owned(), Some(value.to_owned())),
            None => (text.to_owned(), None),
        };
        let mut value = |attached: Option<String>| {
            attached
                .or_else(|| words.next().and_then(|word| word.into_string().ok()))
                .ok_or_else(|| Failure::with_code(format!("flag needs an argument: {name}\n\nRun 'gorae --help' for more information"), 125))
        };
        match name.as_str() {
            "-H" | "--host" => out.globals.host = Some(value(attached)?),
            "--config" => out.globals.config = Some(PathBuf::from(value(attached)?)),
            "-l" | "--log-level" => out.globals.log_level = Some(value(attached)?),
            "--tls" => out.globals.tls.tls = Some(attached.as_deref() != Some("false")),
            "--tlsverify" => out.globals.tls.verify = Some(attached.as_deref() != Some("false")),
            "--tlscacert" => out.globals.tls.authority = Some(value(attached)?.into()),
            "--tlscert" => out.globals.tls.certificate = Some(value(attached)?.into()),
            "--tlskey" => out.globals.tls.key = Some(value(attached)?.into()),
            "-D" | "--debug" => out.globals.debug = attached.as_deref() != Some("false"),
            "-h" | "--help" => out.help = true,
            "-v" | "--version" => out.version = true,
            short if short.starts_with("-H") => out.globals.host = Some(text[2..].to_owned()),
            _ => {
                let message = format!(
                    "unknown flag: {name}\n\nUsage:  gorae [OPTIONS] COMMAND [ARG...]\n\nRun 'gorae --help' for more information"
                );
                return Err(Failure::with_code(message, 125));
            }
        }
    }
    Ok(out)
}

/// The folder that holds the engine's socket unless the environment says otherwise.
const RUN: &str = "/run/gorae";

/// Where the engine's run-time files lie.
pub(crate) fn run_dir() -> PathBuf {
    std::env::var_os("GORAE_RUN")
        .filter(|dir| !dir.is_empty())
        .map_or_else(|| PathBuf::from(RUN), PathBuf::from)
}

/// Where our own engine listens, which the command line may start.
pub(crate) fn own_endpoint() -> Endpoint {
    Endpoint::Unix(run_dir().join("gorae.sock"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn words(text: &str) -> Vec<OsString> {
        text.split_whitespace().map(OsString::from).collect()
    }

    #[test]
    fn options_in_front_of_the_verb() {
        let check = |text: &str, host: Option<&str>, debug: bool, rest: &str| {
            let split = split(words(text)).unwrap();
            assert_eq!(split.globals.host.as_deref(), host, "{text}");
            assert_eq!(split.globals.debug, debug, "{text}");
            assert_eq!(split.words, words(rest), "{text}");
        };
        check("ps -a", None, false, "ps -a");
        check("-H unix:///x ps -H y", Some("unix:///x"), false, "ps -H y");
        check(
            "--host=tcp://1.2.3.4:5 -D ps",
            Some("tcp://1.2.3.4:5"),
            true,
            "ps",
        );
        check("-Hunix:///x ps", Some("unix:///x"), false, "ps");
        check("", None, false, "");
        assert!(split(words("--help run")).unwrap().help);
        assert_eq!(split(words("--nope ps")).unwrap_err().code(), 125);
        assert_eq!(split(words("-H")).unwrap_err().code(), 125);
    }
}
