//! Verbs and their flags as tables, and the reading of a command line by pflag's rules: `-itd`, `--rm=false`,
//! repeated flags, values that begin with a dash.

use crate::failure::Failure;
use crate::globals::Globals;
use api::client::Client;
use clap::error::{ContextKind, ContextValue, ErrorKind};
use clap::{Arg, ArgAction, ArgMatches, Command};
use std::ffi::OsString;
use std::future::Future;
use std::pin::Pin;

/// What a flag takes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    /// Nothing, or `=true` or `=false`.
    Switch,
    /// The same, for what is on by default.
    SwitchOn,
    /// One value; the last one counts.
    One,
    /// Nothing, or `=value`.
    Maybe,
    /// One value each time.
    Many,
}

/// A flag of a verb.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Flag {
    pub(crate) long: &'static str,
    pub(crate) short: Option<char>,
    pub(crate) kind: Kind,
    /// What help calls the value.
    pub(crate) value: &'static str,
    pub(crate) help: &'static str,
    /// What holds without the flag, where help shall tell it.
    pub(crate) default: &'static str,
    pub(crate) hidden: bool,
}

impl Flag {
    pub(crate) const fn switch(long: &'static str, help: &'static str) -> Self {
        Self {
            long,
            short: None,
            kind: Kind::Switch,
            value: "",
            help,
            default: "",
            hidden: false,
        }
    }

    pub(crate) const fn switch_on(long: &'static str, help: &'static str) -> Self {
        Self {
            kind: Kind::SwitchOn,
            ..Self::switch(long, help)
        }
    }

    pub(crate) const fn one(long: &'static str, value: &'static str, help: &'static str) -> Self {
        Self {
            kind: Kind::One,
            value,
            ..Self::switch(long, help)
        }
    }

    pub(crate) const fn many(long: &'static str, value: &'static str, help: &'static str) -> Self {
        Self {
            kind: Kind::Many,
            value,
            ..Self::switch(long, help)
        }
    }

    pub(crate) const fn maybe(long: &'static str, value: &'static str, help: &'static str) -> Self {
        Self {
            kind: Kind::Maybe,
            value,
            ..Self::switch(long, help)
        }
    }

    /// The same flag, whose help tells its default.
    pub(crate) const fn default(self, default: &'static str) -> Self {
        Self { default, ..self }
    }

    /// The same flag with a short name.
    pub(crate) const fn short(self, short: char) -> Self {
        Self {
            short: Some(short),
            ..self
        }
    }

    /// The same flag, left out of the help.
    pub(crate) const fn hidden(self) -> Self {
        Self {
            hidden: true,
            ..self
        }
    }

    /// The flag as error messages name it.
    fn shown(&self) -> String {
        match self.short {
            Some(short) => format!("-{short}, --{}", self.long),
            None => format!("--{}", self.long),
        }
    }

    fn to_arg(self) -> Arg {
        let mut arg = Arg::new(self.long)
            .long(self.long)
            .help(self.help)
            .hide(self.hidden);
        if let Some(short) = self.short {
            arg = arg.short(short);
        }
        match self.kind {
            Kind::Switch | Kind::SwitchOn => arg
                .action(ArgAction::Set)
                .num_args(0..=1)
                .require_equals(true)
                .default_missing_value("true")
                .hide_possible_values(true),
            Kind::Maybe => arg
                .action(ArgAction::Set)
                .num_args(0..=1)
                .require_equals(true)
                .default_missing_value("")
                .value_name(self.value),
            Kind::One => arg
                .action(ArgAction::Set)
                .allow_hyphen_values(true)
                .value_name(self.value),
            Kind::Many => arg
                .action(ArgAction::Append)
                .allow_hyphen_values(true)
                .value_name(self.value),
        }
    }
}

/// How many operands a verb takes, and whether flags may stand behind them.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Operands {
    pub(crate) least: usize,
    pub(crate) most: usize,
    /// The first operand ends the flags: the rest is a command of its own.
    pub(crate) verbatim: bool,
}

impl Operands {
    pub(crate) const NONE: Self = Self::between(0, 0);

    pub(crate) const fn between(least: usize, most: usize) -> Self {
        Self {
            least,
            most,
            verbatim: false,
        }
    }

    pub(crate) const fn at_least(least: usize) -> Self {
        Self {
            least,
            most: usize::MAX,
            verbatim: false,
        }
    }

    /// At least this many; all behind the first are taken as they stand.
    pub(crate) const fn verbatim(least: usize) -> Self {
        Self {
            least,
            most: usize::MAX,
            verbatim: true,
        }
    }
}

/// What running a verb gives: the exit status.
pub(crate) type Outcome<'a> = Pin<Box<dyn Future<Output = anyhow::Result<u8>> + 'a>>;

