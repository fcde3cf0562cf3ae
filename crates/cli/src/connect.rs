//! Reaching the engine, and starting one where none runs.

use crate::failure::Failure;
use crate::globals::{self, Globals};
use crate::output::complain;
use anyhow::Context;
use api::client::{Client, ClientError, Endpoint};
use std::fs::{self, File};
use std::io::ErrorKind;
use std::os::unix::fs::DirBuilderExt;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

/// How long a new engine may take until it listens.
const PATIENCE: Duration = Duration::from_secs(20);
/// How many lines of a failed engine's log are shown.
const LOG_TAIL: usize = 5;

/// Connects to the engine; starts one if it is our own that is missing.
pub(crate) async fn ready(client: &Client, globals: &Globals) -> anyhow::Result<()> {
    let Err(error) = client.connect().await else {
        return Ok(());
    };
    let endpoint = client.endpoint();
    if *endpoint != globals::own_endpoint() {
        return Err(unreachable_engine(endpoint, &error).into());
    }
    if let ClientError::Connect { source, .. } = &error
        && source.kind() == ErrorKind::PermissionDenied
    {
        let message = format!(
            "permission denied while trying to connect to the engine at {endpoint}\n\nRun the command as root, or add your user to the group 'gorae'."
        );
        return Err(Failure::message(message).into());
    }
    start(client, globals).await
}

fn unreachable_engine(endpoint: &Endpoint, error: &ClientError) -> Failure {
    let why = match error {
        ClientError::Connect { source, .. } => match source.kind() {
            ErrorKind::NotFound => "no such socket".to_owned(),
            ErrorKind::ConnectionRefused => "nothing listens there".to_owned(),
            ErrorKind::PermissionDenied => "permission denied".to_owned(),
            _ => source.to_string(),
        },
        other => other.to_string(),
    };
    let start = match endpoint {
        Endpoint::Unix(_) => format!("Start it with 'gorae daemon -H {endpoint}', or leave"),
        Endpoint::Tcp(_) | Endpoint::Tls { .. } | Endpoint::Ssh(_) => "Leave".to_owned(),
    };
    Failure::message(format!(
        "Cannot connect to the engine at {endpoint}: {why}. Is it running?\n\n{start} out -H, GORAE_HOST and DOCKER_HOST to use Gorae's own."
    ))
}

async fn start(client: &Client, globals: &Globals) -> anyhow::Result<()> {
    let run = globals::run_dir();
    let log = run.join("engine.log");
    complain(format!(
        "gorae: no engine is running; starting one in the background (log: {})",
        log.display()
    ));
    let mut child = spawn(&run, &log, globals)?;
    let begun = Instant::now();
    let mut pause = Duration::from_millis(2);
    loop {
        match client.connect().await {
            Ok(()) => return Ok(()),
            Err(error) if begun.elapsed() > PATIENCE => {
                return Err(error).context("the new engine does not listen");
            }
            Err(_) => {}
        }
        if let Some(status) = child.try_wait().context("cannot wait for the new engine")? {
            // another command may have started one in the same instant: then that one serves
            if client.connect().await.is_ok() {
                return Ok(());
            }
            let message = format!(
                "the engine ended at once ({status})\n{}\n\nTry 'gorae daemon' in the foreground.",
                tail(&log)
            );
            return Err(Failure::message(message).into());
        }
        tokio::time::sleep(pause).await;
        pause = (pause * 2).min(Duration::from_millis(50));
    }
}

/// Starts `gorae daemon` without a terminal; it makes a session of its own.
fn spawn(run: &Path, log: &Path, globals: &Globals) -> anyhow::Result<Child> {
    fs::DirBuilder::new()
        .recursive(true)
        .mode(0o711)
        .create(run)
        .with_context(|| format!("cannot create {}", run.display()))?;
    let out = File::options()
        .create(true)
        .append(true)
        .open(log)
        .with_context(|| format!("cannot open {}", log.display()))?;
    let errors = out
        .try_clone()
        .with_context(|| format!("cannot open {}", log.display()))?;
    let program = std::env::current_exe().context("cannot find the program's own file")?;
    let mut command = Command::new(program);
    command.args(["daemon", "--detached", "--run"]).arg(run);
    if let Some(root) = std::env::var_os("GORAE_ROOT").filter(|root| !root.is_empty()) {
        command.arg("--root").arg(root);
    }
    if globals.debug {
        command.args(["--log-level", "debug"]);
    }
    command
        .stdin(Stdio::null())
        .stdout(out)
        .stderr(errors)
        .current_dir("/");
    command.spawn().context("cannot start the engine")
}

fn tail(log: &Path) -> String {
    let text = fs::read(log).unwrap_or_default();
    let text = String::from_utf8_lossy(&text);
    let lines: Vec<&str> = text.lines().collect();
    lines[lines.len().saturating_sub(LOG_TAIL)..].join("\n")
}
