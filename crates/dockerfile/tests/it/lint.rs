//! What the checks say: Docker 28.5's answers for the same files.
//!
//! It does not know options in the comments of single instructions yet.

use crate::fixture::{converted, options, outcome};
use dockerfile::Options;
use dockerfile::convert::Context;
use dockerfile::lint::Rule;

/// A warning: its rule, its text and its first line.
type Said = (&'static str, &'static str, u32);

/// Files and what is said of them.
const CASES: &[(&str, &[Said])] = &[
    (
        "FROM scratch AS FooBar\nCOPY . .\n",
        &[(
            "StageNameCasing",
            "Stage name 'FooBar' should be lowercase",
            1,
        )],
    ),
    (
        "FROM scratch as foo\nCOPY . .\n",
        &[(
            "FromAsCasing",
            "'as' and 'FROM' keywords' casing do not match",
            1,
        )],
    ),
    (
        "FROM scratch\nCOPY \\\n\n . .\n",
        &[("NoEmptyContinuation", "Empty continuation line", 4)],
    ),
    (
        "FROM scratch\ncopy . .\nWorkdir /x\nWORKDIR /y\n",
        &[
            (
                "ConsistentInstructionCasing",
                "Command 'copy' should match the case of the command majority (uppercase)",
                2,
            ),
            (
                "ConsistentInstructionCasing",
                "Command 'Workdir' should match the case of the command majority (uppercase)",
                3,
            ),
        ],
    ),
    (
        "FROM scratch AS foo\nCOPY a b\nFROM scratch AS foo\nCOPY b c\n",
        &[(
            "DuplicateStageName",
            "Duplicate stage name \"foo\", stage names should be unique",
            3,
        )],
    ),
    (
        "FROM scratch AS scratch\nCOPY a b\nFROM scratch AS context\nCOPY a b\n",
        &[
            (
                "ReservedStageName",
                "Stage name should not use the same name as reserved stage \"scratch\"",
                1,
            ),
            (
                "ReservedStageName",
                "Stage name should not use the same name as reserved stage \"context\"",
                3,
            ),
        ],
    ),
    (
        "FROM scratch\nCMD foo\nENTRYPOINT bar\n",
        &[
            (
                "JSONArgsRecommended",
                "JSON arguments recommended for CMD to prevent unintended behavior related to OS signals",
                2,
            ),
            (
                "JSONArgsRecommended",
                "JSON arguments recommended for ENTRYPOINT to prevent unintended behavior related to OS signals",
                3,
            ),
        ],
    ),
    (
        "FROM scratch\nMAINTAINER me <x@y>\nLABEL a=b\n",
        &[(
            "MaintainerDeprecated",
            "Maintainer instruction is deprecated in favor of using label",
            2,
        )],
    ),
    (
        "ARG VERSION=latest\nFROM --platform=$BULIDPLATFORM scratch$VERSON\nCOPY a b\n",
        &[
            (
                "UndefinedArgInFrom",
                "FROM argument 'VERSON' is not declared (did you mean VERSION?)",
                2,
            ),
            (
                "UndefinedArgInFrom",
                "FROM argument 'BULIDPLATFORM' is not declared (did you mean BUILDPLATFORM?)",
                2,
            ),
        ],
    ),
    (
        "FROM scratch\nWORKDIR app/x\n",
        &[(
            "WorkdirRelativePath",
            "Relative workdir \"app/x\" can have unexpected results if the base image changes",
            2,
        )],
    ),
    (
        "FROM scratch\nENV PATHS=a\nCOPY $PAHT $foo /x\nLABEL x=$bar\n",
        &[
            (
                "UndefinedVar",
                "Usage of undefined variable '$PAHT' (did you mean $PATH?)",
                3,
            ),
            ("UndefinedVar", "Usage of undefined variable '$foo'", 3),
            ("UndefinedVar", "Usage of undefined variable '$bar'", 4),
        ],
    ),
    (
        "FROM scratch\nCMD [\"a\"]\nCMD [\"b\"]\nENTRYPOINT [\"a\"]\nENTRYPOINT [\"b\"]\nHEALTHCHECK CMD x\nHEALTHCHECK NONE\n",
        &[
            (
                "MultipleInstructionsDisallowed",
                "Multiple CMD instructions should not be used in the same stage because only the last one will be used",
                2,
            ),
            (
                "MultipleInstructionsDisallowed",
                "Multiple ENTRYPOINT instructions should not be used in the same stage because only the last one will be used",
                4,
            ),
            (
                "MultipleInstructionsDisallowed",
                "Multiple HEALTHCHECK instructions should not be used in the same stage because only the last one will be used",
                6,
            ),
        ],
    ),
    (
        "FROM scratch\nENV foo bar\nLABEL x y z\n",
        &[
            (
                "LegacyKeyValueFormat",
                "\"ENV key=value\" should be used instead of legacy \"ENV key value\" format",
                2,
            ),
            (
                "LegacyKeyValueFormat",
                "\"LABEL key=value\" should be used instead of legacy \"LABEL key value\" format",
                3,
            ),
        ],
    ),
    (
        "FROM --platform=$TARGETPLATFORM scratch\nCOPY a b\nFROM --platform=${TARGETPLATFORM} scratch\nCOPY a b\n",
        &[
            (
                "RedundantTargetPlatform",
                "Setting platform to predefined $TARGETPLATFORM in FROM is redundant as this is the default behavior",
                1,
            ),
            (
                "RedundantTargetPlatform",
                "Setting platform to predefined ${TARGETPLATFORM} in FROM is redundant as this is the default behavior",
                3,
            ),
        ],
    ),
    (
        "FROM scratch\nARG API_KEY\nENV DB_PASSWORD=x TOKEN_FILE=y\n",
        &[
            (
                "SecretsUsedInArgOrEnv",
                "Do not use ARG or ENV instructions for sensitive data (ARG \"API_KEY\")",
                2,
            ),
            (
                "SecretsUsedInArgOrEnv",
                "Do not use ARG or ENV instructions for sensitive data (ENV \"DB_PASSWORD\")",
                3,
            ),
            (
                "SecretsUsedInArgOrEnv",
                "Do not use ARG or ENV instructions for sensitive data (ENV \"TOKEN_FILE\")",
                3,
            ),
        ],
    ),
    (
        "FROM --platform=linux/amd64 scratch\nCOPY a b\nFROM --platform=linux/arm64 scratch AS foo-arm64\nCOPY a b\n",
        &[(
            "FromPlatformFlagConstDisallowed",
            "FROM --platform flag should not use constant value \"linux/amd64\"",
            1,
        )],
    ),
    (
        "# check=experimental=all\nFROM scratch\nCOPY ign /x\nADD ./ign/a /y\n",
        &[
            (
                "CopyIgnoredFile",
                "Attempting to Copy file \"ign\" that is excluded by .dockerignore",
                3,
            ),
            (
                "CopyIgnoredFile",
                "Attempting to Add file \"./ign/a\" that is excluded by .dockerignore",
                4,
            ),
        ],
    ),
    (
        "# check=experimental=all\n# bar is bar\nARG foo=1\n# this one\nFROM scratch AS base\n# a comment\nARG x=1\n# foo the foo\nARG foo=2\n# blank\n\nARG yy=3\n",
        &[
            (
                "InvalidDefinitionDescription",
                "Comment for ARG should follow the format: `# foo <description>`",
                3,
            ),
            (
                "InvalidDefinitionDescription",
                "Comment for FROM should follow the format: `# base <description>`",
                5,
            ),
            (
                "InvalidDefinitionDescription",
                "Comment for ARG should follow the format: `# x <description>`",
                7,
            ),
            (
                "InvalidDefinitionDescription",
                "Comment for ARG should follow the format: `# yy <description>`",
                12,
            ),
        ],
    ),
    (
        "FROM scratch\nEXPOSE 80/TCP 1.2.3.4:80:90 8000:9000\n",
        &[
            (
                "ExposeInvalidFormat",
                "EXPOSE instruction should not define an IP address or host-port mapping, found '1.2.3.4:80:90'",
                2,
            ),
            (
                "ExposeProtoCasing",
                "Defined protocol '80/TCP' in EXPOSE instruction should be lowercase",
                2,
            ),
            (
                "ExposeInvalidFormat",
                "EXPOSE instruction should not define an IP address or host-port mapping, found '8000:9000'",
                2,
            ),
        ],
    ),
    (
        "# check=skip=StageNameCasing,FromAsCasing\nFROM scratch as FOO\nMAINTAINER x\n",
        &[(
            "MaintainerDeprecated",
            "Maintainer instruction is deprecated in favor of using label",
            3,
        )],
    ),
];

