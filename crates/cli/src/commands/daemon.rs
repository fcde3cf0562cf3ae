//! `gorae daemon`: the engine, in the foreground.

use crate::args::{Call, Flag, Operands, Verb};
use crate::failure::Failure;
use crate::globals;
use anyhow::Context;
use api::client::Endpoint;
use std::path::PathBuf;

mod network;

pub(crate) static VERB: Verb = Verb {
    about: "Run the engine",
    usage: "[OPTIONS]",
    operands: Operands::NONE,
    flags: &[
        network::FLAGS,
        &[
            Flag::one(
                "cgroup-parent",
                "string",
                "Cgroup below which containers get theirs (default \"/gorae\")",
            ),
            Flag::switch("detached", "Leave the terminal's session").hidden(),
            Flag::one(
                "docker-socket",
                "path",
                "Listen here too, where Docker's clients look (/var/run/docker.sock)",
            ),
            Flag::one(
                "group",
                "string",
                "Group that may use the sockets (default \"gorae\", else \"docker\")",
            ),
            Flag::many(
                "host",
                "list",
                "Unix socket to listen on (default \"unix:///run/gorae/gorae.sock\")",
            )
            .short('H'),
            Flag::many(
                "insecure-registry",
                "list",
                "Registry that may be reached without TLS",
            ),
            Flag::one(
                "log-format",
                "string",
                "Form of the log: \"text\" or \"json\" (default \"text\")",
            ),
            Flag::one(
                "log-level",
                "string",
                "What is logged: a level, or a filter such as info,engine=debug (default \"info\")",
            )
            .short('l'),
            Flag::one(
                "root",
                "path",
                "Folder of everything that lasts (default \"/var/lib/gorae\")",
            ),
            Flag::one(
                "run",
                "path",
                "Folder of everything that ends with the boot (default \"/run/gorae\")",
            ),
            Flag::one(
                "shim",
                "path",
                "The gorae-shim program (default: beside this program)",
            ),
            Flag::one(
                "warm",
                "int",
                "Network namespaces and shims that are kept ready (default 6)",
            ),
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
    ],
    run: |call| Box::pin(async move { run(call) }),
};

/// Runs the engine, on threads of its own, until it is told to end.
pub(crate) fn run(call: &Call) -> anyhow::Result<u8> {
    if call.on("detached") {
        // EPERM says that we lead a session already
        let _leads_already = rustix::process::setsid();
    }
    daemon::run(&config(call)?)?;
    Ok(0)
}

fn config(call: &Call) -> anyhow::Result<daemon::Config> {
    let path = |flag: &str| {
        call.text(flag)
            .filter(|text| !text.is_empty())
            .map(PathBuf::from)
    };
    let mut engine = engine::Config {
        run: path("run").unwrap_or_else(globals::run_dir),
        builtin_image: Some(builtin::HELLO_IMAGE),
        ..engine::Config::default()
    };
    if let Some(root) = path("root").or_else(|| std::env::var_os("GORAE_ROOT").map(PathBuf::from)) {
        engine.root = root;
    }
    engine.shim = match path("shim") {
        Some(shim) => shim,
        None => beside_us()?,
    };
    network::read(call, &mut engine)?;
    if let Some(parent) = path("cgroup-parent") {
        engine.cgroup_parent = parent;
    }
    engine.insecure_registries = call
        .list("insecure-registry")
        .into_iter()
        .map(str::to_owned)
        .collect();
    if let Some(warm) = call.integer("warm")? {
        engine.warm = usize::try_from(warm)
            .map_err(|_| call.invalid("warm", &warm.to_string(), "must not be negative"))?;
    }
    let debug = if call.globals.debug { "debug" } else { "info" };
    let log_level = call
        .text("log-level")
        .or(call.globals.log_level.as_deref())
        .unwrap_or(debug);
    Ok(daemon::Config {
        engine,
        sockets: sockets(call)?,
        docker_socket: path("docker-socket"),
        group: call.text("group").map(str::to_owned),
        log_level: log_level.to_owned(),
        log_json: log_json(call)?,
    })
}

/// The shim that was installed with this program.
fn beside_us() -> anyhow::Result<PathBuf> {
    let own = std::env::current_exe().context("cannot find the program's own file")?;
    let shim = own.with_file_name("gorae-shim");
    if !shim.exists() {
        return Err(Failure::message(format!(
            "{} is missing\n\nInstall gorae-shim beside gorae, or name it with --shim.",
            shim.display()
        ))
        .into());
    }
    Ok(shim)
}

/// `-H` behind or in front of the verb.
fn sockets(call: &Call) -> Result<Vec<PathBuf>, Failure> {
    let given = call
        .list("host")
        .into_iter()
        .chain(call.globals.host.as_deref());
    given
        .map(|text| match text.parse::<Endpoint>() {
            Ok(Endpoint::Unix(path)) => Ok(path),
            Ok(Endpoint::Tcp(_)) => Err(Failure::message(format!(
                "cannot listen on {text}: the API gives root to whoever reaches it, and TCP keeps nobody out\n\nUse unix:///path, and ssh to reach it from elsewhere."
            ))),
            Err(error) => Err(Failure::message(error.to_string())),
        })
        .collect()
}

fn log_json(call: &Call) -> Result<bool, Failure> {
    match call.text("log-format") {
        None | Some("text") => Ok(false),
        Some("json") => Ok(true),
        Some(other) => Err(call.invalid("log-format", other, "must be text or json")),
    }
}
