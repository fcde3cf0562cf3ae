//! The program of the built-in image `gorae/hello`: shows what a container sees.
//!
//! Without arguments it prints its namespaces, limits, root file system, network and privileges;
//! `serve [PORT]` shows the same as a web page with live figures. It only reads, from `/proc` and
//! `/sys` as they are inside the container, and knows nothing of Gorae: on any other engine, or on
//! none, it shows what is there.
//!
//! The build script of crate `builtin` compiles it by rustc alone, so it uses std and nothing else.
#![forbid(unsafe_code)]

mod cgroup;
mod facts;
mod live;
mod network;
mod proc;
mod serve;

use std::io::{self, Write};
use std::process::ExitCode;

/// The port of `serve` that the image declares as exposed.
const DEFAULT_PORT: u16 = 8080;

const USAGE: &str = "Usage:  hello               print what this container sees
        hello TOPIC         print one part of it: container, namespaces, limits, root, network or privileges
        hello serve [PORT]  show it as a web page, on port 8080 unless told otherwise";

/// What the arguments ask for.
#[derive(Debug, PartialEq, Eq)]
enum Task {
    Print,
    /// One section, by its title.
    PrintOne(&'static str),
    Serve(u16),
    Help,
}

fn main() -> ExitCode {
    let words: Vec<String> = std::env::args_os()
        .skip(1)
        .map(|word| word.to_string_lossy().into_owned())
        .collect();
    let words: Vec<&str> = words.iter().map(String::as_str).collect();
    let done = match parse(&words) {
        Ok(Task::Print) => print(),
        Ok(Task::PrintOne(title)) => print_one(title),
        Ok(Task::Serve(port)) => serve::serve(port),
        Ok(Task::Help) => writeln!(io::stdout(), "{USAGE}"),
        Err(message) => return complain(&format!("{message}\n\n{USAGE}"), 2),
    };
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => complain(&error.to_string(), 1),
    }
}

fn parse(words: &[&str]) -> Result<Task, String> {
    match words {
        [] => Ok(Task::Print),
        ["-h" | "--help" | "help"] => Ok(Task::Help),
        ["serve"] => Ok(Task::Serve(DEFAULT_PORT)),
        ["serve", port] => match port.parse() {
            Ok(port) if port != 0 => Ok(Task::Serve(port)),
            _ => Err(format!(
                "invalid port {port:?}: it must be a number from 1 to 65535"
            )),
        },
        [topic] => facts::TITLES
            .into_iter()
            .find(|title| {
                title
                    .split(' ')
                    .next()
                    .is_some_and(|word| word.eq_ignore_ascii_case(topic))
            })
            .map(Task::PrintOne)
            .ok_or_else(|| format!("unknown topic {topic:?}")),
        [_, second, ..] => Err(format!("{second:?} is one argument too many")),
    }
}

fn print() -> io::Result<()> {
    let mut out = io::stdout().lock();
    writeln!(out, "Hello from a container. This is what it sees.")?;
    for section in facts::sections() {
        writeln!(out, "\n{}", section.title)?;
        print_section(&mut out, &section)?;
    }
    writeln!(
        out,
        "\nThe same as a page: gorae run --rm -p 8080:8080 gorae/hello serve"
    )
}

fn print_one(title: &str) -> io::Result<()> {
    let mut out = io::stdout().lock();
    facts::sections()
        .iter()
        .filter(|section| section.title == title)
        .try_for_each(|section| print_section(&mut out, section))
}

fn print_section(out: &mut impl Write, section: &facts::Section) -> io::Result<()> {
    let width = section
        .facts
        .iter()
        .map(|fact| fact.name.len())
        .max()
        .unwrap_or(0);
    section
        .facts
        .iter()
        .try_for_each(|fact| writeln!(out, "  {:width$}  {}", fact.name, fact.value))
}

fn complain(text: &str, code: u8) -> ExitCode {
    // nobody is left to tell when stderr is gone too
    drop(writeln!(io::stderr(), "hello: {text}"));
    ExitCode::from(code)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn arguments() {
        assert_eq!(parse(&[]), Ok(Task::Print));
        assert_eq!(parse(&["serve"]), Ok(Task::Serve(8080)));
        assert_eq!(parse(&["serve", "81"]), Ok(Task::Serve(81)));
        assert_eq!(parse(&["--help"]), Ok(Task::Help));
        assert_eq!(parse(&["limits"]), Ok(Task::PrintOne("Limits")));
        assert_eq!(parse(&["root"]), Ok(Task::PrintOne("Root file system")));
        for wrong in [
            &["serve", "0"][..],
            &["serve", "x"],
            &["serve", "65536"],
            &["dance"],
            &["serve", "1", "2"],
        ] {
            assert!(parse(wrong).is_err(), "{wrong:?}");
        }
    }
}
