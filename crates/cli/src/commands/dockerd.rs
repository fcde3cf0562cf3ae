//! `dockerd`: the engine by the name and with the flags of Docker's, for scripts that start one.

use crate::args::{Call, Flag, Operands, Reading, Verb};
use crate::commands::daemon::{defaults, given, kind, start, valid};
use crate::failure::Failure;
use crate::globals::Globals;
use crate::output;
use api::client::{Client, Endpoint};
use daemon::settings::dockerd::{DIRECTIVES, Directive, Fate};
use daemon::settings::keys::{self, Kind};
use daemon::settings::{self, Dialect, Layer, Origin, SettingsError, Sources};
use std::ffi::OsString;
use std::fmt::Write as _;
use std::path::PathBuf;

/// Where dockerd listens, and where it writes its process id.
const SOCKET: &str = "/var/run/docker.sock";
const PID_FILE: &str = "/var/run/docker.pid";

/// How many of dockerd's directives are flags.
const COUNT: usize = count();

static FLAGS: [Flag; COUNT] = flags();

const fn count() -> usize {
    let (mut at, mut found) = (0, 0);
    while at < DIRECTIVES.len() {
        found += !DIRECTIVES[at].flag.is_empty() as usize;
        at += 1;
    }
    // clap's own
    found - 1
}

const fn flags() -> [Flag; COUNT] {
    let mut all = [Flag::switch("", ""); COUNT];
    let (mut at, mut next) = (0, 0);
    while at < DIRECTIVES.len() {
        let directive = &DIRECTIVES[at];
        if !directive.flag.is_empty() && !is_help(directive.flag) {
            let flag = Flag::switch(directive.flag, "");
            all[next] = Flag {
                short: directive.short,
                kind: kind(directive.kind),
                value: "value",
                ..flag
            };
            next += 1;
        }
        at += 1;
    }
    all
}

const fn is_help(flag: &str) -> bool {
    matches!(flag.as_bytes(), b"help")
}

static VERB: Verb = Verb {
    about: "Gorae, with the flags of Docker's engine",
    usage: "[OPTIONS]",
    operands: Operands::NONE,
    flags: &[&FLAGS],
    examples: &[],
    run: |call| Box::pin(async move { run(call) }),
};

/// Reads the words behind `dockerd`, and runs the engine.
pub(crate) fn main(words: Vec<OsString>) -> anyhow::Result<u8> {
    let client = Client::new(Endpoint::Unix(PathBuf::from(SOCKET)));
    let call = match Call::read(&VERB, "dockerd", words, Globals::default(), client) {
        Ok(Reading::Call(call)) => call,
        Ok(Reading::Help) => {
            output::raw(help().as_bytes())?;
            return Ok(0);
        }
        Err(Failure::Usage { message, .. }) => return Err(misused(&message).into()),
        Err(failure) => return Err(failure.into()),
    };
    run(&call)
}

/// Docker's words, which scripts may look for.
fn misused(message: &str) -> Failure {
    Failure::message(format!("Status: {message}\nSee 'dockerd --help'."))
}

fn run(call: &Call) -> anyhow::Result<u8> {
    if call.on("version") {
        output::line(format!("Gorae version {}", env!("CARGO_PKG_VERSION")))?;
        return Ok(0);
    }
    let loaded = sources(call)?.load();
    let config = loaded.map_err(|error| match error {
        SettingsError::Value {
            origin: Origin::Flag(_),
            ..
        } => misused(&error.to_string()).into(),
        error => anyhow::Error::from(error),
    })?;
    if call.on("validate") {
        return Ok(valid(&config));
    }
    start(&config)
}

fn sources(call: &Call) -> anyhow::Result<Sources> {
    let mut base = defaults()?;
    base.hosts = vec![daemon::Address::Unix(SOCKET.into())];
    base.pid_file = Some(PID_FILE.into());
    let named = call.text("config-file").filter(|path| !path.is_empty());
    let mut sources = Sources {
        file: PathBuf::from(named.unwrap_or(settings::DOCKER_CONFIG_FILE)),
        dialect: Dialect::Docker,
        named: named.is_some(),
        flags: Layer::default(),
        unmet: Vec::new(),
        base,
    };
    for directive in DIRECTIVES {
        if directive.fate != Fate::Own
            && let Some(texts) = given(call, directive.flag, directive.kind)
        {
            sources.dockerd_flag(directive, texts)?;
        }
    }
    Ok(sources)
}

