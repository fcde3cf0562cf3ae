//! The command line `gorae`: Docker's verbs and flags, tables and texts, and `gorae daemon`, the engine.
//!
//! It reads words, asks the engine over its socket, and shows answers. It never touches the engine's files, a container's
//! processes or the kernel: with `-H` it drives any engine that speaks Docker's API.
#![forbid(unsafe_code)]

mod args;
mod auth;
mod build;
mod commands;
mod connect;
mod create;
mod csv;
mod endpoint;
mod failure;
mod filter;
mod format;
mod globals;
mod help;
mod inspect;
mod output;
mod pull;
mod registry;
mod remote;
mod run;
mod stream;
mod tabwriter;
mod template;
mod terminal;
mod tree;
mod units;
mod upload;

use args::{Call, Reading};
use failure::Failure;
use std::ffi::OsStr;
use std::io;
use std::path::Path;
use std::process::ExitCode;

fn main() -> ExitCode {
    match start() {
        Ok(code) => ExitCode::from(code),
        Err(error) => ExitCode::from(show(&error)),
    }
}

/// Reads the command line and runs its verb.
fn start() -> anyhow::Result<u8> {
    let mut words = std::env::args_os();
    if is_dockerd(words.next()) {
        return commands::dockerd::main(words.collect());
    }
    let mut split = globals::split(words)?;
    if split.words.first().is_some_and(|word| word == "help") {
        split.words.remove(0);
        split.help = true;
    }
    if split.version {
        output::line(format!("Gorae version {}", env!("CARGO_PKG_VERSION")))?;
        return Ok(0);
    }
    let words: Vec<String> = split
        .words
        .iter()
        .map(|word| word.to_string_lossy().into_owned())
        .collect();
    let (path, found) = match tree::find(&words) {
        tree::Found::Verb { path, entry, used } => (path, (entry, used)),
        tree::Found::Group(group) => return help::group(group).map(|()| 0),
        tree::Found::Nothing => return help::root().map(|()| 0),
        tree::Found::Unknown { path, group } => return Err(help::unknown(&path, group).into()),
    };
    let (entry, used) = found;
    if split.help {
        return help::verb(entry.verb, &path).map(|()| 0);
    }
    // the engine itself asks nobody, and its environment may name another one
    let endpoint = match entry.blocking {
        Some(_) => globals::own_endpoint(),
        None => endpoint::find(&split.globals)?,
    };
    let client = api::client::Client::new(endpoint);
    let rest = split.words.into_iter().skip(used).collect();
    let call = match Call::read(entry.verb, &path, rest, split.globals, client)? {
        Reading::Help => return help::verb(entry.verb, &path).map(|()| 0),
        Reading::Call(call) => call,
    };
    if let Some(blocking) = entry.blocking {
        return blocking(&call);
    }
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()?;
    let result = runtime.block_on((entry.verb.run)(&call));
    // a task that still reads the terminal must not hold the exit up
    runtime.shutdown_background();
    result
}

/// Whether the program was called by the name of Docker's engine.
fn is_dockerd(program: Option<std::ffi::OsString>) -> bool {
    let program = program.unwrap_or_default();
    Path::new(&program).file_name() == Some(OsStr::new("dockerd"))
}

/// Writes the error and its hint; gives the exit status.
fn show(error: &anyhow::Error) -> u8 {
    let broken_pipe = error
        .chain()
        .filter_map(|cause| cause.downcast_ref::<io::Error>())
        .any(|cause| cause.kind() == io::ErrorKind::BrokenPipe);
    let of_engine = error
        .chain()
        .any(|cause| cause.is::<api::client::ClientError>());
    if broken_pipe && !of_engine {
        // the reader of our output has what it wanted
        return 141;
    }
    let text = failure::chain(error);
    if !text.is_empty() {
        output::complain(&text);
        if let Some(hint) = failure::hint(&text) {
            output::complain(format!("\nHint: {hint}"));
        }
    }
    error.downcast_ref::<Failure>().map_or(1, Failure::code)
}
