//! Checks: rules about a Dockerfile's style and its traps.

use std::cell::RefCell;
use std::collections::BTreeSet;
use std::rc::Rc;

use crate::gofmt::{parse_bool, quote};
use crate::span::Span;
use crate::syntax::comment_directive;

/// More warnings than these are not kept.
const MAX_WARNINGS: usize = 1_000;

/// A rule.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[expect(missing_docs, reason = "each variant has a description of its own")]
pub enum Rule {
    StageNameCasing,
    FromAsCasing,
    NoEmptyContinuation,
    ConsistentInstructionCasing,
    DuplicateStageName,
    ReservedStageName,
    JsonArgsRecommended,
    MaintainerDeprecated,
    UndefinedArgInFrom,
    WorkdirRelativePath,
    UndefinedVar,
    MultipleInstructionsDisallowed,
    LegacyKeyValueFormat,
    InvalidBaseImagePlatform,
    RedundantTargetPlatform,
    SecretsUsedInArgOrEnv,
    InvalidDefaultArgInFrom,
    FromPlatformFlagConstDisallowed,
    CopyIgnoredFile,
    InvalidDefinitionDescription,
    ExposeProtoCasing,
    ExposeInvalidFormat,
}

impl Rule {
    /// All rules.
    pub const ALL: [Self; 22] = [
        Self::StageNameCasing,
        Self::FromAsCasing,
        Self::NoEmptyContinuation,
        Self::ConsistentInstructionCasing,
        Self::DuplicateStageName,
        Self::ReservedStageName,
        Self::JsonArgsRecommended,
        Self::MaintainerDeprecated,
        Self::UndefinedArgInFrom,
        Self::WorkdirRelativePath,
        Self::UndefinedVar,
        Self::MultipleInstructionsDisallowed,
        Self::LegacyKeyValueFormat,
        Self::InvalidBaseImagePlatform,
        Self::RedundantTargetPlatform,
        Self::SecretsUsedInArgOrEnv,
        Self::InvalidDefaultArgInFrom,
        Self::FromPlatformFlagConstDisallowed,
        Self::CopyIgnoredFile,
        Self::InvalidDefinitionDescription,
        Self::ExposeProtoCasing,
        Self::ExposeInvalidFormat,
    ];

