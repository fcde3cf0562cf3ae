//! Why a Dockerfile cannot be converted.

use crate::gofmt::quote;
use crate::llb::GraphError;

use super::{GitError, PortError, ResolveError};

/// Why a Dockerfile cannot be converted.
#[derive(Debug, thiserror::Error)]
pub enum ConvertError {
    /// An option of the build is malformed.
    #[error("invalid {what} {value}")]
    Option {
        /// The option.
        what: String,
        /// Its value.
        value: String,
    },
    /// Several platforms where one is asked for.
    #[error("conflicting config: returning multiple target platforms is not allowed")]
    MultiPlatform,
    /// The options of the checks.
    #[error("failed to parse build-arg:BUILDKIT_DOCKERFILE_CHECK: {0}")]
    Checks(crate::lint::ConfigError),
    /// There is no `FROM`.
    #[error("dockerfile contains no stages to build")]
    NoStages,
    /// A base's name is empty.
    #[error("base name ({0}) should not be blank")]
    BlankBase(String),
    /// A platform is empty.
    #[error("empty platform value from expression {expression}{hint}")]
    EmptyPlatform {
        /// As written.
        expression: String,
        /// `(did you mean …?)`, or nothing.
        hint: String,
    },
    /// A platform is none.
    #[error("failed to parse platform {expression}: {}: cannot parse platform specifier: invalid argument{hint}", quote(.value))]
    Platform {
        /// As written.
        expression: String,
        /// After expansion.
        value: String,
        /// `(did you mean …?)`, or nothing.
        hint: String,
    },
    /// There is no such target.
    #[error("target stage {} could not be found{hint}", quote(.name))]
    Target {
        /// The target.
        name: String,
        /// `(did you mean …?)`, or nothing.
        hint: String,
    },
    /// A stage's name with a variable.
    #[error(
        "variable expansion is not supported for --from, define a new stage with FROM using ARG from global scope as a workaround"
    )]
    FromVariable,
    /// There is no stage with this number.
    #[error("invalid stage index {0}")]
    StageIndex(i64),
    /// Stages need each other.
    #[error("circular dependency detected on stage: {0}")]
    Cycle(String),
    /// A stage copies from a later one.
    #[error("cannot copy from stage {}, it needs to be defined before current stage {}", quote(.from), quote(.stage))]
    CopyOrder {
        /// The source.
        from: String,
        /// The stage that copies.
        stage: String,
    },
    /// A stage mounts a later one.
    #[error("cannot mount from stage {} to {}, stage needs to be defined before current command", quote(.from), quote(.target))]
    MountOrder {
        /// The source.
        from: String,
        /// The mount's path.
        target: String,
    },
    /// A base's name is no reference.
    #[error("failed to parse stage name {}: {error}", quote(.name))]
    StageReference {
        /// The name.
        name: String,
        /// What is wrong with it.
        error: oci::reference::ParseReferenceError,
    },
    /// An image is not to be had.
    #[error("{name}: {error}{hint}")]
    Resolve {
        /// The image as written.
        name: String,
        /// Why.
        error: ResolveError,
        /// `(did you mean …?)`, or nothing.
        hint: String,
    },
    /// An image's configuration is no JSON of that kind.
    #[error("failed to parse image config: {0}")]
    ImageConfig(serde_json::Error),
    /// An image's configuration cannot be written.
    #[error("failed to write image config: {0}")]
    WriteConfig(serde_json::Error),
    /// A named context's value is none.
    #[error("invalid context specifier {value} for {name}")]
    ContextSpecifier {
        /// The value.
        value: String,
        /// The context.
        name: String,
    },
    /// A named context is of no known kind.
    #[error("unsupported context source {kind} for {name}")]
    ContextSource {
        /// The kind.
        kind: String,
        /// The context.
        name: String,
    },
    /// A named context of OCI layout is no reference with a digest.
    #[error("oci-layout reference {} has no digest", quote(.0))]
    LayoutDigest(String),
    /// There is no such input.
    #[error("invalid input {input} for {name}")]
    ContextInput {
        /// The input.
        input: String,
        /// The context.
        name: String,
    },
    /// A named context's files could not be asked for.
    #[error("failed to load context {name}: {error}")]
    ContextLoad {
        /// The context.
        name: String,
        /// Why.
        error: ResolveError,
    },
    /// A context's ignore file is malformed.
    #[error("failed parsing .dockerignore: {0}")]
    ContextIgnore(#[from] crate::ignore::IgnoreError),
    /// A trigger of a base image is no instruction.
    #[error("onbuild trigger should be a single expression")]
    Trigger,
    /// Bases have triggers that need bases that have triggers.
    #[error("bases have triggers in more than {0} rounds")]
    TriggerRounds(usize),
    /// A step's here-document cannot be put together.
    #[error("parsing produced an invalid run command: {0}")]
    RunHeredoc(String),
    /// A mount's path is none.
    #[error("invalid mount target {}", quote(.0))]
    MountTarget(String),
    /// An octal mode is too large, or has other digits.
    #[error("invalid chmod parameter: '{0}'. it should be octal string and between 0 and 07777")]
    Octal(String),
    /// A symbolic mode is malformed.
    #[error("invalid syntax")]
    Mode,
    /// A checksum of several sources.
    #[error("checksum can't be specified for multiple sources")]
    ChecksumMany,
    /// A checksum of something that is not downloaded.
    #[error("checksum requires HTTP(S) or Git sources")]
    ChecksumSource,
    /// A checksum is no digest.
    #[error("{0}")]
    Digest(&'static str),
    /// Two checksums.
    #[error("checksum mismatch {} != {}", quote(.0), quote(.1))]
    ChecksumMismatch(String, String),
    /// Two wishes about `.git`.
    #[error("inconsistent keep-git-dir configuration")]
    KeepGitDir,
    /// `COPY` of a repository.
    #[error("source can't be a git ref for COPY")]
    CopyGit,
    /// `COPY` of a URL.
    #[error("source can't be a URL for COPY")]
    CopyUrl,
    /// A repository's URL is malformed.
    #[error(transparent)]
    Git(#[from] GitError),
    /// A port is none.
    #[error(transparent)]
    Port(#[from] PortError),
    /// A signal is none.
    #[error("invalid signal: {0}")]
    Signal(String),
    /// A volume without a name.
    #[error("VOLUME specified can not be an empty string")]
    EmptyVolume,
    /// The time is no number.
    #[error("invalid SOURCE_DATE_EPOCH: {0}")]
    Epoch(String),
    /// Warnings are errors.
    #[error("lint violation found for rules: {0}")]
    Violations(String),
    /// Too many variables.
    #[error("a stage has more than {0} environment variables")]
    TooManyVariables(usize),
    /// Too much of something.
    #[error("there are more than {most} {what}")]
    TooMany {
        /// Of what.
        what: &'static str,
        /// The most that is allowed.
        most: usize,
    },
    /// Too long a history.
    #[error("the history is longer than {0} bytes")]
    HistoryTooLong(usize),
    /// The graph is too large.
    #[error(transparent)]
    Graph(#[from] GraphError),
}
