//! `gorae daemon`: the engine, in the foreground.

use crate::args::{self, Call, Flag, Operands, Verb};
use crate::failure::Failure;
use crate::globals;
use crate::output;
use anyhow::Context;
use daemon::settings::keys::{KEYS, Key, Kind};
use daemon::settings::{self, Dialect, Layer, Origin, SettingsError, Sources};
use std::path::{Path, PathBuf};

/// A flag for each setting.
static SETTINGS: [Flag; KEYS.len()] = flags();

const fn flags() -> [Flag; KEYS.len()] {
    let mut all = [Flag::switch("", ""); KEYS.len()];
    let mut at = 0;
    while at < all.len() {
        all[at] = flag(&KEYS[at]);
        at += 1;
    }
    all
}

const fn flag(key: &Key) -> Flag {
    let flag = Flag {
        long: key.name,
        short: key.short,
        kind: kind(key.kind),
        value: key.value,
        help: key.about,
        default: key.default,
        hidden: false,
    };
    // a switch without a value is off
    match key.kind {
        Kind::Switch if key.default.len() == "false".len() => Flag {
            default: "",
            ..flag
        },
        _ => flag,
    }
}

/// How a flag of this kind is read.
pub(super) const fn kind(kind: Kind) -> args::Kind {
    match kind {
        Kind::Switch => args::Kind::Switch,
        Kind::Number | Kind::Text | Kind::Size => args::Kind::One,
        Kind::List | Kind::Map => args::Kind::Many,
    }
}

pub(crate) static VERB: Verb = Verb {
    about: "Run the engine",
    usage: "[OPTIONS]",
    operands: Operands::between(0, 1),
    flags: &[
        &SETTINGS,
        &[
            Flag::one(
                "config-file",
                "path",
                "Configuration file; flags override it",
            )
            .default("/etc/gorae/config.toml"),
            Flag::switch("detached", "Leave the terminal's session").hidden(),
            Flag::maybe(
                "import-docker-config",
                "path",
                "Print what a daemon.json of Docker says as a configuration file of Gorae, and quit",
            )
            .default("/etc/docker/daemon.json"),
            Flag::one("publish-address", "ip", "Another name of --default-address").hidden(),
            Flag::switch("validate", "Check the configuration, and quit"),
        ],
    ],
    examples: &[
        ("daemon", "Run the engine in this terminal"),
        (
            "daemon --docker-socket /var/run/docker.sock",
            "Let unmodified Docker clients find it",
        ),
        (
            "daemon --root /srv/gorae --default-address 127.0.0.1",
            "Keep data elsewhere, publish ports to this host only",
        ),
        (
            "daemon --publish-policy host-firewall",
            "Leave it to the host's firewall who reaches published ports",
        ),
        (
            "daemon --default-address-pool base=10.64.0.0/12,size=24 --ipv6",
            "Take subnets from a network of your own, give the default bridge IPv6",
        ),
        (
            "daemon --import-docker-config > /etc/gorae/config.toml",
            "Go on with the configuration of a Docker engine",
        ),
    ],
    run: |call| Box::pin(async move { run(call) }),
};

/// Runs the engine, on threads of its own, until it is told to end.
pub(crate) fn run(call: &Call) -> anyhow::Result<u8> {
    if let Some(file) = call.text("import-docker-config") {
        let operand = call.operands.first().map(String::as_str);
        let given = operand.or(Some(file).filter(|file| !file.is_empty()));
        return import(given.unwrap_or(settings::DOCKER_CONFIG_FILE));
    }
    if !call.operands.is_empty() {
        return Err(call.misused("accepts no arguments").into());
    }
    let config = sources(call)?
        .load()
        .map_err(|error| explained(call, error))?;
    if call.on("validate") {
        return Ok(valid(&config));
    }
    if call.on("detached") {
        // EPERM says that we lead a session already
        let _leads_already = rustix::process::setsid();
    }
    start(&config)
}