/// A verb of the command line.
#[derive(Debug)]
pub(crate) struct Verb {
    pub(crate) about: &'static str,
    /// What stands behind the verb in the usage line.
    pub(crate) usage: &'static str,
    pub(crate) operands: Operands,
    pub(crate) flags: &'static [&'static [Flag]],
    /// Lines of `command # what it does` at the end of the help.
    pub(crate) examples: &'static [(&'static str, &'static str)],
    pub(crate) run: fn(&Call) -> Outcome<'_>,
}

impl Verb {
    pub(crate) fn flags(&self) -> impl Iterator<Item = &'static Flag> {
        self.flags.iter().flat_map(|table| table.iter())
    }

    /// The verb as clap knows it.
    pub(crate) fn to_command(&self, name: &'static str) -> Command {
        let operands = Arg::new("operands")
            .num_args(0..)
            .hide(true)
            .value_parser(clap::value_parser!(String));
        Command::new(name)
            .about(self.about)
            .disable_help_flag(true)
            .disable_version_flag(true)
            .args_override_self(true)
            .no_binary_name(true)
            .args(self.flags().map(|flag| flag.to_arg()))
            .arg(
                Arg::new("help")
                    .long("help")
                    .help("Print usage")
                    .action(ArgAction::SetTrue),
            )
            .arg(
                operands
                    .trailing_var_arg(self.operands.verbatim)
                    .action(ArgAction::Append),
            )
    }
}

/// A command line that was read: the verb, its flags and operands, and the engine to ask.
#[derive(Debug)]
pub(crate) struct Call {
    pub(crate) verb: &'static Verb,
    /// The words that led to the verb, such as `container ls`.
    pub(crate) path: String,
    pub(crate) globals: Globals,
    pub(crate) client: Client,
    pub(crate) operands: Vec<String>,
    matches: ArgMatches,
}

/// What a command line asks for.
pub(crate) enum Reading {
    Call(Box<Call>),
    Help,
}

impl Call {
    /// Reads the words behind the verb.
    pub(crate) fn read(
        verb: &'static Verb,
        path: &str,
        words: Vec<OsString>,
        globals: Globals,
        client: Client,
    ) -> Result<Reading, Failure> {
        let shown = words.clone();
        let mut matches = verb
            .to_command("gorae")
            .try_get_matches_from(words)
            .map_err(|error| usage(verb, path, &unreadable(verb, &error, &shown)))?;
        if matches.get_flag("help") {
            return Ok(Reading::Help);
        }
        let operands: Vec<String> = matches
            .remove_many("operands")
            .map(Iterator::collect)
            .unwrap_or_default();
        let call = Self {
            verb,
            path: path.to_owned(),
            globals,
            client,
            operands,
            matches,
        };
        for flag in verb.flags() {
            if matches!(flag.kind, Kind::Switch | Kind::SwitchOn)
                && let Some(text) = call.text(flag.long)
                && parse_bool(text).is_none()
            {
                let why = format!("strconv.ParseBool: parsing {text:?}: invalid syntax");
                return Err(call.invalid(flag.long, text, &why));
            }
        }
        call.count_operands()?;
        Ok(Reading::Call(Box::new(call)))
    }

    fn count_operands(&self) -> Result<(), Failure> {
        let Operands { least, most, .. } = self.verb.operands;
        let given = self.operands.len();
        let plural = |count: usize| if count == 1 { "argument" } else { "arguments" };
        let wish = if given >= least && given <= most {
            return Ok(());
        } else if most == 0 {
            "accepts no arguments".to_owned()
        } else if least == most {
            format!("requires {least} {}", plural(least))
        } else if given < least && most == usize::MAX {
            format!("requires at least {least} {}", plural(least))
        } else if given > most && least == 0 {
            format!("requires at most {most} {}", plural(most))
        } else {
            format!(
                "requires at least {least} and at most {most} {}",
                plural(most)
            )
        };
        Err(self.misused(&wish))
    }

    /// A command line whose operands do not fit the verb, which says what it wishes.
    pub(crate) fn misused(&self, wish: &str) -> Failure {
        let path = &self.path;
        Failure::Usage {
            message: format!("gorae: 'gorae {path}' {wish}"),
            usage: usage_line(self.verb, path),
            path: path.clone(),
            code: 1,
        }
    }

    /// Whether the flag was given at all.
    pub(crate) fn given(&self, name: &str) -> bool {
        self.matches.try_contains_id(name).unwrap_or(false)
    }

    /// The flag's last value.
    pub(crate) fn text(&self, name: &str) -> Option<&str> {
        // verbs share code: one that lacks the flag never has it given
        let value = self.matches.try_get_one::<String>(name);
        value.ok().flatten().map(String::as_str)
    }

    /// The flag's last value, or the empty text.
    pub(crate) fn text_or_empty(&self, name: &str) -> String {
        self.text(name).unwrap_or_default().to_owned()
    }

    /// All values of the flag.
    pub(crate) fn list(&self, name: &str) -> Vec<&str> {
        self.matches
            .try_get_many::<String>(name)
            .ok()
            .flatten()
            .map(|all| all.map(String::as_str).collect())
            .unwrap_or_default()
    }