/// Rule, page and description.
const RULES: &[(&str, &str, &str)] = &[
    (
        "ConsistentInstructionCasing",
        "https://docs.docker.com/go/dockerfile/rule/consistent-instruction-casing/",
        "All commands within the Dockerfile should use the same casing (either upper or lower)",
    ),
    (
        "CopyIgnoredFile",
        "https://docs.docker.com/go/dockerfile/rule/copy-ignored-file/",
        "Attempting to Copy file that is excluded by .dockerignore",
    ),
    (
        "DuplicateStageName",
        "https://docs.docker.com/go/dockerfile/rule/duplicate-stage-name/",
        "Stage names should be unique",
    ),
    (
        "ExposeInvalidFormat",
        "https://docs.docker.com/go/dockerfile/rule/expose-invalid-format/",
        "IP address and host-port mapping should not be used in EXPOSE instruction. This will become an error in a future release",
    ),
    (
        "ExposeProtoCasing",
        "https://docs.docker.com/go/dockerfile/rule/expose-proto-casing/",
        "Protocol in EXPOSE instruction should be lowercase",
    ),
    (
        "FromAsCasing",
        "https://docs.docker.com/go/dockerfile/rule/from-as-casing/",
        "The 'as' keyword should match the case of the 'from' keyword",
    ),
    (
        "FromPlatformFlagConstDisallowed",
        "https://docs.docker.com/go/dockerfile/rule/from-platform-flag-const-disallowed/",
        "FROM --platform flag should not use a constant value",
    ),
    (
        "InvalidDefinitionDescription",
        "https://docs.docker.com/go/dockerfile/rule/invalid-definition-description/",
        "Comment for build stage or argument should follow the format: `# <arg/stage name> <description>`. If this is not intended to be a description comment, add an empty line or comment between the instruction and the comment.",
    ),
    (
        "JSONArgsRecommended",
        "https://docs.docker.com/go/dockerfile/rule/json-args-recommended/",
        "JSON arguments recommended for ENTRYPOINT/CMD to prevent unintended behavior related to OS signals",
    ),
    (
        "LegacyKeyValueFormat",
        "https://docs.docker.com/go/dockerfile/rule/legacy-key-value-format/",
        "Legacy key/value format with whitespace separator should not be used",
    ),
    (
        "MaintainerDeprecated",
        "https://docs.docker.com/go/dockerfile/rule/maintainer-deprecated/",
        "The MAINTAINER instruction is deprecated, use a label instead to define an image author",
    ),
    (
        "MultipleInstructionsDisallowed",
        "https://docs.docker.com/go/dockerfile/rule/multiple-instructions-disallowed/",
        "Multiple instructions of the same type should not be used in the same stage",
    ),
    (
        "NoEmptyContinuation",
        "https://docs.docker.com/go/dockerfile/rule/no-empty-continuation/",
        "Empty continuation lines will become errors in a future release",
    ),
    (
        "RedundantTargetPlatform",
        "https://docs.docker.com/go/dockerfile/rule/redundant-target-platform/",
        "Setting platform to predefined $TARGETPLATFORM in FROM is redundant as this is the default behavior",
    ),
    (
        "ReservedStageName",
        "https://docs.docker.com/go/dockerfile/rule/reserved-stage-name/",
        "Reserved words should not be used as stage names",
    ),
    (
        "SecretsUsedInArgOrEnv",
        "https://docs.docker.com/go/dockerfile/rule/secrets-used-in-arg-or-env/",
        "Sensitive data should not be used in the ARG or ENV commands",
    ),
    (
        "StageNameCasing",
        "https://docs.docker.com/go/dockerfile/rule/stage-name-casing/",
        "Stage names should be lowercase",
    ),
    (
        "UndefinedArgInFrom",
        "https://docs.docker.com/go/dockerfile/rule/undefined-arg-in-from/",
        "FROM command must use declared ARGs",
    ),
    (
        "UndefinedVar",
        "https://docs.docker.com/go/dockerfile/rule/undefined-var/",
        "Variables should be defined before their use",
    ),
    (
        "WorkdirRelativePath",
        "https://docs.docker.com/go/dockerfile/rule/workdir-relative-path/",
        "Relative workdir without an absolute workdir declared within the build can have unexpected results if the base image changes",
    ),
];

