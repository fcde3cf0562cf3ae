//! `--call`: what a Dockerfile offers.

use crate::fixture::{Images, options};
use dockerfile::call::{describe, lint, outline, targets};
use serde_json::{Value, json};

const FILE: &str = "# VER the version\nARG VER=1.2\nARG OTHER\nARG UNUSED=x\n# dep needs it\nARG dep=$OTHER\nFROM scratch AS foo-$VER\n";

const OFFERS: &str = "# VER the version\nARG VER=latest\nARG UNUSED=x\n# foo the image\nFROM busybox:$VER AS foo\n# mode the mode\nARG mode=fast\nRUN --mount=type=secret,id=tok,required --mount=type=ssh --mount=type=cache,target=/c x $mode\n";

#[test]
fn outlines() {
    let answer = outline(OFFERS.as_bytes(), &options(), &mut Images::with(&[])).unwrap();
    let mut json: Value = serde_json::from_slice(&answer.json).unwrap();
    let at =
        |line: u32| json!({ "ranges": [{ "start": { "line": line }, "end": { "line": line } }] });
    json.as_object_mut().unwrap().remove("sources").unwrap();
    assert_eq!(
        json,
        json!({
            "name": "foo",
            "description": "the image",
            "args": [
                { "name": "VER", "description": "the version", "value": "latest", "location": at(2) },
                { "name": "mode", "description": "the mode", "value": "fast", "location": at(7) },
            ],
            "secrets": [{ "name": "tok", "required": true, "location": at(8) }],
            "ssh": [{ "name": "default", "location": at(8) }],
        })
    );
    assert_eq!(
        answer.text,
        "TARGET:      foo\nDESCRIPTION: the image\n\n\
         BUILD ARG   VALUE    DESCRIPTION\nVER         latest   the version\nmode        fast     the mode\n\n\
         SECRET   REQUIRED\ntok      true\n\nSSH       REQUIRED\ndefault   \n\n"
    );
}

#[test]
fn a_wrong_file_has_no_outline() {
    assert!(outline(FILE.as_bytes(), &options(), &mut Images::with(&[])).is_err());
}

#[test]
fn lists_targets() {
    let text = "# base is the base\nFROM scratch AS base\n# noname\n\nFROM scratch AS two\n# three is\n\nFROM --platform=linux/arm64 two AS three\nFROM three\n";
    let answer = targets(text.as_bytes()).unwrap();
    let json: Value = serde_json::from_slice(&answer.json).unwrap();
    assert_eq!(json["targets"][0]["description"], "is the base");
    assert_eq!(json["targets"][2]["platform"], "linux/arm64");
    assert_eq!(json["targets"][3]["default"], true);
    assert_eq!(
        json["targets"][1]["location"]["ranges"][0]["start"]["line"],
        5
    );
    assert_eq!(
        answer.text,
        "TARGET    DESCRIPTION\nbase      is the base\ntwo       \nthree     is\n(default) \n"
    );
}

#[test]
fn lints() {
    let text = "FROM scratch AS Foo\nCOPY --foo a b\n";
    let mut options = options();
    options.file.filename = "Dockerfile".to_owned();
    let answer = lint(text.as_bytes(), &options, &mut Images::with(&[])).unwrap();
    assert_eq!(answer.status, Some(1));
    let json: Value = serde_json::from_slice(&answer.json).unwrap();
    assert_eq!(json["warnings"][0]["ruleName"], "StageNameCasing");
    assert_eq!(json["sources"][0]["filename"], "Dockerfile");
    assert_eq!(
        json["buildError"]["message"],
        "dockerfile parse error on line 2: unknown flag: --foo (did you mean from?)"
    );
    assert_eq!(
        answer.text,
        "\nWARNING: StageNameCasing - https://docs.docker.com/go/dockerfile/rule/stage-name-casing/\n\
         Stage name 'Foo' should be lowercase\nDockerfile:1\n--------------------\n   \
         1 | >>> FROM scratch AS Foo\n   2 |     COPY --foo a b\n   3 |     \n--------------------\n"
    );
    let good = lint(
        b"FROM scratch\nCOPY a b\n",
        &options,
        &mut Images::with(&[]),
    )
    .unwrap();
    assert_eq!(good.status, Some(0));
    assert!(
        String::from_utf8(good.json)
            .unwrap()
            .contains("\"warnings\": null")
    );
}

#[test]
fn checks_look_at_all_stages() {
    let text = "FROM scratch AS unused\nWORKDIR x\nFROM scratch\nCOPY a b\n";
    let answer = lint(text.as_bytes(), &options(), &mut Images::with(&[])).unwrap();
    assert!(answer.text.contains("WorkdirRelativePath"));
}

#[test]
fn describes_what_can_be_called() {
    let answer = describe().unwrap();
    let json: Value = serde_json::from_slice(&answer.json).unwrap();
    assert_eq!(json.as_array().unwrap().len(), 4);
    assert!(
        answer
            .text
            .contains("lint                 1.0.0   Lint a Dockerfile"),
        "{}",
        answer.text
    );
}
