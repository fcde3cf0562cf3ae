//! What is said of wrong files, and where it points.
//!
//! The messages and the marked lines are Docker 28.5's for the same files, but that it marks no line
//! for a wrong `--from` and the line before a wrong directive.

use crate::fixture::{options, outcome};
use dockerfile::Options;

const CASES: &[(&str, &str, &[u32])] = &[
    (
        "FRM scratch\n",
        "dockerfile parse error on line 1: unknown instruction: FRM (did you mean FROM?)",
        &[1],
    ),
    (
        "FROM scratch\nfoo bar\n",
        "dockerfile parse error on line 2: unknown instruction: foo (did you mean from?)",
        &[2],
    ),
    (
        "FROM scratch\nruN2 bar\n",
        "dockerfile parse error on line 2: unknown instruction: ruN2 (did you mean run?)",
        &[2],
    ),
    (
        "FROM scratch\nCOPY --frm=x a b\n",
        "dockerfile parse error on line 2: unknown flag: --frm (did you mean from?)",
        &[2],
    ),
    (
        "FROM scratch\nRUN --zzzzzz=x a b\n",
        "dockerfile parse error on line 2: unknown flag: --zzzzzz",
        &[2],
    ),
    (
        "FROM scratch\nCOPY --from=a --from=b a b\n",
        "dockerfile parse error on line 2: duplicate flag specified: --from",
        &[2],
    ),
    (
        "FROM scratch\nCOPY --from a b\n",
        "dockerfile parse error on line 2: missing a value on flag: --from",
        &[2],
    ),
    (
        "FROM scratch\nCOPY --link=foo a b\n",
        "dockerfile parse error on line 2: expecting boolean value for flag --link, not: foo",
        &[2],
    ),
    (
        "FROM scratch\nCOPY --link= a b\n",
        "dockerfile parse error on line 2: missing a value on flag: --link",
        &[2],
    ),
    (
        "FROM scratch\nENV --foo=1 a=b\n",
        "dockerfile parse error on line 2: unknown flag: --foo",
        &[2],
    ),
    (
        "FROM scratch foo\n",
        "dockerfile parse error on line 1: FROM requires either one or three arguments",
        &[1],
    ),
    (
        "FROM scratch as foo bar\n",
        "dockerfile parse error on line 1: FROM requires either one or three arguments",
        &[1],
    ),
    (
        "FROM\n",
        "dockerfile parse error on line 1: FROM requires either one or three arguments",
        &[1],
    ),
    (
        "FROM scratch as 1foo\n",
        "dockerfile parse error on line 1: invalid name for build stage: \"1foo\", name can't start with a number or contain symbols",
        &[1],
    ),
    (
        "FROM scratch as f$oo\n",
        "dockerfile parse error on line 1: invalid name for build stage: \"f$oo\", name can't start with a number or contain symbols",
        &[1],
    ),
    ("# nothing\n", "file with no instructions", &[1]),
    ("", "the Dockerfile cannot be empty", &[]),
    (
        "RUN foo\nFROM scratch\n",
        "no build stage in current context",
        &[1],
    ),
    (
        "FROM scratch\nENV foo\n",
        "ENV must have two arguments",
        &[2],
    ),
    (
        "FROM scratch\nENV\n",
        "dockerfile parse error on line 2: ENV requires at least one argument",
        &[2],
    ),
    (
        "FROM scratch\nENV a=b c\n",
        "Syntax error - can't find = in \"c\". Must be of the form: name=value",
        &[2],
    ),
    (
        "FROM scratch\nENV =b\n",
        "dockerfile parse error on line 2: ENV names can not be blank",
        &[2],
    ),
    (
        "FROM scratch\nLABEL foo\n",
        "LABEL must have two arguments",
        &[2],
    ),
    (
        "FROM scratch\nCOPY foo\n",
        "dockerfile parse error on line 2: COPY requires at least two arguments, but only one was provided. Destination could not be determined",
        &[2],
    ),
    (
        "FROM scratch\nADD foo\n",
        "dockerfile parse error on line 2: ADD requires at least two arguments, but only one was provided. Destination could not be determined",
        &[2],
    ),
    (
        "FROM scratch\nCOPY\n",
        "dockerfile parse error on line 2: COPY requires at least two arguments, but only one was provided. Destination could not be determined",
        &[2],
    ),
    (
        "FROM scratch\nWORKDIR\n",
        "dockerfile parse error on line 2: WORKDIR requires exactly one argument",
        &[2],
    ),
    (
        "FROM scratch\nUSER\n",
        "dockerfile parse error on line 2: USER requires exactly one argument",
        &[2],
    ),
    (
        "FROM scratch\nEXPOSE\n",
        "dockerfile parse error on line 2: EXPOSE requires at least one argument",
        &[2],
    ),
    (
        "FROM scratch\nEXPOSE foo\n",
        "invalid containerPort: foo",
        &[2],
    ),
    (
        "FROM scratch\nEXPOSE 80/foo\n",
        "invalid port: \"80/foo\": invalid proto: foo",
        &[2],
    ),
    (
        "FROM scratch\nEXPOSE 90-80\n",
        "invalid containerPort: 90-80",
        &[2],
    ),
    (
        "FROM scratch\nEXPOSE 99999\n",
        "invalid containerPort: 99999",
        &[2],
    ),
    (
        "FROM scratch\nVOLUME\n",
        "dockerfile parse error on line 2: VOLUME requires at least one argument",
        &[2],
    ),
    (
        "FROM scratch\nVOLUME [\"\"]\n",
        "dockerfile parse error on line 2: VOLUME specified can not be an empty string",
        &[2],
    ),
    (
        "FROM scratch\nSTOPSIGNAL FOO\n",
        "invalid signal: FOO",
        &[2],
    ),
    (
        "FROM scratch\nSTOPSIGNAL\n",
        "dockerfile parse error on line 2: STOPSIGNAL requires exactly one argument",
        &[2],
    ),
    (
        "FROM scratch\nSHELL foo bar\n",
        "dockerfile parse error on line 2: SHELL requires the arguments to be in JSON form",
        &[2],
    ),
    (
        "FROM scratch\nSHELL []\n",
        "dockerfile parse error on line 2: SHELL requires at least one argument",
        &[2],
    ),
    (
        "FROM scratch\nONBUILD\n",
        "dockerfile parse error on line 2: ONBUILD requires at least one argument",
        &[2],
    ),
    (
        "FROM scratch\nONBUILD ONBUILD RUN x\n",
        "dockerfile parse error on line 2: Chaining ONBUILD via `ONBUILD ONBUILD` isn't allowed",
        &[2],
    ),
    (
        "FROM scratch\nONBUILD FROM x\n",
        "dockerfile parse error on line 2: FROM isn't allowed as an ONBUILD trigger",
        &[2],
    ),
    (
        "FROM scratch\nHEALTHCHECK\n",
        "dockerfile parse error on line 2: HEALTHCHECK requires at least one argument",
        &[2],
    ),
    (
        "FROM scratch\nHEALTHCHECK NONE foo\n",
        "dockerfile parse error on line 2: HEALTHCHECK NONE takes no arguments",
        &[2],
    ),
    (
        "FROM scratch\nHEALTHCHECK foo\n",
        "dockerfile parse error on line 2: Unknown type \"FOO\" in HEALTHCHECK (try CMD)",
        &[2],
    ),
    (
        "FROM scratch\nHEALTHCHECK CMD\n",
        "dockerfile parse error on line 2: Missing command after HEALTHCHECK CMD",
        &[2],
    ),
    (
        "FROM scratch\nHEALTHCHECK --interval=foo CMD x\n",
        "dockerfile parse error on line 2: time: invalid duration \"foo\"",
        &[2],
    ),
    (
        "FROM scratch\nHEALTHCHECK --interval=1us CMD x\n",
        "dockerfile parse error on line 2: Interval \"interval\" cannot be less than 1ms",
        &[2],
    ),
    (
        "FROM scratch\nHEALTHCHECK --retries=-1 CMD x\n",
        "dockerfile parse error on line 2: --retries cannot be negative (-1)",
        &[2],
    ),
    (
        "FROM scratch\nHEALTHCHECK --retries=x CMD x\n",
        "dockerfile parse error on line 2: strconv.ParseInt: parsing \"x\": invalid syntax",
        &[2],
    ),
    (
        "FROM scratch\nARG =x\n",
        "dockerfile parse error on line 2: ARG names can not be blank",
        &[2],
    ),
    (
        "FROM scratch\nARG\n",
        "dockerfile parse error on line 2: ARG requires at least one argument",
        &[2],
    ),
    (
        "FROM scratch\nCMD [1]\n",
        "when using JSON array syntax, arrays must be comprised of strings only",
        &[2],
    ),
    (
        "FROM scratch\nCOPY [1,2]\n",
        "when using JSON array syntax, arrays must be comprised of strings only",
        &[2],
    ),
    (
        "FROM scratch\nRUN <<EOF\nfoo\n",
        "unterminated heredoc",
        &[2, 3],
    ),
    (
        "FROM scratch\nCOPY a <<EOF\nfoo\nEOF\n",
        "dockerfile parse error on line 2: COPY cannot accept a heredoc as a destination",
        &[2, 3, 4],
    ),
    (
        "FROM scratch\nRUN --mount=type=foo x\n",
        "unsupported mount type \"foo\"",
        &[2],
    ),
    (
        "FROM scratch\nRUN --mount=type=bind,targt=/x x\n",
        "unexpected key 'targt' in 'targt=/x' (did you mean target?)",
        &[2],
    ),
    (
        "FROM scratch\nRUN --mount=type=bind,foo x\n",
        "invalid field 'foo' must be a key=value pair",
        &[2],
    ),
    (
        "FROM scratch\nRUN --mount=type=bind,from=$x,target=/x x\n",
        "dockerfile parse error on line 2: 'from' doesn't support variable expansion, define alias stage instead",
        &[2],
    ),
    (
        "FROM scratch\nRUN --mount=type=cache,target=/x,sharing=foo x\n",
        "unsupported sharing value \"foo\"",
        &[2],
    ),
    (
        "FROM scratch\nRUN --mount=type=bind,target=/x,mode=0755 x\n",
        "mode not allowed for \"bind\" type mounts",
        &[2],
    ),
    (
        "FROM scratch\nRUN --mount=type=bind,target=/ x\n",
        "invalid mount target \"/\"",
        &[2],
    ),
    (
        "FROM scratch\nRUN --mount=type=secret x\n",
        "invalid secret mount. one of source, target required",
        &[2],
    ),
    (
        "FROM scratch\nRUN --mount=type=cache x\n",
        "invalid mount target \"/\"",
        &[2],
    ),
    (
        "FROM scratch\nRUN --mount=type=tmpfs,target=/x,size=foo x\n",
        "invalid value for size: foo",
        &[2],
    ),
    (
        "FROM scratch\nRUN --network=foo x\n",
        "dockerfile parse error on line 2: invalid network mode \"foo\"",
        &[2],
    ),
    (
        "FROM scratch\nCOPY --from=$x a b\n",
        "variable expansion is not supported for --from, define a new stage with FROM using ARG from global scope as a workaround",
        &[2],
    ),
    (
        "FROM scratch\nCOPY --from=5 a b\n",
        "invalid stage index 5",
        &[2],
    ),
    (
        "FROM scratch as a\nCOPY --from=a a b\n",
        "circular dependency detected on stage: a",
        &[2],
    ),
    (
        "FROM scratch as a\nCOPY --from=b a b\nFROM scratch as b\nCOPY x y\nFROM a\n",
        "cannot copy from stage \"b\", it needs to be defined before current stage \"a\"",
        &[2],
    ),
    (
        "FROM scratch as a\nCOPY --from=b a b\nFROM scratch as b\nCOPY --from=a x y\n",
        "circular dependency detected on stage: a",
        &[2, 4],
    ),
    (
        "FROM scratch\nCOPY --chmod=99999 a b\n",
        "invalid chmod parameter: '99999'. it should be octal string and between 0 and 07777",
        &[2],
    ),
    (
        "FROM scratch\nCOPY --chmod=foo a b\n",
        "invalid syntax",
        &[2],
    ),
    (
        "FROM scratch\nADD --checksum=sha256:xx a b\n",
        "checksum requires HTTP(S) or Git sources",
        &[2],
    ),
    (
        "FROM scratch\nADD --checksum=sha256:xx http://localhost/a b\n",
        "invalid checksum digest length",
        &[2],
    ),
    (
        "FROM scratch\nCOPY http://localhost/a b\n",
        "source can't be a URL for COPY",
        &[2],
    ),
    (
        "FROM scratch\nCOPY https://localhost/a.git b\n",
        "source can't be a git ref for COPY",
        &[2],
    ),
    (
        "# escape=x\nFROM scratch\n",
        "invalid escape token 'x' does not match ` or \\",
        &[1],
    ),
    (
        "# escape=`\n# escape=`\nFROM scratch\n",
        "only one escape parser directive can be used",
        &[2],
    ),
    (
        "ARG x\nFROM $x\n",
        "base name ($x) should not be blank",
        &[2],
    ),
    (
        "FROM --platform=$FOO scratch\n",
        "empty platform value from expression $FOO",
        &[1],
    ),
    (
        "FROM --platform=a/b/c/d scratch\n",
        "failed to parse platform a/b/c/d: \"a/b/c/d\": cannot parse platform specifier: invalid argument",
        &[1],
    ),
    (
        "FROM scratch\nENV a=${b\n",
        "failed to process \"${b\": unsupported modifier (�) in substitution",
        &[2],
    ),
    (
        "FROM scratch\nENV a=${}\n",
        "failed to process \"${}\": syntax error: bad substitution",
        &[2],
    ),
    (
        "FROM scratch\nENV a=${b:?}\n",
        "failed to process \"${b:?}\": b: is not allowed to be unset",
        &[2],
    ),
    (
        "FROM scratch\nENV a=${b?my message}\n",
        "Syntax error - can't find = in \"message}\". Must be of the form: name=value",
        &[2],
    ),
    (
        "FROM scratch\nENV a=${b:=x}\n",
        "failed to process \"${b:=x}\": unsupported modifier (:=) in substitution",
        &[2],
    ),
    (
        "FROM scratch\nENV a=\"b\n",
        "failed to process \"\\\"b\": unexpected end of statement while looking for matching double-quote",
        &[2],
    ),
    (
        "FROM scratch\nWORKDIR 'b\n",
        "failed to process \"'b\": unexpected end of statement while looking for matching single-quote",
        &[2],
    ),
    (
        "FROM scratch\nMAINTAINER\n",
        "dockerfile parse error on line 2: MAINTAINER requires exactly one argument",
        &[2],
    ),
    (
        "# check=foo\nFROM scratch\nCOPY . .\n",
        "failed to parse check options: invalid check option \"foo\"",
        &[],
    ),
    (
        "# check=foo=bar\nFROM scratch\nCOPY . .\n",
        "failed to parse check options: invalid check option \"foo\"",
        &[],
    ),
];

