//! The per-container monitor `gorae-shim`, and the process 1 of `--init`.
//!
//! Without arguments it is the monitor, and its standard input is the engine's control connection.
//! `gorae-shim init -- PROGRAM...`, or the name `docker-init`, is the reaper.
#![forbid(unsafe_code)]

mod init;
mod monitor;

use std::ffi::OsString;
use std::io::Write;
use std::path::Path;
use std::process::ExitCode;

const USAGE: &str = "gorae-shim is started by the engine `gorae daemon`; it has no use by hand.\n";

fn main() -> ExitCode {
    let mut args = std::env::args_os();
    let name = args.next().unwrap_or_default();
    let mut rest: Vec<OsString> = args.collect();
    if Path::new(&name)
        .file_name()
        .is_some_and(|name| name == "docker-init")
    {
        return init::run(rest);
    }
    match rest.first().and_then(|first| first.to_str()) {
        Some("init") => init::run(rest.split_off(1)),
        Some("--version") => say(&format!("gorae-shim {}\n", env!("CARGO_PKG_VERSION"))),
        None if monitor::has_control() && rest.is_empty() => monitor::run(),
        _ => {
            complain(USAGE);
            ExitCode::from(2)
        }
    }
}

fn say(text: &str) -> ExitCode {
    let written = std::io::stdout().write_all(text.as_bytes());
    if written.is_ok() {
        ExitCode::SUCCESS
    } else {
        ExitCode::FAILURE
    }
}

/// Tells the user on standard error; nothing can be done where even that fails.
fn complain(text: &str) {
    let _written = std::io::stderr().write_all(text.as_bytes());
}