    /// The name, as `check=skip=…` takes it.
    #[must_use]
    pub const fn name(self) -> &'static str {
        self.texts().0
    }

    /// What the rule is about.
    #[must_use]
    pub const fn description(self) -> &'static str {
        self.texts().2
    }

    /// Where it is explained; empty where nowhere.
    #[must_use]
    pub fn url(self) -> String {
        match self.texts().1 {
            "" => String::new(),
            page => format!("https://docs.docker.com/go/dockerfile/rule/{page}/"),
        }
    }

    /// Whether it is silent unless `check=experimental=…` asks for it.
    #[must_use]
    pub const fn experimental(self) -> bool {
        matches!(
            self,
            Self::CopyIgnoredFile | Self::InvalidDefinitionDescription
        )
    }

    /// Name, page and description.
    #[rustfmt::skip]
    const fn texts(self) -> (&'static str, &'static str, &'static str) {
        match self {
            Self::StageNameCasing => ("StageNameCasing", "stage-name-casing", "Stage names should be lowercase"),
            Self::FromAsCasing => ("FromAsCasing", "from-as-casing", "The 'as' keyword should match the case of the 'from' keyword"),
            Self::NoEmptyContinuation => ("NoEmptyContinuation", "no-empty-continuation", "Empty continuation lines will become errors in a future release"),
            Self::ConsistentInstructionCasing => ("ConsistentInstructionCasing", "consistent-instruction-casing", "All commands within the Dockerfile should use the same casing (either upper or lower)"),
            Self::DuplicateStageName => ("DuplicateStageName", "duplicate-stage-name", "Stage names should be unique"),
            Self::ReservedStageName => ("ReservedStageName", "reserved-stage-name", "Reserved words should not be used as stage names"),
            Self::JsonArgsRecommended => ("JSONArgsRecommended", "json-args-recommended", "JSON arguments recommended for ENTRYPOINT/CMD to prevent unintended behavior related to OS signals"),
            Self::MaintainerDeprecated => ("MaintainerDeprecated", "maintainer-deprecated", "The MAINTAINER instruction is deprecated, use a label instead to define an image author"),
            Self::UndefinedArgInFrom => ("UndefinedArgInFrom", "undefined-arg-in-from", "FROM command must use declared ARGs"),
            Self::WorkdirRelativePath => ("WorkdirRelativePath", "workdir-relative-path", "Relative workdir without an absolute workdir declared within the build can have unexpected results if the base image changes"),
            Self::UndefinedVar => ("UndefinedVar", "undefined-var", "Variables should be defined before their use"),
            Self::MultipleInstructionsDisallowed => ("MultipleInstructionsDisallowed", "multiple-instructions-disallowed", "Multiple instructions of the same type should not be used in the same stage"),
            Self::LegacyKeyValueFormat => ("LegacyKeyValueFormat", "legacy-key-value-format", "Legacy key/value format with whitespace separator should not be used"),
            Self::InvalidBaseImagePlatform => ("InvalidBaseImagePlatform", "", "Base image platform does not match expected target platform"),
            Self::RedundantTargetPlatform => ("RedundantTargetPlatform", "redundant-target-platform", "Setting platform to predefined $TARGETPLATFORM in FROM is redundant as this is the default behavior"),
            Self::SecretsUsedInArgOrEnv => ("SecretsUsedInArgOrEnv", "secrets-used-in-arg-or-env", "Sensitive data should not be used in the ARG or ENV commands"),
            Self::InvalidDefaultArgInFrom => ("InvalidDefaultArgInFrom", "invalid-default-arg-in-from", "Default value for global ARG results in an empty or invalid base image name"),
            Self::FromPlatformFlagConstDisallowed => ("FromPlatformFlagConstDisallowed", "from-platform-flag-const-disallowed", "FROM --platform flag should not use a constant value"),
            Self::CopyIgnoredFile => ("CopyIgnoredFile", "copy-ignored-file", "Attempting to Copy file that is excluded by .dockerignore"),
            Self::InvalidDefinitionDescription => ("InvalidDefinitionDescription", "invalid-definition-description", "Comment for build stage or argument should follow the format: `# <arg/stage name> <description>`. If this is not intended to be a description comment, add an empty line or comment between the instruction and the comment."),
            Self::ExposeProtoCasing => ("ExposeProtoCasing", "expose-proto-casing", "Protocol in EXPOSE instruction should be lowercase"),
            Self::ExposeInvalidFormat => ("ExposeInvalidFormat", "expose-invalid-format", "IP address and host-port mapping should not be used in EXPOSE instruction. This will become an error in a future release"),
        }
    }

    /// What the rule says of these operands; a suggestion among them may be empty.
    #[rustfmt::skip]
    fn message(self, operands: &[&str]) -> String {
        let a = operands.first().copied().unwrap_or_default();
        let b = operands.get(1).copied().unwrap_or_default();
        let c = operands.get(2).copied().unwrap_or_default();
        let hint = |sign: &str| if b.is_empty() { String::new() } else { format!(" (did you mean {sign}{b}?)") };
        match self {
            Self::StageNameCasing => format!("Stage name '{a}' should be lowercase"),
            Self::FromAsCasing => format!("'{a}' and '{b}' keywords' casing do not match"),
            Self::NoEmptyContinuation => "Empty continuation line".to_owned(),
            Self::ConsistentInstructionCasing => format!("Command '{a}' should match the case of the command majority ({b})"),
            Self::DuplicateStageName => format!("Duplicate stage name {}, stage names should be unique", quote(a)),
            Self::ReservedStageName => format!("Stage name should not use the same name as reserved stage {}", quote(a)),
            Self::JsonArgsRecommended => format!("JSON arguments recommended for {a} to prevent unintended behavior related to OS signals"),
            Self::MaintainerDeprecated => "Maintainer instruction is deprecated in favor of using label".to_owned(),
            Self::UndefinedArgInFrom => format!("FROM argument '{a}' is not declared{}", hint("")),
            Self::WorkdirRelativePath => format!("Relative workdir {} can have unexpected results if the base image changes", quote(a)),
            Self::UndefinedVar => format!("Usage of undefined variable '${a}'{}", hint("$")),
            Self::MultipleInstructionsDisallowed => format!("Multiple {a} instructions should not be used in the same stage because only the last one will be used"),
            Self::LegacyKeyValueFormat => format!("\"{a} key=value\" should be used instead of legacy \"{a} key value\" format"),
            Self::InvalidBaseImagePlatform => format!("Base image {a} was pulled with platform {}, expected {} for current build", quote(c), quote(b)),
            Self::RedundantTargetPlatform => format!("Setting platform to predefined {a} in FROM is redundant as this is the default behavior"),
            Self::SecretsUsedInArgOrEnv => format!("Do not use ARG or ENV instructions for sensitive data ({a} {})", quote(b)),
            Self::InvalidDefaultArgInFrom => format!("Default value for ARG {a} results in empty or invalid base image name"),
            Self::FromPlatformFlagConstDisallowed => format!("FROM --platform flag should not use constant value {}", quote(a)),
            Self::CopyIgnoredFile => format!("Attempting to {a} file {} that is excluded by .dockerignore", quote(b)),
            Self::InvalidDefinitionDescription => format!("Comment for {a} should follow the format: `# {b} <description>`"),
            Self::ExposeProtoCasing => format!("Defined protocol '{a}' in EXPOSE instruction should be lowercase"),
            Self::ExposeInvalidFormat => format!("EXPOSE instruction should not define an IP address or host-port mapping, found '{a}'"),
        }
    }
}

