//! Every command and every flag of the `docker` command line's container, image, volume, network and
//! system groups, as its own `--help` lists them for this engine.
//!
//! The tables below run in order, each on an engine of its own. A flag that no line of them has fails
//! `no_flag_is_forgotten`, and so does one that `docker` does not know.

mod container;
mod create;
mod image;
mod others;
mod run;

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use testkit::docker::{Client, Outcome, words};
use testkit::engine::Engine;
use testkit::registry::Registry;

use crate::bench::{Checks, engine};

const GROUPS: [&str; 5] = ["container", "image", "volume", "network", "system"];
/// Building is not there yet.
const LEFT_OUT: &[&str] = &["image build"];

/// One command line, what is typed into it, and what is expected of it.
pub(crate) struct Case {
    line: &'static str,
    input: Input,
    expect: Expect,
}

enum Input {
    None,
    Pipe(&'static str),
    /// Typed into a terminal after each of these words has been seen.
    Terminal(&'static [(&'static str, &'static str)]),
    /// Ended by a signal after these words have been seen.
    Until(&'static str),
}

enum Expect {
    Any,
    Prints(&'static str),
    Shows(&'static [&'static str]),
    Fails(i32, &'static str),
}

/// A command that goes well.
const fn ok(line: &'static str) -> Case {
    case(line, Input::None, Expect::Any)
}

/// A command that goes well and prints just this.
const fn prints(line: &'static str, text: &'static str) -> Case {
    case(line, Input::None, Expect::Prints(text))
}

/// A command that goes well and prints all of these, on either output.
const fn shows(line: &'static str, texts: &'static [&'static str]) -> Case {
    case(line, Input::None, Expect::Shows(texts))
}

/// A command that ends with this code and says this, on either output.
const fn fails(line: &'static str, code: i32, text: &'static str) -> Case {
    case(line, Input::None, Expect::Fails(code, text))
}

/// A command with this input that prints just this.
const fn piped(line: &'static str, input: &'static str, text: &'static str) -> Case {
    case(line, Input::Pipe(input), Expect::Prints(text))
}

/// A command on a terminal: what is awaited, and then typed.
const fn typed(line: &'static str, steps: &'static [(&'static str, &'static str)]) -> Case {
    case(line, Input::Terminal(steps), Expect::Any)
}

/// A command on a terminal that is left with this code.
const fn leaves(
    line: &'static str,
    code: i32,
    steps: &'static [(&'static str, &'static str)],
) -> Case {
    case(line, Input::Terminal(steps), Expect::Fails(code, ""))
}

/// A command that goes on for ever, until it has said this.
const fn until(line: &'static str, text: &'static str) -> Case {
    case(line, Input::Until(text), Expect::Any)
}

const fn case(line: &'static str, input: Input, expect: Expect) -> Case {
    Case {
        line,
        input,
        expect,
    }
}

/// Where a table runs: an engine of its own, and for images a registry beside it.
struct Bench {
    engine: Engine,
    registry: Option<Registry>,
    disk: String,
    checks: Checks,
}

/// Runs a table on an engine of its own.
fn sweep(table: &[Case]) {
    Bench::new().sweep(table);
}

impl Bench {
    fn new() -> Self {
        let engine = engine();
        std::fs::write(
            engine.home().join("env"),
            "FROM=file
",
        )
        .unwrap();
        Self {
            engine,
            registry: None,
            disk: disk(),
            checks: Checks::default(),
        }
    }

    fn with_registry(mut self) -> Self {
        self.registry = Some(Registry::start().unwrap());
        self
    }

    fn sweep(&mut self, table: &[Case]) {
        for case in table {
            let line = self.fill(case.line);
            let outcome = match case.input {
                Input::None => self.engine.docker(&line),
                Input::Pipe(input) => {
                    let mut session = self.engine.session(Client::Docker, &line);
                    session.write(input).unwrap();
                    session.finish()
                }
                Input::Terminal(steps) => {
                    let mut session = self.engine.terminal(Client::Docker, &line);
                    for (seen, input) in steps {
                        session.expect(seen);
                        session.write(input).unwrap();
                    }
                    session.finish()
                }
                Input::Until(text) => {
                    let session = self.engine.session(Client::Docker, &line);
                    session.expect(&self.fill(text));
                    session.kill();
                    continue;
                }
            };
            self.judge(&case.expect, &outcome);
        }
    }

    fn judge(&mut self, expect: &Expect, outcome: &Outcome) {
        let both = format!("{}{}", outcome.stdout, outcome.stderr);
        let code = match expect {
            Expect::Fails(code, _) => *code,
            _ => 0,
        };
        let has = |text: &str| both.contains(&self.fill(text));
        let (is_so, expected) = match expect {
            Expect::Any => (true, "it goes well".to_owned()),
            Expect::Prints(text) => {
                let printed = outcome.stdout.replace('\r', "");
                (
                    printed.trim() == self.fill(text).trim(),
                    format!("{text:?}"),
                )
            }
            Expect::Shows(texts) => (texts.iter().all(|text| has(text)), format!("{texts:?}")),
            Expect::Fails(code, text) => (has(text), format!("{code} {text:?}")),
        };
        self.checks.note(is_so && outcome.code == code, || {
            format!("expected {expected}\n{outcome:?}")
        });
    }

    /// Puts in what differs: `{home}`, a folder of the test with a file `env`; `{cgroup}`, the parent of the
    /// engine's cgroups; `{arch}`, Docker's name of this architecture; `{disk}`, a block device; and
    /// `{registry}`.
    fn fill(&self, text: &str) -> String {
        let registry = self.registry.as_ref().map(Registry::name);
        text.replace("{home}", &self.engine.home().display().to_string())
            .replace("{cgroup}", self.engine.cgroup())
            .replace("{arch}", &oci::Platform::host().architecture)
            .replace("{disk}", &self.disk)
            .replace("{registry}", registry.as_deref().unwrap_or_default())
    }
}

/// A block device of this machine; its limits are set, not used.
fn disk() -> String {
    let all = std::fs::read_dir("/sys/block")
        .into_iter()
        .flatten()
        .flatten();
    let mut all = all.map(|entry| Path::new("/dev").join(entry.file_name()));
    let found = all.find(|path| path.exists());
    found
        .unwrap_or_else(|| "/dev/null".into())
        .display()
        .to_string()
}

/// The tables of all groups.
fn tables() -> impl Iterator<Item = &'static Case> {
    let tables = [
        run::CASES,
        create::CASES,
        container::CASES,
        container::STREAMS,
        container::FILES,
        image::CASES,
        others::VOLUMES,
        others::NETWORKS,
        others::SYSTEM,
    ];
    tables.into_iter().flatten()
}

/// The flags of one command: each long name with its short one, and whether it takes a value.
#[derive(Default)]
struct Flags {
    all: BTreeMap<String, bool>,
    short: BTreeMap<char, String>,
}

/// Reads the flags from what `--help` prints: `  -q, --quiet  ...` and `      --format string  ...`.
fn flags(help: &str) -> Flags {
    let mut flags = Flags::default();
    for line in help.lines().filter(|line| line.starts_with("  ")) {
        let line = line.trim_start();
        let (short, rest) = match line.split_once(", ") {
            Some((short, rest)) if short.len() == 2 && short.starts_with('-') => {
                (short.chars().nth(1), rest)
            }
            _ => (None, line),
        };
        let Some(rest) = rest.strip_prefix("--") else {
            continue;
        };
        let name = rest.split([' ', '\t']).next().unwrap().to_owned();
        let takes_value =
            rest[name.len()..].starts_with(' ') && !rest[name.len()..].starts_with("  ");
        flags.short.extend(short.map(|short| (short, name.clone())));
        flags.all.insert(name, takes_value);
    }
    flags
}

impl Flags {
    /// The flags that a command line has before its command's own words.
    fn used(&self, line: &str, mixed: bool) -> BTreeSet<String> {
        let words = words(line);
        let mut words = words.iter().map(|word| word.to_str().unwrap());
        let mut used = BTreeSet::new();
        while let Some(word) = words.next() {
            let (names, has_value) = match word.strip_prefix("--") {
                Some(name) => {
                    let (name, value) = name.split_once('=').unzip();
                    let name = name.unwrap_or(&word[2..]);
                    (vec![name.to_owned()], value.is_some())
                }
                None if word.len() > 1 && word.starts_with('-') => {
                    (self.letters(word, line), false)
                }
                None if mixed => continue,
                None => break,
            };
            let last = names.last().unwrap();
            let takes_value = *self
                .all
                .get(last)
                .unwrap_or_else(|| panic!("docker does not know --{last}: {line}"));
            if takes_value && !has_value && !word.contains('=') {
                words.next();
            }
            used.extend(names);
        }
        used
    }

    /// The long names of a word of letters, as `-it`; the first that takes a value ends it.
    fn letters(&self, word: &str, line: &str) -> Vec<String> {
        let mut names = Vec::new();
        for letter in word.chars().skip(1) {
            let name = self.short.get(&letter);
            let name = name.unwrap_or_else(|| panic!("docker does not know -{letter}: {line}"));
            names.push(name.clone());
            if self.all[name] {
                break;
            }
        }
        names
    }
}

#[test]
fn no_flag_is_forgotten() {
    let engine = engine();
    let mut forgotten = Vec::new();
    let (mut commands, mut count) = (0, 0);
    for group in GROUPS {
        let help = engine.docker(&format!("{group} --help"));
        for command in commands_of(help.ok()) {
            let verb = format!("{group} {command}");
            if LEFT_OUT.contains(&verb.as_str()) {
                continue;
            }
            let flags = flags(engine.docker(&format!("{verb} --help")).ok());
            // from the first other word on, these pass everything to a container
            let mixed = !["run", "create", "exec", "top"].contains(&command.as_str())
                || group != "container";
            let lines: Vec<&str> = tables()
                .filter_map(|case| case.line.strip_prefix(&verb)?.strip_prefix(' '))
                .chain(tables().filter(|case| case.line == verb).map(|_| ""))
                .collect();
            if lines.is_empty() {
                forgotten.push(verb.clone());
            }
            let used: BTreeSet<String> = lines
                .iter()
                .flat_map(|line| flags.used(line, mixed))
                .collect();
            let missing = flags.all.keys().filter(|name| !used.contains(*name));
            forgotten.extend(missing.map(|name| format!("{verb} --{name}")));
            commands += 1;
            count += flags.all.len();
        }
    }
    assert!(
        forgotten.is_empty(),
        "no case has\n{}",
        forgotten.join("\n")
    );
    assert!(
        commands >= 48 && count >= 300,
        "{commands} commands, {count} flags"
    );
    println!(
        "{commands} commands, {count} flags, {} lines",
        tables().count()
    );
}

/// The names in the list of commands that the help of a group has.
fn commands_of(help: &str) -> Vec<String> {
    let list = help.lines().skip_while(|line| *line != "Commands:").skip(1);
    let names = list.map_while(|line| line.strip_prefix("  "));
    let names = names.filter_map(|line| line.split(' ').next());
    names.map(str::to_owned).collect()
}

#[test]
fn flags_are_read_from_the_help() {
    let help = "Usage: docker x\n\nOptions:\n  -d, --detach           Run\n      --dns list         Set\n  -e, --env list    Set\n";
    let flags = flags(help);
    let check = |line: &str, expect: &[&str]| {
        let used: Vec<String> = flags.used(line, false).into_iter().collect();
        assert_eq!(used, expect, "{line}");
    };
    check("-d --dns 1.2.3.4 busybox -e", &["detach", "dns"]);
    check("-de A=1 busybox", &["detach", "env"]);
    check("--dns=1.2.3.4 --env a busybox --nosuch", &["dns", "env"]);
}
