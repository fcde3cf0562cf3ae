//! What instructions mean: typed values with their flags.

mod flags;
mod mount;
mod parse;

use crate::gofmt::DurationError;
use crate::span::Span;

pub(crate) use mount::parse as parse_mount;
pub use mount::{Mount, MountError, MountKind, Sharing};
pub(crate) use parse::parse_command;
pub use parse::{Parsed, parse};

/// Why an instruction is none.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum InstructionError {
    /// Nobody knows it.
    #[error("unknown instruction: {name}{hint}")]
    Unknown {
        /// Its name.
        name: String,
        /// `(did you mean …?)`, or nothing.
        hint: String,
    },
    /// A flag is wrong.
    #[error(transparent)]
    Flag(#[from] flags::FlagError),
    /// A mount is wrong.
    #[error(transparent)]
    Mount(#[from] MountError),
    /// It has no argument.
    #[error("{0} requires at least one argument")]
    AtLeastOne(&'static str),
    /// It has none or several.
    #[error("{0} requires exactly one argument")]
    ExactlyOne(&'static str),
    /// A copy has no destination.
    #[error(
        "{0} requires at least two arguments, but only one was provided. Destination could not be determined"
    )]
    NoDestination(&'static str),
    /// A copy's destination is a here-document.
    #[error("{0} cannot accept a heredoc as a destination")]
    HeredocDestination(&'static str),
    /// A name is empty.
    #[error("{0} names can not be blank")]
    BlankName(&'static str),
    /// `FROM` has another number of words.
    #[error("FROM requires either one or three arguments")]
    FromArguments,
    /// A stage's name has other characters than allowed.
    #[error("invalid name for build stage: {}, name can't start with a number or contain symbols", crate::gofmt::quote(.0))]
    StageName(String),
    /// `ONBUILD ONBUILD`.
    #[error("Chaining ONBUILD via `ONBUILD ONBUILD` isn't allowed")]
    ChainedOnbuild,
    /// An instruction that cannot be deferred.
    #[error("{0} isn't allowed as an ONBUILD trigger")]
    Trigger(String),
    /// `HEALTHCHECK NONE` with arguments.
    #[error("HEALTHCHECK NONE takes no arguments")]
    HealthcheckNone,
    /// A health check of no known type.
    #[error("Unknown type {} in HEALTHCHECK (try CMD)", crate::gofmt::quote(.0))]
    HealthcheckType(String),
    /// A health check without a command.
    #[error("Missing command after HEALTHCHECK CMD")]
    HealthcheckCommand,
    /// An interval is no duration.
    #[error(transparent)]
    Duration(#[from] DurationError),
    /// An interval is too short.
    #[error("Interval {} cannot be less than 1ms", crate::gofmt::quote(.0))]
    Interval(&'static str),
    /// A number is none.
    #[error("strconv.ParseInt: parsing {}: invalid syntax", crate::gofmt::quote(.0))]
    Number(String),
    /// A number of tries below zero.
    #[error("--retries cannot be negative ({0})")]
    Retries(i64),
    /// A volume without a name.
    #[error("VOLUME specified can not be an empty string")]
    EmptyVolume,
    /// `SHELL` without an array.
    #[error("{0} requires the arguments to be in JSON form")]
    NotJson(&'static str),
    /// A network mode that is none.
    #[error("invalid network mode {}", crate::gofmt::quote(.0))]
    Network(String),
    /// A security mode that is none.
    #[error("security {} is not valid", crate::gofmt::quote(.0))]
    Security(String),
    /// A device that is none.
    #[error("invalid device {}", crate::gofmt::quote(.0))]
    Device(String),
}

/// A name with a value.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Pair {
    /// The name.
    pub key: String,
    /// The value.
    pub value: String,
    /// Whether it was written without an equals sign.
    pub legacy: bool,
}

/// A build argument.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Argument {
    /// The name.
    pub key: String,
    /// The default.
    pub value: Option<String>,
    /// What the comment before it says of it.
    pub comment: String,
}

/// A command line of `RUN`, `CMD` or `ENTRYPOINT`.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct CommandLine {
    /// Its words; one word where a shell is to read it.
    pub words: Vec<String>,
    /// Whether a shell is to read it.
    pub shell: bool,
}

/// A here-document of a `COPY` or `ADD`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct InlineFile {
    /// The file's name.
    pub name: String,
    /// What is in it.
    pub data: String,
    /// Whether variables in it are expanded.
    pub expand: bool,
}

/// `COPY` and `ADD`.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Transfer {
    /// The paths, patterns and URLs.
    pub sources: Vec<String>,
    /// The here-documents.
    pub inline: Vec<InlineFile>,
    /// Where all of it goes.
    pub destination: String,
    /// The stage, image or context to copy from.
    pub from: String,
    /// The owner, by name or number.
    pub chown: String,
    /// The mode, octal or symbolic.
    pub chmod: String,
    /// Whether the files make a layer that is independent of what is below.
    pub link: bool,
    /// Whether the sources' folders are kept.
    pub parents: bool,
    /// What is left out.
    pub exclude: Vec<String>,
    /// The digest that a download must have.
    pub checksum: String,
    /// Whether a repository's `.git` stays.
    pub keep_git_dir: Option<bool>,
    /// Whether archives are unpacked.
    pub unpack: Option<bool>,
}

/// Networks of a step.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Network {
    /// As the whole build.
    #[default]
    Default,
    /// None.
    None,
    /// The host's.
    Host,
}

/// A device of a step, by its CDI name.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Device {
    /// The name.
    pub name: String,
    /// Whether the step fails without it.
    pub required: bool,
}