/// Something that a rule found.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Warning {
    /// The rule.
    pub rule: Rule,
    /// What it says.
    pub message: String,
    /// Where.
    pub span: Option<Span>,
}

impl Warning {
    /// The short form that is shown in a build's output: `Rule: message (line 3)`.
    #[must_use]
    pub fn short(&self) -> String {
        match self.span {
            Some(span) => format!(
                "{}: {} (line {})",
                self.rule.name(),
                self.message,
                span.start
            ),
            None => format!("{}: {}", self.rule.name(), self.message),
        }
    }
}

/// Rules by name, or all of them.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
struct Choice {
    all: bool,
    names: BTreeSet<String>,
}

impl Choice {
    fn parse(value: &str) -> Self {
        match value.trim() {
            "all" => Self {
                all: true,
                names: BTreeSet::new(),
            },
            list => Self {
                all: false,
                names: list.split(',').map(|r| r.trim().to_owned()).collect(),
            },
        }
    }

    fn has(&self, rule: Rule) -> bool {
        self.all || self.names.contains(rule.name())
    }

    fn merge(&mut self, other: &Self) {
        self.all |= other.all;
        self.names.extend(other.names.iter().cloned());
    }
}

/// Why check options are none.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ConfigError {
    /// An option is unknown or has no value.
    #[error("invalid check option {}", quote(.0))]
    Option(String),
    /// A value is neither true nor false.
    #[error("failed to parse check option {option}: strconv.ParseBool: parsing {}: invalid syntax", quote(.value))]
    Boolean {
        /// The whole option, quoted.
        option: String,
        /// Its value.
        value: String,
    },
}

/// Which rules speak, and whether what they say fails the build.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Config {
    skip: Choice,
    experimental: Choice,
    /// Whether a warning fails the build.
    pub error: bool,
}

impl Config {
    /// Reads options: `skip=A,B;error=true;experimental=all`.
    ///
    /// # Errors
    /// When an option is unknown.
    pub fn parse(text: &str) -> Result<Self, ConfigError> {
        let mut config = Self::default();
        let text = text.trim();
        if text.is_empty() {
            return Ok(config);
        }
        for option in text.splitn(3, ';') {
            let invalid = |t: &str| ConfigError::Option(t.to_owned());
            let (key, value) = option.split_once('=').ok_or_else(|| invalid(option))?;
            match key.trim() {
                "skip" => config.skip = Choice::parse(value),
                "experimental" => config.experimental = Choice::parse(value),
                "error" => {
                    let value = value.trim();
                    config.error = parse_bool(value).ok_or_else(|| ConfigError::Boolean {
                        option: quote(option),
                        value: value.to_owned(),
                    })?;
                }
                key => return Err(invalid(key)),
            }
        }
        Ok(config)
    }