/// All flags, and what becomes of each.
fn help() -> String {
    let mut text = format!("Usage:\tdockerd [OPTIONS]\n\n{}\n\nOptions:\n", VERB.about);
    for directive in DIRECTIVES.iter().filter(|d| !d.flag.is_empty()) {
        let short = directive
            .short
            .map_or_else(|| "    ".to_owned(), |short| format!("-{short}, "));
        let value = if directive.kind == Kind::Switch {
            ""
        } else {
            " value"
        };
        let head = format!("{short}--{}{value}", directive.flag);
        let _infallible = writeln!(text, "  {head:<42} {}", about(directive));
    }
    text
}

fn about(directive: &Directive) -> String {
    match directive.fate {
        Fate::Key(name) => {
            let key = keys::find(name);
            key.map_or_else(String::new, |key| key.about.to_owned())
        }
        Fate::Only(values, why) => format!("{} (else without effect: {why})", values.join(", ")),
        Fate::Moot => "Nothing to do: accepted".to_owned(),
        Fate::Unmet(why) => format!("Without effect: {why}"),
        Fate::Refused(why) => format!("Refused: {why}"),
        Fate::Own => match directive.flag {
            "config-file" => format!(
                "Configuration file (default {})",
                settings::DOCKER_CONFIG_FILE
            ),
            "validate" => "Check the configuration, and quit".to_owned(),
            "version" => "Print version information and quit".to_owned(),
            _ => "Print usage".to_owned(),
        },
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn loaded(words: &[&str]) -> Result<daemon::Config, String> {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("daemon.json");
        std::fs::write(&file, r#"{"mtu": 1400, "labels": ["a=b"]}"#).unwrap();
        let mut all: Vec<OsString> = words.iter().map(OsString::from).collect();
        all.extend(["--config-file".into(), file.into_os_string()]);
        let client = Client::new(Endpoint::Unix("/nonexistent".into()));
        let reading = Call::read(&VERB, "dockerd", all, Globals::default(), client);
        let call = match reading.map_err(|error| error.to_string())? {
            Reading::Call(call) => call,
            Reading::Help => return Err("help".to_owned()),
        };
        let sources = sources(&call).map_err(|error| error.to_string())?;
        sources.load().map_err(|error| error.to_string())
    }

    #[test]
    fn flags_of_dockerd() {
        let config = loaded(&[
            "-H",
            "unix:///d.sock",
            "--host=tcp://127.0.0.1:1",
            "--data-root",
            "/nonexistent/data",
            "--exec-root=/nonexistent/exec",
            "-p",
            "/d.pid",
            "--ip=127.0.0.1",
            "--insecure-registry=r:5000",
            "--storage-driver=overlay2",
            "--userland-proxy=false",
            "--icc=false",
            "-D",
            "--log-opt=max-size=1m",
            "--containerd=/x",
            "--iptables=false",
        ])
        .unwrap();
        assert_eq!(config.hosts.len(), 2);
        assert_eq!(config.engine.root, PathBuf::from("/nonexistent/data"));
        assert_eq!(config.engine.run, PathBuf::from("/nonexistent/exec"));
        assert_eq!(config.pid_file, Some("/d.pid".into()));
        assert_eq!(config.engine.publish_address.to_string(), "127.0.0.1");
        assert_eq!(config.engine.insecure_registries, ["r:5000"]);
        assert_eq!(config.engine.log_opts["max-size"], "1m");
        assert_eq!((config.engine.mtu, config.engine.icc), (1400, false));
        assert_eq!(config.engine.labels, ["a=b"]);
        assert_eq!(config.log_level, "debug");
        assert_eq!(
            config.notices,
            [
                "without effect here: --containerd (there is no containerd); --iptables (the firewall's rules are Gorae's own, by nftables)"
            ]
        );
    }

    #[test]
    fn places_and_refusals() {
        let config = loaded(&[]).unwrap();
        assert_eq!(config.hosts, [daemon::Address::Unix(SOCKET.into())]);
        assert_eq!(config.pid_file, Some(PID_FILE.into()));
        let check = |words: &[&str], expect: &str| {
            let error = loaded(words).unwrap_err();
            assert!(error.contains(expect), "{error}");
        };
        check(
            &["--authorization-plugin=x"],
            "--authorization-plugin is not supported",
        );
        check(&["--foo"], "unknown flag: --foo");
        check(&["--mtu=x"], "invalid argument \"x\" for \"--mtu\" flag");
        check(&["word"], "accepts no arguments");
        assert!(loaded(&["--help"]).is_err());
        let help = help();
        assert!(help.contains("  -H, --host value") && help.contains("--userns-remap"));
    }
}