/// Runs the engine with its settings.
pub(super) fn start(config: &daemon::Config) -> anyhow::Result<u8> {
    let shim = &config.engine.shim;
    if !shim.exists() {
        return Err(Failure::message(format!(
            "{} is missing\n\nInstall gorae-shim beside gorae, or name it with --shim.",
            shim.display()
        ))
        .into());
    }
    daemon::run(config)?;
    Ok(0)
}

/// What `--validate` says of a configuration that could be read, where dockerd says it.
pub(super) fn valid(config: &daemon::Config) -> u8 {
    for notice in &config.notices {
        output::complain(notice);
    }
    output::complain("configuration OK");
    0
}

/// The settings of an engine of which nothing else was said.
pub(super) fn defaults() -> anyhow::Result<daemon::Config> {
    let mut engine = engine::Config {
        run: globals::run_dir(),
        builtin_image: Some(builtin::HELLO_IMAGE),
        ..engine::Config::default()
    };
    if let Some(root) = std::env::var_os("GORAE_ROOT").filter(|root| !root.is_empty()) {
        engine.root = PathBuf::from(root);
    }
    let own = std::env::current_exe().context("cannot find the program's own file")?;
    engine.shim = own.with_file_name("gorae-shim");
    Ok(daemon::Config {
        engine,
        log_level: "info".to_owned(),
        ..daemon::Config::default()
    })
}

fn sources(call: &Call) -> anyhow::Result<Sources> {
    let mut layer = Layer::default();
    for key in KEYS {
        if let Some(texts) = given(call, key.name, key.kind) {
            layer.set(key.name, texts, Origin::Flag(key.name.to_owned()));
        }
    }
    if let Some(address) = call.text("publish-address")
        && !call.given("default-address")
    {
        let origin = Origin::Flag("publish-address".to_owned());
        layer.set("default-address", vec![address.to_owned()], origin);
    }
    in_front(call, &mut layer);
    let named = call.text("config-file").filter(|path| !path.is_empty());
    Ok(Sources {
        file: PathBuf::from(named.unwrap_or(settings::CONFIG_FILE)),
        dialect: Dialect::Gorae,
        named: named.is_some(),
        flags: layer,
        unmet: Vec::new(),
        base: defaults()?,
    })
}

/// The options in front of the verb say the same as those behind it.
fn in_front(call: &Call, layer: &mut Layer) {
    let flag = |name: &str| Origin::Flag(name.to_owned());
    if let Some(host) = &call.globals.host {
        let behind = layer.0.remove("host");
        let mut texts = behind.map(|given| given.texts).unwrap_or_default();
        texts.push(host.clone());
        layer.set("host", texts, flag("host"));
    }
    if let Some(level) = &call.globals.log_level
        && !call.given("log-level")
    {
        layer.set("log-level", vec![level.clone()], flag("log-level"));
    }
    if call.globals.debug && !call.given("debug") && !call.given("log-level") {
        layer.set("debug", vec!["true".to_owned()], flag("debug"));
    }
}

/// The texts of a flag, if it was given.
pub(super) fn given(call: &Call, name: &str, kind: Kind) -> Option<Vec<String>> {
    if !call.given(name) {
        return None;
    }
    Some(match kind {
        Kind::List | Kind::Map => call.list(name).into_iter().map(str::to_owned).collect(),
        Kind::Switch | Kind::Number | Kind::Text | Kind::Size => vec![call.text_or_empty(name)],
    })
}

/// An error of a flag is told as that of any verb's.
fn explained(call: &Call, error: SettingsError) -> anyhow::Error {
    match error {
        SettingsError::Value {
            origin: Origin::Flag(name),
            text,
            why,
            ..
        } => call.invalid(&name, &text, &why).into(),
        SettingsError::Together(message) => Failure::message(message).into(),
        error => error.into(),
    }
}

fn import(path: &str) -> anyhow::Result<u8> {
    let imported = settings::import(Path::new(path))?;
    output::raw(imported.text.as_bytes())?;
    for line in imported.report {
        output::complain(line);
    }
    Ok(0)
}