    fn allows(&self, rule: Rule) -> bool {
        if rule.experimental() {
            self.experimental.has(rule)
        } else {
            !self.skip.has(rule)
        }
    }
}

/// Collects what rules say.
#[derive(Clone, Debug)]
pub struct Linter {
    config: Config,
    // linters of single instructions collect into the same list
    warnings: Option<Rc<RefCell<Vec<Warning>>>>,
}

impl Linter {
    /// A linter of a file.
    #[must_use]
    pub fn new(config: Config) -> Self {
        Self {
            config,
            warnings: Some(Rc::default()),
        }
    }

    /// A linter that says nothing.
    #[must_use]
    pub fn silent() -> Self {
        Self {
            config: Config::default(),
            warnings: None,
        }
    }

    /// The linter of an instruction: the comments before it may skip or ask for rules.
    #[must_use]
    pub(crate) fn within(&self, comments: &[String]) -> Self {
        let mut linter = self.clone();
        let Some(options) = comments.iter().find_map(|c| comment_directive(c, "check")) else {
            return linter;
        };
        if let Ok(config) = Config::parse(options.split(' ').next().unwrap_or(options)) {
            linter.config.skip.merge(&config.skip);
            linter.config.experimental.merge(&config.experimental);
        }
        linter
    }

    /// Lets a rule speak.
    pub(crate) fn warn(&mut self, rule: Rule, span: Span, operands: &[&str]) {
        let Some(warnings) = &self.warnings else {
            return;
        };
        if self.config.allows(rule) && warnings.borrow().len() < MAX_WARNINGS {
            let message = rule.message(operands);
            warnings.borrow_mut().push(Warning {
                rule,
                message,
                span: Some(span),
            });
        }
    }

    /// Whether nobody would read more: then there is no need to look for guesses either.
    pub(crate) fn is_full(&self) -> bool {
        let said = self
            .warnings
            .as_ref()
            .map_or(MAX_WARNINGS, |w| w.borrow().len());
        said >= MAX_WARNINGS
    }

    /// What the rules have said.
    #[must_use]
    pub fn warnings(&self) -> Vec<Warning> {
        self.warnings
            .as_ref()
            .map(|w| w.borrow().clone())
            .unwrap_or_default()
    }

    /// The names of the rules that fail the build, none unless warnings are errors.
    pub(crate) fn violations(&self) -> Vec<&'static str> {
        if !self.config.error {
            return Vec::new();
        }
        let mut names: Vec<&str> = Vec::new();
        for warning in self.warnings() {
            if !names.contains(&warning.rule.name()) {
                names.push(warning.rule.name());
            }
        }
        names
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_options() {
        let config =
            Config::parse("skip=StageNameCasing, FromAsCasing;error=true;experimental=all")
                .unwrap();
        assert!(config.error);
        assert!(!config.allows(Rule::FromAsCasing));
        assert!(config.allows(Rule::CopyIgnoredFile));
        assert!(Config::default().allows(Rule::FromAsCasing));
        assert!(!Config::default().allows(Rule::CopyIgnoredFile));
        let said = |t| Config::parse(t).unwrap_err().to_string();
        assert_eq!(said("foo"), "invalid check option \"foo\"");
        assert_eq!(said("foo=bar"), "invalid check option \"foo\"");
        assert!(said("error=x").starts_with("failed to parse check option \"error=x\""));
    }

    #[test]
    fn instructions_have_options_of_their_own() {
        let linter = Linter::new(Config::default());
        let mut inner = linter.within(&["x".into(), "check=skip=UndefinedVar".into()]);
        inner.warn(Rule::UndefinedVar, Span::line(1), &["x", ""]);
        inner.warn(Rule::FromAsCasing, Span::line(2), &["as", "FROM"]);
        let shown: Vec<_> = linter.warnings().iter().map(Warning::short).collect();
        assert_eq!(
            shown,
            ["FromAsCasing: 'as' and 'FROM' keywords' casing do not match (line 2)"]
        );
    }
}