#[test]
fn warnings_are_dockers() {
    let context = Context::Local {
        name: "context".to_owned(),
        session: String::new(),
        excludes: vec!["ign".to_owned()],
        hint: "context".to_owned(),
    };
    let options = Options {
        context,
        all_stages: true,
        ..options()
    };
    for (text, want) in CASES {
        let mut found: Vec<(String, String, u32)> = outcome(text, &options)
            .warnings
            .into_iter()
            .map(|w| (w.rule.name().to_owned(), w.message, w.span.unwrap().start))
            .collect();
        let mut want: Vec<(String, String, u32)> = want
            .iter()
            .map(|(r, m, l)| ((*r).to_owned(), (*m).to_owned(), *l))
            .collect();
        // variables of one word are named in no order by Docker
        found.sort();
        want.sort();
        assert_eq!(found, want, "{text}");
    }
}

#[test]
fn rules_have_dockers_texts() {
    for (name, url, description) in RULES {
        let rule = Rule::ALL.into_iter().find(|r| r.name() == *name).unwrap();
        assert_eq!(
            (rule.url().as_str(), rule.description()),
            (*url, *description)
        );
    }
}

#[test]
fn good_files_have_no_warnings() {
    let text = "# comment\nARG V=1\nFROM --platform=$BUILDPLATFORM busybox AS a\nARG V\nENV X=$V\nRUN a\nFROM scratch\nCOPY --from=a /x /\nCMD [\"x\"]\n";
    assert!(outcome(text, &options()).warnings.is_empty());
    assert_eq!(
        converted(text, &options()).build_args,
        [("V".to_owned(), "1".to_owned())]
    );
}

#[test]
fn defaults_of_bases_are_checked() {
    let options = Options {
        build_args: [("TAG".to_owned(), "latest".to_owned())].into(),
        ..options()
    };
    let found = outcome("ARG TAG\nFROM busybox:${TAG}\n", &options);
    assert_eq!(found.warnings[0].rule, Rule::InvalidDefaultArgInFrom);
    assert!(found.result.is_ok());
}

#[test]
fn other_platforms_are_noticed() {
    let options = Options {
        platform: Some("linux/arm64".parse().unwrap()),
        ..options()
    };
    let found = outcome("FROM busybox\nRUN x\n", &options).warnings;
    assert_eq!(
        found[0].message,
        "Base image busybox was pulled with platform \"linux/amd64\", expected \"linux/arm64\" for current build"
    );
}

#[test]
fn instructions_have_options_of_their_own() {
    let text = "FROM scratch\n# check=skip=WorkdirRelativePath\nWORKDIR x\n";
    assert!(outcome(text, &options()).warnings.is_empty());
}