    /// Whether the switch is on.
    pub(crate) fn on(&self, name: &str) -> bool {
        self.text(name).and_then(parse_bool).unwrap_or(false)
    }

    /// Whether a switch that is on by default stayed on.
    pub(crate) fn still_on(&self, name: &str) -> bool {
        self.text(name).and_then(parse_bool).unwrap_or(true)
    }

    /// The flag's value as an integer.
    pub(crate) fn integer(&self, name: &str) -> Result<Option<i64>, Failure> {
        let Some(text) = self.text(name) else {
            return Ok(None);
        };
        match text.parse() {
            Ok(number) => Ok(Some(number)),
            Err(_) => {
                let why = format!("strconv.ParseInt: parsing {text:?}: invalid syntax");
                Err(self.invalid(name, text, &why))
            }
        }
    }

    /// The flag's value as `parse` reads it.
    pub(crate) fn parsed<T>(
        &self,
        name: &str,
        parse: impl FnOnce(&str) -> Result<T, String>,
    ) -> Result<Option<T>, Failure> {
        let Some(text) = self.text(name) else {
            return Ok(None);
        };
        parse(text)
            .map(Some)
            .map_err(|why| self.invalid(name, text, &why))
    }

    /// The flag's values as `parse` reads each.
    pub(crate) fn parsed_list<T>(
        &self,
        name: &str,
        parse: impl Fn(&str) -> Result<T, String>,
    ) -> Result<Vec<T>, Failure> {
        self.list(name)
            .into_iter()
            .map(|text| parse(text).map_err(|why| self.invalid(name, text, &why)))
            .collect()
    }

    /// A flag whose value is wrong.
    pub(crate) fn invalid(&self, name: &str, text: &str, why: &str) -> Failure {
        let shown = self
            .verb
            .flags()
            .find(|flag| flag.long == name)
            .map_or_else(String::new, Flag::shown);
        usage(
            self.verb,
            &self.path,
            &format!("invalid argument {text:?} for \"{shown}\" flag: {why}"),
        )
    }
}

/// Go's `strconv.ParseBool`.
fn parse_bool(text: &str) -> Option<bool> {
    match text {
        "1" | "t" | "T" | "true" | "TRUE" | "True" => Some(true),
        "0" | "f" | "F" | "false" | "FALSE" | "False" => Some(false),
        _ => None,
    }
}

pub(crate) fn usage_line(verb: &Verb, path: &str) -> String {
    format!("gorae {path} {}", verb.usage).trim_end().to_owned()
}

fn usage(verb: &Verb, path: &str, message: &str) -> Failure {
    Failure::Usage {
        message: message.to_owned(),
        usage: usage_line(verb, path),
        path: path.to_owned(),
        code: 125,
    }
}

/// What pflag says of a command line that clap refuses.
fn unreadable(verb: &Verb, error: &clap::Error, words: &[OsString]) -> String {
    let argument = match error.get(ContextKind::InvalidArg) {
        Some(ContextValue::String(text)) => text.clone(),
        Some(ContextValue::Strings(texts)) => texts.first().cloned().unwrap_or_default(),
        _ => String::new(),
    };
    match error.kind() {
        ErrorKind::UnknownArgument => match argument.strip_prefix("--") {
            Some(name) => format!(
                "unknown flag: --{}",
                name.split('=').next().unwrap_or_default()
            ),
            None => {
                let letter = argument
                    .trim_start_matches('-')
                    .chars()
                    .next()
                    .unwrap_or('-');
                format!(
                    "unknown shorthand flag: '{letter}' in {}",
                    cluster(words, letter)
                )
            }
        },
        ErrorKind::InvalidValue | ErrorKind::WrongNumberOfValues | ErrorKind::NoEquals => {
            // clap shows the flag as `--name <value>` or `-e, --env <list>`
            let name = argument.split("--").nth(1).unwrap_or_default();
            let name = name.split([' ', '=', '[']).next().unwrap_or_default();
            let last = words
                .last()
                .and_then(|word| word.to_str())
                .unwrap_or_default();
            match verb
                .flags()
                .find(|flag| flag.long == name)
                .and_then(|flag| flag.short)
            {
                Some(short) if !last.starts_with("--") && last.ends_with(short) => {
                    format!("flag needs an argument: '{short}' in {last}")
                }
                _ => format!("flag needs an argument: --{name}"),
            }
        }
        ErrorKind::InvalidUtf8 => "an argument is not valid UTF-8".to_owned(),
        _ => error
            .to_string()
            .lines()
            .next()
            .unwrap_or_default()
            .trim_start_matches("error: ")
            .to_owned(),
    }
}

/// The word that holds an unknown short flag.
fn cluster(words: &[OsString], letter: char) -> String {
    words
        .iter()
        .filter_map(|word| word.to_str())
        .find(|word| word.starts_with('-') && !word.starts_with("--") && word.contains(letter))
        .map_or_else(
            || format!("-{letter}"),
            |word| {
                let at = word.find(letter).unwrap_or(1);
                format!("-{}", &word[at..])
            },
        )
}
