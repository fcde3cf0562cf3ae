//! Against what Docker's own client sends and says for the same words: `bodies.json` and `refusals.json` hold its
//! requests (as differences from a bare `create img`) and its messages.

use super::*;
use crate::args::Reading;
use crate::commands::create::VERB;
use crate::globals::Globals;
use api::client::{Client, Endpoint};
use serde_json::{Map, Value};
use std::ffi::OsString;
use std::path::PathBuf;

struct Files(PathBuf);

impl Files {
    fn new() -> Self {
        let dir = std::env::temp_dir().join(format!("gorae-cli-create-{}", std::process::id()));
        fs_err(std::fs::create_dir_all(&dir));
        fs_err(std::fs::write(
            dir.join("envf"),
            "A=1\n# c\nABSENT_IN_EVERY_ENVIRONMENT\n  C=3\n",
        ));
        fs_err(std::fs::write(dir.join("labf"), "l1=v1\n#x\nl2\n"));
        fs_err(std::fs::write(
            dir.join("sec.json"),
            "{\"defaultAction\": \"SCMP_ACT_ALLOW\"}\n",
        ));
        Self(dir)
    }

    fn place(&self, text: &str) -> String {
        let here = std::env::current_dir().unwrap();
        text.replace("{dir}", self.0.to_str().unwrap())
            .replace("{cwd}", here.to_str().unwrap())
    }
}

impl Drop for Files {
    fn drop(&mut self) {
        drop(std::fs::remove_dir_all(&self.0));
    }
}

fn fs_err(result: std::io::Result<()>) {
    result.unwrap();
}

fn read(words: &[String]) -> Result<Creation, Failure> {
    let words: Vec<OsString> = words.iter().map(OsString::from).collect();
    let client = Client::new(Endpoint::Unix(PathBuf::from("/nonexistent")));
    match Call::read(&VERB, "create", words, Globals::default(), client)? {
        Reading::Call(call) => from_flags(&call),
        Reading::Help => panic!("help was not asked for"),
    }
}

/// The fields of a body, those of `HostConfig` by their path.
fn flat(body: &Value) -> Map<String, Value> {
    let mut out = Map::new();
    for (key, value) in body.as_object().unwrap() {
        match (key.as_str(), value) {
            ("HostConfig", Value::Object(host)) => {
                out.extend(
                    host.iter()
                        .map(|(key, value)| (format!("HostConfig.{key}"), value.clone())),
                );
            }
            _ => {
                out.insert(key.clone(), value.clone());
            }
        }
    }
    out
}

fn check(files: &Files, base: &Map<String, Value>, case: &Value) {
    let words: Vec<String> = case[0]
        .as_array()
        .unwrap()
        .iter()
        .map(|word| files.place(word.as_str().unwrap()))
        .collect();
    let creation = read(&words).unwrap_or_else(|error| panic!("{words:?}: {error}"));
    let mut expect = base.clone();
    for (key, value) in case[2].as_object().unwrap() {
        let value: Value = serde_json::from_str(&files.place(&value.to_string())).unwrap();
        expect.insert(key.clone(), value);
    }
    let body = flat(&serde_json::to_value(&creation.request).unwrap());
    let keys: std::collections::BTreeSet<&String> = expect.keys().chain(body.keys()).collect();
    for key in keys {
        let (got, want) = (body.get(key), expect.get(key));
        let absent = |value: Option<&Value>| value.is_none_or(Value::is_null);
        assert!(
            got == want || absent(got) && absent(want),
            "{words:?}: {key} is {got:?}, not {want:?}"
        );
    }
    let mut query = Vec::new();
    query.extend(creation.name.map(|name| format!("name={name}")));
    query.extend(
        creation
            .platform
            .map(|platform| format!("platform={}", api::client::encode_component(&platform))),
    );
    let expect: Vec<String> = case[1]
        .as_array()
        .unwrap()
        .iter()
        .map(|text| text.as_str().unwrap().to_owned())
        .collect();
    assert_eq!(query, expect, "{words:?}");
}

#[test]
fn bodies_are_those_of_dockers_client() {
    let files = Files::new();
    let recorded: Value = serde_json::from_str(include_str!("bodies.json")).unwrap();
    let base = flat(&recorded["base"]);
    for case in recorded["cases"].as_array().unwrap() {
        check(&files, &base, case);
    }
}

#[test]
fn refusals_are_those_of_dockers_client() {
    let recorded: Value = serde_json::from_str(include_str!("refusals.json")).unwrap();
    for case in recorded.as_array().unwrap() {
        let words: Vec<String> = serde_json::from_value(case[0].clone()).unwrap();
        let Err(error) = read(&words) else {
            panic!("{words:?} was accepted")
        };
        let text = error.to_string();
        let head = text.split("\n\n").next().unwrap().trim();
        assert_eq!(head, case[1].as_str().unwrap(), "{words:?}");
    }
}

#[test]
fn variables_come_from_our_own_environment() {
    let words = |text: &str| text.split(' ').map(str::to_owned).collect::<Vec<_>>();
    let creation = read(&words("-e PATH -e ABSENT_IN_EVERY_ENVIRONMENT img")).unwrap();
    let path = std::env::var("PATH").unwrap();
    assert_eq!(
        creation.request.config.env,
        Some(vec![
            format!("PATH={path}"),
            "ABSENT_IN_EVERY_ENVIRONMENT".to_owned()
        ])
    );
}