/// A here-document of a `RUN`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ShellFile {
    /// The word that ends it.
    pub name: String,
    /// What is in it.
    pub data: String,
    /// Whether tabs at the start of its lines go away.
    pub chomp: bool,
}

/// `RUN`.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Run {
    /// The command.
    pub line: CommandLine,
    /// The here-documents.
    pub files: Vec<ShellFile>,
    /// The mounts as they are written: variables in them are expanded later.
    pub mounts: Vec<String>,
    /// Where each mount comes from: this has no variables.
    pub mount_sources: Vec<String>,
    /// The network.
    pub network: Network,
    /// Whether the step runs without confinement.
    pub insecure: bool,
    /// The devices.
    pub devices: Vec<Device>,
}

/// A health check, times in nanoseconds; 0 is "as the base says".
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Healthcheck {
    /// `NONE`, `CMD` or `CMD-SHELL`, and the command.
    pub test: Vec<String>,
    /// Time between checks.
    pub interval: i64,
    /// Time that a check may take.
    pub timeout: i64,
    /// Time in which failures do not count.
    pub start_period: i64,
    /// Time between checks in the start period.
    pub start_interval: i64,
    /// Failures that make a container unhealthy.
    pub retries: i64,
}

/// What an instruction does.
#[derive(Clone, Debug, PartialEq, Eq)]
#[expect(missing_docs, reason = "the variants are the language's instructions")]
pub enum Action {
    Add(Transfer),
    Arg(Vec<Argument>),
    Cmd(CommandLine),
    Copy(Transfer),
    Entrypoint(CommandLine),
    Env(Vec<Pair>),
    Expose(Vec<String>),
    Healthcheck(Healthcheck),
    Label(Vec<Pair>),
    Maintainer(String),
    Onbuild(String),
    Run(Box<Run>),
    Shell(Vec<String>),
    StopSignal(String),
    User(String),
    Volume(Vec<String>),
    Workdir(String),
}

/// An instruction of a stage.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Command {
    /// What it does.
    pub action: Action,
    /// Its name in the file's own case.
    pub name: String,
    /// Its line, as written.
    pub code: String,
    /// Its lines in the file.
    pub span: Span,
    /// The comments right before it.
    pub comments: Vec<String>,
}

/// A stage: `FROM` and what follows.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Stage {
    /// Its name in lower case, or nothing.
    pub name: String,
    /// The image or stage it starts from, as written.
    pub base: String,
    /// `--platform`, as written.
    pub platform: String,
    /// The line of its `FROM`.
    pub code: String,
    /// `FROM` in the file's own case.
    pub keyword: String,
    /// The lines of its `FROM`.
    pub span: Span,
    /// The comments right before it.
    pub comments: Vec<String>,
    /// What the comment before it says of it.
    pub description: String,
    /// Its instructions.
    pub commands: Vec<Command>,
}