#[test]
fn messages_are_dockers() {
    let mut wrong = Vec::new();
    for (text, message, lines) in CASES {
        let (said, mut marked) = match outcome(text, &options()).result {
            Ok(_) => ("nothing".to_owned(), Vec::new()),
            Err(e) => (
                e.to_string(),
                e.spans.iter().flat_map(|s| s.start..=s.end).collect(),
            ),
        };
        marked.sort_unstable();
        marked.dedup();
        if said != *message || marked != *lines {
            wrong.push(format!(
                "{text}: {said} {marked:?}, not {message} {lines:?}"
            ));
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn targets_are_guessed() {
    let options = Options {
        target: "fooo".to_owned(),
        ..options()
    };
    let error = outcome("FROM scratch as foo\nCOPY a b\n", &options)
        .result
        .unwrap_err();
    let want = "target stage \"fooo\" could not be found (did you mean foo?)";
    assert_eq!(error.to_string(), want);
}

#[test]
fn warnings_may_be_errors() {
    let text = "# check=error=true\nFROM scratch AS Foo\nMAINTAINER x\n";
    let outcome = outcome(text, &options());
    assert_eq!(outcome.warnings.len(), 2);
    let error = outcome.result.unwrap_err().to_string();
    assert_eq!(
        error,
        "lint violation found for rules: StageNameCasing, MaintainerDeprecated"
    );
}

#[test]
fn images_that_are_not_there_are_named() {
    let error = outcome("FROM scratch\nFROM busybux\n", &options())
        .result
        .unwrap_err();
    assert_eq!(
        error.to_string(),
        "busybux: not found (did you mean busybox?)"
    );
    assert_eq!(error.spans, [dockerfile::Span::line(2)]);
}
